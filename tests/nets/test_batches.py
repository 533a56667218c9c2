"""How arrays are cut into batches."""

from __future__ import annotations

import numpy as np
import pytest

from lstmc.errors import DataError
from lstmc.nets.batches import layout_of

WANTED = {"X": (3, 4, 2), "table": (5,)}
OUTPUTS = {"y": (3, 4), "last": (4, 7)}


def test_examples_are_on_the_axis_that_differs() -> None:
    layout = layout_of("f", WANTED, OUTPUTS, {"X": (3, 10, 2), "table": (5,)})
    assert (layout.inputs, layout.outputs) == ({"X": 1, "table": None}, {"y": 1, "last": 0})
    assert (layout.count, layout.batches, layout.rows(2)) == (10, 3, (8, 10))
    part = np.arange(12.0).reshape(3, 2, 2)
    fed = layout.net_input("X", part)
    assert fed.shape == (3, 4, 2)
    assert (fed[:, 2:] == part[:, 1:]).all()  # the last example again
    assert layout.first_examples("last", np.arange(28).reshape(4, 7), 2).shape == (2, 7)


def test_whole_batches_are_rows() -> None:
    layout = layout_of("f", WANTED, OUTPUTS, {"X": (9, 3, 4, 2), "table": (5,)})
    assert layout.stacked
    assert (layout.inputs, layout.outputs, layout.batches) == ({"X": 0, "table": None}, {"y": 0, "last": 0}, 9)
    assert layout.net_input("X", np.zeros((1, 3, 4, 2))).shape == (3, 4, 2)
    assert layout.first_examples("y", np.zeros((3, 4)), 1).shape == (1, 3, 4)


def test_arrays_as_the_net_takes_them_are_one_batch() -> None:
    layout = layout_of("f", WANTED, {"loss": ()}, {"X": (3, 4, 2), "table": (5,)})
    assert (layout.batches, layout.stacked, layout.outputs) == (1, False, {"loss": None})
    assert layout.first_examples("loss", np.ones(()), 1).shape == ()


@pytest.mark.parametrize(
    ("given", "outputs", "problem"),
    [
        ({"X": (3, 10, 2)}, OUTPUTS, "missing: table [5]"),
        ({"X": (3, 10, 2), "tabel": (5,)}, OUTPUTS, "extra: tabel [5]: did you mean table?"),
        (
            {"X": (2, 10, 2), "table": (5,)},
            OUTPUTS,
            "wrong shape: X must be [3, 4, 2] with any number of examples on one axis, or any number of such,"
            " found [2, 10, 2]",
        ),
        (
            {"X": (3, 10, 2), "table": (6,)},
            OUTPUTS,
            "expected the same number of examples in all arrays: X has 10, table has 6",
        ),
        (
            {"X": (3, 10, 2), "table": (5,)},
            {"y": (4, 4)},
            "output y [4, 4] has not one axis of size 4: the axis of the examples is ambiguous; give whole"
            " batches, with a leading axis for them",
        ),
        ({"X": (3, 0, 2), "table": (5,)}, OUTPUTS, "there are no examples"),
    ],
)
def test_what_does_not_fit_is_named(
    given: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], problem: str
) -> None:
    with pytest.raises(DataError) as error:
        layout_of("f.h5", WANTED, outputs, given)
    assert error.value.message == "f.h5 does not fit the net"
    assert problem in error.value.notes


def test_an_input_that_no_output_depends_on_may_be_absent() -> None:
    shapes = {**WANTED, "unread": (3, 5)}
    assert layout_of("f", shapes, OUTPUTS, {"X": (3, 10, 2), "table": (5,)}, {"unread"}) == layout_of(
        "f", WANTED, OUTPUTS, {"X": (3, 10, 2), "table": (5,)}
    )
