"""The nets that are checked and timed: the cells of the library, for every target that takes them.

Those of one reader each are left out: their nets are of the layers of the targets that they are built on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lstmc.backend import Artifact, Compiled, find_cells, load_cell
from lstmc.dsl import CellModel
from lstmc.errors import BackendError, LstmcError
from lstmc.ir import Graph
from lstmc.manifest import Manifest, parse_manifest
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.targets.target import BASES, load_target

Size = tuple[int, int, int, int]
"""T, N, D, H."""

CHECKED: tuple[Size, ...] = ((1, 1, 1, 1), (7, 3, 5, 4), (20, 10, 64, 96))
TIMED: tuple[Size, ...] = ((20, 10, 128, 256), (100, 1, 64, 128), (50, 32, 256, 512))
TIMED_CELLS = ("lstm", "gru", "gru_reset_after", "lstm_peephole", "lstm_layernorm")
"""Of those that ``torch_cells.py`` has."""
FUSED = next(name for name in BASES if load_target(name).scans == "fused")
"""The target whose net is one generated layer, compiled where the check runs."""


@dataclass(frozen=True)
class Case:
    """One written net. ``__str__`` is how it is called in a line of output."""

    cell: str
    size: Size
    compiled: Compiled
    artifact: Artifact
    weights: dict[str, Array]

    @property
    def prototxt(self) -> str:
        return self.artifact.files[f"{self.compiled.name}.prototxt"].decode()

    @property
    def manifest(self) -> Manifest:
        return parse_manifest(self.artifact.files[f"{self.compiled.name}.manifest.json"])

    @property
    def outputs(self) -> list[str]:
        """The blobs that the model's outputs are read from."""
        return self.manifest.output_blobs

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={size}" for name, size in zip("TNDH", self.size, strict=True))
        return f"{self.cell} as {self.compiled.target} {sizes}"


def sequence_of(cell: str, size: Size) -> Graph:
    """The cell over sequences of its inputs; its output alone, y [T, N, ...], which Caffe's own layers give too.

    Dimensions that are not among T, N, D and H are 3.
    """
    made = CellModel(load_cell(cell))
    sizes = dict(zip("TNDH", size, strict=True))
    return made.graph(**{name: sizes.get(name, 3) for name in made.dims}).returning(["y"])


def cases(sizes: tuple[Size, ...], cells: Iterable[str] | None = None) -> Iterator[Case]:
    """Each cell (default: all that are installed) at each size, for every target that can express it."""
    backend = CaffeBackend()
    for cell in find_cells() if cells is None else cells:
        for size in sizes:
            try:
                graph = sequence_of(cell, size)
            except LstmcError:
                continue  # H must be a multiple of something: the other sizes are
            weights = initial_weights(graph)
            for target in BASES:
                if load_target(target).scans == "fused":
                    continue  # its layers are compiled, which takes nvcc and headers where the check runs
                try:
                    compiled = compile_graph(graph, backend, target)
                except BackendError:
                    continue  # caffe-native has layers for two of the cells
                yield Case(cell, size, compiled, backend.emit(compiled, weights), weights)
