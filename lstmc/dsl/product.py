"""Products of two computed values (``matmul``, ``outer``, ``einsum``). Layers at cells: embed, conv, pool, dropout."""

from __future__ import annotations

import re

from lstmc.dsl.elementwise import concat, linear, split
from lstmc.dsl.function import check_value, described, function, wrong_shape
from lstmc.dsl.op import number_of, pair_of, whole_number_of
from lstmc.dsl.trace import origin
from lstmc.dsl.value import Value, apply, inner_trace
from lstmc.dsl.whole_numbers import one_hot
from lstmc.errors import DslError, ShapeError
from lstmc.ops import Arg, AvePool, Conv, Dropout, Embed, MaxPool, Mul, Param, Reshape, Sum, Transpose
from lstmc.source import argument_location, here

_SPECIFICATION = re.compile(r"([a-z]+(?:,[a-z]+)*)->([a-z]*)")


@function
def matmul(x: Value, y: Value) -> Value:
    """The matrix product x @ y as in NumPy: [..., I, K] by [..., K, J], axes before the last two broadcast.
    A matrix that is a parameter is multiplied by one layer, as by ``linear``; of two computed values the net computes
    all I * K * J products of elements, and sums them."""
    return x @ y


@function
def outer(x: Value, y: Value) -> Value:
    """The outer product of the last axes of x and y: [..., A] and [..., B] give [..., A, B]."""
    for name, value in (("x", x), ("y", y)):
        if not value.shape:
            raise ShapeError(f"outer: {name} must have an axis or more: {name} is {value.type}", loc=here())
    return apply(Mul(), _shaped(x, (*x.shape, 1)), _shaped(y, (*y.shape[:-1], 1, y.shape[-1])))


@function
def einsum(specification: str, *values: Value) -> Value:
    """Products of elements of values, summed over axes that the result lacks: ``einsum("nab,nb->na", C, q)``.

    Every axis has a letter: the letters of each value, with commas between values, ``->``, and the letters of the
    result. With three or more values the first two are multiplied first. With a single value its axes are transposed
    and summed.
    """
    match = _SPECIFICATION.fullmatch(specification.replace(" ", "")) if isinstance(specification, str) else None
    if match is None:
        valid = 'the letters of the axes of each value and of the result, as in "nab,nb->na"'
        loc = argument_location(here(), 0, "specification")
        raise DslError(f"einsum takes {valid}, found {described(specification)}", loc=loc)
    letters, result = match[1].split(","), match[2]
    for position, value in enumerate(values, 1):
        check_value("einsum", value, position)
    if len(values) != len(letters):
        raise DslError(f"einsum: {match[0]!r} is of {len(letters)} values, found {len(values)}", loc=here())
    sizes: dict[str, int] = {}
    problem = ""
    for value, own in zip(values, letters, strict=True):
        for letter, size in _sizes(value, own).items():
            if sizes.setdefault(letter, size) != size:
                problem = problem or f"axis {letter} has {sizes[letter]} elements and {size}"
    if len(set(result)) < len(result) or not set(result) <= set(sizes):
        problem = f"each letter of the result {result!r} must be there once, and be an axis of a value"
    if problem:
        actual = ", ".join(str(value.type) for value in values)
        notes = [f"value {number} is {origin(value)}" for number, value in enumerate(values, 1)]
        raise ShapeError(f"einsum: {problem}: found {actual}", loc=here(), notes=notes)
    product, own = values[0], letters[0]
    if len(values) == 1:
        order = _order(own, "", result)
        return _summed(_lined_up(product, own, order), order, result)
    for at, (value, theirs) in enumerate(zip(values[1:], letters[1:], strict=True), 2):
        later = "".join(letters[at:]) + result
        both = {*own, *theirs} & {*later}  # letters read later; the result's come first, as it begins with the batch
        kept = result if at == len(values) else "".join(n for n in dict.fromkeys(result + own + theirs) if n in both)
        order = _order(own, theirs, kept)
        operands = _lined_up(product, own, order), _lined_up(value, theirs, order)
        product, own = _summed(apply(Mul(), *operands), order, kept), kept
    return product


def _sizes(value: Value, letters: str) -> dict[str, int]:
    """Return the size of each axis by its letter. Raise ShapeError unless each axis has its own letter."""
    if len(letters) != value.type.rank or len(set(letters)) < len(letters):
        problem = f"einsum: {letters!r} must have one letter for each axis, and each once: found {value.type}"
        raise ShapeError(problem, loc=here(), notes=(f"found {origin(value)}",))
    return dict(zip(letters, value.shape, strict=True))


def _summed(value: Value, order: str, kept: str) -> Value:
    """Return a value, whose axes have the letters ``order``, summed over the axes that are not ``kept``."""
    for letter in [letter for letter in order if letter not in kept]:
        value = apply(Sum(order.index(letter)), value)
        order = order.replace(letter, "")
    return value


def _order(of_x: str, of_y: str, kept: str) -> str:
    """Return the letters of x and y: ``kept``, with those to sum inserted where the fewest axes must be exchanged."""
    summed = "".join(dict.fromkeys(letter for letter in of_x + of_y if letter not in kept))
    orders = [kept[:i] + summed + kept[i:] for i in range(len(kept), -1, -1)]
    return min(orders, key=lambda order: _turns(of_x, order) + _turns(of_y, order))


def _turns(letters: str, order: str) -> int:
    places = [order.index(letter) for letter in letters]
    return sum(a > b for i, a in enumerate(places) for b in places[i + 1 :])


def _lined_up(value: Value, letters: str, order: str) -> Value:
    """Return a value with its axes in this order; an axis that it lacks has one element. Letters of ``order`` before
    the value's first letter get no axis, so that a weight has no axis of time."""
    own = list(letters)
    for _ in own:  # neighbours are exchanged until they are in order
        for i in range(len(own) - 1):
            if order.index(own[i]) > order.index(own[i + 1]):
                own[i], own[i + 1] = own[i + 1], own[i]
                value = apply(Transpose(i), value)
    sizes = dict(zip(own, value.shape, strict=True))
    return _shaped(value, tuple(sizes.get(letter, 1) for letter in order[order.index(own[0]) if own else 0 :]))


def _shaped(value: Value, shape: tuple[int, ...]) -> Value:
    return value if value.shape == shape else apply(Reshape(shape), value)


@function
def block_linear(x: Value, W: Value, b: Value | None = None) -> Value:
    """``linear`` by a block-diagonal matrix: x [..., heads * in] and W [heads, out, in] give [..., heads * out].
    Part k of x is multiplied by W[k] alone; b is [heads * out]."""
    if W.type.rank != 3 or not x.shape or x.shape[-1] != W.shape[0] * W.shape[2]:
        expected = "W must be [heads, out, in], and the last axis of x have heads * in elements"
        raise wrong_shape(f"block_linear: {expected}", x=x, W=W)
    heads, out, width = W.shape
    if heads == 1:
        parts = [linear(x, _shaped(W, (out, width)))]
    else:
        blocks = split(_shaped(W, (heads * out, width)), heads, axis=0)
        parts = [linear(part, block) for part, block in zip(split(x, heads), blocks, strict=True)]
    y = concat(parts) if heads > 1 else parts[0]
    return y if b is None else y + b


Pairs = int | tuple[int, int]  # (height, width), or one number for both


@function
def embed(x: Value, W: Value) -> Value:
    """The rows of W at the indices x: W is [V, H], x holds integers from 0 to V - 1; x [T, N] gives [T, N, H].
    No gradient flows to x. If x depends on a parameter, a state or ``step_index``, as an ``argmax`` of a product does,
    the net has ``linear(one_hot(x, V), W.T)`` instead: only ONNX has a layer for such an ``embed``."""
    if W.type.rank == 2 and _is_learned(x):
        return linear(one_hot(x, W.shape[0]), apply(Transpose(0), W))
    return apply(Embed(), x, W)


def _is_learned(x: Value) -> bool:
    """Return whether a value depends on a parameter, on a state or on the number of the step."""
    builder, seen, stack = x.trace.builder, {x.ref}, [x.ref]
    while stack:
        node = stack.pop().node
        op = builder.node(node).op
        if isinstance(op, Param) or (isinstance(op, Arg) and op.role in ("state", "weight")):
            return True
        if x.trace.counter is not None and node == x.trace.counter.node:
            return True
        stack += set(builder.args(node)) - seen
        seen.update(stack)
    return False


@function
def conv(
    x: Value, W: Value, b: Value | None = None, *,
    stride: Pairs = 1, pad: Pairs = 0, dilation: Pairs = 1, group: int = 1,
) -> Value:  # fmt: skip
    """The convolution of images x [..., C, H, W] with W [out, C / group, kh, kw], plus b [out]: [..., out, H', W'].

    H' is (H + 2 pad - dilation (kh - 1) - 1) // stride + 1, and so is W'. ``stride``, ``pad`` and ``dilation`` are one
    number, or (height, width).
    """
    operands = (x, W) if b is None else (x, W, b)
    every, around = pair_of("conv", "stride", stride, 1), pair_of("conv", "pad", pad, 0)
    apart, groups = pair_of("conv", "dilation", dilation, 1), whole_number_of("conv", "group", group, 1)
    return apply(Conv(every, around, apart, groups), *operands)


@function
def max_pool(x: Value, size: Pairs, *, stride: Pairs | None = None, pad: Pairs = 0) -> Value:
    """The largest element of each window of images x [..., C, H, W]. The number of windows is that of Caffe's Pooling.

    A window has ``size`` elements along an axis, and begins ``stride`` elements after the previous window (by default
    ``size``); both are one number, or (height, width). An axis of H elements has ceil((H + 2 pad - size) / stride) + 1
    windows; a last window that would start in the padding is left out.
    """
    return apply(MaxPool(*_windows("max_pool", size, stride, pad)), x)


@function
def ave_pool(x: Value, size: Pairs, *, stride: Pairs | None = None, pad: Pairs = 0) -> Value:
    """The mean of each window of images x [..., C, H, W], padding counted as zeros; the windows are ``max_pool``'s."""
    return apply(AvePool(*_windows("ave_pool", size, stride, pad)), x)


def _windows(function: str, size: Pairs, stride: Pairs | None, pad: Pairs) -> tuple[tuple[int, int], ...]:
    """Return size, stride and pad of a pooling as pairs; the default of the stride is the size."""
    window = pair_of(function, "size", size, 1, position=1)
    every = window if stride is None else pair_of(function, "stride", stride, 1)
    return window, every, pair_of(function, "pad", pad, 0)


@function
def dropout(x: Value, ratio: float = 0.5) -> Value:
    """x; in training each element becomes zero with probability ``ratio``, otherwise it is divided by 1 - ``ratio``.
    Each call in the code has a separate mask, drawn anew in each iteration and at each step. In a cell, a value that is
    the same at every step gets one mask for all steps."""
    share = number_of("dropout", "ratio", ratio)
    if not 0 <= share < 1:
        loc = argument_location(here(), 1, "ratio")
        raise DslError(f"dropout: ratio must be from 0 up to, not including, 1, found {ratio!r}", loc=loc)
    return apply(Dropout(share, next(inner_trace(x).root.draws)), x)


__all__ = ["ave_pool", "block_linear", "conv", "dropout", "einsum", "embed", "matmul", "max_pool", "outer"]
