"""Products of two values: what they are in NumPy, and the whole text of what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.linalg import block_diag

import lstmc
from lstmc import Input, Param, model
from lstmc.ops import Linear, Transpose
from tests.dsl.conftest import UserFile, lines, outputs
from tests.dsl.test_functions import computed


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((3, 4), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4, 5)),
        ((4,), (4,)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 1)),
        ((2, 3, 4), (4,)),
        ((2, 1, 4), (2, 4, 5)),
        ((4,), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 1)),
        ((2, 1, 1, 1), (2, 1, 1)),
    ],
)
@pytest.mark.parametrize("product", [lstmc.matmul, lambda x, y: x @ y])
def test_matmul_is_numpys(product: Callable[..., Any], x: tuple[int, ...], y: tuple[int, ...]) -> None:
    found, (a, b) = computed(product, x, y)
    assert found.shape == (a @ b).shape
    np.testing.assert_allclose(found, a @ b, rtol=1e-12)


@pytest.mark.parametrize(("x", "y"), [((3,), (4,)), ((2, 3), (2, 4)), ((2, 3), (4,)), ((5, 1, 3), (2, 4))])
def test_outer_is_each_element_times_each(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    found, (a, b) = computed(lstmc.outer, x, y)
    np.testing.assert_allclose(found, a[..., :, None] * b[..., None, :], rtol=1e-12)


@pytest.mark.parametrize(
    ("specification", "x", "y"),
    [
        ("nab,nb->na", (2, 3, 4), (2, 4)),
        ("nab,na->nb", (2, 3, 4), (2, 3)),
        ("nb,nab->na", (2, 4), (2, 3, 4)),
        ("na,nb->nab", (2, 3), (2, 4)),
        ("na, nb -> nba", (2, 3), (2, 4)),
        ("ab,bc->ac", (3, 4), (4, 5)),
        ("ab,cb->ca", (3, 4), (5, 4)),
        ("ba,nbc->nca", (4, 3), (2, 4, 5)),
        ("a,a->", (4,), (4,)),
        ("ab,ab->ab", (3, 4), (3, 4)),
        ("abc,d->cad", (2, 1, 4), (3,)),
        ("abc,abc->b", (2, 3, 4), (2, 3, 4)),
        ("abc,cb->a", (2, 3, 4), (4, 3)),
    ],
)
def test_einsum_is_numpys(specification: str, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    found, (a, b) = computed(lambda a, b: lstmc.einsum(specification, a, b), x, y)
    wanted = np.einsum(specification, a, b)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("specification", "shapes"),
    [
        ("abc->cab", [(2, 3, 4)]),
        ("abc->b", [(2, 3, 4)]),
        ("ab->", [(2, 3)]),
        ("na,ab,nb->n", [(2, 3), (3, 4), (2, 4)]),
        ("nhk,hkv,nhv->nh", [(2, 3, 4), (3, 4, 5), (2, 3, 5)]),
        ("a,b,c->cab", [(2,), (3,), (4,)]),
    ],
)
def test_einsum_takes_any_number_of_values(specification: str, shapes: list[tuple[int, ...]]) -> None:
    found, arrays = computed(lambda *values: lstmc.einsum(specification, *values), *shapes)
    wanted = np.einsum(specification, *arrays)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_matrix_that_is_a_parameter_is_multiplied_by_one_linear() -> None:
    @model
    def net(x=Input(2, 3), h=Input(3), W=Param(4, 3), V=Param(3, 4)):
        return {"a": x @ W.T, "b": x @ V, "c": W @ h}

    graph = net.graph()
    products = [[graph.node(ref.node).name for ref in graph.args(n.name)] for n in graph if isinstance(n.op, Linear)]
    (turned,) = [n.name for n in graph if isinstance(n.op, Transpose) and graph.args(n.name)[0].node == "V"]
    assert products == [["x", "W"], ["x", turned], ["h", "W"]]
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape) for name, shape in (("x", (2, 3)), ("h", 3), ("W", (4, 3)), ("V", (3, 4)))}
    found = outputs(graph, arrays)
    np.testing.assert_allclose(found["a"], arrays["x"] @ arrays["W"].T)
    np.testing.assert_allclose(found["b"], arrays["x"] @ arrays["V"])
    np.testing.assert_allclose(found["c"], arrays["W"] @ arrays["h"])


@pytest.mark.parametrize("heads", [1, 3])
def test_block_linear_is_by_a_block_diagonal_matrix(heads: int) -> None:
    shapes = (2, heads * 4), (heads, 5, 4), (heads * 5,)
    found, (x, W, b) = computed(lambda x, W, b: lstmc.block_linear(x, W, b), *shapes)
    np.testing.assert_allclose(found, x @ block_diag(*W).T + b, rtol=1e-12)


X = "x is X: input [T, N, D], declared at user.py:6"
VALUES = tuple(X.replace("x is", f"value {number} is") for number in (1, 2))
SEE = 'einsum takes the letters of the axes of each value and of the result, as in "nab,nb->na", found'


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        (
            "z = «X @ X»",
            "ShapeError: @: the last axis of x must be as long as the last but one of y, and those before them must"
            " fit: x is f32[3,2,5], y is f32[3,2,5]",
            (X, "y is X: input [T, N, D], declared at user.py:6"),
        ),
        ("z = matmul(X, «3»)", "DslError: matmul takes Values, found int 3", ()),
        ("z = «X @ 3»", "DslError: @ takes Values on both sides, found int 3", ()),
        (
            "z = «block_linear(X, X)»",
            "ShapeError: block_linear: W must be [heads, out, in], and the last axis of x have heads * in elements:"
            " x is f32[3,2,5], W is f32[3,2,5]",
            (X, X.replace("x is", "W is")),
        ),
        ("z = «outer(X, sum(X))»", "ShapeError: outer: y must have an axis or more: y is f32[]", ()),
        ("z = einsum(«'ab'», X, X)", f"DslError: {SEE} str 'ab'", ()),
        ("z = einsum(«X», X, 'ab')", f"DslError: {SEE} a Value", ()),
        ("z = einsum('tnd,d->t', X, «3»)", "DslError: einsum takes Values, found int 3", ()),
        (
            "z = «einsum('nd,d->n', X, X)»",
            "ShapeError: einsum: 'nd' must have one letter for each axis, and each once: found f32[3,2,5]",
            ("found X: input [T, N, D], declared at user.py:6",),
        ),
        ("z = «einsum('tnd,d->t', X)»", "DslError: einsum: 'tnd,d->t' is of 2 values, found 1", ()),
        (
            "z = «einsum('tnd,ndt->tn', X, X)»",
            "ShapeError: einsum: axis n has 2 elements and 3: found f32[3,2,5], f32[3,2,5]",
            VALUES,
        ),
        (
            "z = «einsum('tnd,tnd->tnk', X, X)»",
            "ShapeError: einsum: each letter of the result 'tnk' must be there once, and be an axis of a value: found"
            " f32[3,2,5], f32[3,2,5]",
            VALUES,
        ),
    ],
)
def test_what_is_refused_and_where(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    code = f"@model\ndef net(X=Input(T, N, D)):\n    {statement}\n    return {{'z': z}}\n"
    assert user.refused(code) == lines(
        message,
        f"  user.py:7:{start + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )
