"""A function by others, for targets that have no layer of it: in text, and how exact it is in float32."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import comb, factorial, pi
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lstmc import Input, Param, exp, model, sigmoid, softplus, sqrt, uniform
from lstmc import compile as compile_net
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc_caffe.legalize.layers import SINE
from lstmc_caffe.ops import CaffeOp
from lstmc_caffe.rows import functions
from lstmc_caffe.targets.target import Target, load_target
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of
from tests.backends.lstmc_caffe.rows.test_narrow import NOSLICE, narrowed


def without(name: str, layer: str) -> Target:
    target = load_target(name)
    return replace(target, layers=replace(target.layers, types=tuple(set(target.layers.types) - {layer})))


OPENVINO = load_target("openvino")  # has ReLU, Sigmoid and TanH, and neither AbsVal, Exp nor Log
X2PADDLE = load_target("x2paddle")  # these, no larger one of two and no BNLL; division by LRN
NO_DIVISION = without("x2paddle", "LRN")
ROWS = "%x/rows: f32[6,4] = host.view(%x, shape=(6, 4))\n"
Z = "%z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))\nreturn z=%z_2"
EXP = (
    ROWS
    + """\
%z/half: f32[6,4] = caffe.Power(%x/rows, scale=0.03125)
%z/tanh: f32[6,4] = caffe.TanH(%z/half)
%z/below: f32[6,4] = caffe.Power(%z/tanh, power=-1.0, scale=-1.0, shift=1.0)
%z/growth: f32[6,4] = caffe.Eltwise(%z/tanh, %z/below, operation='PROD')
%z: f32[6,4] = caffe.Power(%z/growth, power=16.0, scale=2.0, shift=1.0)
"""
    + Z
)


def test_exp_by_others() -> None:
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = exp(%x)"), NOSLICE)) == EXP


EXP_IN_FLOAT16 = """\
%z/negated: f32[6,4] = caffe.Power(%x/rows, scale=-1.0)
%z/above: f32[6,4] = caffe.Sigmoid(%x/rows)
%z/below: f32[6,4] = caffe.Sigmoid(%z/negated)
%z/inverse: f32[6,4] = caffe.Power(%z/below, power=-1.0, shift=1.1754943508222875e-38)
%z: f32[6,4] = caffe.Eltwise(%z/above, %z/inverse, operation='PROD')
"""


def test_exp_in_float16() -> None:
    graph = narrowed(graph_of("%z: f32[2,3,4] = exp(%x)"), load_target("rknn"))
    assert lines_of(graph) == ROWS + EXP_IN_FLOAT16 + Z
    x = np.linspace(-2, 2, 24)  # the interpreter's sigmoid is by tanh, which loses the digits of small ones
    found = forward(graph, {"x": x.reshape(2, 3, 4)}, dtype=np.float16).outputs["z"].ravel()
    assert_allclose(found, np.exp(x.astype(np.float16)), rtol=5e-3)


def test_softplus_has_a_layer_of_its_own_on_noslice() -> None:
    after = ROWS + "%z: f32[6,4] = caffe.BNLL(%x/rows)\n" + Z
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = softplus(%x)"), NOSLICE)) == after


@pytest.mark.parametrize("target", ["rknn", "tvm", "tpu-mlir", "acuity", "coreml", "x2paddle"])
def test_elu_by_others(target: str) -> None:
    """It keeps its digits on both sides of 0."""
    graph = narrowed(graph_of("%z: f32[2,3,4] = elu(%x, alpha=0.7)"), load_target(target))
    x = np.array([*np.geomspace(-90, -1e-6, 12), *np.geomspace(1e-6, 90, 12)]).reshape(2, 3, 4)
    wanted = np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0)))
    for dtype, rtol in ((np.float64, 1e-13), (np.float32, 4e-7)):
        assert_allclose(forward(graph, {"x": x}, dtype=dtype).outputs["z"], wanted, rtol=rtol)


def test_exp_is_exact_in_float32_as_far_as_the_numbers_go() -> None:
    graph = narrowed(graph_of("%z: f32[2,3,4] = exp(%x)"), NOSLICE)
    x = np.array(
        [-200, -100, -60, -30, -20, -10, -5, -2, -1, -0.1, 0, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80.0]
    )
    inputs = {node.name: np.zeros(node.types[0].shape) for node in graph if node.op.name == "host.input"}
    found = forward(graph, inputs | {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs["z"].ravel()
    assert_allclose(found, np.exp(x), rtol=1e-4, atol=1e-37)


@pytest.mark.parametrize("target", ["openvino", "tpu-mlir", "ncnn"])
@pytest.mark.parametrize("layer", ["Scale", "Bias"])
def test_a_number_for_each_channel_is_a_layer_on_images_also_over_time(layer: str, target: str) -> None:
    leaves = {"x": "f32[2,2,3,4,5] = input()", "p": "f32[3] = param()"}
    line = f"%z: f32[2,2,3,4,5] = caffe.{layer}(%x, %p, axis=2, learned=True)"
    assert lines_of(narrowed(graph_of(line, leaves=leaves), load_target(target))) == (
        "%x/rows: f32[4,3,4,5] = host.view(%x, shape=(4, 3, 4, 5))\n"
        f"%z: f32[4,3,4,5] = caffe.{layer}(%x/rows, %p, learned=True)\n"
        "%z_2: f32[2,2,3,4,5] = host.view(%z, shape=(2, 2, 3, 4, 5))\n"
        "return z=%z_2"
    )


ABS = """\
%z/negated: f32[6,4] = caffe.Power(%x/rows, scale=-1.0)
%z/above: f32[6,4] = caffe.ReLU(%x/rows)
%z/below: f32[6,4] = caffe.ReLU(%z/negated)
%z: f32[6,4] = caffe.Eltwise(%z/above, %z/below)
"""


def test_abs_by_others() -> None:
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = abs(%x)"), OPENVINO)) == ROWS + ABS + Z


SOFTPLUS = """\
%z/twice_positive: f32[6,4] = caffe.Eltwise(%x/rows, %z/abs)
%z/positive: f32[6,4] = caffe.Power(%z/twice_positive, scale=0.5)
%z/moved: f32[6,4] = caffe.Power(%z/abs, scale=-1.0, shift=-0.6931471805599453)
%z/ratio: f32[6,4] = caffe.Sigmoid(%z/moved)
%z/square: f32[6,4] = caffe.Eltwise(%z/ratio, %z/ratio, operation='PROD')
"""


def test_softplus_by_others() -> None:
    lines = lines_of(narrowed(graph_of("%z: f32[2,3,4] = softplus(%x)"), OPENVINO))
    assert lines.startswith(ROWS + ABS.replace("%z", "%z/abs") + SOFTPLUS)
    assert lines.endswith(
        "%z/polynomial_0/product: f32[6,4] = caffe.Eltwise(%z/polynomial_1, %z/square, operation='PROD')\n"
        "%z/polynomial_0: f32[6,4] = caffe.Power(%z/polynomial_0/product, shift=2.000000000000001)\n"
        "%z/log: f32[6,4] = caffe.Eltwise(%z/polynomial_0, %z/ratio, operation='PROD')\n"
        "%z: f32[6,4] = caffe.Eltwise(%z/positive, %z/log)\n" + Z
    )


def test_softplus_is_exact_in_float32() -> None:
    graph = narrowed(graph_of("%z: f32[2,3,4] = softplus(%x)"), OPENVINO)
    above = np.array([0, 1e-6, 1e-3, 0.1, 0.5, 1, 2, 5, 10, 20, 80, 1e4])
    x = np.concatenate((-above[::-1], above))
    found = forward(graph, {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs["z"].ravel()
    assert_allclose(found, np.logaddexp(x, 0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("target", ["caffe", "noslice"])
def test_sin_and_cos_are_exact_in_float32_far_from_zero(target: str) -> None:
    """Legalised for Caffe and for readers; the docstring of ``Sin`` says the error."""
    graph = narrowed(graph_of("%w: f32[2,3,4] = sin(%x)\n%z: f32[2,3,4] = cos(%x)", "w=%w, z=%z"), load_target(target))
    for far in (0.5, 1.6, 3.2, 100.0, 1e5):
        x = np.append(np.linspace(-far, far, 23), 0).astype(np.float32)
        found = forward(graph, {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs
        assert_allclose(found["w"].ravel(), np.sin(x.astype(float)), rtol=0, atol=1e-6)
        assert_allclose(found["z"].ravel(), np.cos(x.astype(float)), rtol=0, atol=1e-6)
    near = np.geomspace(1e-30, 1.5, 24, dtype=np.float32)
    found = forward(graph, {"x": near.reshape(2, 3, 4)}, dtype=np.float32).outputs["w"].ravel()
    assert_allclose(found, np.sin(near.astype(float)), rtol=3e-7)


LARGER = """\
%x/rows_2: f32[6,4] = host.view(%x, shape=(6, 4))
%u/rows: f32[6,4] = host.view(%u, shape=(6, 4))
%z/negated: f32[6,4] = caffe.Power(%u/rows, scale=-1.0)
%z/ahead: f32[6,4] = caffe.Eltwise(%x/rows_2, %z/negated)
%z/behind: f32[6,4] = caffe.Power(%z/ahead, scale=-1.0)
%z/first/missing: f32[6,4] = caffe.ReLU(%z/behind)
%z/first/larger: f32[6,4] = caffe.Eltwise(%x/rows_2, %z/first/missing)
%z/first/weight: f32[6,4] = caffe.Sigmoid(%z/ahead)
%z/first: f32[6,4] = caffe.Eltwise(%z/first/larger, %z/first/weight, operation='PROD')
%z/second/missing: f32[6,4] = caffe.ReLU(%z/ahead)
%z/second/larger: f32[6,4] = caffe.Eltwise(%u/rows, %z/second/missing)
%z/second/weight: f32[6,4] = caffe.Sigmoid(%z/behind)
%z/second: f32[6,4] = caffe.Eltwise(%z/second/larger, %z/second/weight, operation='PROD')
%z: f32[6,4] = caffe.Eltwise(%z/first, %z/second)
%z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
return z=%z_2"""


def test_the_larger_one_by_relu() -> None:
    assert lines_of(narrowed(graph_of("%z: f32[2,3,4] = maximum(%x, %u)"), X2PADDLE)) == LARGER


@pytest.mark.parametrize(
    "line",
    [
        *(f"affine(%x, {numbers})" for numbers in ("scale=3.0", "shift=1.5", "scale=3.0, shift=1.5")),
        "power(%x, exponent=2.0)",
        "caffe.Power(%x, power=2.0, scale=3.0, shift=1.5)",
    ],
)
def test_a_power_by_sums_and_products(line: str) -> None:
    assert "Power" not in lines_of(narrowed(graph_of(f"%z: f32[2,3,4] = {line}"), without("caffe", "Power")))


def test_a_factor_without_power_and_weighed_sums_is_refused() -> None:
    with pytest.raises(BackendError, match="target x2paddle has no Power layer, which %z needs"):
        narrowed(graph_of("%z: f32[2,3,4] = affine(%x, scale=3.0)"), without("x2paddle", "Power"))


def test_a_sum_with_a_number_needs_no_weighed_sum_and_a_factor_of_two_does() -> None:
    unweighed = [rule for rule in X2PADDLE.rule if rule.field == "eltwise_param.coeff"]
    assert unweighed
    caffe = without("caffe", "Power")
    target = replace(caffe, rule=(*caffe.rule, *unweighed))
    assert "DummyData(value=1.5)" in lines_of(narrowed(graph_of("%z: f32[2,3,4] = affine(%x, shift=1.5)"), target))
    with pytest.raises(BackendError, match="target caffe has no Power layer, which %z needs"):
        narrowed(graph_of("%z: f32[2,3,4] = affine(%x, scale=2.0)"), target)


@pytest.mark.parametrize(("line", "layer"), [("log", "Log"), ("exp", "Exp"), ("abs", "AbsVal"), ("tanh", "TanH")])
def test_a_function_that_a_target_has_is_a_layer(line: str, layer: str) -> None:
    graph = narrowed(graph_of(f"%z: f32[2,3,4] = {line}(%x)"), load_target("flat"), low=0.1)
    assert lines_of(graph) == f"{ROWS}%z: f32[6,4] = caffe.{layer}(%x/rows)\n{Z}"


def test_a_logarithm_without_roots_is_refused_by_its_own_name() -> None:
    with pytest.raises(BackendError, match="target noslice has no Log layer, which %z needs"):
        narrowed(graph_of("%z: f32[2,3,4] = log(%x)"), without("noslice", "Power"), low=0.1)


def test_the_largest_along_an_axis_is_of_two_rows_at_a_time_and_the_first_comes_last() -> None:
    graph = narrowed(graph_of("%z: f32[2,4] = max(%x, axis=1)"), load_target("flat"))
    assert [line.partition(" = ")[2] for line in lines_of(graph).splitlines() if "MAX" in line] == [
        "caffe.Eltwise(%x/maxpooling/2, %x/maxpooling/1, operation='MAX')",
        "caffe.Eltwise(%maxpooling/2, %x/maxpooling/0, operation='MAX')",
    ]


@pytest.mark.parametrize(
    ("line", "target", "layers"),
    [
        ("exp(%x)", NO_DIVISION, {"Power": 33, "ReLU": 2, "Eltwise": 36, "Sigmoid": 1}),
        ("exp(%x)", "x2paddle", {"Power": 3, "TanH": 1, "Eltwise": 1}),
        ("exp(%x)", "tpu-mlir", {"Power": 3, "TanH": 1, "Eltwise": 1}),
        ("maximum(%x, %u)", "tpu-mlir", {"Power": 2, "ReLU": 2, "Sigmoid": 2, "Eltwise": 6}),
        ("exp(%x)", "openvino", {"Power": 3, "Eltwise": 1, "TanH": 1}),
        ("abs(%x)", "openvino", {"Power": 1, "ReLU": 2, "Eltwise": 1}),
    ],
)
def test_what_stands_for_a_function(line: str, target: str | Target, layers: dict[str, int]) -> None:
    graph = narrowed(graph_of(f"%z: f32[2,3,4] = {line}"), load_target(target) if isinstance(target, str) else target)
    found = Counter(node.op.layer_type for node in graph if isinstance(node.op, CaffeOp) and node.op.layer_type)
    assert found == layers


def without_division(line: str) -> Graph:
    return narrowed(graph_of(f"%z: f32[2,3,4] = {line}"), NO_DIVISION)


BY_LOG = narrowed(graph_of("%z: f32[2,3,4] = log(%x)"), NOSLICE, low=0.1)
BY_SOFTPLUS, BY_EXP = without_division("softplus(%x)"), without_division("exp(%x)")
BY_ABS, BY_MAXIMUM = without_division("abs(%x)"), without_division("maximum(%x, %u)")


def computed(graph: Graph, **numbers: float) -> Array:
    """One number in float32, as it is in every element."""
    inputs = {name: np.full((2, 3, 4), number) for name, number in numbers.items()}
    inputs |= {node.name: np.zeros(node.types[0].shape) for node in graph if node.name == "u" and "u" not in numbers}
    found = forward(graph, inputs, dtype=np.float32).outputs["z"]
    assert found.dtype == np.float32
    return np.float64(found.flat[0])


LARGE = 2.0**100
NUMBERS = st.floats(-LARGE, LARGE, width=32)


@given(x=st.one_of(NUMBERS, st.floats(-100, 100, width=32)))
@example(x=0.0)
def test_softplus_by_sigmoid_is_exact_in_float32(x: float) -> None:
    assert_allclose(computed(BY_SOFTPLUS, x=x), np.logaddexp(0, x), rtol=1e-6, atol=1e-7)


@given(x=st.one_of(st.floats(-LARGE, 88, width=32), st.floats(-5, 5, width=32)))
@example(x=0.0)
def test_exp_by_sigmoid_is_exact_in_float32(x: float) -> None:
    assert_allclose(computed(BY_EXP, x=x), np.exp(x), rtol=3e-4 if abs(x) > 20 else 1e-5, atol=1e-37)


@given(x=st.one_of(st.floats(2.0**-101, LARGE, width=32), st.floats(0.5, 2, width=32)))
@example(x=1.0)
@example(x=float(np.nextafter(np.float32(1), np.float32(2))))
@example(x=float(np.finfo(np.float32).max))
def test_log_by_roots_is_exact_in_float32(x: float) -> None:
    assert_allclose(computed(BY_LOG, x=x), np.log(x), rtol=3e-6)


@given(x=NUMBERS)
def test_abs_by_relu_is_exact(x: float) -> None:
    assert computed(BY_ABS, x=x) == abs(x)


@given(x=st.one_of(NUMBERS, st.floats(-10, 10, width=32)), u=st.one_of(NUMBERS, st.floats(-10, 10, width=32)))
@example(x=1.0, u=-LARGE)
@example(x=-LARGE, u=1.0)
def test_the_larger_one_is_exact_in_float32(x: float, u: float) -> None:
    near = max(abs(x), abs(u)) if abs(x - u) < 20 else 0.0  # what cancels has the digits of what it was made of
    assert_allclose(computed(BY_MAXIMUM, x=x, u=u), max(x, u), rtol=1e-6, atol=1e-6 * near + 1e-37)


@model
def near_one(X: Any = Input(2, 4), L: Any = Param(4, fill=uniform(-9, -6))) -> Any:
    """What RG-LRU computes of its gate: the root of what is left of 1 beside an exp of nearly 0."""
    a = exp(-8 * sigmoid(X) * softplus(L))
    return {"y": sqrt(1 - a * a)}


def test_verify_says_where_the_written_layers_round_more_than_the_model() -> None:
    found = {}
    for target in ("noslice", "flat"):
        net = compile_net(near_one, target=target)
        found[target] = check(net.compiled, net.artifact, net.weights, InterpreterExecutor(), 1)
    assert found["flat"].passed
    assert not found["noslice"].passed
    (remark,) = [each for each in found["noslice"].remarks if each.startswith("output y")]
    assert re.fullmatch(
        r"output y is off by \de-05 in the interpreter too, where it computes the net in float32: target noslice writes"
        r" layers that it does not have by others that round more",
        remark,
    )


def test_exp_near_zero_is_as_exact_as_its_root() -> None:
    graph = narrowed(graph_of("%z: f32[2,3,4] = exp(%x)"), NOSLICE)
    x = np.linspace(-3, 0, 24, dtype=np.float32)
    found = forward(graph, {"x": x.reshape(2, 3, 4)}, dtype=np.float32).outputs["z"].ravel()
    assert_allclose(found, np.exp(x.astype(float)), rtol=1e-6)


# bounds of polynomials that stand for functions, in exact fractions ---------------------------------------------------

Coefficients = Sequence[Fraction | float]


def bound(polynomial: Coefficients, high: float, parts: int = 64) -> Fraction:
    """A bound of a polynomial from 0 to ``high``: its largest coefficient in Bernstein's form, on parts of the way."""
    degree, width, found = len(polynomial) - 1, Fraction(high) / parts, Fraction(0)
    for low in (part * width for part in range(parts)):
        moved = [
            sum(Fraction(polynomial[i]) * comb(i, j) * low ** (i - j) for i in range(j, degree + 1)) * width**j
            for j in range(degree + 1)
        ]
        controls = (
            sum(Fraction(comb(j, i), comb(degree, i)) * moved[i] for i in range(j + 1)) for j in range(degree + 1)
        )
        found = max(found, *map(abs, controls))
    return found


def off_series(polynomial: Coefficients, term: Callable[[int], Fraction], high: float) -> Fraction:
    """A bound of the difference from a power series, of which each late term is 3/4 of the one before it at most."""
    count = 2 * len(polynomial) + 6
    rest = abs(term(count)) * Fraction(high) ** count * 4
    own = [*map(Fraction, polynomial), *[Fraction(0)] * (count - len(polynomial))]
    return bound([each - term(k) for k, each in enumerate(own)], high, 8) + rest


def test_polynomials_are_as_exact_as_they_are_said_to_be() -> None:
    """Relative errors over the reals: of 2 / (1 - z), 2 atanh(z) / z, expm1(v) / v and sin(r) / r, and of exp."""
    ratio = [Fraction(each) for each in functions.RATIO]
    product = [a - b for a, b in zip([*ratio, 0], [0, *ratio], strict=True)]  # p(z) (1 - z), which should be 2
    of_ratio = bound([product[0] - 2, *product[1:]], 1 / 3) / 2
    assert of_ratio < 2.5e-14
    assert off_series(functions.LOG_RATIO, lambda k: Fraction(2, 2 * k + 1), 1 / 9) / 2 < 3.3e-15  # it is from 2 on
    most = float(np.log(np.finfo(np.float32).max)) / 2**functions.DOUBLINGS
    of_growth = off_series(functions.GROWTH, lambda k: Fraction(1, factorial(k + 1)), most)  # of what is from 1 on
    assert of_growth < 2.42e-14
    turn = (pi / 2) ** 2 * (1 + 2**-52)
    assert off_series(SINE, lambda k: Fraction((-1) ** k, factorial(2 * k + 1)), turn) * Fraction(pi / 2) < 4e-16
    slope = [Fraction(each) * (2 * k + 1) for k, each in enumerate(SINE)]  # of sin(r), in r * r
    assert off_series(slope, lambda k: Fraction((-1) ** k, factorial(2 * k)), turn) < 4e-15
    # (1 + m) ** 256 with m = expm1(v) (1 + e) is exp(256 v) (1 + e (1 - exp(-v))) ** 256
    decay, grown = (1 + float(of_ratio)) ** functions.ROOT, (1 + float(of_growth) * most) ** 2**functions.DOUBLINGS
    assert decay * grown - 1 < 2.6e-12
