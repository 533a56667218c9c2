"""The interface of a format of trained models, lstmc's own or a package's (``lstmc.sources``); a file's tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from lstmc.backend import Artifact, Violation
from lstmc.files.reading import regular
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import Weight
from lstmc.importers.refusal import SourceError
from lstmc.ops import Array
from lstmc.plugins import entry_points_of, load, malformed, only_entry_point
from lstmc.text import brief
from lstmc.verification.report import Difference

__all__ = ["SourceCheck"]

LARGEST = 2**31  # the most elements of a tensor
MANY = 100_000  # the most tensors of a file
MOST_AXES = 16  # the most axes of a tensor
SOURCES = "lstmc.sources"


def head_of(path: Path, size: int = 16) -> bytes:
    """Return the first ``size`` bytes of a file. Raises :class:`SourceError` for a file that cannot be read."""
    try:
        with regular(path).open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file. ``read`` checks the tensor's elements against the file and returns them."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array] = field(repr=False, compare=False)

    def weight(self) -> Weight:
        return Weight(self.shape, (self.name,), self.name, self.read)


def elements(data: bytes, kind: str) -> Array:
    """Return the elements of a NumPy type in bytes; those of "bf16", which NumPy lacks, as float32."""
    if kind == "bf16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, kind)


@dataclass(frozen=True)
class Source:
    """A file's tensors: ``kind`` is the format, ``origin`` the name in messages; ``facts`` depend on the format."""

    kind: str
    origin: str
    tensors: Mapping[str, StoredTensor]
    facts: Mapping[str, Any] = field(default_factory=dict)


def checked_shape(origin: str, name: str, shape: Any) -> tuple[int, ...]:
    """Return a shape that a file states. Raises :class:`SourceError` unless it is a list of plausible sizes."""
    listed = isinstance(shape, list | tuple) and len(shape) <= MOST_AXES
    if not listed or not all(type(size) is int and 0 <= size <= LARGEST for size in shape) or prod(shape) > LARGEST:
        raise SourceError(f"{origin}: tensor {name} has no usable shape: {brief(shape)}")
    return tuple(shape)


class Runtime(Protocol):
    """A program that runs the source of an import, with the net's names and the source's order of axes."""

    name: str

    def unavailable(self) -> str | None:
        """Return the reason why the program cannot run the model here, or None."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs for ``inputs``. Raises :class:`SourceError` if the program fails."""


@dataclass(frozen=True)
class ImportOptions:
    """Facts that a file does not record. A source reads the fields in its ``options``; all other fields are refused.

    - ``activation``: the function of plain RNNs.
    - ``config``: the JSON of a Keras model, if the file has the weights alone.
    - ``weights``: the file of a net's weights.
    - ``shapes``: shapes of inputs, or of other values that the file leaves open.
    - ``values``: inputs that become constants, as arrays of their shapes or one number for all elements.
    - ``recurrent_only``: import the recurrent layers, and nothing else of the file.
    """

    activation: Literal["tanh", "relu"] | None = None
    config: Path | None = None
    weights: Path | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    recurrent_only: bool = False


@dataclass(frozen=True)
class SourceCheck:
    """The differences of a net's outputs from its source's, which ``runtime`` ran, or the reason ``not_run``."""

    runtime: str
    differences: tuple[Difference, ...]
    not_run: str | None = None

    @property
    def passed(self) -> bool:
        return all(difference.passed for difference in self.differences)


class HostNet(Protocol):
    """The layers of a net around its recurrent layers, which nets of the backend named ``backend`` can replace."""

    @property
    def backend(self) -> str: ...

    def files(self, artifact: Artifact, target: str) -> dict[str, bytes]:
        """Return the files of the whole net, with the compiled model in the place of its recurrent layers."""

    def whole(self) -> SourceNet:
        """Return the whole net. Raises :class:`~lstmc.importers.refusal.RefusedError` if it cannot be expressed."""

    def findings(self, files: Mapping[str, bytes], target: str) -> Sequence[Violation]:
        """Return the violations of the target's rules by layers that are copied into these files."""

    def compared(self, files: Mapping[str, bytes], places: Sequence[str], seed: int) -> Sequence[SourceCheck]:
        """Return the whole net's outputs in these files against the source's, in each runtime of ``places``. Raises
        :class:`~lstmc.errors.BackendError` if a runtime does not load or run the net."""

    def remarks(self, files: Mapping[str, bytes], target: str) -> Sequence[str]:
        """Return notes for the user on these files."""


@dataclass(frozen=True)
class SourceNet:
    """An imported net, its format in words, layers around it if it is not whole, and a program that runs the source."""

    described: Net
    kind: str
    surroundings: HostNet | None = None
    runtime: Runtime | None = None


@runtime_checkable
class NetSource(Protocol):
    """A format of trained models, named by an entry point of the group ``lstmc.sources`` (an object or its class).
    ``summary`` is the format in words; ``options`` are the fields of :class:`ImportOptions` that the format reads."""

    @property
    def summary(self) -> str: ...

    @property
    def options(self) -> Collection[str]: ...

    def knows(self, path: Path) -> bool:
        """Return whether a file has this format, judged by the file's content."""

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        """Return the net of a file. Raises :class:`SourceError` or :class:`~lstmc.importers.refusal.RefusedError`."""


def net_source(name: str) -> NetSource:
    """Return the format of an entry point. Raises :class:`~lstmc.errors.PluginError` if it is no :class:`NetSource`."""
    source = load(SOURCES, name, "source")()
    if not isinstance(source, NetSource):
        actual = f"a {type(source).__name__} without all of that"
        expected = "something with summary, options, knows and read"
        raise malformed(only_entry_point(SOURCES, name, "source"), "source", expected, actual)
    return source


def net_sources() -> Iterator[NetSource]:
    yield from map(net_source, entry_points_of(SOURCES))
