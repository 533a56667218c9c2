"""What this machine has of what lstmc needs, what is missing, and the commands that install it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from lstmc.backend import Diagnoses, Finding, find_backends, load_backend, plugin_faults
from lstmc.errors import PluginError
from lstmc.version import __version__

REQUIRED, OPTIONAL = "packages", "optional packages"
# a package that only some uses need, what for, and the extra that installs it
EXTRAS = (("h5py", "HDF5 files", "hdf5"), ("matplotlib", "curves", "plot"), ("distributed", "sweeps", "sweep"))


def findings() -> Iterator[Finding]:
    """Yield what this machine has and lacks: Python, packages, backends, plug-ins."""
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
    package, use, extra = named
    try:
        return Finding(package, True, version(package), group=OPTIONAL)
    except PackageNotFoundError:
        how = f"not installed, for {use}: python -m pip install 'lstmc[{extra}]'"
        return Finding(package, False, how, group=OPTIONAL)


def _packages() -> Iterator[Finding]:
    for requirement in requires("lstmc") or []:
        if ";" in requirement:  # an extra's
            continue
        name = requirement.split("<")[0].split(">")[0].split("=")[0].strip()
        try:
            yield Finding(name, True, version(name), group=REQUIRED)
        except PackageNotFoundError:
            yield Finding(name, False, f"expected {requirement}", f"{sys.executable} -m pip install '{requirement}'")
