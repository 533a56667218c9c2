"""The options that several commands share, with their completions in a shell, and groups of them as dataclasses: a
command with such a parameter has an option for each field (:func:`lstmc.cli.commands.typer_command`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

import lstmc
from lstmc.cli.commands import advanced, argument, one_line, option
from lstmc.cli.console import err
from lstmc.errors import BackendError, DimError, LstmcError, ModelFileError
from lstmc.plugins import library_names
from lstmc.text import did_you_mean

if TYPE_CHECKING:
    import lstmc.manifest
    import lstmc.verification
    from lstmc.api import CompileOptions, TrainingOptions
    from lstmc.api.models import ModelSource
    from lstmc.backend import Backend


def completion(names: Callable[[], Iterable[str]]) -> Callable[[str], Iterator[str]]:
    """Return the function that completes an option with the texts of ``names()``."""

    def complete(incomplete: str) -> Iterator[str]:
        return _beginning(names(), incomplete)

    return complete


def complete_targets(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete ``--target`` with targets of the backend that earlier options name, each with its purpose."""
    with suppress(LstmcError):
        purposes = _backend(context).targets
        yield from ((name, one_line(purposes[name])) for name in _beginning(purposes, incomplete))


def complete_forms(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete ``--form`` with forms of the target of ``--target``, or of the backend's first target."""
    with suppress(LstmcError):
        backend = _backend(context)
        target = context.params.get("target") or next(iter(backend.targets))
        yield from _beginning(backend.forms(target), incomplete)


def complete_passes(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete ``--after`` with the passes of the target."""
    with suppress(LstmcError):
        names = lstmc.api.pass_names(context.params.get("target"), _backend(context), context.params.get("form"))
        yield from _beginning(names, incomplete)


def complete_places(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete ``--on`` with the runtimes in this process and the runtimes of the backend."""
    with suppress(LstmcError):
        own = [executor.name for executor in _backend(context).executors()]
        yield from _beginning([*lstmc.api.running.IN_PROCESS, *own], incomplete)


def _backend(context: typer.Context) -> Backend:
    return lstmc.backend.backend_for(context.params.get("backend"), context.params.get("target"))


def _beginning(names: Iterable[str], incomplete: str) -> Iterator[str]:
    yield from (name for name in names if name.startswith(incomplete))


Number = TypeVar("Number", int, float)


def parse_sizes(texts: list[str]) -> dict[str, int]:
    """Parse sizes from texts as ``["T=3", "N=10"]``. Raises :class:`DimError` for any other text, for a number of more
    than 19 digits, and for a dimension with two sizes."""
    sizes: dict[str, int] = {}
    for text in texts:
        dim, equals, size_text = text.partition("=")
        name = lstmc.text.identifier(dim)
        size = lstmc.text.whole(size_text) if equals and name.isidentifier() else None
        if size is None:
            raise DimError(f"-D takes NAME=INT, as in -D T=3, found {text!r}")
        if name in sizes and sizes[name] != size:
            raise DimError(f"-D {name} is given twice: as {sizes[name]} and as {size_text}")
        sizes[name] = size
    return sizes


def parse_options(texts: list[str]) -> dict[str, str]:
    """Parse options of the model from texts as ``["cell=gru"]``. Raises :class:`ModelFileError` for other texts."""
    options: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or not value:
            raise ModelFileError(f"--set takes NAME=VALUE, as in --set cell=gru, found {text!r}")
        if name in options:
            raise ModelFileError(f"--set {name} is given twice: as {options[name]} and as {value}")
        options[name] = value
    return options


def whole_from_0(text: object) -> int:
    """Return an option's integer of 0 or more. Raises :class:`typer.BadParameter` for any other text."""
    return _at_least_0(lstmc.text.whole, "an integer", text)


def number_from_0(text: object) -> float:
    """Return an option's number of 0 or more. Raises :class:`typer.BadParameter` for any other text."""
    return _at_least_0(lstmc.text.number, "a number", text)


def _at_least_0(read: Callable[[str], Number | None], kind: str, text: object) -> Number:
    """Return the number that ``read`` finds in an option's text. Raises typer.BadParameter for none or one below 0."""
    value = read(str(text))
    if value is None or value < 0:
        raise typer.BadParameter(f"expected {kind} from 0 on, found {str(text)!r}")
    return value


def named_model(file: str | None, cell: str | None) -> ModelSource:
    """Return the model of FILE[:MODEL] or of ``--cell NAME``. Raises ModelFileError unless exactly one is given."""
    if file is not None and cell is None:
        return lstmc.api.models.model_in(file)
    if cell is not None and file is None:
        return lstmc.api.models.ModelSource.from_model(cell)
    count = "neither" if file is None else "both"
    raise ModelFileError(f"expected a model file, FILE or FILE:MODEL, or --cell NAME, found {count}")


def say_which_cells(model: ModelSource, options: Iterable[Mapping[str, str]]) -> None:
    """Print which cell is used where both the model's file and an installed package have a cell of that name."""
    for name in dict.fromkeys(name for texts in options for name in model.shadowed(texts)):
        file = model.name.rpartition(":")[0]
        err.print(f"cell {name} is that of {file}, not the installed one")


CellOption = Annotated[
    str | None,
    option("--cell NAME", "Take this library cell instead of a file.", autocompletion=completion(library_names)),
]
LossModelArgument = Annotated[str, argument("FILE[:MODEL]", "A Python file with a @model that returns a loss.")]
TrainingDataOption = Annotated[
    Path, option("--data DATA", "Train on these arrays (.npz or HDF5), by the inputs' names.")
]
TestSplitOption = Annotated[
    float | None, option("--test-split PART", "Test on this part of --data instead, as 0.2.", parser=number_from_0)
]
SizesOption = Annotated[list[str] | None, option("-D --dim NAME=INT", "Set the size of a dimension. Repeatable.")]
WeightsOption = Annotated[
    Path | None,
    option(
        "--weights FILE",
        "Take the parameters from an .npz file, by the model's names, or from a net that lstmc wrote or trained.",
    ),
]
PlacesOption = Annotated[
    list[str] | None,
    option(
        "--on RUNTIME",
        "Run the net in interpreter, native, caffe-cpu, caffe-gpu, onnx-cpu, opencv or another runtime that"
        " `lstmc doctor` lists. Repeatable. Default: the interpreter and all of the backend that are available.",
        autocompletion=complete_places,
    ),
]
ProveOption = Annotated[
    bool, option("--prove", "Prove the compiled graph equal to the model too, for all real inputs at these sizes.")
]


def seed_option(text: str) -> Any:
    return option("--seed INT", f"Random seed {text}.", parser=whole_from_0)


BackendOption = Annotated[
    str | None,
    option(
        "--backend NAME",
        "Write for caffe, onnx or another backend of `lstmc targets`. Default: the target's.",
        autocompletion=completion(lambda: lstmc.backend.find_backends()),
    ),
]

TargetOption = Annotated[
    str | None,
    option(
        "--target NAME",
        "Write for this target, as opencv or rknn; `lstmc targets` lists them.",
        autocompletion=complete_targets,
    ),
]
SolverOption = Annotated[
    list[str] | None, option("--solver KEY=VALUE", "Set a parameter of the optimizer, Caffe's solver. Repeatable.")
]
BatchOption = Annotated[str | None, advanced("--batch NAME", "Name the dimension that counts examples. Default: N.")]
OutputsOption = Annotated[list[str] | None, advanced("--keep NAME", "Keep only this output. Repeatable. Default: all.")]
FormOption = Annotated[
    str | None,
    advanced("--form NAME", "Write another variant of the net, one that --tune lists.", autocompletion=complete_forms),
]

TimeOption = Annotated[
    Literal["unrolled", "chunks", "doubling", "products", "auto"] | None,
    option(
        "--time",
        "Compute linear recurrences step by step (unrolled), or for all steps at once: by chunks, by doubling,"
        " by products with powers of one matrix, or the cheapest (auto). Default: auto where the target's file has the"
        " cost of a layer, else unrolled.",
    ),
]
StepOption = Annotated[
    bool, option("--step", "Write a net of one time step, with states as inputs and outputs, for streaming.")
]
TensorboardOption = Annotated[
    bool, option("--tensorboard", "Write event files into the folder tensorboard of the run too.")
]
OverwriteOption = Annotated[
    bool, option("--overwrite", "Begin again in the folder, and move its earlier files into its folder previous/N.")
]
GpuOption = Annotated[bool, option("--gpu", "Run on a GPU instead of the CPU.")]

ExampleOption = Annotated[
    list[str] | None, option("--example cpp|python|wav", "Write a program too that runs the net of --step.")
]


@dataclass(frozen=True)
class ModelArguments:
    """The model, and the sizes of its dimensions."""

    file: Annotated[
        str | None, argument("FILE[:MODEL]", "A Python file with a @model; :MODEL names one of several.")
    ] = None
    cell: CellOption = None
    sizes: SizesOption = None

    def source(self) -> ModelSource:
        return named_model(self.file, self.cell)


@dataclass(frozen=True)
class WeightArguments:
    """The values of parameters: from a file, or drawn by a seed."""

    weights: WeightsOption = None
    seed: Annotated[int, seed_option("for the parameters, where --weights does not give them")] = 0


@dataclass(frozen=True)
class ComparisonWeights(WeightArguments):
    """The values of parameters in a comparison, whose inputs are drawn by the same seed."""

    seed: Annotated[int, seed_option("for the inputs, and for the parameters, where --weights does not give them")] = 0


@dataclass(frozen=True)
class TargetArguments:
    """The target, and the backend with its own options."""

    backend: BackendOption = None
    choices: Annotated[
        list[str] | None, advanced("-O --backend-option NAME=VALUE", "Set an option of the backend. Repeatable.")
    ] = None
    target: TargetOption = None

    def chosen_backend(self) -> Backend:
        """Return the backend, by default the target's, with its options. Raises :class:`BackendError` for bad ones."""
        backend = lstmc.backend.backend_for(self.backend, self.target)
        if not self.choices:
            return backend
        if not backend.options:
            found = f"found {self.choices[0]!r}"
            raise BackendError(f"backend {backend.name} has no options of its own: expected no -O, {found}")
        values: dict[str, str] = {}
        for text in self.choices:
            key, equals, value = text.partition("=")
            if not equals or key not in backend.options:
                listed, near = ", ".join(backend.options), did_you_mean(key, backend.options)
                raise BackendError(
                    f"-O takes NAME=VALUE, for backend {backend.name} with one of {listed}, found {text!r}{near}"
                )
            values[key] = value
        return backend.with_options(values)

    def of_net(self, net: Path) -> TargetArguments:
        """Return these arguments, with the backend and target of a net's manifest if none is given."""
        if not net.is_file():
            raise BackendError(f"{net}: no such file: expected a net that lstmc wrote, as NAME.prototxt or NAME.onnx")
        path = lstmc.manifest.manifest_path(net)
        if self.backend is not None or self.target is not None or not path.is_file():
            return self  # the comparison reports a missing manifest
        manifest = lstmc.manifest.read_manifest(path)
        return replace(self, backend=manifest.backend, target=manifest.target)


@dataclass(frozen=True)
class VariantArguments:
    """The part of a model that is compiled, and the form of its net."""

    step: StepOption = False
    outputs: OutputsOption = None
    form: FormOption = None
    time: TimeOption = None
    tuned: Annotated[
        bool, advanced("--tune", "Measure every variant of the net in this machine's Caffe, and use the fastest.")
    ] = False


@dataclass(frozen=True)
class CheckArguments:
    """A comparison: its runtimes, its inputs from a file, parameters by their fillers, and the proof."""

    on: PlacesOption = None
    inputs: Annotated[
        Path | None, option("--inputs FILE", "Feed these arrays (.npz or HDF5), by the inputs' names; draw the others.")
    ] = None
    fillers: Annotated[bool, advanced("--fillers", "Draw the parameters by their own initializers.")] = False
    prove: ProveOption = False
    net: Annotated[
        Path | None,
        option("--net FILE", "Compare this written net, its weights and its other files with the model, and run them."),
    ] = None


@dataclass(frozen=True)
class WorkerArguments:
    """The processes that work: of a Dask scheduler, or of this machine."""

    scheduler: Annotated[
        str | None,
        advanced(
            "--scheduler ADDRESS",
            "Use the Dask scheduler at this address, as tcp://10.0.0.1:8786. Default: this machine.",
        ),
    ] = None
    workers: Annotated[
        int | None, option("--workers INT", "Start this number of processes. Default: one a core.", parser=whole_from_0)
    ] = None


@dataclass(frozen=True)
class TrainingArguments:
    """A training: sizes and options of the model, its solver, order of the examples, device, target and files."""

    sizes: SizesOption = None
    options: Annotated[
        list[str] | None, option("--set NAME=VALUE", "Set an option of the model, as --set cell=gru. Repeatable.")
    ] = None
    epochs: Annotated[
        float | None,
        option(
            "--epochs NUMBER",
            "Train until every example was seen this often, instead of --solver max_iter=INT.",
            parser=number_from_0,
        ),
    ] = None
    solver: SolverOption = None
    seed: Annotated[int, seed_option("for the initial parameters, and for the order of examples")] = 0
    batch: BatchOption = None
    no_shuffle: Annotated[bool, option("--no-shuffle", "Keep the order of the examples.")] = False
    gpu: GpuOption = False
    target: TargetOption = None
    backend: BackendOption = None
    overwrite: OverwriteOption = False
    tensorboard: TensorboardOption = False

    def training_options(self, **test: Any) -> TrainingOptions:
        """Return the options of training, with the test data."""
        no_fields = ("options", "no_shuffle", "overwrite", "tensorboard")
        own = {name: value for name, value in vars(self).items() if name not in no_fields}
        own |= {"sizes": parse_sizes(self.sizes or []), "shuffle": not self.no_shuffle}
        return lstmc.api.TrainingOptions(**own, **test)


def compile_options(
    target: TargetArguments, sizes: list[str] | None, /, *groups: WeightArguments | VariantArguments, **others: Any
) -> CompileOptions:
    """Return the options of compiling from groups of arguments, and from ``others`` by name."""
    values = {name: value for group in groups for name, value in asdict(group).items()}
    backend = {} if "backend" in others else {"backend": target.chosen_backend()}
    return lstmc.api.CompileOptions(
        **{"target": target.target, **backend, "sizes": parse_sizes(sizes or []), **values, **others}
    )
