"""ONNX's own recurrent operators."""

from __future__ import annotations

from typing import Any

from lstmc_onnx.ops import GRU, LSTM, RNN, Recurrent
from lstmc_onnx.packages import onnx
from lstmc_onnx.writer import Call, Writer

PLACES = ("x", "W", "R", "B", "lengths", "h_0", "c_0", "P")


def recurrent(w: Writer, call: Call) -> None:
    op = call.op
    assert isinstance(op, Recurrent)
    given = dict(zip(op.roles(), call.args, strict=True))
    if "lengths" in given:
        (given["lengths"],) = w.add(
            "Cast", (given["lengths"],), f"{given['lengths']}/whole", to=onnx().TensorProto.INT32
        )
    inputs = [given.get(place, "") for place in PLACES]
    while not inputs[-1]:
        inputs.pop()
    attributes: dict[str, Any] = {"hidden_size": call.types[2].shape[-1], "direction": op.direction}
    attributes["activations"] = list(op.activations)
    if op.clip:
        attributes["clip"] = op.clip
    if op.alpha:
        attributes["activation_alpha"] = list(op.alpha)
    if op.beta:
        attributes["activation_beta"] = list(op.beta)
    title = call.results[0].rpartition("/")[0]
    w.add(type(op).__name__, inputs, call.results, title, **attributes, **op.attributes())


FORMS = dict.fromkeys((LSTM, GRU, RNN), recurrent)
