"""The whole compiler on one page: the passes of each target in order, and the function that runs them.

    core         roll_up simplify cse dead fuse_linears fuse_horizontal hoist sink simplify cse dead peel expand dead
    caffe        roll_up simplify cse dead fuse_linears fuse_horizontal hoist sink parallel_time? simplify cse dead peel
                 untie_transposes pass_packed_values legalize cse reshape_once dead find_native_layers?
                 keep_time_axis? find_lstm_unit? cse dead narrow cse dead expand dead limit_fan constants
    caffe-fused  roll_up simplify cse dead fuse_linears distribute hoist sink conv_products hoist simplify cse dead
                 untie_transposes pass_packed_values legalize cse
    flat         roll_up simplify cse dead fold_convs spread_kernels? conv_products? precompute fuse_linears
                 fuse_horizontal hoist sink parallel_time? embed_products half_steps? simplify cse dead peel
                 separate_layers legalize narrow cse expand dead settle_views constants one_row? cse dead? settle_views
                 dead? fixed_blobs folded_constants? rename_blobs?
    noslice      roll_up embed_products simplify cse dead fold_convs conv_products precompute roll_in split_products
                 fixed_products simplify cse dead peel separate_layers legalize narrow cse expand dead fit_readers dead
                 settle_views constants cse dead settle_views dead fixed_blobs
    onnx         roll_up simplify cse dead hoist check_forms find_layers simplify cse dead fuse_linears fuse_horizontal
                 hoist sink simplify cse dead expand dead bias_apart
    torch        roll_up simplify cse dead fuse_linears distribute hoist sink conv_products hoist simplify cse dead
                 generate_loops dead
    tflite       roll_up simplify cse dead fuse_linears split_products softplus_formula elu_formula simplify
                 cse dead precompute one_operation dead check_ops expand dead
    c            roll_up simplify cse dead fuse_linears simplify cse dead check_ops expand dead

``core`` is without a backend. Each other target has the passes of one of these lists; passes with ``?`` are only in the
lists of targets that need them. Rewrites of all steps at once come before ``legalize``, which makes ops of the target;
then ``expand`` copies the nodes of each step, and all steps share the nodes of parameters.
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
    Expand,
    Hoist,
    Pass,
    PassList,
    RollUp,
    Simplify,
    Sink,
    Snapshot,
    distribute,
    fuse_horizontal,
    fuse_linears,
    installed_passes,
    peel,
    run_passes,
    unrolled_scans,
    with_installed,
)
from lstmc.prepare import one_step, without
from lstmc.process.status import gc_paused
from lstmc.text import nearest_or_all

MODEL_PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead()),
    *(fuse_linears, fuse_horizontal, Hoist(), Sink()),
    *(Simplify(), Cse(), Dead(), peel),
)
# Before each scan becomes one generated loop: gates stay separate there, as one loop computes all ops of one size, and
# a convolution of a state is a product, as there is no code for one.
LOOP_PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), fuse_linears, distribute, Hoist(apart=(Linear,), light=LIGHT), Sink(light=LIGHT)),
    *(ConvProducts(loops=True), Hoist(apart=(Linear,), light=LIGHT)),
    *(Simplify(), Cse(), Dead()),
)
CORE_EXPANSION: tuple[Pass, ...] = (Expand(), Dead())

EditPasses = Callable[[PassList], Sequence[Pass]]
RunPasses = Callable[[Graph, Sequence[Pass], Sequence[type[Op]]], list[Snapshot]]


def all_passes(backend: Backend | None, target: str | None = None, form: str | None = None) -> PassList:
    """Return the passes of a model in order, with those of packages. Without a backend they end with core ops of all
    steps. ``form`` is one of the backend's ``forms``; by default the target's rule decides. Raises
    :class:`~lstmc.errors.BackendError` for a form that the target lacks."""
    if backend is None:
        return _with_packages((*MODEL_PASSES, *CORE_EXPANSION), None, None)
    target = target_of(backend, target)
    if form is None:
        return _with_packages(backend.passes(target), backend.name, target)
    forms = backend.forms(target)
    if form not in forms:
        argument, hint = Argument("form", form), nearest_or_all(form, forms)
        raise BackendError(f"{argument}: target {target} has no such form{hint}")
    return _with_packages(forms[form], backend.name, target)


def _with_packages(passes: Sequence[Pass], backend: str | None, target: str | None) -> PassList:
    """Return ``passes`` with RollUp in front, and those of packages. Raise PluginError for one that fits no list."""
    whole = with_installed(PassList((RollUp(), *passes)), backend, target)
    for name, insertion in installed_passes().items():
        if insertion.step not in whole:  # the pass is for other targets, or its place is in no list
            check_place(name, insertion)
    return whole


def compile_graph(
    graph: Graph, backend: Backend, target: str | None = None, source: str = "", step: bool = False,
    form: str | None = None, passes: EditPasses | None = None, run: RunPasses = run_passes,
) -> Compiled:  # fmt: skip
    """Run a model graph (``model.graph(T=3, ...)``) through every pass for one target of a backend.
    For a target whose nets are not trained, ``stop_gradient`` is removed: the written net does not stop gradients
    either, so its gradients can be compared with the model's. ``step`` compiles one time step, with states as inputs
    and outputs (``prepare/one_step.py``); a backend that writes only steps always does so for a model with a scan.
    ``passes`` maps the list of passes to the list to run, ``run`` runs it: a caller may add a folder for the graphs, or
    an observer. Raises the errors of passes: :class:`~lstmc.errors.BackendError` if the target cannot express an op."""
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
        if stepped is not None:
            after = {pair.before: pair.after for pair in stepped.states}
            listed = [each.for_states(after) for each in listed]
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
