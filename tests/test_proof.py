"""Proofs: whole compiles of every library cell, and no proof of a net with a planted fault."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph, Node, Ref, parse_graph, print_graph
from lstmc.ops import Cos, Input, Log, Op, Param, Sin
from lstmc.passes import Refs
from lstmc.pipeline import compile_graph
from lstmc.plugins import library_names
from lstmc.testing import random_leaves
from lstmc.verification.proof import Proof, _prove, as_symbolic, best_proof, claims, prove, symbolic_leaves
from lstmc.verification.symbols import Algebra
from lstmc_caffe import CaffeBackend
from lstmc_caffe.legalize import legalize
from lstmc_caffe.legalize.blobs import layer_of
from lstmc_caffe.legalize.rules import rules
from lstmc_caffe.ops import CaffeOp
from lstmc_onnx import OnnxBackend
from tests.cells import scanned
from tests.quick_sample import one_in, seeds
from tests.random_models.models import seeded_model
from tests.shares import least

BACKEND = CaffeBackend()
CELLS = sorted(library_names())
# Of these cells and targets not all is proved: they have sin and cos, or a logarithm, as polynomials.
POLYNOMIALS = {"lru", "s5"}
SLOW = {"rwkv6"}  # half a minute
SIZES = {name: {"D": 2, "H": 2} for name in ("lstm", "gru", "delta_net", "lmu")}
SIZES["delta_net"]["K"] = SIZES["lmu"]["M"] = 2
UNPROVED = {
    "caffe": POLYNOMIALS,
    "caffe-fused": POLYNOMIALS,
    "flat": {"aaren"},  # the first maximum -1e30 is its float32 in the written net, so exponents differ
    "noslice": {"aaren", "ntm"},
}
REFUSED = {"noslice": {"bahdanau", "luong", "pointer", "retnet"}}


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for dim in scanned.SIZES:
        monkeypatch.setitem(scanned.SIZES, dim, 3 if dim == "K" else 2)


def compiled_cell(name: str, target: str) -> Compiled:
    if name == "clockwork":
        scanned.SIZES["H"] = 4  # of four modules
    return compile_graph(scanned.cell_graph(name, (2, 1), states=False), BACKEND, target)


def unproved(proof: Proof) -> list[str]:
    return [f"{claim.kind} {claim.name}: {claim.reason}" for claim in proof.claims if not claim.proved]


@pytest.mark.parametrize(
    "name",
    [
        *one_in(8, [name for name in CELLS if name not in POLYNOMIALS | SLOW], tested=2),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in sorted(POLYNOMIALS | SLOW)),
    ],
)
def test_every_cell_on_caffe_is_proved_with_all_gradients(name: str) -> None:
    """Half of them; the others, and those that are past the budget or slow, are in ``make exhaustive``. Each cell's
    outputs are proved on another target, and that a proof can fail is below."""
    compiled = compiled_cell(name, "caffe")
    proof = prove(compiled.model, compiled.expanded)
    assert {claim.kind for claim in proof.claims} == {"output", "gradient"}
    assert bool(unproved(proof)) == (name in UNPROVED["caffe"]), unproved(proof)


@dataclass(frozen=True)
class SinLayer(CaffeOp, Sin):
    """A layer that a target does not have, of a type that it has."""

    name = "caffe.Sin"
    layer_type = "TanH"


@dataclass(frozen=True)
class CosLayer(CaffeOp, Cos):
    name = "caffe.Cos"
    layer_type = "TanH"


@dataclass(frozen=True)
class KeptLogLayer(CaffeOp, Log):
    name = "caffe.KeptLog"
    layer_type = "TanH"


KEPT: dict[type[Op], CaffeOp] = {Sin: SinLayer(), Cos: CosLayer(), Log: KeptLogLayer()}


@pytest.mark.parametrize(
    ("name", "target"), [("lru", "caffe"), ("s5", "caffe"), ("s5", "caffe-fused"), ("ntm", "noslice")]
)
def test_polynomials_are_all_that_is_not_proved(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With layers of these functions in place of polynomials, which have proved bounds (rows/test_functions.py)."""

    def kept(b: Builder, node: Node, args: Refs) -> Refs:
        return layer_of(b, node, KEPT[type(node.op)], *args)

    table = rules()
    more = {field: getattr(table, field) | dict.fromkeys(KEPT, kept) for field in ("trained", "untrained")}
    monkeypatch.setattr(legalize, "rules", lambda: replace(table, **more))
    compiled = compiled_cell(name, target)
    assert unproved(prove(compiled.model, compiled.expanded, gradients=target == "caffe")) == []


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("lstm", (4, 4)),
        *(pytest.param(name, (8, 8), marks=pytest.mark.slow) for name in ("lstm", "gru")),
        pytest.param("lstm_layernorm", (2, 4), marks=pytest.mark.slow),
        pytest.param("lstm_layernorm", (8, 8), marks=pytest.mark.exhaustive),
    ],
)
def test_large_sizes_are_proved_with_all_gradients(
    name: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest, of 8 to 10 s, is in ``make exhaustive``, and a smaller one here."""
    for dim in scanned.SIZES:
        monkeypatch.setitem(scanned.SIZES, dim, sizes[1])
    compiled = compile_graph(scanned.cell_graph(name, (sizes[0], 1), states=False), BACKEND, "caffe")
    assert unproved(prove(compiled.model, compiled.expanded)) == []


def on_other_targets() -> Iterator[Any]:
    """Each cell on one of the other targets, which go round, and on all of them in ``make exhaustive``.

    What a target does to a cell is done by passes that cells share: each target has a third of the cells here, and
    half of the cells are proved for caffe, above. Cells that are past the budget, which costs most, are in ``make
    exhaustive``.
    """
    targets = ("caffe-fused", "flat", "noslice")
    for number, name in enumerate(CELLS):
        able = [target for target in targets if name not in UNPROVED[target]]
        for target in targets:
            mark = pytest.mark.slow if able and target == able[number % len(able)] else pytest.mark.exhaustive
            yield pytest.param(name, target, marks=mark, id=f"{name}-{target}")


@pytest.mark.parametrize(("name", "target"), [*on_other_targets()])
def test_outputs_of_every_cell_are_proved_for_other_targets(name: str, target: str) -> None:
    try:
        compiled = compiled_cell(name, target)
    except BackendError:
        assert name in REFUSED.get(target, ()), "refused"
        return
    proof = prove(compiled.model, compiled.expanded, gradients=False, budget=300_000)
    assert bool(unproved(proof)) == (name in UNPROVED.get(target, ())), unproved(proof)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_operators_of_onnx_are_proved(name: str) -> None:
    """Their meaning is a model of its own, run on the same symbols."""
    compiled = compile_graph(scanned.cell_graph(name, (2, 1), states=False), OnnxBackend())
    assert {node.op.name for node in compiled.expanded} & {"onnx.LSTM", "onnx.GRU", "onnx.RNN"}
    assert unproved(prove(compiled.model, compiled.expanded)) == []


@pytest.mark.parametrize(
    ("name", "target"), [("lstm", "caffe"), ("gru", "flat"), ("delta_net", "caffe"), ("lmu", "flat"), ("gru", "opencv")]
)
def test_a_net_of_one_step_is_proved_equal_to_a_scan(name: str, target: str) -> None:
    """Its states fed back, three steps compute what the model does."""
    whole, step = (lstmc.compile(name, T=3, N=1, sizes=SIZES[name], target=target, step=step) for step in (False, True))

    def attempt(algebra: Algebra) -> Proof:
        convert = partial(as_symbolic, algebra=algebra)
        inputs, params = (symbolic_leaves(whole.compiled.model, kind, algebra) for kind in (Input, Param))
        pairs, expanded = step.compiled.states or (), step.compiled.expanded

        def outputs() -> tuple[dict[str, Any], dict[str, Any]]:
            ys, states = [], {each.before: np.zeros(expanded.type(Ref(each.before)).shape) for each in pairs}
            for t in range(3):
                found = forward(expanded, {"x": inputs["x"][t : t + 1], **states}, params, convert=convert).outputs
                states = {each.before: found[each.after] for each in pairs}
                ys.append(found["y"])
            expected = forward(whole.compiled.model, inputs, params, convert=convert).outputs
            return {"y": expected["y"]}, {"y": np.concatenate(ys)}

        return Proof(tuple(claims("output", ["y"], outputs)), {})

    assert unproved(best_proof(attempt)) == []


# planted faults -----------------------------------------------------------------------------------------------------

FAULTS = [
    (r"caffe\.TanH\(", "caffe.Sigmoid("),
    (r"caffe\.Sigmoid\(", "caffe.TanH("),
    (r"caffe\.Eltwise\((.*), operation='PROD'\)", r"caffe.Eltwise(\1)"),
    (r"caffe\.Eltwise\((%\S+, %[^,()]+)\)", r"caffe.Eltwise(\1, operation='PROD')"),
    (r"caffe\.Eltwise\((%\S+), (%[^,()]+), coeff=", r"caffe.Eltwise(\2, \1, coeff="),
    (r"coeff=\(1\.0, -1\.0\)", "coeff=(1.0, 1.0)"),
    (r"scale=-1\.0", "scale=-1.0001"),
    (r"scale=-1\.0", "scale=1.0"),
    (r"shift=1\.0", "shift=1.001"),
    (r"shift=1e-05", "shift=2e-05"),
    (r"scale=0\.(125|5)", r"scale=0.2"),
    (r"power=-0\.5", "power=-0.25"),
    (r"(%\S+), (%\S+): (f32\S+), \3 = caffe\.Slice", r"\2, \1: \3, \3 = caffe.Slice"),
    (r"caffe\.Concat\((%[^,]+), (%[^,]+), axis", r"caffe.Concat(\2, \1, axis"),
    (r"caffe\.InnerProduct\(%(\S+), %(\S+), %\S+, (.*), bias=True\)", r"caffe.InnerProduct(%\1, %\2, \3)"),
    (r"caffe\.ReLU\(", "caffe.AbsVal("),
    (r"caffe\.Eltwise\((%\S+), (%[^,()]+)(.*)\)", r"caffe.Eltwise(\1, \1\3)"),
]


def faulty(graph: Graph, places: int) -> Iterator[Graph]:
    """The graph with one line changed, in every way that the table has, each at the first places where it can be."""
    lines = print_graph(graph).splitlines()
    for pattern, by in FAULTS:
        changed = [(number, re.sub(pattern, by, line)) for number, line in enumerate(lines)]
        for number, line in [(number, line) for number, line in changed if line != lines[number]][:places]:
            yield parse_graph("\n".join([*lines[:number], line, *lines[number + 1 :]]) + "\n")


def same_numbers(graph: Graph, other: Graph) -> bool:
    inputs, params = random_leaves(graph, Input), random_leaves(graph, Param)
    runs = [forward(each, inputs, params).outputs for each in (graph, other)]
    return all(np.allclose(value, runs[1][name], 1e-9, 1e-9) for name, value in runs[0].items())


PLANTED = {"gru": (15, 25), "lstm_peephole": (11, 30), "rhn": (18, 60), "mgu": (14, 20)}
FEW = 2


@pytest.mark.parametrize(
    ("name", "places", "least_planted"),
    [
        pytest.param(name, places, count, marks=mark, id=f"{name}-{places}")
        for name, counts in PLANTED.items()
        for places, count, mark in (
            (FEW, counts[0], () if name == "gru" else pytest.mark.slow),
            (1000, counts[1], pytest.mark.exhaustive),
        )
    ],
)
def test_no_planted_fault_is_proved(name: str, places: int, least_planted: int) -> None:
    """Each fault at two places of the net, and in ``make exhaustive`` at all."""
    compiled = compiled_cell(name, "caffe")
    assert prove(compiled.model, compiled.expanded, gradients=False).proved
    planted = 0
    for wrong in faulty(compiled.expanded, places):
        if not same_numbers(compiled.model, wrong):
            planted += 1
            assert not best_proof(partial(_prove, compiled.model, wrong, False), 30_000).proved, print_graph(wrong)
            assert any(claim.refuted for claim in prove(compiled.model, wrong, gradients=False).claims)
    assert planted >= least_planted


@seeds(4, 8)
def test_random_models_are_proved(seeds: range) -> None:
    outputs = whole = models = 0
    for seed in seeds:
        graph = seeded_model(seed).graph()
        try:
            compiled = compile_graph(graph, BACKEND, "caffe")
        except BackendError:
            continue
        proof = prove(compiled.model, compiled.expanded, budget=200_000)
        models += 1
        whole += proof.proved
        outputs += all(claim.proved for claim in proof.claims if claim.kind == "output")
    assert outputs >= least(0.95, models)  # of 40, all
    assert whole >= least(0.8, models)  # of 40, 35


# what is said -------------------------------------------------------------------------------------------------------


def test_reasons_for_what_is_not_proved() -> None:
    text = "graph g {\n  %x: f32[2] = input()\n  %w: f32[2] = param()\n  %y: f32[2] = mul(%x, %w)\n  return y=%y\n}\n"
    graph = parse_graph(text)
    assert prove(graph, graph).proved
    swapped = parse_graph(text.replace("mul(%x, %w)", "mul(%x, %x)"))
    assert unproved(best_proof(partial(_prove, graph, swapped, True))) == [
        "output y: the normal forms differ at [0]: x[0] w[0]; x[0]**2",
        "gradient x: the normal forms differ at [0]: w[0] cotangent of y[0]; 2 x[0] cotangent of y[0]",
        "gradient w: the normal forms differ at [0]: x[0] cotangent of y[0]; 0",
    ]
    refuted = prove(graph, swapped)
    assert [(claim.kind, claim.name, claim.refuted) for claim in refuted.claims] == [
        ("output", "y", True),
        ("gradient", "x", True),
        ("gradient", "w", True),
    ]
    assert re.match(r"different: output y: at random numbers it is \S+ at \[[01]\], expected \S+$", refuted.lines()[0])
    assert {claim.reason for claim in prove(graph, graph, budget=1).claims} == {"its normal form is past the budget"}
    words = parse_graph(text.replace("%w: f32[2]", "%w: f32[3,2]").replace("%y: f32[2] = mul", "%y: f32[2,2] = embed"))
    (claim,) = prove(words, words, gradients=False).claims
    assert claim.reason == "embed failed (NoRule: it needs the number that a symbol stands for)"


def test_a_wrong_net_is_refuted_at_once_and_the_rest_is_not_tried() -> None:
    """A proof of this net with a wrong sign took minutes, as every limit was tried."""

    def attending(sign: float) -> object:
        @lstmc.cell
        def step(
            x: object = lstmc.Input(2, 3), h: object = lstmc.State(2, 3), *, U: object = lstmc.Param(3, 3)
        ) -> object:
            h = lstmc.softmax(lstmc.tanh(lstmc.linear(h, U) + x) + sign * lstmc.tanh(x * h), axis=1)
            return h, {"h": h}

        @lstmc.model
        def net(x: object = lstmc.Input(5, 2, 3), z: object = lstmc.Input(2)) -> object:
            return {"y": lstmc.scan(step(), x)[0], "z": lstmc.tanh(z)}

        return net.graph()

    began = time.process_time()
    proof = prove(attending(1.0), attending(-1.0))
    assert time.process_time() - began < 2
    assert {claim.name for claim in proof.claims if claim.refuted} == {"y", "x", "step/U"}
    assert [line.partition(":")[0] for line in proof.lines()] == 3 * ["different"] + ["only tested, not proved"]
    assert proof.lines()[-1].endswith(
        "output z; gradient z: equal at random numbers; no proof is tried, as other arrays differ"
    )


def test_a_score_of_one_number_is_refuted_where_it_differs_and_nowhere_else() -> None:
    text = "graph g {\n  %x: f32[2] = input()\n  %y: f32[] = sum(%x, axis=0)\n  return y=%y\n}\n"
    graph, other = parse_graph(text), parse_graph(text.replace("sum", "max"))
    assert prove(graph, graph).proved
    assert re.fullmatch(
        r"different: output y: at random numbers it is \S+, expected \S+", prove(graph, other).lines()[0]
    )


def test_integers_are_drawn_and_said() -> None:
    @lstmc.model
    def words(x: object = lstmc.Input(3, values=lstmc.integers(0, 3)), w: object = lstmc.Param(4, 2)) -> object:
        return {"y": lstmc.tanh(lstmc.embed(x, w))}

    compiled = compile_graph(words.graph(), BACKEND)
    proof = prove(compiled.model, compiled.expanded)
    assert unproved(proof) == []
    assert proof.lines() == [
        "proved for all real inputs and parameters at these sizes (x [3]), and for the drawn values of x:"
        " output y; gradient w"
    ]


def test_rounded_constants_are_said() -> None:
    text = "graph g {\n  %x: f32[1] = input()\n  %y: f32[1] = affine(%x, scale=1.4142135623730951)\n  return y=%y\n}\n"
    other = text.replace("1.4142135623730951", "1.4142135623740001")
    assert not prove(parse_graph(text), parse_graph(text)).rounded
    proof = prove(parse_graph(text), parse_graph(other))
    assert (proof.proved, proof.rounded) == (True, True)
    assert "constants agree within their rounding" in proof.lines()[0]
