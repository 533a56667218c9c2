"""``settle_views``: what views become once every step is there, in text."""

from __future__ import annotations

import pytest

from lstmc.errors import BackendError
from lstmc.passes import PassResult
from lstmc.testing import assert_same_meaning
from lstmc_caffe.rows.views import SettleViews
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.rows.graphs import graph_of

BARE = "tests/backends/lstmc_caffe/targets/files/bare.toml"
A = "%a: f32[2,6] = host.input()\n"
CASES = {
    "an input is fed as the matrix that a layer reads": (
        "flat",
        """%q: f32[2,3,4] = host.input()
        %v: f32[6,4] = host.view(%q, shape=(6, 4))
        %t: f32[6,4] = caffe.TanH(%v)
        %z: f32[2,3,4] = host.view(%t, shape=(2, 3, 4))""",
        """%q: f32[2,3,4] = host.input()
        %q/rows: f32[6,4] = caffe.Feed(%q, shape=(6, 4))
        %t: f32[6,4] = caffe.TanH(%q/rows)
        %z: f32[2,3,4] = host.view(%t, shape=(2, 3, 4))""",
        "z=%z",
        {"feed": 1},
    ),
    "an input of two axes is an Input": (
        "flat",
        A + "%z: f32[2,6] = caffe.TanH(%a)",
        "%a: f32[2,6] = caffe.Input()\n%z: f32[2,6] = caffe.TanH(%a)",
        "z=%z",
        {},
    ),
    "a view that layers read is one Reshape": (
        "flat",
        A
        + """%t: f32[2,6] = caffe.TanH(%a)
        %v: f32[2,2,3] = host.view(%t, shape=(2, 2, 3))
        %r: f32[4,3] = host.view(%v, shape=(4, 3))
        %y: f32[4,3] = caffe.TanH(%r)
        %z: f32[4,3] = caffe.Eltwise(%y, %r)""",
        """%a: f32[2,6] = caffe.Input()
        %t: f32[2,6] = caffe.TanH(%a)
        %r: f32[4,3] = caffe.Reshape(%t, shape=(4, 3))
        %y: f32[4,3] = caffe.TanH(%r)
        %z: f32[4,3] = caffe.Eltwise(%y, %r)""",
        "z=%z",
        {"view_to_reshape": 1},
    ),
    "images are fed as such, and what reads a row of one reads a Reshape": (
        "flat",
        """%W: f32[2,2,1,3] = param()
        %q: f32[2,2,3,4] = host.input()
        %c: f32[2,2,3,2] = caffe.Convolution(%q, %W, num_output=2, kernel=(1, 3))
        %r: f32[2,2,3,2] = caffe.ReLU(%c)
        %v: f32[2,12] = host.view(%r, shape=(2, 12))
        %t: f32[2,12] = caffe.TanH(%v)
        %i: f32[2,2,3,2] = host.view(%t, shape=(2, 2, 3, 2))
        %z: f32[2,2,1,1] = caffe.MaxPooling(%i, size=(3, 2))""",
        """%W: f32[2,2,1,3] = param()
        %q: f32[2,2,3,4] = host.input()
        %q/rows: f32[2,2,3,4] = caffe.Feed(%q, shape=(2, 2, 3, 4))
        %c: f32[2,2,3,2] = caffe.Convolution(%q/rows, %W, num_output=2, kernel=(1, 3))
        %r: f32[2,2,3,2] = caffe.ReLU(%c)
        %v: f32[2,12] = caffe.Reshape(%r, shape=(2, 12))
        %t: f32[2,12] = caffe.TanH(%v)
        %i: f32[2,2,3,2] = caffe.Reshape(%t, shape=(2, 2, 3, 2))
        %z: f32[2,2,1,1] = caffe.MaxPooling(%i, size=(3, 2))""",
        "z=%z",
        {"feed": 1, "view_to_reshape": 2},
    ),
    "a Reshape that a product may not read is copied once": (
        "mnn",
        """%W: f32[2,3] = param()
        %V: f32[2,3] = param()
        """
        + A
        + """%t: f32[2,6] = caffe.TanH(%a)
        %r: f32[4,3] = host.view(%t, shape=(4, 3))
        %y: f32[4,2] = caffe.InnerProduct(%r, %W, num_output=2)
        %z: f32[4,2] = caffe.InnerProduct(%r, %V, num_output=2)
        %s: f32[4,3] = caffe.Sigmoid(%r)""",
        """%W: f32[2,3] = param()
        %V: f32[2,3] = param()
        %a: f32[2,6] = caffe.Input()
        %t: f32[2,6] = caffe.TanH(%a)
        %r: f32[4,3] = caffe.Reshape(%t, shape=(4, 3))
        %r/copy: f32[4,3] = caffe.Power(%r)
        %y: f32[4,2] = caffe.InnerProduct(%r/copy, %W, num_output=2)
        %z: f32[4,2] = caffe.InnerProduct(%r/copy, %V, num_output=2)
        %s: f32[4,3] = caffe.Sigmoid(%r)""",
        "y=%y, z=%z, s=%s",
        {"view_to_reshape": 1, "apart": 1},
    ),
    "an output that a layer reads is copied": (
        "flat",
        A + "%t: f32[2,6] = caffe.TanH(%a)\n%z: f32[2,6] = caffe.Sigmoid(%t)",
        """%a: f32[2,6] = caffe.Input()
        %t: f32[2,6] = caffe.TanH(%a)
        %z: f32[2,6] = caffe.Sigmoid(%t)
        %y: f32[2,6] = caffe.Power(%t)""",
        "z=%z, y=%t|z=%z, y=%y",
        {"copy_output": 1},
    ),
    "an output that is one of several tops is copied": (
        "flat",
        A + "%t, %u: f32[2,3], f32[2,3] = caffe.Slice(%a, axis=1, sizes=(3, 3))\n%z: f32[2,3] = caffe.Sigmoid(%t)",
        """%a: f32[2,6] = caffe.Input()
        %t, %u: f32[2,3], f32[2,3] = caffe.Slice(%a, axis=1, sizes=(3, 3))
        %z: f32[2,3] = caffe.Sigmoid(%t)
        %y: f32[2,3] = caffe.Power(%u)""",
        "z=%z, y=%u|z=%z, y=%y",
        {"copy_output": 1},
    ),
    "or nearly copied, where a copy would be taken out": (
        "openvino",
        A + "%t, %u: f32[2,3], f32[2,3] = caffe.Slice(%a, axis=1, sizes=(3, 3))\n%z: f32[2,3] = caffe.Sigmoid(%t)",
        f"""%a: f32[2,6] = caffe.Input()
        %t, %u: f32[2,3], f32[2,3] = caffe.Slice(%a, axis=1, sizes=(3, 3))
        %z: f32[2,3] = caffe.Sigmoid(%t)
        %y: f32[2,3] = caffe.Power(%u, shift={2.0**-126})""",
        "z=%z, y=%u|z=%z, y=%y",
        {"copy_output": 1},
    ),
    "or, where there is neither Power nor Scale, joined with nothing": (
        BARE,
        A + "%t: f32[2,6] = caffe.TanH(%a)\n%z: f32[2,6] = caffe.Sigmoid(%t)",
        """%a: f32[2,6] = caffe.Input()
        %t: f32[2,6] = caffe.TanH(%a)
        %z: f32[2,6] = caffe.Sigmoid(%t)
        %y: f32[2,6] = caffe.Concat(%t, axis=1)""",
        "z=%z, y=%t|z=%z, y=%y",
        {"copy_output": 1},
    ),
    "the copies of all outputs stand before their views": (
        "flat",
        A
        + """%t: f32[2,6] = caffe.TanH(%a)
        %v: f32[2,2,3] = host.view(%t, shape=(2, 2, 3))
        %w: f32[3,4] = host.view(%a, shape=(3, 4))
        %z: f32[2,6] = caffe.Sigmoid(%t)""",
        """%a: f32[2,6] = caffe.Input()
        %t: f32[2,6] = caffe.TanH(%a)
        %z: f32[2,6] = caffe.Sigmoid(%t)
        %p: f32[2,6] = caffe.Power(%t)
        %q: f32[2,6] = caffe.Power(%a)
        %v: f32[2,2,3] = host.view(%p, shape=(2, 2, 3))
        %w: f32[3,4] = host.view(%q, shape=(3, 4))""",
        "p=%v, q=%w, z=%z",
        {"copy_output": 2},
    ),
    "a sequence of steps is read from unread blobs": (
        "noslice",
        """%q: f32[2,2,3] = host.input()
        %a: f32[2,3] = caffe.Feed(%q, shape=(2, 3), step=0)
        %b: f32[2,3] = caffe.Feed(%q, shape=(2, 3), step=1)
        %s: f32[2,3] = caffe.TanH(%a)
        %t: f32[2,3] = caffe.Eltwise(%s, %b)
        %z: f32[2,2,3] = host.stack(%s, %t)""",
        """%q: f32[2,2,3] = host.input()
        %a: f32[2,3] = caffe.Feed(%q, shape=(2, 3), step=0)
        %b: f32[2,3] = caffe.Feed(%q, shape=(2, 3), step=1)
        %s: f32[2,3] = caffe.TanH(%a)
        %t: f32[2,3] = caffe.Eltwise(%s, %b)
        %z: f32[2,2,3] = host.stack(%s, %t)
        %z/0: f32[2,3] = caffe.Power(%s)
        %z_2: f32[2,2,3] = host.stack(%z/0, %t)""",
        "z=%z|z=%z_2",
        {"copy_output": 1},
    ),
}


@pytest.mark.parametrize(("target", "before", "after", "returned", "counts"), CASES.values(), ids=CASES)
def test_a_view_gets_its_place(target: str, before: str, after: str, returned: str, counts: dict[str, int]) -> None:
    first, _, then = returned.partition("|")
    graph, settle = graph_of(before, first), SettleViews(load_target(target))
    outcome = settle.run(graph)
    assert outcome.graph == graph_of(after, then or first)
    assert (outcome.modified, outcome.counts) == (True, counts)
    assert_same_meaning(graph, outcome.graph)
    assert settle.run(outcome.graph) == PassResult(outcome.graph, False, {})


@pytest.mark.parametrize("target", ["flat", "caffe"])
def test_an_input_that_no_layer_reads_is_the_hosts_where_there_is_no_silence(target: str) -> None:
    lines = "%x: f32[2,3] = caffe.Input()\n%u: f32[2,3] = caffe.Input()\n%z: f32[2,3] = caffe.TanH(%x)"
    outcome = SettleViews(load_target(target)).run(graph_of(lines))
    left_out = lines.replace("%u: f32[2,3] = caffe.Input", "%u: f32[2,3] = host.input")
    assert outcome.graph == graph_of(left_out if target == "flat" else lines)
    assert outcome.counts == ({"leave_out": 1} if target == "flat" else {})
    assert not SettleViews(load_target(target)).run(outcome.graph).modified
    assert not SettleViews(load_target(target), first=True).run(graph_of(lines)).modified


def test_an_input_that_is_fed_in_another_shape_is_no_blob_itself() -> None:
    graph = graph_of(A + "%f: f32[4,3] = caffe.Feed(%a, shape=(4, 3))\n%z: f32[4,3] = caffe.TanH(%f)")
    assert SettleViews(load_target("noslice")).run(graph) == PassResult(graph, False, {})


@pytest.mark.parametrize(
    ("lines", "error", "reason"),
    [
        (
            A
            + """%t: f32[2,6] = caffe.TanH(%a)
            %r: f32[4,3] = host.view(%t, shape=(4, 3))
            %z: f32[4,3] = caffe.TanH(%r)""",
            "target noslice: z cannot read t in another shape: there is no Reshape",
            "Reshape",
        ),
        (
            """%q: f32[2,2,3] = host.input()
            %a: f32[2,3] = caffe.Feed(%q, shape=(2, 3), step=0)
            %v: f32[4,3] = host.view(%q, shape=(4, 3))
            %y: f32[2,3] = caffe.TanH(%a)
            %z: f32[4,3] = caffe.TanH(%v)""",
            "target noslice: input q is read step by step and as a whole",
            "Slice",
        ),
    ],
)
def test_what_has_no_place_is_refused_with_the_targets_reason(lines: str, error: str, reason: str) -> None:
    target = load_target("noslice")
    with pytest.raises(BackendError) as caught:
        SettleViews(target).run(graph_of(lines))
    assert caught.value.message == error
    assert target.reason_against(reason)[0] in caught.value.notes
