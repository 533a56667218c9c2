"""Matrices as one row: in text, whole nets in other programs, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    cell,
    concat,
    linear,
    model,
    reshape,
    scan,
    softmax,
    split,
    sum,
    tanh,
)  # fmt: skip
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, parse_graph, print_graph
from lstmc.passes import Dead
from lstmc.testing import assert_same_meaning
from lstmc.verification.differential import check
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS, CaffeOp
from lstmc_caffe.ops.inputs import read_blobs
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.rows.matrix_rows import OneRow
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled, emitted
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of

NCNN = load_target("ncnn")
LEAVES = {
    "x": "f32[3,4] = host.input()",
    "v": "f32[1,4] = host.input()",
    "V": "f32[5,4] = param()",
    "b": "f32[5] = param()",
    "d": "f32[4] = param()",
}
FED = "%a: f32[3,4] = caffe.Feed(%x, shape=(3, 4))\n"
ROW = "%a: f32[1,12] = caffe.Feed(%x, shape=(1, 12))\n"
CUT = ROW + "%a/0, %a/1, %a/2: f32[1,4], f32[1,4], f32[1,4] = caffe.Slice(%a, axis=1, sizes=(4, 4, 4))\n"
JOINED = "%z: f32[1,{0}] = caffe.Concat(%z/0, %z/1, %z/2, axis=1)\n%z_2: f32[3,{1}] = host.view(%z, shape=(3, {1}))"
CASES: dict[str, tuple[str, str]] = {
    "a function of each element": (
        FED + "%z: f32[3,4] = caffe.TanH(%a)",
        ROW + "%z: f32[1,12] = caffe.TanH(%a)\n%z_2: f32[3,4] = host.view(%z, shape=(3, 4))",
    ),
    "beside inputs of one row": (
        FED
        + "%i: f32[1,4] = caffe.Input()\n%f: f32[1,4] = caffe.Feed(%v, shape=(1, 4))\n%z: f32[3,4] = caffe.TanH(%a)",
        ROW
        + "%i: f32[1,4] = caffe.Input()\n%z: f32[1,12] = caffe.TanH(%a)\n%z_2: f32[3,4] = host.view(%z, shape=(3, 4))",
    ),
    "a blob in another shape": (
        FED + "%r: f32[1,12] = caffe.Reshape(%a, shape=(1, 12))\n%z: f32[1,12] = caffe.TanH(%r)",
        ROW + "%z: f32[1,12] = caffe.TanH(%a)",
    ),
    "a product of each row": (
        FED + "%z: f32[3,5] = caffe.InnerProduct(%a, %V, %b, num_output=5, bias=True)",
        CUT
        + "".join(f"%z/{i}: f32[1,5] = caffe.InnerProduct(%a/{i}, %V, %b, num_output=5, bias=True)\n" for i in range(3))
        + JOINED.format(15, 5),
    ),
    "softmax of each row": (
        FED + "%z: f32[3,4] = caffe.Softmax(%a, axis=1)",
        CUT + "".join(f"%z/{i}: f32[1,4] = caffe.Softmax(%a/{i}, axis=1)\n" for i in range(3)) + JOINED.format(12, 4),
    ),
    "a vector beside each row": (
        FED + "%z: f32[3,4] = caffe.Scale(%a, %d, learned=True)",
        CUT
        + "".join(f"%z/{i}: f32[1,4] = caffe.Scale(%a/{i}, %d, learned=True)\n" for i in range(3))
        + JOINED.format(12, 4),
    ),
    "rows that are cut": (
        FED + "%p, %z: f32[1,4], f32[2,4] = caffe.Slice(%a, axis=0, sizes=(1, 2))",
        ROW
        + "%p, %z: f32[1,4], f32[1,8] = caffe.Slice(%a, axis=1, sizes=(4, 8))\n"
        + "%z_2: f32[2,4] = host.view(%z, shape=(2, 4))",
    ),
    "columns that are cut": (
        FED + "%p, %q: f32[3,1], f32[3,3] = caffe.Slice(%a, axis=1, sizes=(1, 3))\n%z: f32[3,3] = caffe.TanH(%q)",
        CUT
        + "".join(f"%p/{i}, %q/{i}: f32[1,1], f32[1,3] = caffe.Slice(%a/{i}, axis=1, sizes=(1, 3))\n" for i in range(3))
        + "%q: f32[1,9] = caffe.Concat(%q/0, %q/1, %q/2, axis=1)\n%z: f32[1,9] = caffe.TanH(%q)\n"
        + "%z_2: f32[3,3] = host.view(%z, shape=(3, 3))",
    ),
    "columns that are joined": (
        FED + "%z: f32[3,8] = caffe.Concat(%a, %a, axis=1)",
        CUT
        + "".join(f"%z/{i}: f32[1,8] = caffe.Concat(%a/{i}, %a/{i}, axis=1)\n" for i in range(3))
        + JOINED.format(24, 8),
    ),
    "rows that are joined, then read one by one": (
        FED
        + """%t: f32[3,4] = caffe.TanH(%a)
        %j: f32[6,4] = caffe.Concat(%a, %t, axis=0)
        %p: f32[6,5] = caffe.InnerProduct(%j, %V, num_output=5)
        %q, %z: f32[5,5], f32[1,5] = caffe.Slice(%p, axis=0, sizes=(5, 1))""",
        ROW
        + "%t: f32[1,12] = caffe.TanH(%a)\n"
        + "%t/0, %t/1, %t/2: f32[1,4], f32[1,4], f32[1,4] = caffe.Slice(%t, axis=1, sizes=(4, 4, 4))\n"
        + "%p/5: f32[1,5] = caffe.InnerProduct(%t/2, %V, num_output=5)",
    ),
}


def reads_rows(graph: Graph, node: Node) -> bool:
    types = [*node.types, *map(graph.type, graph.args(node.name))]
    return node.op.name.startswith("caffe.") and any(type_.shape[0] > 1 for type_ in types)


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_rows_stand_side_by_side(before: str, after: str) -> None:
    graph = graph_of(before, leaves=LEAVES)
    outcome = OneRow(NCNN).run(graph)
    assert_same_meaning(graph, outcome.graph)
    assert sum(outcome.counts.values()) == sum(reads_rows(graph, node) for node in graph), "each such layer counts once"
    assert not OneRow(NCNN).run(outcome.graph).modified
    returned = "z=%z_2" if "%z_2" in after else "z=%p/5" if "%p/5" in after else "z=%z"
    assert lines_of(Dead().run(outcome.graph).graph) == f"{after.strip()}\nreturn {returned}"


@pytest.mark.parametrize(("rows", "counts"), [(1, {}), (2, {"feed": 1})])
def test_rows_that_are_fed_are_counted(rows: int, counts: dict[str, int]) -> None:
    text = f"%a: f32[{rows},4] = caffe.Feed(%x, shape=({rows}, 4))\n%z: f32[{rows},4] = caffe.TanH(%a)"
    outcome = OneRow(NCNN).run(graph_of(text, leaves={"x": f"f32[{rows},4] = host.input()"}))
    assert {name: count for name, count in outcome.counts.items() if name == "feed" and count} == counts


def test_what_is_carried_to_an_input_of_rows_is_carried_to_the_hosts() -> None:
    before = """graph g {
      %h: f32[2,3] = caffe.Input()
      %z: f32[2,3] = caffe.TanH(%h)
      return h=%z -> %h
    }
    """
    outcome = OneRow(NCNN).run(parse_graph(before, CAFFE_OPS + HOST_OPS))
    assert outcome.counts == {"input": 1, "elements": 1}
    assert print_graph(outcome.graph).splitlines()[1:] == [
        "  %h: f32[2,3] = host.input()",
        "  %h/row: f32[1,6] = caffe.Feed(%h, shape=(1, 6))",
        "  %z: f32[1,6] = caffe.TanH(%h/row)",
        "  %z_2: f32[2,3] = host.view(%z, shape=(2, 3))",
        "  return h=%z_2 -> %h",
        "}",
    ]


def test_other_targets_keep_rows() -> None:
    assert load_target("flat").before_one_row == load_target("flat")


@cell
def summed(x=Input(2, 3), h=State(2, 2, 3), *, W=Param(3, 3), U=Param(6, 6)):
    h = tanh(linear(h, W) + reshape(linear(reshape(h, 2, 6), U), 2, 2, 3) + x[:, None, :])
    return sum(h, axis=1), {"h": h}


@model
def batched(X=Input(3, 2, 3)):
    return scan(summed(), X)[0]


def test_blobs_of_one_row_need_no_reshape(tmp_path: Path) -> None:
    """A vector in each row of a state of two axes: a view before the blobs are one row, nothing behind it."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nsummary = "ncnn without Reshape"\nbase = "ncnn"\n[sources]\nmanual = "page 12"\n'
        '[[rule]]\nlayer = "Reshape"\nforbidden = true\nreason = "there is no Reshape"\nsource = "manual"\n'
    )
    net = lstmc.compile(batched, target=str(tmp_path / "mine.toml"))
    assert "Reshape" not in {layer.type for layer in net.layers}
    assert net.verify(["interpreter"]).passed


def test_a_layer_that_reads_rows_together_is_refused() -> None:
    graph = graph_of(FED + "%s: f32[3,4] = caffe.Softmax(%a, axis=0)\n%z: f32[3,4] = caffe.TanH(%s)", leaves=LEAVES)
    with pytest.raises(BackendError) as caught:
        OneRow(NCNN).run(graph)
    assert str(caught.value) == (
        "BackendError: target ncnn: s is f32[3,4], expected one row\n"
        "  a Softmax that reads rows together is not written a row at a time\n"
        "  it has no batch axis, and of several rows it computes something else, and says nothing\n"
        "  documented in: run here: ncnn 1.0.20261020, caffe2ncnn of a4d2ea1d4"
    )


@cell
def looking(x=Input(1, 4), memory=Input(3, 1, 4), h=State(1, 4), *, W=Param(4, 8), U=Param(4, 4)):
    scores = sum(linear(memory, U) * h, axis=-1, keepdims=True)
    seen = sum(softmax(scores, axis=0) * memory, axis=0)
    h = tanh(linear(concat(x, seen), W))
    return h, {"h": h}


@cell
def plain(x=Input(1, 3), h=State(1, 4), *, W=Param(8, 3), U=Param(8, 4)):
    a, b = split(linear(x, W) + linear(h, U), 2)
    return tanh(a) * b, {"h": tanh(a) * b}


@model
def translating(X=Input(3, 1, 3), Y=Input(2, 1, 4), R=Param(5, 4)):
    memory, last = scan(plain(), X)
    out, _ = scan(looking(), Y, static={"memory": memory}, init={"h": last["h"]})
    return {"out": linear(out, R), "memory": memory}


@pytest.mark.caffe
def test_attention_over_an_encoder_in_real_caffe(caffe: Runner) -> None:
    assert_caffe_agrees(caffe, compiled(translating, "ncnn"))


def test_attention_over_an_encoder_in_opencv(opencv: ReaderExecutor) -> None:
    net = compiled(translating, "ncnn")
    artifact, weights = emitted(net)
    text = artifact.files["translating.prototxt"].decode()
    assert (lint_text(text, NCNN).violations, lint_text(text, NCNN).unknown) == ((), ())
    assert check(net, artifact, weights, opencv).passed


@model
def turned(X=Input(2, 1, 3), W=Param(3, 3)):
    h = tanh(linear(X[0], W))
    return {"y": linear(h, W), "turned": h.T}


@cell
def summing(x=Input(2, 1), c=State(2, 4), *, W=Param(4, 1)):
    c = tanh(linear(x, W) + c)
    return c, {"c": c}


@model
def twice(X=Input(2, 2, 1)):
    last = scan(summing(), X)[1]["c"]
    return {"last": last, "as_images": reshape(last, 2, 4, 1, 1)}


@pytest.mark.parametrize("target", ["ncnn", "acuity"])
@pytest.mark.parametrize("written", [turned, twice], ids=lambda model: model.name)
def test_an_output_in_another_shape_is_no_blob_that_is_read(written: Model, target: str) -> None:
    graph = compiled(written, target).expanded
    read = {ref for node in graph if isinstance(node.op, CaffeOp) for ref in graph.args(node.name)}
    assert not read & {blob for output in graph.outputs for blob in read_blobs(graph, output.ref)}
