"""A model's graph, as it was written or as any pass leaves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmc.api.build import AnyModel, DimensionSize, Phase, all_sizes, backend_of, part, traced
from lstmc.backend import Backend, Explains
from lstmc.errors import Argument, PassError
from lstmc.ir import Graph, Stage
from lstmc.numerals import whole
from lstmc.passes import Pass, PassList
from lstmc.pipeline import EditPasses, all_passes, compile_graph

MODEL = "model"  # what the graph before the first pass is called


def graph_after(
    model: AnyModel,
    name: str | None = None,
    /,
    *,
    stage: Stage | None = None,
    phase: Phase = "deploy",
    step: bool = False,
    target: str | None = None,
    backend: str | Backend | None = None,
    form: str | None = None,
    passes: EditPasses | None = None,
    sizes: Mapping[str, int] | None = None,
    **dims: DimensionSize,
) -> Graph:
    """The graph as a pass leaves it, or as it leaves a stage; as it goes into the first pass without either.

    ``name`` is a pass, ``hoist``; ``cse:2`` for its second run, ``cse`` for its last; or the number of a pass in the
    list, from 1 on, ``model`` or 0 for the graph before the first. Passes after it are not run. The other arguments are
    those of :func:`lstmc.compile`. Raises :class:`~lstmc.errors.PassError` for a pass that the target's list lacks.

    >>> import lstmc
    >>> from lstmc.api import graph_after
    >>> len(graph_after("rnn", T=2, N=1, D=3, H=3)), len(graph_after("rnn", "expand", T=2, N=1, D=3, H=3))
    (6, 13)
    """
    source, whole = traced(model, all_sizes(sizes, dims), step)
    loaded = backend_of(backend, target)

    def as_far(listed: PassList) -> Sequence[Pass]:
        edited = PassList(listed if passes is None else passes(listed))
        return edited.upto(_index(edited, name, stage))

    graph = part(whole, phase)
    return compile_graph(graph, loaded, target, source.name, step=step, form=form, passes=as_far).expanded


def pass_names(target: str | None = None, backend: str | Backend | None = None, form: str | None = None) -> list[str]:
    """The names of all passes that a target's models go through, in order.

    >>> from lstmc.api import pass_names
    >>> pass_names("flat")[:4]
    ['simplify:1', 'cse:1', 'dead:1', 'precompute']
    """
    return all_passes(backend_of(backend, target), target, form).names


def explanation(graph: Graph, backend: str | Backend | None = None) -> str:
    """What code of its own a compiled graph has, as text for people: empty where it has none.

    >>> from lstmc.api import explanation, graph_after
    >>> graph = graph_after("rnn", "legalize", target="caffe-fused", T=2, N=1, D=3, H=3)
    >>> print(explanation(graph).splitlines()[1])
      forward, each step: 1 product, 1 loop
    """
    loaded = backend_of(backend)
    return loaded.explain(graph) if isinstance(loaded, Explains) else ""


def _index(passes: PassList, name: str | None, stage: Stage | None) -> int:
    """The last pass to run, -1 for none."""
    if name in (None, MODEL) and stage is None:
        return -1
    end = passes.end_of(stage) if stage is not None else len(passes) - 1
    if name is None:
        return end
    number = 0 if name == MODEL else whole(name)
    index = passes.last(name) if number is None or number > len(passes) else number - 1
    if stage is not None and passes.stage_after(index) is not stage:
        argument = Argument("stage", stage.value)
        raise PassError(
            f"pass {name} leaves a graph at stage {passes.stage_after(index).value}, not {argument}",
            arguments=(argument,),
        )
    return index
