"""ONNX's operators LSTM, GRU and RNN, with the operands in ONNX's order (https://onnx.ai/onnx/operators/)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from lstmc.errors import ShapeError
from lstmc.interp import backward, forward
from lstmc.ir import flops
from lstmc.ops import Array, Arrays, Draw, IntegerRange, Op, Sample, Types
from lstmc.types import TensorType
from lstmc_onnx.ops.meaning import FUNCTIONS, meaning

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


@dataclass(frozen=True)
class Recurrent(Op):
    """A layer over x [T, N, D], of one direction or of both; each has its own part of every other operand.

    Operands: x, W [directions, gates * H, D], R [directions, gates * H, H]; then, as the fields say, B [directions,
    2 * gates * H], lengths [N], the first states [directions, N, H], and P [directions, 3 * H]. Results: Y
    [T, directions, N, H], and the last states [directions, N, H], 0 for an empty sequence. ``activations`` are the
    functions of each direction, by ONNX's names; ``alpha`` and ``beta`` are the numbers of those that have some. What
    a gate is a function of is held between -``clip`` and ``clip``, unless that is 0.
    """

    backend = "onnx"
    operands = ("x", "W", "R", "*others")
    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h",)
    functions: ClassVar[int] = 1
    activations: tuple[str, ...]
    alpha: tuple[float, ...] = ()
    beta: tuple[float, ...] = ()
    direction: str = "forward"
    clip: float = 0.0
    bias: bool = False
    lengths: bool = False
    initial: bool = False

    @abstractmethod
    def attributes(self) -> dict[str, int]:
        """ONNX's attributes that this operator alone has."""

    @property
    def reversed_directions(self) -> tuple[bool, ...]:
        """For each direction, whether it runs from the last step to the first."""
        return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[self.direction]

    def roles(self) -> tuple[str, ...]:
        """Return the role of each operand, in order."""
        first = [f"{state}_0" for state in self.states] if self.initial else []
        return ("x", "W", "R", *(["B"] if self.bias else []), *(["lengths"] if self.lengths else []), *first)

    @property
    def undifferentiated(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.roles().index("lengths"),) if self.lengths else ()

    def shapes(self, x: TensorType, r: TensorType) -> dict[str, TensorType]:
        """Return the type of every possible operand, by role."""
        (steps, batch, width), units, directions = x.shape, r.shape[-1], len(self.reversed_directions)
        rows = self.gates * units
        shapes: dict[str, tuple[int, ...]] = {
            "x": (steps, batch, width),
            "W": (directions, rows, width),
            "R": (directions, rows, units),
        }
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
        if len(self.activations) != self.functions * len(self.reversed_directions) or set(self.activations) - set(
            FUNCTIONS
        ):
            raise ShapeError(f"{self.name}: takes {self.functions} functions a direction, found {self.activations}")
        (directions, batch, units), steps = expected["h_0"].shape, args[0].shape[0]
        return (TensorType((steps, directions, batch, units)), *(expected["h_0"],) * len(self.states))

    def direction_functions(self) -> Iterator[list[tuple[str, tuple[float, ...]]]]:
        """Yield the functions of each direction, with their parameters."""
        alphas, betas = iter(self.alpha), iter(self.beta)
        functions = [(name, tuple(next(n) for n in (alphas, betas)[: FUNCTIONS[name][0]])) for name in self.activations]
        for number in range(len(self.reversed_directions)):
            yield functions[number * self.functions : (number + 1) * self.functions]

    def eval(self, *args: Array) -> Arrays:
        run = forward(meaning(self, _types(args)), dict(zip(self.roles(), args, strict=True)), dtype=args[0].dtype)
        return tuple(run.outputs.values())

    def vjp(self, cts: Arrays, outs: Arrays, *args: Any) -> tuple[Array | None, ...]:
        run = forward(meaning(self, _types(args)), dict(zip(self.roles(), args, strict=True)), dtype=args[0].dtype)
        gradients = backward(run, dict(zip(run.outputs, cts, strict=True))).inputs
        return tuple(None if role == "lengths" else gradients[role] for role in self.roles())

    def cost(self, args: Types) -> int:
        return flops(meaning(self, args))

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
        """Return the fields that are yes or no."""
        return ("bias", "lengths", "initial")


def _types(args: Arrays) -> Types:
    return tuple(TensorType(array.shape) for array in args)


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Gates in the order i, o, f, g. ``coupled``: f is 1 - i. ``peephole``: P has those of i, o and f."""

    name = "onnx.LSTM"
    gates = 4
    states = ("h", "c")
    functions = 3
    coupled: bool = False
    peephole: bool = False

    def attributes(self) -> dict[str, int]:
        return {"input_forget": 1} if self.coupled else {}

    def roles(self) -> tuple[str, ...]:
        return (*super().roles(), *(["P"] if self.peephole else []))

    @classmethod
    def flags(cls) -> tuple[str, ...]:
        return (*super().flags(), "coupled", "peephole")


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gates in the order z, r, n; h' = z h + (1 - z) n. ``reset_after``: r multiplies R h + b, else h."""

    name = "onnx.GRU"
    gates = 3
    functions = 2
    reset_after: bool = False

    def attributes(self) -> dict[str, int]:
        return {"linear_before_reset": 1} if self.reset_after else {}

    @classmethod
    def flags(cls) -> tuple[str, ...]:
        return (*super().flags(), "reset_after")


@dataclass(frozen=True)
class RNN(Recurrent):
    """h' = f(W x + R h + b)."""

    name = "onnx.RNN"
    gates = 1

    def attributes(self) -> dict[str, int]:
        return {}
