"""The ops of imported nets that are no single core op: functions of the language."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from inspect import Parameter, Signature
from typing import Any, ClassVar, Literal

import numpy as np

from lstmc.dsl import Model, language
from lstmc.errors import ShapeError
from lstmc.importers.ir.values import Shape, listed
from lstmc.interp import Evaluation, backward, forward
from lstmc.ir import Graph, Rebuild, Scan, broadcast
from lstmc.ops import Add, Binary, Input, Max, Maximum, Mul, Sub, Sum
from lstmc.ops.base import Along, AlongAxis, Array, Arrays, Draw, Op, Pointwise, Sample, Types, sample_type
from lstmc.ops.frameworks import POINTWISE
from lstmc.ops.shape import Reduce, without
from lstmc.passes.base import in_bodies
from lstmc.types import TensorType

TEXTS = {
    "selu": "{1!r} * elu({x}, {0!r})",
    "scaled_tanh": "{0!r} * tanh({1!r} * {x})",
    "mish": "{x} * tanh(softplus({x}))",
    "celu": "{0!r} * elu({x} / {0!r}, 1.0)",
    "hard_swish": "{x} * hard_sigmoid({x}, 1 / 6, 0.5)",
    "swish": "{x} * sigmoid({0!r} * {x})",
    "thresholded_relu": "{x} * step({x} - {0!r})",
    "sign": "step({x}) - step(-{x})",
    "trunc": "floor(relu({x})) - floor(relu(-{x}))",
    "log1p": "log({x} + 1)",
    "expm1": "exp({x}) - 1",
    "log2": f"{1 / math.log(2)} * log({{x}})",
    "log10": f"{1 / math.log(10)} * log({{x}})",
    "exp2": f"exp({math.log(2)} * {{x}})",
    "ceil": "-floor(-{x})",
    "tan": "sin({x}) / cos({x})",
    "sinh": "0.5 * (exp({x}) - exp(-{x}))",
    "cosh": "0.5 * (exp({x}) + exp(-{x}))",
    "asinh": "(step({x}) - step(-{x})) * log(abs({x}) + ({x} * {x} + 1) ** 0.5)",  # without cancellation
    "acosh": "log({x} + ({x} * {x} - 1) ** 0.5)",
    "atanh": "0.5 * log((1 + {x}) / (1 - {x}))",
    "gelu": "gelu({x}, approximate=False)",
    "gelu_tanh": "gelu({x})",
}
Reduced = Literal["sum", "mean", "max", "min", "argmax"]


@dataclass(frozen=True)
class Formula(Op):
    """An op that is a function of the language: its meaning is the graph that the language makes of its text. By
    default each element of its result comes from the same place of all operands."""

    operands: ClassVar[tuple[str, ...]] = ("x",)

    def infer(self, *args: Any, **kwargs: Any) -> Types:
        return args

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,) * len(types), (axis,))

    @abstractmethod
    def text(self, *names: str) -> str:
        """Return the op's expression in the language, with ``names`` as they are: identifiers, or in brackets."""

    def eval(self, *arrays: Array) -> Arrays:
        return (self._run(arrays).outputs["y"],)

    def vjp(self, cts: Arrays, outs: Arrays, *arrays: Array) -> tuple[Array | None, ...]:
        return (*backward(self._run(arrays), {"y": cts[0]}).inputs.values(),)

    def _run(self, arrays: Arrays) -> Evaluation:
        graph = meaning(self, tuple(TensorType(array.shape) for array in arrays))
        as_array = partial(np.asarray, dtype=arrays[0].dtype)  # NumPy 1 makes float64 of a scalar times a number
        return forward(graph, {f"x{place}": array for place, array in enumerate(arrays)}, convert=as_array)


@lru_cache(maxsize=1024)
def meaning(op: Formula, types: Types) -> Graph:
    """Return a function's graph of core ops on operands of these types: inputs ``x0``, ``x1``, ..., output y."""
    names = [f"x{place}" for place in range(len(types))]
    code = compile(op.text(*names), "<formula>", "eval")

    def model(**values: object) -> dict[str, object]:
        return {"y": eval(code, vars(language), values)}

    pairs = zip(names, [language.Input(*type_.shape) for type_ in types], strict=True)
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in pairs]
    model.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return Model(model).graph()


def with_core_ops(graph: Graph) -> Graph:
    """Return the graph with the core ops of each function, and with nodes that broadcast the operands of binary ops."""
    rebuild = Rebuild(graph)
    for node in graph:
        args = rebuild.args(node)
        if isinstance(node.op, Formula):
            inside = Rebuild(meaning(node.op, tuple(map(rebuild.builder.type, args))))
            inside.builder = rebuild.builder
            for each in inside.graph:
                if isinstance(each.op, Input):
                    inside.put(each, [args[int(each.name.removeprefix("x"))]])
                else:
                    inside.copy(each)
            rebuild.put(node, [inside.new[output.ref] for output in inside.graph.outputs])
        elif isinstance(node.op, Scan):
            rebuild.put(node, rebuild.builder.copy(node, args, in_bodies(node.op, with_core_ops)))
        elif isinstance(node.op, Binary):
            rebuild.copy(node, [broadcast(rebuild.builder, ref, node.types[0].shape) for ref in args])
        else:
            rebuild.copy(node)
    return rebuild.finish()


def _call(function: str, *arguments: object) -> str:
    return f"{function}({', '.join(map(str, arguments))})"


@dataclass(frozen=True)
class Function(Formula):
    """An elementwise function of :data:`TEXTS` or of the language, with its coefficients ``numbers``."""

    name = "source.function"
    function: str
    numbers: tuple[float, ...] = ()

    def text(self, *names: str) -> str:
        if self.function in TEXTS:
            return TEXTS[self.function].format(*self.numbers, x=names[0])
        return _call(self.function, *names, *map(repr, self.numbers))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        name = draw.choice((*sorted({*TEXTS} - {"ceil", "acosh"}), "silu", "softsign", "erf", "hard_sigmoid"))
        count = 2 if name in ("selu", "scaled_tanh", "hard_sigmoid") else "{0!r}" in TEXTS.get(name, "")  # True: 1
        return Sample(cls(name, (0.5, 0.25)[:count]), (sample_type(draw),), 0.1, 0.9)


def function(name: str, *numbers: float) -> Op:
    """Return an elementwise function as an op of the core if there is one, else as a function of the language."""
    return POINTWISE[name](*numbers) if name in POINTWISE else Function(name, numbers)


Elementwise = Pointwise | Function


@dataclass(frozen=True)
class Divide(Binary, Formula):
    """z = x / y."""

    name = "source.divide"
    operands = ("x", "y")

    def text(self, *names: str) -> str:
        return f"{names[0]} / {names[1]}"


@dataclass(frozen=True)
class Minimum(Binary, Formula):
    """z is the smaller of x and y."""

    name = "source.minimum"
    operands = ("x", "y")

    def text(self, *names: str) -> str:
        return _call("minimum", *names)


@dataclass(frozen=True)
class Where(Formula):
    """z is a where a mask is 1, b where it is 0."""

    name = "source.where"
    operands = ("mask", "a", "b")

    def infer(self, mask: TensorType, a: TensorType, b: TensorType) -> Types:
        if a != b or mask.rank != a.rank or any(m not in (1, n) for m, n in zip(mask.shape, a.shape, strict=True)):
            raise ShapeError(f"{listed(a.shape)} or {listed(b.shape)} by a mask {listed(mask.shape)}")
        return (a,)

    def text(self, *names: str) -> str:
        return _call("where", *names)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(), (TensorType((*x.shape[:1], *(1,) * (x.rank - 1))), x, x))


BINARY: Mapping[str, Binary] = {
    "add": Add(), "sub": Sub(), "mul": Mul(), "div": Divide(), "max": Maximum(), "min": Minimum(),
}  # fmt: skip


@dataclass(frozen=True)
class Permute(Formula):
    """Axis j of the result is axis ``axes[j]`` of x."""

    name = "source.permute"
    moves = True
    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> Types:
        if sorted(self.axes) != list(range(x.rank)):
            raise ShapeError(f"the axes of {listed(x.shape)} cannot be put into the order {list(self.axes)}")
        return (TensorType(tuple(x.shape[axis] for axis in self.axes)),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        rest = tuple(own - (own > axis) for own in self.axes if own != axis)
        return Along(Permute(rest), (axis,), (self.axes.index(axis),))

    def text(self, *names: str) -> str:
        own = self.axes == tuple(range(len(self.axes)))
        return names[0] if own else _call("transpose", *names, *self.axes)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw, rank=(3, 3))
        return Sample(cls(draw.choice(((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)))), (x,))


@dataclass(frozen=True)
class LogSoftmax(AlongAxis, Formula):
    """The logarithm of the softmax along an axis."""

    name = "source.log_softmax"

    def text(self, *names: str) -> str:
        return f"log_softmax({names[0]}, axis={self.axis})"


@dataclass(frozen=True)
class Reduction(Reduce, Formula):
    """The mean, the smallest element or the place of the largest element along an axis, which the result lacks."""

    name = "source.reduce"
    kind: Literal["mean", "min", "argmax"]

    def text(self, *names: str) -> str:
        return f"{self.kind}({names[0]}, axis={self.axis})"

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1), draw.choice(("mean", "min"))), (x,))


def reduction(kind: Reduced, axis: int) -> Op:
    return Sum(axis) if kind == "sum" else Max(axis) if kind == "max" else Reduction(axis, kind)


@dataclass(frozen=True)
class Select(Reduce, Formula):
    """One element of an axis, which the result lacks; index -1 is the last element of an axis of any length."""

    name = "source.select"
    moves = True
    index: int

    def infer(self, x: TensorType) -> Types:
        results, size = super().infer(x), x.shape[self.axis]
        if not -size <= self.index < size:
            raise ShapeError(f"element {self.index} of an axis of {size}")
        return results

    def text(self, *names: str) -> str:
        return f"{names[0]}[{', '.join([*':' * self.axis, str(self.index)])}]"

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        return Sample(cls(axis, draw.integer(-1, x.shape[axis] - 1)), (x,))


@dataclass(frozen=True)
class Expand(Formula):
    """x broadcast to ``shape``, which has as many axes as x: axes of one element are repeated."""

    name = "source.expand"
    moves = True
    shape: Shape

    def infer(self, x: TensorType) -> Types:
        pairs = zip(x.shape, self.shape, strict=False)
        if x.rank != len(self.shape) or any(size not in (1, n) for size, n in pairs):
            raise ShapeError(f"{listed(x.shape)} repeated to {listed(self.shape)}")
        return (TensorType(self.shape),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(Expand(without(self.shape, axis)), (axis,), (axis,))

    def wider(self, size: int) -> Iterator[Op]:
        for place in range(len(self.shape) + 1):
            yield Expand((*self.shape[:place], size, *self.shape[place:]))

    def text(self, *names: str) -> str:
        return _call("expand", *names, *self.shape)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        shape = sample_type(draw).shape
        return Sample(cls(shape), (TensorType(tuple(draw.choice((1, size)) for size in shape)),))


@dataclass(frozen=True)
class Einsum(Formula):
    """Products of two computed values, summed over the axes that the result lacks, at most one. Each letter is an axis;
    ``of_x``, ``of_y`` and ``of_result`` are the letters of the operands and of the result."""

    name = "source.einsum"
    operands = ("x", "y")
    of_x: str
    of_y: str
    of_result: str

    def infer(self, x: TensorType, y: TensorType) -> Types:
        sizes: dict[str, int] = {}
        if (x.rank, y.rank) != (len(self.of_x), len(self.of_y)):
            raise ShapeError(f"a product of {listed(x.shape)} and {listed(y.shape)} as {self.of_x} and {self.of_y}")
        for letters, type_ in ((self.of_x, x), (self.of_y, y)):
            for letter, size in zip(letters, type_.shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    raise ShapeError(f"a product of {listed(x.shape)} and {listed(y.shape)}")
        return (TensorType(tuple(sizes[letter] for letter in self.of_result)),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        """Return the places of a letter; the op on one element is the einsum without it, None for a summed letter."""
        letters = (self.of_x, self.of_y, self.of_result)
        letter = letters[slot][axis]
        x, y, result = (of.index(letter) if letter in of else None for of in letters)
        return Along(None if result is None else Einsum(*(of.replace(letter, "") for of in letters)), (x, y), (result,))

    def text(self, *names: str) -> str:
        return f'einsum("{self.of_x},{self.of_y}->{self.of_result}", {names[0]}, {names[1]})'

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        letters = draw.choice((("ab", "bc", "ac"), ("abc", "abd", "acd"), ("ab", "ab", "a"), ("a", "b", "ba")))
        sizes = {letter: draw.integer(1, 3) for letter in "abcd"}
        x, y = (TensorType(tuple(sizes[letter] for letter in of)) for of in letters[:2])
        return Sample(cls(*letters), (x, y))


@dataclass(frozen=True)
class Normalize(Formula):
    """(x - mean) / sqrt(variance + eps) over the last axis."""

    name = "source.normalize"
    eps: float

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self if axis < types[0].rank - 1 else None, (axis,), (axis,))

    def text(self, *names: str) -> str:
        return f"layer_norm({names[0]}, eps={self.eps!r})"

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(0.5), (sample_type(draw),))
