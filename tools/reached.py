"""What lines each test reaches, recorded by coverage.py: as a plugin of pytest, ``-p tools.reached``, and read again.

The environment has LSTMC_REACHED, the file that is written, and LSTMC_SOURCES, whose lines are recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

_seconds: dict[str, float] = {}
_running: list[Coverage] = []


def pytest_load_initial_conftests() -> None:
    """Start before anything of the sources is imported."""
    _running.append(
        Coverage(os.environ["LSTMC_REACHED"], source=os.environ["LSTMC_SOURCES"].split(os.pathsep), config_file=False)
    )
    _running[0].start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _running[0].switch_context(item.nodeid)
    ended = yield
    _running[0].switch_context("")
    return ended


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    _running[0].stop()
    _running[0].save()
    Path(os.environ["LSTMC_REACHED"]).with_suffix(".json").write_text(json.dumps(_seconds), encoding="utf-8")


class Reached:
    """The tests that reach a line, and how long each took."""

    def __init__(self, file: Path) -> None:
        self.data = CoverageData(str(file))
        self.data.read()
        self.seconds: dict[str, float] = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))

    def tests(self, source: Path, lines: Iterable[int]) -> set[str]:
        """Return the tests that reach one of the lines, or else, as where they are only imported, one of the file."""
        by_line = self.data.contexts_by_lineno(str(source))
        near = {test for line in lines for test in by_line.get(line, ()) if test}
        return near or {test for tests in by_line.values() for test in tests if test}
