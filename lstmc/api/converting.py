"""``lstmc.convert``: from another framework's trained model to a net, each step compared with the last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Literal

from lstmc.api.compiling import compile_model
from lstmc.api.models import DimensionSize, all_sizes, backend_of, model_in, phase_graph, trace_model
from lstmc.api.net import Net
from lstmc.api.options import CompileOptions
from lstmc.api.running import INTERPRETER, On, Verification
from lstmc.backend import Backend, Violation
from lstmc.errors import Argument, DimError, LstmcError, sizes_argument
from lstmc.files.output import write_files
from lstmc.importers import ImportedModel, SourceCheck, SourceError, check_net, check_source, import_file, prove_net
from lstmc.ops import Array
from lstmc.text import did_you_mean
from lstmc.verification.proof import Proof
from lstmc.verification.report import Difference


@dataclass(frozen=True)
class Conversion:
    """The result of converting a trained model: the written model, its net, and the comparison of each with the source.

    ``described`` compares the written model's outputs, computed by the interpreter, with NumPy on the source's own
    description; ``proof``, on request, has the outputs that are proved equal; ``source`` compares them with the
    source's own runtime, if installed; ``verification`` compares the written net with the interpreter, in every runtime
    that works here. For a net with copied layers, ``whole`` compares the whole net, in the same runtimes, with the
    source in Caffe. ``remarks`` are notes on the files for the user.
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
        differs = "something differs: see .described, .source, .verification, .whole and .findings"
        outcome = "everything agrees" if self.passed else differs
        return f"<lstmc.Conversion of {self.model!r} to {self.net!r}: {outcome}>"

    @property
    def passed(self) -> bool:
        """Whether every output and gradient is within its tolerance, and the target's reader can load every layer.

        Blobs inside the net are reported, but do not count: a trained net may be sensitive inside, not at its outputs.
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
    name: str | None = None,
    **dims: DimensionSize,
) -> Conversion:
    """Import a trained model (:func:`lstmc.import_file`), compile it for a target, and compare each step with the last.

    ``folder`` gets ``model.py``, ``weights.npz`` and ``import.json``, and the net's files. In a Caffe net with Caffe's
    own recurrent layers only these are replaced, and the whole net is written, as ``NAME.TARGET.prototxt`` with its
    caffemodel. For a backend other than Caffe's, and with ``whole`` or ``step``, all layers are imported. The sizes
    that the source leaves open are given as :func:`lstmc.compile` takes them, ``T=20`` or ``sizes={"T": 20}``. With
    ``step`` the net computes one time step, for streams; :func:`lstmc.import_file` describes ``step``, ``states`` and
    ``time``. ``on`` names the runtimes; by default all that work here. ``prove`` also proves the model equal to the
    source's own description, and the net equal to the model. ``name`` is the model's name, "net" by default; nets of
    one program in C need different names. Raises an :class:`~lstmc.errors.LstmcError` if the model
    cannot be read, expressed or compiled.
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
    return convert_model(model, Path(folder), options, on, whole, prove, name)


def _check_sizes(model: ImportedModel, sizes: Mapping[str, int]) -> None:
    """Raise :class:`DimError` for the size of a dimension that the source has fixed or lacks."""
    net = model.net
    left_open = net.open_sizes()
    fixed = {name: size for name, size in sizes.items() if name not in (*left_open, *net.sizes)}
    if not fixed:
        return
    argument, other = sizes_argument(fixed), Argument("shapes")
    inputs = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in net.inputs.items())
    sizes_left, near = ", ".join(left_open) or "none", "".join(did_you_mean(name, left_open) for name in fixed)
    again = "export it again from an example of the size wanted; an ONNX, Keras or Caffe file takes other sizes by"
    raise DimError(
        f"{argument}: sizes that {net.origin} leaves open: {sizes_left}; its inputs are {inputs}{near}",
        notes=[*net.notes, f"{again} {other}"],
    )


def convert_model(
    model: ImportedModel,
    folder: Path,
    options: CompileOptions,
    on: On | None = None,
    whole: bool = False,
    prove: bool = False,
    name: str | None = None,
) -> Conversion:
    """Compile an imported model, with its own weights, and compare each stage of the conversion with the one before."""
    backend = options.resolved_backend()
    if model.surroundings is not None and (whole or options.one_step or model.surroundings.backend != backend.name):
        model = model.whole(options.one_step)
    elif options.step or (options.one_step and not model.timeless):
        model = model.streamed()
    model = model.named(name)
    _check_sizes(model, options.sizes)
    known = {*options.sizes, *model.net.sizes, *(size.name for size in model.net.time)}
    ones = {name: 1 for name in model.net.open_sizes() if options.one_step and name not in known}
    options = replace(options, backend=backend, sizes={**ones, **options.sizes})
    paths = write_files(folder, model.files())
    with _naming_files(folder, paths):
        made = _compiled(model, folder, options, on, prove, paths)
    note = f"dynamic axes that are 1 in the net of one step: {', '.join(ones)}"
    return replace(made, remarks=(*made.remarks, *([note] if ones else [])))


@contextmanager
def _naming_files(folder: Path, paths: Sequence[Path]) -> Iterator[None]:
    """Add a note to an error that is raised in the block: the files that have been written into the folder."""
    imported = len(paths)
    try:
        yield
    except LstmcError as error:
        names = ", ".join(path.name for path in paths)
        without = f"without a net: the imported model, to be edited and compiled ({names})"
        text = without if len(paths) == imported else f"and not compared to the end: {names}"
        error.located(notes=[f"written into {folder}, {text}"])
        raise


def _compiled(
    model: ImportedModel, folder: Path, options: CompileOptions, on: On | None, prove: bool, paths: list[Path]
) -> Conversion:
    """Compile the written model, add its files to ``paths``, and compare the model and the net with the source."""
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
    # the model over all steps, at the sizes of the source: the net may be of one step, or have other sizes
    sizes, graph = {**options.sizes, **model.net.sizes}, net.graph
    if sizes != options.sizes:
        _, graph = trace_model(imported, sizes, options.one_step)
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
