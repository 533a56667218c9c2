"""``fixed_products``: text before, text after, and the same meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import Input, State, cell, model, scan, tanh
from lstmc.ir import parse_graph, print_graph, verify
from lstmc.ops import Values
from lstmc.passes import Dead, fixed_products, lowering
from lstmc.testing import assert_same_meaning

BEFORE = """\
graph net {
  %X: f32[3,2,4] = input()
  %C0: f32[2,3,4] = input()
  %Y, %C_T: f32[3,2,3], f32[2,3,4] = scan(%X, %C0, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %C_prev: f32[2,3,4] = arg(role='state')
      %row: f32[2,1,4] = reshape(%x, shape=(2, 1, 4))
      %k: f32[2,3,4] = tile(%row, axis=1, tiles=3)
      %kC: f32[2,3,4] = mul(%k, %C_prev)
      %v: f32[2,3] = sum(%kC, axis=2)
      %column: f32[2,3,1] = reshape(%v, shape=(2, 3, 1))
      %C: f32[2,3,4] = add(%C_prev, %column)
      return v=%v, next C=%C
    }
  }
  return Y=%Y, C_T=%C_T
}
"""


def filler(matrix: object) -> str:
    values = Values.of(matrix)
    return f"fill=values({values.shape}, {values.data!r}), lr_mult=0.0, decay_mult=0.0"


TILED = filler(np.kron(np.ones((3, 1)), np.eye(4)))
SUMMED = filler(np.kron(np.eye(3), np.ones((1, 4))))
SPREAD = filler(np.kron(np.eye(3), np.ones((4, 1))))
AFTER = f"""\
graph net {{
  %X: f32[3,2,4] = input()
  %C0: f32[2,3,4] = input()
  %Y/k/ones: f32[12,4] = param({TILED})
  %Y/v/ones: f32[3,12] = param({SUMMED})
  %Y/C/spread/ones: f32[12,3] = param({SPREAD})
  %Y, %C_T: f32[3,2,3], f32[2,3,4] = scan(%X, %C0, %Y/k/ones, %Y/v/ones, %Y/C/spread/ones, length=3) {{
    body step {{
      %x: f32[2,4] = arg()
      %C_prev: f32[2,3,4] = arg(role='state')
      %row: f32[2,1,4] = reshape(%x, shape=(2, 1, 4))
      %k/ones: f32[12,4] = arg(role='weight')
      %k/rows: f32[2,12] = linear(%row, %k/ones)
      %k: f32[2,3,4] = reshape(%k/rows, shape=(2, 3, 4))
      %kC: f32[2,3,4] = mul(%k, %C_prev)
      %v/ones: f32[3,12] = arg(role='weight')
      %v/rows: f32[2,3] = linear(%kC, %v/ones)
      %v: f32[2,3] = reshape(%v/rows, shape=(2, 3))
      %column: f32[2,3,1] = reshape(%v, shape=(2, 3, 1))
      %C/spread/ones: f32[12,3] = arg(role='weight')
      %C/spread/rows: f32[2,12] = linear(%column, %C/spread/ones)
      %C/spread: f32[2,3,4] = reshape(%C/spread/rows, shape=(2, 3, 4))
      %C: f32[2,3,4] = add(%C_prev, %C/spread)
      return v=%v, next C=%C
    }}
  }}
  return Y=%Y, C_T=%C_T
}}
"""


def test_a_step_before_and_after() -> None:
    before = parse_graph(BEFORE)
    made = fixed_products.run(before)
    assert print_graph(made.graph) == AFTER
    assert made.counts == {"moved": 2, "spread": 1}
    verify(made.graph)
    assert_same_meaning(before, made.graph)
    assert not fixed_products.run(made.graph).modified


@pytest.mark.parametrize(
    "line",
    [
        "%z: f32[2,4] = sum(%x, axis=1)",
        "%z: f32[2,3] = sum(%x, axis=2)",
        "%z, %u: f32[2,1,4], f32[2,2,4] = split(%x, axis=1, sizes=(1, 2))",
        "%z: f32[2,4,3] = transpose(%x, axis=1)",
        "%z: f32[2,3,8] = tile(%x, axis=2, tiles=2)",
        "%z: f32[2,3,4] = sub(%x, %m)",
        "%z: f32[2,3,4] = maximum(%m, %x)",
        "%z: f32[2,3,4] = mul(%x, %n)",
        "%z: f32[2,4] = max(%x, axis=1)",
        "%z: f32[2,3] = max(%x, axis=2)",
    ],
)
def test_what_moves_or_adds_within_rows_is_a_product(line: str) -> None:
    before = parse_graph(f"""graph net {{
        %x: f32[2,3,4] = input()
        %m: f32[2,3,1] = input()
        %n: f32[2,1,1] = input()
        {line}
        return z=%z
    }}""")
    made = fixed_products.run(before)
    assert made.modified
    assert [made.graph.value_name(output.ref) for output in made.graph.outputs] == ["z"]
    verify(made.graph)
    assert_same_meaning(before, Dead().run(made.graph).graph)
    assert not fixed_products.run(made.graph).modified


STAYS = {
    "a sum over the batch": "%z: f32[3,4] = sum(%x, axis=0)",
    "an array that every row has": "%z: f32[2,3,4] = add(%x, %e)",
    "a number for the batch": "%z: f32[2,3,4] = mul(%x, %o)",
    "a parameter": "%z: f32[2,3,4] = mul(%x, %p)",
    "pieces of a parameter": "%z, %u: f32[2,1,1], f32[2,2,1] = split(%p, axis=1, sizes=(1, 2))",
    "a matrix, which is widened by Concat": "%z: f32[2,4] = mul(%a, %b)",
}


@pytest.mark.parametrize("line", STAYS.values(), ids=STAYS)
def test_what_is_no_product_of_rows_stays(line: str) -> None:
    graph = parse_graph(f"""graph net {{
        %x: f32[2,3,4] = input()
        %e: f32[3,4] = input()
        %o: f32[1,1,1] = input()
        %a: f32[2,4] = input()
        %b: f32[2,1] = input()
        %p: f32[2,3,1] = param()
        {line}
        return z=%z
    }}""")
    assert not fixed_products.run(graph).modified


@pytest.mark.parametrize("bias", ["", ", %b"])
def test_a_product_of_each_vector_of_a_row_is_one_of_the_row_with_a_diagonal_of_matrices(bias: str) -> None:
    body = f"""body step {{
          %h_prev: f32[2,3,4] = arg(role='state')
          %W: f32[4,4] = arg(role='weight')
          %b: f32[4] = arg(role='weight')
          %h: f32[2,3,4] = linear(%h_prev, %W{bias}, axis=2)
          return h=%h, next h=%h
        }}"""
    before = parse_graph(f"""graph net {{
      %h0: f32[2,3,4] = input()
      %W: f32[4,4] = param(fill=uniform(min=-1.0, max=1.0))
      %b: f32[4] = param(fill=uniform(min=-1.0, max=1.0))
      %y, %h_T: f32[2,2,3,4], f32[2,3,4] = scan(%h0, %W, %b, length=2) {{
        {body}
      }}
      return y=%y, h_T=%h_T
    }}""")
    made = fixed_products.run(before)
    assert made.counts == {"diagonal": 1}
    verify(made.graph)
    assert_same_meaning(before, made.graph)
    assert not fixed_products.run(made.graph).modified


def test_what_needs_too_large_a_matrix_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "LARGEST", 11)
    assert not fixed_products.run(parse_graph(BEFORE)).modified


@pytest.mark.parametrize("steps", [1, 3])
def test_the_largest_of_each_row_is_that_of_its_pieces(steps: int) -> None:
    @cell
    def sharpened(x: Any = Input(2, 4), h: Any = State(2, 4)) -> Any:
        h = tanh(x + h) - lstmc.max(h * x, axis=-1, keepdims=True) + lstmc.min(x, axis=1, keepdims=True)
        return lstmc.argmax(h)[:, None] * x, {"h": h}

    @model
    def net(X: Any = Input(steps, 2, 4)) -> Any:
        return scan(sharpened(), X)[0]

    compiled = lstmc.compile(net, target="noslice")
    assert "Pooling" not in {layer.type for layer in compiled.layers}
    assert "largest" in next(s.counts for s in compiled.compiled.history if s.pass_name == "fixed_products")
    assert compiled.verify(["interpreter"]), str(compiled.verify(["interpreter"]))
