"""The shapes of a net's blobs, inferred from its layers; unknown shapes are reported, never guessed.

A layer that is one of our ops has the shapes that the op infers. All others follow Caffe's own ``Reshape`` of that
layer (``src/caffe/layers/*_layer.cpp``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from lstmc.backend import Layer
from lstmc.errors import ShapeError
from lstmc.text import did_you_mean
from lstmc.types import TensorType
from lstmc_caffe.ops import LayerOps, front_axis, layer_ops, read_layer
from lstmc_caffe.proto.net import net_from_text, net_text

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
    layers: Iterable[Any], inputs: Mapping[str, Shape | None] = {}, declared: Mapping[str, Shape] = {}
) -> Shapes:
    """Return the shapes of all blobs that LayerParameters write, as far as types are known; or those ``declared``."""
    shapes, ops = Shapes(dict(inputs)), layer_ops()
    for layer in layers:
        bottoms = [shapes.blobs.get(name) for name in layer.bottom]
        tops: list[Shape | None] = []
        try:
            tops += _tops(layer, bottoms, ops)
        except ShapeError as error:
            shapes.unknown[layer.name] = error.message
        tops += [None] * (len(layer.top) - len(tops))
        tops = [declared.get(name, top) for name, top in zip(layer.top, tops, strict=False)]
        shapes.blobs.update(zip(layer.top, tops, strict=False))
        shapes.seen.append((bottoms, tops[: len(layer.top)]))
    return shapes


def old_inputs(net: Any) -> dict[str, Shape | None]:
    """The inputs of a net without Input layers: ``input`` with ``input_shape``, or with four ``input_dim`` each."""
    shapes: dict[str, Shape | None] = {}
    for i, name in enumerate(net.input):
        if net.input_shape:
            shape = tuple(net.input_shape[min(i, len(net.input_shape) - 1)].dim)
        else:
            shape = tuple(net.input_dim[4 * i : 4 * i + 4])
        shapes[name] = shape or None
    return shapes


def unwritten_bottoms(net: Any) -> Iterator[tuple[Any, str, str]]:
    """Yield each layer with a bottom that no layer before it writes, and the end of a sentence: the nearest blob.

    Caffe cannot load such a net: ``Unknown bottom blob`` (``Net<Dtype>::AppendBottom`` in ``src/caffe/net.cpp``).
    """
    written = dict.fromkeys(net.input)
    for layer in net.layer:
        yield from ((layer, blob, did_you_mean(blob, written)) for blob in layer.bottom if blob not in written)
        written |= dict.fromkeys(layer.top)


def _tops(layer: Any, bottoms: list[Shape | None], ops: LayerOps) -> list[Shape]:
    """The shapes that a layer writes. Raises :class:`ShapeError` that says why they cannot be found."""
    rule = REST.get(layer.type)
    if rule is None and layer.type not in ops:
        raise ShapeError(f"{layer.type} is not a layer whose shapes are known here")
    shapes = [shape for shape in bottoms if shape is not None]
    if len(shapes) < len(bottoms):
        names = [name for name, shape in zip(layer.bottom, bottoms, strict=True) if shape is None]
        raise ShapeError(f"the shape of its bottom {', '.join(names)} is not known")
    types = tuple(TensorType(shape) for shape in shapes)
    refusal = f"its parameters do not fit its bottoms, {', '.join(map(str, types)) or 'no bottom'}"
    try:
        op = read_layer(_of_same_shapes(layer), types, ops)
        if op is not None:
            return [top.shape for top in op.infer_tops(types)]
    except ShapeError as error:
        refusal = error.message
    try:
        if rule is not None:
            return rule(layer, shapes)
    except IndexError:
        pass
    raise ShapeError(refusal)


# What changes the numbers that a layer writes, and not the shapes: no op of ours has them.
NO_MATTER_OF_SHAPES = (
    ("dummy_data_param", ("data_filler",)),
    ("eltwise_param", ("operation",)),
    ("exp_param", ("base", "scale", "shift")),
    ("log_param", ("base", "scale", "shift")),
    ("pooling_param", ("pool",)),
    ("reduction_param", ("coeff", "operation")),
    ("scale_param", ("bias_term",)),
)


def _of_same_shapes(layer: Any) -> Any:
    """A layer of the same shapes that may be an op of ours where this one is none."""
    plain = type(layer)()
    plain.CopyFrom(layer)
    plain.ClearField("propagate_down")
    for param, names in NO_MATTER_OF_SHAPES:
        for name in names if layer.HasField(param) else ():
            getattr(plain, param).ClearField(name)
    if layer.HasField("embed_param"):
        plain.embed_param.bias_term = False
    return plain


def _declared(param: str) -> Infer:
    def infer(layer: Any, bottoms: list[Shape]) -> list[Shape]:
        shapes = [tuple(shape.dim) for shape in getattr(layer, param).shape]
        return [shapes[i if len(shapes) > 1 else 0] for i in range(len(layer.top))]

    return infer


def flattened(layer: Any, shape: Shape) -> Shape:
    """The shape of a Flatten's top. Raises :class:`ShapeError` for axes that its bottom does not have."""
    param = layer.flatten_param
    start, stop = (front_axis(layer.type, axis, TensorType(shape)) for axis in (param.axis, param.end_axis))
    return (*shape[:start], prod(shape[start : stop + 1]), *shape[stop + 1 :])


def _recurrent(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    steps, size, units = bottoms[0][0], bottoms[0][1], layer.recurrent_param.num_output
    return [(steps, size, units), *[(1, size, units)] * (len(layer.top) - 1)]


LOSSES = ("EuclideanLoss", "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "Accuracy")
REST: dict[str, Infer] = {
    **dict.fromkeys(
        ("BatchNorm", "Clip", "LRN", "MVN", "PReLU", "Swish", "Threshold"),
        lambda layer, bottoms: [bottoms[0]] * len(layer.top),
    ),
    "Flatten": lambda layer, bottoms: [flattened(layer, bottoms[0])],
    "Silence": lambda layer, bottoms: [],
    # of several tops
    "Input": _declared("input_param"),
    "DummyData": _declared("dummy_data_param"),
    # with states that go in and come out
    "LSTM": _recurrent,
    "RNN": _recurrent,
    # of bottoms that have one size, whatever their axes
    **dict.fromkeys(
        ("EuclideanLoss", "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "Accuracy"), lambda layer, bottoms: [()]
    ),
}


def listed_layers(net: bytes) -> tuple[Layer, ...]:
    """Every layer in order. Raises :class:`BackendError` for text that is no net, or a net of V1 layers."""
    read = net_from_text(net_text(net))
    shapes = infer_shapes(read.layer, old_inputs(read))
    return tuple(
        Layer(layer.name, layer.type, tuple(layer.bottom), tuple(layer.top), tuple(tops))
        for layer, (_, tops) in zip(read.layer, shapes.seen, strict=True)
    )
