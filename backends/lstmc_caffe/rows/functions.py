"""Functions of each element by others, where a target does not have their layers."""

from __future__ import annotations

from lstmc.ops import Op
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.form import Form
from lstmc_caffe.rows.sums import power_layers

ROOT = 16  # exp(x) is exp(x / 16) ** 16: 1 - tanh(x / 32) keeps its digits as far as exp(x) is finite


def exponential(form: Form, op: Op, args: Refs) -> Refs:
    """exp(x) = ((1 + t) / (1 - t)) ** 16, where t = tanh(x / 32)."""
    assert isinstance(op, caffe.ExpLayer)
    x, name = form.blob(args[0]), form.node.name
    if form.fits(op, form.b.type(x)) or not form.target.allows("TanH"):
        return (form.result(form.layer(op, x)),)  # as it is, or refused
    half = power_layers(form, caffe.PowerLayer(scale=0.5 / ROOT), x, f"{name}/half")
    t = form.layer(caffe.TanHLayer(), half, name=f"{name}/tanh")
    above = power_layers(form, caffe.PowerLayer(shift=1.0), t, f"{name}/above")
    below = power_layers(form, caffe.PowerLayer(-1.0, -1.0, 1.0), t, f"{name}/below")
    root = form.layer(caffe.Eltwise("PROD"), above, below, name=f"{name}/root")
    return (form.result(power_layers(form, caffe.PowerLayer(float(ROOT)), root, name)),)
