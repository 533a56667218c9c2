"""What a person gives, made into what the compiler takes: a model, its sizes, its weights, the part of it to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from numpy.typing import NDArray

from lstmc.backend import Backend, LimitsWeights, ReadsWeights, backend_for, require, target_of, training_targets
from lstmc.dsl import Cell, Dim, Model
from lstmc.errors import Argument, BackendError, ModelFileError, WeightsError
from lstmc.ir import Graph, Ref, values_over_time
from lstmc.manifest import manifest_path, read_manifest
from lstmc.api.models import ModelSource
from lstmc.ops import Array
from lstmc.prepare import deploy_graph, training_graph
from lstmc.similar_names import nearest_or_all
from lstmc.weights import check_weights, initial_weights, parameters, read_weights

# A model; a cell, scanned over T steps; the name of a library cell; or what a model file holds.
AnyModel = Model | Cell | str | ModelSource
# deploy: the model as it is used, without losses, scores and dropout. train: losses, scores, and what they need.
Phase = Literal["deploy", "train", "all"]
PHASES: Sequence[Phase] = ("deploy", "train", "all")
Weights = Mapping[str, NDArray[Any]] | str | Path  # by the model's own names, an .npz file of them, or a net's file
LENGTHS = (2, 3, 5, 7, 11)  # of sequences that a net of one step has one step of


class DimensionSize(Protocol):
    """An integer: the type of arguments that give dimensions their sizes, named for what type checkers say."""

    def __index__(self) -> int: ...


def traced(model: AnyModel, sizes: Mapping[str, int], step: bool = False) -> tuple[ModelSource, Graph]:
    """A model and its whole graph. Raises what tracing raises, at the user's own lines.

    With ``step``, for a net of one step, the length of sequences needs no size.
    """
    source = model if isinstance(model, ModelSource) else ModelSource.of(model)
    if step:
        sizes = _with_length(source, sizes)
    if isinstance(model, ModelSource):
        return model, model.graph(sizes)
    return source, source.model.graph(**sizes)


def _with_length(source: ModelSource, sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The sizes, and one for each dimension without that an input has in front and is scanned over."""
    leading = {
        name: declared.sizes[0]
        for name, declared in source.model.inputs.items()
        if declared.sizes and isinstance(declared.sizes[0], Dim)
    }
    names = dict.fromkeys(d.name for d in leading.values() if d.default is None and d.name not in sizes)
    if not names:
        return sizes
    lengths = dict(zip(names, LENGTHS, strict=False))  # different, so that no axis is taken for another
    over_time = values_over_time(source.model.graph(**sizes, **lengths))
    times = {dim.name for name, dim in leading.items() if Ref(name) in over_time}
    return {**sizes, **{name: size for name, size in lengths.items() if name in times}}


def backend_of(backend: str | Backend | None, target: str | None = None) -> Backend:
    """Return an installed backend by its name, or one as it is; None is the one that has the target."""
    return backend_for(backend, target) if backend is None or isinstance(backend, str) else backend


def writer_of(manifest: Path, backend: str | Backend | None = None) -> Backend:
    """The backend of a written net: the one that is given, or that its manifest names; without a manifest Caffe's.

    What is wrong with a manifest is told to whoever reads what else is in it.
    """
    if backend is None:
        with suppress(WeightsError):
            backend = read_manifest(manifest).backend
    return backend_of(backend)


def all_sizes(sizes: Mapping[str, int] | None, dims: Mapping[str, DimensionSize]) -> dict[str, int]:
    """The sizes that were given as arguments and as a mapping. Raises :class:`ModelFileError` for one given twice."""
    twice = sorted(set(sizes or {}) & set(dims))
    if twice:
        raise ModelFileError(f"the size of {', '.join(twice)} is given twice: as an argument and in sizes")
    return {**cast(Mapping[str, int], dims), **(sizes or {})}


def part(graph: Graph, phase: Phase) -> Graph:
    """The part of a model that a phase needs."""
    match phase:
        case "deploy":
            return deploy_graph(graph)
        case "train":
            return training_graph(graph)
        case "all":
            return graph
    raise ModelFileError(f"phase is one of {', '.join(PHASES)}, found {phase!r}")


def widest_phase(backend: Backend, target: str | None, step: bool = False) -> Phase:
    """The most of a model that a target's net can have: all of it where it is trained."""
    return "all" if not step and target_of(backend, target) in training_targets(backend) else "deploy"


def only(graph: Graph, names: Sequence[str] | None) -> Graph:
    """The graph with these outputs, and those that inputs take in the next batch; all of them where none is named."""
    known = [output.name for output in graph.outputs]
    for name in names or ():
        if name not in known:
            argument, found = Argument("outputs", name), nearest_or_all(name, known)
            raise ModelFileError(f"{argument}: {graph.name} has no such output{found}", arguments=(argument,))
    carried = [output.name for output in graph.carried().values()]
    return graph.returning(list(dict.fromkeys((*names, *carried)))) if names else graph


def bound_weights(graph: Graph, weights: Weights | None, seed: int, backend: Backend) -> dict[str, Array]:
    """A value for every parameter of a whole model: those given, or drawn by their fillers.

    Raises :class:`BackendError` for more than the backend can write, before anything is drawn.
    """
    count = sum(prod(op.shape) for op in parameters(graph).values())
    if isinstance(backend, LimitsWeights) and count > backend.most_weights:
        raise BackendError(
            f"{graph.name} has {count:,} weights: backend {backend.name} can write at most {backend.most_weights:,}"
        )
    if weights is None:
        return initial_weights(graph, seed)
    if isinstance(weights, str | Path):
        path = Path(weights)
        if path.suffix != ".npz" and manifest_path(path).exists():
            return check_weights(trained_weights(path)[0], graph, str(path))
        return read_weights(path, graph)
    return check_weights(weights, graph, "weights")


def trained_weights(
    trained: str | Path, manifest: str | Path | None = None, backend: str | Backend | None = None
) -> tuple[dict[str, Array], list[str]]:
    """Return the model's parameters by name, from a net's file of weights, and the names that no step of the net uses.

    ``trained`` is as lstmc wrote it or Caffe trained it; ``manifest`` is beside it where none is given, and names the
    backend.
    """
    path = Path(trained)
    described = manifest_path(path) if manifest is None else Path(manifest)
    return require(writer_of(described, backend), ReadsWeights).read_weights(path, described)
