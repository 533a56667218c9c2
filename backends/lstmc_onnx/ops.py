"""ONNX's operators LSTM, GRU and RNN as ops, with the operands in ONNX's order (https://onnx.ai/onnx/operators/). The
meaning of each op is a model in the language of lstmc."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any, ClassVar

import numpy as np

import lstmc
from lstmc import Input, State, Value, cell, concat, linear, reshape, scan, split
from lstmc.dsl import Model
from lstmc.errors import ShapeError
from lstmc.interp import Evaluation, backward, forward
from lstmc.ir import Graph, graph_work
from lstmc.ops import Array, Arrays, Draw, IntegerRange, Op, Sample, Types, Work
from lstmc.ops.frameworks import functions_of
from lstmc.patterns import GRU_ORDERS, LSTM_ORDERS
from lstmc.types import TensorType

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]

Function = Callable[[Value], Value]
GATES_FUNCTIONS = 2  # the number of functions of gates, which are clipped; an LSTM's third function is applied to c
# ONNX's name -> the number of its parameters (alpha, beta), and the function of a value and the parameters.
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Value]]] = {
    **{
        foreign.name: (len(foreign.settings), getattr(lstmc, row.function))
        for foreign, row in functions_of("onnx")
        if row.cell and row.operator
    },
    "Affine": (2, lambda x, alpha, beta: alpha * x + beta),
}


@dataclass(frozen=True)
class Recurrent(Op):
    """A layer over x [T, N, D], of one direction or both; every other operand has a part for each direction.

    Operands: x, W [directions, gates * H, D], R [directions, gates * H, H]; then, depending on the fields, B
    [directions, 2 * gates * H], lengths [N], the first states [directions, N, H], and P [directions, 3 * H]. Results: Y
    [T, directions, N, H], and the last states [directions, N, H], 0 for an empty sequence. ``activations`` are the
    functions of each direction, by ONNX's names; ``alpha`` and ``beta`` are the parameters of functions with
    parameters. The argument of a gate's function is clipped to [-``clip``, ``clip``], unless ``clip`` is 0.
    """

    backend = "onnx"
    operands = ("x", "W", "R", "*others")
    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h",)
    functions: ClassVar[int] = 1
    own: ClassVar[Mapping[str, str]] = {}  # a field that this operator alone has -> ONNX's attribute
    activations: tuple[str, ...]
    alpha: tuple[float, ...] = ()
    beta: tuple[float, ...] = ()
    direction: str = "forward"
    clip: float = 0.0
    bias: bool = False
    lengths: bool = False
    initial: bool = False

    @abstractmethod
    def step(self, f: Sequence[Function], **operands: Value) -> dict[str, Value]:
        """Return the next states of one direction from its operands; ``f`` are the functions of the direction."""

    def attributes(self) -> dict[str, int]:
        """Return the attributes that only this operator of ONNX has, if they are set."""
        return {attribute: 1 for field, attribute in self.own.items() if getattr(self, field)}

    @property
    def reversed_directions(self) -> tuple[bool, ...]:
        """Whether each direction runs from the last step to the first."""
        return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[self.direction]

    def roles(self) -> tuple[str, ...]:
        """Return the role of each operand, in order."""
        first = [f"{state}_0" for state in self.states] if self.initial else []
        return ("x", "W", "R", *(["B"] if self.bias else []), *(["lengths"] if self.lengths else []), *first)

    @property
    def undifferentiated(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.roles().index("lengths"),) if self.lengths else ()

    def shapes(self, x: TensorType, r: TensorType) -> dict[str, TensorType]:
        """Return the type of every possible operand by role, from the types of x and of the recurrent weights R."""
        (steps, batch, width), units, directions = x.shape, r.shape[-1], len(self.reversed_directions)
        rows = self.gates * units
        shapes: dict[str, tuple[int, ...]] = {"x": (steps, batch, width)}
        shapes |= {"W": (directions, rows, width), "R": (directions, rows, units)}
        shapes |= {"B": (directions, 2 * rows), "lengths": (batch,), "P": (directions, 3 * units)}
        shapes |= {f"{state}_0": (directions, batch, units) for state in self.states}
        return {role: TensorType(shape) for role, shape in shapes.items()}

    def infer(self, *args: TensorType) -> Types:
        roles = self.roles()
        if len(args) != len(roles) or args[0].rank != 3 or args[2].rank != 3:
            raise ShapeError(f"{self.name}: takes {', '.join(roles)}, found {', '.join(map(str, args))}")
        expected = self.shapes(args[0], args[2])
        for role, actual in zip(roles, args, strict=True):
            if actual != expected[role]:
                raise ShapeError(f"{self.name}: {role} must be {expected[role]}, found {actual}")
        count = self.functions * len(self.reversed_directions)
        if len(self.activations) != count or set(self.activations) - set(FUNCTIONS):
            raise ShapeError(f"{self.name}: takes {self.functions} functions a direction, found {self.activations}")
        (directions, batch, units), steps = expected["h_0"].shape, args[0].shape[0]
        return (TensorType((steps, directions, batch, units)), *(expected["h_0"],) * len(self.states))

    def direction_functions(self) -> Iterator[list[tuple[str, tuple[float, ...]]]]:
        """Yield the functions of each direction, with their parameters."""
        alphas, betas = iter(self.alpha), iter(self.beta)
        functions = [(name, tuple(next(n) for n in (alphas, betas)[: FUNCTIONS[name][0]])) for name in self.activations]
        for number in range(len(self.reversed_directions)):
            yield functions[number * self.functions : (number + 1) * self.functions]

    def _forward(self, args: Arrays) -> Evaluation:
        """Return an evaluation of the model that defines the layer."""
        dtype, convert = args[0].dtype, np.asanyarray if args[0].dtype == object else None  # objects are symbols
        inputs = dict(zip(self.roles(), args, strict=True))
        model = meaning(self, tuple(TensorType(array.shape) for array in args))
        return forward(model, inputs, dtype=dtype, convert=convert)

    def eval(self, *args: Array) -> Arrays:
        return tuple(self._forward(args).outputs.values())

    def vjp(self, cts: Arrays, outs: Arrays, *args: Any) -> tuple[Array | None, ...]:
        run = self._forward(args)
        gradients = backward(run, dict(zip(run.outputs, cts, strict=True))).inputs
        return tuple(None if role == "lengths" else gradients[role] for role in self.roles())

    def work(self, operands: Types, results: Types) -> Work:
        own, steps = super().work(operands, results), graph_work(meaning(self, operands))
        return replace(own, multiply_adds=steps.multiply_adds, operations=steps.operations)

    def domains(self, *args: TensorType) -> tuple[IntegerRange | None, ...]:
        return tuple(IntegerRange(0, args[0].shape[0]) if role == "lengths" else None for role in self.roles())

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        direction = draw.choice(("forward", "reverse", "bidirectional"))
        count = cls.functions * (2 if direction == "bidirectional" else 1)
        names = tuple(draw.choice(("Sigmoid", "Tanh", "Elu", "Affine")) for _ in range(count))
        alpha = tuple(0.5 for name in names if FUNCTIONS[name][0])
        beta = tuple(0.25 for name in names if FUNCTIONS[name][0] > 1)
        flags = {field: draw.choice((False, True)) for field in cls.flags()}
        op = cls(names, alpha, beta, direction, draw.choice((0.0, 0.5)), **flags)
        steps, batch, width, units = (draw.integer(1, 2) for _ in range(4))
        x, r = TensorType((steps, batch, width)), TensorType((1, 1, units))
        shapes = op.shapes(x, r)
        return Sample(op, tuple(shapes[role] for role in op.roles()), -1.0, 1.0)

    @classmethod
    def flags(cls) -> tuple[str, ...]:
        """Return the names of the boolean fields."""
        return tuple(field.name for field in fields(cls) if field.default is False)


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Gates in the order i, o, f, g. ``coupled``: f is 1 - i. ``peephole``: P has the peepholes of i, o and f."""

    name = "onnx.LSTM"
    gates = 4
    states = ("h", "c")
    functions = 3
    own: ClassVar[Mapping[str, str]] = {"coupled": "input_forget"}
    coupled: bool = False
    peephole: bool = False

    def roles(self) -> tuple[str, ...]:
        return (*super().roles(), *(["P"] if self.peephole else []))

    def step(self, f: Sequence[Function], **operands: Value) -> dict[str, Value]:
        sums = {gate: w + r for gate, w, r in zip(LSTM_ORDERS["onnx"], *_sums(operands, 4), strict=True)}
        seen = dict(zip("iof", split(operands["P"], 3, axis=0), strict=True)) if self.peephole else {}
        before = {gate: sums[gate] + p * operands["c"] for gate, p in seen.items() if gate != "o"}
        i = f[0](before.get("i", sums["i"]))
        forget = 1 - i if self.coupled else f[0](before.get("f", sums["f"]))
        c = forget * operands["c"] + i * f[1](sums["g"])
        o = f[0](sums["o"] + seen["o"] * c if seen else sums["o"])
        return {"h": o * f[2](c), "c": c}


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gates in the order z, r, n; h' = z h + (1 - z) n. ``reset_after``: r multiplies R h + b, else h."""

    name = "onnx.GRU"
    gates = 3
    functions = 2
    own: ClassVar[Mapping[str, str]] = {"reset_after": "linear_before_reset"}
    reset_after: bool = False

    def step(self, f: Sequence[Function], **operands: Value) -> dict[str, Value]:
        order = GRU_ORDERS["onnx"]
        wx, rh = (dict(zip(order, parts, strict=True)) for parts in _sums(operands, 3))
        z, r = f[0](wx["z"] + rh["z"]), f[0](wx["r"] + rh["r"])
        if self.reset_after:
            n = f[1](wx["n"] + r * rh["n"])
        else:
            matrix = split(operands["R"], 3, axis=0)[order.index("n")]
            bias = [split(operands["Rb"], 3, axis=0)[order.index("n")]] if self.bias else []
            n = f[1](wx["n"] + linear(r * operands["h"], matrix, *bias))
        return {"h": z * operands["h"] + (1 - z) * n}


@dataclass(frozen=True)
class RNN(Recurrent):
    """h' = f(W x + R h + b)."""

    name = "onnx.RNN"
    gates = 1

    def step(self, f: Sequence[Function], **operands: Value) -> dict[str, Value]:
        ((wx,), (rh,)) = _sums(operands, 1)
        return {"h": f[0](wx + rh)}


@lru_cache(maxsize=256)
def meaning(op: Recurrent, types: Types) -> Graph:
    """Return the model of a layer with operands of these types. Its inputs are named after the operands' roles."""
    shapes = {role: list(type_.shape) for role, type_ in zip(op.roles(), types, strict=True)}

    def layer(**operands: Value) -> dict[str, Value]:
        """Return the layer's outputs by name, from its operands by role."""
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
    parts = split(value, count, axis=0) if count > 1 else [value]
    return [reshape(part, *part.shape[1:]) for part in parts]


def _direction(
    op: Recurrent, shapes: Mapping[str, Sequence[int]], x: Value, own: dict[str, Value], lengths: Value | None,
    back: bool, functions: Sequence[tuple[str, tuple[float, ...]]],
) -> tuple[Value, Mapping[str, Value]]:  # fmt: skip
    """Return the sequence and the last states of one direction of a layer, computed by a scan. ``own`` has the
    direction's operands by role; ``back`` says whether the scan runs backward."""
    clips = [op.clip if place < GATES_FUNCTIONS else 0.0 for place in range(len(functions))]
    applied = [_applied(*function, clip) for function, clip in zip(functions, clips, strict=True)]
    (_, batch, width), units = shapes["x"], shapes["R"][-1]
    rows = op.gates * units
    names = {"W": (rows, width), "R": (rows, units), "Wb": (rows,), "Rb": (rows,), "P": (3 * units,)}
    static: dict[str, Value] = {role: own[role] for role in ("W", "R", "P") if role in own}
    if op.bias:
        static["Wb"], static["Rb"] = split(own["B"], 2, axis=0)

    def body(**operands: Value) -> tuple[Value, dict[str, Value]]:
        states = op.step(applied, **operands)
        return states["h"], states

    parameters = {"x": Input(batch, width), **{state: State(batch, units) for state in op.states}}
    parameters |= {role: Input(*names[role]) for role in static}
    body.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default) for name, default in parameters.items()]
    )
    init = {state: own[f"{state}_0"] for state in op.states} if op.initial else None
    return scan(cell(body)(), x, static=static, init=init, lengths=lengths, reverse=back)


def _applied(name: str, numbers: Sequence[float], clip: float) -> Function:
    return lambda x: FUNCTIONS[name][1](lstmc.clip(x, -clip, clip) if clip else x, *numbers)


def _sums(operands: Mapping[str, Value], gates: int) -> tuple[list[Value], list[Value]]:
    """Return W x + Wb and R h + Rb, gate by gate."""
    biases = [[operands[name]] if name in operands else [] for name in ("Wb", "Rb")]
    wx = linear(operands["x"], operands["W"], *biases[0])
    rh = linear(operands["h"], operands["R"], *biases[1])
    return list(split(wx, gates)), list(split(rh, gates))
