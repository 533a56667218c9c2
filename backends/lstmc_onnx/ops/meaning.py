"""The meaning of ONNX's recurrent layers, as models in the core's own language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any, Protocol

import lstmc
from lstmc import Input, State, Value, cell, concat, linear, reshape, scan, split
from lstmc.dsl import Model
from lstmc.ir import Graph
from lstmc.ops import Types
from lstmc.ops.frameworks import functions_of
from lstmc.patterns import GRU_ORDERS, LSTM_ORDERS


class Layer(Protocol):
    """The fields and methods that all kinds of layers share."""

    name: str
    gates: int
    clip: float
    states: tuple[str, ...]

    @property
    def bias(self) -> bool: ...

    @property
    def lengths(self) -> bool: ...

    @property
    def initial(self) -> bool: ...

    @property
    def reversed_directions(self) -> tuple[bool, ...]: ...

    def roles(self) -> tuple[str, ...]: ...

    def direction_functions(self) -> Iterator[list[tuple[str, tuple[float, ...]]]]: ...


Function = Callable[[Value], Value]
GATES_FUNCTIONS = 2  # so many of the functions are of gates, which are clipped; an LSTM's third is of c
# By ONNX's names: how many numbers each takes, alpha and beta, and what it is of a value and these.
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Value]]] = {
    **{
        foreign.name: (len(foreign.settings), getattr(lstmc, row.function))
        for foreign, row in functions_of("onnx")
        if row.cell and row.operator
    },
    "Affine": (2, lambda x, alpha, beta: alpha * x + beta),
}


@lru_cache(maxsize=256)
def meaning(op: Layer, types: Types) -> Graph:
    """Return the model of a layer whose operands have these types: its inputs are called as the operands' roles."""
    shapes = {role: list(type_.shape) for role, type_ in zip(op.roles(), types, strict=True)}

    def layer(**operands: Value) -> dict[str, Value]:
        count = len(op.reversed_directions)
        parts = {role: _by_direction(value, count) for role, value in operands.items() if role not in ("x", "lengths")}
        ys: list[Value] = []
        last: dict[str, list[Value]] = {state: [] for state in op.states}
        for number, (back, functions) in enumerate(zip(op.reversed_directions, op.direction_functions(), strict=True)):
            own = {role: values[number] for role, values in parts.items()}
            y, states = _direction(op, shapes, operands["x"], own, operands.get("lengths"), back, functions)
            ys.append(reshape(y, y.shape[0], 1, *y.shape[1:]))
            for state, values in last.items():
                value = states[state]
                if op.lengths:  # an empty sequence has no last state: ONNX Runtime gives 0
                    value = value * reshape(1 - lstmc.relu(1 - operands["lengths"]), -1, 1)
                values.append(reshape(value, 1, *value.shape))
        return {"Y": concat(*ys, axis=1), **{f"Y_{state}": concat(*values, axis=0) for state, values in last.items()}}

    layer.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(role, Parameter.KEYWORD_ONLY, default=Input(*shape)) for role, shape in shapes.items()]
    )
    return Model(layer).graph()


def _by_direction(value: Value, count: int) -> list[Value]:
    """Return each direction's part of an operand."""
    return (
        [reshape(part, *part.shape[1:]) for part in split(value, count, axis=0)]
        if count > 1
        else [reshape(value, *value.shape[1:])]
    )


def _direction(
    op: Layer,
    shapes: Mapping[str, Sequence[int]],
    x: Value,
    own: dict[str, Value],
    lengths: Value | None,
    back: bool,
    functions: Sequence[tuple[str, tuple[float, ...]]],
) -> tuple[Value, Mapping[str, Value]]:
    applied = [
        _applied(name, numbers, op.clip if place < GATES_FUNCTIONS else 0.0)
        for place, (name, numbers) in enumerate(functions)
    ]
    (_, batch, width), units = shapes["x"], shapes["R"][-1]
    rows = op.gates * units
    step = _STEPS[op.name](op, applied)
    names = {"W": (rows, width), "R": (rows, units), "Wb": (rows,), "Rb": (rows,), "P": (3 * units,)}
    static: dict[str, Value] = {role: own[role] for role in ("W", "R", "P") if role in own}
    if op.bias:
        static["Wb"], static["Rb"] = split(own["B"], 2, axis=0)

    def body(**operands: Value) -> tuple[Value, dict[str, Value]]:
        states = step(**operands)
        return states["h"], states

    parameters = {"x": Input(batch, width), **{state: State(batch, units) for state in op.states}}
    parameters |= {role: Input(*names[role]) for role in static}
    body.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default) for name, default in parameters.items()]
    )
    init = {state: own[f"{state}_0"] for state in op.states} if op.initial else None
    return scan(cell(body)(), x, static=static, init=init, lengths=lengths, reverse=back)


def _applied(name: str, numbers: Sequence[float], clip: float) -> Function:
    """Return a function of a value, which is first held between -clip and clip where that is not 0."""

    def function(x: Value) -> Value:
        return FUNCTIONS[name][1](lstmc.clip(x, -clip, clip) if clip else x, *numbers)

    return function


def _sums(operands: Mapping[str, Value], gates: int) -> tuple[list[Value], list[Value]]:
    """W x + Wb and R h + Rb, gate by gate."""
    biases = [[operands[name]] if name in operands else [] for name in ("Wb", "Rb")]
    wx = linear(operands["x"], operands["W"], *biases[0])
    rh = linear(operands["h"], operands["R"], *biases[1])
    return list(split(wx, gates)), list(split(rh, gates))


def _lstm(op: Any, f: Sequence[Function]) -> Callable[..., dict[str, Value]]:
    def step(**operands: Value) -> dict[str, Value]:
        sums = {gate: w + r for gate, w, r in zip(LSTM_ORDERS["onnx"], *_sums(operands, 4), strict=True)}
        seen = dict(zip("iof", split(operands["P"], 3, axis=0), strict=True)) if op.peephole else {}
        before = {gate: sums[gate] + p * operands["c"] for gate, p in seen.items() if gate != "o"}
        i = f[0](before.get("i", sums["i"]))
        forget = 1 - i if op.coupled else f[0](before.get("f", sums["f"]))
        c = forget * operands["c"] + i * f[1](sums["g"])
        o = f[0](sums["o"] + seen["o"] * c if seen else sums["o"])
        return {"h": o * f[2](c), "c": c}

    return step


def _gru(op: Any, f: Sequence[Function]) -> Callable[..., dict[str, Value]]:
    def step(**operands: Value) -> dict[str, Value]:
        order = GRU_ORDERS["onnx"]
        wx, rh = (dict(zip(order, parts, strict=True)) for parts in _sums(operands, 3))
        z, r = f[0](wx["z"] + rh["z"]), f[0](wx["r"] + rh["r"])
        if op.reset_after:
            n = f[1](wx["n"] + r * rh["n"])
        else:
            matrix = split(operands["R"], 3, axis=0)[order.index("n")]
            bias = [split(operands["Rb"], 3, axis=0)[order.index("n")]] if op.bias else []
            n = f[1](wx["n"] + linear(r * operands["h"], matrix, *bias))
        return {"h": z * operands["h"] + (1 - z) * n}

    return step


def _rnn(op: Any, f: Sequence[Function]) -> Callable[..., dict[str, Value]]:
    def step(**operands: Value) -> dict[str, Value]:
        ((wx,), (rh,)) = _sums(operands, 1)
        return {"h": f[0](wx + rh)}

    return step


_STEPS = {"onnx.LSTM": _lstm, "onnx.GRU": _gru, "onnx.RNN": _rnn}
