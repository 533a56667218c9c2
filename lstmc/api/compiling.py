"""``lstmc.compile``: from a model to a net."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from lstmc.api.models import (
    AnyModel,
    DimensionSize,
    Phase,
    Weights,
    bound_weights,
    keep_outputs,
    phase_graph,
    trace_model,
)
from lstmc.api.net import Net
from lstmc.api.options import CompileOptions, options_of
from lstmc.backend import Backend, Compiled, target_of
from lstmc.backend.compiled import UNKNOWN
from lstmc.ir import Graph, with_sizes
from lstmc.nets import tune
from lstmc.numerics import device
from lstmc.passes import Time, run_passes
from lstmc.pipeline import EditPasses, compile_graph
from lstmc.prepare import training_inputs
from lstmc.types import OpenSize
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
    time: Time | None = None,
    tuned: bool = False,
    numbers: str | None = None,
    passes: EditPasses | None = None,
    dump_dir: str | Path | None = None,
    sizes: Mapping[str, int] | None = None,
    **dims: DimensionSize,
) -> Net:
    """Compile a model for a target: ``lstmc.compile(model, T=20, N=8, target="caffe")``.

    Args:
        model: A model, a cell (scanned over T steps), the name of a library cell such as ``"gru"``, or a file with one
            of them, ``"tagger.py"`` or ``"tagger.py:NAME"``.
        target: One of the backend's targets; its first one if not given.
        backend: The name of an installed backend, or one as it is; without it the one that has the target.
        step: Compile one time step, with states as inputs and outputs, for :meth:`Net.stream`.
        phase: ``"deploy"``, the model as it is used: without losses, scores and dropout, and what only they need.
            ``"train"``: its losses and scores. ``"all"``: everything as it was written, for targets that are trained.
        outputs: Keep only these outputs.
        weights: Values of all parameters by the model's own names, as a mapping or an ``.npz`` file. Without them
            they are drawn by their fillers, by ``seed``.
        form: Which of the backend's other forms of the net; ``tuned`` measures all and takes the fastest.
        time: How linear recurrences are computed: ``"unrolled"``, step by step; ``"chunks"``, ``"doubling"`` or
            ``"products"``, for all steps at once; ``"auto"``, as costs least. Without it as the target's file says.
        numbers: The numbers of a device (docs/numbers.md), by name: the net is written so that it loses less in them,
            by default for the device's target.
        passes: Gets the list of passes (a :class:`lstmc.passes.PassList`) and returns those to run.
        dump_dir: A folder that gets the graph after each pass, as text.
        sizes: Sizes of dimensions, besides those given as arguments: ``T=20`` is the same as ``sizes={"T": 20}``.

    Raises :class:`~lstmc.errors.LstmcError` of some kind: for dimensions, weights, or what the target cannot express.

    >>> import lstmc
    >>> net = lstmc.compile("gru", T=3, N=2, D=4, H=5)
    >>> net.inputs, net.outputs
    ({'x': (3, 2, 4)}, {'y': (3, 2, 5), 'h_T': (2, 5)})
    """
    return compile_model(model, options_of(CompileOptions, compile, locals()))


def compile_model(model: AnyModel, options: CompileOptions) -> Net:
    """Compile a model: :func:`lstmc.compile` with its keywords as one object."""
    if options.numbers is not None:
        options = replace(options, target=options.target or device.read_device(options.numbers).target)
    source, whole = trace_model(model, options.sizes, options.one_step)
    backend = options.resolved_backend()
    target = target_of(backend, options.target)
    weights = bound_weights(whole, options.weights, options.seed, backend)
    # the phase first: labels that only losses read are no inputs of a net with other outputs
    deployed = phase_graph(whole, options.phase)
    graph = keep_outputs(deployed, options.outputs)
    form, tuning = options.form, None
    if options.tuned:
        own = {name: weights[name] for name in parameters(graph)}
        tuning = tune.tune(graph, backend, target, own, options.step, in_time=options.time is None)
        form = None if tuning.form == tune.RULE or tuning.time else tuning.form
        options = replace(options, time=options.time or tuning.time)
    compile_part = partial(
        compile_graph,
        backend=backend,
        target=target,
        source=source.name,
        step=options.step,
        form=form,
        passes=options.edited,
    )
    folder = None if options.dump_dir is None else Path(options.dump_dir)
    compiled = compile_part(graph, run=partial(run_passes, dump_dir=folder))
    if options.phase == "deploy":
        compiled = replace(compiled, training_inputs=training_inputs(whole, deployed))
    if dims := backend.open_dims(compiled):
        compiled = _with_open_sizes(compiled, dims, model, options, compile_part)
    return Net.from_compiled(source, whole, backend, compiled, weights, tuning, options)


def _with_open_sizes(
    compiled: Compiled,
    dims: Collection[str],
    model: AnyModel,
    options: CompileOptions,
    compile_part: Callable[[Graph], Compiled],
) -> Compiled:
    """Return a compiled model with its graph at open sizes: of all these dimensions, else of one of them.

    It is returned unchanged where no graph with open sizes is the compiled graph once the numbers are put in.
    """
    given = [dim for dim in dims if dim in options.sizes]
    for kept in dict.fromkeys((tuple(given), *((dim,) for dim in given))):
        with suppress(*UNKNOWN):
            _, graph = trace_model(model, {**options.sizes, **{dim: OpenSize(dim) for dim in kept}})
            opened = compile_part(keep_outputs(phase_graph(graph, options.phase), options.outputs)).expanded
            sizes = {dim: options.sizes[dim] for dim in kept}
            if with_sizes(opened, sizes) == compiled.expanded:
                return replace(compiled, opened=opened, sizes=sizes)
    return compiled
