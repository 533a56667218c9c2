"""Quantisers of readers: calibration by steps of real streams with true states; the quantised net in the reader."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from lstmc.backend import Artifact, Layer
from lstmc.errors import Argument, BackendError
from lstmc.files.arrays import npz_bytes, read_npz
from lstmc.files.templates import text_templates
from lstmc.ir import Ref
from lstmc.numerics.device import read_device
from lstmc.numerics.effects import OutputError, ReaderOutput
from lstmc.numerics.ranges import Ranges, ValueRange, elements_of
from lstmc.numerics.sequences import Sequences, StepRunner
from lstmc.ops import Array
from lstmc.process.status import report_activity
from lstmc.text import nearest_or_all

MOST_SEQUENCES = 16  # sequences from which steps are taken
PROGRAM = "quantize.py"
STEPS = "steps"  # the folder of files with one step each
_RECIPES = text_templates(__package__, "recipes")


@dataclass(frozen=True)
class Samples:
    """Steps of a net: for each step the blobs to feed, by their names in the net, in the net's order. ``net`` begins
    the names of its files; ``ranges`` has the range of each blob. ``states`` maps each blob that takes a state to the
    blob of its next value; ``reads`` maps each layer to the first blob that it reads."""

    net: str
    steps: Sequence[Mapping[str, Array]]
    ranges: Mapping[str, ValueRange]
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()  # blobs
    reads: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """The calibration of a quantiser: the target of its nets, its numbers, and its files made from samples."""

    target: str
    numbers: str
    files: Callable[[Samples], dict[str, bytes]]
    form: str | None = None


def take_samples(net: WrittenStep, sequences: Sequences, ranges: Ranges, count: int) -> Samples:
    """Return ``count`` steps of a net of one sequence, spread evenly over at most MOST_SEQUENCES sequences."""
    graph = net.runner.graph
    chosen = np.unique(np.linspace(0, sequences.total - 1, min(MOST_SEQUENCES, sequences.total)).astype(int))
    positions = set(np.linspace(0, len(chosen) * sequences.steps - 1, count).astype(int).tolist())
    streamed = enumerate(_steps(net.runner, sequences, list(map(int, chosen))))
    steps = [{name: values[ref] for name, ref in net.fed.items()} for at, values in streamed if at in positions]
    blobs = {top: graph.value_name(elements_of(graph, ref)) for top, ref in net.named.items()}
    written = dict.fromkeys((*net.fed, *(top for layer in net.layers for top in layer.tops)))
    ranged = {top: ranges[blobs[top]] for top in written if blobs.get(top) in ranges.values}
    reads = {layer.name: layer.bottoms[0] for layer in net.layers if layer.bottoms}
    return Samples(net.name, steps, ranged, net.states, list(dict.fromkeys(net.outputs.values())), reads)


def take_streams(net: WrittenStep, sequences: Sequences) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return what a net is fed over whole sequences, inputs [S, T, ...] and initial states [S, ...] by blob, and its
    exact outputs [S, T, ...] by name."""
    fed: dict[str, list[Array]] = {name: [] for name in net.fed}
    exact: dict[str, list[Array]] = {name: [] for name in net.outputs}
    for place, values in enumerate(_steps(net.runner, sequences, range(sequences.total))):
        for name, ref in net.fed.items():
            if name not in net.states or place % sequences.steps == 0:
                fed[name].append(values[ref])
        for name, rows in exact.items():
            rows.append(values[net.runner.after[name]])
    shape = (sequences.total, sequences.steps)
    stacked = {
        name: np.stack(rows) if name in net.states else np.reshape(rows, shape + rows[0].shape)
        for name, rows in fed.items()
    }
    return stacked, {name: np.reshape(rows, shape + rows[0].shape) for name, rows in exact.items()}


def _steps(runner: StepRunner, sequences: Sequences, chosen: Sequence[int]) -> Iterator[Mapping[Ref, Array]]:
    """Yield the values of a net of one sequence at every step of the ``chosen`` sequences, one after another."""
    for index, sequence in enumerate(chosen):
        report_activity(f"steps of {runner.graph.name}, {100 * index // len(chosen)} %")
        for t, inputs in sequences.stream(slice(sequence, sequence + 1)):
            if t == 0:
                runner.start(inputs)
            yield runner.step(inputs)


@dataclass(frozen=True)
class WrittenStep:
    """A net of one step and one sequence as it is written, and the same net in the interpreter (``runner``). ``fed``
    maps the blobs that the net takes, in the net's order, to their values in the graph, ``states`` each blob that takes
    a state to the blob of its next value, and ``outputs`` each output to its blob."""

    name: str
    files: Mapping[str, bytes]
    layers: Sequence[Layer]
    runner: StepRunner
    fed: Mapping[str, Ref]
    states: Mapping[str, str]
    outputs: Mapping[str, str]

    @classmethod
    def of(
        cls, artifact: Artifact, layers: Sequence[Layer], runner: StepRunner, places: Mapping[str, Sequence[str]]
    ) -> WrittenStep:
        """Return a backend's net; ``places`` has each value's blobs. Raises BackendError for an output in several."""
        graph = runner.graph
        named = graph.named()
        tops = [top for layer in layers if layer.type == "Input" for top in layer.tops if top in named]
        fed = {name: named[name] for name in (tops or runner.inputs)}
        for name, blobs in places.items():
            if name in runner.after and len(blobs) != 1:
                raise BackendError(f"{name} is in {len(blobs)} blobs: expected one")
        states = {places[pair.before][0]: places[pair.after][0] for pair in runner.states if places[pair.before]}
        outputs = {name: places[name][0] for name in runner.outputs}
        return cls(artifact.net.partition(".")[0], artifact.files, layers, runner, fed, states, outputs)

    @property
    def named(self) -> dict[str, Ref]:
        """The values of the graph by their names in the net."""
        return self.runner.graph.named()


def _rendered(recipe: str, samples: Samples, **more: object) -> bytes:
    """Return a quantiser's program, from its template ``recipe``."""
    names = {"net": samples.net, "inputs": list(samples.steps[0]), "outputs": list(samples.outputs)}
    template = _RECIPES.get_template(f"{recipe}.py.j2")
    text: str = template.render(states=dict(samples.states), **names, **more)
    return text.encode()


def _stacked(recipe: str, samples: Samples) -> dict[str, bytes]:
    stacked = {name: np.stack([step[name] for step in samples.steps]) for name in samples.steps[0]}
    return {"calibration.npz": npz_bytes(stacked), PROGRAM: _rendered(recipe, samples)}


def _npy(array: Array) -> bytes:
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()


def _rknn(samples: Samples) -> dict[str, bytes]:
    """Return RKNN's files: a .npy file for each blob of each step, a list of these files, and the program."""
    lines, files = list[str](), dict[str, bytes]()
    for t, step in enumerate(samples.steps):
        paths = [f"{STEPS}/{t:04d}-{slot}.npy" for slot in range(len(step))]
        files |= {path: _npy(array) for path, array in zip(paths, step.values(), strict=True)}
        lines.append(" ".join(paths))
    return {"dataset.txt": "\n".join([*lines, ""]).encode(), PROGRAM: _rendered("rknn", samples), **files}


def _tpu_mlir(samples: Samples) -> dict[str, bytes]:
    """Return TPU-MLIR's files: an .npz file for each step, a table of the blobs' ranges, and the program."""
    files = {f"{STEPS}/{t:04d}.npz": npz_bytes(step) for t, step in enumerate(samples.steps)}
    lines, least = ["# op_name    threshold    min    max"], read_device("tpu-mlir-int8").values.least
    lines += [
        " ".join([blob, *map(np.format_float_positional, (max(each.magnitude, least), each.least, each.greatest))])
        for blob, each in samples.ranges.items()  # positional: TPU-MLIR would read 1e-5 as 1
    ]
    table = "\n".join([*lines, ""]).encode()
    return {"calibration_table.txt": table, PROGRAM: _rendered("tpu-mlir", samples), **files}


def _ncnn(samples: Samples) -> dict[str, bytes]:
    ranges = {layer: samples.ranges[blob].magnitude for layer, blob in samples.reads.items() if blob in samples.ranges}
    return {PROGRAM: _rendered("ncnn", samples, ranges=ranges)}


CALIBRATIONS: Mapping[str, Calibration] = {
    "onnxruntime": Calibration("onnx", "onnxruntime-a8w8", partial(_stacked, "onnxruntime"), "unrolled"),
    "openvino": Calibration("onnx", "openvino-int8", partial(_stacked, "openvino"), "unrolled"),
    "mnn": Calibration("mnn", "mnn-int8", partial(_stacked, "mnn")),
    "ncnn": Calibration("ncnn", "ncnn-int8", _ncnn),
    "rknn": Calibration("rknn", "rknn-int8", _rknn),
    "tpu-mlir": Calibration("tpu-mlir", "tpu-mlir-int8", _tpu_mlir),
}


def calibration_for(name: str) -> Calibration:
    """Return the calibration of a quantiser. Raises :class:`BackendError` for an unknown quantiser."""
    if name not in CALIBRATIONS:
        argument, listed = Argument("quantiser", name), nearest_or_all(name, CALIBRATIONS, "available")
        raise BackendError(f"{argument}: unknown quantiser{listed}")
    return CALIBRATIONS[name]


READER_SEQUENCES = 4  # the most steps that a reader runs: some take a tenth of a second a step
LINES = 6  # the last lines of a failed program's output that are shown


def run_quantised(
    files: Mapping[str, bytes], interpreter: tuple[Path, Mapping[str, str]], options: Sequence[str],
    fed: Mapping[str, Array], title: str,
) -> dict[str, Array]:  # fmt: skip
    """Return the outputs [S, T, ...], by blob, of a net that its quantiser makes and that the reader runs. ``files``
    are those of a calibration, ``interpreter`` is from a backend's method of this name, ``fed`` from
    :func:`take_streams`. Raises :class:`BackendError` with the program's output if the program fails."""
    python, environment = interpreter
    with tempfile.TemporaryDirectory(prefix="lstmc-") as name:
        folder = Path(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
        (folder / "stream.npz").write_bytes(npz_bytes(fed))
        command = [str(python), "-u", PROGRAM, *options, "--stream", "stream.npz", "--streamed", "out.npz"]
        report_activity(f"quantising by {title}, and running it")
        ran = subprocess.run(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        if ran.returncode != 0 or not (folder / "out.npz").exists():
            lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
            raise BackendError(f"{title} does not quantise or run the net", notes=lines[-LINES:])
        return {name: np.asarray(array) for name, array in read_npz(folder / "out.npz", BackendError).items()}


def reader_outputs(
    given: Mapping[str, Array], exact: Mapping[str, Array], predicted: Mapping[str, float]
) -> tuple[ReaderOutput, ...]:
    """Return the errors of a reader's outputs ``given`` [S, T, ...] against ``exact``, with ``predicted`` errors."""
    compared = []
    for name, truth in exact.items():
        numbers = given[name].reshape(truth.shape).astype(np.float64)
        errors = np.abs(numbers - truth)
        size = float(np.sqrt((truth.astype(np.float64) ** 2).mean()))
        by_step = errors.mean(axis=(0, *range(2, errors.ndim)))
        other = (numbers.argmax(-1) != truth.argmax(-1)).mean(axis=(0, *range(2, errors.ndim - 1)))
        steps = (tuple(map(float, column)) for column in (by_step, other))
        error = OutputError(name, float(errors.mean()), float(errors.max()), size, *steps)
        compared.append(ReaderOutput(error, predicted[name], len(np.unique(numbers))))
    return tuple(compared)
