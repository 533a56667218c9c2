"""A Caffe layer as an op: its meaning, its text in a prototxt, and reading a layer of any net as an op."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, Self

from lstmc.errors import BackendError, PluginError, ShapeError
from lstmc.ops import Constant, Filler, Gaussian, Msra, Op, Types, Uniform, Xavier
from lstmc.ops.base import dialects, load_dialect
from lstmc.types import TensorType
from lstmc_caffe.proto.net import LayerParameter, field_value, other_settings, read_setting, write_setting


@dataclass(frozen=True)
class CaffeOp(Op):
    """An op that is one Caffe layer. Its default ``layer_type`` is the name of its class without ``Layer``, its default
    name ``caffe.`` and that type.

    ``settings`` maps each attribute to the path of a field of LayerParameter, which reading and writing use:
    ``{"slope": "relu_param.negative_slope"}``. If a field differs from the attribute's value, the op defines ``write``
    and ``read``, and ``own_param`` names the message that they handle. ``blob_fillers`` are the paths of its learned
    blobs' FillerParameters, in order.
    """

    backend = "caffe"
    layer_type: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}
    own_param: ClassVar[str] = ""
    blob_fillers: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Set the layer type and the name of a new op class, from the class's name, unless the class has its own."""
        if not hasattr(cls, "layer_type") and not cls.__name__.startswith("_"):
            cls.layer_type = cls.__name__.removesuffix("Layer")
        if "layer_type" in vars(cls):
            cls.name = vars(cls).get("name", f"caffe.{cls.layer_type}")

    def blobs(self, operands: int) -> range:
        """Return the range of operands that are the layer's own learned blobs, not bottoms; they come last."""
        return range(len(self.operands) - len(self.blob_fillers), operands) if self.blob_fillers else range(0)

    def blob_types(self, bottoms: Types) -> Types:
        """Return the types of its learned blobs, on bottoms of these types."""
        return ()

    def infer_tops(self, bottoms: Types) -> Types:
        """Return the types of the layer's tops. Raises :class:`ShapeError` for bottoms that it does not take."""
        operands = len(self.operands)
        learned = self.blobs(operands)
        expected = learned.start if learned else operands
        if self.operands[-1:] != ("*xs",) and len(bottoms) != expected:
            raise ShapeError(f"{self.name}: must have {expected} bottom(s), found {len(bottoms)}")
        return self.infer(*bottoms, *self.blob_types(bottoms))

    def inlined(self, operands: int) -> frozenset[int]:
        """Return the constant operands that are fields of the layer: they are not bottoms."""
        return frozenset()

    def write(self, layer: Any) -> None:
        """Set the layer's own parameters in a LayerParameter message; defaults are left out."""
        _check_settings(type(self))
        for attribute, path in self.settings.items():
            write_setting(layer, path, getattr(self, attribute))

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        """Return the op of a LayerParameter on bottoms of these types; None if the op cannot express the layer. The
        layer may have settings that lstmc never writes: an axis counted from the last, or a field's old name. Raises
        :class:`ShapeError` if its settings do not fit the bottoms."""
        _check_settings(cls)
        stopped = ("propagate_down",) if cls.stops_gradient else ()
        if any(other_settings(layer, {*cls.settings.values(), cls.own_param, *stopped})):
            return None
        attributes = {attribute: read_setting(layer, path) for attribute, path in cls.settings.items()}
        if any(attributes.get(field.name, 0) is None and field.default is MISSING for field in fields(cls)):
            return None
        if "axis" in attributes:
            attributes["axis"] = front_axis(cls.name, attributes["axis"], bottoms[0])
        return cls(**{attribute: value for attribute, value in attributes.items() if value is not None})

    def as_read(self) -> CaffeOp:
        """Return the op that the importer reads from this op's layer, which may not hold all fields."""
        return self

    def check(self, operands: Types) -> None:
        """Raise AssertionError unless the op's layer is read back as the same op, which writes the same layer again."""
        learned = self.blobs(len(operands))
        bottoms = operands[: learned.start if learned else None]
        types = self.infer(*operands)
        layer, again = (LayerParameter(name="l", type=self.layer_type) for _ in range(2))
        for message in (layer, again):
            message.bottom.extend(f"bottom{number}" for number in range(len(bottoms)))
            message.top.extend(f"top{number}" for number in range(len(types)))
        self.write(layer)
        ops = dict(layer_ops())
        ops[self.layer_type] = tuple(dict.fromkeys((*ops.get(self.layer_type, ()), type(self))))
        op = read_layer(LayerParameter.FromString(layer.SerializeToString()), bottoms, ops)
        assert op is not None, "its layer is read as none"
        assert op == self.as_read(), f"its layer is read as {op}: each attribute needs a field in settings"
        assert op.infer_tops(bottoms) == types, f"infer_tops gives {op.infer_tops(bottoms)}, infer {types}"
        blob_types = op.blob_types(bottoms)
        assert (*bottoms, *blob_types) == tuple(operands), f"blob_types gives {blob_types}, operands are {operands}"
        op.write(again)
        assert again == layer, f"what was read writes another layer: {again}, expected {layer}"

    def fillers(self, layer: Any) -> list[Any]:
        """Return the FillerParameter messages of learned blobs, in order; fewer blobs use the first ones."""
        paths = (path.split(".") for path in self.blob_fillers)
        return [getattr(getattr(layer, param), name) for param, name in paths]


@cache
def _check_settings(kind: type[CaffeOp]) -> None:
    """Raise :class:`BackendError` if ``settings`` of a class of layers names a field that Caffe's message lacks."""
    for path in kind.settings.values():
        param, _, name = path.partition(".")
        message, fields = LayerParameter.DESCRIPTOR.fields_by_name.get(param), LayerParameter.DESCRIPTOR.fields_by_name
        wrong, owner = param, "LayerParameter"
        if message is not None and message.message_type is not None:
            wrong, owner, fields = name, message.message_type.name, message.message_type.fields_by_name
        if wrong not in fields:
            near = ", ".join(get_close_matches(wrong, list(fields), 3, 0.5)) or ", ".join(fields)
            raise BackendError(
                f"{kind.__name__}: settings has {path}, but {owner} has no field {wrong} (known are {near}): declare it"
                " by lstmc_caffe.proto.net.layer_field, above the class (docs/write-an-op.md)"
            )


def front_axis(op: str, axis: int, x: TensorType) -> int:
    """Return an axis counted from the first. Raises :class:`ShapeError` for an axis that x does not have."""
    if not -x.rank <= axis < x.rank:
        raise ShapeError(f"{op}: axis {axis} does not exist: x is {x}, with {x.rank} axes")
    return axis % x.rank


def write_filler(message: Any, filler: Filler) -> None:
    """Write a filler into a FillerParameter message, as ``include/caffe/filler.hpp`` reads it."""
    message.type = filler.name
    match filler:
        case Constant(value):
            if value:
                message.value = value
        case Uniform(low, high):
            message.min, message.max = low, high
        case Gaussian(mean, std):
            message.mean, message.std = mean, std
        case Xavier(norm) | Msra(norm):
            if norm != "fan_in":
                message.variance_norm = getattr(type(message), norm.upper())
        case _:
            raise NotImplementedError(f"no Caffe filler for {filler!r}")


def read_filler(message: Any) -> Filler | None:
    """Return the filler of a FillerParameter message; None for a filler that the language lacks."""
    norm = field_value(message, "variance_norm").lower()
    match message.type:
        case "constant":
            return Constant(field_value(message, "value"))
        case "uniform":
            return Uniform(field_value(message, "min"), field_value(message, "max"))
        case "gaussian" if message.sparse < 0:
            return Gaussian(field_value(message, "mean"), field_value(message, "std"))
        case "xavier":
            return Xavier(norm)
        case "msra":
            return Msra(norm)
    return None


LayerOps = Mapping[str, tuple[type[CaffeOp], ...]]


def layer_ops() -> LayerOps:
    """Return the ops of each type of layer, of all dialects that load; ``lstmc doctor`` names those that do not."""
    by_type: dict[str, tuple[type[CaffeOp], ...]] = {}
    for name in dialects():
        with suppress(PluginError):
            for op in load_dialect(name).values():
                if issubclass(op, CaffeOp):
                    by_type[op.layer_type] = (*by_type.get(op.layer_type, ()), op)
    return by_type


def read_layer(layer: Any, bottoms: Types, ops: LayerOps) -> CaffeOp | None:
    """Return the op that matches a LayerParameter, without fillers and learning rates; None if none of ``ops`` does.
    Raises :class:`ShapeError` where its parameters do not fit its bottoms."""
    for op in ops.get(layer.type, ()):
        match = op.read(layer, bottoms) if bottoms or not op.operands else None
        if match is not None:
            return match
    return None


__all__ = ["CaffeOp", "LayerOps", "front_axis", "layer_ops", "read_filler", "read_layer", "write_filler"]
