"""The shapes of a net's blobs, found from its layers; what cannot be found is said, not guessed.

Each rule is Caffe's own ``Reshape`` of that layer (``src/caffe/layers/*_layer.cpp``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

Shape = tuple[int, ...]
Infer = Callable[[Any, list[Shape]], list[Shape]]


@dataclass
class Shapes:
    """Shapes by blob name. ``unknown`` has the layers whose tops could not be found, each with the reason.

    A blob that a layer overwrites in place keeps its name, so a name has the shape of the last layer that wrote it;
    ``seen`` has, for each layer, the shapes of its bottoms and tops when its turn came (None: not known).
    """

    blobs: dict[str, Shape | None] = field(default_factory=dict)
    seen: list[tuple[list[Shape | None], list[Shape | None]]] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def infer_shapes(
    layers: Iterable[Any], inputs: Mapping[str, Shape | None] = {}, told: Mapping[str, Shape] = {}
) -> Shapes:
    """The shapes of all blobs that LayerParameters write, as far as their types are known here; or those ``told``."""
    shapes = Shapes(dict(inputs))
    for layer in layers:
        bottoms = [shapes.blobs.get(name) for name in layer.bottom]
        tops: list[Shape | None] = list(_tops(layer, bottoms, shapes))
        tops += [None] * (len(layer.top) - len(tops))
        tops = [told.get(name, top) for name, top in zip(layer.top, tops, strict=False)]
        shapes.blobs.update(zip(layer.top, tops, strict=False))
        shapes.seen.append((bottoms, tops[: len(layer.top)]))
    return shapes


def old_inputs(net: Any) -> dict[str, Shape | None]:
    """The inputs of a net without Input layers: ``input`` with ``input_shape``, or with four ``input_dim`` each."""
    found: dict[str, Shape | None] = {}
    for i, name in enumerate(net.input):
        if net.input_shape:
            shape = tuple(net.input_shape[min(i, len(net.input_shape) - 1)].dim)
        else:
            shape = tuple(net.input_dim[4 * i : 4 * i + 4])
        found[name] = shape or None
    return found


def _tops(layer: Any, bottoms: list[Shape | None], shapes: Shapes) -> list[Shape]:
    infer = RULES.get(layer.type)
    if infer is None:
        shapes.unknown[layer.name] = f"{layer.type} is not a layer whose shapes are known here"
        return []
    known = [shape for shape in bottoms if shape is not None]
    if len(known) < len(bottoms):
        names = [name for name, shape in zip(layer.bottom, bottoms, strict=True) if shape is None]
        shapes.unknown[layer.name] = f"the shape of its bottom {', '.join(names)} is not known"
        return []
    try:
        return infer(layer, known)
    except (IndexError, ValueError, ZeroDivisionError):
        found = ", ".join(str(list(shape)) for shape in known) or "no bottom"
        shapes.unknown[layer.name] = f"its parameters do not fit its bottoms, {found}"
        return []


def _axis(axis: int, shape: Shape) -> int:
    """An axis counted from the front. Raises IndexError for one that is not there."""
    if not -len(shape) <= axis < len(shape):
        raise IndexError(axis)
    return axis % len(shape)


def _declared(param: str) -> Infer:
    def infer(layer: Any, bottoms: list[Shape]) -> list[Shape]:
        given = [tuple(shape.dim) for shape in getattr(layer, param).shape]
        return [given[i if len(given) > 1 else 0] for i in range(len(layer.top))]

    return infer


def _same(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    return [bottoms[0]] * len(layer.top)


def _inner_product(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    axis = _axis(layer.inner_product_param.axis, bottoms[0])
    return [(*bottoms[0][:axis], layer.inner_product_param.num_output)]


def _slice(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    param, shape = layer.slice_param, bottoms[0]
    axis = _axis(param.slice_dim if param.HasField("slice_dim") else param.axis, shape)
    points = [0, *param.slice_point, shape[axis]]
    if len(points) == 2:
        if shape[axis] % len(layer.top):
            raise ValueError(shape)
        points = [shape[axis] * i // len(layer.top) for i in range(len(layer.top) + 1)]
    sizes = [after - before for before, after in pairwise(points)]
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _concat(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    param, shape = layer.concat_param, bottoms[0]
    axis = _axis(param.concat_dim if param.HasField("concat_dim") else param.axis, shape)
    return [(*shape[:axis], sum(bottom[axis] for bottom in bottoms), *shape[axis + 1 :])]


def _reshape(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    param, shape = layer.reshape_param, bottoms[0]
    start = param.axis if param.axis >= 0 else param.axis + len(shape) + 1
    stop = len(shape) if param.num_axes == -1 else start + param.num_axes
    covered = shape[start:stop]
    sizes = [covered[i] if size == 0 else size for i, size in enumerate(param.shape.dim)]
    if -1 in sizes:
        sizes[sizes.index(-1)] = prod(covered) // prod(size for size in sizes if size != -1)
    if prod(sizes) != prod(covered):
        raise ValueError(sizes)
    return [(*shape[:start], *sizes, *shape[stop:])]


def _flatten(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    shape = bottoms[0]
    start, stop = (_axis(axis, shape) for axis in (layer.flatten_param.axis, layer.flatten_param.end_axis))
    return [(*shape[:start], prod(shape[start : stop + 1]), *shape[stop + 1 :])]


def _tile(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    shape, axis = bottoms[0], _axis(layer.tile_param.axis, bottoms[0])
    return [(*shape[:axis], shape[axis] * layer.tile_param.tiles, *shape[axis + 1 :])]


def _embed(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    return [(*bottoms[0], layer.embed_param.num_output)]


def _convolution(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    param, shape = layer.convolution_param, bottoms[0]
    axis = _axis(param.axis, shape)
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            shape[axis + 1 :],
            _of_each_axis(param, "kernel_size", ("kernel_h", "kernel_w"), 0, shape[axis + 1 :]),
            _of_each_axis(param, "stride", ("stride_h", "stride_w"), 1, shape[axis + 1 :]),
            _of_each_axis(param, "pad", ("pad_h", "pad_w"), 0, shape[axis + 1 :]),
            _of_each_axis(param, "dilation", (), 1, shape[axis + 1 :]),
            strict=True,
        )
    ]
    return [(*shape[:axis], param.num_output, *sizes)]


def _of_each_axis(param: Any, field: str, pair: tuple[str, ...], default: int, axes: Shape) -> list[int]:
    """A number for each axis of an image: from two fields of their own, or a repeated one with one or all of them."""
    if pair and any(param.HasField(name) for name in pair):
        return [getattr(param, name) for name in pair]
    given = list(getattr(param, field)) or [default]
    return given * len(axes) if len(given) == 1 else given


def _pooling(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    param, (batch, channels, *image) = layer.pooling_param, bottoms[0]
    if param.global_pooling:
        return [(batch, channels, 1, 1)] * len(layer.top)
    pairs = [
        [
            getattr(param, f"{field}_{axis}") if param.HasField(f"{field}_{axis}") else getattr(param, both)
            for axis in "hw"
        ]
        for field, both in (("kernel", "kernel_size"), ("stride", "stride"), ("pad", "pad"))
    ]
    sizes = []
    for n, k, s, p in zip(image, *pairs, strict=True):
        size = -((k - n - 2 * p) // s) + 1
        sizes.append(size - 1 if any(pairs[2]) and (size - 1) * s >= n + p else size)
    return [(batch, channels, *sizes)] * len(layer.top)


def _reduction(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    return [bottoms[0][: _axis(layer.reduction_param.axis, bottoms[0])]]


def _recurrent(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    steps, size, units = *bottoms[0][:2], layer.recurrent_param.num_output
    return [(steps, size, units), *[(1, size, units)] * (len(layer.top) - 1)]


def _lstm_unit(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    return [bottoms[0], bottoms[0]]


def _none(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    return []


def _scalar(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    return [()]


# What these layers write has the shape of their first bottom.
LIKE_BOTTOM = (
    *("AbsVal", "BNLL", "BatchNorm", "Bias", "Clip", "Dropout", "ELU", "Eltwise", "Exp", "LRN", "Log", "MVN", "PReLU"),
    *("Power", "ReLU", "Scale", "Sigmoid", "Softmax", "Split", "Swish", "TanH", "Threshold"),
)

RULES: dict[str, Infer] = {
    "Input": _declared("input_param"),
    "DummyData": _declared("dummy_data_param"),
    **dict.fromkeys(LIKE_BOTTOM, _same),
    **dict.fromkeys(("EuclideanLoss", "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "Accuracy"), _scalar),
    "InnerProduct": _inner_product,
    "Slice": _slice,
    "Concat": _concat,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Tile": _tile,
    "Embed": _embed,
    "Convolution": _convolution,
    "Pooling": _pooling,
    "Reduction": _reduction,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "LSTMUnit": _lstm_unit,
    "Silence": _none,
}
