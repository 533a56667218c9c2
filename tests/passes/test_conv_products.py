"""``conv_products``: text before, text after, and the same meaning."""

from __future__ import annotations

import pytest

from lstmc.backend import load_cell
from lstmc.catalog import library_names
from lstmc.dsl import CellModel
from lstmc.ir import Graph, Stage, parse_graph, print_graph, verify
from lstmc.passes import ConvProducts, Precompute, conv_products
from lstmc.testing.equivalence import assert_same_meaning

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
    assert not ConvProducts(trained=True).run(before).modified


def test_a_large_image_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_products, "LARGEST", 31)  # the matrix has 8 rows of 4
    assert not ConvProducts().run(parse_graph(BEFORE)).modified


@pytest.mark.parametrize("cell", [name for name in library_names() if name.startswith("conv_")])
def test_in_a_scan_of_any_convolution(cell: str) -> None:
    found = load_cell(cell)
    sizes = dict.fromkeys(found.dims, 3) | {"N": 2, "D": 2, "H": 2}
    graph = changed(CellModel(found).graph(T=2, **{dim: sizes[dim] for dim in found.dims}))
    (scan,) = (node for node in graph if node.op.name == "scan")
    assert [node.op.name for node in scan.op.body if node.op.name == "linear"]  # type: ignore[attr-defined]
