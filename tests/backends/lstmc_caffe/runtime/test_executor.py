"""Caffe as an executor of the differential check: what it feeds, what it reads back, and when it says it cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstmc import Input, Param, concat, constant, linear, model, scan, tanh, uniform
from lstmc.backend import Execution, RunArrays
from lstmc.cells import lstm
from lstmc.dsl import Model
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.processes.process import CaffeError, CaffeLocation, GpuState
from lstmc_caffe.runtime import runner as running
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.locate import CaffeNotFound
from lstmc_caffe.runtime.runner import Runner

BACKEND = CaffeBackend()


def execute(
    caffe: Runner,
    of: Model,
    inputs: dict[str, Any],
    cotangents: dict[str, Any],
    weights: dict[str, Array] | None = None,
) -> Execution:
    graph = of.graph()
    weights = initial_weights(graph) if weights is None else weights
    compiled = compile_graph(graph, BACKEND)
    arrays = {name: np.asarray(array, np.float32) for name, array in inputs.items()}
    given = RunArrays(arrays, weights, cotangents)
    return CaffeExecutor(caffe, "cpu").run(compiled, BACKEND.emit(compiled, weights), given)


@pytest.mark.caffe
def test_gradients_enter_at_blobs_that_other_layers_read(caffe: Runner) -> None:
    @model
    def net(x=Input(2, 3)):
        a = tanh(x)
        return {"a": a, "b": a * a}

    x = np.linspace(-1, 1, 6).reshape(2, 3)
    da, db = np.full((2, 3), 0.5), np.full((2, 3), 2.0)
    found = execute(caffe, net, {"x": x}, {"a": da, "b": db})
    a = np.tanh(x)
    assert_allclose(found.values["a"], a, rtol=1e-6)
    assert_allclose(found.input_gradients["x"], (da + 2 * db * a) * (1 - a * a), rtol=1e-5)


@pytest.mark.caffe
def test_gradients_of_two_outputs_that_are_one_blob_add_up(caffe: Runner) -> None:
    @model
    def net(x=Input(2)):
        a = 3 * x
        return {"a": a, "b": a}

    found = execute(caffe, net, {"x": [1, 2]}, {"a": np.array([1, 0]), "b": np.array([10, 100])})
    assert_array_equal(found.input_gradients["x"], [33, 300])


@pytest.mark.caffe
def test_gradients_of_packed_parameters_are_those_of_the_user_s(caffe: Runner) -> None:
    @model
    def net(x=Input(1, 2), A=Param(1, 2), B=Param(2, 2)):
        return {"y": linear(x, concat(A, B, axis=0))}

    weights = {"A": np.ones((1, 2), np.float32), "B": np.zeros((2, 2), np.float32)}
    found = execute(caffe, net, {"x": [[1, 10]]}, {"y": np.array([[1, 2, 3]])}, weights)
    assert_array_equal(found.param_gradients["A"], [[1, 10]])
    assert_array_equal(found.param_gradients["B"], [[2, 20], [3, 30]])
    assert found.param_gradients.keys() == {"A", "B"}


@pytest.mark.caffe
def test_an_input_with_a_fill_is_not_fed_but_read_back(caffe: Runner) -> None:
    @model
    def net(x=Input(2), c=Input(2, fill=constant(0.25)), r=Input(400, fill=uniform(2, 3))):
        return {"y": x + c, "z": r * 2}

    x = np.array([1, 2])
    runs = [execute(caffe, net, {"x": x, "c": [9, 9]}, {"y": x, "z": np.ones(400)}) for _ in range(2)]
    for run in runs:
        assert_array_equal(run.values["y"], [1.25, 2.25])
        assert_array_equal(run.values["z"], run.values["r"] * 2)
        assert np.all((run.values["r"] >= 2) & (run.values["r"] <= 3))
        assert_array_equal(run.input_gradients["c"], x)
    assert not np.array_equal(runs[0].values["r"], runs[1].values["r"])  # drawn anew


@pytest.mark.caffe
def test_every_blob_of_the_net_is_read_back_under_the_graph_s_name(caffe: Runner) -> None:
    @model
    def net(X=Input(3, 2, 5)):
        return scan(lstm(H=4, name="lstm"), X)[0]

    graph = net.graph()
    compiled = compile_graph(graph, BACKEND)
    found = execute(caffe, net, {"X": np.ones((3, 2, 5))}, {o.name: np.zeros((3, 2, 4)) for o in graph.outputs})
    made = {name for node in compiled.expanded if hasattr(node.op, "layer_type") for name in node.names}
    assert found.values.keys() == made
    assert {f"lstm/t{t:03d}/{state}" for t in range(3) for state in "hc"} <= made


def test_a_caffe_that_is_not_there_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    error = CaffeNotFound("no Python here has real Caffe", ())

    def nowhere() -> CaffeLocation:
        raise error

    monkeypatch.setattr(running, "locate", nowhere)
    with Runner() as runner:
        assert CaffeExecutor(runner, "cpu").unavailable() == str(error)


@pytest.mark.caffe
def test_a_caffe_that_is_there_is_available_on_the_cpu(caffe: Runner) -> None:
    executor = CaffeExecutor(caffe, "cpu")
    assert executor.name == "caffe-cpu"
    assert executor.unavailable() is None


def test_a_caffe_without_a_gpu_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "gpu_state", lambda location: GpuState(False, False, "Caffe was built without CUDA"))
    executor = CaffeExecutor(Runner(CaffeLocation(tmp_path / "python", None, None, "setting")), "gpu")
    assert executor.name == "caffe-gpu"
    assert executor.unavailable() == f"{tmp_path / 'python'}: Caffe was built without CUDA"


@pytest.mark.caffe
def test_closing_ends_the_worker() -> None:
    @model
    def net(x=Input(2)):
        return {"y": tanh(x)}

    with Runner() as runner:
        executor = CaffeExecutor(runner, "cpu")
        graph = net.graph()
        compiled = compile_graph(graph, BACKEND)
        executor.run(compiled, BACKEND.emit(compiled, {}), RunArrays({"x": np.ones(2)}, {}, {"y": np.ones(2)}))
        pid = runner.pid
        executor.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(CaffeError, match="this Runner is closed"):
            executor.run(compiled, BACKEND.emit(compiled, {}), RunArrays({"x": np.ones(2)}, {}, {"y": np.ones(2)}))


@pytest.mark.caffe
def test_an_input_of_another_shape_is_refused_by_name(caffe: Runner) -> None:
    @model
    def net(x=Input(2)):
        return {"y": tanh(x)}

    with pytest.raises(AssertionError, match=r"input x: \(3,\), not \(2,\)"):
        execute(caffe, net, {"x": np.ones(3)}, {"y": np.ones(2)})
