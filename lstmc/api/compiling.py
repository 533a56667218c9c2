"""``lstmc.compile`` and ``lstmc.convert``: from a model, or another framework's trained model, to a net; its graphs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Literal

from lstmc.api.models import (
    AnyModel,
    DimensionSize,
    Phase,
    Weights,
    all_sizes,
    backend_of,
    bound_weights,
    keep_outputs,
    model_in,
    phase_graph,
    trace_model,
)
from lstmc.api.net import Net
from lstmc.api.options import CompileOptions, options_of
from lstmc.api.running import INTERPRETER, On, Verification
from lstmc.backend import Backend, Compiled, Violation, target_of
from lstmc.backend.compiled import UNKNOWN
from lstmc.errors import Argument, DimError, LstmcError, sizes_argument
from lstmc.files.output import write_files
from lstmc.importers import ImportedModel, SourceCheck, SourceError, check_net, check_source, import_file, prove_net
from lstmc.ir import Graph, with_sizes
from lstmc.nets.tune import RULE, tune
from lstmc.numerics import read_device
from lstmc.ops import Array
from lstmc.passes import Time, run_passes
from lstmc.pipeline import EditPasses, compile_graph
from lstmc.prepare import training_inputs
from lstmc.text import did_you_mean
from lstmc.types import OpenSize
from lstmc.verification.proof import Proof
from lstmc.verification.report import Difference
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
        options = replace(options, target=options.target or read_device(options.numbers).target)
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
        tuning = tune(graph, backend, target, own, options.step, in_time=options.time is None)
        form = None if tuning.form == RULE or tuning.time else tuning.form
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


@dataclass(frozen=True)
class Conversion:
    """The result of converting a trained model: the written model, its net, and the comparison of each with the source.

    ``described`` compares the written model's outputs, computed by the interpreter, with NumPy on the source's own
    description; ``proof``, if it was asked for, says which of them are proved to be equal; ``source`` compares them
    with what runs the source, where that is installed; ``verification`` compares the written net with the interpreter,
    wherever it can be run here. Where the net stands among layers that were copied, ``whole`` compares the outputs of
    them all, in the same runtimes, with the source in Caffe. ``remarks`` are what a person
    should know of the files.
    """

    model: ImportedModel
    net: Net
    paths: tuple[Path, ...]
    described: tuple[Difference, ...]
    verification: Verification
    source: SourceCheck | None = None
    remarks: tuple[str, ...] = ()
    findings: tuple[Violation, ...] = ()  # of layers copied from the source, that the target's reader cannot load
    whole: tuple[SourceCheck, ...] = ()
    proof: Proof | None = None

    def __repr__(self) -> str:
        outcome = (
            "everything agrees"
            if self.passed
            else "something differs: see .described, .source, .verification, .whole and .findings"
        )
        return f"<lstmc.Conversion of {self.model!r} to {self.net!r}: {outcome}>"

    @property
    def passed(self) -> bool:
        """Whether every output and gradient is within its tolerance, and the target's reader can load every layer.

        Blobs inside the net are reported and do not count: a trained net may be sensitive there and not at its outputs.
        """
        checks = [*([self.source] if self.source else []), *self.whole]
        differences = [*self.described, *(difference for check in checks for difference in check.differences)]
        differences += [d for report in self.verification.reports for d in report.differences if d.kind != "blob"]
        return not self.findings and all(difference.passed for difference in differences)


def convert(
    source: str | Path | ImportedModel,
    folder: str | Path,
    *,
    target: str | None = None,
    backend: str | Backend | None = None,
    sizes: Mapping[str, int] | None = None,
    activation: Literal["tanh", "relu"] | None = None,
    config: str | Path | None = None,
    weights: str | Path | None = None,
    shapes: Mapping[str, Sequence[int]] = {},
    values: Mapping[str, Array] = {},
    recurrent_only: bool = False,
    step: bool = False,
    states: Mapping[str, str] = {},
    time: Mapping[str, int] = {},
    on: On | None = None,
    seed: int = 0,
    whole: bool = False,
    prove: bool = False,
    **dims: DimensionSize,
) -> Conversion:
    """Import a trained model (:func:`lstmc.import_file`), compile it for a target, and compare each step with the last.

    ``folder`` gets ``model.py``, ``weights.npz`` and ``import.json``, and the net's files. Of a Caffe net
    with recurrent layers of Caffe's own these alone are replaced, and the whole net written, ``NAME.TARGET.prototxt``
    with its caffemodel; for another backend than Caffe's, and with ``whole`` or ``step``, all of its layers are
    imported.
    The sizes that the source leaves open are given as :func:`lstmc.compile` takes them, ``T=20`` or
    ``sizes={"T": 20}``. With ``step`` the net is one of one time step, to be streamed, and the model one that can be
    (:func:`lstmc.import_file`, which has ``states`` and ``time``). ``on`` is where the net is run; by default
    all places that work here. ``prove`` also proves the model equal to the source's own description, and the net to it.
    Raises :class:`~lstmc.errors.LstmcError` of some kind for what cannot be read, expressed or compiled.
    """
    given = locals()
    if not isinstance(source, ImportedModel | str | Path):
        raise SourceError(
            f"convert takes the file of a trained model, or an imported model, found {type(source).__name__}",
            notes=["a module of PyTorch: lstmc.convert(lstmc.from_torch(module, example), folder)"],
        )
    keywords = {name: given[name] for name in signature(import_file).parameters if name in given}
    model = source if isinstance(source, ImportedModel) else import_file(source, **keywords)
    options = CompileOptions(
        target=target, backend=backend_of(backend, target), step=step, seed=seed, sizes=all_sizes(sizes, dims, convert)
    )
    return convert_model(model, Path(folder), options, on, whole, prove)


def _check_sizes(model: ImportedModel, sizes: Mapping[str, int]) -> None:
    """Raise :class:`DimError` for the size of a dimension that the source has fixed, or does not have."""
    net = model.net
    left_open = net.open_sizes()
    fixed = {name: size for name, size in sizes.items() if name not in (*left_open, *net.sizes)}
    if not fixed:
        return
    argument, other = sizes_argument(fixed), Argument("shapes")
    inputs = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in net.inputs.items())
    raise DimError(
        f"{argument}: sizes that {net.origin} leaves open: {', '.join(left_open) or 'none'}; its inputs are {inputs}"
        + "".join(did_you_mean(name, left_open) for name in fixed),
        notes=[
            *net.notes,
            "export it again from an example of the size wanted; an ONNX, Keras or Caffe file takes other sizes by"
            f" {other}",
        ],
        arguments=(argument, other),
    )


def convert_model(
    model: ImportedModel,
    folder: Path,
    options: CompileOptions,
    on: On | None = None,
    whole: bool = False,
    prove: bool = False,
) -> Conversion:
    """Compile an imported model, and compare each step with the last: :func:`lstmc.convert` after the import.

    Of ``options`` the weights are the model's own.
    """
    backend = options.resolved_backend()
    if model.surroundings is not None and (whole or options.one_step or model.surroundings.backend != backend.name):
        model = model.whole(options.one_step)
    elif options.step or (options.one_step and not model.timeless):
        model = model.streamed()
    _check_sizes(model, options.sizes)
    ones = _ones(model, options)
    options = replace(options, backend=backend, sizes={**ones, **options.sizes})
    paths = write_files(folder, model.files())
    with _naming_files(folder, paths):
        made = _compiled(model, folder, options, on, prove, paths)
    note = f"dynamic axes that are 1 in the net of one step: {', '.join(ones)}"
    return replace(made, remarks=(*made.remarks, *([note] if ones else [])))


def _ones(model: ImportedModel, options: CompileOptions) -> dict[str, int]:
    """Return 1 for each axis of a net of one step that the source leaves open, but for time and given sizes."""
    net = model.net
    known = {*options.sizes, *net.sizes, *(size.name for size in net.time)}
    return {name: 1 for name in net.open_sizes() if name not in known} if options.one_step else {}


@contextmanager
def _naming_files(folder: Path, paths: Sequence[Path]) -> Iterator[None]:
    """Add a note to an error raised in the block, with the files that have been written into the folder."""
    imported = len(paths)
    try:
        yield
    except LstmcError as error:
        names = ", ".join(path.name for path in paths)
        if len(paths) == imported:
            note = f"written into {folder}, without a net: the imported model, to be edited and compiled ({names})"
        else:
            note = f"written into {folder}, and not compared to the end: {names}"
        error.located(notes=[note])
        raise


def _compiled(
    model: ImportedModel, folder: Path, options: CompileOptions, on: On | None, prove: bool, paths: list[Path]
) -> Conversion:
    """Compile the written model, and compare it; the written files are added to ``paths``."""
    imported = model_in(str(folder / "model.py"), neighbours=False).model
    net = compile_model(imported, replace(options, weights=folder / "weights.npz"))
    remarks: tuple[str, ...] = ()
    findings: tuple[Violation, ...] = ()
    files: Mapping[str, bytes] = {}
    if model.surroundings is None:
        paths += net.save(folder)
    else:
        files = model.surroundings.files(net.artifact, net.compiled.target)
        paths += write_files(folder, files)
        remarks = tuple(model.surroundings.remarks(files, net.compiled.target))
        findings = tuple(model.surroundings.findings(files, net.compiled.target))
    # the whole model, at the sizes of the source, of which the net may have one step, or others
    _, graph = trace_model(imported, {**options.sizes, **model.net.sizes}, options.one_step)
    whole_model = replace(net.compiled, model=phase_graph(graph, "deploy"))
    described = check_net(model, whole_model, net.weights, options.seed)
    proof = prove_net(model, whole_model.model, net.weights) if prove else None
    source_check = check_source(model, whole_model, net.weights, options.seed)
    verification = net.verify(on, options.seed, prove=prove)
    whole: Sequence[SourceCheck] = ()
    if model.surroundings is not None and not findings:
        runtimes = [report.executor for report in verification.reports if report.executor != INTERPRETER]
        whole = model.surroundings.compared(files, list(dict.fromkeys(runtimes)), options.seed)
    return Conversion(
        model, net, tuple(paths), described, verification, source_check, remarks, findings, tuple(whole), proof
    )
