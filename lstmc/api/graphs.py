"""The graphs of a model on its way through the passes: after each pass, at the end of each stage."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.api.models import AnyModel, backend_of, phase_graph, trace_model
from lstmc.api.options import CompileOptions
from lstmc.backend import Backend
from lstmc.errors import Argument, PassError
from lstmc.ir import Graph, Scan, Stage, node_work, precomputed_nodes
from lstmc.ops import Work
from lstmc.passes import Pass, PassList
from lstmc.pipeline import all_passes, compile_graph
from lstmc.text import whole

MODEL = "model"  # what the graph before the first pass is called


def model_graph(model: AnyModel, options: CompileOptions, name: str | None = None, stage: Stage | None = None) -> Graph:
    """Return the graph after a pass, or at the end of a stage; without either the graph before the first pass.

    ``name`` is a pass, ``hoist``; ``cse:2`` for its second run, ``cse`` for its last; or the number of a pass in the
    list, from 1 on, ``model`` or 0 for the graph before the first. Passes after it are not run. Raises
    :class:`~lstmc.errors.PassError` for a pass that the target's list lacks.
    """
    source, whole = trace_model(model, options.sizes, options.one_step)
    backend = options.resolved_backend()

    def first_passes(listed: PassList) -> Sequence[Pass]:
        edited = options.edited(listed)
        return edited.upto(_index(edited, name, stage))

    graph = phase_graph(whole, options.phase)
    compiled = compile_graph(
        graph, backend, options.target, source.name, step=options.step, form=options.form, passes=first_passes
    )
    return compiled.expanded


def pass_names(target: str | None = None, backend: str | Backend | None = None, form: str | None = None) -> list[str]:
    """Return the names of all passes that a target's models go through, in order.

    >>> from lstmc.api import pass_names
    >>> pass_names("flat")[:4]
    ['roll_up', 'simplify:1', 'cse:1', 'dead:1']
    """
    return all_passes(backend_of(backend, target), target, form).names


def costs_by_op(graph: Graph) -> dict[str, Work]:
    """Return the work of a forward pass by the names of ops, over all steps of scans; weights are there.

    >>> from lstmc.api import CompileOptions, costs_by_op, model_graph
    >>> costs_by_op(model_graph("rnn", CompileOptions(sizes={"T": 2, "N": 1, "D": 3, "H": 3})))["linear"].multiply_adds
    36
    """
    costs, weights = dict[str, Work](), precomputed_nodes(graph)
    for node in graph:
        if type(node.op) is Scan:
            steps = [(node.op.body, node.op.length - 1), (node.op.first or node.op.body, 1)]
            parts = [(name, work * count) for body, count in steps for name, work in costs_by_op(body).items()]
        else:
            parts = [(node.op.name, node_work(graph, node))]
        for name, work in parts:
            if work != Work() and node.name not in weights:
                costs[name] = costs.get(name, Work()) + work
    return costs


def explanation(graph: Graph, backend: str | Backend | None = None) -> str:
    """Return a description of a compiled graph's own code; empty if it has none.

    >>> import lstmc
    >>> net = lstmc.compile("rnn", T=2, N=1, D=3, H=3, target="caffe-fused")
    >>> print(explanation(net.after("legalize")).splitlines()[1])
      forward, each step: 1 product, 1 loop
    """
    return backend_of(backend).explain(graph)


def _index(passes: PassList, name: str | None, stage: Stage | None) -> int:
    """Return the index of the last pass to run, -1 for none."""
    if name in (None, MODEL) and stage is None:
        return -1
    end = passes.end_of(stage) if stage is not None else len(passes) - 1
    if name is None:
        return end
    number = 0 if name == MODEL else whole(name)
    if number is not None and not 0 <= number <= len(passes):
        raise PassError(f"there is no pass {number}: the list has passes 1 to {len(passes)}, and 0 is the model")
    index = passes.last(name) if number is None else number - 1
    if stage is not None and passes.stage_after(index) is not stage:
        raise PassError(
            f"pass {name} leaves a graph at stage {passes.stage_after(index).value},"
            f" not {Argument('stage', stage.value)}"
        )
    return index
