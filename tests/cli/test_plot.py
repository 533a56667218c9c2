"""``lstmc plot``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC
from tests.runs.test_curves import written


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_runs_are_plotted_into_one_file(lstmc: LSTMC, tmp_path: Path, suffix: str, start: bytes) -> None:
    a, b = written(tmp_path / "a", "loss", "accuracy"), written(tmp_path / "b", "accuracy")
    ended = lstmc("report", str(a), str(b), "-o", f"both.{suffix}")
    assert (ended.code, ended.out, ended.err) == (0, f"wrote both.{suffix}\n", "")
    assert (tmp_path / f"both.{suffix}").read_bytes().startswith(start)
