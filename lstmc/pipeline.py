"""The whole compiler on one page: the list of passes, and the function that runs it.

MODEL     roll_up                      steps of a recurrence that were written out become a scan
          simplify, cse, dead          the one-step body and the model around it
          fuse_linears, fuse_horizontal  products on one value, and ops on neighbouring pieces, become one
          hoist, sink                  what needs no state leaves the loop, before it and after it
          (parallel_time)              linear recurrences in few nodes, where a backend knows what layers cost
          simplify, cse, dead
          peel, dead                   the first step on its own, where states start from a constant
LEGAL     the backend's: legalize      core ops become the target's
          cse, dead                    what legalisation repeated
          re-rolling                   bodies become a target's own recurrent layers (in Caffe: LSTMUnit, LSTM, RNN)
EXPANDED  the backend's: expand        every step's nodes, parameters shared by being the same node
          dead                         what no step reads
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lstmc.backend import Backend, Compiled, check_place, target_of
from lstmc.errors import Argument, BackendError
from lstmc.ir import Graph, Scan, is_step
from lstmc.loops.loop_code import LIGHT
from lstmc.ops import Linear, Op, StopGradient
from lstmc.passes import (
    ConvProducts,
    Cse,
    Dead,
    Distribute,
    Expand,
    FuseHorizontal,
    FuseLinears,
    Hoist,
    Pass,
    PassList,
    Peel,
    RollUp,
    Simplify,
    Sink,
    Snapshot,
    installed_passes,
    run_passes,
    unrolled_scans,
    with_installed,
)
from lstmc.prepare import one_step, without
from lstmc.process.status import gc_paused
from lstmc.text import nearest_or_all

MODEL_PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead()),
    *(FuseLinears(), FuseHorizontal(), Hoist(), Sink()),
    *(Simplify(), Cse(), Dead()),
    *(Peel(), Dead()),
)
# Before each scan becomes one generated loop: gates stay separate there, as one loop computes all ops of one size, and
# a convolution of a state is a product, as there is no code for one.
LOOP_PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), FuseLinears(), Distribute(), Hoist(apart=(Linear,), light=LIGHT), Sink(light=LIGHT)),
    *(ConvProducts(loops=True), Hoist(apart=(Linear,), light=LIGHT)),
    *(Simplify(), Cse(), Dead()),
)
CORE_EXPANSION: tuple[Pass, ...] = (Expand(), Dead())


EditPasses = Callable[[PassList], Sequence[Pass]]
RunPasses = Callable[[Graph, Sequence[Pass], Sequence[type[Op]]], list[Snapshot]]


def all_passes(backend: Backend | None, target: str | None = None, form: str | None = None) -> PassList:
    """Return the passes of a model in order, with those of packages; without a backend, up to core ops of all steps.

    ``form`` is one of the backend's ``forms``; without it the target's own rule decides. Raises
    :class:`~lstmc.errors.BackendError` for a form that the target does not have.
    """
    if backend is None:
        return _with_packages((*MODEL_PASSES, *CORE_EXPANSION), None, None)
    target = target_of(backend, target)
    if form is None:
        return _with_packages(backend.passes(target), backend.name, target)
    forms = backend.forms(target)
    if form not in forms:
        argument, hint = Argument("form", form), nearest_or_all(form, forms)
        raise BackendError(f"{argument}: target {target} has no such form{hint}", arguments=(argument,))
    return _with_packages(forms[form], backend.name, target)


def _with_packages(passes: Sequence[Pass], backend: str | None, target: str | None) -> PassList:
    """Return the list with rolling up before all, and with the passes of packages.

    Raises :class:`PluginError` for one whose place no list has.
    """
    whole = with_installed(PassList((RollUp(), *passes)), backend, target)
    for name, insertion in installed_passes().items():
        if insertion.step not in whole:  # it is for other targets, or nowhere
            check_place(name, insertion)
    return whole


def compile_graph(
    graph: Graph,
    backend: Backend,
    target: str | None = None,
    source: str = "",
    step: bool = False,
    form: str | None = None,
    passes: EditPasses | None = None,
    run: RunPasses = run_passes,
) -> Compiled:
    """Run a model graph (``model.graph(T=3, ...)``) through every pass for one target of a backend.

    Where the target's nets are not trained, no gradient is stopped: the model is compiled without ``stop_gradient``, so
    that what is compared with a written net backward is what the net computes. ``step`` compiles one time step, with
    states as inputs and outputs (``prepare/one_step.py``), as a backend that writes steps alone does with each model
    that has a scan. ``passes`` gets the list of passes, and returns those to run. ``run`` runs them:
    :func:`~lstmc.passes.run_passes`, which a caller may give a folder for the graph after each pass, or an observer.
    Raises what the passes raise: :class:`~lstmc.errors.BackendError` where the target cannot express something.
    """
    target = target_of(backend, target)
    with gc_paused():
        rolled = RollUp().run(graph).graph
        if backend.one_step or is_step(rolled):
            step = is_step(rolled) or any(isinstance(node.op, Scan) for node in rolled)
        stepped = one_step(rolled) if step else None
        graph = graph if stepped is None else stepped.graph
        trained = target in backend.training_targets
        graph = graph if trained else without(graph, StopGradient)
        chosen = all_passes(backend, target, form)
        listed = chosen if passes is None else passes(chosen)
        history = run(graph, listed, backend.ops)
    return Compiled(
        name=graph.name,
        source=source or graph.name,
        backend=backend.name,
        target=target,
        model=graph,
        expanded=history[-1].graph,
        history=tuple(history),
        scans=unrolled_scans(history),
        states=None if stepped is None else stepped.states,
        trained=trained,
    )
