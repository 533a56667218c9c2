"""What a comparison cannot show is said: parameters without a gradient, models that are not finite or unstable."""

from __future__ import annotations

import re
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
    sqrt,
    step,
    tanh,
    uniform,
    xavier,
)
from lstmc.api.models import model_in
from lstmc.api.net import Net
from lstmc.cells import rnn
from lstmc.errors import DataError
from lstmc.interp import forward
from lstmc.ir import Builder, Node, parse_graph, print_graph
from lstmc.manifest import parse_manifest
from lstmc.ops import Input as InputOp
from lstmc.ops import IntegerRange, RealRange
from lstmc.passes import Refs, rewrite
from lstmc.verification.conditioning import first_not_finite, with_masks
from lstmc.verification.differential import POSITIVE, random_inputs
from lstmc.weights import parameters, random_weights
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
    assert found.remarks == ("gated/unused: its gradient is zero everywhere, so the comparison does not test it",)
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
    assert re.fullmatch(
        r"the model itself is not finite with these inputs and parameters: log at \S*test_soundness\.py:\d+,"
        r" step 1 of falling, is not finite: -inf where its operand is 0",
        remark,
    )


def test_a_logarithm_of_an_input_gets_positive_numbers() -> None:
    @model
    def loud(X: Any = Input(3, 4), gain: Any = Input(4, values=reals(-1, 0))) -> Any:
        return {"y": log(X) * gain}

    found = lstmc.compile(loud).verify(ON)
    assert found
    assert found.remarks == (POSITIVE,)

    @model
    def never(X: Any = Input(3, 4)) -> Any:
        return {"y": log(-1 - X * X)}

    found = lstmc.compile(never).verify(ON)
    assert not found
    assert "log at" in found.remarks[0]


def test_a_model_that_rounding_moves_is_called_ill_conditioned() -> None:
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
    assert found
    assert found.remarks[0].startswith("output y is ill-conditioned: rounding to float32 alone moves it by ")
    assert found.remarks[0].endswith(" in the model itself; this comparison says nothing about it")


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


def test_a_last_state_of_a_generated_layer_beside_a_dropout_is_compared() -> None:
    @model
    def beside(X: Any = Input(3, N, 4)) -> Any:
        _, last = scan(rnn(H=5), X)
        return {"y": dropout(X, 0.3), "h": last["h"]}

    assert lstmc.compile(beside, N=2, target="caffe-fused", phase="all").verify(ON)


@pytest.mark.caffe
def test_dropouts_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lstmc.compile(dropped, N=2, phase="all")
    wrong = net.artifact.files["dropped.prototxt"].replace(b"dropout_ratio: 0.3", b"dropout_ratio: 0.6")
    assert wrong != net.artifact.files["dropped.prototxt"]
    monkeypatch.setattr(
        type(net.backend),
        "emit",
        lambda self, compiled, weights, emit=net.backend.emit: _with(emit(compiled, weights)),
    )
    found = net.verify(["caffe-cpu"])
    assert found.reports[0].passed  # where nothing is dropped
    assert not found.reports[1].passed


def _with(artifact: Any) -> Any:
    files = dict(artifact.files)
    files["dropped.prototxt"] = files["dropped.prototxt"].replace(b"dropout_ratio: 0.3", b"dropout_ratio: 0.6")
    return lstmc.backend.Artifact(**{**artifact.__dict__, "files": files})


PLANTED = """from lstmc import *
N = dims("N")
@cell
def inner(x=Input(N, 2), h=State(N, 2), *, a=Param(2, fill=constant(1))):
    y = LINE
    return y, {"h": h + x}
@cell
def outer(x=Input(N, 2), h=State(N, 2)):
    y, last = inner()(x, h=h)
    return y, last
@model
def net(X=Input(4, N, 2)):
    y, last = scan(CELL(), X)
    return {"loss": sum(y)}
"""
CASES = [  # line 5; the first element of X at each step; what is not finite in step 2, and its value
    ("sqrt(1 - h * h)", [0, 1, -1, 0], "the gradient of sqrt", "inf where its operand is 0"),
    ("sqrt(h)", [0.5, -1, 0, 0], "sqrt", "nan where its operand is -0.5"),
    ("log(1 + h)", [0, -1, 0, 0], "log", "-inf where its operand is 0"),
    ("a / (1 - h)", [0, 1, 0, 0], "a / (1 - h)", "inf where its operand is 0"),
    ("exp(h)", [0, 90, 0, 0], "exp", "inf where its operand is 90"),
    ("h * a * 0 * exp(50 * h)", [1, 1, -1, 1], "exp", "inf where its operand is 100"),
    ("0 * sqrt(h + 1)", [1, -2, 1, 1], "the gradient of sqrt", "nan where its operand is 0"),
    ("h * 1e38 * (a * 1e10)", [0, 1, 0, 0], "h * 1e38 * (a * 1e10)", "inf"),
    ("sum(concat(h, h, axis=1) * 2e38, axis=1, keepdims=True) + h", [0, 1, -1, 0], "sum", "inf"),
]


@pytest.mark.parametrize(("line", "x", "what", "value"), CASES)
@pytest.mark.parametrize("scanned", ["inner", "outer"])
def test_the_first_value_that_is_not_finite_is_named_with_its_line_and_step(
    line: str, x: list[float], what: str, value: str, scanned: str, tmp_path: Path
) -> None:
    path = tmp_path / "planted.py"
    path.write_text(PLANTED.replace("LINE", line).replace("CELL", scanned))
    graph = model_in(str(path)).graph({"N": 2})
    X = np.zeros((4, 2, 2))
    X[:, 1, 0] = x
    weights = {name: np.ones(2) for name in parameters(graph)}
    found = str(first_not_finite(forward(graph, {"X": X}, weights, np.float32), {"loss": 1.0}))
    assert found == f"{what} at {path}:5, step 2 of {scanned}, is not finite: {value}"


NESTED = """\
graph net {
  %X: f32[2,3,1] = input()
  %s: f32[1] = input()
  %y, %l: f32[2,1], f32[1] = scan(%X, %s, length=2) {
    body outer {
      %x: f32[3,1] = arg()
      %s: f32[1] = arg(role='state')
      %z, %e: f32[3,1], f32[1] = scan(%x, %s, length=3, reverse=True) {
        body inner {
          %x: f32[1] = arg()
          %s: f32[1] = arg(role='state')
          %r: f32[1] = power(%x, exponent=0.5)
          %n: f32[1] = add(%s, %r)
          return %r, next s=%n
        }
      }
      return %e, next s=%e
    }
  }
  return y=%y, l=%l
}
"""


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (-1, "power, step 2 of inner, step 1 of outer, is not finite: nan where its operand is -1"),
        (0, "the gradient of power, step 2 of inner, step 1 of outer, is not finite: inf where its operand is 0"),
        (np.nan, "input X is not finite: nan"),
    ],
)
def test_a_step_of_a_scan_in_a_scan_is_named_by_both(element: float, said: str) -> None:
    X = np.ones((2, 3, 1))
    X[1, 2] = element
    run = forward(parse_graph(NESTED), {"X": X, "s": np.zeros(1)})
    assert str(first_not_finite(run, {"l": np.ones(1)})) == said


def test_an_infinite_constant_is_no_fault_where_nothing_makes_nan_of_it() -> None:
    text = """graph net {
  %X: f32[2] = input()
  %m: f32[2] = full(shape=(2), value=-1e999)
  %a: f32[2] = add(%X, %m)
  %e: f32[2] = exp(%a)
  OP
  return y=%y
}
"""
    run = forward(parse_graph(text.replace("OP", "%y: f32[2] = mul(%e, %X)")), {"X": -np.ones(2)})
    assert first_not_finite(run, {"y": np.ones(2)}) is None
    for op, said in (
        ("%y: f32[2] = log(%X)", "log is not finite: nan where its operand is -1"),
        ("%y: f32[2] = mul(%e, %m)", "mul is not finite: nan where its operands are 0 and -inf"),
    ):
        run = forward(parse_graph(text.replace("OP", op)), {"X": -np.ones(2)})
        assert str(first_not_finite(run, {"y": np.ones(2)})) == said


def test_verify_names_a_gradient_that_is_not_finite_and_an_overflow_of_float32(tmp_path: Path) -> None:
    @model
    def net(X: Any = Input(2), Z: Any = Input(2)) -> Any:
        return {"y": sqrt(X), "z": exp(Z)}

    found = lstmc.compile(net).verify(ON, inputs={"X": np.array([1.0, 0.0]), "Z": np.zeros(2)})
    assert [(gap.kind, gap.name) for gap in found.reports[0].not_compared] == [("gradient", "X")]
    assert re.fullmatch(
        r"the model's own gradients are not finite with these inputs and parameters: the gradient of sqrt at \S+:\d+"
        r" is not finite: -?inf where its operand is 0",
        found.remarks[0],
    )
    found = lstmc.compile(net).verify(ON, inputs={"X": np.ones(2), "Z": np.array([1.0, 100.0])})
    assert not found
    assert re.fullmatch(
        r"the model itself is not finite in float32, in which nets compute: exp at \S+:\d+ is not finite: inf"
        r" where its operand is 100",
        found.remarks[0],
    )


def test_values_are_held_to_their_own_rounding_where_gradients_alone_overflow() -> None:
    @model
    def net(X: Any = Input(2), S: Any = Input(2), Z: Any = Input(2), A: Any = Input(2)) -> Any:
        # a stopped gradient that overflows in float32 is none of the model's
        return {"y": X + S - S, "z": Z * A * A, "mask": 1e11 * step(Z)}

    ill = {"X": np.array([0.1, 0.3]), "S": np.full(2, 1e6)}
    verify = lstmc.compile(net).verify
    found = verify(ON, inputs={**ill, "Z": np.full(2, 1e-20), "A": np.full(2, 1e25)})
    assert found
    assert [(gap.kind, gap.name) for gap in found.reports[0].not_compared] == [("gradient", "Z")]
    assert "in float32, in which nets compute: the gradient of" in found.remarks[0]
    assert any(remark.startswith("output y is ill-conditioned") for remark in found.remarks)
    found = verify(ON, inputs={**ill, "Z": np.zeros(2), "A": np.ones(2)})
    assert found
    assert not found.reports[0].not_compared


@cell
def unread(x=Input(1, 2), h=State(1, 2), c=State(1, 2), *, W=Param(2, 2, fill=uniform(-1, 1))):
    linear(h, W)  # which nothing reads
    return dropout(c), {"h": x, "c": c}


def test_dropouts_are_compared_where_a_step_computes_what_nothing_reads() -> None:
    @model
    def net(X=Input(3, 1, 2), c0=Input(1, 2)):
        return {"y": scan(unread(name="A"), X, init={"c": c0})[0]}

    compiled = lstmc.compile(net, phase="all").compiled
    expanded, masks = with_masks(compiled.model)
    assert {mask.split("/")[1] for mask in masks} == {"t000", "t001", "t002"}
    inputs = {"X": np.ones((3, 1, 2)), "c0": np.ones((1, 2)), **masks}
    assert forward(expanded, inputs, {"A/W": np.ones((2, 2))}).outputs["y"].shape == (3, 1, 2)
