"""The functions of the language: their shapes, their meaning and their axis rules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import lstmc
from lstmc import Input, Param, model
from lstmc.errors import DslError, ShapeError
from tests.dsl.conftest import UserFile, outputs, random_arrays


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


def test_linear_takes_no_matrix_without_axes(user: UserFile) -> None:
    with pytest.raises(ShapeError) as caught:
        user.graph(
            """\
            @model
            def net(X=Input(2, 3)):
                return linear(X, sum(X))
            """
        )
    assert caught.value.message == "linear: w must have 2 axes, [out, in]: w is f32[]"


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


def test_reshape_takes_no_sizes_for_one_element() -> None:
    found, (x,) = computed(lambda x: lstmc.reshape(x, ()), (1, 1))
    np.testing.assert_array_equal(found, x.reshape(()))


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


def test_abs_of_a_number_is_python_s() -> None:
    words: dict[str, Any] = {}
    exec("from lstmc import *", words)
    assert words["abs"](-1) == 1
    assert words["abs"](np.float64(-0.5)) == 0.5
    assert words["abs"](3 + 4j) == 5
    np.testing.assert_array_equal(words["abs"](np.array([1, -2])), [1, 2])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_an_axis_may_be_the_second_argument_as_in_numpy(name: str, axis: int) -> None:
    found, (x,) = computed(lambda x: getattr(lstmc, name)(x, axis), (2, 3, 4))
    np.testing.assert_allclose(found, getattr(np, name)(x, axis), rtol=1e-12)
    found, (x,) = computed(lambda x: getattr(lstmc, name)(x, axis=axis), (2, 3, 4))
    np.testing.assert_allclose(found, getattr(np, name)(x, axis), rtol=1e-12)


def test_a_function_of_one_op_has_the_op_s_arguments_and_words() -> None:
    assert str(inspect.signature(lstmc.elu)) == "(x: 'Value', alpha: 'float' = 1.0) -> 'Value'"
    assert str(inspect.signature(lstmc.power)) == "(x: 'Value', exponent: 'float') -> 'Value'"
    assert lstmc.tanh.__doc__ == "y = tanh(x)."
    assert lstmc.relu.__name__ == "relu"
    with pytest.raises(
        DslError, match=r"^DslError: power: missing a required argument: 'exponent'; it is power\(x, exp"
    ):
        lstmc.power(lstmc.Input(2))  # type: ignore[call-arg, arg-type]
    with pytest.raises(DslError, match=r"^DslError: tanh: too many positional arguments; it is tanh\(x\)"):
        lstmc.tanh(1, 2)  # type: ignore[call-arg, arg-type]
