"""What this machine has of what lstmc needs, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from lstmc.backend import Diagnoses, Finding, find_backends, load_backend, plugin_faults
from lstmc.errors import PluginError
from lstmc.version import __version__

# what only some uses need: what it is called and for, the package, the extra that brings it
EXTRAS = (
    ("h5py, for HDF5 files", "h5py", "hdf5"),
    ("matplotlib, for curves", "matplotlib", "plot"),
    ("Dask, for sweeps", "distributed", "sweep"),
)


def findings() -> Iterator[Finding]:
    """What this machine has, what is missing, and the command that mends it: Python, packages, backends, plug-ins."""
    yield Finding("lstmc", True, __version__)
    yield Finding("Python", True, f"{platform.python_version()} at {sys.executable}")
    yield from _packages()
    yield from map(_extra, EXTRAS)
    for name in find_backends():
        try:
            backend = load_backend(name)
        except PluginError as error:
            yield Finding(f"backend {name}", False, error.message)
            continue
        if isinstance(backend, Diagnoses):
            yield from backend.doctor()
        else:
            yield Finding(f"backend {name}", True, backend.summary)
    yield from plugin_faults()


def _extra(named: tuple[str, str, str]) -> Finding:
    subject, package, extra = named
    try:
        return Finding(subject, True, version(package))
    except PackageNotFoundError:
        return Finding(subject, False, f"not installed: python -m pip install 'lstmc[{extra}]'")


def _packages() -> Iterator[Finding]:
    for requirement in requires("lstmc") or []:
        if ";" in requirement:  # an extra's
            continue
        name = requirement.split("<")[0].split(">")[0].split("=")[0].strip()
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, f"expected {requirement}", f"{sys.executable} -m pip install '{requirement}'")
