"""Fixtures for all tests, and the seed of what they draw at random."""

from __future__ import annotations

import gc
import secrets
import sys
import tomllib
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import distribution, entry_points
from pathlib import Path
from textwrap import dedent
from zlib import crc32

import pytest

import tests.hypothesis_profiles  # noqa: F401 (registers and loads them)
from lstmc_caffe.install import record
from lstmc_caffe.install.record import caffe_folder
from lstmc_caffe.runtime.locate import CaffeNotFound
from lstmc_caffe.runtime.runner import Runner

ROOT = Path(__file__).parents[1]


def check_installed() -> None:
    """Stop if the installed entry points are those of an older pyproject.toml: tests would fail at odd places."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    expected = {(group, *point) for group, points in groups.items() for point in points.items()}
    points = distribution("lstmc").entry_points
    installed = {(point.group, point.name, point.value) for point in points if point.group.startswith("lstmc")}
    if expected != installed:
        lacking = ", ".join(f"{group}: {name}" for group, name, _ in sorted(expected ^ installed))
        pytest.exit(
            f"lstmc is installed with other entry points than pyproject.toml has: {lacking}. Install it anew:"
            " .venv/bin/python -m pip install --no-deps -e .",
            returncode=4,
        )
    others = sorted(
        {
            point.dist.name
            for group in entry_points().groups
            if group.startswith("lstmc.")
            for point in entry_points(group=group)
            if point.dist is not None
            and point.dist.name not in ("lstmc", "lstmc-plugin-example")  # which the tests install
        }
    )
    if others:
        pytest.exit(
            f"packages that add to lstmc are installed beside it: {', '.join(others)}. The tests compare with what"
            f" lstmc alone has. Uninstall them: .venv/bin/python -m pip uninstall {' '.join(others)}",
            returncode=4,
        )


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads the option, and before xdist passes it to its workers
def pytest_configure(config: pytest.Config) -> None:
    """A new seed each time, unless ``--hypothesis-seed`` gives one."""
    check_installed()
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbelow(10**9))


@pytest.hookimpl(tryfirst=True)  # before -m takes tests out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the fixture ``caffe`` needs real Caffe, whether it is marked or not.

    Tests on a GPU repeat those of the CPU (``NAME_of_MODULE``), on layers that all cells share. So of the cases of one
    test ``make gpu`` runs as many as have each model, each target and each size once, in the order of the checksums of
    their names; ``make exhaustive`` runs the others. Of what ``make gpu`` runs, ``make test`` runs one in eight.
    """
    for item in items:
        if "caffe" in getattr(item, "fixturenames", ()):
            item.add_marker("caffe")
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    covered: set[tuple[str, str, int]] = set()
    for item in sorted(on_gpu, key=lambda item: crc32(item.name.encode())):
        test, _, case = item.name.partition("[")
        if "_of_test_" in test and case:
            values = {(test, name, id(value)) for name, value in item.callspec.params.items()}
            if values <= covered:
                item.add_marker("exhaustive")
            covered |= values
    for number, item in enumerate(item for item in on_gpu if not item.get_closest_marker("exhaustive")):
        if number % 8:
            item.add_marker("cuda")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Run tests with fewer collections of garbage, which leave out what has been imported: it stays.

    With Python's thresholds they take a tenth of the time of tests, and a third of that of collecting them.
    """
    gc.disable()
    collected = yield
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()
    return collected


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    launched: dict[str, bool] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, kernels in getattr(report, "user_properties", ()):
            if name == "kernels":
                launched |= {kernel: ran or launched.get(kernel, False) for kernel, ran in kernels.items()}
    if launched:
        never = sorted(kernel for kernel, ran in launched.items() if not ran)
        ran = f"{len(launched) - len(never)} of Caffe's {len(launched)} kernels ran on the emulated device"
        terminalreporter.write_line(f"{ran}; never: {', '.join(never)}")
    seed = terminalreporter.config.option.hypothesis_seed
    terminalreporter.write_line(
        f"random examples of seed {seed}; the same again: make test SEED={seed}, or pytest --hypothesis-seed={seed}"
    )


@pytest.fixture(autouse=True)
def _path_as_it_was() -> Iterator[None]:
    """Folders of models stay on the path where they were loaded: each would be one to look into for all later tests."""
    path = list(sys.path)
    yield
    sys.path[:] = path


# Tests with one of these marks may use the Caffe of this machine
WITH_CAFFE = {"caffe", "gpu", "slow", "network", "cuda", "ranks", "faults"}
NOWHERE = ROOT / "tests" / "no-caffe-here"


@pytest.fixture(autouse=True)
def _no_caffe_is_found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs no Caffe finds no installed one either, as in a new clone."""
    if WITH_CAFFE.isdisjoint(mark.name for mark in request.node.iter_markers()):
        monkeypatch.setattr(record, "caffe_folder", lambda cache=None: caffe_folder(cache or NOWHERE))


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with one module and its entry points on the path, as pip would."""

    def put(name: str, source: str, entry_points: str) -> None:
        folder = tmp_path / "installed" / name
        metadata = folder / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{name}.py").write_text(dedent(source))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(dedent(entry_points))
        monkeypatch.syspath_prepend(str(folder))

    return put


@pytest.fixture(scope="session")
def caffe() -> Iterator[Runner]:
    """Real Caffe, one worker for the whole session. Where there is none the test fails: it is never skipped."""
    with Runner() as runner:
        try:
            assert runner.location
        except CaffeNotFound as error:
            pytest.fail(str(error), pytrace=False)
        yield runner
