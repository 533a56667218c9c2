"""``constants``: a number as a blob where no layer fills one, in text."""

from __future__ import annotations

import numpy as np
import pytest

from lstmc import Input, Param, State, cell, linear, model, scan, sigmoid, tanh
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.ops import Values
from lstmc.passes import PassResult
from lstmc.pipeline import compile_graph
from lstmc.testing.equivalence import assert_same_meaning
from lstmc_caffe import CaffeBackend
from lstmc_caffe.rows.constants import Constants
from lstmc_caffe.targets.load import load_target
from tests.backends.lstmc_caffe.rows.graphs import graph_of

ZEROS, HALVES = (
    f"values({numbers.shape}, {numbers.data!r})" for numbers in (Values.of(np.zeros((2, 3))), Values.of([0.5, 0.5]))
)
X = "%x: f32[2,3] = caffe.Input()\n"
CASES = {
    "of a blob of that shape, once": (
        "flat",
        X
        + """%h: f32[2,3] = caffe.DummyData(value=0.5)
        %c: f32[2,3] = caffe.DummyData(value=0.5)
        %z: f32[2,3] = caffe.Eltwise(%x, %h, %c)""",
        X
        + """%h: f32[2,3] = caffe.Power(%x, scale=0.0, shift=0.5)
        %z: f32[2,3] = caffe.Eltwise(%x, %h, %h)""",
    ),
    "of a piece of a larger one": (
        "flat",
        X
        + """%h: f32[1,2] = caffe.DummyData()
        %z: f32[1,2] = caffe.TanH(%h)""",
        X
        + """%h/like, %h/rest: f32[1,3], f32[1,3] = caffe.Slice(%x, axis=0, sizes=(1, 1))
        %h/like_2, %h/rest_2: f32[1,2], f32[1,1] = caffe.Slice(%h/like, axis=1, sizes=(2, 1))
        %h: f32[1,2] = caffe.Power(%h/like_2, scale=0.0)
        %z: f32[1,2] = caffe.TanH(%h)""",
    ),
    "of a smaller one, and of a piece of that": (
        "flat",
        X
        + """%h: f32[2,8] = caffe.DummyData(value=1.0)
        %z: f32[2,8] = caffe.TanH(%h)""",
        X
        + """%h/part: f32[2,3] = caffe.Power(%x, scale=0.0, shift=1.0)
        %h/part_2, %h/rest: f32[2,2], f32[2,1] = caffe.Slice(%h/part, axis=1, sizes=(2, 1))
        %h: f32[2,8] = caffe.Concat(%h/part, %h/part, %h/part_2, axis=1)
        %z: f32[2,8] = caffe.TanH(%h)""",
    ),
    "of copies, where there is no Slice": (
        "noslice",
        X
        + """%h: f32[2,6] = caffe.DummyData()
        %z: f32[2,6] = caffe.TanH(%h)""",
        X
        + """%h/part: f32[2,3] = caffe.Power(%x, scale=0.0)
        %h: f32[2,6] = caffe.Concat(%h/part, %h/part, axis=1)
        %z: f32[2,6] = caffe.TanH(%h)""",
    ),
    "of a blob of as many rows, where nothing can be cut": (
        "noslice",
        """%h: f32[2,2] = caffe.DummyData(value=0.5)
        %z: f32[2,2] = caffe.TanH(%h)
        %x: f32[2,3] = caffe.Input()""",
        X
        + f"""%h/zeros: f32[2,3] = param(fill={ZEROS}, lr_mult=0.0, decay_mult=0.0)
        %h/number: f32[2] = param(fill={HALVES}, lr_mult=0.0, decay_mult=0.0)
        %h: f32[2,2] = caffe.InnerProduct(%x, %h/zeros, %h/number, num_output=2, bias=True)
        %z: f32[2,2] = caffe.TanH(%h)""",
    ),
    "of a blob that is fed, which stood behind it": (
        "flat",
        """%h: f32[2,3] = caffe.DummyData()
        %y: f32[2,3] = caffe.TanH(%h)
        %x: f32[2,3] = caffe.Input()
        %z: f32[2,3] = caffe.Eltwise(%x, %y)""",
        X
        + """%h: f32[2,3] = caffe.Power(%x, scale=0.0)
        %y: f32[2,3] = caffe.TanH(%h)
        %z: f32[2,3] = caffe.Eltwise(%x, %y)""",
    ),
}


@pytest.mark.parametrize(("target", "before", "after"), CASES.values(), ids=CASES)
def test_a_constant_is_made(target: str, before: str, after: str) -> None:
    graph, constants = graph_of(before), Constants(load_target(target))
    outcome = constants.run(graph)
    assert outcome.graph == graph_of(after)
    assert (outcome.modified, outcome.counts) == (True, {"constant_to_power": 1})
    assert_same_meaning(graph, outcome.graph)
    assert constants.run(outcome.graph) == PassResult(outcome.graph, False, {})


def test_a_target_with_dummy_data_keeps_it() -> None:
    graph = graph_of("%h: f32[2,3] = caffe.DummyData(value=0.5)\n%z: f32[2,3] = caffe.TanH(%h)")
    assert Constants(load_target("caffe")).run(graph) == PassResult(graph, False, {})


BARE = "tests/backends/lstmc_caffe/targets/files/bare.toml"


@pytest.mark.parametrize(
    ("target", "error", "reason"),
    [
        (
            "noslice",
            "target noslice: nothing makes a constant f32[4,8]: there is no DummyData, and no blob that it could be"
            " made of, found [2, 3]",
            "no reader fills a blob by itself: make it an Input",
        ),
        (
            BARE,
            "target bare: nothing makes a constant f32[4,8]: there is no DummyData, and no Power of another blob",
            "there is no Power",
        ),
    ],
)
def test_what_no_blob_can_be_made_into_is_refused(target: str, error: str, reason: str) -> None:
    graph = graph_of(X + "%h: f32[4,8] = caffe.DummyData()\n%z: f32[4,8] = caffe.TanH(%h)")
    with pytest.raises(BackendError) as caught:
        Constants(load_target(target)).run(graph)
    assert (caught.value.message, caught.value.notes[0]) == (error, reason)


@pytest.mark.parametrize("target", ["flat", BARE])
def test_a_constant_is_the_float32_number_that_its_blob_had(target: str) -> None:
    thirds, as_float32 = (
        graph_of(X + f"%h: f32[2,4] = caffe.DummyData(value={number})\n%z: f32[2,4] = caffe.TanH(%h)")
        for number in (1 / 3, float(np.float32(1 / 3)))
    )
    constants = Constants(load_target(target))
    assert_same_meaning(as_float32, constants.run(thirds).graph)
    assert constants.run(thirds) == constants.run(as_float32)


@cell
def wide(x=Input(2, 2), h=State(2, 5), *, W=Param(5, 2)):
    """Its first step reads a zero state that is wider than all blobs before it."""
    return tanh(h) + linear(x, W), {"h": tanh(h) + linear(x, W)}


@model
def wider(Z=Input(3, 2, 2)):
    return scan(wide(), Z)[0]


@model
def by_a_parameter(Z=Input(3, 4), nu=Param(4)):
    return Z + sigmoid(nu) * Z


@model
def parameter_first(Z=Input(3, 4), nu=Param(4)):
    gate = sigmoid(nu)
    return gate * Z + Z


@pytest.mark.parametrize("made", [wider, by_a_parameter, parameter_first], ids=lambda made: made.name)
def test_constants_are_found_whatever_the_order_and_width(made: Model) -> None:
    compiled = compile_graph(made.graph(), CaffeBackend(), "flat")
    assert not [node for node in compiled.expanded if node.op.name == "caffe.DummyData"]
    assert_same_meaning(compiled.model, compiled.expanded, rtol=1e-11)
