"""Formats that packages bring, by the entry-point group ``lstmc.sources``: nets of which a part may be recurrent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lstmc.backend import Artifact, Violation
from lstmc.importers.ir.net import Net
from lstmc.importers.runtime import Runtime
from lstmc.ops import Array
from lstmc.plugins import entry_points_of, load, malformed, only_entry_point
from lstmc.verification.differential import Difference

SOURCES = "lstmc.sources"


@dataclass(frozen=True)
class SourceCheck:
    """What was written compared with its source, in a ``runtime``: one difference an output, or why ``not_run``."""

    runtime: str
    differences: tuple[Difference, ...]
    not_run: str | None = None

    @property
    def passed(self) -> bool:
        return all(difference.passed for difference in self.differences)


class HostNet(Protocol):
    """The rest of a net of which the recurrent layers were imported. ``backend``: whose nets can stand in it."""

    @property
    def backend(self) -> str: ...

    def files(self, artifact: Artifact, target: str) -> dict[str, bytes]:
        """The whole net again, what the imported model was compiled to standing where its recurrent layers stood."""
        ...

    def whole(self) -> SourceNet:
        """All of the net, for backends whose nets cannot stand in it. Raises
        :class:`~lstmc.importers.refusal.RefusedError` with all of it that cannot be expressed."""
        ...

    def findings(self, files: Mapping[str, bytes], target: str) -> Sequence[Violation]:
        """What of the copied layers in these files the target's reader cannot load."""
        ...

    def compared(self, files: Mapping[str, bytes], places: Sequence[str], seed: int) -> Sequence[SourceCheck]:
        """The outputs of the whole net in these files against those of the source, in each of the runtimes
        ``places``. Raises :class:`~lstmc.errors.BackendError` where one does not load or run the net."""
        ...

    def remarks(self, files: Mapping[str, bytes], target: str) -> Sequence[str]:
        """What a person should know of these files."""
        ...


@dataclass(frozen=True)
class SourceNet:
    """What is imported of a net: its description, its format in words, what stands around it, and what runs it."""

    described: Net
    kind: str
    surroundings: HostNet | None
    runtime: Runtime | None


@runtime_checkable
class NetSource(Protocol):
    """A format. What an entry point of the group names, or makes when it is called."""

    summary: str

    def knows(self, path: Path) -> bool:
        """Whether a file is of this format, by its content."""
        ...

    def read(
        self,
        path: Path,
        weights: Path | None,
        shapes: Mapping[str, Sequence[int]],
        values: Mapping[str, Array],
    ) -> SourceNet:
        """The net of a file. ``shapes`` are those of blobs that the file does not tell; ``values`` are of inputs that
        are to be constants, each of its shape or one number for all elements."""
        ...


def net_source(name: str) -> NetSource:
    """An installed source. Raises :class:`~lstmc.errors.PluginError` for one that is not whole."""
    source = load(SOURCES, name, "source")()
    if not isinstance(source, NetSource):
        actual = f"a {type(source).__name__} without all of that"
        raise malformed(
            only_entry_point(SOURCES, name, "source"), "source", "something with summary, knows and read", actual
        )
    return source


def net_sources() -> Iterator[NetSource]:
    """All that are installed."""
    yield from map(net_source, entry_points_of(SOURCES))
