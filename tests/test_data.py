"""Data for training: forms, batches, and every way in which data can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lstmc import Input, cell, dims, model
from lstmc.data import Axes, Dataset, batch_axes, dataset_for
from lstmc.dsl import CellModel
from lstmc.errors import DataError
from lstmc.files.arrays import StoredArray
from lstmc.ir import Graph, parse_graph

AXES = {"X": Axes(("T", "N", "3"), 1), "y": Axes(("N",), 0), "table": Axes(("5",))}


def graph(batch: int) -> Graph:
    return parse_graph(f"""\
graph net {{
  %X: f32[2,{batch},3] = input()
  %y: f32[{batch}] = input(values=integers(0, 9))
  %table: f32[5] = input()
  %noise: f32[5] = input(fill=gaussian(0.0, 1.0))
  %h0: f32[5] = input()
  return X=%X, y=%y, table=%table, noise=%noise, lstm/h_T=%h0 -> %h0
}}
""")


def arrays(examples: int, **others: Any) -> dict[str, Any]:
    """Every example has its own number, in all places."""
    number = np.arange(examples)
    X = np.broadcast_to(number[None, :, None], (2, examples, 3))
    return {"X": X, "y": number % 10, "table": np.arange(5.0), **others}


def data(examples: int, batch: int) -> Dataset:
    return dataset_for(graph(batch), AXES, arrays(examples), "data.npz")


def refused(given: dict[str, Any], batch: int = 4) -> str:
    with pytest.raises(DataError) as caught:
        dataset_for(graph(batch), AXES, given, "data.npz")
    return str(caught.value)


@given(st.integers(1, 8), st.integers(0, 30), st.integers(0, 5), st.booleans(), st.data())
def test_an_epoch_shows_every_example_once(
    batch: int, more: int, seed: int, shuffle: bool, draw: st.DataObject
) -> None:
    examples = batch + more
    batches = data(examples, batch).for_training(seed, shuffle)
    assert batches.per_epoch == -(-examples // batch)
    epochs = 3
    seen = [int(i) for n in range(epochs * batches.per_epoch) for i in batches.batch(n)["X"][0, :, 0]]
    for epoch in range(epochs):
        shown = seen[epoch * examples : (epoch + 1) * examples]
        assert sorted(shown) == list(range(examples))
        if not shuffle:
            assert shown == list(range(examples))
    iteration = draw.draw(st.integers(0, epochs * batches.per_epoch - 1))
    alone = data(examples, batch).for_training(seed, shuffle).batch(iteration)
    again = batches.batch(iteration)
    assert {name: array.tolist() for name, array in alone.items()} == {n: array.tolist() for n, array in again.items()}
    assert alone["X"][0, :, 0].tolist() == seen[iteration * batch : (iteration + 1) * batch]


def test_a_batch_is_what_the_model_declares() -> None:
    batch = data(10, 4).for_training(0).batch(3)
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        "X": ((2, 4, 3), np.float32),
        "y": ((4,), np.float32),
        "table": ((5,), np.float32),
    }
    assert_array_equal(batch["table"], np.arange(5))
    assert_array_equal(batch["X"][1, :, 2] % 10, batch["y"])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[float]:
        batches = data(40, 4).for_training(seed)
        return [i for n in range(10) for i in batches.batch(epoch * 10 + n)["X"][0, :, 0].tolist()]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != list(range(40))


@given(st.integers(1, 5), st.integers(0, 17))
def test_scoring_counts_no_example_twice(batch: int, more: int) -> None:
    examples = batch + more
    batches = data(examples, batch).for_scoring()
    seen = [int(i) for n in range(batches.per_epoch) for i in batches.batch(n)["X"][0, :, 0]]
    assert seen == list(range(examples // batch * batch))
    assert_array_equal(batches.batch(batches.per_epoch)["X"], batches.batch(0)["X"])


def test_whole_batches_are_used_one_by_one() -> None:
    X, y = np.arange(3 * 24).reshape(3, 2, 4, 3), np.arange(12).reshape(3, 4) % 10
    made = dataset_for(graph(4), AXES, {"X": X, "y": y, "table": np.arange(5)}, "data.npz")
    assert (made.rows, made.per_batch, made.of) == (3, 1, "batches")
    in_order = made.for_training(shuffle=False)
    assert in_order.per_epoch == 3
    for n in range(7):
        assert_array_equal(in_order.batch(n)["X"], X[n % 3])
        assert_array_equal(in_order.batch(n)["y"], y[n % 3])
        assert_array_equal(in_order.batch(n)["table"], np.arange(5))
    shuffled = made.for_training(5)
    assert sorted(shuffled.batch(n)["X"][0, 0, 0] for n in range(3)) == [0, 24, 48]


def test_what_every_batch_shares_may_come_in_batches_too() -> None:
    X, y, table = np.zeros((3, 2, 4, 3)), np.zeros((3, 4)), np.arange(15).reshape(3, 5)
    made = dataset_for(graph(4), AXES, {"X": X, "y": y, "table": table}, "data.npz").for_training(shuffle=False)
    assert_array_equal(made.batch(1)["table"], [5, 6, 7, 8, 9])


def test_a_model_without_a_batch_axis_takes_all_at_once() -> None:
    whole = parse_graph("graph net {\n  %X: f32[2,3] = input()\n  return X=%X\n}\n")
    made = dataset_for(whole, {}, {"X": np.ones((2, 3), bool)}, "data.npz").for_training()
    assert made.per_epoch == 1
    assert_array_equal(made.batch(9)["X"], np.ones((2, 3)))


@given(st.integers(1, 4), st.integers(0, 30), st.sampled_from((0.2, 0.5)), st.booleans())
def test_a_split_has_every_example_on_one_side(batch: int, more: int, fraction: float, shuffle: bool) -> None:
    examples = 5 * batch + more
    train, test = data(examples, batch).split(fraction, 3, shuffle)
    assert test.rows == round(examples * fraction)
    parts = [one.for_training(shuffle=False) for one in (train, test)]
    shown = [
        [int(i) for n in range(part.per_epoch) for i in part.batch(n)["X"][0, :, 0]][: one.rows]
        for part, one in zip(parts, (train, test), strict=True)
    ]
    assert sorted(shown[0] + shown[1]) == list(range(examples))
    if not shuffle:
        assert shown[0] == list(range(train.rows))


def test_a_split_that_leaves_less_than_a_batch() -> None:
    with pytest.raises(DataError) as caught:
        data(20, 4).split(0.1)
    assert str(caught.value) == "DataError: test_split=0.1 makes 18 and 2 examples: a batch has 4"


def test_the_fingerprint_is_of_names_types_and_elements() -> None:
    def made(**others: Any) -> str:
        return dataset_for(graph(4), AXES, arrays(8, **others), "data.npz").fingerprint

    same, table = made(), np.arange(5.0)
    assert same == made(table=np.arange(5.0))
    table[4] = 5
    assert len({same, made(table=table), made(table=np.arange(5, dtype=np.float32)), made(y=np.zeros(8))}) == 4


def test_batches_have_the_fingerprint_of_data_and_order() -> None:
    made = [data(20, 4).for_training(0), data(20, 4).for_training(0)]
    others = [data(20, 4).for_training(1), data(20, 4).for_training(0, shuffle=False), data(21, 4).for_training(0)]
    assert made[0].fingerprint == made[1].fingerprint
    assert len({batches.fingerprint for batches in (*made, *others)}) == 4


def test_every_problem_is_named_at_once() -> None:
    assert refused({"Y": np.zeros(8), "X": np.zeros((2, 8)), "noise": np.zeros(5), "h0": np.zeros(5)}) == (
        "DataError: data.npz does not fit net\n"
        "  missing: y [examples]\n"
        "  missing: table [5]\n"
        "  extra: Y [8]: did you mean y?\n"
        "  extra: noise [5]: the net fills it\n"
        "  extra: h0 [5]: it takes the value of lstm/h_T\n"
        "  wrong shape: X must be [T=2, examples, 3] or [batches, T=2, N=4, 3], found [2, 8]"
    )


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ({"labels": np.zeros(1)}, "extra: labels [1]"),
        ({"table": np.zeros(6)}, "wrong shape: table must be [5] or [batches, 5], found [6]"),
        ({"table": np.array(["a"] * 5)}, "not numbers: table has dtype <U1"),
        ({"table": np.zeros(5, complex)}, "not numbers: table has dtype complex128"),
        (
            {"table": np.array([0, np.nan, 1e300, 2, np.inf])},
            "not finite: table has 2 of 5 elements NaN or infinite, the first at [1]",
        ),
        (
            {"table": np.array([0, 1e300, -1e39, 2, 3.4e38])},
            "too large for float32: table has 2 of 5 elements that are, the first at [1]",
        ),
        (
            {"y": np.array([1, 2, 10, 4, 0.5, 5, 6, 7])},
            "outside: y must be integers from 0 to 9, has 2 of 8 elements that are not, the first at [2]: 10",
        ),
        ({"y": np.zeros(7)}, "different numbers of examples: X has 8, y has 7"),
        ({"y": np.zeros((2, 4))}, "mixed: y as whole batches, X as examples: give all in one form"),
        (
            {"y": np.zeros((2, 3))},
            "wrong shape: y must be [examples] or [batches, N=4], found [2, 3]",
        ),
        (
            {"X": np.zeros((2, 3, 3)), "y": np.zeros(3)},
            "too few examples: found 3, a batch has N = 4: make it smaller with N=SIZE",
        ),
        (
            {"X": np.zeros((2, 2, 4, 3)), "y": np.zeros((3, 4))},
            "different numbers of batches: X has 2, y has 3",
        ),
        ({"X": np.zeros((0, 2, 4, 3)), "y": np.zeros((0, 4))}, "too few batches: found 0"),
    ],
)
def test_data_that_do_not_fit(others: dict[str, Any], text: str) -> None:
    assert refused(arrays(8, **others)) == f"DataError: data.npz does not fit net\n  {text}"


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64, bool])
def test_every_kind_of_number_is_taken(dtype: type) -> None:
    given = arrays(8, X=np.ones((2, 8, 3), dtype))
    batch = dataset_for(graph(4), AXES, given, "data.npz").for_training().batch(0)
    assert_array_equal(batch["X"], np.ones((2, 4, 3), np.float32))


T, N, D = dims("T N D")


@model
def declared(X=Input(T, N, 2 * D), images=Input(T * N, D), mean=Input(D), y=Input(N)):
    return {"X": X, "images": images, "mean": mean, "y": y}


@cell
def twice(x=Input(N, D)):
    return x + x, {}


def test_the_batch_axis_is_the_dimension_alone() -> None:
    assert batch_axes(declared) == {
        "X": Axes(("T", "N", "2*D"), 1),
        "images": Axes(("T*N", "D")),
        "mean": Axes(("D",)),
        "y": Axes(("N",), 0),
    }
    assert batch_axes(declared, "T")["X"].batch == 0
    assert batch_axes(declared, "T")["y"].batch is None
    assert batch_axes(CellModel(twice)) == {"x": Axes(("T", "N", "D"), 1)}


def test_a_batch_axis_that_is_not_there() -> None:
    with pytest.raises(DataError) as caught:
        batch_axes(declared, "B")
    assert str(caught.value) == "DataError: batch=B: no input of declared has an axis B: found T, N, D"


def test_a_batch_axis_that_is_there_twice() -> None:
    @model
    def square(X=Input(N, N)):
        return X

    with pytest.raises(DataError) as caught:
        batch_axes(square)
    assert str(caught.value) == "DataError: X of square has N twice: expected one axis that counts examples"


def test_of_a_file_only_arrays_that_fit_are_read() -> None:
    def lazy(name: str, *shape: int) -> StoredArray:
        def read() -> Any:
            raise AssertionError(f"{name} was read")

        return StoredArray(name, shape, np.dtype(np.float32), Path("data.npz"), DataError, read)

    assert refused({"X": lazy("X", 2, 4, 9), "y": lazy("y", 4), "table": np.zeros(5), "more": lazy("more", 7)}) == (
        "DataError: data.npz does not fit net\n"
        "  extra: more [7]\n"
        "  wrong shape: X must be [T=2, examples, 3] or [batches, T=2, N=4, 3], found [2, 4, 9]"
    )
    assert refused({"X": lazy("X", 2, 4, 3), "y": lazy("y", 1 << 40), "table": np.zeros(5)}) == (
        "DataError: data.npz does not fit net\n  different numbers of examples: X has 4, y has 1099511627776"
    )
