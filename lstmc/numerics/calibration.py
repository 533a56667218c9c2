"""Calibration of a reader's own quantiser: steps of real streams, each with the true states before it, in its form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from lstmc.backend import Artifact, Layer
from lstmc.errors import Argument, BackendError
from lstmc.files.arrays import npz_bytes
from lstmc.files.format import text_templates
from lstmc.ir import Ref
from lstmc.numerics.ranges import Ranges, ValueRange, elements_of
from lstmc.numerics.sequences import Sequences, StepRunner
from lstmc.ops import Array
from lstmc.process.status import report_activity
from lstmc.text import nearest_or_all

MOST_SEQUENCES = 16  # from which steps are taken
STEPS = "steps"  # the folder of files that have a step each
_RECIPES = text_templates(__package__, "recipes")


@dataclass(frozen=True)
class Samples:
    """Steps of a net: for each the blobs to feed, by their names in the net, in the net's order.

    ``net`` is what the names of its files begin with, ``ranges`` has the range of each blob.
    """

    net: str
    steps: Sequence[Mapping[str, Array]]
    ranges: Mapping[str, ValueRange]


@dataclass(frozen=True)
class Calibration:
    """A quantiser's form of calibration: the target of its nets, and its files from samples."""

    target: str
    files: Callable[[Samples], dict[str, bytes]]
    form: str | None = None


def take_samples(
    runner: StepRunner, artifact: Artifact, layers: Sequence[Layer], sequences: Sequences, ranges: Ranges, count: int
) -> Samples:
    """Return ``count`` steps, evenly spread over the data, of a net of one sequence.

    ``layers`` are those of the written net; its inputs are fed in their order.
    """
    graph = runner.graph
    named = {name: Ref(node.name, out) for node in graph for out, name in enumerate(node.names)}
    tops = [top for layer in layers if layer.type == "Input" for top in layer.tops if top in named]
    fed = {name: named[name] for name in (tops or runner.inputs)}
    chosen = np.unique(np.linspace(0, sequences.total - 1, min(MOST_SEQUENCES, sequences.total)).astype(int))
    places = np.unique(np.linspace(0, len(chosen) * sequences.steps - 1, count).astype(int))
    wanted, steps = set(map(int, places)), []
    for index, sequence in enumerate(map(int, chosen)):
        report_activity(f"steps of {graph.name}, {100 * index // len(chosen)} %")
        chunk = sequences.chunk(1)
        for start in range(0, sequences.steps, chunk):
            arrays = sequences.read(slice(sequence, sequence + 1), start, min(start + chunk, sequences.steps))
            for t in range(start, min(start + chunk, sequences.steps)):
                inputs = sequences.step(arrays, t - start)
                if t == 0:
                    runner.start(inputs)
                values = runner.step(inputs)
                if index * sequences.steps + t in wanted:
                    steps.append({name: values[ref] for name, ref in fed.items()})
    blobs = {top: graph.value_name(elements_of(graph, named[top])) for top in named}
    written = dict.fromkeys((*fed, *(top for layer in layers for top in layer.tops)))
    ranged = {top: ranges[blobs[top]] for top in written if blobs.get(top) in ranges.values}
    return Samples(artifact.net.partition(".")[0], steps, ranged)


def _rendered(recipe: str, samples: Samples) -> bytes:
    names = list(samples.steps[0])
    text: str = _RECIPES.get_template(f"{recipe}.py.j2").render(net=samples.net, inputs=names)
    return text.encode()


def _onnxruntime(samples: Samples) -> dict[str, bytes]:
    stacked = {name: np.stack([step[name] for step in samples.steps]) for name in samples.steps[0]}
    return {"calibration.npz": npz_bytes(stacked), "quantize.py": _rendered("onnxruntime", samples)}


def _npy(array: Array) -> bytes:
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()


def _rknn(samples: Samples) -> dict[str, bytes]:
    lines: list[str] = []
    files: dict[str, bytes] = {}
    for t, step in enumerate(samples.steps):
        paths = [f"{STEPS}/{t:04d}-{slot}.npy" for slot in range(len(step))]
        files |= {path: _npy(array) for path, array in zip(paths, step.values(), strict=True)}
        lines.append(" ".join(paths))
    return {"dataset.txt": "\n".join([*lines, ""]).encode(), "quantize.py": _rendered("rknn", samples), **files}


def _tpu_mlir(samples: Samples) -> dict[str, bytes]:
    files = {f"{STEPS}/{t:04d}.npz": npz_bytes(step) for t, step in enumerate(samples.steps)}
    lines = ["# op_name    threshold    min    max"]
    lines += [
        f"{blob} {each.magnitude:.7f} {each.least:.7f} {each.greatest:.7f}" for blob, each in samples.ranges.items()
    ]
    table = "\n".join([*lines, ""]).encode()
    return {"calibration_table.txt": table, "quantize.py": _rendered("tpu-mlir", samples), **files}


CALIBRATIONS: Mapping[str, Calibration] = {
    "onnxruntime": Calibration("onnx", _onnxruntime, "unrolled"),
    "rknn": Calibration("rknn", _rknn),
    "tpu-mlir": Calibration("tpu-mlir", _tpu_mlir),
}


def calibration_for(name: str) -> Calibration:
    """Return the form of a quantiser. Raises :class:`BackendError` for an unknown one."""
    if name not in CALIBRATIONS:
        argument, listed = Argument("quantiser", name), nearest_or_all(name, CALIBRATIONS, "available")
        raise BackendError(f"{argument}: unknown quantiser{listed}", arguments=(argument,))
    return CALIBRATIONS[name]
