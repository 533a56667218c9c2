"""Operations that all frontends share: arithmetic, products, reductions, normalizations, convolution and pooling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from string import ascii_lowercase
from typing import Literal

import numpy as np

from lstmc.importers.frontends.shape_ops import LARGE, Operand, Reversal, ShapeOps
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.ops import BINARY, Einsum, Function, LogSoftmax, Normalize, Reduced, Reduction, reduction
from lstmc.importers.ir.recur import Cell, Extra, add_layer, cell_weights
from lstmc.importers.ir.values import OpenSize, ShapeProblem, Size, Weight, axis_in, listed, number, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops import Add, Affine, Array, Binary, Dropout, Embed, Input, Max, Mul, Op, Round, Softmax, Sum
from lstmc.ops.frameworks import Framework

Comparison = Literal["gt", "ge", "lt", "le", "eq", "ne"]
_EQUATION = re.compile(r"[a-zA-Z]+(,[a-zA-Z]+)+(->[a-zA-Z]*)?")


def einsum_letters(equation: str, count: int) -> tuple[list[str], str]:
    """Return the letters of ``count`` operands and the result. Raises :class:`Refused` for dots, or one operand."""
    compact = equation.replace(" ", "")
    letters = dict.fromkeys(re.sub("[^a-zA-Z]", "", compact))
    if _EQUATION.fullmatch(compact) is None or len(letters) > len(ascii_lowercase):
        why = "only two operands or more and their result, all in letters, are read"
        raise Refused("equation", equation, why, "write it without dots, or by other functions")
    if not compact.islower():
        compact = compact.translate(str.maketrans("".join(letters), ascii_lowercase[: len(letters)]))
    operands, arrow, result = compact.partition("->")
    if operands.count(",") + 1 != count:
        raise Refused("equation", equation, f"it has {count} operands", "check the model")
    once = operands.replace(",", "")
    return operands.split(","), result if arrow else "".join(sorted(one for one in {*once} if once.count(one) == 1))


_INFINITE = f"An infinite number is {LARGE:g} here: under a softmax or a maximum it does the same."


class Layers(ShapeOps):
    """The operations of :class:`ShapeOps`, and those that compute."""

    def binary(self, kind: str, x: Operand, y: Operand) -> str:
        """Add a binary op; with one number: an affine function, a power or a bound of the other operand."""
        x, y = self.finite(kind, x), self.finite(kind, y)
        if (scalar := _scalar(y)) is not None:
            return self._with_number(kind, x, scalar, swapped=False)
        if (scalar := _scalar(x)) is not None:
            return self._with_number(kind, y, scalar, swapped=True)
        return self.one(BINARY[kind], x, y)

    def finite(self, kind: str, x: Operand) -> Operand:
        """Return x, an operand of op ``kind``, with large numbers for infinite ones, which do the same in additive
        masks. Raises :class:`ShapeProblem` for NaN, and for infinity unless ``kind`` is add, sub, max or min."""
        if isinstance(x, Weight) and not x.sources:
            x = x.array()  # a constant of the graph
        if not isinstance(x, np.ndarray) or x.dtype == object or np.all(np.isfinite(x)):
            return x
        if np.any(np.isnan(x)) or kind not in ("add", "sub", "max", "min"):
            raise ShapeProblem(f"{kind} of a number that is not finite")
        if _INFINITE not in self.builder.notes:
            self.builder.notes.append(_INFINITE)
        return np.nan_to_num(x, posinf=LARGE, neginf=-LARGE)

    def _with_number(self, kind: str, x: Operand, c: float, swapped: bool) -> str:
        """Add the op ``kind`` of x and the number c; ``swapped``: c is the first operand."""
        if kind == "add":
            return self.affine(x, 1.0, c)
        if kind == "sub":
            return self.affine(x, -1.0, c) if swapped else self.affine(x, 1.0, -c)
        if kind == "mul":
            return self.affine(x, c, 0.0)
        if kind == "div":
            return self.affine(self.apply("power", x, -1.0), c, 0.0) if swapped else self.affine(x, 1 / c, 0.0)
        return self.apply("relu", x) if (kind, c) == ("max", 0) else self.apply(f"{kind}imum", x, c)

    def clip(self, x: Operand, low: Operand | None, high: Operand | None) -> Operand:
        """Bound x from below by ``low``, then from above by ``high``. A bound that is None is left out."""
        least, most = (None if bound is None else _scalar(bound) for bound in (low, high))
        if least is not None and most is not None and least <= most:
            return self.apply("clip", x, least, most)
        x = x if low is None else self.binary("max", x, low)
        return x if high is None else self.binary("min", x, high)

    def matmul(self, x: Operand, y: Operand) -> str:
        """Add x @ y as in NumPy: a linear layer if one operand is a stored matrix."""
        if self.rank(x) == 1:
            return self.squeeze(self.matmul(self.unsqueeze(x, [0]), y), [-2 if self.rank(y) > 1 else -1])
        if self.rank(y) == 1:
            column = y.reshaped(*y.shape, 1) if isinstance(y, Weight) else self.unsqueeze(y, [1])
            return self.squeeze(self.matmul(x, column), [-1])
        if isinstance(y, Weight) and len(y.shape) == 2:
            return self.linear(x, y.transposed())
        if isinstance(x, Weight) and len(x.shape) == 2:
            return self.value(self.turned(self.linear(self.turned(y), x)))
        rank = max(self.rank(x), self.rank(y))
        batch = ascii_lowercase[: rank - 2]
        of_x, of_y = ((batch + last)[rank - self.rank(v) :] for v, last in ((x, "xy"), (y, "yz")))
        return self.product(of_x, of_y, f"{batch}xz", x, y)

    def turned(self, x: Operand) -> Operand:
        """Return x with its last two axes, if it has two, exchanged; for a parameter the net gets no step."""
        rank = self.rank(x)
        axes = (*range(rank - 2), rank - 1, rank - 2) if rank > 1 else (0,)
        if isinstance(x, Weight):
            return x.transposed(*axes)
        return self.transpose(x, axes) if isinstance(x, str) else x.transpose(axes)

    def einsum(self, equation: str, xs: Sequence[Operand]) -> str:
        """Add an einsum such as ``bt,bth->bh``. More than two operands are multiplied from the left."""
        (of_y, *more), result = einsum_letters(equation, len(xs))
        y, *others = xs
        while more:
            of_x, x = of_y, y
            needed = {*result}.union(*more[1:])
            both = {*of_x, *more[0]} & needed
            of_y = "".join(one for one in dict.fromkeys(result + of_x + more[0]) if one in both) if more[1:] else result
            y = self.product(of_x, more.pop(0), of_y, x, others.pop(0))
        return self.value(y)

    def product(self, of_x: str, of_y: str, of_result: str, x: Operand, y: Operand) -> str:
        """Add an einsum of x and y by letters of axes, broadcasting size 1. Raises :class:`ShapeProblem` if unfit."""
        ranks = self.rank(x), self.rank(y)
        if len({*of_x}) < len(of_x) or len({*of_y}) < len(of_y) or (len(of_x), len(of_y)) != ranks:
            raise ShapeProblem(f"a product of axes {of_x} and {of_y}: each letter is one axis of a value")
        sizes_x, sizes_y = dict(zip(of_x, self.shape(x), strict=True)), dict(zip(of_y, self.shape(y), strict=True))
        if not {*of_result} <= {*of_x, *of_y}:
            raise ShapeProblem(f"a product with axes {of_result} of values with axes {of_x} and {of_y}")
        for letter, size in sizes_x.items():
            if size != sizes_y.get(letter, size) and 1 not in (size, sizes_y[letter]):
                raise ShapeProblem(f"a product of {listed(self.shape(x))} and {listed(self.shape(y))}")
        x, of_x = self._summed(x, sizes_x, sizes_y, of_result)
        y, of_y = self._summed(y, sizes_y, sizes_x, of_result)
        contracted = [c for c in of_x if c in of_y and c not in of_result]
        kept = of_result + "".join(contracted[:-1])
        products = self.one(Einsum(of_x, of_y, kept), x, y)
        axes = range(len(of_result), len(kept))
        return self.reduce("sum", products, axes, keep=False) if axes else products

    def _summed(self, x: Operand, own: Mapping[str, Size], other: Mapping[str, Size], needed: str) -> tuple[str, str]:
        """Return x summed over axes that neither ``other`` nor ``needed`` has, and the letters of the axes left."""
        narrow = [axis for axis, letter in enumerate(own) if own[letter] == 1 and other.get(letter, 1) != 1]
        y = self.squeeze(x, narrow) if narrow else self.value(x)
        left = [letter for axis, letter in enumerate(own) if axis not in narrow]
        alone = [axis for axis, c in enumerate(left) if c not in needed and other.get(c, 1) != own[c]]
        y = self.reduce("sum", y, alone, keep=False) if alone else y
        return y, "".join(letter for axis, letter in enumerate(left) if axis not in alone)

    def cumulated(self, x: Operand, axis: int, own: bool = True, reverse: bool = False) -> str:
        """Add a cumulative sum, with the element itself if ``own``: a product, or a loop along an open axis."""

        def step(t: Layers, element: str, total: str) -> tuple[str, str]:
            following = t.binary("add", total, element)
            return following, following if own else t.one(Affine(), total)

        if isinstance(self.shape(x)[axis], OpenSize):
            return self.running(x, axis, step, reverse)
        triangle = np.tri(self.size(x, axis), k=0 if own else -1)
        weight = number(triangle.T if reverse else triangle, "a triangle of ones")
        return self.along_last(x, axis, lambda y: self.linear(y, weight))

    def running(
        self, x: Operand, axis: int, step: Callable[[Layers, str, str], tuple[str, str]], reverse: bool = False,
        first: float = 0.0,
    ) -> str:  # fmt: skip
        """Add a loop along an axis. ``step`` takes an element and the state, which begins with ``first``, and returns
        the next state and a result. Return all results."""
        rank = self.rank(x)
        order = [axis_in(axis, rank), *(a for a in range(rank) if a != axis_in(axis, rank))]
        front = self.transpose(x, order)
        count, *shape = self.shape(front)
        front = front if shape else self.reshape(front, (count, 1))  # an input of a step needs an axis
        inner, size = Layers(NetBuilder("step", self.builder.origin)), self.shape(front)[1:]
        inner.at("value", self.builder.where)
        following, result = step(inner, inner.builder.input("x", size), inner.builder.input("so_far", size))
        inner.builder.outputs |= {"so_far": following, "y": result}
        begin = self.expand(np.full((1,) * len(size), first), size) if first else None
        title, body = self.builder.scan_name(self.hint), inner.builder.finish(every_input=True)
        y, _ = self.builder.loop(title, body, [front], {"so_far": begin}, (), count, reverse)
        return self.transpose(y if shape else self.reshape(y, (count,)), np.argsort(order).tolist())

    def reversed(self, x: Operand, axis: int, lengths: Operand | None, batch: int) -> str:
        """Reverse the first lengths[n] elements of ``axis`` in element n of ``batch``; without lengths all elements.
        Known lengths cut and join x; computed ones make a matrix of 0 and 1."""
        if lengths is None:
            return self.flip(x, axis)
        if (original := self.unreversed(x, axis, lengths, batch)) is not None:
            return original
        if isinstance(lengths, str):
            y = self._reversed_by_matrix(x, axis, lengths, batch)
        else:
            numbers = np.asarray(lengths.make() if isinstance(lengths, Weight) else lengths, int).tolist()
            rows = self.split(x, [1] * len(numbers), batch)
            y = self.concat([self._part_reversed(row, axis, n) for row, n in zip(rows, numbers, strict=True)], batch)
        self.reversals[y] = Reversal(self.value(x), axis, lengths, batch)
        return y

    def _part_reversed(self, x: str, axis: int, count: int) -> str:
        pieces = self.split(x, [n for n in (*[1] * count, self.size(x, axis) - count) if n], axis)
        return self.concat([*reversed(pieces[:count]), *pieces[count:]], axis)

    def _reversed_by_matrix(self, x: Operand, axis: int, lengths: str, batch: int) -> str:
        """Reverse the first lengths[n] steps of each sequence n by a product with a matrix of 0 and 1."""
        rank, count = self.rank(x), self.size(x, axis, "the number of steps")
        order = [batch, axis, *(a for a in range(rank) if a not in (batch, axis))]
        rows, steps = self.transpose(x, order), self.value(np.arange(float(count))[None], "steps")
        left = self.binary("sub", self.unsqueeze(lengths, [1]), steps)  # the number of steps up to the end
        moved = self.binary("mul", self.apply("step", left), self.affine(self.binary("sub", left, steps), 1.0, -1.0))
        matrix = self.compare("eq", self.unsqueeze(self.binary("add", steps, moved), [2]), steps)
        rest = ascii_lowercase[: rank - 2]
        y = self.product("xyz", f"xz{rest}", f"xy{rest}", matrix, rows)
        return self.transpose(y, np.argsort(order).tolist())

    def recur(
        self, framework: str, cell: Cell, x: str, weights: Sequence[Weight | None], init: Mapping[str, Operand],
        hint: str, more: Mapping[str, Weight] = {}, extras: Mapping[Extra, Operand] = {}, reverse: bool = False,
    ) -> tuple[str, ...]:  # fmt: skip
        """Add a cell over x [T, N, D]; return outputs and last states. ``weights`` are W_x, W_h and two biases,
        ``more`` has peepholes and projection by name. Over a reversed sequence, the layer runs the other way."""
        lengths = extras.get("lengths")
        original = self.unreversed(x, 0, lengths, 1) if {*extras} <= {"static", "lengths"} else None
        if original is not None:
            y, *last = self.recur(framework, cell, original, weights, init, hint, more, extras, not reverse)
            return (self.reversed(y, 0, lengths, 1), *last)
        w_x, w_h, b_x, b_h = weights
        assert w_x is not None
        assert w_h is not None
        packed = cell_weights(framework, cell, w_x, w_h, b_x, b_h, more)
        first = {state: self.value(value, f"{hint}_{state}_0") for state, value in init.items()}
        others = {extra: self.value(value, extra) for extra, value in extras.items()}
        return add_layer(self.builder, hint, x, cell, packed, first, others, reverse)

    def dropout(self, x: Operand, ratio: float) -> str:
        """Add a dropout; return x itself if the dropout would leave out nothing, or everything."""
        return self.one(Dropout(ratio), x) if 0 < ratio < 1 else self.value(x)

    def embed(self, x: Operand, w: Weight) -> str:
        if isinstance(x, str) and isinstance(leaf := self.builder.leaves.get(x), Input):
            self.builder.leaves[x] = replace(leaf, values=None)  # Embed gives the range by the number of rows
        return self.one(Embed(), x, w)

    def softmax(self, x: Operand, axis: int, log: bool = False) -> str:
        return self.one((LogSoftmax if log else Softmax)(axis_in(axis, self.rank(x))), x)

    def reduce(self, kind: Reduced, x: Operand, axes: Sequence[int], keep: bool) -> str:
        """Add a reduction of several axes, one after the other; with ``keep`` the axes stay, with one element."""
        shape = self.shape(x)
        places = sorted({axis_in(axis, len(shape)) for axis in axes}, reverse=True)
        y = self.value(x)
        for axis in places:
            y = self.one(reduction(kind, axis), y)
        return self.reshape(y, [1 if a in places else s for a, s in enumerate(shape)]) if keep else y

    def multiplied(self, x: Operand, axes: Sequence[int], keep: bool) -> str:
        """Add the product of all elements along some axes: a chain of products for each axis."""
        y, places = self.value(x), sorted({axis_in(axis, self.rank(x)) for axis in axes})
        for axis in places:
            y = reduce(partial(self.binary, "mul"), self.split(y, [1] * self.size(y, axis), axis))
        return y if keep else self.squeeze(y, places)

    def log_sum_exp(self, x: Operand, axes: Sequence[int], keep: bool) -> str:
        """Add ln(sum(exp(x))), computed from x minus its maximum, so that exp does not overflow."""
        most = self.reduce("max", x, axes, keep=True)
        total = self.reduce("sum", self.apply("exp", self.binary("sub", x, most)), axes, keep=True)
        y = self.binary("add", self.apply("log", total), most)
        return y if keep else self.squeeze(y, axes)

    def norm(self, x: Operand, order: int, axes: Sequence[int], keep: bool, root: bool = True) -> str:
        """Add a norm: for ``order`` 1 the sum of magnitudes; for 2 the sum of squares or, with ``root``, its root."""
        parts = self.apply("abs", x) if order == 1 else self.apply("power", x, 2.0)
        y = self.reduce("sum", parts, axes, keep)
        return self.apply("power", y, 0.5) if order == 2 and root else y

    def argmax(self, x: Operand, axis: int | None, keep: bool = False, last: bool = False, sign: float = 1.0) -> str:
        """Add the index of the largest (``sign`` -1: smallest) element of an axis, or of x: the first or ``last``."""
        x = self.affine(x, sign, 0.0)
        if axis is None:
            return self.reduce("argmax", self.reshape(x, resolved((-1,), self.shape(x))), [0], keep=False)
        if not last:
            return self.reduce("argmax", x, [axis], keep)
        place = axis_in(axis, self.rank(x))
        turned = self.reduce("argmax", self.flip(x, place), [place], keep)
        return self.affine(turned, -1.0, self.size(x, place) - 1.0)

    def is_whole(self, x: Operand) -> bool:
        """Return whether a value is known to be integral: masks and rounded numbers, and what is made of them."""
        waiting, seen = [x], set[Operand]()
        while waiting:
            value = waiting.pop()
            maker = self.builder.producer(value) if isinstance(value, str) else None
            whole = False if maker is None else _whole(maker.op)
            if whole is False:
                return False
            if maker is not None and whole is None and value not in seen:
                seen.add(value)
                waiting += maker.inputs
        return True

    def cast(self, x: Operand, dtype: str, of: str = "") -> Operand:
        """Return x, of type ``of``, as a type of NumPy: 0 or 1 for ``bool``, truncated for integers. An input stays
        unless it is known to have floats: the caller feeds it in the type that the model expects."""
        if not isinstance(x, str) or (self.builder.producer(x) is None and "float" not in of):
            return x
        if dtype == "bool":
            return self.apply("step", self.apply("abs", x))
        return self.apply("trunc", x) if "int" in dtype and not self.is_whole(x) else x

    def any_of(self, x: Operand, axes: Sequence[int], keep: bool) -> str:
        """Add a mask that is 1 where any element along some axes is not 0."""
        return self.reduce("max", self.apply("step", self.apply("abs", x)), axes, keep)

    def divided(self, x: Operand, y: Operand, rounded: Literal["floor", "trunc"]) -> tuple[str, str]:
        """Return the quotient, rounded as ``rounded`` says, and the remainder of a division of x by y."""
        ratio = self.binary("div", x, y)
        whole = self.apply(rounded, ratio)
        rest = self.binary("sub", x, self.binary("mul", whole, y))
        # a runtime may divide by multiplying with 1 / y, and 49 * (1 / 49) is less than 1
        size = np.abs(y) if isinstance(y, np.ndarray) else self.apply("abs", y)
        more = self.compare("ge", self.apply("abs", rest), size)
        if rounded == "trunc":
            more = self.binary("mul", more, self.apply("sign", ratio))
        return self.binary("add", whole, more), self.binary("sub", rest, self.binary("mul", more, y))

    def compare(self, kind: Comparison, x: Operand, y: Operand) -> str:
        """Add a mask that is 1 where the comparison holds, else 0. ">=" is the complement of "<", "<=" that of ">"."""
        if kind in ("eq", "ne"):
            differ = self.apply("step", self.apply("abs", self.binary("sub", x, y)))
            return differ if kind == "ne" else self.negated(differ)
        above = self.apply("step", self.binary("sub", x, y) if kind in ("gt", "le") else self.binary("sub", y, x))
        return self.negated(above) if kind in ("ge", "le") else above

    def negated(self, mask: Operand) -> str:
        return self.affine(mask, -1.0, 1.0)

    def where(self, mask: Operand, a: Operand, b: Operand) -> str:
        """Add a selection: a where a mask is 1, b where it is 0."""
        mask = mask.astype(np.float32) if isinstance(mask, np.ndarray) else mask
        a, b = self.finite("add", a), self.finite("add", b)
        return self.binary("add", self.binary("mul", mask, a), self.binary("mul", self.negated(mask), b))

    def prelu(self, x: Operand, slope: Operand) -> str:
        """Add x where it is positive, else slope * x."""
        below = self.apply("relu", self.affine(x, -1.0, 0.0))
        return self.binary("sub", self.apply("relu", x), self.binary("mul", below, slope))

    def group_norm(
        self, x: Operand, groups: int, eps: float, scale: Weight | None, shift: Weight | None, lead: int = 1
    ) -> str:
        """Add a normalization over groups of channels, x's axis ``lead``, with a scale and a shift of each channel."""
        shape = self.shape(x)
        y = self.reshape(x, resolved((*shape[:lead], groups, -1), shape))
        y = self.reshape(self.one(Normalize(eps), y), shape)
        ones = (1,) * (len(shape) - lead - 1)
        y = y if scale is None else self.one(Mul(), y, scale.reshaped(*scale.shape, *ones))
        return y if shift is None else self.one(Add(), y, shift.reshaped(*shift.shape, *ones))

    def layer_norm(
        self, x: Operand, eps: float, scale: Operand | None, shift: Operand | None, axes: Sequence[int] = (-1,)
    ) -> str:
        """Add scale (x - mean) / sqrt(variance + eps) + shift over ``axes``."""
        return self._normalized(lambda flat: self.one(Normalize(eps), flat), x, scale, shift, axes)

    def rms_norm(self, x: Operand, eps: float, scale: Operand | None, axes: Sequence[int] = (-1,)) -> str:
        """Add scale x / sqrt(mean(x x) + eps) over ``axes``."""

        def over_the_last(flat: str) -> str:
            squares = self.reduce("mean", self.apply("power", flat, 2.0), [-1], keep=True)
            return self.binary("mul", flat, self.apply("power", self.affine(squares, 1.0, eps), -0.5))

        return self._normalized(over_the_last, x, scale, None, axes)

    def _normalized(
        self, over_the_last: Callable[[str], str], x: Operand, scale: Operand | None, shift: Operand | None,
        axes: Sequence[int],
    ) -> str:  # fmt: skip
        """Apply ``over_the_last`` to ``axes``, joined to one axis at the end; then scale and shift."""
        shape = self.shape(x)
        places = [axis_in(axis, len(shape)) for axis in axes]
        order = [*(axis for axis in range(len(shape)) if axis not in places), *places]
        last = self.transpose(x, order)
        sizes = self.shape(last)
        flat = (*sizes[: len(sizes) - len(places)], -1) if len(places) > 1 else sizes
        y = self.reshape(over_the_last(self.reshape(last, resolved(flat, sizes))), sizes)
        y = y if scale is None else self.binary("mul", y, scale)
        y = y if shift is None else self.binary("add", y, shift)
        return self.transpose(y, np.argsort(order).tolist())

    def batch_norm(self, x: Operand, statistics: Sequence[Weight | None], eps: float, axis: int = 1) -> str:
        """Add one scale and one shift. ``statistics`` are scale, shift, mean and variance, each [C] along ``axis``."""
        gamma, beta, mean, var = statistics
        assert mean is not None
        assert var is not None
        channels = self.shape(x)[axis_in(axis, self.rank(x))]
        fits = isinstance(channels, OpenSize) or var.shape in ((channels,), (1,))
        if not fits or any(weight is not None and weight.shape != var.shape for weight in statistics):
            shapes = [list(weight.shape) for weight in statistics if weight is not None]
            raise ShapeProblem(f"a batch normalization of {channels} channels with weights {shapes}")
        sources = tuple(name for weight in statistics if weight is not None for name in weight.sources)

        def scale() -> Array:
            deviation = np.sqrt(var.make().astype(np.float64) + eps)
            return (1 if gamma is None else gamma.make().astype(np.float64)) / deviation

        def shift() -> Array:
            moved = -mean.make() * scale()
            return moved if beta is None else moved + beta.make()

        ones = (1,) * (self.rank(x) - 1 - axis_in(axis, self.rank(x)))
        words = "{} of a batch normalization of " + ", ".join(sources)
        a = Weight(var.shape, sources, words.format("scale"), scale).reshaped(*var.shape, *ones)
        b = Weight(var.shape, sources, words.format("shift"), shift).reshaped(*var.shape, *ones)
        owner = next(iter(sources), "").rpartition(".")[0] or self.hint
        y = self.one(Mul(), x, self.builder.param(a, f"{owner}_scale"))
        return self.one(Add(), y, self.builder.param(b, f"{owner}_shift"))


def waves(rows: int, columns: int, size: int, scale: float = 1.0) -> tuple[Array, Array]:
    """Return the cosines and sines of 2 pi r c / size at row r, column c, times ``scale``: a Fourier transform."""
    turns = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % size) / size
    return scale * np.cos(turns), scale * np.sin(turns)


def _whole(op: Op) -> bool | None:
    """Return whether an op always makes integers; None if it makes integers from integers only."""
    if isinstance(op, Function):
        return op.function in ("step", "floor", "ceil", "trunc", "sign")
    if isinstance(op, Round) or (isinstance(op, Reduction) and op.kind == "argmax"):
        return True
    if isinstance(op, Affine):
        return None if op.scale.is_integer() and op.shift.is_integer() else False
    if op == BINARY["div"] or (isinstance(op, Reduction) and op.kind == "mean"):
        return False
    return None if op.moves or isinstance(op, Binary | Sum | Max | Reduction) else False


def _scalar(x: Operand) -> float | None:
    if isinstance(x, str | Weight) or x.size != 1 or x.dtype == object:
        return None
    return float(x.item())


# Operations on operands alone: their names in ONNX, PyTorch and Keras, the number of operands, and the method.
_SHARED: tuple[tuple[str, str, str, int, Callable[..., str]], ...] = (
    ("Greater", "gt", "Greater", 2, lambda t, x, y: t.compare("gt", x, y)),
    ("GreaterOrEqual", "ge", "GreaterEqual", 2, lambda t, x, y: t.compare("ge", x, y)),
    ("Less", "lt", "Less", 2, lambda t, x, y: t.compare("lt", x, y)),
    ("LessOrEqual", "le", "LessEqual", 2, lambda t, x, y: t.compare("le", x, y)),
    ("Equal", "eq", "Equal", 2, lambda t, x, y: t.compare("eq", x, y)),
    ("", "ne", "NotEqual", 2, lambda t, x, y: t.compare("ne", x, y)),
    ("Xor", "logical_xor", "LogicalXor", 2, lambda t, x, y: t.compare("ne", x, y)),
    ("And", "logical_and", "LogicalAnd", 2, lambda t, x, y: t.binary("mul", x, y)),
    ("Or", "logical_or", "LogicalOr", 2, lambda t, x, y: t.binary("max", x, y)),
    ("Not", "logical_not", "LogicalNot", 1, Layers.negated),
    ("Where", "where", "Where", 3, Layers.where),
)


def shared_operations(framework: Framework) -> Iterator[tuple[str, int, Callable[..., str]]]:
    """Yield each shared operation that a framework has: its name there, its number of operands, and its function."""
    for onnx, torch, keras, count, method in _SHARED:
        if name := {"onnx": onnx, "torch": torch, "keras": keras}[framework]:
            yield name, count, method
