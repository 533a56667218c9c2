"""``lstmc run``: a written net in real Caffe, by its files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lstmc_plugin_example.backend import TextBackend
from numpy.testing import assert_allclose, assert_array_equal

import lstmc as lstmc_module
from lstmc.api.models import model_in
from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.errors import DataError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.prepare import one_step
from lstmc.weights import initial_weights
from tests.cli.conftest import LSTMC

TARGETS = ("caffe", "flat", "noslice", "caffe-native", "caffe-fused")
SIZES = {"T": 3, "N": 2, "D": 3, "H": 4}
GIVEN = [word for name, size in SIZES.items() for word in ("-D", f"{name}={size}")]

FILLED = """\
from lstmc import Input, constant, dims, model, scan
from lstmc.cells import lstm

T, N = dims("T N")


@model
def net(X=Input(T, N, 3), h0=Input(N, 4, fill=constant(0.5)), c0=Input(N, 4)):
    y, last = scan(lstm(H=4), X, init={"h": h0, "c": c0})
    return {"Y": y, "c_T": last["c"]}
"""


LABELLED = """\
from lstmc import Input, Param, dims, linear, model, scan, softmax, softmax_loss
from lstmc.cells import gru

T, N = dims("T N")


@model
def net(X=Input(T, N, 2), label=Input(N), V=Param(3, 4)):
    _, last = scan(gru(H=4), X)
    scores = linear(last["h"], V)
    return {"p": softmax(scores), "loss": softmax_loss(scores, label)}
"""

INDEXED = """\
from lstmc import Input, Param, embed, model, scan, xavier
from lstmc.cells import lstm


@model
def net(ids=Input(3, 2), cont=Input(3, 2), *, E=Param(6, 4, fill=xavier())):
    y, _ = scan(lstm(H=4), embed(ids, E), cont=cont)
    return {"y": y}
"""


def graph_of(cell: str) -> Graph:
    return CellModel(load_cell(cell)).graph(**SIZES)


def random_inputs(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes}


def read(path: str) -> dict[str, Any]:
    with np.load(path) as found:
        return dict(found)


@pytest.mark.caffe
@pytest.mark.parametrize("target", TARGETS)
def test_a_net_of_every_target_gives_what_its_model_means(lstmc: LSTMC, caffe: object, target: str) -> None:
    read_only = ("--keep", "y") if target == "caffe-native" else ()  # its layer's last states cannot be read
    assert lstmc("compile", "--cell", "lstm", *GIVEN, "--target", target, "--seed", "5", *read_only).code == 0
    inputs = random_inputs(("x", (3, 2, 3)))
    np.savez("x.npz", **inputs)
    ended = lstmc("run", "lstm.prototxt", "--inputs", "x.npz", "-o", "made/out.npz")
    assert (ended.code, ended.err) == (0, "")
    graph = graph_of("lstm")
    wanted, found = forward(graph, inputs, initial_weights(graph, 5)).outputs, read("made/out.npz")
    assert list(found) == (["y"] if read_only else list(wanted))
    for name, array in found.items():
        assert array.shape == wanted[name].shape
        assert_allclose(array, wanted[name], rtol=0, atol=1e-6)
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["output", "shape", "min", "mean", "max"]
    figures = [f"{figure:.6g}" for figure in (found["y"].min(), found["y"].mean(), found["y"].max())]
    assert rows[1] == ["y", "3", "x", "2", "x", "4", *figures]
    assert ended.out.endswith("wrote made/out.npz\n")


@pytest.mark.caffe
@pytest.mark.parametrize("target", TARGETS[:3])  # Caffe's own layers take no first states
def test_a_net_of_one_step(lstmc: LSTMC, caffe: object, target: str) -> None:
    assert lstmc("compile", "--cell", "lstm", *GIVEN, "--target", target, "--step").code == 0
    graph = graph_of("lstm")
    step = one_step(graph).graph
    shapes = [
        (node.name, step.node(node.name).types[0].shape) for node in step if node.name in ("x",) or "_in" in node.name
    ]
    inputs = random_inputs(*shapes)
    np.savez("x.npz", **inputs)
    ended = lstmc("run", "lstm.prototxt", "--inputs", "x.npz", "-o", "out.npz")
    assert (ended.code, ended.err) == (0, "")
    for name, array in forward(step, inputs, initial_weights(graph)).outputs.items():
        assert_allclose(read("out.npz")[name], array, rtol=0, atol=1e-6)


@pytest.mark.caffe
@pytest.mark.parametrize("target", TARGETS[:3])
def test_an_input_with_a_fill_need_not_be_given(lstmc: LSTMC, caffe: object, target: str) -> None:
    Path("net.py").write_text(FILLED)
    assert lstmc("compile", "net.py", "-D", "T=3", "-D", "N=2", "--target", target).code == 0
    inputs = random_inputs(("X", (3, 2, 3)), ("c0", (2, 4)))
    np.savez("x.npz", **inputs)
    ended = lstmc("run", "net.prototxt", "--inputs", "x.npz", "-o", "out.npz")
    assert (ended.code, ended.err) == (0, "")
    described = json.loads(Path("net.manifest.json").read_text())
    assert described["inputs"]["h0"]["filled"] == (target == "caffe")
    if target != "caffe":
        np.savez("all.npz", **inputs, h0=np.full((2, 4), 0.5))
        assert lstmc("run", "net.prototxt", "--inputs", "all.npz", "-o", "same.npz").code == 0
        for name, array in read("same.npz").items():
            assert_array_equal(array, read("out.npz")[name])


@pytest.mark.caffe
def test_other_weights_and_hdf5(lstmc: LSTMC, caffe: object) -> None:
    for seed, folder in (("1", "a"), ("2", "b")):
        assert lstmc("compile", "--cell", "gru", *GIVEN, "--seed", seed, "-o", folder).code == 0
    inputs = random_inputs(("x", (3, 2, 3)))
    with h5py.File("x.h5", "w") as file:
        file["x"] = inputs["x"]
    ended = lstmc("run", "a/gru.prototxt", "--weights", "b/gru.caffemodel", "--inputs", "x.h5", "-o", "out.npz")
    assert (ended.code, ended.err) == (0, "")
    graph = graph_of("gru")
    wanted = forward(graph, inputs, initial_weights(graph, 2)).outputs["y"]
    assert_allclose(read("out.npz")["y"], wanted, rtol=0, atol=1e-6)


def test_more_examples_than_the_batch_are_for_a_file_of_any_size(lstmc: LSTMC) -> None:
    assert lstmc("compile", "--cell", "gru", *GIVEN).code == 0
    np.savez("more.npz", x=np.zeros((3, 5, 3)), label=np.zeros(5))
    ended = lstmc("run", "gru.prototxt", "--inputs", "more.npz", "-o", "out.npz")
    assert ended.code == 2
    assert ended.err.endswith(
        "  wrong shape: x must be [3, 2, 3], found [3, 5, 3]\n"
        "  extra: label [5]\n"
        "  any number of examples is run in batches with -o FILE.h5, or with folders: --inputs FOLDER -o FOLDER\n"
    )
    np.savez("wide.npz", x=np.zeros((3, 5, 4)))
    assert "any number of examples" not in lstmc("run", "gru.prototxt", "--inputs", "wide.npz").err


def test_a_label_is_named_as_an_input_of_training(lstmc: LSTMC) -> None:
    Path("net.py").write_text(LABELLED)
    assert lstmc("compile", "net.py", "-D", "T=3", "-D", "N=2", "-q").code == 0
    np.savez("data.npz", X=np.zeros((3, 2, 2)), label=np.zeros(2))
    why = "only losses and scores read it, which this net does not have: leave it out"
    for to in ("out.npz", "out.h5"):
        ended = lstmc("run", "net.prototxt", "--inputs", "data.npz", "-o", to)
        assert (ended.code, ended.err.splitlines()[1]) == (2, f"  extra: label [2]: {why}")
    net = lstmc_module.compile(model_in("net.py"), T=3, N=2)
    with pytest.raises(DataError, match=f"label.*{why}"):
        net.run(on="interpreter", **np.load("data.npz"))


def test_inputs_that_do_not_fit_are_all_named(lstmc: LSTMC) -> None:
    Path("net.py").write_text(FILLED)
    assert lstmc("compile", "net.py", "-D", "T=3", "-D", "N=2").code == 0
    bad = np.zeros((3, 2, 3))
    bad[1, 0, 2] = np.inf
    for given, text in (
        (
            {"x": np.zeros((3, 2, 3)), "h0": np.zeros((2, 4)), "c0": np.zeros((3, 4)), "other": np.zeros(2)},
            "  missing: X [3, 2, 3]\n"
            "  extra: x [3, 2, 3]: did you mean X?\n"
            "  extra: h0 [2, 4]: the net fills it\n"
            "  wrong shape: c0 must be [2, 4], found [3, 4]\n"
            "  extra: other [2]\n",
        ),
        (
            {"X": bad, "c0": np.array([["a"] * 4] * 2)},
            "  not finite: X has 1 of 18 elements NaN or infinite, the first at [1, 0, 2]\n"
            "  not numbers: c0 has dtype <U1\n",
        ),
    ):
        np.savez("x.npz", **given)
        ended = lstmc("run", "net.prototxt", "--inputs", "x.npz", "-o", "out.npz")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == "DataError: the inputs do not fit net.prototxt\n" + text
        assert not Path("out.npz").exists()


@pytest.mark.parametrize("target", ["caffe", "caffe-native"])
def test_elements_that_no_layer_reads_are_named_before_caffe_starts(lstmc: LSTMC, target: str) -> None:
    Path("net.py").write_text(INDEXED)
    assert lstmc("compile", "net.py", "--target", target).code == 0
    ids = np.array([[0, 1], [2, 6], [4, 5]])
    np.savez("x.npz", ids=ids, cont=np.ones((3, 2)) / 2)
    ended = lstmc("run", "net.prototxt", "--inputs", "x.npz")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "DataError: the inputs do not fit net.prototxt\n"
        "  outside: ids must be integers from 0 to 5, has 1 of 6 elements that are not, the first at [1, 1]: 6\n"
        "  outside: cont must be integers from 0 to 1, has 6 of 6 elements that are not,"
        " the first at [0, 0]: 0.5\n"
    )


def test_files_that_are_not_there(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("x.npz", x=np.zeros((3, 2, 3)))
    run = ("run", "gru.prototxt", "--inputs", "x.npz")

    def said(*arguments: str) -> str:
        ended = lstmc(*arguments)
        assert (ended.code, ended.out) == (2, "")
        return ended.err

    assert said(*run) == "ModelFileError: no such file: gru.prototxt\n"
    assert lstmc("compile", "--cell", "gru", *GIVEN).code == 0
    assert said(*run[:-1], "none.npz") == "DataError: none.npz: no such file\n"
    assert said(*run, "--weights", "none.caffemodel") == "BackendError: none.caffemodel: no such file\n"
    Path("gru.caffemodel").rename("other.caffemodel")
    assert said(*run) == "BackendError: gru.caffemodel: no such file: expected it beside the net\n"
    Path("gru.manifest.json").rename("other.json")
    assert said(*run) == "BackendError: gru.manifest.json: no such file: expected it beside the net\n"
    Path("gru.manifest.json").write_text("{}")
    Path("gru.caffemodel").write_bytes(b"")
    assert said(*run) == (
        "WeightsError: gru.manifest.json is not a manifest of format 1:"
        " expected an object with a value for format, found {}\n"
    )
    monkeypatch.setattr("lstmc.backend.base.load_backend", lambda name: TextBackend())
    assert said(*run) == "BackendError: backend text does not run nets: it has no opened\n"


@pytest.mark.caffe
def test_weights_of_another_net(lstmc: LSTMC, caffe: object) -> None:
    assert lstmc("compile", "--cell", "gru", *GIVEN).code == 0
    assert lstmc("compile", "--cell", "rnn", *GIVEN).code == 0
    np.savez("x.npz", x=np.zeros((3, 2, 3)))
    ended = lstmc("run", "gru.prototxt", "--inputs", "x.npz", "--weights", "rnn.caffemodel")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "WeightsError: rnn.caffemodel is not a caffemodel of this net\n  missing: blob 0 of layer"
    )
