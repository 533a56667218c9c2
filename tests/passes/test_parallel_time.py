"""Linear recurrences for all steps at once: the same numbers and gradients, in few layers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import product
from math import isqrt, log2

import numpy as np
import pytest

import lstmc
from lstmc import Input, State, Value, cell, const, dims, full, integers, maximum, model, scan, tanh
from lstmc.cells import delta_net, lru, min_gru, mlstm
from lstmc.errors import PassError
from lstmc.interp import backward, forward
from lstmc.ir import Graph, Scan, graph_work, parse_graph, print_graph
from lstmc.ops import Price
from lstmc.passes import Dead, ParallelTime, Time, linear_maps
from lstmc.passes.linear_maps import recurrence_nodes
from lstmc.patterns import Recurrence, operand_masks, recurrences
from lstmc.pipeline import compile_graph
from lstmc.testing import check_pass_on
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from tests.graphs import graph_after
from tests.patterns.linear_bodies import model_of, random_body
from tests.quick_sample import one_in, seeds
from tests.random_models.models import seeded_model

T, N = dims("T N")

# Of a group of two, of heads, with more rows than columns and fewer.
MATRICES = {
    "delta_net": {"H": 3, "K": 2},
    "gated_delta_net": {"G": 2, "V": 2, "K": 3},
    "rwkv7": {"G": 2, "K": 2, "R": 1},
    "ttt_linear": {"K": 2},
    "titans": {"H": 2, "K": 2},
}
FORMS: tuple[Time, ...] = ("chunks", "doubling", "products")


def left_in_loops(graph: Graph) -> list[Recurrence]:
    """Return the linear recurrences of loops."""
    loops = [(node, node.op) for node in graph if isinstance(node.op, Scan) and node.op.length > 1]
    groups = [recurrences(op.body, operand_masks(graph, op, graph.args(node.name))) for node, op in loops]
    return [recurrence for group in groups for recurrence in group if recurrence.kind is not None]


@seeds(45, 120)
def test_random_bodies_mean_the_same(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        steps = (1, 2, 3, 4, 5, 6, 7, 9, 12)[seed % 9]
        graph = model_of(random_body(seed), steps, reverse=seed % 2 == 1, zero=seed % 3 == 0)
        time = FORMS[seed // 9 % 3]
        try:
            check_pass_on(ParallelTime(time), graph)
        except AssertionError as error:
            error.add_note(f"seed {seed}, {steps} steps, {time}")
            raise
        result = ParallelTime(time).run(graph)
        assert not left_in_loops(result.graph), (seed, time)
        counts.update(result.counts)
    assert all(counts[rule] > len(seeds) / 24 for rule in ("delay", "numbers", "matrices", *FORMS)), counts


@pytest.mark.slow
def test_nodes_have_the_same_order_in_another_process() -> None:
    code = (
        "from lstmc.ir import print_graph; from lstmc.passes import ParallelTime\n"
        "from tests.passes.test_parallel_time import decaying\n"
        "print(*(print_graph(ParallelTime('chunks').run(decaying(steps)[0]).graph) for steps in range(9, 15)))"
    )
    path = os.pathsep.join(["", *sys.path])
    texts = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert texts[0] == texts[1]


@pytest.mark.parametrize("reverse", [False, True])
def test_long_sequences_mean_the_same(reverse: bool) -> None:
    """So long that the states between chunks are computed by doubling."""
    changed = 0
    for seed in range(4):
        graph = model_of(random_body(seed), 97 + seed, reverse, zero=seed % 2 == 0)
        changed += ParallelTime("chunks").run(graph).modified
        check_pass_on(ParallelTime("chunks"), graph)
    assert changed > 1


@seeds(6, 16)
def test_random_models_mean_the_same(seeds: range) -> None:
    changed = 0
    for seed in seeds:
        step, graph = ParallelTime(FORMS[seed % 3]), seeded_model(seed).graph()
        changed += check_pass_on(step, graph)
        assert not left_in_loops(step.run(graph).graph), seed
    assert changed > len(seeds) / 2


@pytest.mark.parametrize(("cell", "sizes"), MATRICES.items())
def test_matrices_mean_the_same(cell: str, sizes: dict[str, int]) -> None:
    """More and fewer rows than columns, several heads, a group, from zero and reversed."""
    graph = graph_after(cell, "sink", time="unrolled", sizes={"T": 7, "N": 2, "D": 2, **sizes})
    assert ParallelTime("chunks").run(graph).counts["matrices"] == 1
    check_pass_on(ParallelTime("chunks"), graph)


def test_states_that_change_places_are_a_matrix_of_a_step_without_nodes() -> None:
    @cell
    def ring(x: Value = Input(N, 2), a=State(N, 2), b=State(N, 2), c=State(N, 2), d=State(N, 2), e=State(N, 2)):
        return a + x, {"a": b, "b": c, "c": d, "d": e, "e": a}

    @model
    def turned(X: Value = Input(T, N, 2), a: Value = Input(N, 2)) -> Value:
        return scan(ring(), X, init={"a": a})[0]

    graph = graph_after(turned, "sink", time="unrolled", T=7, N=2)
    assert all(check_pass_on(ParallelTime(time), graph) for time in ("chunks", "products"))
    assert lstmc.compile(turned, target="caffe", T=7, N=2).verify(["interpreter"])


def test_rows_of_a_state_share_its_matrix() -> None:
    """DeltaNet multiplies all rows by I - b k k^T: with as many rows as columns one run gives a chunk's matrix."""

    def cost(rows: int) -> int:
        sizes = {"T": 64, "N": 1, "D": 2, "H": rows, "K": 8}
        graph = graph_after("delta_net", "sink", time="unrolled", sizes=sizes)
        return graph_work(ParallelTime("chunks").run(graph).graph).flops

    assert cost(8) < cost(7)


@pytest.mark.parametrize("steps", [2, 10, 100, 997])
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_layers_of_an_elementwise_recurrence(target: str, steps: int) -> None:
    def layers(time: Time) -> int:
        net = lstmc.compile("min_gru", target=target, time=time, T=steps, N=1, D=2, H=2, outputs=["y"])
        return net.artifact.layers

    assert layers("chunks") <= 6 * isqrt(steps) + 20
    assert layers("doubling") <= 12 * log2(steps) + 15


def test_what_is_the_same_at_every_step_is_a_weight_where_nothing_is_trained() -> None:
    """By products with powers of the matrix a unit of complex numbers has far fewer layers than by chunks."""

    def layers(target: str, time: Time) -> int:
        sizes = {"T": 100, "N": 1, "D": 2, "H": 4, "P": 2}
        return lstmc.compile("lru", target=target, time=time, sizes=sizes).artifact.layers

    assert 2 * layers("flat", "products") < layers("flat", "chunks") < layers("caffe", "chunks")
    assert layers("caffe", "products") == layers("caffe", "chunks")  # a trained matrix could not be read back


def test_states_of_steps_that_are_not_linear_stay_in_order() -> None:
    """gru_d has a linear state that its GRU reads: the GRU alone is left in the loop."""
    graph = graph_after("gru_d", "parallel_time", time="chunks", T=9, N=2, D=3, H=4)
    scans = [node.op for node in graph if isinstance(node.op, Scan)]
    assert [[output.name for output in scan.next_states] for scan in scans if scan.states] == [["h"]]


@cell
def peak(x: Value = Input(N, 2), v: Value = Input(N), m: Value = State(N, 2)) -> tuple[Value, dict[str, Value]]:
    new = maximum(m - 0.25, x)
    return new, {"m": new * v[:, None] + m * (1 - v)[:, None]}


@pytest.mark.parametrize(
    ("kept", "in_parallel"), [("lengths", True), ("reversed", True), ("some 0 and 1", False), ("reals", False)]
)
def test_lengths_keep_a_running_maximum(kept: str, in_parallel: bool) -> None:
    """Not a mask that somebody feeds: its gradient is not zero, and it may be another number than 0 and 1."""

    @cell
    def running(x: Value = Input(N, 2), m: Value = State(N, 2)) -> tuple[Value, dict[str, Value]]:
        m = maximum(m - 0.25, x)
        return m, {"m": m}

    @model
    def by_lengths(X: Value = Input(T, N, 2), n: Value = Input(N), m: Value = Input(N, 2)) -> Value:
        return scan(running(), X, lengths=n, init={"m": m}, reverse=kept == "reversed")[1]["m"]

    @model
    def by_mask(
        X: Value = Input(T, N, 2),
        V: Value = Input(T, N, values=integers(0, 1) if kept == "some 0 and 1" else None),
        m: Value = Input(N, 2),
    ) -> Value:
        return scan(peak(), (X, V), init={"m": m})[1]["m"]

    made = by_lengths if in_parallel else by_mask
    graph = graph_after(made, "sink", time="unrolled", T=7, N=3)
    check_pass_on(ParallelTime("chunks"), graph)
    loops = [node for node in ParallelTime("chunks").run(graph).graph if isinstance(node.op, Scan) and node.op.states]
    assert bool(loops) is not in_parallel


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("time", FORMS)
def test_states_start_from_any_number(time: Time, start: float) -> None:
    """From zero a decayed first state adds nothing; from one it does."""

    @cell
    def decayed(
        x: Value = Input(N, 2), f: Value = Input(N, 2), h: Value = State(N, 2)
    ) -> tuple[Value, dict[str, Value]]:
        h = f * h + x
        return h, {"h": h}

    @model
    def from_a_number(X: Value = Input(T, N, 2), F: Value = Input(T, N, 2)) -> Value:
        return scan(decayed(), (X, F), init={"h": full((3, 2), start)})[0]

    graph = graph_after(from_a_number, "sink", time="unrolled", T=7, N=3)
    assert check_pass_on(ParallelTime(time), graph)


def test_of_equal_numbers_the_same_one_gets_the_gradient_as_in_order() -> None:
    @cell
    def peak_of_three(
        x: Value = Input(N, 1), z: Value = Input(N, 1), m: Value = State(N, 1)
    ) -> tuple[Value, dict[str, Value]]:
        m = maximum(maximum(m - 0.5, x), m - z)
        return m, {"m": m}

    @model
    def tied(X: Value = Input(T, N, 1), Z: Value = Input(T, N, 1), m: Value = Input(N, 1)) -> dict[str, Value]:
        return {"y": scan(peak_of_three(), (X, Z), init={"m": m})[0]}

    graph = graph_after(tied, "sink", time="unrolled", T=4, N=1)
    steps = -0.5 * np.arange(1.0, 5.0).reshape(4, 1, 1)  # as large as the state less the 0.5 of each step
    inputs = {"X": steps, "Z": np.full((4, 1, 1), 9.0), "m": np.zeros((1, 1))}
    changed = ParallelTime("doubling").run(graph)
    assert changed.modified
    runs = [forward(each, inputs) for each in (graph, changed.graph)]
    in_order, at_once = (
        backward(run, {name: np.ones_like(y) for name, y in run.outputs.items()}).inputs for run in runs
    )
    for name, gradient in in_order.items():
        np.testing.assert_array_equal(at_once[name], gradient)


def decaying(steps: int) -> tuple[Graph, np.ndarray]:
    text = f"""graph net {{
  %a: f32[{steps},1,3] = input()
  %b: f32[{steps},1,3] = input()
  %start: f32[1,3] = input()
  %y, %last: f32[{steps},1,3], f32[1,3] = scan(%a, %b, %start, length={steps}) {{
    body cell {{
      %f: f32[1,3] = arg()
      %u: f32[1,3] = arg()
      %h: f32[1,3] = arg(role='state')
      %fh: f32[1,3] = mul(%f, %h)
      %next: f32[1,3] = add(%fh, %u)
      return y=%next, next h=%next
    }}
  }}
  return y=%y, last=%last
}}
"""
    return parse_graph(text), np.random.default_rng(0).uniform(-1, 1, (steps, 1, 3))


def nodes_of(steps: int, form: Time) -> int:
    return len(Dead().run(ParallelTime(form).run(decaying(steps)[0]).graph).graph)


def test_the_nodes_of_a_form_are_those_that_are_estimated_and_some_at_any_length() -> None:
    lengths = (8, 9, 11, 13, 16, 20, 26, 30, 31, 64, 100, 131, 200, 300)
    more = [(nodes_of(steps, "doubling") - recurrence_nodes(steps, "doubling"), 0) for steps in lengths]
    for steps in lengths:
        padded = steps % linear_maps.chunk_length(steps) > 0
        more.append((nodes_of(steps, "chunks") - recurrence_nodes(steps, "chunks"), 1 + padded))
    assert len({*more}) == 3, more


def test_chunks_have_the_length_with_few_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in (8, 20, 64, 131):
        chosen = nodes_of(steps, "chunks")
        with monkeypatch.context() as patch:
            for length in range(1, 2 * isqrt(steps) + 3):
                patch.setattr(linear_maps, "chunk_length", lambda _, length=length: length)
                assert nodes_of(steps, "chunks") >= chosen, (steps, length)


@pytest.mark.parametrize("time", FORMS)
@pytest.mark.parametrize("gate", ["closed", "open", "both"])
def test_extreme_gates_lose_no_digits(time: Time, gate: str) -> None:
    """Products of decays that underflow multiply what is zero as well; none is divided by."""
    steps = 300
    graph, b = decaying(steps)
    rng = np.random.default_rng(1)
    gates = {"closed": np.full(b.shape, 1e-30), "open": 1 - rng.uniform(0, 1e-6, b.shape)}
    gates["both"] = np.where(rng.uniform(size=b.shape) < 0.5, gates["closed"], gates["open"])
    inputs = {"a": gates[gate], "b": b, "start": b[0]}
    exact = forward(graph, inputs).outputs
    rounded = forward(ParallelTime(time).run(graph).graph, inputs, dtype=np.float32).outputs
    for name, value in exact.items():
        error = np.abs(rounded[name] - value).max() / np.abs(value).max()
        assert error < 1e-6, (name, error)


def test_what_is_unrolled_is_left_as_it_is() -> None:
    graph = decaying(5)[0]
    assert not ParallelTime().run(graph).modified
    assert print_graph(ParallelTime("auto", price=Price(0, 1, 1)).run(graph).graph) == print_graph(graph)
    assert ParallelTime("auto", price=Price(1e6, 0.1, 0.1)).run(decaying(100)[0]).counts == {"doubling": 1}


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(PassError, match="time=scan: expected one of unrolled, chunks, doubling, products, auto"):
        lstmc.compile("min_gru", time="scan", T=2, N=1, D=2, H=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["noslice", "caffe-fused"])
def test_targets_that_compute_step_by_step(target: str) -> None:
    with pytest.raises(PassError) as raised:
        lstmc.compile("min_gru", target=target, time="chunks", T=9, N=1, D=2, H=2)
    expected = "time=chunks: this target computes its nets step by step: expected unrolled"
    assert str(raised.value) == f"PassError: {expected}"
    assert lstmc.compile("min_gru", target=target, time="auto", T=9, N=1, D=2, H=2).artifact.layers


one, two, three, four = min_gru(H=2), mlstm(H=2, K=2), lru(H=2, P=2), delta_net(H=2, K=2)


@model
def net(
    X: Value = Input(T, N, 2),
    lengths: Value = Input(N),
    cont: Value = Input(T, N),
    h: Value = Input(N, 2),
) -> dict[str, Value]:
    y, last = scan(one, X, init={"h": h}, lengths=lengths)
    z, _ = scan(one, y, cont=cont, reverse=True)
    u, _ = scan(two, z, lengths=lengths, reverse=True)
    v, end = scan(three, u)
    w, memory = scan(four, v, cont=cont, lengths=lengths, reverse=True)
    return {"w": w, "last": last["h"], "re": end["re"], "S": memory["S"]}


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("target", "time"),
    [("caffe", "chunks"), ("caffe", "doubling"), ("flat", "chunks"), ("flat", "products")],
)
def test_caffe_computes_the_same(caffe: Runner, time: Time, target: str) -> None:
    """With lengths, resets, reversed, from states and to the last ones: outputs, blobs and gradients."""
    verification = lstmc.compile(net, target=target, time=time, phase="all", T=7, N=2).verify("caffe-cpu")
    assert verification.passed, str(verification)
    assert [report.executor for report in verification.reports] == ["caffe-cpu"]


@cell
def forgets(x=Input(N, 3), h=State(N, 3), d=State(N, 3), e=State(N, 3)):
    h = h + 1 * (tanh(x) - h)
    e = const([0.0, 1.0, 0.5]) * e + d
    return d * 0.5 + e, {"h": h, "d": x, "e": e}


@model
def forgetful(X=Input(T, N, 3)):
    y, last = scan(forgets(), X)
    return {"y": y, "h": last["h"], "e": last["e"]}


@pytest.mark.parametrize("of", one_in(4, product(["caffe", "flat", "onnx"], FORMS)))
def test_a_state_that_forgets_all_has_every_form(of: tuple[str, Time]) -> None:
    """Its factor is exactly 0, so of the powers of its matrix only constants are left."""
    target, time = of
    for steps in (2, 25):
        verification = lstmc.compile(forgetful, target=target, time=time, T=steps, N=2).verify("interpreter")
        assert verification.passed, str(verification)


def test_a_weight_of_constants_alone_is_written() -> None:
    lines = "%x: f32[2,3] = input()\n%zero: f32[1,3] = full()\n%one: f32[1,3] = full(value=1.0)\n"
    lines += "%rows: f32[2,3] = concat(%zero, %one, axis=0)\n%w: f32[2,3] = precomputed(%rows)\n"
    graph = parse_graph(f"graph net {{\n{lines}%y: f32[2,2] = linear(%x, %w, axis=1)\nreturn y=%y\n}}\n")
    net = compile_graph(graph, CaffeBackend(), "flat")
    assert check(net, CaffeBackend().emit(net, {}), {}, InterpreterExecutor()).passed


def test_auto_takes_the_form_that_costs_least_by_what_the_target_says() -> None:
    """At 20 steps a layer of OpenCV costs more than the elements that chunks add, a layer of Caffe less."""

    def layers(target: str, time: Time) -> int:
        return lstmc.compile("min_gru", target=target, time=time, T=20, N=1, D=8, H=64, outputs=["y"]).artifact.layers

    assert layers("caffe", "auto") == layers("caffe", "unrolled") > layers("caffe", "chunks")
    assert layers("opencv", "auto") == layers("opencv", "chunks") < layers("opencv", "unrolled")


@pytest.mark.parametrize(("target", "unrolled"), [("caffe", False), ("opencv", False), ("mnn", True), ("flat", True)])
def test_long_recurrences_take_the_form_that_costs_least_where_costs_are_known(target: str, unrolled: bool) -> None:
    sizes = {"T": 64, "N": 1, "D": 4, "H": 64}
    net = lstmc.compile("min_gru", target=target, outputs=["y"], sizes=sizes)
    written_out = lstmc.compile("min_gru", target=target, time="unrolled", outputs=["y"], sizes=sizes)
    assert (net.artifact.layers == written_out.artifact.layers) is unrolled
    assert (2 * net.artifact.layers > written_out.artifact.layers) is unrolled


def test_nets_without_a_linear_state_are_the_same_at_any_length() -> None:
    sizes = {"T": 64, "N": 1, "D": 4, "H": 8}
    nets = [lstmc.compile("lstm", target="caffe", time=time, sizes=sizes).prototxt for time in (None, "unrolled")]
    assert nets[0] == nets[1]
