"""What ``lstmc doctor`` says of Caffe: which one is used, what was tried, and whether a GPU can be used."""

from __future__ import annotations

from collections.abc import Iterator

from lstmc.backend import Finding
from lstmc_caffe.place.place import INSTALL, INSTALL_CUDA, gpu_state
from lstmc_caffe.place.ranks import launcher, missing_for_ranks
from lstmc_caffe.run.locate import CaffeNotFound, attempt_all, locate_for_gpu


def findings() -> Iterator[Finding]:
    """Yield a finding for each place without Caffe, up to the first that has it, and for what that one can do."""
    location = None
    for attempt in attempt_all():
        location = location or attempt.location
        if location is not None:
            break
        yield Finding(attempt.place, False, attempt.reason or "", group="no Caffe in")
    if location is None:
        yield Finding("Caffe", False, "not found", INSTALL)
        return
    yield Finding("Caffe in use", True, f"{location.python} ({location.found_by})")
    yield Finding("caffe program", location.caffe_binary is not None, str(location.caffe_binary or "not known"))
    without = missing_for_ranks(location)
    yield Finding("MPI, for several ranks", without is None, without or str(launcher()))
    yield from _gpu()


def _gpu() -> Iterator[Finding]:
    """Which Caffe works on a GPU, and whether it can here."""
    try:
        location = locate_for_gpu()
    except CaffeNotFound as error:
        reasons = ", ".join(str(attempt.reason) for attempt in error.attempts)
        yield Finding("GPU", False, f"{error.message}: {reasons}", f"{INSTALL_CUDA} --force")
        return
    gpu = gpu_state(location)
    if gpu.built:
        yield Finding("Caffe for GPUs", True, f"{location.python} {location.pythonpath or ''}".rstrip())
    yield Finding("GPU", gpu.usable, gpu.reason or f"usable: {gpu.device}", gpu.mend)
