"""The options that several commands share, and the names that a shell completes them with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import lstmc
from lstmc.cli.commands import one_line
from lstmc.cli.console import err
from lstmc.errors import BackendError, DimError, LstmcError, ModelFileError
from lstmc.plugins import library_names
from lstmc.text import did_you_mean

if TYPE_CHECKING:
    import lstmc.verification
    from lstmc.api import Phase
    from lstmc.api.models import ModelSource
    from lstmc.backend import Backend


def complete_cells(incomplete: str) -> Iterator[str]:
    """Complete ``--cell``: cells of the library and of packages."""
    return _beginning(library_names(), incomplete)


def complete_backends(incomplete: str) -> Iterator[str]:
    """Complete ``--backend``."""
    return _beginning(lstmc.backend.find_backends(), incomplete)


def complete_targets(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete ``--target``: targets of the backend before it, each with its purpose."""
    with suppress(LstmcError):
        purposes = _backend(context).targets
        yield from ((name, one_line(purposes[name])) for name in _beginning(purposes, incomplete))


def complete_forms(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete ``--form``: forms of the target before it, or of the backend's first target."""
    with suppress(LstmcError):
        backend = _backend(context)
        target = context.params.get("target") or next(iter(backend.targets))
        yield from _beginning(backend.forms(target), incomplete)


def complete_passes(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete ``--after``: passes of the target."""
    with suppress(LstmcError):
        names = lstmc.api.pass_names(context.params.get("target"), _backend(context), context.params.get("form"))
        yield from _beginning(names, incomplete)


def complete_places(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Complete ``--on``: what runs in this process, and the runtimes of the backend."""
    with suppress(LstmcError):
        own = [executor.name for executor in _backend(context).executors()]
        yield from _beginning([*lstmc.api.running.IN_PROCESS, *own], incomplete)


def _backend(context: typer.Context) -> Backend:
    return lstmc.backend.backend_for(context.params.get("backend"), context.params.get("target"))


def _beginning(names: Iterable[str], incomplete: str) -> Iterator[str]:
    yield from (name for name in names if name.startswith(incomplete))


Number = TypeVar("Number", int, float)


def parse_sizes(texts: list[str]) -> dict[str, int]:
    """Parse sizes from texts as ``["T=3", "N=10"]``. Raises :class:`DimError` for others, and over 19 digits."""
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
    """Return the value of an option that counts. Raises :class:`typer.BadParameter`."""
    return _at_least_0(lstmc.text.whole, "an integer", text)


def number_from_0(text: object) -> float:
    """Return the value of an option that measures. Raises :class:`typer.BadParameter`."""
    return _at_least_0(lstmc.text.number, "a number", text)


def _at_least_0(read: Callable[[str], Number | None], kind: str, text: object) -> Number:
    value = read(str(text))
    if value is None or value < 0:
        raise typer.BadParameter(f"expected {kind} from 0 on, found {str(text)!r}")
    return value


def chosen_backend(name: str | None, target: str | None, options: list[str] | None) -> Backend:
    """Return a backend, with options of its own; without a name the one that has the target.

    Raises :class:`BackendError` for an option that it does not have.
    """
    backend = lstmc.backend.backend_for(name, target)
    if not options:
        return backend
    if not backend.options:
        raise BackendError(f"backend {backend.name} has no options of its own: expected no -O, found {options[0]!r}")
    values: dict[str, str] = {}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals or key not in backend.options:
            listed, near = ", ".join(backend.options), did_you_mean(key, backend.options)
            raise BackendError(
                f"-O takes NAME=VALUE, for backend {backend.name} with one of {listed}, found {text!r}{near}"
            )
        values[key] = value
    return backend.with_options(values)


def named_model(file: str | None, cell: str | None) -> ModelSource:
    """Return the model of FILE[:MODEL] or of ``--cell NAME``, exactly one of which is expected."""
    if file is not None and cell is None:
        return lstmc.api.models.model_in(file)
    if cell is not None and file is None:
        return lstmc.api.models.ModelSource.from_model(cell)
    count = "neither" if file is None else "both"
    raise ModelFileError(f"expected a model file, FILE or FILE:MODEL, or --cell NAME, found {count}")


def say_which_cells(model: ModelSource, options: Iterable[Mapping[str, str]]) -> None:
    """Print which cell is used where a name is that of a cell in the model's file and of an installed one."""
    for name in dict.fromkeys(name for texts in options for name in model.shadowed(texts)):
        file = model.name.rpartition(":")[0]
        err.print(f"cell {name} is that of {file}, not the installed one", markup=False, soft_wrap=True)


ADVANCED = "Advanced"  # the panel of the options that few people need

FileArgument = Annotated[
    str | None, typer.Argument(metavar="FILE[:MODEL]", help="A Python file with a @model; :MODEL names one of several.")
]
CellOption = Annotated[
    str | None,
    typer.Option(
        "--cell", metavar="NAME", help="Take this library cell instead of a file.", autocompletion=complete_cells
    ),
]
LossModelArgument = Annotated[
    str, typer.Argument(metavar="FILE[:MODEL]", help="A Python file with a @model that returns a loss.")
]
TrainingDataOption = Annotated[
    Path, typer.Option("--data", metavar="DATA", help="Train on these arrays (.npz or HDF5), by the inputs' names.")
]
TestSplitOption = Annotated[
    float | None,
    typer.Option(
        "--test-split", metavar="PART", help="Test on this part of --data instead, as 0.2.", parser=number_from_0
    ),
]
SizesOption = Annotated[
    list[str] | None, typer.Option("-D", "--dim", metavar="NAME=INT", help="Set the size of a dimension. Repeatable.")
]
ModelOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set an option of the model, as --set cell=gru. Repeatable."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the Dask scheduler at this address, as tcp://10.0.0.1:8786. Default: this machine.",
        rich_help_panel=ADVANCED,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="INT", help="Start this number of processes. Default: one a core.", parser=whole_from_0
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Take the parameters from an .npz file, by the model's names, or from a net that lstmc wrote or trained.",
    ),
]
PlacesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--on",
        metavar="RUNTIME",
        help="Run the net in interpreter, native, caffe-cpu, caffe-gpu, onnx-cpu, opencv or another runtime that"
        " `lstmc doctor` lists. Repeatable. Default: the interpreter and all of the backend that are available.",
        autocompletion=complete_places,
    ),
]
ProveOption = Annotated[
    bool,
    typer.Option(
        "--prove", help="Prove the compiled graph equal to the model too, for all real inputs at these sizes."
    ),
]


def _seed(text: str) -> Any:
    return typer.Option("--seed", metavar="INT", help=f"Random seed {text}.", parser=whole_from_0)


ParametersSeed = Annotated[int, _seed("for the parameters, where --weights does not give them")]
ComparisonSeed = Annotated[int, _seed("for the inputs, and for the parameters, where --weights does not give them")]
TrainingSeed = Annotated[int, _seed("for the initial parameters, and for the order of examples")]
InputsSeed = Annotated[int, _seed("for the inputs of the comparisons")]
TextSeed = Annotated[int, _seed("for the symbols that are drawn")]


class PhaseChoice(Enum):
    """The part of a model that is meant; see ``lstmc.api.Phase``."""

    DEPLOY = "deploy"
    TRAIN = "train"
    ALL = "all"

    @property
    def phase(self) -> Phase:
        return self.value


AfterOption = Annotated[
    str | None,
    typer.Option(
        "--after",
        metavar="PASS",
        help="Stop after this pass: its name, cse:2 for its second run, or its number.",
        autocompletion=complete_passes,
    ),
]
PhaseOption = Annotated[
    PhaseChoice | None,
    typer.Option(
        "--phase",
        help="Take the model without its losses (deploy), what they need (train), or all. Default: all as written,"
        " deploy after a pass.",
        rich_help_panel=ADVANCED,
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="Write for caffe, onnx or another backend of `lstmc targets`. Default: the target's.",
        autocompletion=complete_backends,
    ),
]
ChoicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "-O",
        "--backend-option",
        metavar="NAME=VALUE",
        help="Set an option of the backend. Repeatable.",
        rich_help_panel=ADVANCED,
    ),
]
WriterOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="Read the net by this backend. Default: the one that wrote it.",
        autocompletion=complete_backends,
        rich_help_panel=ADVANCED,
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="Write for this target, as opencv or rknn; `lstmc targets` lists them.",
        autocompletion=complete_targets,
    ),
]
SolverOption = Annotated[
    list[str] | None,
    typer.Option("--solver", metavar="KEY=VALUE", help="Set a parameter of the optimizer, Caffe's solver. Repeatable."),
]
BatchOption = Annotated[
    str | None,
    typer.Option(
        "--batch", metavar="NAME", help="Name the dimension that counts examples. Default: N.", rich_help_panel=ADVANCED
    ),
]
OutputsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep", metavar="NAME", help="Keep only this output. Repeatable. Default: all.", rich_help_panel=ADVANCED
    ),
]
TuneOption = Annotated[
    bool,
    typer.Option(
        "--tune",
        help="Measure every variant of the net in this machine's Caffe, and use the fastest.",
        rich_help_panel=ADVANCED,
    ),
]
FormOption = Annotated[
    str | None,
    typer.Option(
        "--form",
        metavar="NAME",
        help="Write another variant of the net, one that --tune lists.",
        autocompletion=complete_forms,
        rich_help_panel=ADVANCED,
    ),
]


class TimeChoice(Enum):
    """The form in which linear recurrences are computed; see ``lstmc.passes.Time``."""

    UNROLLED = "unrolled"
    CHUNKS = "chunks"
    DOUBLING = "doubling"
    PRODUCTS = "products"
    AUTO = "auto"


TimeOption = Annotated[
    TimeChoice | None,
    typer.Option(
        "--time",
        help="Compute linear recurrences step by step (unrolled), or for all steps at once: by chunks, by doubling,"
        " by products with powers of one matrix, or the cheapest (auto). Default: auto where the target's file has the"
        " cost of a layer, else unrolled.",
    ),
]
StepOption = Annotated[
    bool, typer.Option("--step", help="Write a net of one time step, with states as inputs and outputs, for streaming.")
]
EpochsOption = Annotated[
    float | None,
    typer.Option(
        "--epochs",
        metavar="NUMBER",
        help="Train until every example was seen this often, instead of --solver max_iter=INT.",
        parser=number_from_0,
    ),
]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files into the folder tensorboard of the run too.")
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Begin again in the folder, and move its earlier files into its folder previous/N."
    ),
]
GpuOption = Annotated[bool, typer.Option("--gpu", help="Run on a GPU instead of the CPU.")]
NetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="NET", help="A net that lstmc wrote, NAME.prototxt or NAME.onnx, its manifest and weights beside it."
    ),
]
TrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Take the parameters from this .caffemodel or .onnx. Default: from the file beside the net.",
    ),
]
ExampleOption = Annotated[
    str | None, typer.Option("--example", metavar="cpp|python", help="Write a program too that runs the net of --step.")
]
