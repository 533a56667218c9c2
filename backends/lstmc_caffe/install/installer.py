"""The steps of an installation: a build is found; or the folder is locked, Caffe is built in a temporary folder,
tested, recorded and moved into place."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from lstmc.files.output import private_folder
from lstmc_caffe.install import record
from lstmc_caffe.install.build import Order, build
from lstmc_caffe.install.recipe import CPU, Platform, Recipe
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import Apt, InstallError, Interpreter, describe, require, run
from lstmc_caffe.processes.process import CaffeLocation, gpu_state
from lstmc_caffe.processes.ranks import PACKAGES

REQUIRED_LAYERS = ("InnerProduct", "LSTM", "LSTMUnit", "RNN", "Slice", "Concat", "Eltwise", "Power")


def prepare(recipe: Recipe, report: Report) -> Interpreter:
    """Install the system packages of a build, and return its interpreter."""
    require(recipe.packages, report, Apt())
    return describe(recipe.interpreter)


def require_mpi(console: Console) -> None:
    """Install the system packages of training by several ranks. Raises InstallError as a build does."""
    otherwise = "or bring an MPI launcher and mpi4py to the Python that has Caffe"
    require(PACKAGES, Report(console), Apt(), "training by several ranks", otherwise)


def smoke_test(order: Order) -> str:
    """Test the new pycaffe and ``caffe`` program; return Caffe's version. Raises InstallError if they fail."""
    script = Path(__file__).with_name("smoke_test.py")
    env = {"PYTHONPATH": str(order.stage / "python"), "PYTHONNOUSERSITE": "1", "GLOG_minloglevel": "1"}
    printed = run([str(order.interpreter.executable), str(script)], "trying the new pycaffe", env=env)
    answer = json.loads(printed.splitlines()[-1])
    absent = [name for name in REQUIRED_LAYERS if name not in answer["layers"]]
    if absent:
        raise InstallError(f"the new pycaffe lacks the layers {', '.join(absent)}")
    run([str(order.stage / record.PROGRAM), "--version"], "trying the new caffe program")
    if order.recipe.architectures:
        _try_gpu(order)
    return str(answer["caffe"])


def _try_gpu(order: Order) -> None:
    """Report whether a GPU can be used. A machine may have none, but the new Caffe must have been built for GPUs."""
    gpu = gpu_state(CaffeLocation(order.interpreter.executable, str(order.stage / "python"), None, "installed"))
    if not gpu.built:
        raise InstallError(f"the new pycaffe cannot use GPUs: {gpu.reason}")
    order.report.step(f"it computes on {gpu.device}" if gpu.usable else f"it was not tried on a GPU: {gpu.reason}")


@dataclass(frozen=True)
class Steps:
    """The steps of an installation, which tests replace."""

    prepare: Callable[[Recipe, Report], Interpreter] = prepare
    build: Callable[[Order], None] = build
    smoke_test: Callable[[Order], str] = smoke_test


def install(
    cache: Path | None = None,
    jobs: int | None = None,
    console: Console | None = None,
    *,
    force: bool = False,
    sdist: Path | None = None,
    recipe: Recipe = CPU,
    steps: Steps = Steps(),
) -> record.Installed:
    """Build Caffe unless it is installed, and return the build. This takes minutes, and about 150 MB at its peak.
    ``cache`` is the compiler's cache folder (default: the user's), ``jobs`` the number of parallel compilers (default:
    one per core), ``console`` the place of progress messages (default: standard error). ``force`` builds anew,
    ``sdist`` is a source archive to use instead of a download. ``recipe`` says what to build:
    ``cuda_recipe(("sm_90",))`` is the build for GPUs, which is kept beside the build for the CPU, and takes much more
    time and memory. Calls at the same time, in one process or two, build once. Raises InstallError; its subclass
    MissingPackagesError if system packages are missing."""
    report = Report(console or Console(stderr=True))
    folder = record.caffe_folder(cache)
    if not force and (existing := record.installed(cache, recipe)):
        return existing
    try:
        private_folder(folder)
        with _locked(folder / "install.lock", report), _private_umask():
            # Another process may have finished it meanwhile.
            if not force and (existing := record.installed(cache, recipe)):
                return existing
            started = time.monotonic()
            interpreter = steps.prepare(recipe, report)
            work = folder / f".work-{recipe.key(Platform.current(interpreter.version))}"
            folders = work, work / "stage", folder / "downloads"
            order = Order(recipe, interpreter, *folders, jobs or _jobs(), report, sdist)
            if force:
                shutil.rmtree(work, ignore_errors=True)
            work.mkdir(exist_ok=True)
            if shutil.disk_usage(folder).free < recipe.needed_mb * 10**6:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            steps.build(order)
            _finish(order, folder, steps.smoke_test(order), started)
    except OSError as error:
        raise _disk_error(error, folder, recipe) from error
    installed = record.installed(cache, recipe)
    if installed is None:
        raise InstallError(f"the new build in {folder} is not accepted", notes=record.refusals(cache, recipe))
    return installed


@contextmanager
def _private_umask() -> Iterator[None]:
    """Make files that no other user can write, whatever the umask: lstmc does not use files that others can write."""
    umask = os.umask(0o077)  # the umask can only be read by setting it
    os.umask(umask | 0o022)
    try:
        yield
    finally:
        os.umask(umask)


def _finish(order: Order, folder: Path, caffe: str, started: float) -> None:
    """Record a build whose smoke test has passed, and move the build to its final folder."""
    platform = Platform.current(order.interpreter.version)
    seconds, built = time.monotonic() - started, datetime.now(UTC).isoformat(timespec="seconds")
    python = order.interpreter.executable
    record.write(order.stage, order.recipe, platform, python, caffe=caffe, built=built, seconds=seconds)
    target = folder / order.recipe.key(platform)
    if target.exists():
        old = order.work / "replaced"
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    order.stage.rename(target)
    shutil.rmtree(order.work, ignore_errors=True)
    order.report.step(f"Caffe {caffe} installed in {time.monotonic() - started:.0f} s")


def _locked(path: Path, report: Report) -> AbstractContextManager[object]:
    """Lock a file. If another process has locked it, report that, and wait."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        report.step("another process is installing Caffe: waiting for it")
        return lock.acquire()


def _jobs() -> int:
    """Return the number of parallel compilers: one for each core, as far as memory allows."""
    # One file takes 1.2 GB, the others at most 0.6.
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // 10**9))


def _disk_error(error: OSError, folder: Path, recipe: Recipe) -> InstallError:
    """Return the error for a failure of the disk: no permission, no space (with how much is free), or another one."""
    notes = ["give another folder with --cache DIR"]
    inside = Path(str(error.filename)).is_relative_to(folder)
    if inside and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InstallError(f"cannot write to {folder}: {error.strerror}", notes=notes)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return InstallError(f"installing into {folder} failed: {error}")
    try:
        free = f"{shutil.disk_usage(folder).free // 10**6} MB are free"
    except OSError:
        free = "how much is free is not known"
    return InstallError(
        f"no space left on the disk that holds {folder}: a build needs {recipe.needed_mb} MB, {free}",
        notes=["compiled files are kept for the next run", *notes],
    )
