"""``lstmc.compile``: from a model to a net; and the graphs after each pass and each stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from lstmc.api import models
from lstmc.api.models import AnyModel, DimensionSize, Phase, Weights
from lstmc.api.net import Net
from lstmc.api.options import CompileOptions, options_of
from lstmc.backend import Backend, Compiled, target_of
from lstmc.backend.compiled import UNKNOWN
from lstmc.errors import Argument, PassError
from lstmc.ir import Graph, Scan, Stage, node_work, precomputed_nodes, with_sizes
from lstmc.nets import tune
from lstmc.numerics import device
from lstmc.ops import Work
from lstmc.passes import Pass, PassList, Time, run_passes
from lstmc.pipeline import EditPasses, all_passes, compile_graph
from lstmc.prepare import training_inputs
from lstmc.text import whole
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
        target: One of the backend's targets; by default the first.
        backend: An installed backend, or its name; by default the backend that has the target.
        step: Compile one time step, with states as inputs and outputs, for :meth:`Net.stream`.
        phase: ``"deploy"``, the model for use: without losses, scores and dropout, and without nodes that only they
            need. ``"train"``: its losses and scores. ``"all"``: the whole model, for targets that are trained.
        outputs: Keep only these outputs.
        weights: Values of all parameters by the model's own names, as a mapping or an ``.npz`` file. By default they
            are drawn by their fillers, with ``seed``.
        form: Another form of the net that the backend offers; ``tuned`` measures all forms and takes the fastest.
        time: How linear recurrences are computed: ``"unrolled"``, step by step; ``"chunks"``, ``"doubling"`` or
            ``"products"``, for all steps at once; ``"auto"``, the cheapest. The target's file has the default.
        numbers: The number format of a device (docs/numbers.md), by name: the net is written so that it loses less
            precision in it. The default target is the device's.
        passes: A function from the list of passes (a :class:`lstmc.passes.PassList`) to the list to run.
        dump_dir: A folder that gets the graph after each pass, as text.
        sizes: Sizes of dimensions, besides those given as arguments: ``T=20`` is the same as ``sizes={"T": 20}``.

    Raises :class:`~lstmc.errors.LstmcError` for dimensions, weights, or ops that the target cannot express.

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
    source, whole = models.trace_model(model, options.sizes, options.one_step)
    backend = options.resolved_backend()
    target = target_of(backend, options.target)
    weights = models.bound_weights(whole, options.weights, options.seed, backend)
    # the phase first: labels, which only losses read, are no inputs of a net with selected outputs
    deployed = models.phase_graph(whole, options.phase)
    graph = models.keep_outputs(deployed, options.outputs)
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
    """Return the compiled model with a second graph, in which all dimensions ``dims``, or one of them, are open. It
    must equal the compiled graph once its open sizes are numbers; without such a graph, ``compiled`` is returned."""
    given = [dim for dim in dims if dim in options.sizes]
    for kept in dict.fromkeys((tuple(given), *((dim,) for dim in given))):
        with suppress(*UNKNOWN):
            _, graph = models.trace_model(model, {**options.sizes, **{dim: OpenSize(dim) for dim in kept}})
            opened = compile_part(
                models.keep_outputs(models.phase_graph(graph, options.phase), options.outputs)
            ).expanded
            sizes = {dim: options.sizes[dim] for dim in kept}
            if with_sizes(opened, sizes) == compiled.expanded:
                return replace(compiled, opened=opened, sizes=sizes)
    return compiled


MODEL = "model"  # what the graph before the first pass is called


def model_graph(model: AnyModel, options: CompileOptions, name: str | None = None, stage: Stage | None = None) -> Graph:
    """Return the graph after a pass, or at the end of a stage; by default the graph before the first pass. ``name`` is
    the name of a pass, as ``hoist``: ``cse:2`` is the second run of ``cse``, ``cse`` the last. It can also be a pass's
    number in the list, from 1 on; ``model`` or 0 is the graph before the first pass. Later passes are not run. Raises
    :class:`~lstmc.errors.PassError` for a pass that the target's list lacks."""
    source, whole = models.trace_model(model, options.sizes, options.one_step)
    backend = options.resolved_backend()

    def first_passes(listed: PassList) -> Sequence[Pass]:
        edited = options.edited(listed)
        return edited.upto(_index(edited, name, stage))

    graph = models.phase_graph(whole, options.phase)
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
    return all_passes(models.backend_of(backend, target), target, form).names


def costs_by_op(graph: Graph) -> dict[str, Work]:
    """Return the work of a forward pass by the names of ops, over all steps; computing weights costs nothing.

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
    """Return a description of a compiled graph's generated code; empty if it has none.

    >>> import lstmc
    >>> net = lstmc.compile("rnn", T=2, N=1, D=3, H=3, target="caffe-fused")
    >>> print(explanation(net.after("legalize")).splitlines()[1])
      forward, each step: 1 product, 1 loop
    """
    return models.backend_of(backend).explain(graph)


def _index(passes: PassList, name: str | None, stage: Stage | None) -> int:
    """Return the index of the last pass to run, -1 for none. Raise PassError if the list or the stage lacks it."""
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
