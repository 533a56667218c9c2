"""Builds real Caffe, pycaffe and the ``caffe`` program, into the user's cache folder: for the CPU, or with CUDA.

``python -m lstmc_caffe.install`` does it; ``record.installed()`` says what is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lstmc_caffe.install.cuda import cuda_recipe
from lstmc_caffe.install.recipe import CPU
from lstmc_caffe.install.record import Installed, installed

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Installed", "install", "installed"]


def install(
    cache: Path | None = None,
    jobs: int | None = None,
    console: Console | None = None,
    *,
    force: bool = False,
    sdist: Path | None = None,
    architectures: tuple[str, ...] = (),
) -> Installed:
    """Builds Caffe unless it is there already, and says where it is. Takes minutes, and about 150 MB at its peak.

    ``cache`` is the compiler's cache folder (default: the user's), ``jobs`` how many compilers run at a time
    (default: one per core), ``console`` where progress goes (default: standard error). ``force`` builds anew,
    ``sdist`` is a source archive to use instead of a download. ``architectures`` of GPUs, as in ``("sm_90",)``, ask
    for the build with CUDA, which stands beside the one for the CPU and takes far more of both. Two calls at once, in
    one process or two, build once. Raises InstallError; its subclass MissingPackagesError when system packages are
    missing.
    """
    from lstmc_caffe.install.installer import install as run  # noqa: PLC0415 - keeps the record cheap to import

    recipe = cuda_recipe(architectures) if architectures else CPU
    return run(cache, jobs, console, force=force, sdist=sdist, recipe=recipe)
