"""Elementwise functions, sums and products by the layers of a target: Eltwise, Power, Scale, Bias, Concat. A call of
``form.layer`` marked "refused" raises BackendError, because the target has no layer for that op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from lstmc.ir import Ref
from lstmc.ops import Array, Concat, Op
from lstmc.passes import Refs
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.layout import Form, Matrix, last_axis, matrix_at, matrix_shape, unviewed


def eltwise(form: Form, op: caffe.Eltwise, args: Refs) -> Refs:
    return (form.result(combined(form, op, args)),)


def combined(form: Form, op: caffe.Eltwise, values: Sequence[Ref], called: str = "") -> Ref:
    """Combine values of one size by the Eltwise ``op``, by one layer if the target allows it, else two at a time; a
    single value is returned. If the target's Eltwise lacks ``coeff``, values are first multiplied by their weights."""
    blobs = _in_one_shape(form, values)
    name, type_ = called or form.node.name, form.b.type(blobs[0])
    if len(blobs) == 1:
        return blobs[0]
    if (op.operation != "MAX" or len(blobs) == 2) and form.fits(op, *[type_] * len(blobs)):
        return form.layer(op, *blobs, name=called)
    weights = op.coeff or (1.0,) * len(blobs)
    if op.coeff and not form.fits(caffe.Eltwise("SUM", (1.0, -1.0)), type_, type_):
        blobs = [ref if weight == 1 else _times(form, ref, weight) for ref, weight in zip(blobs, weights, strict=True)]
        return combined(form, caffe.Eltwise("SUM"), blobs, called)
    total, by_relu = blobs[0], form.target.allows("ReLU") and form.target.allows("Sigmoid")
    for number, (ref, weight) in enumerate(zip(blobs[1:], weights[1:], strict=True), 2):
        coeff = () if not op.coeff else (weights[0] if number == 2 else 1.0, weight)
        partial = called if number == len(blobs) else f"{name}/{number}"
        two = caffe.Eltwise(op.operation, coeff)
        if op.operation == "MAX" and by_relu and not form.fits(two, type_, type_):
            total = _larger(form, total, ref, partial)
        else:
            total = form.layer(two, total, ref, name=partial)
    return total


def _larger(form: Form, a: Ref, b: Ref, called: str) -> Ref:
    """Return max(a, b), with ReLU: a + relu(b - a) and b + relu(a - b) both equal it. The sum that starts with the
    smaller number loses digits if a and b differ much. So the two sums are added with the weights sigmoid(a - b) and
    sigmoid(b - a): these are 1 and 0 if a and b differ much, and otherwise both sums are exact."""
    name, total, product = called or form.node.name, caffe.Eltwise("SUM"), caffe.Eltwise("PROD")
    ahead = form.layer(total, a, _times(form, b, -1.0), name=f"{name}/ahead")
    behind = power_layers(form, caffe.PowerLayer(scale=-1.0), ahead, f"{name}/behind")
    weighed = []
    for base, lead, gap, side in ((a, ahead, behind, "first"), (b, behind, ahead, "second")):
        missing = form.layer(caffe.ReLULayer(), gap, name=f"{name}/{side}/missing")
        larger = form.layer(total, base, missing, name=f"{name}/{side}/larger")
        weight = form.layer(caffe.SigmoidLayer(), lead, name=f"{name}/{side}/weight")
        weighed.append(form.layer(product, larger, weight, name=f"{name}/{side}"))
    return form.layer(total, *weighed, name=called)


def _in_one_shape(form: Form, values: Sequence[Ref]) -> list[Ref]:
    """Return an Eltwise's operands in the shape of the first matrix that is no view: a second run changes nothing."""
    if not form.rows:
        return list(values)
    matrices = [ref for ref in values if unviewed(form.b, ref) == ref and len(form.shape(ref)) == 2]
    shape = form.shape(matrices[0] if matrices else form.blob(values[0]))
    return [form.view(ref, shape) for ref in values]


def _times(form: Form, ref: Ref, factor: float) -> Ref:
    name = f"{form.node.name}/{'negated' if factor == -1 else 'scaled'}"
    scaled = power_layers(form, caffe.PowerLayer(scale=factor), form.blob(ref), name)
    return form.view(scaled, form.shape(ref))


def power(form: Form, op: caffe.PowerLayer, args: Refs) -> Refs:
    return (form.result(power_layers(form, op, form.blob(args[0]), form.node.name)),)


# If two Power layers compute a * x ** p + b and the first has no shift, OpenCV wrongly merges them to (a x + b) ** p
# (PowerFunctor::tryFuse, modules/dnn/src/layers/elementwise_layers.cpp). NO_SHIFT, the smallest normal float32,
# prevents this as a shift. Added to an x of 2**-101 or more it changes nothing (tests/on_demand/float_proofs.py).
NO_SHIFT = 2.0**-126


def power_layers(form: Form, op: caffe.PowerLayer, x: Ref, name: str) -> Ref:
    """Write (shift + scale x) ** power as a Power layer; if the target has no such Power, a scale as a weighted sum and
    a shift as a sum with a constant. Then, and on matrices always without a shift, a square is x times itself."""
    type_ = form.b.type(x)
    if form.rows and op.power == 2 and not op.shift:
        inner = x if op.scale == 1 else power_layers(form, caffe.PowerLayer(1.0, op.scale), x, f"{name}/inner")
        return form.layer(caffe.Eltwise("PROD"), inner, inner, name=name)
    if form.rows and op.power != 1 and not op.shift and form.target.allows("Power"):
        op = replace(op, shift=NO_SHIFT)
    weighed = caffe.Eltwise("SUM", (op.scale / 2, op.scale / 2))
    if form.fits(op, type_):
        return form.layer(op, x, name=name)
    if op.power == 2:
        inner = power_layers(form, caffe.PowerLayer(1.0, op.scale, op.shift), x, f"{name}/inner")
        return form.layer(caffe.Eltwise("PROD"), inner, inner, name=name)
    if op.power != 1 or (op.scale != 1 and not form.fits(weighed, type_, type_)):
        return form.layer(op, x, name=name)  # refused
    if op.scale != 1:
        x = form.layer(weighed, x, x, name=f"{name}/scaled" if op.shift else name)
    if op.shift:
        if not form.target.allows("DummyData"):
            return form.layer(op, x, name=name)  # refused
        x = form.layer(caffe.Eltwise("SUM"), x, form.constant(type_.shape, op.shift, f"{name}/shift"), name=name)
    return x


def broadcast(form: Form, op: caffe.Bias | caffe.Scale, args: Refs) -> Refs:
    """Write x + y or x * y, where y covers only some axes of x. A learned y becomes the blob of a Bias or Scale layer,
    or a Scale of ones turns it into a value. A computed y is repeated to x's shape for an Eltwise."""
    x, y = args
    shape = form.shape(x)
    if op.learned and form.rows:
        image = _as_image(form, op, x)
        if image is not None:
            return (form.result(form.layer(type(op)(1, 1, True), image, form.reshaped_blob(y))),)
        if isinstance(op, caffe.Scale) or op.num_axes < len(shape):
            op, x, y = _of_columns(form, op, x, y)
            shape = form.shape(x)
        if isinstance(op, caffe.Scale):
            return (form.result(form.layer(op, x, y)),)
    if op.learned and isinstance(op, caffe.Bias):
        label = form.named(args[1]).rpartition("/")[2]
        return (form.result(_plus_parameter(form, op, x, y, label)),)
    small = form.parameter_value(y, f"{form.named(y)}/value") if op.learned else y
    whole, spread = _alike(form, small, x, op)
    both = caffe.Eltwise("SUM" if isinstance(op, caffe.Bias) else "PROD")
    return (form.result(combined(form, both, [whole, spread])),)


def _as_image(form: Form, op: caffe.Bias | caffe.Scale, x: Ref) -> Ref | None:
    """Return the images that x views if the layer covers their channels and the target has Scale on images, or None."""
    shape, source = form.shape(x), form.shape(unviewed(form.b, x))
    image = (prod(source[:-3]), *source[-3:])
    covered = (prod(shape[: op.axis]), prod(shape[op.axis : op.axis + op.num_axes]))
    images = all(map(form.target.allows, ("Convolution", "Scale"))) and 4 in form.target.axes_of("Scale")
    return form.view(x, image) if images and len(source) >= 4 and covered == image[:2] else None


def _of_columns(form: Form, op: caffe.Bias | caffe.Scale, x: Ref, y: Ref) -> tuple[caffe.Bias | caffe.Scale, Ref, Ref]:
    """Return a Bias or Scale with a learned y as a layer on a matrix, and x and y in their new shapes. The layer covers
    the whole matrix if the target allows that, else its columns: then y is repeated along the axes that only x has."""
    shape, stop = form.shape(x), op.axis + op.num_axes
    lead, trail = prod(shape[: op.axis]), prod(shape[stop:])
    matrix = matrix_shape(form.b, x)
    whole, type_ = type(op)(0, 2, True), TensorType(matrix)
    if op.num_axes == len(shape) and matrix[0] > 1 and form.fits(whole, type_, type_):
        return whole, form.view(x, matrix), form.reshaped_blob(y, matrix)
    if lead % matrix[0]:
        matrix = matrix_at(shape, op.axis)
    row = _copies(form, _copies(form, y, 1, trail), 0, lead // matrix[0])
    return type(op)(1, 1, True), form.view(x, matrix), form.reshaped_blob(row)


def _copies(form: Form, blob: Ref, axis: int, count: int) -> Ref:
    """Return a learned blob with each element (axis 1) or with the whole blob (axis 0) repeated ``count`` times."""
    if count == 1:
        return blob
    size, name = prod(form.shape(blob)), form.named(blob)
    one = form.reshaped_blob(blob, (size, 1) if axis else (1, size))
    return form.b.add(Concat(axis), *(one,) * count, names=(f"{name}/copies",))[0]


def _plus_parameter(form: Form, op: caffe.Bias, x: Ref, p: Ref, label: str) -> Ref:
    """Write x + p: p has all axes of x, or a Scale of ones broadcasts it. If x is a constant 0, return p's value."""
    shape, name = form.shape(x), form.node.name
    zero = form.b.node(unviewed(form.b, x).node).op
    alone = isinstance(zero, caffe.DummyData) and zero.value == 0
    if op.num_axes == len(shape):
        if alone:
            return form.parameter_value(p, name)
        whole = form.blob(x)
        term = form.parameter_value(p, f"{form.named(p)}/value", form.shape(whole))
    else:
        called = name if alone else f"{name}/{label}"
        ones = form.constant(shape, 1.0, f"{called}/ones")
        whole, term = x, form.layer(caffe.Scale(op.axis, op.num_axes, True), ones, p, name=called)
        if alone:
            return term
    return combined(form, caffe.Eltwise("SUM"), [whole, term])


def _alike(form: Form, small: Ref, large: Ref, op: caffe.Bias | caffe.Scale) -> tuple[Ref, Ref]:
    """Return ``large``, and ``small`` repeated to the same shape by Concats along the axes that only ``large`` has."""
    shape = form.shape(large)
    start, stop = op.axis, op.axis + op.num_axes
    lead, size, trail = prod(shape[:start]), prod(shape[start:stop]), prod(shape[stop:])
    name = f"{form.named(unviewed(form.b, small))}/spread"
    if size == 1:  # one number: repeated to a whole matrix
        matrix: Matrix = last_axis(shape)
        spread = form.repeated(form.view(small, (1, 1)), 1, matrix[1], name)
        spread = form.repeated(spread, 0, matrix[0], name)
    elif lead == 1:  # each element becomes ``trail`` equal elements
        matrix = (size, trail) if trail > 1 else matrix_at(shape, start)
        spread = form.repeated(form.view(small, (matrix[0], matrix[1] // trail)), 1, trail, name)
    else:
        # each element becomes ``trail`` equal elements, and this row is repeated ``lead`` times
        matrix = matrix_at(shape, start)
        inner = form.view(small, (size, 1) if trail > 1 else (1, size))
        spread = form.view(form.repeated(inner, 1, trail, name), (1, size * trail))
        spread = form.repeated(spread, 0, lead, name)
    if form.rows:
        return form.view(large, matrix), spread
    return large, form.view(spread, shape)


ROOT = 16  # exp(x) is exp(x / 16) ** 16: 1 - tanh(x / 32) keeps its digits as far as exp(x) is finite
DEGREE = 8  # of the polynomial for ln(1 + exp(-x)): it is then exact to 13 digits, and a pass changes no meaning
DOUBLINGS = 8  # exp(x) is exp(x / 256) doubled up, where there is no division
LN_2 = float(np.log(2))
INVERSE = caffe.PowerLayer(-1.0)
BELOW = caffe.PowerLayer(-1.0, -1.0, 1.0)  # 1 / (1 - x)
ABOVE = caffe.PowerLayer(-1.0, 1.0, 1.0)  # 1 / (1 + x)


def exponential(form: Form, op: caffe.ExpLayer, args: Refs) -> Refs:
    """Write exp(x) for a target without Exp, by TanH or Sigmoids and a division, or without division by polynomials."""
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
    """Return exp(x) as sigmoid(x) / sigmoid(-x): exact in float16, where powers and a sigmoid by tanh are not."""
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), x, f"{name}/negated")
    above = form.layer(caffe.SigmoidLayer(), x, name=f"{name}/above")
    below = form.layer(caffe.SigmoidLayer(), negated, name=f"{name}/below")
    inverse = power_layers(form, INVERSE, below, f"{name}/inverse")
    return form.layer(caffe.Eltwise("PROD"), above, inverse, name=name)


def _exp_by_tanh(form: Form, x: Ref, name: str) -> Ref:
    """Return exp(x) as (1 + 2 t / (1 - t)) ** 16, where t = tanh(x / 32): exp(x / 16) has all digits near 1."""
    half = power_layers(form, caffe.PowerLayer(scale=0.5 / ROOT), x, f"{name}/half")
    t = form.layer(caffe.TanHLayer(), half, name=f"{name}/tanh")
    below = power_layers(form, BELOW, t, f"{name}/below")
    growth = form.layer(caffe.Eltwise("PROD"), t, below, name=f"{name}/growth")
    return power_layers(form, caffe.PowerLayer(float(ROOT), 2.0, 1.0), growth, name)


def _exp_by_sigmoid(form: Form, x: Ref, name: str) -> Ref:
    """Return exp(x) without a division, as exp(-n) exp(p): x is p - n, both are not negative, and one is 0.

    exp(-n) is (2 z / (1 - z)) ** 16 where z = sigmoid(-n / 16 - ln 2). Here z is in (0, 1/3], the ratio is z times a
    polynomial of z, and a Sigmoid computed by tanh is accurate for such z. exp(p) is 1 + m, where m = expm1(p): expm1(p
    / 256) is a polynomial, and eight doublings, expm1(2 v) = m (m + 2) where m = expm1(v), keep a small m accurate.
    """
    total, product = caffe.Eltwise("SUM"), caffe.Eltwise("PROD")
    size = _absolute(form, x, f"{name}/abs")
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), x, f"{name}/negated")
    positive = form.layer(total, x, size, name=f"{name}/twice_positive")
    negative = form.layer(total, negated, size, name=f"{name}/twice_negative")
    moved = power_layers(form, caffe.PowerLayer(1.0, -0.5 / ROOT, -LN_2), negative, f"{name}/moved")
    z = form.layer(caffe.SigmoidLayer(), moved, name=f"{name}/ratio")
    decay = form.layer(product, _polynomial(form, RATIO, z, f"{name}/decay"), z, name=f"{name}/decay")
    for number in range(1, ROOT.bit_length()):
        decay = form.layer(product, decay, decay, name=f"{name}/decay/{2**number}")
    part = power_layers(form, caffe.PowerLayer(scale=0.5 ** (DOUBLINGS + 1)), positive, f"{name}/part")
    growth = form.layer(product, _polynomial(form, GROWTH, part, f"{name}/growth"), part, name=f"{name}/growth")
    for number in range(1, DOUBLINGS + 1):
        above = power_layers(form, caffe.PowerLayer(shift=2.0), growth, f"{name}/growth/{2**number}/above")
        growth = form.layer(product, growth, above, name=f"{name}/growth/{2**number}")
    grown = power_layers(form, caffe.PowerLayer(shift=1.0), growth, f"{name}/grown")
    return form.layer(product, decay, grown, name=name)


def elu(form: Form, op: caffe.ELULayer, args: Refs) -> Refs:
    """Write elu(x) as relu(x) - a (1 - exp(-n)), n = relu(-x). 1 - exp(-n) is 2 t / (1 + t), where t = tanh(n / 2)."""
    x, name = form.blob(args[0]), form.node.name
    if form.fits(op, form.b.type(x)) or not form.fits(ABOVE, form.b.type(x)):
        return (form.result(form.layer(op, x)),)  # as it is, or refused
    negated = power_layers(form, caffe.PowerLayer(scale=-0.5), x, f"{name}/negated")
    t = form.layer(caffe.TanHLayer(), form.layer(caffe.ReLULayer(), negated, name=f"{name}/half"), name=f"{name}/tanh")
    ratio = form.layer(caffe.Eltwise("PROD"), t, power_layers(form, ABOVE, t, f"{name}/above"), name=f"{name}/ratio")
    below = power_layers(form, caffe.PowerLayer(scale=-2.0 * op.alpha), ratio, f"{name}/below")
    positive = form.layer(caffe.ReLULayer(), x, name=f"{name}/positive")
    return (form.result(form.layer(caffe.Eltwise("SUM"), positive, below)),)


def absolute(form: Form, op: caffe.AbsValLayer, args: Refs) -> Refs:
    return (form.result(_absolute(form, form.blob(args[0]), form.node.name)),)


def _absolute(form: Form, x: Ref, name: str) -> Ref:
    """Return |x|: by AbsVal if the target allows it, otherwise as relu(x) + relu(-x)."""
    op = caffe.AbsValLayer()
    if form.fits(op, form.b.type(x)) or not form.target.allows("ReLU"):
        return form.layer(op, x, name=name)  # as it is, or refused
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), x, f"{name}/negated")
    above = form.layer(caffe.ReLULayer(), x, name=f"{name}/above")
    below = form.layer(caffe.ReLULayer(), negated, name=f"{name}/below")
    return form.layer(caffe.Eltwise("SUM"), above, below, name=name)


def softplus(form: Form, op: caffe.BNLLLayer, args: Refs) -> Refs:
    """Write softplus as (x + |x|) / 2 + ln(1 + exp(-|x|)). No term overflows, and the slope at 0 is correct."""
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
    """Return ln(1 + exp(-size)) by Exp and Log."""
    negated = power_layers(form, caffe.PowerLayer(scale=-1.0), size, f"{name}/negated")
    small = form.layer(caffe.ExpLayer(), negated, name=f"{name}/exp")
    above_one = power_layers(form, caffe.PowerLayer(shift=1.0), small, f"{name}/above_one")
    return form.layer(caffe.LogLayer(), above_one, name=f"{name}/log")


def _log1p_by_sigmoid(form: Form, size: Ref, name: str) -> Ref:
    """Return ln(1 + exp(-size)) for a size from 0 on, as 2 atanh(z), where z = sigmoid(-size - ln 2) is in (0, 1/3]."""
    moved = power_layers(form, caffe.PowerLayer(1.0, -1.0, -LN_2), size, f"{name}/moved")
    z = form.layer(caffe.SigmoidLayer(), moved, name=f"{name}/ratio")
    return _twice_atanh(form, z, f"{name}/log", name)


ROOTS = 7  # 2 ** 128 is no float32, so its root is at most 2: then z of `logarithm` is at most 1/3


def logarithm(form: Form, op: caffe.LogLayer, args: Refs) -> Refs:
    """Write ln(x), for x of at least 2**-101, as 128 ln(r), where r = x ** (1 / 128). ln(r) is 2 atanh(z), where z = (r
    - 1) / (r + 1), and r - 1 is x - 1 divided by 1 + x ** (1 / 2), by 1 + x ** (1 / 4) and so on: as exact as x - 1."""
    x, name, product = form.blob(args[0]), form.node.name, caffe.Eltwise("PROD")
    if form.fits(op, form.b.type(x)) or not form.fits(caffe.PowerLayer(0.5), form.b.type(x)):
        return (form.result(form.layer(op, x)),)  # as it is, or refused
    above = power_layers(form, caffe.PowerLayer(shift=-1.0), x, f"{name}/above_1")
    for number in (2**n for n in range(1, ROOTS + 1)):
        called = f"{name}/root_{number}"
        root = power_layers(form, caffe.PowerLayer(1 / number), x, called)
        inverse = power_layers(form, ABOVE, root, f"{called}/below")
        above = form.layer(product, above, inverse, name=f"{called}/above_1")
    inverse = power_layers(form, caffe.PowerLayer(-1.0, 1.0, 2.0), above, f"{name}/below")
    z = form.layer(product, above, inverse, name=f"{name}/ratio")
    root_log = _twice_atanh(form, z, f"{name}/root_log", name)
    return (form.result(power_layers(form, caffe.PowerLayer(scale=2.0**ROOTS), root_log, name)),)


def _twice_atanh(form: Form, z: Ref, called: str, name: str) -> Ref:
    square = form.layer(caffe.Eltwise("PROD"), z, z, name=f"{name}/square")
    value = _polynomial(form, LOG_RATIO, square, name)
    return form.layer(caffe.Eltwise("PROD"), value, z, name=called)


def _polynomial(form: Form, coefficients: Sequence[float], x: Ref, name: str) -> Ref:
    """Write a polynomial of x by Horner's rule. The first coefficient is the constant."""
    first = caffe.PowerLayer(1.0, coefficients[-1], coefficients[-2])
    value = power_layers(form, first, x, f"{name}/polynomial_{len(coefficients) - 2}")
    for degree in range(len(coefficients) - 3, -1, -1):
        called = f"{name}/polynomial_{degree}"
        product = form.layer(caffe.Eltwise("PROD"), value, x, name=f"{called}/product")
        value = power_layers(form, caffe.PowerLayer(shift=coefficients[degree]), product, called)
    return value


def _interpolated(function: Callable[[Array], Array], degree: int, end: float) -> tuple[float, ...]:
    """Return the coefficients of a polynomial that approximates a function from 0 to ``end``, the constant first."""
    polynomial = Chebyshev.interpolate(function, degree, domain=[0, end]).convert(kind=Polynomial, domain=[-1, 1])
    return tuple(float(coefficient) for coefficient in polynomial.coef)


LOG_RATIO = _interpolated(lambda w: 2 * np.arctanh(np.sqrt(w)) / np.sqrt(w), DEGREE, 1 / 9)  # 2 atanh(z) / z, w = z z
RATIO = _interpolated(lambda z: 2 / (1 - z), 13, 1 / 3)
# until exp(v) ** 256 overflows in float32
GROWTH = _interpolated(lambda v: np.expm1(v) / v, 7, float(np.log(np.finfo(np.float32).max)) / 2**DOUBLINGS)

# The rule of each layer that computes element by element.
FUNCTIONS: Mapping[type[Op], Callable[[Form, Any, Refs], Refs]] = {
    caffe.Eltwise: eltwise,
    caffe.PowerLayer: power,
    caffe.ExpLayer: exponential,
    caffe.ELULayer: elu,
    caffe.LogLayer: logarithm,
    caffe.AbsValLayer: absolute,
    caffe.Bias: broadcast,
    caffe.Scale: broadcast,
    caffe.BNLLLayer: softplus,
}
