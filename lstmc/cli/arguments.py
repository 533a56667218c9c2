"""Groups of arguments that several commands share, as dataclasses, and their conversion to options of the library.

A command with a parameter of such a type has an argument or an option for each of its fields
(:func:`lstmc.cli.commands.typer_command`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import lstmc
from lstmc.cli.commands import advanced, argument, option
from lstmc.cli.options import (
    BackendOption,
    BatchOption,
    CellOption,
    FormOption,
    GpuOption,
    OutputsOption,
    PhaseChoice,
    PlacesOption,
    ProveOption,
    SizesOption,
    SolverOption,
    StepOption,
    TargetOption,
    TimeChoice,
    TimeOption,
    WeightsOption,
    chosen_backend,
    named_model,
    number_from_0,
    parse_sizes,
    seed_option,
    whole_from_0,
)
from lstmc.errors import BackendError

if TYPE_CHECKING:
    import lstmc.manifest
    from lstmc.api import CompileOptions, TrainingOptions
    from lstmc.api.models import ModelSource
    from lstmc.backend import Backend


@dataclass(frozen=True)
class ModelArguments:
    """The model, and the sizes of its dimensions."""

    file: Annotated[
        str | None, argument("FILE[:MODEL]", "A Python file with a @model; :MODEL names one of several.")
    ] = None
    cell: CellOption = None
    sizes: SizesOption = None

    def source(self) -> ModelSource:
        """Return the model; see :func:`~lstmc.cli.options.named_model`."""
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
        """Return the backend; see :func:`~lstmc.cli.options.chosen_backend`."""
        return chosen_backend(self.backend, self.target, self.choices)

    def of_net(self, net: Path) -> TargetArguments:
        """Return the backend and the target that a net's manifest names, where none is given."""
        if not net.is_file():
            raise BackendError(f"{net}: no such file: expected a net that lstmc wrote, as NAME.prototxt or NAME.onnx")
        path = lstmc.manifest.manifest_path(net)
        if self.backend is not None or self.target is not None or not path.is_file():
            return self  # a manifest that is not there is named by the comparison
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
class GraphArguments:
    """Options of ``show``: which part of a model is drawn or printed, and in which form of the net."""

    step: StepOption = False
    form: FormOption = None
    time: TimeOption = None
    phase: Annotated[
        PhaseChoice | None,
        advanced(
            "--phase",
            "Take the model without its losses (deploy), what they need (train), or all. Default: all as written,"
            " deploy after a pass.",
        ),
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
class SettingsArguments:
    """The sizes and options of the model in a training, and the settings of its solver."""

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


@dataclass(frozen=True)
class ExampleArguments:
    """The order of the examples, and their axis."""

    seed: Annotated[int, seed_option("for the initial parameters, and for the order of examples")] = 0
    batch: BatchOption = None
    no_shuffle: Annotated[bool, option("--no-shuffle", "Keep the order of the examples.")] = False


@dataclass(frozen=True)
class DeviceArguments:
    """The device and the target of a training."""

    gpu: GpuOption = False
    target: TargetOption = None
    backend: BackendOption = None


def compile_options(
    target: TargetArguments, sizes: list[str] | None, /, *groups: WeightArguments | VariantArguments, **others: Any
) -> CompileOptions:
    """Return the options of compiling that groups of arguments and ``others`` have."""
    values = {name: value for group in groups for name, value in asdict(group).items()}
    if isinstance(choice := others.get("time", values.get("time")), TimeChoice):
        others["time"] = choice.value
    backend = {} if "backend" in others else {"backend": target.chosen_backend()}
    return lstmc.api.CompileOptions(
        **{"target": target.target, **backend, "sizes": parse_sizes(sizes or []), **values, **others}
    )


def training_options(
    settings: SettingsArguments, examples: ExampleArguments, device: DeviceArguments, **test: Any
) -> TrainingOptions:
    """Return the options of training that groups of arguments have, with the test data."""
    return lstmc.api.TrainingOptions(
        **asdict(device),
        **test,
        sizes=parse_sizes(settings.sizes or []),
        epochs=settings.epochs,
        solver=settings.solver,
        seed=examples.seed,
        batch=examples.batch,
        shuffle=not examples.no_shuffle,
    )
