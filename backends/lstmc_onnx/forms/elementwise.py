"""Ops on each element alone, and of two arrays, as ONNX's operators."""

from __future__ import annotations

from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Cos,
    Dropout,
    Elu,
    Exp,
    LeakyRelu,
    Log,
    Maximum,
    Mul,
    Positive,
    Power,
    Precomputed,
    Relu,
    Round,
    Sigmoid,
    Sin,
    Softplus,
    StopGradient,
    Sub,
    Tanh,
)
from lstmc_onnx.packages import onnx
from lstmc_onnx.writer import Call, Writer

# Ops that are an operator, with attributes that are fields of ours.
OPERATORS = {
    Sigmoid: ("Sigmoid", {}),
    Tanh: ("Tanh", {}),
    Relu: ("Relu", {}),
    LeakyRelu: ("LeakyRelu", {"alpha": "slope"}),
    Elu: ("Elu", {"alpha": "alpha"}),
    Softplus: ("Softplus", {}),
    Abs: ("Abs", {}),
    Exp: ("Exp", {}),
    Log: ("Log", {}),
    Sin: ("Sin", {}),
    Cos: ("Cos", {}),
    Add: ("Add", {}),
    Sub: ("Sub", {}),
    Mul: ("Mul", {}),
    Maximum: ("Max", {}),
    Dropout: ("Identity", {}),
    StopGradient: ("Identity", {}),
    Precomputed: ("Identity", {}),
    Round: ("Round", {}),
}


def operator(w: Writer, call: Call) -> None:
    kind, fields = OPERATORS[type(call.op)]
    w.add(kind, call.args, call.results, **{name: getattr(call.op, field) for name, field in fields.items()})


def power(w: Writer, call: Call) -> None:
    assert isinstance(call.op, Power)
    w.add("Pow", (*call.args, w.scalar(call.op.exponent)), call.results)


def affine(w: Writer, call: Call) -> None:
    op, x = call.op, call.args[0]
    assert isinstance(op, Affine)
    if op.shift == 0:
        w.add("Mul", (x, w.scalar(op.scale)), call.results)
        return
    if op.scale == -1:
        w.add("Sub", (w.scalar(op.shift), x), call.results)
        return
    if op.scale != 1:
        (x,) = w.add("Mul", (x, w.scalar(op.scale)), f"{call.results[0]}/scaled")
    w.add("Add", (x, w.scalar(op.shift)), call.results)


def positive(w: Writer, call: Call) -> None:
    (above,) = w.add("Greater", (*call.args, w.scalar(0.0)), f"{call.results[0]}/above")
    w.add("Cast", (above,), call.results, to=onnx().TensorProto.FLOAT)


FORMS = {**dict.fromkeys(OPERATORS, operator), Power: power, Affine: affine, Positive: positive}
