"""Generated layers in real Caffe: forward and all gradients, other T and N, from files, step by step, and trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    cell,
    dims,
    dropout,
    linear,
    model,
    scan,
    sigmoid,
    softmax,
    softmax_loss,
    tanh,
    xavier,
)
from lstmc import sum as total
from lstmc.cells import gru, lstm
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.ops import Input as InputOp
from lstmc.ops import Param as ParamOp
from lstmc.pipeline import compile_graph
from lstmc.testing import random_leaves
from lstmc.verification.differential import check, check_training, random_arrays
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend, Solver
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import solver_text
from lstmc_caffe.write.artifact import layers_source, read_sources
from tests.backends.lstmc_caffe.train.solver_math import update
from tests.cells.scanned import cell_graph
from tests.loops.small_scans import (
    FIRST_PIECES,
    biases,
    both_states,
    gate,
    largest,
    new_state,
    residual,
    square,
    two_products,
    words,
)
from tests.random_models.models import seeded_model

pytestmark = pytest.mark.caffe

BACKEND = CaffeBackend()
TARGET = "caffe-fused"
RESHAPED, UPDATES = (Path(__file__).with_name(name) for name in ("reshaped.py", "updates.py"))
T, N, D, H = dims("T N D H")


def assert_right(caffe: Runner, graph: Graph) -> None:
    """Every output, blob and gradient in real Caffe, against the interpreter."""
    compiled = compile_graph(graph, BACKEND, TARGET)
    weights = initial_weights(graph)
    report = check(compiled, BACKEND.emit(compiled, weights), weights, CaffeExecutor(caffe, "cpu"), seed=1)
    assert report.passed, [d for d in report.differences if not d.passed]


@model
def everything(X=Input(T, N, 3), C=Input(T, N), L=Input(N), h0=Input(N, 4), c0=Param(4, fill=xavier())):
    """Three scans: states that are fed, learned and zero; both directions, cont, lengths, and no sequence at all."""
    y, last = scan(lstm(H=4), X, init={"h": h0, "c": c0}, cont=C)
    z, _ = scan(gru(H=3), y, reverse=True, lengths=L, name="back")
    w, _ = scan(gru(H=3), length=T, static={"x": last["c"]}, name="decoder")
    return {"y": y, "z": z, "w": w, "c": last["c"]}


@cell
def mixed(
    x=Input(N, D), h=State(N, H), k=Input(N, 5, D), *,
    W=Param(H, D, fill=xavier()), U=Param(H, H, fill=xavier()), p=Param(H, fill=xavier()),
):  # fmt: skip
    """Softmax over an axis, sums, a vector of parameters, and two products one after the other."""
    weight = softmax(total(k * x[:, None, :], axis=2) + total(h, axis=1)[:, None])
    seen = total(k * weight[:, :, None], axis=1)
    gate = sigmoid(linear(seen, W) + p * h)
    h = gate * h + (1 - gate) * tanh(linear(gate * h, U))
    return h, {"h": h}


@model
def attending(X=Input(T, N, 3), K=Input(N, 5, 3)):
    return {"y": scan(mixed(H=4), X, static={"k": K})[0]}


@model
def both_ways(X=Input(T, N, 3)):
    y, _ = scan(lstm(H=4), X)
    return {"y": scan(gru(H=3), y, reverse=True)[0]}


@pytest.mark.parametrize(
    "made",
    [
        everything,
        attending,
        *FIRST_PIECES,
        square,
        two_products,
        gate,
        words,
        new_state,
        both_states,
        residual,
        biases,
        largest,
    ],
    ids=lambda made: made.name,
)
def test_forward_and_all_gradients(caffe: Runner, made: lstmc.Model) -> None:
    assert_right(caffe, made.graph(T=5, N=3))


@pytest.mark.parametrize("name", ["lstm_peephole", "slstm", "lru"])
def test_cells_of_the_library(caffe: Runner, name: str) -> None:
    assert_right(caffe, cell_graph(name, (4, 3), reverse=name == "slstm"))


MORE = (
    *("attention_lstm", "bahdanau", "cfc", "gru_d", "gru_reset_after", "lmu", "lstm_projected", "ltc", "luong"),
    *("min_gru", "pointer", "qrnn"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_more_cells_of_the_library(caffe: Runner, name: str) -> None:
    assert_right(caffe, cell_graph(name, (4, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_models(caffe: Runner, seed: int) -> None:
    assert_right(caffe, seeded_model(seed).graph())


@cell
def dropping(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=xavier()), U=Param(H, H, fill=xavier())):
    """A state of which each step keeps some, and a sum that depends on it."""
    h = tanh(linear(x, W) + linear(dropout(h, 0.25), U))
    return dropout(h, 0.5), {"h": h}


@model
def kept_in_part(X=Input(T, N, 3)):
    return {"y": scan(dropping(H=4), X)[0], "back": scan(dropping(H=4), X, reverse=True, name="back")[0]}


def test_dropout_in_a_loop_draws_for_each_step(caffe: Runner) -> None:
    graph = kept_in_part.graph(T=40, N=6)
    compiled = compile_graph(graph, BACKEND, TARGET)
    weights = initial_weights(graph)
    artifact, executor = BACKEND.emit(compiled, weights), CaffeExecutor(caffe, "cpu")
    for report in (
        check(compiled, artifact, weights, executor, seed=1),
        check_training(compiled, artifact, weights, executor, seed=1),
    ):
        assert report.passed, [d for d in report.differences if not d.passed]
        assert {d.name for d in report.differences if d.kind == "output"} == {"y", "back"}
        assert {d.name for d in report.differences if d.kind == "gradient"} >= {*weights, "X"}
    execution = executor.run_training(compiled, artifact, random_arrays(compiled, weights, 1))
    masks = [
        execution.values[node.name] for node in compiled.expanded if "/mask" in node.name and "ones" not in node.name
    ]
    assert len(masks) == 2  # that of the output is done after the loop
    for mask in masks:
        assert np.unique(mask).tolist() == [0, np.float32(4 / 3)]
        assert not np.array_equal(mask[0], mask[1])
    assert not np.array_equal(*masks)


def test_other_lengths_and_batches_need_no_other_code(caffe: Runner, tmp_path: Path) -> None:
    graph, other = (both_ways.graph(T=steps, N=rows) for steps, rows in ((5, 3), (7, 2)))
    inputs, params = random_leaves(other, InputOp), random_leaves(other, ParamOp)
    sources = []
    for shaped in (graph, other):
        artifact = BACKEND.emit(compile_graph(shaped, BACKEND, TARGET), params)
        sources.append(read_sources(artifact.files)["both_ways"])
    assert sources[0] == sources[1]
    caffe.open_layers(sources[0])
    (tmp_path / "net.prototxt").write_bytes(artifact.files["both_ways.prototxt"])
    (tmp_path / "net.caffemodel").write_bytes(artifact.files["both_ways.caffemodel"])
    args = {"net": str(tmp_path / "net.prototxt"), "weights": str(tmp_path / "net.caffemodel"), "read": "y"}
    for steps, rows in ((7, 2), (5, 3), (1, 4), (90, 40)):
        sized = both_ways.graph(T=steps, N=rows)
        inputs = random_leaves(sized, InputOp)
        arrays = {name: array.astype(np.float32) for name, array in inputs.items()}
        found = caffe.call(RESHAPED, "run", args, arrays).arrays["y"]
        np.testing.assert_allclose(found, forward(sized, inputs, params).outputs["y"], rtol=1e-4, atol=1e-5)


def test_a_net_runs_from_its_files_and_step_by_step(tmp_path: Path) -> None:
    net = lstmc.compile("lstm", T=3, N=2, D=3, H=4, target=TARGET)
    net.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"lstm.prototxt", "lstm.layers.cpp", "lstm.layers.cu"}
    x = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    whole = lstmc.load(tmp_path / "lstm.prototxt").run(x=x)
    step = lstmc.compile("lstm", T=1, N=2, D=3, H=4, target=TARGET, step=True, weights=net.weights)
    step.save(tmp_path / "step")
    with lstmc.load(tmp_path / "step" / "lstm.prototxt").stream() as step_of:
        found = [step_of(x=x[t : t + 1])["y"] for t in range(3)]
    np.testing.assert_allclose(np.stack(found).reshape(whole["y"].shape), whole["y"], rtol=1e-5, atol=1e-6)


@model(solver=Solver(type="Adam", base_lr=0.01, max_iter=5, clip_gradients=5))
def classifier(X=Input(6, N, 4), label=Input(N), W=Param(3, 8, fill=xavier()), b=Param(3)):
    _, last = scan(lstm(H=8), X)
    scores = linear(last["h"], W, b)
    return {"prob": softmax(scores), "loss": softmax_loss(scores, label)}


def test_solver_steps_are_those_of_target_caffe(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {"X": rng.normal(size=(6, 20, 4)).astype(np.float32), "label": rng.integers(0, 3, 20).astype(np.float32)}
    runs = [lstmc.train(classifier, data, N=10, out=tmp_path / to, target=to) for to in ("caffe", TARGET)]
    for name, weights in runs[0].weights.items():
        np.testing.assert_allclose(runs[1].weights[name], weights, rtol=1e-4, atol=1e-6, err_msg=name)


@cell
def decaying(x=Input(N, 5), h=State(N, 5), W=Param(5, 5, lr_mult=2), b=Param(5)):
    h = tanh(linear(x, W, b) + h)
    return h, {"h": h}


@model
def decays(X=Input(2, 3, 5)):
    return {"y": scan(decaying(), X)[0]}


def test_updates_of_adam_are_those_of_its_formula(caffe: Runner, tmp_path: Path) -> None:
    compiled = compile_graph(decays.graph(), BACKEND, TARGET)
    params = initial_weights(decays.graph())
    artifact = BACKEND.emit(compiled, params)
    caffe.open_layers(layers_source(compiled.expanded))
    (tmp_path / "net.prototxt").write_bytes(artifact.files["decays.prototxt"])
    solver, count, prefix = Solver(type="Adam", base_lr=0.01, max_iter=9), 9, str(tmp_path / "kept")
    (tmp_path / "solver.prototxt").write_text(solver_text(solver, str(tmp_path / "net.prototxt"), prefix, "cpu"))
    rng = np.random.default_rng(0)
    given = {"0": rng.normal(size=(5, 5)), "1": rng.normal(size=5)}
    given |= {
        f"{i}|{j}": rng.normal(size=given[j].shape) * 10.0 ** rng.integers(-9, 9) for i in range(count) for j in "01"
    }
    given |= {f"{i}|1": given[f"{i}|1"] * [0, 1, 1, 1, 1] for i in range(count)}
    given = {name: array.astype(np.float32) for name, array in given.items()}
    args = {"solver": str(tmp_path / "solver.prototxt"), "prefix": prefix, "updates": count, "restored": 4}
    found = caffe.call(UPDATES, "run", args, given).arrays
    for j, rate in (("0", 0.02), ("1", 0.01)):
        wanted, kept = given[j].astype(float), (np.zeros(()), np.zeros(()))
        for i in range(count):
            change, kept = update(solver, i + 1, rate, given[f"{i}|{j}"].astype(float), *kept)
            wanted = wanted - change
            np.testing.assert_allclose(found[f"{i}|{j}"], wanted, rtol=2e-6, atol=1e-6, err_msg=f"{i}|{j}")
