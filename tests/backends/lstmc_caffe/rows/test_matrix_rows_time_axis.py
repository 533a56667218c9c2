"""Time in the rows of a matrix, or in blobs of single steps, in text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Ref
from lstmc_caffe.rows.matrix_rows import RowsTimeAxis
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of

Made = Callable[[RowsTimeAxis, Builder], list[Ref]]


def done(target: str, lines: str, make: Made) -> Graph:
    before = graph_of(lines, "z=%z")
    b = Builder("g")
    new: dict[Ref, Ref] = {}
    for node in before:
        made = b.copy(node, [new[ref] for ref in before.args(node.name)])
        new.update((Ref(node.name, out), ref) for out, ref in enumerate(made))
    return b.finish([(f"o{number}", ref) for number, ref in enumerate(make(RowsTimeAxis(load_target(target)), b))])


def cut(axis: RowsTimeAxis, b: Builder) -> list[Ref]:
    return list(axis.unstack(b, Ref("z"), "abc"[: b.type(Ref("z")).shape[0]]))


def joined(axis: RowsTimeAxis, b: Builder) -> list[Ref]:
    return [axis.stack(b, [Ref("z"), Ref("y")], "s")]


TWO = "%z: f32[2,4] = host.input()\n%y: f32[2,4] = caffe.TanH(%z)"
CASES: dict[str, tuple[str, str, Made, str]] = {
    "steps are rows": (
        "flat",
        "%z: f32[3,2,4] = host.input()",
        cut,
        """%z/rows: f32[6,4] = host.view(%z, shape=(6, 4))
        %a, %b, %c: f32[2,4], f32[2,4], f32[2,4] = caffe.Slice(%z/rows, axis=0, sizes=(2, 2, 2))
        return o0=%a, o1=%b, o2=%c""",
    ),
    "a step of one axis is one row": (
        "flat",
        "%z: f32[2,3] = host.input()",
        cut,
        """%a, %b: f32[1,3], f32[1,3] = caffe.Slice(%z, axis=0, sizes=(1, 1))
        %a/step: f32[3] = host.view(%a, shape=(3,))
        %b/step: f32[3] = host.view(%b, shape=(3,))
        return o0=%a/step, o1=%b/step""",
    ),
    "one step is the sequence": (
        "flat",
        "%z: f32[1,2,4] = host.input()",
        cut,
        "%a: f32[2,4] = host.view(%z, shape=(2, 4))\nreturn o0=%a",
    ),
    "steps are fed": (
        "noslice",
        "%z: f32[2,2,4] = host.input()",
        cut,
        """%a: f32[2,4] = caffe.Feed(%z, shape=(2, 4), step=0)
        %b: f32[2,4] = caffe.Feed(%z, shape=(2, 4), step=1)
        return o0=%a, o1=%b""",
    ),
    "a parameter's steps are its pieces": (
        "noslice",
        """%p: f32[2,2,4] = param()
        %ones: f32[1,16] = caffe.DummyData(value=1.0)
        %flat: f32[16] = reshape(%p, shape=(16,))
        %rows: f32[1,16] = caffe.Scale(%ones, %flat, learned=True)
        %z: f32[2,2,4] = host.view(%rows, shape=(2, 2, 4))""",
        cut,
        """%ones: f32[1,16] = caffe.DummyData(value=1.0)
        %flat: f32[16] = reshape(%p, shape=(16,))
        %rows: f32[1,16] = caffe.Scale(%ones, %flat, learned=True)
        %z: f32[2,2,4] = host.view(%rows, shape=(2, 2, 4))
        %flat/steps: f32[2,2,4] = reshape(%flat, shape=(2, 2, 4))
        %flat/0, %flat/1: f32[1,2,4], f32[1,2,4] = split(%flat/steps, axis=0, sizes=(1, 1))
        %flat/0/rows: f32[2,4] = reshape(%flat/0, shape=(2, 4))
        %flat/1/rows: f32[2,4] = reshape(%flat/1, shape=(2, 4))
        %flat/0/rows/ones: f32[2,4] = caffe.DummyData(value=1.0)
        %a: f32[2,4] = caffe.Scale(%flat/0/rows/ones, %flat/0/rows, axis=0, num_axes=2, learned=True)
        %flat/1/rows/ones: f32[2,4] = caffe.DummyData(value=1.0)
        %b: f32[2,4] = caffe.Scale(%flat/1/rows/ones, %flat/1/rows, axis=0, num_axes=2, learned=True)
        return o0=%a, o1=%b""",
    ),
    "steps are joined as rows": (
        "flat",
        TWO,
        joined,
        """%y: f32[2,4] = caffe.TanH(%z)
        %s/rows: f32[4,4] = caffe.Concat(%z, %y, axis=0)
        %s: f32[2,2,4] = host.view(%s/rows, shape=(2, 2, 4))
        return o0=%s""",
    ),
    "steps are read one by one": (
        "noslice",
        TWO,
        joined,
        "%y: f32[2,4] = caffe.TanH(%z)\n%s: f32[2,2,4] = host.stack(%z, %y)\nreturn o0=%s",
    ),
}


@pytest.mark.parametrize(("target", "lines", "make", "after"), CASES.values(), ids=CASES)
def test_a_sequence_is_cut_and_joined(target: str, lines: str, make: Made, after: str) -> None:
    assert lines_of(done(target, lines, make)) == "\n".join(line.strip() for line in after.splitlines())


def test_what_is_no_sequence_of_steps_is_refused() -> None:
    lines = (
        "%x: f32[6,4] = host.input()\n%y: f32[6,4] = caffe.TanH(%x)\n%z: f32[3,2,4] = host.view(%y, shape=(3, 2, 4))"
    )
    with pytest.raises(BackendError) as caught:
        done("noslice", lines, cut)
    assert (caught.value.message, *caught.value.notes[:3]) == (
        "target noslice: a sequence that a scan reads must be an Input, a Param or a scan's own output",
        "found y: f32[6,4], computed by caffe.TanH, for 3 steps",
        "there is no Slice to cut it into steps; compute it inside the cell",
        "TensorRT's Caffe parser has no Slice: write one InnerProduct a piece, one Input a step",
    )
