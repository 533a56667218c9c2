"""``conv_products`` and ``fold_convs``: text before, text after, and the same meaning."""

from __future__ import annotations

from typing import Any

import pytest

from lstmc import Input, Param, State, cell, conv, dims, exp, tanh
from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.ir import Graph, Scan, Stage, parse_graph, print_graph, verify
from lstmc.ops import Arg
from lstmc.passes import ConvProducts, Dead, Precompute, fold_convs, precompute, spread_kernels
from lstmc.plugins import library_names
from lstmc.testing import assert_same_meaning

N = dims("N")
BEFORE = """\
graph net {
  %x: f32[2,1,2,2] = input()
  %W: f32[2,1,1,1] = param()
  %b: f32[2] = param()
  %y: f32[2,2,2,2] = conv(%x, %W, %b)
  %u, %v: f32[2,1,2,2], f32[2,1,2,2] = split(%y, axis=1, sizes=(1, 1))
  return u=%u, v=%v
}
"""
AFTER = """\
  %y/responses: f32[4,2,2,2] = conv(%y/images, %W)
  %y/rows: f32[4,8] = reshape(%y/responses, shape=(4, 8))
  %y/matrix: f32[8,4] = transpose(%y/rows, axis=0)
  %y/elements: f32[2,4] = reshape(%x, shape=(2, 4))
  %y/column: f32[2,1] = reshape(%b, shape=(2, 1))
  %y/zeros: f32[2,4] = full()
  %y/everywhere: f32[2,4] = add(%y/column, %y/zeros)
  %y/bias: f32[8] = reshape(%y/everywhere, shape=(8,))
  %y/product: f32[2,8] = linear(%y/elements, %y/matrix, %y/bias)
  %y: f32[2,2,2,2] = reshape(%y/product, shape=(2, 2, 2, 2))
  %u/elements, %v/elements: f32[2,4], f32[2,4] = split(%y/product, axis=1, sizes=(4, 4))
  %u: f32[2,1,2,2] = reshape(%u/elements, shape=(2, 1, 2, 2))
  %v: f32[2,1,2,2] = reshape(%v/elements, shape=(2, 1, 2, 2))
  return u=%u, v=%v
}
"""


def changed(before: Graph) -> Graph:
    """What the pass makes of a graph: it means the same, and a second run changes nothing once it is precomputed."""
    outcome = ConvProducts().run(before)
    verify(outcome.graph, Stage.MODEL)
    assert_same_meaning(before, outcome.graph)
    stored = Precompute().run(outcome.graph).graph
    assert_same_meaning(before, stored)
    again = ConvProducts().run(stored)
    assert not again.modified
    return outcome.graph


def test_text() -> None:
    before = parse_graph(BEFORE)
    text = print_graph(changed(before))
    assert text[text.index("  %y/responses") :] == AFTER
    assert ConvProducts().run(before).counts == {"conv": 1, "split": 1}


def test_a_large_image_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompute, "LARGEST", 31)  # the matrix has 8 rows of 4
    assert not ConvProducts().run(parse_graph(BEFORE)).modified


@pytest.mark.parametrize("cell", [name for name in library_names() if name.startswith("conv_")])
def test_in_a_scan_of_any_convolution(cell: str) -> None:
    found = load_cell(cell)
    sizes = dict.fromkeys(found.dims, 3) | {"N": 2, "D": 2, "H": 2}
    graph = changed(CellModel(found).graph(T=2, **{dim: sizes[dim] for dim in found.dims}))
    (scan,) = (node for node in graph if node.op.name == "scan")
    assert [node.op.name for node in scan.op.body if node.op.name == "linear"]  # type: ignore[attr-defined]


FOLDED_BEFORE = """\
graph net {
  %x: f32[2,3,1,4,4] = input()
  %W: f32[2,1,2,2] = param()
  %b: f32[2] = param()
  %s: f32[2,1,1] = param()
  %t: f32[1,2,1,1] = param()
  %y: f32[2,3,2,3,3] = conv(%x, %W)
  %scaled: f32[2,3,2,3,3] = mul(%s, %y)
  %shifted: f32[2,3,2,3,3] = sub(%scaled, %t)
  return y=%shifted
}
"""
FOLDED = """\
graph net {
  %x: f32[2,3,1,4,4] = input()
  %W: f32[2,1,2,2] = param()
  %s: f32[2,1,1] = param()
  %t: f32[1,2,1,1] = param()
  %scaled/factor: f32[2,1,1,1] = reshape(%s, shape=(2, 1, 1, 1))
  %scaled/w: f32[2,1,2,2] = mul(%W, %scaled/factor)
  %shifted/term: f32[2] = reshape(%t, shape=(2,))
  %shifted/b: f32[2] = affine(%shifted/term, scale=-1.0)
  %shifted: f32[2,3,2,3,3] = conv(%x, %scaled/w, %shifted/b)
  return y=%shifted
}
"""


def folded(before: Graph) -> Graph:
    """The result of ``fold_convs``: of the same meaning, and a second run changes nothing."""
    outcome = fold_convs.run(before)
    verify(outcome.graph, Stage.MODEL)
    assert_same_meaning(before, outcome.graph)
    assert not fold_convs.run(outcome.graph).modified
    return Dead().run(outcome.graph).graph


def test_a_factor_and_a_term_of_each_channel_go_into_the_convolution() -> None:
    before = parse_graph(FOLDED_BEFORE)
    assert print_graph(folded(before)) == FOLDED
    assert fold_convs.run(before).counts == {"fold_factor": 1, "fold_term": 1}
    with_bias = FOLDED_BEFORE.replace("conv(%x, %W)", "conv(%x, %W, %b)")
    text = print_graph(folded(parse_graph(with_bias)))
    assert "%scaled/b: f32[2] = mul(%b, %scaled/row)" in text
    assert "%shifted/b: f32[2] = sub(%scaled/b, %shifted/term)" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return y=%shifted", "return y=%shifted, raw=%y"),  # the convolution is read elsewhere
        ("%s: f32[2,1,1] = param()", "%s: f32[2,1,1] = input()"),  # the factor is no parameter
        ("%s: f32[2,1,1] = param()", "%s: f32[2,3,3] = param()"),  # nor one of each channel
        ("%s: f32[2,1,1] = param()", "%s: f32[3,2,1,1] = param()"),  # it is another for each image
        ("%W: f32[2,1,2,2] = param()", "%W: f32[2,1,2,2] = input()"),
    ],
)
def test_other_factors_stay(old: str, new: str) -> None:
    assert old in FOLDED_BEFORE
    assert not fold_convs.run(parse_graph(FOLDED_BEFORE.replace(old, new))).modified


def test_a_kernel_of_unequal_dilations_has_zeros_between_its_elements() -> None:
    text = FOLDED_BEFORE.replace("conv(%x, %W)", "conv(%x, %W, dilation=(1, 2))").replace(
        "%y: f32[2,3,2,3,3]", "%y: f32[2,3,2,3,2]"
    )
    text = text.replace("f32[2,3,2,3,3] =", "f32[2,3,2,3,2] =")
    before = parse_graph(text)
    outcome = spread_kernels.run(before)
    verify(outcome.graph, Stage.MODEL)
    assert_same_meaning(before, outcome.graph)
    assert outcome.counts == {"spread": 1}
    assert not spread_kernels.run(outcome.graph).modified
    assert outcome.graph.type(outcome.graph.args("y")[1]).shape == (2, 1, 2, 3)
    assert not spread_kernels.run(
        parse_graph(text.replace("%W: f32[2,1,2,2] = param()", "%W: f32[2,1,2,2] = input()"))
    ).modified


def test_a_convolution_in_a_scan_is_folded_with_the_scan_s_weights() -> None:
    @cell
    def normalized(
        x: Any = Input(N, 1, 3, 3), h: Any = State(N, 2, 3, 3), *,
        W: Any = Param(2, 1, 3, 3), s: Any = Param(2, 1, 1), t: Any = Param(2, 1, 1)
    ) -> Any:  # fmt: skip
        h = tanh(conv(x, W, pad=1) * exp(s) + t + h)
        return h, {"h": h}

    before = CellModel(normalized).graph(T=2, N=2)
    assert fold_convs.run(before).counts == {"fold_factor": 1, "fold_term": 1}
    (scan,) = [node for node in Precompute().run(folded(before)).graph if isinstance(node.op, Scan)]
    assert isinstance(scan.op, Scan)
    assert [node.op.name for node in scan.op.body if not isinstance(node.op, Arg)] == ["conv", "add", "tanh"]
