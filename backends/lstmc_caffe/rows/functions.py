"""Functions of each element by others, where a target does not have their layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
DOUBLINGS = 8  # exp(x) is exp(x / 256) doubled up, where there is no division
LN_2 = float(np.log(2))
INVERSE = caffe.PowerLayer(-1.0)
BELOW = caffe.PowerLayer(-1.0, -1.0, 1.0)  # 1 / (1 - x)


def exponential(form: Form, op: Op, args: Refs) -> Refs:
    """By TanH and a division where there is one, in float16 by Sigmoid and one; else by Sigmoid and polynomials."""
    assert isinstance(op, caffe.ExpLayer)
    x, name = form.blob(args[0]), form.node.name
    if form.fits(op, form.b.type(x)):
        return (form.result(form.layer(op, x)),)
    if form.target.float16 and form.target.allows("Sigmoid") and form.fits(INVERSE, form.b.type(x)):
        return (form.result(_exp_by_two_sigmoids(form, x, name)),)
    if form.target.allows("TanH") and form.fits(BELOW, form.b.type(x)):
        return (form.result(_exp_by_tanh(form, x, name)),)
    if form.target.allows("Sigmoid"):
        return (form.result(_exp_by_sigmoid(form, x, name)),)
    return (form.result(form.layer(op, x)),)  # refused


def _exp_by_two_sigmoids(form: Form, x: Ref, name: str) -> Ref:
    """sigmoid(x) / sigmoid(-x): with no power that takes digits away, in float16, which a Sigmoid by tanh would."""
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), x, f"{name}/negated")
    above = form.layer(caffe.SigmoidLayer(), x, name=f"{name}/above")
    below = form.layer(caffe.SigmoidLayer(), negated, name=f"{name}/below")
    inverse = power_layers(form, INVERSE, below, f"{name}/inverse")
    return form.layer(caffe.Eltwise("PROD"), above, inverse, name=name)


def _exp_by_tanh(form: Form, x: Ref, name: str) -> Ref:
    """((1 + t) / (1 - t)) ** 16, where t = tanh(x / 32)."""
    half = power_layers(form, caffe.PowerLayer(scale=0.5 / ROOT), x, f"{name}/half")
    t = form.layer(caffe.TanHLayer(), half, name=f"{name}/tanh")
    above = power_layers(form, caffe.PowerLayer(shift=1.0), t, f"{name}/above")
    below = power_layers(form, BELOW, t, f"{name}/below")
    root = form.layer(caffe.Eltwise("PROD"), above, below, name=f"{name}/root")
    return power_layers(form, caffe.PowerLayer(float(ROOT)), root, name)


def _exp_by_sigmoid(form: Form, x: Ref, name: str) -> Ref:
    """exp(-n) times exp(p), for the parts p and n of x = p - n, of which one is 0: without a division.

    The first is (2 z / (1 - z)) ** 16 where z = sigmoid(-n / 16 - ln 2), which is in (0, 1/3]: the ratio is z times a
    polynomial of z, and a Sigmoid by tanh keeps the digits of such z. The second is 1 + m, where m = expm1(p) is
    doubled up from expm1(p / 256), a polynomial: expm1(2 v) = m (m + 2) keeps the digits of small m.
    """
    total, product = caffe.Eltwise("SUM"), caffe.Eltwise("PROD")
    size = _absolute(form, x, f"{name}/abs")
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), x, f"{name}/negated")
    positive = form.layer(total, x, size, name=f"{name}/twice_positive")
    negative = form.layer(total, negated, size, name=f"{name}/twice_negative")
    moved = power_layers(form, caffe.PowerLayer(1.0, -0.5 / ROOT, -LN_2), negative, f"{name}/moved")
    z = form.layer(caffe.SigmoidLayer(), moved, name=f"{name}/ratio")
    decay = form.layer(product, _polynomial(form, _ratio(), z, f"{name}/decay"), z, name=f"{name}/decay")
    for number in range(1, ROOT.bit_length()):
        decay = form.layer(product, decay, decay, name=f"{name}/decay/{2**number}")
    part = power_layers(form, caffe.PowerLayer(scale=0.5 ** (DOUBLINGS + 1)), positive, f"{name}/part")
    growth = form.layer(product, _polynomial(form, _growth(), part, f"{name}/growth"), part, name=f"{name}/growth")
    for number in range(1, DOUBLINGS + 1):
        above = power_layers(form, caffe.PowerLayer(shift=2.0), growth, f"{name}/growth/{2**number}/above")
        growth = form.layer(product, growth, above, name=f"{name}/growth/{2**number}")
    grown = power_layers(form, caffe.PowerLayer(shift=1.0), growth, f"{name}/grown")
    return form.layer(product, decay, grown, name=name)


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
    moved = power_layers(form, caffe.PowerLayer(1.0, -1.0, -LN_2), size, f"{name}/moved")
    z = form.layer(caffe.SigmoidLayer(), moved, name=f"{name}/ratio")
    square = form.layer(caffe.Eltwise("PROD"), z, z, name=f"{name}/square")
    value = _polynomial(form, _log_ratio(), square, name)
    return form.layer(caffe.Eltwise("PROD"), value, z, name=f"{name}/log")


def _polynomial(form: Form, coefficients: Sequence[float], x: Ref, name: str) -> Ref:
    """A polynomial by Horner; the coefficients are of x to the power of 0, 1 and so on."""
    first = caffe.PowerLayer(1.0, coefficients[-1], coefficients[-2])
    value = power_layers(form, first, x, f"{name}/polynomial_{len(coefficients) - 2}")
    for degree in range(len(coefficients) - 3, -1, -1):
        called = f"{name}/polynomial_{degree}"
        product = form.layer(caffe.Eltwise("PROD"), value, x, name=f"{called}/product")
        value = power_layers(form, caffe.PowerLayer(shift=coefficients[degree]), product, called)
    return value


@cache
def _log_ratio() -> tuple[float, ...]:
    """2 atanh(z) / z as a polynomial of w = z z from 0 to 1/9, the constant first."""

    def ratio(w: Array) -> Array:
        found: Array = 2 * np.arctanh(np.sqrt(w)) / np.sqrt(w)
        return found

    return _interpolated(ratio, DEGREE, 1 / 9)


@cache
def _ratio() -> tuple[float, ...]:
    """2 / (1 - z) from 0 to 1/3."""
    return _interpolated(lambda z: 2 / (1 - z), 13, 1 / 3)


@cache
def _growth() -> tuple[float, ...]:
    """expm1(v) / v from 0 to where exp(v) ** 256 is no float32."""
    return _interpolated(lambda v: np.expm1(v) / v, 7, float(np.log(np.finfo(np.float32).max)) / 2**DOUBLINGS)


def _interpolated(function: Callable[[Array], Array], degree: int, end: float) -> tuple[float, ...]:
    """The coefficients of a function as a polynomial from 0 to ``end``, the constant first."""
    found = Chebyshev.interpolate(function, degree, domain=[0, end]).convert(kind=Polynomial, domain=[-1, 1])
    return tuple(float(coefficient) for coefficient in found.coef)
