"""``lstmc.compile``: from a model to a net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lstmc.api.build import (
    AnyModel,
    DimensionSize,
    Phase,
    Weights,
    all_sizes,
    backend_of,
    bound_weights,
    only,
    part,
    traced,
)
from lstmc.api.net import Net
from lstmc.backend import LARGER, Backend, Compiled, LeavesOpen, target_of
from lstmc.errors import DimError, LstmcError
from lstmc.ir import Graph
from lstmc.pipeline import EditPasses, compile_graph
from lstmc.nets.tune import RULE, tune
from lstmc.weights import parameters


def compile(
    model: AnyModel,
    /,
    *,
    target: str | None = None,
    backend: str | Backend | None = None,
    step: bool = False,
    phase: Phase = "deploy",
    outputs: Sequence[str] | None = None,
    weights: Weights | None = None,
    seed: int = 0,
    form: str | None = None,
    tuned: bool = False,
    passes: EditPasses | None = None,
    dump_dir: str | Path | None = None,
    sizes: Mapping[str, int] | None = None,
    **dims: DimensionSize,
) -> Net:
    """Compile a model for a target: ``lstmc.compile(model, T=20, N=8, target="caffe")``.

    Args:
        model: A model, a cell (scanned over T steps), or the name of a library cell such as ``"gru"``.
        target: One of the backend's targets; its first one if not given.
        backend: The name of an installed backend, or one as it is; without it the one that has the target.
        step: Compile one time step, with states as inputs and outputs, for :meth:`Net.stream`.
        phase: ``"deploy"``, the model as it is used: without losses, scores and dropout, and what only they need.
            ``"train"``: its losses and scores. ``"all"``: everything as it was written, for targets that are trained.
        outputs: Keep only these outputs.
        weights: Values of all parameters by the model's own names, as a mapping or an ``.npz`` file. Without them
            they are drawn by their fillers, by ``seed``.
        form: Which of the backend's other forms of the net; ``tuned`` measures all and takes the fastest.
        passes: Gets the list of passes (a :class:`lstmc.passes.PassList`) and returns those to run.
        dump_dir: A folder that gets the graph after each pass, as text.
        sizes: Sizes of dimensions, besides those given as arguments: ``T=20`` is the same as ``sizes={"T": 20}``.

    Raises :class:`~lstmc.errors.LstmcError` of some kind: for dimensions, weights, or what the target cannot express.

    >>> import lstmc
    >>> net = lstmc.compile("gru", T=3, N=2, D=4, H=5)
    >>> net.inputs, net.outputs
    ({'x': (3, 2, 4)}, {'y': (3, 2, 5), 'h_T': (2, 5)})
    """
    source, whole = traced(model, all_sizes(sizes, dims), step)
    loaded = backend_of(backend, target)
    name = target_of(loaded, target)
    bound = bound_weights(whole, weights, seed, loaded)
    # the part first: what only losses read, as labels, is fed to no net of other outputs
    graph = only(part(whole, phase), outputs)
    tuning = tune(graph, loaded, name, {each: bound[each] for each in parameters(graph)}, step) if tuned else None
    if tuning is not None:
        form = None if tuning.form == RULE else tuning.form
    folder = None if dump_dir is None else Path(dump_dir)

    def compiled_at(graph: Graph, folder: Path | None = None) -> Compiled:
        return compile_graph(graph, loaded, name, source.name, folder, step=step, form=form, passes=passes)

    compiled = compiled_at(graph, folder)
    if isinstance(loaded, LeavesOpen):
        resized = {}
        for dim in loaded.open_dims(compiled):
            with suppress(LstmcError):  # at another size it is no model, or none for this target
                _, other = traced(model, _larger(all_sizes(sizes, dims), dim))
                resized[dim] = compiled_at(only(part(other, phase), outputs)).expanded
        compiled = replace(compiled, resized=resized)
    return Net.of(source, whole, loaded, compiled, bound, tuning, outputs, weights is not None)


def _larger(sizes: Mapping[str, int], dim: str) -> dict[str, int]:
    """The sizes with one of them larger. Raises :class:`~lstmc.errors.DimError` where it is not given."""
    if dim not in sizes:
        raise DimError(f"the size of {dim} is not given")
    return {**sizes, dim: sizes[dim] + LARGER}
