"""Sequence indicators and carried states in Caffe's own layers: as in the model, and over several forward passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import Input, Value, dims, model, scan
from lstmc.backend import Compiled, load_backend, load_cell
from lstmc.differential import check
from lstmc.dsl import Model
from lstmc.interp import backward, forward
from lstmc.ops import Input as CoreInput
from lstmc.ops import IntegerRange
from lstmc.ops import Param as CoreParam
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner
from tests.backends.lstmc_caffe.recurrent.test_native_layers import elman
from tests.equivalence import assert_same_meaning, random_cotangents, random_leaves

BATCHES = Path(__file__).with_name("batches.py")
T, N, D, H = dims("T N D H")


@model
def lstm_cont(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X, cont=C)
    return {"y": y, "h_T": last["h"]}


@model
def rnn_cont(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(elman(H=H), X, cont=C)
    return {"y": y}


@model
def two_layers(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(load_cell("lstm")(H=H, name="one"), X, cont=C)
    z, _ = scan(load_cell("lstm")(H=2, name="two"), y, cont=C)
    return {"z": z}


@model
def lstm_carried(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(load_cell("lstm")(H=H), X, cont=C, carry=True)
    return {"y": y}


@model
def last_h_too(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=H), X, cont=C, carry=True)
    return {"y": y, "h": last["h"]}


@model
def rnn_carried(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    y, _ = scan(elman(H=H), X, cont=C, carry=True)
    return {"y": y}


@model
def without_cont(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, _ = scan(load_cell("lstm")(H=H), X, carry=True)
    return {"y": y}


@model
def one_of_two(X: Value = Input(T, N, 3), C: Value = Input(T, N)) -> dict[str, Value]:
    """The first layer is carried, the second starts anew."""
    y, _ = scan(load_cell("lstm")(H=H, name="one"), X, cont=C, carry=True)
    z, _ = scan(load_cell("lstm")(H=2, name="two"), y, cont=C)
    return {"z": z}


FRESH = {m.name: m for m in (lstm_cont, rnn_cont, two_layers)}
CARRIED = {m.name: m for m in (lstm_carried, last_h_too, rnn_carried, without_cont, one_of_two)}
SIZES = {"usual": (4, 2, 3), "one step": (1, 2, 3), "one sequence": (4, 1, 3), "one unit": (3, 2, 1), "all": (1, 1, 1)}
each_size = pytest.mark.parametrize("size", SIZES)


def compiled(made: Model, size: str = "usual", target: str = "caffe-native") -> Compiled:
    steps, batch, units = SIZES[size]
    return compile_graph(made.graph(T=steps, N=batch, H=units), load_backend("caffe"), target)


def layers(graph_of: Compiled) -> list[str]:
    return [n.op.layer_type for n in graph_of.expanded if isinstance(n.op, caffe.CaffeOp)]


def test_what_is_written() -> None:
    assert layers(compiled(lstm_carried)) == ["Input", "Input", "LSTM"]
    assert layers(compiled(without_cont)) == ["Input", "DummyData", "LSTM"]
    made = ["Input", "Input", "DummyData", "DummyData", "Concat", "Eltwise", "LSTM", "Slice", "Reshape"]
    assert layers(compiled(lstm_cont)) == made


@pytest.mark.parametrize("name", FRESH)
@each_size
def test_with_cont_the_layers_mean_the_model(name: str, size: str) -> None:
    built = compiled(FRESH[name], size)
    assert_same_meaning(built.model, built.expanded, rtol=1e-11)


@pytest.mark.parametrize("name", CARRIED)
@each_size
def test_with_carried_states_the_layers_mean_the_first_batch(name: str, size: str) -> None:
    built = compiled(CARRIED[name], size)
    inputs, params = random_leaves(built.model, CoreInput, -1, 1), random_leaves(built.model, CoreParam, -1, 1)
    carried = {n.name: n.op.after for n in built.model if isinstance(n.op, CoreInput) and n.op.after}
    inputs |= {n: np.zeros(inputs[n].shape) for n in carried}
    assert not carried.keys() & {node.name for node in built.expanded}
    assert [o.name for o in built.expanded.outputs] == [
        o.name for o in built.model.outputs if o.name not in carried.values()
    ]
    runs = [forward(graph, inputs, params) for graph in (built.model, built.expanded)]
    for output, value in runs[1].outputs.items():
        assert_allclose(value, runs[0].outputs[output], rtol=1e-12, atol=1e-12)
    wanted, found = (backward(run, random_cotangents(built.expanded)) for run in runs)
    for leaf, gradient in (found.inputs | found.params).items():
        assert_allclose(gradient, (wanted.inputs | wanted.params)[leaf], rtol=1e-11, atol=1e-11, err_msg=leaf)


@pytest.mark.caffe
@pytest.mark.parametrize("name", FRESH | CARRIED)
@each_size
def test_in_real_caffe(caffe: Runner, name: str, size: str) -> None:
    built = compiled((FRESH | CARRIED)[name], size)
    weights = initial_weights(built.model, 1)
    artifact = load_backend("caffe").emit(built, weights)
    report = check(built, artifact, weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [d for d in report.differences if not d.passed]


@pytest.mark.caffe
@pytest.mark.parametrize("name", FRESH | CARRIED)
def test_two_forward_passes(caffe: Runner, tmp_path: Path, name: str) -> None:
    """What the layer carries by itself is what a caller of the unrolled net carries, and the interpreter."""
    made = (FRESH | CARRIED)[name]
    outputs = [o.name for o in compiled(made).expanded.outputs]
    graph = compiled(made, target="caffe").model
    rng = np.random.default_rng(2)
    arrays = {"X": rng.normal(size=(2, 4, 2, 3)).astype(np.float32)}
    if "C" in graph:
        arrays["C"] = np.array([[[1, 1], [1, 1], [0, 1], [1, 1]], [[1, 0], [1, 1], [1, 0], [1, 1]]], np.float32)
    weights = initial_weights(graph, 1)
    found = {}
    for target in ("caffe", "caffe-native"):
        built = compiled(made, target=target)
        carried = {n.name: n.op.after for n in built.expanded if isinstance(n.op, CoreInput) and n.op.after}
        blobs = {o.name: built.expanded.value_name(o.ref) for o in built.expanded.outputs}
        for file, content in load_backend("caffe").emit(built, weights).files.items():
            (tmp_path / file).write_bytes(content)
        args = {
            "prototxt": str(tmp_path / f"{name}.prototxt"),
            "weights": str(tmp_path / f"{name}.caffemodel"),
            "batches": 2,
            "outputs": [blobs[output] for output in outputs],
            "carried": {before: blobs[after] for before, after in carried.items()},
        }
        read = caffe.call(BATCHES, "forward", args, arrays).arrays
        found[target] = {
            f"{output}/{batch}": read[f"{blobs[output]}/{batch}"] for output in outputs for batch in (0, 1)
        }
    state: dict[str, np.ndarray] = {}
    for batch in (0, 1):
        run = forward(graph, {n: a[batch] for n, a in arrays.items()} | state, weights).outputs
        state = {n.name: run[n.op.after] for n in graph if isinstance(n.op, CoreInput) and n.op.after}
        for output in outputs:
            for target, values in found.items():
                assert_allclose(
                    values[f"{output}/{batch}"], run[output], atol=1e-6, err_msg=f"{target} {output} {batch}"
                )


def test_inputs_keep_what_they_say() -> None:
    inputs = {n.name: n.op for n in compiled(lstm_carried, target="caffe").expanded if isinstance(n.op, CoreInput)}
    assert {name: (op.values, op.after) for name, op in inputs.items()} == {
        "X": (None, ""),
        "C": (IntegerRange(0, 1), ""),
        "lstm/h_0": (None, "lstm/h_T"),
        "lstm/c_0": (None, "lstm/c_T"),
    }
