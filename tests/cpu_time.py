"""What tests cost in CPU seconds, with the processes that they waited for: ``make quick CPU=1``, ``make test CPU=1``.

Seconds on the wall are no measure on a machine that does other things too. Nothing is decided by them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator

import pytest

SHOWN = 25
COSTS: Counter[str] = Counter()


def used() -> float:
    """CPU seconds of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measured(item: pytest.Item) -> Generator[None]:
    before = used()
    try:
        return (yield)
    finally:
        item.user_properties.append(("cpu", used() - before))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    return (yield from measured(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    return (yield from measured(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    return (yield from measured(item))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called where the tests run, and where workers tell of theirs; what was measured is in the last report."""
    if report.when == "teardown":
        COSTS[report.nodeid] += sum(float(value) for name, value in report.user_properties if name == "cpu")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    files: Counter[str] = Counter()
    for test, cost in COSTS.items():
        files[test.partition("::")[0]] += cost
    terminalreporter.write_line(f"{COSTS.total():.2f} CPU seconds in {len(COSTS)} tests; the dearest:")
    for costs in (files, COSTS):
        for name, cost in costs.most_common(SHOWN):
            terminalreporter.write_line(f"{cost:8.2f} {name}")
