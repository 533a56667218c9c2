"""Functions of each element by others, where a target does not have their layers."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from lstmc.ir import Ref
from lstmc.ops import Array, Op
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.form import Form
from lstmc_caffe.rows.sums import power_layers

ROOT = 16  # exp(x) is exp(x / 16) ** 16: 1 - tanh(x / 32) keeps its digits as far as exp(x) is finite
DEGREE = 8  # of the polynomial for ln(1 + exp(-x)): it is then exact to 13 digits, and a pass changes no meaning


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


def absolute(form: Form, op: Op, args: Refs) -> Refs:
    """|x| = relu(x) + relu(-x)."""
    assert isinstance(op, caffe.AbsValLayer)
    return (form.result(_absolute(form, form.blob(args[0]), form.node.name)),)


def _absolute(form: Form, x: Ref, name: str) -> Ref:
    op = caffe.AbsValLayer()
    if form.fits(op, form.b.type(x)) or not form.target.allows("ReLU"):
        return form.layer(op, x, name=name)  # as it is, or refused
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), x, f"{name}/negated")
    above = form.layer(caffe.ReLULayer(), x, name=f"{name}/above")
    below = form.layer(caffe.ReLULayer(), negated, name=f"{name}/below")
    return form.layer(caffe.Eltwise("SUM"), above, below, name=name)


def softplus(form: Form, op: Op, args: Refs) -> Refs:
    """(x + |x|) / 2 + ln(1 + exp(-|x|)): its slope at 0 is right, and nothing in it overflows."""
    assert isinstance(op, caffe.BNLLLayer)
    x, name = form.blob(args[0]), form.node.name
    by_log = form.target.allows("Exp") and form.target.allows("Log")
    if form.target.allows("BNLL") or not (by_log or form.target.allows("Sigmoid")):
        return (form.result(form.layer(op, x)),)  # as it is, or refused
    size = _absolute(form, x, f"{name}/abs")
    twice = form.layer(caffe.Eltwise("SUM"), x, size, name=f"{name}/twice_positive")
    positive = power_layers(form, caffe.PowerLayer(scale=0.5), twice, f"{name}/positive")
    rest = (_log1p_by_log if by_log else _log1p_by_sigmoid)(form, size, name)
    return (form.result(form.layer(caffe.Eltwise("SUM"), positive, rest)),)


def _log1p_by_log(form: Form, size: Ref, name: str) -> Ref:
    """ln(1 + exp(-x)), as it stands."""
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), size, f"{name}/negated")
    small = form.layer(caffe.ExpLayer(), negated, name=f"{name}/exp")
    above_one = power_layers(form, caffe.PowerLayer(shift=1.0), small, f"{name}/above_one")
    return form.layer(caffe.LogLayer(), above_one, name=f"{name}/log")


def _log1p_by_sigmoid(form: Form, size: Ref, name: str) -> Ref:
    """ln(1 + e) = 2 atanh(z) where z = e / (2 + e), which is sigmoid(-x - ln 2) for e = exp(-x): with x from 0 on, z is
    in (0, 1/3], and 2 atanh(z) / z a polynomial of z z, by Horner."""
    ratio = _log_ratio()
    moved = power_layers(form, caffe.PowerLayer(1.0, -1.0, -float(np.log(2))), size, f"{name}/moved")
    z = form.layer(caffe.SigmoidLayer(), moved, name=f"{name}/ratio")
    square = form.layer(caffe.Eltwise("PROD"), z, z, name=f"{name}/square")
    first = caffe.PowerLayer(1.0, ratio[-1], ratio[-2])
    value = power_layers(form, first, square, f"{name}/polynomial_{len(ratio) - 2}")
    for degree in range(len(ratio) - 3, -1, -1):
        called = f"{name}/polynomial_{degree}"
        product = form.layer(caffe.Eltwise("PROD"), value, square, name=f"{called}/product")
        value = power_layers(form, caffe.PowerLayer(shift=ratio[degree]), product, called)
    return form.layer(caffe.Eltwise("PROD"), value, z, name=f"{name}/log")


@cache
def _log_ratio() -> tuple[float, ...]:
    """2 atanh(z) / z as a polynomial of w = z z from 0 to 1/9, the constant first."""

    def ratio(w: Array) -> Array:
        found: Array = 2 * np.arctanh(np.sqrt(w)) / np.sqrt(w)
        return found

    found = Chebyshev.interpolate(ratio, DEGREE, domain=[0, 1 / 9]).convert(kind=Polynomial, domain=[-1, 1])
    return tuple(float(coefficient) for coefficient in found.coef)
