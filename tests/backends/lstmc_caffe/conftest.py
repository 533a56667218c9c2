"""Other programs that read Caffe nets, each in one process for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.readers.known import load_reader


def started(name: str) -> Iterator[ReaderExecutor]:
    executor = ReaderExecutor(load_reader(name))
    reason = executor.unavailable()
    if reason is not None:
        pytest.skip(f"NOT CHECKED in {name}: {reason}")
    yield executor
    executor.close()


@pytest.fixture(scope="session")
def opencv() -> Iterator[ReaderExecutor]:
    """OpenCV, which the extra ``test`` brings everywhere."""
    yield from started("opencv")


@pytest.fixture(scope="session")
def mnn() -> Iterator[ReaderExecutor]:
    """MNN, of which there are no wheels for some machines: there it is skipped, and said so."""
    yield from started("mnn")


@pytest.fixture(scope="session")
def rknn() -> Iterator[ReaderExecutor]:
    """RKNN's simulator, which needs a Python of its own: skipped, and said so, where it is not installed."""
    yield from started("rknn")
