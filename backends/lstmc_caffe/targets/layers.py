"""The layers of a net's text, each with the shapes of what it writes."""

from __future__ import annotations

from lstmc.backend import Layer
from lstmc_caffe.proto.net import net_from_text, net_text
from lstmc_caffe.targets.shapes import infer_shapes, old_inputs


def listed_layers(content: bytes) -> tuple[Layer, ...]:
    """Every layer in order. Raises :class:`BackendError` for text that is no net, or a net of V1 layers."""
    net = net_from_text(net_text(content))
    shapes = infer_shapes(net.layer, old_inputs(net))
    return tuple(
        Layer(layer.name, layer.type, tuple(layer.bottom), tuple(layer.top), tuple(tops))
        for layer, (_, tops) in zip(net.layer, shapes.seen, strict=True)
    )
