"""A layer of any net as an op: of those here, and of those that packages bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.errors import PluginError
from lstmc.ops import Types
from lstmc.ops.dialects import dialects, load_dialect
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["LayerOps", "layer_ops", "read_layer"]

LayerOps = Mapping[str, tuple[type[CaffeOp], ...]]


def layer_ops() -> LayerOps:
    """The ops of each type of layer, of all installed dialects; one that does not load is `doctor`'s to name."""
    found: dict[str, tuple[type[CaffeOp], ...]] = {}
    for name in dialects():
        try:
            ops = load_dialect(name).values()
        except PluginError:
            continue
        for op in ops:
            if issubclass(op, CaffeOp):
                found[op.layer_type] = (*found.get(op.layer_type, ()), op)
    return found


def read_layer(layer: Any, bottoms: Types, ops: LayerOps) -> CaffeOp | None:
    """The op that a LayerParameter is, on bottoms of these types; None where none of ``ops`` does what it does.

    What the layer's blobs begin with, how they are trained and how much its tops weigh in a loss is not the op's.
    Raises :class:`ShapeError` where its parameters do not fit its bottoms.
    """
    for op in ops.get(layer.type, ()):
        found = op.read(layer, bottoms) if bottoms or not op.operands else None
        if found is not None:
            return found
    return None
