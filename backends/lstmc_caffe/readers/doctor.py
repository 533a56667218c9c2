"""What ``lstmc doctor`` says of readers: which there are, their versions, and the commands that bring the others."""

from __future__ import annotations

from collections.abc import Iterator

from lstmc.backend import Finding
from lstmc.errors import PluginError
from lstmc_caffe.readers.environment import interpreter
from lstmc_caffe.readers.known import load_reader, reader_names
from lstmc_caffe.readers.session import ReaderError, ReaderSession


def reader_findings() -> Iterator[Finding]:
    """A line for each reader. Nothing is broken without one, so how to install it is no mend."""
    for name in reader_names():
        try:
            reader = load_reader(name)
            if any(interpreter(environment) is None for environment in reader.environments):
                yield Finding(f"reader {name}", False, f"{reader.title} is not installed: {reader.how_to_install}")
                continue
            if reader.environments:  # which start slowly, and are what they were made as
                made = ", ".join(requirement for of in reader.environments for requirement in of.requires)
                yield Finding(f"reader {name}", True, f"{reader.title}, an environment of {made}")
                continue
            with ReaderSession(reader) as session:
                yield Finding(f"reader {name}", True, f"{reader.title} {session.version()}")
        except (PluginError, ReaderError) as error:
            yield Finding(f"reader {name}", False, error.message)
