"""The functions of the language: their shapes, their meaning, their axis rules, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import lstmc
from lstmc import Input, Param, model
from tests.dsl.conftest import UserFile, lines, outputs, random_arrays


def computed(function: Callable[..., Any], *shapes: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a model that applies ``function`` to arrays of these shapes computes, and the arrays."""
    a, b, c = [Input(*shape) for shape in (*shapes, (1,), (1,))[:3]]

    @model
    def net(a: Any = a, b: Any = b, c: Any = c) -> Any:
        return {"y": function(*(a, b, c)[: len(shapes)])}

    graph = net.graph()
    arrays = random_arrays(graph)
    return outputs(graph, arrays)["y"], [arrays[name] for name in "abc"[: len(shapes)]]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lstmc.sigmoid, special.expit),
        (lstmc.tanh, np.tanh),
        (lambda x: lstmc.relu(x - 0.6), lambda x: np.maximum(x - 0.6, 0)),
        (lambda x: lstmc.elu(x - 0.6), lambda x: np.where(x > 0.6, x - 0.6, np.expm1(x - 0.6))),
        (lambda x: lstmc.elu(x - 0.6, 0.5), lambda x: np.where(x > 0.6, x - 0.6, 0.5 * np.expm1(x - 0.6))),
        (lambda x: lstmc.abs(x - 0.6), lambda x: np.abs(x - 0.6)),
        (lstmc.exp, np.exp),
        (lstmc.log, np.log),
        (lambda x: lstmc.power(x, 1.5), lambda x: x**1.5),
        (lambda x: lstmc.power(x, exponent=np.float64(-2)), lambda x: x**-2.0),
        (lstmc.softmax, lambda x: special.softmax(x, axis=-1)),
        (lambda x: lstmc.softmax(x, axis=1), lambda x: special.softmax(x, axis=1)),
        (lambda x: lstmc.softmax(x, axis=-3), lambda x: special.softmax(x, axis=0)),
    ],
)
def test_element_wise_functions_mean_what_numpy_means(function: Callable[..., Any], wanted: Callable[..., Any]) -> None:
    found, (x,) = computed(function, (2, 3, 4))
    np.testing.assert_allclose(found, wanted(x), rtol=1e-12)


def test_linear_is_x_times_w_transposed_plus_b() -> None:
    found, (x, w, b) = computed(lstmc.linear, (2, 5), (4, 5), (4,))
    np.testing.assert_allclose(found, x @ w.T + b, rtol=1e-12)


def test_linear_keeps_leading_axes() -> None:
    found, (x, w) = computed(lstmc.linear, (3, 2, 5), (4, 5))
    np.testing.assert_allclose(found, x @ w.T, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "width", "axis", "result"),
    [
        ((2, 3, 4, 5), 5, None, (2, 3, 4, 7)),  # the last axes that together have `in` elements are flattened
        ((2, 3, 4, 5), 20, None, (2, 3, 7)),
        ((2, 3, 4, 5), 60, None, (2, 7)),
        ((2, 3, 4, 5), 120, None, (7,)),
        ((2, 5, 1, 1), 5, None, (2, 7)),
        ((2, 5, 1), 1, None, (2, 5, 7)),
        ((3, 1, 5), 5, None, (3, 1, 7)),  # an axis of size 1 is kept where there is a choice,
        ((3, 1, 5), 5, 1, (3, 7)),  # unless axis says otherwise
        ((3, 1, 5), 5, -2, (3, 7)),
        ((3, 1, 5), 5, 2, (3, 1, 7)),
    ],
)
def test_linear_flattens_the_trailing_axes_that_meet_the_matrix(
    shape: tuple[int, ...], width: int, axis: int | None, result: tuple[int, ...]
) -> None:
    found, (x, w) = computed(lambda x, w: lstmc.linear(x, w, axis=axis), shape, (7, width))
    assert found.shape == result
    np.testing.assert_allclose(found.reshape(-1, 7), x.reshape(-1, width) @ w.T, rtol=1e-12)


@pytest.mark.parametrize(
    ("parts", "axis", "cuts"),
    [
        (3, -1, [2, 4]),
        (1, -1, []),
        (np.int64(2), 1, [2]),
        ([1, 2, 3], -1, [1, 3]),
        ((1, 3), 1, [1]),
        ([6], 2, []),
        (2, 0, [1]),
    ],
)
def test_split_takes_equal_parts_or_sizes(parts: Any, axis: int, cuts: list[int]) -> None:
    wanted_pieces = len(cuts) + 1
    for i in range(wanted_pieces):
        found, (x,) = computed(lambda x, i=i: lstmc.split(x, parts, axis=axis)[i], (2, 4, 6))
        np.testing.assert_array_equal(found, np.split(x, cuts, axis=axis)[i])


@pytest.mark.parametrize("axis", [-1, 1, 0, -2])
def test_concat_joins_values_or_a_list_of_them(axis: int) -> None:
    for join in (lambda *v: lstmc.concat(*v, axis=axis), lambda *v: lstmc.concat(list(v), axis=axis)):
        found, (a, b, c) = computed(join, (3, 3), (3, 3), (3, 3))
        np.testing.assert_array_equal(found, np.concatenate([a, b, c], axis=axis))


def test_concat_takes_pieces_of_other_sizes_along_its_axis_and_a_single_one() -> None:
    found, (a, b) = computed(lstmc.concat, (2, 3), (2, 4))
    np.testing.assert_array_equal(found, np.concatenate([a, b], axis=1))
    found, (a,) = computed(lstmc.concat, (2, 3))
    np.testing.assert_array_equal(found, a)


@pytest.mark.parametrize(
    ("shape", "result"),
    [
        ((6, 4), (6, 4)),
        ((-1,), (24,)),
        ((2, -1), (2, 12)),
        ((2, -1, 4), (2, 3, 4)),
        ((24, -1), (24, 1)),
        (((4, 6),), (4, 6)),
        (([2, -1],), (2, 12)),
        ((np.int64(3), 8), (3, 8)),
    ],
)
def test_reshape_takes_sizes_or_a_shape_and_one_minus_one(shape: tuple[Any, ...], result: tuple[int, ...]) -> None:
    found, (x,) = computed(lambda x: lstmc.reshape(x, *shape), (2, 3, 4))
    np.testing.assert_array_equal(found, x.reshape(result))


def test_sizes_may_be_dimensions_of_the_function_they_stand_in(user: UserFile) -> None:
    graph = user.graph(
        """\
        @cell
        def pair(x=Input(N, D), h=State(N, 2*H), *, W=Param(2*H, D)):
            a, b = split(linear(x, W) + h, [H, H])
            z = reshape(concat(a, b), N, 2, H)
            h = reshape(z, (N, -1))
            return reshape(z, N*2, H), {"h": h}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(pair(H=3), X)
            first, rest = split(y, (1, T - 1), axis=0)
            return {"y": reshape(rest, (T - 1)*N, -1)}
        """
    )
    (output,) = graph.outputs
    assert str(graph.type(output.ref)) == "f32[4,6]"


def test_values_and_parameters_of_the_model_may_be_operands_in_any_place() -> None:
    x, w = Input(2, 3), Param(3, 3)

    @model
    def net(x: Any = x, w: Any = w) -> Any:
        return {"y": lstmc.linear(w, x * 1)}  # a computed matrix

    graph = net.graph()
    arrays = random_arrays(graph)
    np.testing.assert_allclose(outputs(graph, arrays)["y"], arrays["w"] @ arrays["x"].T, rtol=1e-12)


ARRAY = "a NumPy array (declare it as an Input or a Param)"
X, V, W = (
    "x is X: input [T, N, D], declared at user.py:6",
    "V: input [N, 4], declared at user.py:6",
    "W: parameter [4, D], declared at user.py:6",
)


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        # operands
        ("z = tanh(«3»)", "DslError: tanh takes Values, found int 3", ()),
        ("z = tanh(«x=None»)", "DslError: tanh takes Values, found None", ()),
        ("z = softmax(«[X]»)", "DslError: softmax takes Values, found list [<Value %X: f32[3,2,5]>]", ()),
        ("z = tanh(«np.eye(2)»)", f"DslError: tanh takes Values, found {ARRAY}", ()),
        ("z = linear(X, «'W'»)", "DslError: linear takes Values, found str 'W'", ()),
        ("z = linear(X, «W='W'»)", "DslError: linear takes Values, found str 'W'", ()),
        ("z = linear(X, W, «0»)", "DslError: linear takes Values, found int 0", ()),
        ("z = concat(X, «0»)", "DslError: concat takes Values, found int 0", ()),
        ("z = «concat([X, 0])»", "DslError: concat takes Values, found int 0", ()),
        ("z = «concat()»", "DslError: concat takes one Value or more, found none", ()),
        (
            "z = split(X, «2.0»)",
            "DslError: split takes a number of equal parts or a list of sizes, found float 2.0",
            (),
        ),
        (
            "z = split(X, «parts=D»)",
            "DslError: split takes a number of equal parts or a list of sizes, found dimension D (for its number write"
            " x.shape[axis])",
            (),
        ),
        ("z = split(X, «True»)", "DslError: split takes a number of equal parts or a list of sizes, found True", ()),
        ("z = «split(X, [2.0, 3])»", "DslError: a size must be a whole number or a dimension, found float 2.0", ()),
        ("z = «reshape(X, '30')»", "DslError: a size must be a whole number or a dimension, found str '30'", ()),
        ("z = «reshape(X, K, -1)»", "DimError: dimension K has no size in model 'net': it has T, N, D", ()),
        ("z = «reshape(X, 8//(D - 5))»", "DimError: 8//(D - 5) divides by zero (D is 5, given as D=5)", ()),
        ("z = elu(X, «'a'»)", "DslError: elu: alpha must be a number, found str 'a'", ()),
        ("z = elu(X, «alpha=X»)", "DslError: elu: alpha must be a number, found a Value", ()),
        ("z = «elu(X, math.inf)»", "DslError: a scalar must be a finite float32 number, found inf", ()),
        ("z = power(X, «X»)", "DslError: power: exponent must be a number, found a Value", ()),
        ("z = «power(X, math.nan)»", "DslError: a scalar must be a finite float32 number, found nan", ()),
        # axes
        (
            "z = softmax(X, «axis=3»)",
            "ShapeError: softmax: axis must be a whole number from -3 to 2, found 3: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = split(X, 1, «axis=-4»)",
            "ShapeError: split: axis must be a whole number from -3 to 2, found -4: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = concat(X, X, «axis=1.0»)",
            "ShapeError: concat: axis must be a whole number from -3 to 2, found 1.0: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = linear(X, W, «axis=True»)",
            "ShapeError: linear: axis must be a whole number from -3 to 2, found True: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «linear(X, W, axis=1)»",
            "ShapeError: linear: the axes of x from 1 on have 10 elements, expected 5: x is f32[3,2,5], W is f32[4,5]",
            (X, f"W is {W}"),
        ),
        # shapes
        (
            "z = «linear(V, W)»",
            "ShapeError: linear: last axes differ: x is f32[2,4], w is f32[4,5]",
            (f"x is {V}", f"w is {W}"),
        ),
        (
            "z = «linear(X, W, V)»",
            "ShapeError: linear: b must be [out]: b is f32[2,4], w is f32[4,5]",
            (X, f"w is {W}", f"b is {V}"),
        ),
        (
            "z = «linear(X, X)»",
            "ShapeError: linear: w must have 2 axes, [out, in]: w is f32[3,2,5]",
            (X, "w is X: input [T, N, D], declared at user.py:6"),
        ),
        (
            "a, b = «split(X, 2)»",
            "ShapeError: split: axis 2 has 5 elements, which do not make 2 equal parts: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «split(X, 0)»",
            "ShapeError: split: axis 2 has 5 elements, which do not make 0 equal parts: x is f32[3,2,5]",
            (X,),
        ),
        (
            "a, b = «split(X, [1, 2])»",
            "ShapeError: split: sizes must add up to axis 2: found (1, 2), x is f32[3,2,5]",
            (X,),
        ),
        (
            "a, b = «split(X, [6, -1])»",
            "ShapeError: split: sizes must add up to axis 2: found (6, -1), x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «concat(V, W)»",
            "ShapeError: concat: axes other than 1 must agree: found f32[2,4], f32[4,5]",
            (f"operand 1 is {V}", f"operand 2 is {W}"),
        ),
        (
            "z = «concat(V, reshape(V, 8))»",
            "ShapeError: concat: axes other than 1 must agree: found f32[2,4], f32[8]",
            (f"operand 1 is {V}", "operand 2 is reshape(V, 8): f32[8], made at user.py:7"),
        ),
        (
            "z = «reshape(V, 3, -1)»",
            "ShapeError: reshape: the 8 elements of x do not make [3, -1]: x is f32[2,4]; sizes are positive, and one"
            " may be -1 for what remains",
            (f"x is {V}",),
        ),
        (
            "z = «reshape(V, -1, -1)»",
            "ShapeError: reshape: the 8 elements of x do not make [-1, -1]: x is f32[2,4]; sizes are positive, and one"
            " may be -1 for what remains",
            (f"x is {V}",),
        ),
        (
            "z = «reshape(V)»",
            "ShapeError: reshape: the 8 elements of x do not make []: x is f32[2,4]; sizes are positive, and one"
            " may be -1 for what remains",
            (f"x is {V}",),
        ),
        ("z = «reshape(V, 9)»", "ShapeError: reshape: cannot make f32[9] of x, which is f32[2,4]", (f"x is {V}",)),
    ],
)
def test_what_a_function_refuses(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    code = f"@model\ndef net(X=Input(T, N, D), V=Input(N, 4), W=Param(4, D)):\n    {statement}\n    return X\n"
    assert user.refused(code) == lines(
        message,
        f"  user.py:7:{start + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )
