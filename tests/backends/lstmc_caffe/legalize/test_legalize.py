"""``legalize``: which layers each core op becomes, and that they mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.ir import Graph, Stage, parse_graph, print_graph, verify
from lstmc.passes import PassResult
from lstmc.testing import assert_same_meaning
from lstmc_caffe.ops import CAFFE_OPS
from tests.backends.lstmc_caffe.nets import legalised
from tests.rewrites import numbered, rewrites

LEAVES = {
    "x": "f32[2,3,4] = input()",
    "u": "f32[2,3,4] = input()",
    "s": "f32[3,1] = input()",
    "e": "f32[1] = input()",
    "W": "f32[5,12] = param()",
    "V": "f32[5,4] = param()",
    "b": "f32[5] = param()",
    "P": "f32[2,3,4] = param()",
    "Q": "f32[3,4] = param()",
    "c": "f32[3,1] = param()",
    "k": "f32[1] = param()",
}


def graph_of(lines: str, returned: str) -> Graph:
    """The leaves that the lines use, the lines, and what is returned."""
    used = {name for name in LEAVES if f"%{name}," in lines + returned + "," or f"%{name})" in lines}
    leaves = "".join(f"  %{name}: {LEAVES[name]}\n" for name in LEAVES if name in used)
    body = "".join(f"  {line.strip()}\n" for line in lines.strip().splitlines())
    return parse_graph(f"graph g {{\n{leaves}{body}  return {returned}\n}}\n")


def legalized(before: Graph, low: float = -2.0) -> Graph:
    outcome = legalised(before)
    verify(outcome.graph, Stage.LEGAL, CAFFE_OPS)
    assert_same_meaning(before, outcome.graph, low)
    again = legalised(outcome.graph)
    assert again == PassResult(outcome.graph, False, {})
    return outcome.graph


def layers(graph: Graph) -> str:
    """The lines of a legalised graph, without inputs and parameters."""
    lines = [line.strip() for line in print_graph(graph).splitlines()[1:-2]]
    return "\n".join(line for line in lines if "= caffe.Input(" not in line and not line.endswith("param()"))


CASES = rewrites(Path(__file__).with_name("legalize.lir"))


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_core_ops_become_layers(before: str, after: str) -> None:
    low = 0.1 if "power" in before else -2.0
    graph = legalized(graph_of(before, "z=%z"), low)
    assert numbered(layers(graph)) == numbered(after)


@pytest.mark.parametrize("exponent", [3.0, 5.0, 8.0])
def test_whole_powers_have_a_gradient_at_zero(exponent: float) -> None:
    graph = legalized(graph_of(f"%z: f32[2,3,4] = power(%x, exponent={exponent})", "z=%z"))
    assert layers(graph).count("%x") == exponent
