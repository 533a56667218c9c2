"""The body of a scan for one row of a batch computes what the whole body computes of that row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import (
    Cell,
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    dims,
    full,
    linear,
    model,
    reshape,
    scan,
    softmax,
    tanh,
    transpose,
    uniform,
)
from lstmc import max as largest
from lstmc import sum as total
from lstmc.dsl import CellModel
from lstmc.interp import forward
from lstmc.ir import Graph, Scan
from lstmc.loops.rows import Rows, rows_of, with_rows_first
from lstmc.ops import Array, Dropout
from tests.patterns.linear_bodies import as_model
from tests.quick_sample import seeds
from tests.random_models.models import seeded_model

N, T = dims("N T")
ROWS = 3


def scans_of(graph: Graph) -> list[Scan]:
    return [node.op for node in graph if isinstance(node.op, Scan)]


def outputs(body: Graph, args: dict[str, Array]) -> list[Array]:
    return list(forward(as_model(body), args).outputs.values())


def checked(scan: Scan) -> Rows:
    """Return the rows of a scan whose body for one row is right for each of them."""
    rng = np.random.default_rng(0)
    rows, args = rows_of(scan), scan.body.body_args()
    values = {arg.name: rng.uniform(-2, 2, arg.types[0].shape) for arg in args}
    expected = outputs(scan.body, values)
    if rows.fixed:
        found = outputs(rows.body, values)
    else:
        mapped = {arg.name for arg, maps in zip(args, rows.mapped, strict=True) if maps}
        each = [
            outputs(rows.body, {name: value[row] if name in mapped else value for name, value in values.items()})
            for row in range(rows.batch)
        ]
        found = [np.stack(one) for one in zip(*each, strict=True)]
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    return rows


@seeds(20, 60)
def test_rows_of_random_models(seeds: range) -> None:
    fixed = Counter(
        checked(scan).fixed
        for seed in seeds
        for scan in scans_of(seeded_model(seed).graph())
        if not any(isinstance(node.op, Dropout) for node in scan.body)
    )
    assert min(fixed[True], fixed[False]) > len(seeds) / 12, fixed


def moved(f: Callable[[Value, Value, Value, Value], Value]) -> Cell:
    """A cell whose step computes f of a value [2, N, 4], and of parameters [2, 1, 1], [4] and [4, 4]."""

    @cell
    def moved(
        x=Input(N, 8), h=State(N, 2, 4), *, p=Param(2, 1, 1, fill=uniform(-1, 1)), q=Param(4, fill=uniform(-1, 1)),
        W=Param(4, 4, fill=uniform(-1, 1)),
    ):  # fmt: skip
        h = tanh(reshape(x, N, 2, 4) + transpose(f(transpose(h, 1, 0, 2), p, q, W), 1, 0, 2))
        return h, {"h": h}

    return moved


def sums(x: Value, axis: int) -> Value:
    return x + total(x, axis=axis, keepdims=True)


INSIDE: dict[str, Callable[[Value, Value, Value, Value], Value]] = {
    "a function": lambda x, p, q, W: tanh(x),
    "a product": lambda x, p, q, W: x * tanh(x),
    "a number of each matrix": lambda x, p, q, W: x * p,
    "a number of each column": lambda x, p, q, W: x * q,
    "a softmax of what is before the rows": lambda x, p, q, W: softmax(x, axis=0),
    "a softmax of what is after the rows": lambda x, p, q, W: softmax(x, axis=2),
    "a product with a matrix": lambda x, p, q, W: linear(x, W),
    "a sum of what is before the rows": lambda x, p, q, W: sums(x, 0),
    "a sum of what is after the rows": lambda x, p, q, W: sums(x, 2),
    "the largest before the rows": lambda x, p, q, W: x - largest(x, axis=0, keepdims=True),
    "the largest after the rows": lambda x, p, q, W: x - largest(x, axis=2, keepdims=True),
    "axes in another order": lambda x, p, q, W: transpose(transpose(x, 2, 0, 1) + q[:, None, None], 1, 2, 0),
    "rows that are last": lambda x, p, q, W: transpose(tanh(transpose(x, 0, 2, 1)), 0, 2, 1),
    "axes that are split": lambda x, p, q, W: reshape(tanh(reshape(x, 1, 2, ROWS, 2, 2)), 2, ROWS, 4),
}
MIXED: dict[str, Callable[[Value, Value, Value, Value], Value]] = {
    "a softmax of rows": lambda x, p, q, W: softmax(x, axis=1),
    "a sum of rows": lambda x, p, q, W: sums(x, 1),
    "rows with others in one axis": lambda x, p, q, W: reshape(tanh(reshape(x, 2 * ROWS, 4)), 2, ROWS, 4),
    "a matrix of rows": lambda x, p, q, W: transpose(linear(reshape(x, 2, 4, ROWS), W[:ROWS, :ROWS]), 0, 2, 1),
}


@pytest.mark.parametrize("name", [*INSIDE, *MIXED])
def test_rows_inside_of_other_axes(name: str) -> None:
    (scan,) = scans_of(CellModel(moved((INSIDE | MIXED)[name])).graph(T=2, N=ROWS))
    assert checked(scan).fixed == (name in MIXED)


@cell
def beside_numbers(x=Input(N, 4), h=State(N, 4)):
    """Numbers that each row has its own of, beside the rows."""
    h = tanh(x + concat(full((N, 1), 0.5), h)[:, :4])
    return h, {"h": h}


def test_numbers_in_the_shape_of_the_batch_are_of_a_row() -> None:
    (scan,) = scans_of(CellModel(beside_numbers).graph(T=2, N=ROWS))
    assert not checked(scan).fixed


@cell
def attended(
    x=Input(5, N, 4), m=Input(ROWS, N, 4), v=Input(N, ROWS), h=State(N, ROWS, 4), *,
    W=Param(4, ROWS, fill=uniform(-1, 1)),
):  # fmt: skip
    """Rows second in what a step reads; those of other values are first, and second is an axis as long."""
    weights = softmax(total(x * h[:, 0], axis=2), axis=0)
    found = total(x * weights[..., None], axis=0) + linear(v, W)
    h = tanh(h + found[:, None, :] + transpose(m, 1, 0, 2))
    return found, {"h": h}


@model
def attending(X=Input(T, 5, N, 4), m=Input(ROWS, N, 4), V=Input(T, N, ROWS)):
    return scan(attended(), {"x": X, "v": V}, static={"m": m})[0]


def test_rows_that_are_second_become_first() -> None:
    (op,) = scans_of(attending.graph(T=2, N=ROWS))
    apart = with_rows_first(op)
    assert apart is not None
    body, slots = apart
    args = op.body.body_args()
    assert [args[slot].name for slot in slots] == ["x", "m"]
    rng = np.random.default_rng(0)
    values = {arg.name: rng.uniform(-2, 2, arg.types[0].shape) for arg in args}
    turned = {name: np.swapaxes(value, 0, 1) if name in ("x", "m") else value for name, value in values.items()}
    for one, other in zip(outputs(body, turned), outputs(op.body, values), strict=True):
        assert_allclose(one, other, rtol=1e-12)
    assert (checked(op).fixed, checked(replace(op, body=body)).fixed) == (True, False)


def test_rows_are_first_already() -> None:
    (op,) = scans_of(CellModel(moved(INSIDE["a function"])).graph(T=2, N=ROWS))
    assert with_rows_first(op) is None
