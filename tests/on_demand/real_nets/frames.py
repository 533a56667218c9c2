"""A published net of the zoo beside its source, over 100 frames: states carried, on each target of its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from lstmc import convert
from lstmc.api.converting import Conversion
from lstmc.importers import ImportedModel, import_file
from lstmc.importers.checks import to_source
from lstmc.importers.ir.values import OpenSize
from lstmc.importers.runtimes import OnnxRuntime
from lstmc.importers.zoo import PREFIX, Recipe
from lstmc.nets.session import RunsFiles
from lstmc.ops import Array

FRAMES = 100
CALLS = 5  # of a net of whole sequences, of 20 steps or more
PLACES = {"c": "c-cpu", "flat": "caffe-cpu", "onnx": "onnx-cpu", "tflite": "tflite-cpu"}
INDICES = 30  # integers are drawn below it: characters

Arrays = dict[str, Array]


@dataclass(frozen=True)
class Source:
    """What the source computes: inputs and outputs of each frame, or of each call, by the source's names."""

    model: ImportedModel
    inputs: Sequence[Arrays]
    outputs: Sequence[Arrays]
    layers: bool = False  # a stream through the layers of a state dict, which are a net of sequences

    @property
    def streams(self) -> bool:
        """Whether the frames are those of one stream."""
        return self.layers or bool(self.model.frames or self.model.net.states)

    def largest(self, name: str) -> float:
        """Return the largest magnitude of an output."""
        return float(max(np.abs(each[name]).max() for each in self.outputs))


def source_of(recipe: Recipe) -> Source:
    """Run a net's file on drawn frames, in ONNX Runtime or the framework that made it."""
    model = import_file(f"{PREFIX}{recipe.name}")
    if not isinstance(model.runtime, OnnxRuntime):
        return _of_runtime(model, recipe)
    session = onnx_session(recipe.path())
    kinds = {entry.name: entry.type for entry in session.get_inputs()}
    net = model.net
    shapes = {net.called[name]: tuple(shape) for name, shape in model.described.inputs.items()}
    states = {net.called[name]: net.called[after] for name, after in net.states.items() if after in net.called}
    outputs = [entry.name for entry in session.get_outputs()]

    def run(fed: Arrays) -> Arrays:
        return dict(zip(outputs, map(np.asarray, session.run(outputs, fed)), strict=True))

    axes = {net.called[name]: axis for name, axis in model.frames.items() if name in net.called}
    if axes:
        sizes = {entry.name: _at_length(entry.shape, axes.get(entry.name)) for entry in session.get_inputs()}
        whole = _drawn(sizes, kinds, 1) | {name: np.zeros(sizes[name], np.float32) for name in states}
        made = run(whole)
        return Source(model, [_at(whole, axes, t) for t in range(FRAMES)], [_at(made, axes, t) for t in range(FRAMES)])
    fed = {name: shape for name, shape in shapes.items() if name not in states}
    calls = [_drawn(fed, kinds, t) for t in range(FRAMES if states or model.timeless else CALLS)]
    state = {name: np.zeros(shapes[name], np.float32) for name in states}
    results = []
    for frame in calls:
        made = run(frame | state)
        state = {name: made[after] for name, after in states.items()}
        results.append({name: array for name, array in made.items() if name not in states.values()})
    return Source(model, calls, results)


def compiled(source: Source, recipe: Recipe, target: str, folder: Path) -> Conversion:
    """Convert the net for a target, with every check of ``convert``."""
    sizes = {} if source.streams else recipe.sizes
    done = convert(source.model, folder, target=target, on=[PLACES[target]], sizes=sizes, step=source.layers)
    assert done.passed
    return done


def error(source: Source, done: Conversion, target: str) -> float:
    """Return the largest difference of a net's outputs from its source's, as a part of an output's largest value."""
    net, gaps = source.model.net, list[float]()
    with _caller(source, done, PLACES[target]) as call:
        for frame, wanted in zip(source.inputs, source.outputs, strict=True):
            named = {name: frame[net.called[name]] for name in net.inputs if net.called.get(name) in frame}
            found = call({name: x.transpose(net.axes.get(name, range(x.ndim))) for name, x in named.items()})
            for name, array in found.items():
                if (told := net.called.get(name, name)) in wanted:
                    expected = wanted[told]
                    gap = np.abs(to_source(net, name, array).reshape(expected.shape) - expected).max()
                    gaps.append(float(gap) / source.largest(told))
    assert len(gaps) >= len(source.outputs)
    return max(gaps)


def onnx_session(path: Path, threads: int = 0) -> Any:
    """Return a silent session of a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _of_runtime(model: ImportedModel, recipe: Recipe) -> Source:
    """Run a model of Keras, or the layers of a state dict."""
    runtime, net = model.runtime, model.net
    assert runtime is not None
    stream = "c" in recipe.targets
    sizes = recipe.sizes | {"T": FRAMES} if stream else recipe.sizes
    sizes = {**sizes, **net.sizes}
    shapes = {
        name: [sizes[size.name] if isinstance(size, OpenSize) else size for size in shape]
        for name, shape in model.described.inputs.items()
    }
    calls = [_drawn(shapes, {}, t) for t in range(1 if stream else CALLS)]
    results = [runtime.run(call) for call in calls]
    if stream:  # of a state dict, whose sequences have time first
        calls = [{name: array[t : t + 1] for name, array in calls[0].items()} for t in range(FRAMES)]
        results = [{"Y": results[0]["Y"][t : t + 1]} for t in range(FRAMES)]
    named = [{net.called[name]: array for name, array in call.items()} for call in calls]
    return Source(model, named, [{net.called.get(n, n): a for n, a in made.items()} for made in results], stream)


@contextmanager
def _caller(source: Source, done: Conversion, place: str) -> Iterator[Any]:
    if source.streams:
        with done.net.stream(on=place) as step:
            yield step
        return
    backend = done.net.backend
    assert isinstance(backend, RunsFiles)
    (path,) = (path for path in done.paths if path.name == done.net.artifact.net)
    loaded = backend.opened(path, None, False)
    try:
        yield loaded.run
    finally:
        loaded.close()


def _drawn(shapes: Mapping[str, Sequence[int]], kinds: Mapping[str, str], seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    drawn: Arrays = {}
    for name, shape in shapes.items():
        if "int" in kinds.get(name, ""):
            drawn[name] = rng.integers(0, INDICES, shape)
        else:
            drawn[name] = rng.standard_normal(shape).astype(np.float32)
    return drawn


def _at_length(shape: Sequence[int | str], axis: int | None) -> list[int]:
    return [FRAMES if at == axis else size if isinstance(size, int) else 1 for at, size in enumerate(shape)]


def _at(arrays: Arrays, axes: Mapping[str, int], t: int) -> Arrays:
    return {name: array.take([t], axes[name]) for name, array in arrays.items() if name in axes}
