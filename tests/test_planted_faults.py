"""Wrong rules, planted in the pipeline: each is a difference that nothing excuses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    cell,
    concat,
    conv,
    dims,
    dropout,
    embed,
    euclidean_loss,
    exp,
    integers,
    linear,
    maximum,
    model,
    relu,
    scan,
    sigmoid,
    softmax,
    split,
    tanh,
    uniform,
)
from lstmc.api.net import Net
from lstmc.dsl import Model
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import (
    Add,
    Affine,
    Concat,
    Conv,
    Dropout,
    Embed,
    Full,
    Linear,
    Maximum,
    Mul,
    Relu,
    Sigmoid,
    Softmax,
    Split,
    StopGradient,
    Sub,
    Sum,
    Tanh,
    Transpose,
)
from lstmc.ops import Param as ParamOp
from lstmc.passes import Pass, PassResult, Refs, in_bodies, result, rewrite
from lstmc.verification.differential import InterpreterExecutor, check, check_training
from lstmc.verification.report import Report
from lstmc.weights import random_weights
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner

N, D, H = dims("N D H")
RANDOM = uniform(-1, 1)


@cell
def recurrent(
    x: Any = Input(N, D),
    h: Any = State(N, H),
    c: Any = State(N, H),
    *,
    W: Any = Param(4 * H, D, fill=RANDOM, lr_mult=2, decay_mult=0),
    U: Any = Param(4 * H, H, fill=RANDOM),
    b: Any = Param(4 * H, fill=RANDOM),
) -> Any:
    i, f, o, g = split(linear(x, W, b) + linear(h, U), 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@cell
def noisy(x: Any = Input(N, D), h: Any = State(N, D), *, U: Any = Param(D, D, fill=RANDOM)) -> Any:
    h = tanh(x + dropout(linear(h, U) + 1, 0.25))
    return h, {"h": h}


@model
def looped(X: Any = Input(4, 2, 3), h0: Any = Input(2, 3), c0: Any = Input(2, 3), W: Any = Param(2, 3, fill=RANDOM)):
    y, last = scan(recurrent(H=3), X, init={"h": h0, "c": c0})
    return {"y": y, "z": linear(last["h"], W)}


@model
def pointwise(X: Any = Input(3, 4), Y: Any = Input(3, 4)):
    left, right = split(X, 2, axis=1)
    gate = sigmoid(Y)
    return {
        "a": relu(X) - Y,
        "b": concat(2 * left, right, axis=1),
        "c": gate * X + (1 - gate) * Y,
        "d": maximum(X, Y),
    }


@model
def products(
    X: Any = Input(4, 4),
    ids: Any = Input(4, values=integers(0, 4)),
    W: Any = Param(4, 4, fill=RANDOM),
    V: Any = Param(4, 4, fill=RANDOM),
    b: Any = Param(4, fill=RANDOM),
    E: Any = Param(5, 4, fill=RANDOM),
):
    hidden = tanh(linear(X, W, b))
    return {"y": softmax(linear(hidden, V), axis=1), "e": embed(ids, E) + X, "s": X.sum(axis=1)}


@model
def image(X: Any = Input(2, 1, 4, 4), K: Any = Param(2, 1, 3, 3, fill=RANDOM)):
    return {"y": tanh(conv(X, K, pad=1))}


@model
def trained(X: Any = Input(3, 2, 4), label: Any = Input(2, 4)):
    _, last = scan(noisy(), X)
    return {"loss": euclidean_loss(last["h"], label)}


@model
def dropping(X: Any = Input(2, 4), label: Any = Input(2, 4), W: Any = Param(4, 4, fill=RANDOM)):
    return {"loss": euclidean_loss(dropout(linear(X, W), 0.5), label)}


def moved(kind: type[Any]) -> Visit:
    """A dropout of what it read before in place of what it reads now: of as many elements."""

    def change(b: Builder, node: Node, args: Refs) -> Refs | None:
        before = b.node(args[0].node)
        if type(before.op) is not kind:
            return None
        (value, *others) = b.args(before.name)
        dropped = b.add(node.op, value)
        return b.add(before.op, *dropped, *others, names=node.names, loc=node.loc)

    return of(Dropout, change)


Visit = Callable[[Builder, Node, Refs], Refs | None]


@dataclass(frozen=True)
class Planted(Pass):
    """1. what the visit finds => something else"""

    visit: Visit
    name = "planted"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, self.changed(graph, counts), counts)

    def changed(self, graph: Graph, counts: Counter[str]) -> Graph:
        def one(b: Builder, node: Node, args: Refs) -> Refs | None:
            made = self.visit(b, node, args)
            if made is not None:
                counts["planted"] += 1
            elif isinstance(node.op, Scan):
                scan = in_bodies(node.op, lambda body: self.changed(body, counts))
                return b.add(scan, *args, names=node.names, loc=node.loc)
            return made

        return rewrite(graph, one)


def of(kind: type[Any], change: Visit) -> Visit:
    """A change of the nodes of one class."""
    return lambda b, node, args: change(b, node, args) if type(node.op) is kind else None


def like(op: Any, b: Builder, node: Node, *args: Ref) -> Refs:
    """Another op in the place of a node."""
    return b.add(op, *args, names=node.names, loc=node.loc)


def after(*ops: Any) -> Visit:
    """The node, and these ops behind it."""

    def change(b: Builder, node: Node, args: Refs) -> Refs:
        (value,) = b.copy(node, args)
        for op in ops:
            (value,) = b.add(op, value)
        return (value,)

    return change


def with_gradient_times(scale: float) -> Visit:
    """The node's value y as ``scale y + (1 - scale) stop_gradient(y)``: only its gradient is another one."""

    def change(b: Builder, node: Node, args: Refs) -> Refs:
        (value,) = b.copy(node, args)
        (still,) = b.add(StopGradient(), value)
        return b.add(Add(), *b.add(Affine(scale, 0), value), *b.add(Affine(1 - scale, 0), still))

    return change


def operands(*slots: int) -> Visit:
    """The same op on its operands in another order, or on fewer of them."""
    return lambda b, node, args: b.copy(node, [args[slot] for slot in slots])


def pieces(*order: int) -> Visit:
    """A split's pieces in another order."""
    return lambda b, node, args: tuple(b.copy(node, args)[piece] for piece in order)


def another(**fields: Any) -> Visit:
    """The same op with other fields."""
    return lambda b, node, args: b.copy(node, args, replace(node.op, **fields))


def steps_late(b: Builder, node: Node, args: Refs) -> Refs:
    """A scan that reads each step of its sequence one step late, and the last one first."""
    first, last = b.add(Split(0, (node.op.length - 1, 1)), args[0])
    return b.copy(node, [*b.add(Concat(0), last, first), *args[1:]])


def states_from_zero(b: Builder, node: Node, args: Refs) -> Refs:
    """A scan whose first states are zeros, whatever was given."""
    zero = [b.add(Full(b.type(arg).shape, 0.0))[0] for arg in args]
    return b.copy(node, [zero[i] if node.op.role(i) == "state" else arg for i, arg in enumerate(args)])


def other_state(b: Builder, node: Node, args: Refs) -> Refs:
    """A scan whose last states are each other's."""
    y, h, c = b.copy(node, args)
    return y, c, h


def states_swapped_at_each_step(b: Builder, node: Node, args: Refs) -> Refs:
    """A scan whose next states are each other's."""
    body, rebuild = node.op.body, Rebuild(node.op.body)
    for each in body:
        rebuild.copy(each)
    y, h, c = body.outputs
    swapped = rebuild.finish([y, h._replace(ref=c.ref), c._replace(ref=h.ref)])
    return like(replace(node.op, body=swapped), b, node, *args)


def the_other_weight(b: Builder, node: Node, args: Refs) -> Refs | None:
    """The second product on the first one's weights."""
    return b.copy(node, [args[0], Ref("W")]) if args[1] == Ref("V") else None


def of_param(name: str, **fields: Any) -> Visit:
    return of(ParamOp, lambda b, node, args: another(**fields)(b, node, args) if node.name == name else None)


FAULTS: dict[str, tuple[Model, Visit]] = {
    "a relu is dropped": (pointwise, of(Relu, lambda b, node, args: args)),
    "halves are swapped": (pointwise, of(Split, pieces(1, 0))),
    "a difference has the wrong sign": (pointwise, of(Sub, operands(1, 0))),
    "a complement is dropped": (pointwise, of(Affine, lambda b, node, args: args if node.op.shift == 1 else None)),
    "a maximum is its first operand": (pointwise, of(Maximum, lambda b, node, args: args[:1])),
    "pieces are joined in another order": (pointwise, of(Concat, operands(1, 0))),
    "a function is another one": (looped, of(Tanh, lambda b, node, args: like(Sigmoid(), b, node, *args))),
    "a value is 1% larger": (looped, of(Tanh, after(Affine(1.01, 0.0)))),
    "a value is off by a thousandth": (products, of(Tanh, after(Affine(1.0, 1e-3)))),
    "gates are in another order": (looped, of(Split, pieces(1, 0, 2, 3))),
    "a bias is missing": (looped, of(Linear, lambda b, n, args: b.copy(n, args[:2]) if len(args) == 3 else None)),
    "a term of a sum is dropped": (looped, of(Add, lambda b, node, args: args[:1])),
    "a sequence is one step late": (looped, of(Scan, steps_late)),
    "a sequence is read backwards": (looped, of(Scan, another(reverse=True))),
    "states begin at zero": (looped, of(Scan, states_from_zero)),
    "last states are each other's": (looped, of(Scan, other_state)),
    "states are swapped at each step": (looped, of(Scan, states_swapped_at_each_step)),
    "a factor is dropped": (looped, of(Mul, lambda b, node, args: args[1:])),
    "a weight is transposed": (
        products,
        of(Linear, lambda b, n, args: b.copy(n, [args[0], *b.add(Transpose(0), args[1]), *args[2:]])),
    ),
    "an axis is another one": (products, of(Softmax, another(axis=0))),
    "a sum is along another axis": (products, of(Sum, another(axis=0))),
    "a weight is another one": (products, of(Linear, the_other_weight)),
    "rows of a table are one off": (
        products,
        of(
            Embed,
            lambda b, n, args: b.copy(n, [args[0], *b.add(Concat(0), *reversed(b.add(Split(0, (1, 4)), args[1])))]),
        ),
    ),
    "a kernel is turned": (
        image,
        of(Conv, lambda b, n, args: b.copy(n, [args[0], *b.add(Transpose(2), args[1])])),
    ),
    "a gradient is stopped": (products, of(Tanh, after(StopGradient()))),
    "a gradient is stopped between steps": (looped, of(Mul, after(StopGradient()))),
    "a gradient is doubled": (products, of(Tanh, with_gradient_times(2.0))),
    "a gradient has the wrong sign": (looped, of(Tanh, with_gradient_times(-1.0))),
    "a learning rate is another one": (looped, of_param("recurrent/W", lr_mult=1.0)),
    "a weight decay is another one": (looped, of_param("recurrent/W", decay_mult=1.0)),
    "a parameter is not trained": (products, of_param("W", lr_mult=0.0)),
    "a dropout is dropped": (trained, of(Dropout, lambda b, node, args: args)),
    "a dropout stands before the sum": (trained, moved(Affine)),
    "a dropout stands before the product": (dropping, moved(Linear)),
    "a dropout drops more": (trained, of(Dropout, another(ratio=0.5))),
}


COMPUTES_ANOTHER = "in float64: the net as written computes something else than the model"


def net_with(fault: str) -> Net:
    wrong, visit = FAULTS[fault]
    return lstmc.compile(wrong, passes=lambda passes: [Planted(visit), *passes], phase="all")


@pytest.mark.parametrize("of_model", {wrong.name: wrong for wrong, _ in FAULTS.values()}.values(), ids=lambda m: m.name)
def test_without_a_fault_all_agrees(of_model: Model) -> None:
    found = lstmc.compile(of_model, phase="all").verify(["interpreter"])
    assert found, str(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_a_difference_that_nothing_excuses(fault: str) -> None:
    net = net_with(fault)
    assert net.compiled.history[1].counts["planted"] > 0
    found = net.verify(["interpreter"])
    assert not found, "nothing differs"
    assert all(COMPUTES_ANOTHER in remark for remark in found.remarks), found.remarks
    outputs = {d.name for d in found.reports[0].differences if d.kind == "output" and not d.passed}
    assert {remark.split(" is off by ")[0] for remark in found.remarks} == {f"output {name}" for name in outputs}


def test_a_delay_that_a_pass_drops_is_a_difference() -> None:
    @model(delays={"y": 2})
    def late(X: Any = Input(4, 3)) -> Any:
        return {"y": relu(X)}

    class Forgets(Pass):
        """1. an output that is late => one that is not"""

        name = "forgets"

        def run(self, graph: Graph) -> PassResult:
            rebuild = Rebuild(graph)
            for node in graph:
                rebuild.copy(node)
            graph = rebuild.finish([output._replace(delay=0) for output in graph.outputs])
            return PassResult(graph, True, {"forget": 1})

    found = lstmc.compile(late, passes=lambda passes: [Forgets(), *passes]).verify(["interpreter"])
    assert [d.name for d in found.reports[0].differences if not d.passed] == ["delay of y"]
    assert lstmc.compile(late).verify(["interpreter"])


def test_a_wrong_rule_is_said_with_the_first_value_that_it_spoils() -> None:
    @model
    def behind(X: Any = Input(3, 4)):
        a = tanh(X)
        b = relu(a)
        return {"y": b * a}

    wrong = Planted(of(Relu, lambda b, node, args: like(Sigmoid(), b, node, *args)))
    found = lstmc.compile(behind, passes=lambda passes: [wrong, *passes]).verify(["interpreter"])
    (remark,) = found.remarks
    assert re.fullmatch(
        r"output y is off by \de[+-]\d\d in the interpreter too, in float64: the net as written computes something else"
        r" than the model; the first value that differs is b, of relu: see the rule or pass that writes relu",
        remark,
    )


def test_a_wrong_rule_in_a_cell_is_said_with_the_step_that_it_spoils_first() -> None:
    @cell
    def step(x: Any = Input(3, 4), h: Any = State(3, 4)):
        a = tanh(x + h)
        b = relu(a)
        return b * a, {"h": b}

    @model
    def looped(X: Any = Input(2, 3, 4)):
        return {"y": scan(step(), X)[0]}

    wrong = Planted(of(Relu, lambda b, node, args: like(Sigmoid(), b, node, *args)))
    found = lstmc.compile(looped, passes=lambda passes: [wrong, *passes]).verify(["interpreter"])
    (remark,) = found.remarks
    assert remark.endswith(
        "; the first value that differs is step/t000/h, of relu: see the rule or pass that writes relu"
    )


def test_rounding_excuses_no_more_than_it_moves() -> None:
    @model
    def cancelling(X: Any = Input(3, 4)):
        return {"y": (relu(X) + 1000) - 1000}

    def compiled(visit: Visit | None) -> Net:
        def passes(listed: list[Pass]) -> list[Pass]:
            kept = [step for step in listed if step.name != "simplify"]  # which joins the two shifts
            return kept if visit is None else [Planted(visit), *kept]

        return lstmc.compile(cancelling, passes=passes)

    right, wrong = compiled(None).verify(["interpreter"]), compiled(of(Relu, FAULTS["a relu is dropped"][1]))
    assert right
    assert right.remarks[0].startswith("output y is ill-conditioned: rounding to float32 alone moves it by ")
    found = wrong.verify(["interpreter"])
    assert {("output", "y"), ("gradient", "X")} <= {
        (d.kind, d.name) for d in found.reports[0].differences if not d.passed
    }
    remarks = [remark for remark in found.remarks if not remark.startswith("blob y is")]  # y itself is rounded so
    assert all(COMPUTES_ANOTHER in remark for remark in remarks), remarks


@model
def small(x: Any = Input(1, 6), h: Any = Input(1, 6), U: Any = Param(6, 6, fill=RANDOM)):
    return {"y": tanh(x / 4 + linear(h, U) / 4)}


@pytest.mark.parametrize(
    ("backend", "target", "on"),
    [*((backend, None, "interpreter") for backend in ("caffe", "onnx", "torch", "c")), ("caffe", "opencv", "opencv")],
)
def test_a_fault_for_large_operands_alone_is_found_by_larger_inputs(backend: str, target: str | None, on: str) -> None:
    """A tanh that is a straight line beyond 1.5."""

    def clipped(b: Builder, node: Node, args: Refs) -> Refs:
        above = b.add(Relu(), *b.add(Affine(1, -1.5), *args))
        return b.add(Add(), *b.copy(node, args), *b.add(Affine(0.1, 0), *above))

    wrong = lstmc.compile(
        small, backend=backend, target=target, passes=lambda passes: [Planted(of(Tanh, clipped)), *passes]
    )
    weights = random_weights(wrong.compiled.model, 0)
    assert check(wrong.compiled, wrong.artifact, weights, InterpreterExecutor()).passed, "it shows without them"
    found = wrong.verify([on])
    failed = [d.name for d in found.reports[0].differences if not d.passed]
    assert "y, of inputs x 8" in failed
    assert all("of inputs x 8" in name for name in failed)
    assert COMPUTES_ANOTHER in found.remarks[0]


def test_a_fault_for_large_operands_alone_in_the_c_that_is_written_is_found() -> None:
    made = lstmc.compile(small, backend="c")
    text = made.files["small.c"].decode()
    planted = text.replace("= tanh_(add_x_U);", "= add_x_U > 1.5f ? 0.9f : tanh_(add_x_U);")
    assert planted != text
    wrong = replace(made, artifact=replace(made.artifact, files={**made.files, "small.c": planted.encode()}))
    assert made.verify(["c-cpu"], fillers=True)
    (report,) = wrong.verify(["c-cpu"], fillers=True).reports
    assert [d.name for d in report.differences if not d.passed] == ["y, of inputs x 8", "y, of inputs x 8"]


def test_larger_inputs_with_which_a_model_is_not_finite_are_not_compared() -> None:
    @model
    def growing(x: Any = Input(2, 3)):
        return {"y": exp(exp(x + 2))}

    found = lstmc.compile(growing).verify(["interpreter"])
    assert found
    assert found.remarks[-1].startswith("inputs 8 times as large were not compared: the model itself is not finite")


def in_caffe(net: Net, caffe: Runner) -> list[Report]:
    weights = random_weights(net.compiled.model, 0)
    artifact, executor = net.backend.emit(net.compiled, weights), CaffeExecutor(caffe, "cpu")
    checks = [check, check_training] if net.compiled.name in (trained.name, dropping.name) else [check]
    return [each(net.compiled, artifact, weights, executor) for each in checks]


def test_real_caffe_shows_the_same_faults(caffe: Runner) -> None:
    silent, excused = [], []
    for fault in FAULTS:
        reports = in_caffe(net_with(fault), caffe)
        if all(report.passed for report in reports):
            silent.append(fault)
        remarks = [remark for report in reports for remark in report.remarks]
        excused += [(fault, remark) for remark in remarks if COMPUTES_ANOTHER not in remark]
    assert (silent, excused) == ([], [])
    for wrong in {wrong.name: wrong for wrong, _ in FAULTS.values()}.values():
        assert all(report.passed for report in in_caffe(lstmc.compile(wrong, phase="all"), caffe))
