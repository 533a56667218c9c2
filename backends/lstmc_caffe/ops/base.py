"""A Caffe layer as an op: its meaning, its text in a prototxt, and reading a layer of any net as an op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lstmc.errors import PluginError, ShapeError
from lstmc.ops import Constant, Filler, Gaussian, Msra, Op, Types, Uniform, Xavier
from lstmc.ops.dialects import dialects, load_dialect
from lstmc.types import TensorType
from lstmc_caffe.proto.fields import field_value, has_other_settings, read_setting, write_setting


@dataclass(frozen=True)
class CaffeOp(Op):
    """An op that is one Caffe layer. Its name is ``caffe.`` and the layer's type.

    ``settings`` says once how its attributes are written and read: for each the path of a field of LayerParameter,
    ``{"slope": "relu_param.negative_slope"}``. Where a field is not an attribute's value as it is, the op has a
    ``write`` and a ``read`` of its own, and ``own_param`` names the message that they see to.
    """

    backend = "caffe"
    layer_type: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}
    own_param: ClassVar[str] = ""

    def blobs(self, operands: int) -> range:
        """Return the range of operands that are the layer's own learned blobs, not bottoms; they come last."""
        return range(0)

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
        """Return the constant operands that are fields of the layer: they are no bottoms."""
        return frozenset()

    def write(self, layer: Any) -> None:
        """Set the layer's own parameters in a LayerParameter message; defaults are left out."""
        for attribute, path in self.settings.items():
            write_setting(layer, path, getattr(self, attribute))

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        """The inverse: the op that a LayerParameter is, on bottoms of these types; None if it does something else.

        The layer is of the op's ``layer_type``, and whoever wrote it may have used what is never written here: an
        axis that is counted from the last, a field's old name. Raises :class:`ShapeError` for what does not fit.
        """
        if has_other_settings(layer, {*cls.settings.values(), cls.own_param}):
            return None
        attributes = {attribute: read_setting(layer, path) for attribute, path in cls.settings.items()}
        if "axis" in attributes:
            attributes["axis"] = front_axis(cls.name, attributes["axis"], bottoms[0])
        return cls(**{attribute: value for attribute, value in attributes.items() if value is not None})

    def fillers(self, layer: Any) -> list[Any]:
        """Return the FillerParameter message of each learned blob, in order."""
        return []


def front_axis(op: str, axis: int, x: TensorType) -> int:
    """Return an axis counted from the first. Raises :class:`ShapeError` for one that x does not have."""
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
    """Return the filler of a FillerParameter message; None for one that the language does not have."""
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
    """Return the ops of each type of layer, of all installed dialects; one that does not load is `doctor`'s to name."""
    by_type: dict[str, tuple[type[CaffeOp], ...]] = {}
    for name in dialects():
        try:
            ops = load_dialect(name).values()
        except PluginError:
            continue
        for op in ops:
            if issubclass(op, CaffeOp):
                by_type[op.layer_type] = (*by_type.get(op.layer_type, ()), op)
    return by_type


def read_layer(layer: Any, bottoms: Types, ops: LayerOps) -> CaffeOp | None:
    """Return the op that a LayerParameter is, on bottoms of these types; None where none of ``ops`` does what it does.

    What the layer's blobs begin with, how they are trained and how much its tops weigh in a loss is not the op's.
    Raises :class:`ShapeError` where its parameters do not fit its bottoms.
    """
    for op in ops.get(layer.type, ()):
        match = op.read(layer, bottoms) if bottoms or not op.operands else None
        if match is not None:
            return match
    return None


__all__ = ["CaffeOp", "LayerOps", "front_axis", "layer_ops", "read_filler", "read_layer", "write_filler"]
