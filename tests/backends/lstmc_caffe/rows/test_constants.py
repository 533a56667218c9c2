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
from lstmc.testing import assert_same_meaning
from lstmc_caffe import CaffeBackend
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.constants import Constants, FoldedConstants, _keeps_zero
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.rows.graphs import graph_of

ZEROS, HALVES = (
    f"values({numbers.shape}, {numbers.data!r})" for numbers in (Values.of(np.zeros((2, 3))), Values.of([0.5, 0.5]))
)
X = "%x: f32[2,3] = caffe.Input()\n"
A = "%a: f32[2,6] = host.input()\n"
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
    "of a larger one of as many rows, though another is smaller": (
        "flat",
        X
        + """%y: f32[1,8] = caffe.Input()
        %h: f32[1,3] = caffe.DummyData()
        %z: f32[1,3] = caffe.TanH(%h)""",
        X
        + """%y: f32[1,8] = caffe.Input()
        %h/like, %h/rest: f32[1,3], f32[1,5] = caffe.Slice(%y, axis=1, sizes=(3, 5))
        %h: f32[1,3] = caffe.Power(%h/like, scale=0.0)
        %z: f32[1,3] = caffe.TanH(%h)""",
    ),
    "of the elements of images": (
        "flat",
        """%q: f32[2,3,1,2] = host.input()
        %i: f32[2,3,1,2] = caffe.Feed(%q, shape=(2, 3, 1, 2))
        %r: f32[2,3,1,2] = caffe.ReLU(%i)
        %h: f32[2,6] = caffe.DummyData()
        %z: f32[2,6] = caffe.TanH(%h)""",
        """%q: f32[2,3,1,2] = host.input()
        %i: f32[2,3,1,2] = caffe.Feed(%q, shape=(2, 3, 1, 2))
        %r: f32[2,3,1,2] = caffe.ReLU(%i)
        %i/elements: f32[2,6] = caffe.Reshape(%i, shape=(2, 6))
        %h: f32[2,6] = caffe.Power(%i/elements, scale=0.0)
        %z: f32[2,6] = caffe.TanH(%h)""",
    ),
    "of no state that begins at -1e30, where a factor of 0 is 1e-30": (
        "tpu-mlir",
        X
        + """%m: f32[2,3] = caffe.Input(fill=constant(-1e+30))
        %n: f32[2,6] = caffe.Concat(%x, %m, axis=1)
        %h: f32[2,6] = caffe.DummyData(value=1.0)
        %z: f32[2,6] = caffe.Eltwise(%n, %h)""",
        X
        + """%m: f32[2,3] = caffe.Input(fill=constant(-1e+30))
        %n: f32[2,6] = caffe.Concat(%x, %m, axis=1)
        %h/part: f32[2,3] = caffe.Power(%x, scale=0.0, shift=1.0)
        %h: f32[2,6] = caffe.Concat(%h/part, %h/part, axis=1)
        %z: f32[2,6] = caffe.Eltwise(%n, %h)""",
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


@pytest.mark.parametrize(("shift", "varies"), [("", False), (", shift=2.0", True)])
@pytest.mark.parametrize("zero", ["%k", "%n"])
@pytest.mark.parametrize("bias", ["", ", %b"])
def test_a_product_with_zero_depends_on_no_input(shift: str, varies: bool, zero: str, bias: str) -> None:
    none = Values.of(np.zeros(6)).data
    graph = graph_of(
        f"""{A}%W: f32[6,6] = param()
        %b: f32[6] = param(fill=values((6,), '{none}'), lr_mult=0.0, decay_mult=0.0)
        %t: f32[2,6] = caffe.TanH(%a)
        %k: f32[2,6] = caffe.Power(%t, scale=0.0{shift})
        %m: f32[2,6] = caffe.InnerProduct(%k, %W{bias}, num_output=6{", bias=True" if bias else ""})
        %n: f32[2,6] = caffe.ReLU(%m)
        %z: f32[2,6] = caffe.Eltwise(%t, {zero}, operation='PROD')"""
    )
    check = FoldedConstants(load_target("rknn"))
    if varies:
        assert check.run(graph).graph is graph
        return
    with pytest.raises(BackendError) as refused:
        check.run(graph)
    assert refused.value.message == "target rknn: output z depends on no input"


@pytest.mark.parametrize(
    ("factor", "apart"),
    [
        ("%z: f32[2,6] = caffe.Eltwise(%a, %k, operation='PROD')", True),
        ("%z: f32[2,6] = caffe.Eltwise(%a, %t, operation='PROD')", False),
        ("%z: f32[2,6] = caffe.Eltwise(%a, %k)", False),
        ("%z: f32[2,6] = caffe.Scale(%a, %p)", False),  # one row for all: a factor of the matrix too
        ("%r: f32[1,12] = caffe.Reshape(%a, shape=(1, 12)) %s: f32[1,12] = caffe.Scale(%r, %q)", True),
    ],
)
def test_a_constant_factor_of_several_rows_is_apart_from_a_product(factor: str, apart: bool) -> None:
    """RKNN takes it for a factor of the matrix, without a word where there are as many rows as outputs."""
    if "%r" in factor:
        factor = factor.replace(" %s", "\n%s") + "\n%z: f32[2,6] = caffe.Reshape(%s, shape=(2, 6))"
    lines = f"""{A}%W: f32[2,6] = param()
        %b: f32[2] = param()
        %p: f32[6] = param()
        %q: f32[12] = param()
        %t: f32[2,6] = caffe.TanH(%a)
        %k: f32[2,6] = caffe.Power(%t, scale=0.0, shift=2.0)
        {factor}
        %d: f32[2,6] = caffe.Power(%z, scale=2.0)
        %y: f32[2,2] = caffe.InnerProduct(%d, %W, %b, num_output=2, bias=True)"""
    outcome = FoldedConstants(load_target("rknn")).run(graph_of(lines))
    assert outcome.counts == ({"factor_apart": 1} if apart else {})
    done = outcome.graph
    (read, *_) = done.args("y")
    assert (done.node(read.node).op == caffe.PowerLayer(shift=2.0**-126)) is apart


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_power_of_zero_is_zero(power: float, shift: float) -> None:
    op = caffe.PowerLayer(power, 2.0, shift)
    assert _keeps_zero(op) == (not op.eval(np.zeros(3))[0].any())
