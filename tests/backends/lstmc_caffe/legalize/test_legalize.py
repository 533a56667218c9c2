"""``legalize``: which layers each core op becomes, and that they mean the same."""

from __future__ import annotations

import pytest

from lstmc.ir import Graph, Stage, parse_graph, print_graph, verify
from lstmc.passes import PassResult
from lstmc.testing.equivalence import assert_same_meaning
from lstmc_caffe.ops import CAFFE_OPS
from tests.backends.lstmc_caffe.nets import legalised

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


CASES: dict[str, tuple[str, str]] = {
    "linear": (
        "%z: f32[2,5] = linear(%x, %W)",
        "%z: f32[2,5] = caffe.InnerProduct(%x, %W, num_output=5)",
    ),
    "linear with a bias": (
        "%z: f32[2,3,5] = linear(%x, %V, %b, axis=2)",
        "%z: f32[2,3,5] = caffe.InnerProduct(%x, %V, %b, axis=2, num_output=5, bias=True)",
    ),
    "linear with a computed bias": (
        """
        %t: f32[5] = tanh(%b)
        %z: f32[2,3,5] = linear(%x, %V, %t, axis=2)
        """,
        """
        %b/zeros: f32[5] = caffe.DummyData()
        %b/value: f32[5] = caffe.Bias(%b/zeros, %b, axis=0, learned=True)
        %t: f32[5] = caffe.TanH(%b/value)
        %innerproduct: f32[2,3,5] = caffe.InnerProduct(%x, %V, axis=2, num_output=5)
        %z: f32[2,3,5] = caffe.Bias(%innerproduct, %t, axis=2)
        """,
    ),
    "linear of a parameter": (
        "%z: f32[2,5] = linear(%P, %W)",
        """
        %P/zeros: f32[2,3,4] = caffe.DummyData()
        %P/value: f32[2,3,4] = caffe.Bias(%P/zeros, %P, axis=0, num_axes=3, learned=True)
        %z: f32[2,5] = caffe.InnerProduct(%P/value, %W, num_output=5)
        """,
    ),
    "sums, differences and products of one shape": (
        """
        %p: f32[2,3,4] = add(%x, %u)
        %q: f32[2,3,4] = sub(%p, %u)
        %z: f32[2,3,4] = mul(%q, %q)
        """,
        """
        %p: f32[2,3,4] = caffe.Eltwise(%x, %u)
        %q: f32[2,3,4] = caffe.Eltwise(%p, %u, coeff=(1.0, -1.0))
        %z: f32[2,3,4] = caffe.Eltwise(%q, %q, operation='PROD')
        """,
    ),
    "sum with a parameter of the same shape, on either side": (
        """
        %p: f32[2,3,4] = add(%x, %P)
        %z: f32[2,3,4] = add(%P, %p)
        """,
        """
        %p: f32[2,3,4] = caffe.Bias(%x, %P, axis=0, num_axes=3, learned=True)
        %z: f32[2,3,4] = caffe.Bias(%p, %P, axis=0, num_axes=3, learned=True)
        """,
    ),
    "sum of a parameter with itself": (
        "%z: f32[2,3,4] = add(%P, %P)",
        """
        %P/zeros: f32[2,3,4] = caffe.DummyData()
        %P/value: f32[2,3,4] = caffe.Bias(%P/zeros, %P, axis=0, num_axes=3, learned=True)
        %P/zeros_2: f32[2,3,4] = caffe.DummyData()
        %P/value_2: f32[2,3,4] = caffe.Bias(%P/zeros_2, %P, axis=0, num_axes=3, learned=True)
        %z: f32[2,3,4] = caffe.Eltwise(%P/value, %P/value_2)
        """,
    ),
    "product with a parameter of the same shape": (
        "%z: f32[2,3,4] = mul(%x, %P)",
        """
        %P/zeros: f32[2,3,4] = caffe.DummyData()
        %P/value: f32[2,3,4] = caffe.Bias(%P/zeros, %P, axis=0, num_axes=3, learned=True)
        %z: f32[2,3,4] = caffe.Eltwise(%x, %P/value, operation='PROD')
        """,
    ),
    "broadcast sum, difference and product": (
        """
        %p: f32[2,3,4] = add(%x, %s)
        %q: f32[2,3,4] = sub(%s, %p)
        %r: f32[2,3,4] = sub(%q, %s)
        %z: f32[2,3,4] = mul(%s, %r)
        """,
        """
        %reshape: f32[3] = caffe.Reshape(%s, shape=(3,))
        %p: f32[2,3,4] = caffe.Bias(%x, %reshape)
        %power: f32[2,3,4] = caffe.Power(%p, scale=-1.0)
        %reshape_2: f32[3] = caffe.Reshape(%s, shape=(3,))
        %q: f32[2,3,4] = caffe.Bias(%power, %reshape_2)
        %power_2: f32[3,1] = caffe.Power(%s, scale=-1.0)
        %reshape_3: f32[3] = caffe.Reshape(%power_2, shape=(3,))
        %r: f32[2,3,4] = caffe.Bias(%q, %reshape_3)
        %reshape_4: f32[3] = caffe.Reshape(%s, shape=(3,))
        %z: f32[2,3,4] = caffe.Scale(%r, %reshape_4)
        """,
    ),
    "broadcast of a parameter": (
        """
        %p: f32[2,3,4] = add(%Q, %x)
        %z: f32[2,3,4] = mul(%p, %Q)
        """,
        """
        %p: f32[2,3,4] = caffe.Bias(%x, %Q, num_axes=2, learned=True)
        %z: f32[2,3,4] = caffe.Scale(%p, %Q, num_axes=2, learned=True)
        """,
    ),
    "broadcast of a parameter whose blob has another shape": (
        "%z: f32[2,3,4] = mul(%x, %c)",
        """
        %c/zeros: f32[3,1] = caffe.DummyData()
        %c/value: f32[3,1] = caffe.Bias(%c/zeros, %c, axis=0, num_axes=2, learned=True)
        %reshape: f32[3] = caffe.Reshape(%c/value, shape=(3,))
        %z: f32[2,3,4] = caffe.Scale(%x, %reshape)
        """,
    ),
    "broadcast of one element": (
        """
        %p: f32[2,3,4] = mul(%x, %e)
        %z: f32[2,3,4] = add(%p, %k)
        """,
        """
        %reshape: f32[] = caffe.Reshape(%e, shape=())
        %p: f32[2,3,4] = caffe.Scale(%x, %reshape, axis=0, num_axes=0)
        %k/zeros: f32[1] = caffe.DummyData()
        %k/value: f32[1] = caffe.Bias(%k/zeros, %k, axis=0, learned=True)
        %reshape_2: f32[] = caffe.Reshape(%k/value, shape=())
        %z: f32[2,3,4] = caffe.Bias(%p, %reshape_2, axis=0, num_axes=0)
        """,
    ),
    "a larger parameter": (
        "%z: f32[2,3,4] = mul(%s, %P)",
        """
        %reshape: f32[3] = caffe.Reshape(%s, shape=(3,))
        %P/zeros: f32[2,3,4] = caffe.DummyData()
        %P/value: f32[2,3,4] = caffe.Bias(%P/zeros, %P, axis=0, num_axes=3, learned=True)
        %z: f32[2,3,4] = caffe.Scale(%P/value, %reshape)
        """,
    ),
    "affine": (
        "%z: f32[2,3,4] = affine(%x, scale=-1.0, shift=1.0)",
        "%z: f32[2,3,4] = caffe.Power(%x, scale=-1.0, shift=1.0)",
    ),
    "powers": (
        """
        %p: f32[2,3,4] = power(%x, exponent=2.0)
        %q: f32[2,3,4] = power(%p, exponent=3.0)
        %r: f32[2,3,4] = power(%q, exponent=0.5)
        %s_2: f32[2,3,4] = power(%r, exponent=9.0)
        %z: f32[2,3,4] = power(%s_2, exponent=-1.0)
        """,
        """
        %p: f32[2,3,4] = caffe.Power(%x, power=2.0)
        %q: f32[2,3,4] = caffe.Eltwise(%p, %p, %p, operation='PROD')
        %r: f32[2,3,4] = caffe.Power(%q, power=0.5)
        %s_2: f32[2,3,4] = caffe.Power(%r, power=9.0)
        %z: f32[2,3,4] = caffe.Power(%s_2, power=-1.0)
        """,
    ),
    "functions": (
        """
        %t: f32[2,3,4] = tanh(%x)
        %g: f32[2,3,4] = sigmoid(%t)
        %l: f32[2,3,4] = log(%g)
        %a: f32[2,3,4] = abs(%l)
        %r: f32[2,3,4] = relu(%a)
        %h: f32[2,3,4] = elu(%r, alpha=0.5)
        %p: f32[2,3,4] = exp(%h)
        %z: f32[2,3,4] = softmax(%p, axis=2)
        """,
        """
        %t: f32[2,3,4] = caffe.TanH(%x)
        %g: f32[2,3,4] = caffe.Sigmoid(%t)
        %l: f32[2,3,4] = caffe.Log(%g)
        %a: f32[2,3,4] = caffe.AbsVal(%l)
        %r: f32[2,3,4] = caffe.ReLU(%a)
        %h: f32[2,3,4] = caffe.ELU(%r, alpha=0.5)
        %p: f32[2,3,4] = caffe.Exp(%h)
        %z: f32[2,3,4] = caffe.Softmax(%p, axis=2)
        """,
    ),
    "shapes": (
        """
        %p, %q: f32[2,1,4], f32[2,2,4] = split(%x, axis=1, sizes=(1, 2))
        %r: f32[2,3,4] = concat(%q, %p, axis=1)
        %z: f32[6,4] = reshape(%r, shape=(6, 4))
        """,
        """
        %p, %q: f32[2,1,4], f32[2,2,4] = caffe.Slice(%x, axis=1, sizes=(1, 2))
        %r: f32[2,3,4] = caffe.Concat(%q, %p, axis=1)
        %z: f32[6,4] = caffe.Reshape(%r, shape=(6, 4))
        """,
    ),
    "a sequence cut and joined": (
        """
        %p, %q: f32[3,4], f32[3,4] = unstack(%x)
        %z: f32[2,3,4] = stack(%q, %p)
        """,
        """
        %x/rows: f32[6,4] = caffe.Reshape(%x, shape=(6, 4))
        %p, %q: f32[3,4], f32[3,4] = caffe.Slice(%x/rows, axis=0, sizes=(3, 3))
        %z/rows: f32[6,4] = caffe.Concat(%q, %p, axis=0)
        %z: f32[2,3,4] = caffe.Reshape(%z/rows, shape=(2, 3, 4))
        """,
    ),
    "constants and filled inputs": (
        """
        %n: f32[2,3] = input(fill=constant(0.0))
        %f: f32[2,3] = full(value=0.5)
        %z: f32[2,3] = add(%n, %f)
        """,
        """
        %n: f32[2,3] = caffe.FilledInput(fill=constant(0.0))
        %f: f32[2,3] = caffe.DummyData(value=0.5)
        %z: f32[2,3] = caffe.Eltwise(%n, %f)
        """,
    ),
    "ops on parameters that no product reads": (
        """
        %n: f32[5,4] = affine(%V, scale=-1.0)
        %z: f32[20] = reshape(%n, shape=(20,))
        """,
        """
        %V/zeros: f32[5,4] = caffe.DummyData()
        %V/value: f32[5,4] = caffe.Bias(%V/zeros, %V, axis=0, num_axes=2, learned=True)
        %n: f32[5,4] = caffe.Power(%V/value, scale=-1.0)
        %z: f32[20] = caffe.Reshape(%n, shape=(20,))
        """,
    ),
    "weights made of parameters stay core ops": (
        """
        %n: f32[5,4] = affine(%V, scale=-1.0)
        %z: f32[2,3,5] = linear(%x, %n, axis=2)
        """,
        """
        %n: f32[5,4] = affine(%V, scale=-1.0)
        %z: f32[2,3,5] = caffe.InnerProduct(%x, %n, axis=2, num_output=5)
        """,
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_core_ops_become_layers(before: str, after: str) -> None:
    low = 0.1 if "power" in before else -2.0
    graph = legalized(graph_of(before, "z=%z"), low)
    assert layers(graph) == "\n".join(line.strip() for line in after.strip().splitlines())


@pytest.mark.parametrize("exponent", [3.0, 5.0, 8.0])
def test_whole_powers_have_a_gradient_at_zero(exponent: float) -> None:
    graph = legalized(graph_of(f"%z: f32[2,3,4] = power(%x, exponent={exponent})", "z=%z"))
    assert layers(graph).count("%x") == exponent
