"""What a comparison cannot show is said: parameters without a gradient, models that are not finite or unstable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    cell,
    constant,
    dims,
    dropout,
    exp,
    gaussian,
    integers,
    linear,
    log,
    model,
    reals,
    relu,
    scan,
    softmax_loss,
    tanh,
    uniform,
    xavier,
)
from lstmc.api.net import Net
from lstmc.differential import random_inputs
from lstmc.errors import DataError
from lstmc.ir import Builder, Node, parse_graph, print_graph
from lstmc.manifest import parse_manifest
from lstmc.ops import Input as InputOp
from lstmc.ops import IntegerRange, RealRange
from lstmc.passes import Refs, rewrite
from lstmc.weights import random_weights
from lstmc_caffe.ops import DummyData, Scale

T, N, D, H = dims("T N D H")
ON = ["interpreter"]


@cell
def gated(
    x: Any = Input(N, D),
    dt: Any = Input(N, 1, values=reals(0.5, 4)),
    m: Any = Input(N, 1, values=integers(0, 1)),
    h: Any = State(N, H),
    *,
    W: Any = Param(H, D, fill=gaussian(0, 0.001)),
    p: Any = Param(H),
    tau: Any = Param(H, fill=constant(2)),
    rate: Any = Param(H, fill=uniform(0.5, 1)),
    kept: Any = Param(H, fill=constant(3), trained=False),
    mixed: Any = Param(2, fill=[1.0, 0.0]),
    unused: Any = Param(H),
) -> Any:
    h = m * tanh(linear(x, W) + p * h) * exp(-rate * dt / tau) + kept * h / 8 + mixed[0]
    return h, {"h": h + unused * 0}


def gated_net(**options: Any) -> Net:
    return lstmc.compile(gated, T=3, N=2, D=3, H=4, **options)


def test_parameters_are_drawn_so_that_none_is_zero_and_signs_are_what_they_were() -> None:
    drawn = random_weights(gated_net().compiled.model, 0)
    again = random_weights(gated_net().compiled.model, 0)
    assert all((again[name] == array).all() for name, array in drawn.items())
    assert (drawn["gated/p"] != 0).all()
    assert (drawn["gated/tau"] != 2).all()
    assert ((drawn["gated/tau"] > 1.39) & (drawn["gated/tau"] < 2.61)).all()
    assert ((drawn["gated/rate"] >= 0.5) & (drawn["gated/rate"] <= 1)).all()
    assert (drawn["gated/kept"] == 3).all()
    assert np.abs(drawn["gated/W"]).max() > 0.1
    assert drawn["gated/mixed"][0] > 0.69
    assert drawn["gated/mixed"][1] != 0
    assert any((random_weights(gated_net().compiled.model, 1)[name] != array).any() for name, array in drawn.items())


def test_inputs_are_such_as_they_say_and_so_wherever_they_come_from() -> None:
    found = random_inputs(gated_net().compiled, 0)
    assert ((found["dt"] >= 0.5) & (found["dt"] <= 4)).all()
    assert set(found["m"].ravel()) <= {0.0, 1.0}
    values = {n.name: n.op.values for n in gated_net().graph if isinstance(n.op, InputOp)}
    assert values == {"x": None, "dt": RealRange(0.5, 4.0), "m": IntegerRange(0, 1)}
    read = parse_manifest(gated_net().files["gated.manifest.json"]).inputs
    assert {name: place.values for name, place in read.items()} == values
    text = print_graph(gated_net().graph)
    assert print_graph(parse_graph(text)) == text
    assert "values=reals(0.5, 4.0)" in text


def test_parameters_without_a_gradient_are_named() -> None:
    found = gated_net().verify(ON)
    assert found
    assert found.remarks == (
        "gated/unused: its gradient is zero everywhere, so nothing here shows what it is used for",
    )
    assert str(found).splitlines()[-1] == found.remarks[0]


def test_weights_that_are_given_are_used_and_fillers_if_they_are_asked_for() -> None:
    zeros = {name: np.zeros_like(array) for name, array in gated_net().weights.items()}
    zeros["gated/kept"] += 3
    zeros["gated/tau"] += 1
    own = gated_net(weights=zeros).verify(ON)
    assert "gated/rate: its gradient" in "\n".join(own.remarks)  # W is zero, and so is all that rate multiplies
    without = "\n".join(gated_net().verify(ON, fillers=True).remarks)
    assert without == gated_net().verify(ON).remarks[0]


def test_mistakes_that_zeros_hide_are_found() -> None:
    @cell
    def peephole(x: Any = Input(N, D), h: Any = State(N, H), *, W: Any = Param(H, D, fill=xavier()), p: Any = Param(H)):
        h = tanh(linear(x, W) + p * h)
        return h, {"h": h}

    def without_peepholes(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scale) and node.op.learned:
            return b.add(DummyData(node.types[0].shape), names=node.names, steps=(node.step,))
        return None

    net = lstmc.compile(peephole, T=3, N=2, D=3, H=4)
    wrong = replace(net.compiled, expanded=rewrite(net.compiled.expanded, without_peepholes))
    assert wrong.expanded != net.compiled.expanded
    outputs = [
        all(d.passed for report in found.reports for d in report.differences if d.kind == "output")
        for found in (replace(net, compiled=wrong).verify(ON, fillers=fillers) for fillers in (True, False))
    ]
    assert outputs == [True, False]


def test_inputs_of_a_file_are_fed_and_the_others_drawn(tmp_path: Path) -> None:
    @model
    def logs(a: Any = Input(2, 3), b: Any = Input(2, 3)) -> Any:
        return log(a) * b

    path = tmp_path / "inputs.npz"
    np.savez(path, a=np.full((2, 3), 2.5))
    net = lstmc.compile(logs)
    assert net.verify(ON, inputs=path)
    assert net.verify(ON, inputs={"a": np.ones((2, 3), np.float32)})
    with pytest.raises(DataError) as refused:
        net.verify(ON, inputs={"a": np.ones((3, 3)), "c": np.ones(1)})
    assert str(refused.value) == (
        "DataError: the inputs do not fit logs\n  wrong shape: a must be [2, 3], found [3, 3]\n  extra: c [1]"
    )
    with pytest.raises(DataError) as refused:
        gated_net().verify(ON, inputs={"dt": np.zeros((3, 2, 1))})
    assert str(refused.value) == (
        "DataError: the inputs do not fit gated\n"
        "  outside: dt must be numbers from 0.5 to 4, has 6 of 6 elements that are not, the first at [0, 0, 0]: 0"
    )


def test_a_model_that_is_not_finite_is_called_so() -> None:
    @cell
    def falling(x: Any = Input(N, 2), h: Any = State(N, 2, fill=constant(1))) -> Any:
        return h, {"h": log(h) + x * 0}

    found = lstmc.compile(falling, T=4, N=1).verify(ON)
    assert not found
    (remark,) = found.remarks
    assert remark.startswith("the model itself is not finite with these inputs and parameters: log gives -inf in")
    assert " of step 1 of falling, made at " in remark


def test_a_model_that_rounding_moves_is_called_ill_conditioned() -> None:
    @model
    def cancelling(a: Any = Input(2, 3)) -> Any:
        return {"y": (1e6 + a) - 1e6 + 0 * a, "z": a}

    @cell
    def chaotic(x: Any = Input(N, 2), h: Any = State(N, 2)) -> Any:
        h = 3.9 * h * (1 - h)
        return h, {"h": h + 0 * x}

    net = lstmc.compile(chaotic, T=60, N=1)
    found = net.verify(ON, inputs={"x": np.zeros((60, 1, 2))})
    assert found  # zero stays zero

    @model
    def logistic(X: Any = Input(60, N, 2), h0: Any = Input(N, 2, values=reals(0.1, 0.9))) -> Any:
        return {"y": scan(chaotic(), X, init={"h": h0})[0]}

    found = lstmc.compile(logistic, N=1).verify(ON)
    assert not found
    assert found.remarks[0].startswith(
        "output y is ill-conditioned: rounding inputs and parameters to float32 alone moves it by "
    )
    assert lstmc.compile(cancelling).verify(ON) is not None


@model
def dropped(
    X: Any = Input(3, N, 4), label: Any = Input(N), W: Any = Param(3, 5, fill=xavier()), b: Any = Param(3)
) -> Any:
    @cell
    def noisy(x: Any = Input(N, D), h: Any = State(N, H), *, V: Any = Param(H, D), U: Any = Param(H, H)) -> Any:
        h = tanh(dropout(linear(x, V), 0.3) + linear(dropout(h + 1), U))
        return h, {"h": h}

    y, last = scan(noisy(H=5), X)
    scores = linear(dropout(relu(last["h"] + 0.3), 0.4), W, b)
    return {"y": y, "loss": softmax_loss(scores, label)}


@pytest.mark.caffe
def test_a_net_with_dropouts_is_run_as_training_runs_it_too() -> None:
    found = lstmc.compile(dropped, N=2, phase="all").verify(["caffe-cpu"])
    assert found, str(found)
    assert [report.executor for report in found.reports] == ["caffe-cpu", "caffe-cpu in training"]
    gradients = {d.name for d in found.reports[1].differences if d.kind == "gradient"}
    assert {"W", "b", "noisy/V", "noisy/U"} <= gradients


@pytest.mark.caffe
def test_dropouts_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lstmc.compile(dropped, N=2, phase="all")
    wrong = net.artifact.files["dropped.prototxt"].replace(b"dropout_ratio: 0.3", b"dropout_ratio: 0.6")
    assert wrong != net.artifact.files["dropped.prototxt"]
    monkeypatch.setattr(
        type(net.backend),
        "emit",
        lambda self, compiled, weights, emit=type(net.backend).emit: _with(emit(self, compiled, weights)),
    )
    found = net.verify(["caffe-cpu"])
    assert found.reports[0].passed  # where nothing is dropped
    assert not found.reports[1].passed


def _with(artifact: Any) -> Any:
    files = dict(artifact.files)
    files["dropped.prototxt"] = files["dropped.prototxt"].replace(b"dropout_ratio: 0.3", b"dropout_ratio: 0.6")
    return lstmc.backend.Artifact(**{**artifact.__dict__, "files": files})
