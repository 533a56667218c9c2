"""What ``lstmc doctor`` says of runtimes: those that are installed, and the commands that install the others."""

from __future__ import annotations

from collections.abc import Iterator

from lstmc.backend import Finding
from lstmc.errors import PluginError
from lstmc_caffe.readers.environment import interpreter
from lstmc_caffe.readers.known import load_reader, reader_names
from lstmc_caffe.readers.session import ReaderError, ReaderSession


def reader_findings() -> Iterator[Finding]:
    """Yield a finding for each runtime. All are optional, so how to install one is no fix."""
    for name in reader_names():
        found, detail = _state(name)
        yield Finding(name, found, detail, group="runtimes")


def _state(name: str) -> tuple[bool, str]:
    """Return whether a runtime is installed, and its version or how to install it."""
    try:
        reader = load_reader(name)
        if any(interpreter(environment) is None for environment in reader.environments):
            return False, f"{reader.title} is not installed: {reader.how_to_install}"
        if reader.environments:  # their runtimes start slowly, and their versions are those they were installed with
            packages = ", ".join(requirement for of in reader.environments for requirement in of.requires)
            return True, f"{reader.title}, an environment of {packages}"
        with ReaderSession(reader) as session:
            return True, f"{reader.title} {session.version()}"
    except (PluginError, ReaderError) as error:
        return False, error.message
