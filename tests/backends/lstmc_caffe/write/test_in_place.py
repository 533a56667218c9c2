"""An activation works in its bottom's blob where nothing else needs what was there."""

from __future__ import annotations

import pytest

from lstmc.backend import load_backend, load_cell
from lstmc.dsl import CellModel
from lstmc.ir import parse_graph
from lstmc.pipeline import compile_graph
from lstmc_caffe.ops import CAFFE_OPS
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.write.artifact import overwritten
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees

HEAD = """\
graph net {
  %x: f32[2,4] = caffe.Input()
  %v: f32[2,4] = caffe.Input()
"""


def names(body: str, kept: tuple[str, ...] = ()) -> dict[str, str]:
    graph = parse_graph(HEAD + body + "}\n", CAFFE_OPS)
    return {graph.value_name(ref): name for ref, name in overwritten(graph, kept).items()}


def test_one_reader() -> None:
    text = "%z: f32[2,4] = caffe.Eltwise(%x, %v)\n%y: f32[2,4] = caffe.TanH(%z)\nreturn y=%y\n"
    assert names(text) == {"z": "y"}
    assert names(text, kept=("z",)) == {}


def test_two_readers_or_an_output() -> None:
    body = "%z: f32[2,4] = caffe.Eltwise(%x, %v)\n%y: f32[2,4] = caffe.TanH(%z)\n"
    assert names(body + "return y=%y, z=%z\n") == {}
    assert names(body + "%w: f32[2,4] = caffe.Eltwise(%y, %z)\nreturn w=%w\n") == {}


@pytest.mark.parametrize("layer", ["AbsVal", "Log", "Power", "Exp", "Softmax"])
def test_layers_that_keep_their_bottom(layer: str) -> None:
    axis = "axis=1" if layer == "Softmax" else ""
    call = f"caffe.{layer}(%z{', ' + axis if axis else ''})"
    assert names(f"%z: f32[2,4] = caffe.Eltwise(%x, %v)\n%y: f32[2,4] = {call}\nreturn y=%y\n") == {}


@pytest.mark.parametrize(
    "producer",
    [
        "caffe.Sigmoid(%x)",
        "caffe.Reshape(%x, shape=(2, 4))",
        "caffe.Split(%x, copies=1)",
        "caffe.Slice(%x, axis=1, sizes=(4,))",
        "caffe.Concat(%x, axis=1)",
        "caffe.DummyData()",
        "caffe.Input()",
    ],
)
def test_bottoms_that_are_read_again_or_that_are_another_blobs_memory(producer: str) -> None:
    assert names(f"%z: f32[2,4] = {producer}\n%y: f32[2,4] = caffe.TanH(%z)\nreturn y=%y\n") == {}


def test_pieces_of_a_slice() -> None:
    text = (
        "%a, %b: f32[2,2], f32[2,2] = caffe.Slice(%x, axis=1, sizes=(2, 2))\n%s: f32[2,2] = caffe.Sigmoid(%a)\n"
        "%t: f32[2,2] = caffe.TanH(%b)\n%y: f32[2,2] = caffe.Eltwise(%s, %t, operation='PROD')\nreturn y=%y\n"
    )
    assert names(text) == {"a": "s", "b": "t"}


@pytest.mark.parametrize(
    ("producer", "shape"),
    [
        ("caffe.Embed(%i, %W, input_dim=3, num_output=4)", "2,4"),
        ("caffe.Convolution(%p, %F, num_output=1)", "1,1,2,2"),
        ("caffe.MaxPooling(%p, size=(1, 1))", "1,1,2,2"),
        ("caffe.AvePooling(%p, size=(1, 1))", "1,1,2,2"),
    ],
)
def test_what_embed_convolution_and_pooling_make_can_be_overwritten(producer: str, shape: str) -> None:
    leaves = (
        "%i: f32[2] = caffe.Input()\n%W: f32[3,4] = param()\n"
        "%p: f32[1,1,2,2] = caffe.Input()\n%F: f32[1,1,1,1] = param()\n"
    )
    assert names(f"{leaves}%z: f32[{shape}] = {producer}\n%y: f32[{shape}] = caffe.ReLU(%z)\nreturn y=%y\n") == {
        "z": "y"
    }


@pytest.mark.caffe
@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole", "gru", "gru_reset_after", "rnn"])
def test_nets_with_layers_in_place_in_real_caffe(caffe: Runner, cell: str) -> None:
    graph = CellModel(load_cell(cell)).graph(T=3, N=40, D=3, H=60)
    net = compile_graph(graph, load_backend("caffe"), form="packed")
    assert overwritten(net.expanded)
    assert_caffe_agrees(caffe, net)
