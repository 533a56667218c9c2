"""Operators of values: indexing by Split and Reshape, NumPy's broadcasting by Tile, matrix products, and hints.

Indexing accepts integers, slices, ``None`` and ``...``. Hints name the language's function for a
function or method of NumPy, PyTorch or Keras.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from math import prod

from lstmc.dsl.dims import DimExpr, whole_number
from lstmc.ops import Op, Reshape, Split, Sum, Tile
from lstmc.ops.pointwise import covered_axes
from lstmc.types import TensorType

Shape = tuple[int, ...]
Piece = tuple[Op, int]  # an op of one operand, and which of its results goes on
ALLOWED = "an index is an integer, a slice, None or ..."


class IndexRefused(Exception):
    """An unsupported index; the text is the reason."""


def indexed(shape: Shape, index: object, size: Callable[[DimExpr], int]) -> list[Piece]:
    """The ops, one after the other, that take ``index`` of an array of ``shape``; ``size`` is a dimension's number.

    Raises :class:`IndexRefused`.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    count = sum(part is not None and part is not Ellipsis for part in parts)
    if count > len(shape):
        raise IndexRefused(f"x is {TensorType(shape)}, with {len(shape)} axes, found an index of {count}")
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexRefused("an index has one ... at most")
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    parts[at : at + 1] = [slice(None)] * (len(shape) - count)
    pieces: list[Piece] = []
    axis, sizes, result = 0, list(shape), []
    for part in parts:
        if part is None:
            result.append(1)
            continue
        start, stop, every = _range(part, axis, shape, size)
        first = start
        if every:  # groups of that many elements, of each the one that is taken
            start, stop = _groups(start, stop, every, axis, shape)
        if (start, stop) != (0, shape[axis]):
            cuts = [n for n in (start, stop - start, shape[axis] - stop) if n]
            pieces.append((Split(axis, tuple(cuts)), int(start > 0)))
            sizes[axis] = stop - start
        if every > 1:
            sizes[axis] //= every
            grouped = (*sizes[: axis + 1], every, *sizes[axis + 1 :])
            before = first - start
            cuts = [n for n in (before, 1, every - before - 1) if n]
            pieces += [
                (Reshape(grouped), 0),
                (Split(axis + 1, tuple(cuts)), int(before > 0)),
                (Reshape(tuple(sizes)), 0),
            ]
        result += [sizes[axis]] if every else []
        axis += 1
    if result != sizes:
        pieces.append((Reshape(tuple(result)), 0))
    return pieces


def _groups(start: int, stop: int, every: int, axis: int, shape: Shape) -> tuple[int, int]:
    """The range of groups of ``every`` elements, one for each that a slice takes, in one place of all of them."""
    elements = (stop - start + every - 1) // every * every
    for first in range(start, max(start - every, -1), -1):
        if first + elements <= shape[axis]:
            return first, first + elements
    raise IndexRefused(
        f"axis {axis} has {shape[axis]} elements, of which a step of {every} leaves the last group incomplete:"
        f" concat zeros to it, and slice the result: x is {TensorType(shape)}"
    )


def _range(part: object, axis: int, shape: Shape, size: Callable[[DimExpr], int]) -> tuple[int, int, int]:
    """The elements [start, stop) that one part of an index takes, and every which of them; 0 where their axis goes."""
    length = shape[axis]
    if not isinstance(part, slice):
        number = _number(part, size)
        if not -length <= number < length:
            raise IndexRefused(f"axis {axis} has {length} elements, found {number}: x is {TensorType(shape)}")
        return number % length, number % length + 1, 0
    every = 1 if part.step is None else _number(part.step, size)
    if every < 1:
        raise IndexRefused(f"a slice goes forwards, found a step of {every}: {ALLOWED}")
    start, stop, _ = slice(*(None if n is None else _number(n, size) for n in (part.start, part.stop))).indices(length)
    if start >= stop:
        raise IndexRefused(f"axis {axis} has {length} elements, and none of them from {start} to {stop}")
    return (start, stop, every) if stop - start > every else (start, stop if every == 1 else start + 1, 1)


def _number(part: object, size: Callable[[DimExpr], int]) -> int:
    if isinstance(part, DimExpr):
        return size(part)
    number = whole_number(part)
    if number is None:
        raise IndexRefused(f"found {type(part).__name__} {reprlib.repr(part)}: {ALLOWED}")
    return number


def common_shape(x: Shape, y: Shape) -> Shape | None:
    """The shape that x and y are both repeated to, axes counted from the last; None if they do not fit."""
    rank = max(len(x), len(y))
    pairs = list(zip((1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return tuple(max(pair) for pair in pairs)


def repeated(x: Shape, shape: Shape) -> tuple[Op, ...]:
    """Return the ops, in order, that broadcast x to ``shape``."""
    padded = (1,) * (len(shape) - len(x)) + x
    ops: list[Op] = [] if padded == x else [Reshape(padded)]
    return (*ops, *(Tile(axis, n) for axis, (size, n) in enumerate(zip(padded, shape, strict=True)) if size != n))


def operands_repeated(x: Shape, y: Shape, is_fixed: Callable[[int], bool]) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Return the ops on x and on y that broadcast them for an elementwise op, with as few new elements as possible.

    Of a value and one that is made of parameters alone (``is_fixed``, of 0 for x and 1 for y), the value: a layer has a
    parameter once. It is asked where it matters alone: to answer it takes a walk to the leaves.

    None at all where one covers a run of the other's axes as it is, or where they do not fit: the op says so itself.
    """
    shape = common_shape(x, y)
    if shape is None or covered_axes(x, y) is not None or covered_axes(y, x) is not None:
        return (), ()
    only_x = covered_axes(y, shape) is not None
    only_y = covered_axes(x, shape) is not None
    if only_x and only_y and is_fixed(0) != is_fixed(1):
        return (repeated(x, shape), ()) if is_fixed(1) else ((), repeated(y, shape))
    if only_x and (not only_y or prod(x) >= prod(y)):
        return repeated(x, shape), ()
    return (() if only_y else repeated(x, shape)), repeated(y, shape)


Ops = tuple[Op, ...]


def fit(x: Shape, y: Shape) -> bool:
    """Return whether x @ y is valid: x's last axis is as long as y's last but one, and the others broadcast."""
    return bool(x and y) and x[-1] == y[max(len(y) - 2, 0)] and common_shape(x[:-2], y[:-2]) is not None


def product(x: Shape, y: Shape) -> tuple[Ops, Ops, Ops]:
    """The ops on x, on y, and on the element-wise product of both, that give x @ y, without its broadcast axes.

    A vector is a row on the left and a column on the right, and its axis of one element is gone in the result.
    """
    *before, rows, inner = x if len(x) > 1 else (1, *x)
    *behind, _, columns = y if len(y) > 1 else (*y, 1)
    lead = common_shape(tuple(before), tuple(behind))
    assert lead is not None
    if columns == 1:
        shapes, summed = ((*before, rows, inner), (*behind, 1, inner)), len(lead) + 1
    elif rows == 1:
        shapes, summed = ((*before, inner, 1), (*behind, inner, columns)), len(lead)
    else:
        shapes, summed = ((*before, rows, inner, 1), (*behind, 1, inner, columns)), len(lead) + 1
    result = (*lead, *((rows,) if len(x) > 1 else ()), *((columns,) if len(y) > 1 else ()))
    left = (*lead, *((rows,) if columns == 1 else (columns,) if rows == 1 else (rows, columns)))
    return _shaped(x, shapes[0]), _shaped(y, shapes[1]), (Sum(summed), *_shaped(left, result))


def _shaped(shape: Shape, target: Shape) -> Ops:
    return () if shape == target else (Reshape(target),)


def _by_name(names_by_remedy: Mapping[str, str]) -> dict[str, str]:
    return {name: remedy for remedy, names in names_by_remedy.items() for name in names.split()}


# What to write for the names of other libraries that are no functions here with the same arguments.
INSTEAD = _by_name(
    {
        "abs(x)": "absolute",
        "concat(a, b)": "concatenate hstack cat",
        "concat(a, b, axis=0)": "vstack",
        "maximum(a, b)": "maximum",
        "minimum(a, b)": "minimum",
        "clip(x, low, high)": "clip clamp clamp_",
        "where(m, a, b)": "where",
        "linear(x, W) with a parameter W [out, in], or x @ y": "dot matmul",
        "-x": "negative",
        "1 / x": "reciprocal",
        "reshape(x, shape)": "reshape flatten",
        "split(x, parts)": "split chunk array_split hsplit",
        "power(x, exponent)": "power",
        "sum(x, axis=0)": "sum add.reduce",
        "mean(x, axis=0)": "mean",
        "stack(a, b)": "stack",
        "tile(x, repeats)": "tile repeat",
        "x[..., None]": "expand_dims unsqueeze",
        "x[..., 0]": "squeeze",
        "expand(x, shape)": "broadcast_to broadcast_arrays",
        "concat(x[-n:], x[:-n], axis=0)": "roll",
        "transpose(x), which turns the last two axes, or transpose(x, 0, 2, 1)": "transpose",
        "transpose(x, 0, 2, 1), the axes in their new order": "permute swapaxes",
        "max(x, axis=0)": "max amax maximum.reduce",
        "min(x, axis=0)": "min amin",
        "var(x, axis=0)": "var",
        "var(x, axis=0) ** 0.5": "std",
        'einsum("nab,nb->na", C, q)': "einsum",
        "outer(x, y)": "outer",
        "full_like(x, value)": "full_like",
        "x @ y": "mm bmm",
        "softmax(x, axis=-1)": "softmax",
        "-floor(-x)": "ceil",
        "round(x)": "rint round",
        "round(x), or floor(x)": "fix",
        "a % b": "mod fmod remainder",
        "a // b": "floor_divide",
        "argmax(x, axis=-1)": "argmax",
        "argmax(-x, axis=-1)": "argmin",
        "one_hot(x, size)": "one_hot",
        "step(x) - step(-x)": "sign",
        "step(x)": "heaviside",
        "full(shape, 0)": "zeros",
        "full(shape, 1)": "ones",
        "const(numpy.eye(n))": "eye",
        "step(a - b)": "greater",
        "step(b - a)": "less",
        "a * b, of masks of 0 and 1": "logical_and",
        "maximum(a, b), of masks of 0 and 1": "logical_or",
        "1 - a, of a mask of 0 and 1": "logical_not",
        "sqrt(sum(x * x, axis=-1, keepdims=True))": "norm linalg_norm",
        "x * rsqrt(sum(x * x, axis=-1, keepdims=True))": "normalize",
        "m + log(sum(exp(x - m), axis=-1, keepdims=True)) with m = max(x, axis=-1, keepdims=True)": "logsumexp",
        "log_softmax(x, axis=-1)": "log_softmax",
        "scan(cell, x), with a state that sums": "cumsum",
        "scan(cell, x), with a state that multiplies": "cumprod",
        "scan(cell, x, reverse=True) to go over time backwards": "flip",
        "concat(zeros_like(x), x, axis=0), with as many zeros as needed": "pad",
        "reshape(x, -1)": "ravel",
        "x[0], x[1], ... along the first axis": "unbind",
        "embed(ids, W), of a parameter W [V, H]": "take",
        "sum(one_hot(i, K) * x, axis=-1), of x [..., K]": "gather",
        "embed(ids, W)": "embedding",
        "linear(x, W, b)": "linear addmm",
        "conv(x, W, b)": "conv2d",
        "max_pool(x, size)": "max_pool2d",
        "ave_pool(x, size)": "avg_pool2d",
        "layer_norm(x, gain, bias)": "layer_norm",
        "dropout(x, ratio)": "dropout",
        "hard_tanh(x)": "hardtanh",
        "hard_sigmoid(x, 1 / 6)": "hardsigmoid",
        "log_sigmoid(x)": "logsigmoid",
        "clip(x, 0, 6)": "relu6",
        "silu(x)": "swish",
        "x * tanh(softplus(x))": "mish",
        "1.0507 * elu(x, 1.6733)": "selu",
        "exp(x) - 1": "expm1",
        "log(1 + x)": "log1p",
        "log(x) / math.log(2)": "log2",
        "log(x) / math.log(10)": "log10",
        "exp(x * math.log(2))": "exp2",
        "softmax_loss(x, label)": "cross_entropy",
        "euclidean_loss(x, target)": "mse_loss",
        "sigmoid_cross_entropy_loss(x, target)": "binary_cross_entropy_with_logits",
        "x + y": "add",
        "x - y": "subtract sub",
        "x * y": "multiply mul",
        "x / y": "divide div",
        "x @ y + b": "baddbmm",
        "x itself, which never changes": "copy",
        "stop_gradient(x)": "detach",
        "where(mask, value, x)": "masked_fill",
        "x[..., 0] * x[..., 1] * ...": "prod",
        "max(mask, axis=-1)": "any",
        "min(mask, axis=-1)": "all",
        "x itself: keep what makes it infinite apart, as in log(maximum(x, 1e-6))": "nan_to_num",
    }
)
INSTEAD_OF_METHODS = INSTEAD | _by_name(
    {
        "transpose(x)": "mT",
        "x.T": "t",
        "x.shape": "size shape_as",
        "len(x.shape)": "ndim dim rank",
        "nothing: every Value is float32": "dtype",
        "nothing: a Value is on no device": "device",
        "x itself: every Value is float32": "astype float type_as",
        "x itself: every Value is float32, and on no device": "to",
        "x itself: a Value is on no device": "cuda cpu",
        "x itself, which never changes": "clone",
        "x itself": "contiguous",
        "x itself: there are no numbers yet": "item numpy",
        "-x": "neg",
        "Param(..., trained=False) where it is declared": "requires_grad",
        "x[..., i]": "select",
        "x[..., start:stop]": "narrow",
        "embed(ids, W), of a parameter W [V, H]": "index_select",
        "x itself, or stop_gradient(x)": "data",
        "nothing: the compiler makes the gradients": "grad",
    }
)

# Arguments and dimensions, and what other libraries call them.
ARGUMENTS = {
    "axis": ("dim", "dims", "axes", "dimension"),
    "keepdims": ("keepdim", "keep_dims"),
    "xs": ("x", "input", "inputs", "sequence", "sequences", "data"),
    "x": ("input", "inputs", "tensor", "data", "a", "arr", "logits", "y_pred", "scores"),
    "a": ("input", "x", "x1"),
    "y": ("other", "mat2", "x2"),
    "b": ("bias", "other", "y", "x2"),
    "W": ("weight", "weights", "kernel", "w"),
    "ratio": ("p", "prob", "rate", "dropout"),
    "low": ("min", "a_min", "minimum", "clip_value_min", "min_value", "minval"),
    "high": ("max", "a_max", "maximum", "clip_value_max", "max_value", "maxval"),
    "min": ("low", "minval", "a"),
    "max": ("high", "maxval", "b"),
    "size": ("kernel_size", "pool_size", "window_shape", "num_classes", "depth", "num"),
    "pad": ("padding",),
    "stride": ("strides",),
    "group": ("groups", "feature_group_count"),
    "dilation": ("dilation_rate", "rhs_dilation"),
    "parts": ("split_size_or_sections", "indices_or_sections", "num_or_size_splits", "chunks", "sections"),
    "label": ("labels", "y_true", "target", "targets"),
    "target": ("labels", "label", "y_true", "targets"),
    "ignore_label": ("ignore_index", "ignore_class"),
    "normalization": ("reduction",),
    "eps": ("epsilon", "variance_epsilon"),
    "gain": ("weight", "gamma", "scale"),
    "bias": ("beta", "offset", "b"),
    "repeats": ("reps", "multiples", "repetitions"),
    "shape": ("size", "sizes", "newshape", "target_shape"),
    "slope": ("negative_slope", "alpha"),
    "alpha": ("slope", "negative_slope"),
    "mask": ("condition", "cond"),
    "value": ("fill_value", "val"),
    "specification": ("equation", "subscripts"),
    "fill": ("init", "initializer", "initial", "value", "kernel_initializer", "init_fn", "default", "initial_value"),
    "trained": ("trainable", "requires_grad"),
    "values": ("dtype", "range", "domain"),
    "init": ("initial_state", "initial_states", "h0", "hx", "state", "states"),
    "lengths": ("sequence_length", "sequence_lengths", "seq_len", "seq_lens", "lens"),
    "reverse": ("go_backwards", "backward"),
    "carry": ("stateful",),
    "cont": ("mask",),
    "bound": ("cell", "f", "rnn", "fn"),
    "length": ("steps", "time_steps", "timesteps"),
    "mean": ("mu", "loc"),
    "std": ("sigma", "stddev", "std_dev", "scale"),
    "H": ("units", "hidden_size", "hidden", "num_hidden", "num_units", "hidden_dim", "features", "hidden_features"),
    "D": ("input_size", "input_dim", "in_features", "embedding_dim"),
    "N": ("batch", "batch_size"),
    "T": ("time", "steps", "seq_len", "sequence_length", "length"),
}
