"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tests.hypothesis_profiles  # noqa: F401 (registers and loads them)
from lstmc_caffe.run.locate import CaffeNotFound
from lstmc_caffe.run.runner import Runner


@pytest.fixture(scope="session")
def caffe() -> Iterator[Runner]:
    """Real Caffe, one worker for the whole session. Where there is none the test fails: it is never skipped."""
    with Runner() as runner:
        try:
            assert runner.location
        except CaffeNotFound as error:
            pytest.fail(str(error), pytrace=False)
        yield runner
