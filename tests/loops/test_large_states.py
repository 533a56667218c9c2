"""States that are kept each few steps and computed again in between, updated in place, and read by vectors."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from lstmc import (
    Cell,
    Input,
    Param,
    State,
    cell,
    dims,
    einsum,
    exp,
    model,
    outer,
    reshape,
    scan,
    sigmoid,
    split_heads,
    sum,
    tanh,
    xavier,
)
from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.loops import large_states, native
from lstmc.loops import plan as plan_module
from lstmc.loops.code import layer_code
from lstmc.loops.layer import GeneratedScan, memory_text, plan_text
from lstmc.loops.memory import Loop
from lstmc.loops.native import loops
from lstmc.loops.plan import Plan
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.install.recipe import processor_flags
from tests.loops.test_native import assert_right

T, N, K, V = dims("T N K V")


@cell
def delta(k=Input(N, K), v=Input(N, V), S=State(N, V, K)):
    """What S holds for a key moves to the value: a sum of the old elements, then one of the new."""
    S = S + outer(v - einsum("nvk,nk->nv", S, k), k)
    return einsum("nvk,nk->nv", S, k), {"S": S}


@cell
def heads(k=Input(N, K), v=Input(N, V), S=State(N, 2, K // 2, V), m=State(N, 1)):
    """Sums over an axis that is not the last, gates of rows, and a state that is kept for every step."""
    keys, m = split_heads(k, 2), tanh(m + v[:, :1])
    S = sigmoid(keys)[..., None] * S + keys[..., None] * (m * v)[:, None, None, :]
    return einsum("ngkv,ngk->nv", S, keys), {"S": S, "m": m}


@cell
def turned(k=Input(N, K), v=Input(N, K), S=State(N, K, K), unread=State(N, K, K)):
    """Its new elements come from others than those that they replace; a state whose gradient is a constant."""
    S = 0.5 * einsum("nvk->nkv", S) + outer(v, k)
    return einsum("nvk,nk->nv", S, k), {"S": S, "unread": outer(v, k)}


@cell
def remembered(k=Input(N, K), v=Input(N, V), S=State(N, V, K)):
    """The old elements are read when the new ones are there; a sum of all elements."""
    new = 0.9 * S + outer(v, k)
    all_of_it = sum(reshape(new * new, (N, V * K)), axis=-1, keepdims=True)
    return einsum("nvk,nv->nk", S, einsum("nvk,nk->nv", new, k)) + all_of_it, {"S": new}


@cell
def momentum(k=Input(N, K), v=Input(N, V), S=State(N, V, K), M=State(N, V, K), *, A=Param(V, K, fill=xavier())):
    """A state that another one is added to, and a function of all its elements."""
    M = 0.5 * M + outer(v, k)
    S = exp(-v[..., None] * v[..., None] * exp(A)) * S + M
    return einsum("nvk,nk->nv", S, k), {"S": S, "M": M}


@cell
def gained(
    part=Input(N, K), v=Input(N, V), S=State(N, V, K), *, g=Param(V, fill=xavier()), end=Param(K, fill=xavier())
):
    """Vectors of all rows, whose gradients are sums of rows; some are called as a pass calls its own variables."""
    S = sigmoid(part + end)[:, None, :] * S + outer(g * v, part)
    return g * einsum("nvk,nk->nv", S, part), {"S": S}


@model
def everything(k=Input(T, N, K), v=Input(T, N, V), S0=Input(N, V, K)):
    found = {}
    for made in (delta, heads, remembered):
        found[made.name], _ = scan(made(), (k, v), init={"S": S0} if made is delta else None)
    found["momentum"], last = scan(momentum(), (k, v), reverse=True)
    found["last"] = last["M"]
    found["turned"], last = scan(turned(), (k, k))
    found["outer"] = last["unread"]
    return found


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two steps."""
    monkeypatch.setattr(large_states, "FEWEST", 2)
    monkeypatch.setattr(large_states, "MOST", 2)


def plans(**sizes: int) -> dict[str, Plan]:
    compiled = compile_graph(everything.graph(**sizes), CaffeBackend(), "caffe-fused").expanded
    return {node.op.body.name: node.op.plan() for node in compiled if isinstance(node.op, GeneratedScan)}


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("steps", "keys", "values", "parts"),
    [(5, 6, 32, 1), (2, 128, 64, 2), (4, 6, 9, 1), (5, 12, 32, 4)],
    ids=["vectors", "tiles", "elements", "parts"],
)
def test_outputs_and_all_gradients(
    two_steps: None, monkeypatch: pytest.MonkeyPatch, steps: int, keys: int, values: int, parts: int
) -> None:
    """A last chunk that is shorter, and one that is not; sizes of whole vectors, and others; states in parts."""
    if parts == 4:
        monkeypatch.setattr(plan_module, "FIRST_CACHE", keys * values // parts)
    sizes = {"T": steps, "N": 2, "K": keys, "V": values}
    assert plans(**sizes)["delta"].parts == parts
    assert_right(everything.graph(**sizes))


@cell
def spread(k=Input(N, K), S=State(N, V, K), *, A=Param(V, K, fill=xavier())):
    """Of the rows nothing but the state itself reads which one it is."""
    S = A * S + k[:, None, :]
    return sum(reshape(S * S, (N, V * K)), axis=-1, keepdims=True), {"S": S}


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("made", "first_cache", "parts"),
    [(spread, 6, 6), (load_cell("delta_net"), 64, 4), (load_cell("gla"), 128, 4)],
    ids=["rows", "pieces", "heads"],
)
def test_parts_of_whole_rows_or_of_pieces_or_heads(
    two_steps: None, monkeypatch: pytest.MonkeyPatch, made: Cell, first_cache: int, parts: int
) -> None:
    """Four parts of 24 elements would be a row and a half each; each part has a piece of one of the packed gradients;
    two parts are a head, and what they sum up is one of its vectors."""
    monkeypatch.setattr(plan_module, "FIRST_CACHE", first_cache)
    sizes = {"V": 6, "K": 4, "D": 16, "H": 16, "G": 2, "R": 2} | ({} if made is spread else {"K": 16, "V": 16})
    graph = CellModel(made).graph(T=5, N=2, **{name: size for name, size in sizes.items() if name in made.dims})
    compiled = compile_graph(graph, CaffeBackend(), "caffe-fused").expanded
    assert [node.op.plan().parts for node in compiled if isinstance(node.op, GeneratedScan)] == [parts]
    assert_right(graph)


@pytest.mark.caffe
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])
def test_tiles_for_fewer_and_shorter_registers(monkeypatch: pytest.MonkeyPatch, processor: str) -> None:
    """One vector has the sums of as many rows as it has floats, at most."""
    if processor == "x86-64-v3" and not processor_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8")):
        processor = "x86-64"
    flags = tuple(flag.replace("-march=native", f"-march={processor}") for flag in native.FLAGS)
    monkeypatch.setattr(native, "FLAGS", flags)
    assert_right(CellModel(delta).graph(T=2, N=2, K=64, V=16))


def test_parts_of_a_state_need_none_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the values, two heads of two; none where an element comes from another part. Sums of all are added up."""
    monkeypatch.setattr(plan_module, "FIRST_CACHE", 100)
    found = plans(T=5, N=2, K=12, V=32)
    assert {name: plan.parts for name, plan in found.items()} == {
        "delta": 4, "heads": 2, "remembered": 4, "momentum": 8, "turned": 1,
    }  # fmt: skip
    before, inside, after = (getattr(found["delta"].phases[2], name) for name in ("before", "inside", "after"))
    assert [len(loops) for loops in (before, inside, after)] == [1, 5, 1]
    assert (after[0].axis, after[0].arrays()) == ((4, 12), {"d_k_parts", "d_k"})
    text = plan_text(found["delta"])
    assert "\n  on a CPU all steps of each of 4 parts of them, one part after the other\n" in text
    assert "\n  buffer  d_k_parts [T, N, 48]: all of backward\n" in text
    code = layer_code(found["delta"])
    assert "const long n = unit / 4, share = unit % 4;" in code.cpp
    assert "d_k_parts = call" in code.cpp
    assert "d_k_parts = call" not in code.cu


def test_what_is_kept() -> None:
    found = plans(T=99, N=2, K=64, V=64)
    assert {name: plan.chunk for name, plan in found.items()} == {
        "delta": 32, "heads": 32, "remembered": 32, "momentum": 21, "turned": 16,
    }  # fmt: skip
    text = plan_text(found["momentum"])
    assert "\n  kept each 21 steps, and computed again in between: S_prev, M_prev\n" in text
    assert "\n  buffer  S_prev_kept [T/21, N, 4096]: kept for backward\n" in text
    assert "\n  buffer  S_prev_again [21+1, N, 4096]: a chunk of backward\n" in text
    assert "\n  buffer  exp_v_kept [21, N, 4096]: a chunk of backward\n" in text
    kept = 4 * 2 * (4 * 4096 + 99 * 64)  # 4 chunks of 99 steps, and for each step what the state was read for
    assert f" of which {kept:,} are kept for backward" in memory_text(found["delta"], 99, 2)


def test_a_state_is_updated_in_place_unless_its_old_elements_are_needed() -> None:
    """Its top has it during the forward pass; one more buffer and a loop that copies are for the others."""
    for name, plan in plans(T=9, N=2, K=16, V=16).items():
        copied = [array.name for array in plan.buffers if array.name.startswith("last_")]
        assert copied == (["last_S_prev_next"] if name in ("remembered", "turned") else []), name
        assert ("last_S_prev = last_S_prev_next" in plan_text(plan)) == bool(copied)


def test_each_row_has_all_steps_of_a_chunk_before_the_next() -> None:
    """But on a GPU, where rows have blocks of threads."""
    plan = plans(T=9, N=2, K=16, V=16)["delta"]
    code = layer_code(plan)
    assert "  for (long chunk = 0; chunk * 64 < T; ++chunk) {\n" in code.cpp
    assert code.cpp.count("\n  for (long n = begin; n < end; ++n) {\n") == 2
    assert "S_prev_again + (t - start) * 256 + part * 16640;" in code.cpp
    assert "for (long n" not in code.cu
    assert all(isinstance(work, Loop) for work in plan.again)


@pytest.mark.caffe
@pytest.mark.parametrize(("rows", "size"), [(5, 32), (1, 128)], ids=["rows", "parts"])
def test_rows_are_shared_out_among_threads_with_the_same_results(
    monkeypatch: pytest.MonkeyPatch, rows: int, size: int
) -> None:
    """And parts of a row. To the last bit, gradients of what all rows share too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    openmp = ctypes.CDLL("libgomp.so.1")
    threads = openmp.omp_set_num_threads
    graph = CellModel(gained).graph(T=128, N=rows, K=size, V=size)
    compiled = compile_graph(graph, CaffeBackend(), "caffe-fused").expanded
    (plan,) = (node.op.plan() for node in compiled if isinstance(node.op, GeneratedScan))
    (loop,) = loops([plan], "this test needs it")
    assert plan.parts == (4 if rows == 1 else 1)
    lines = [-(-array.floats(128, rows) // 16) for array in plan.buffers]
    assert loop.workspace_floats(128, rows) == 16 * int(np.sum(lines))
    rng, found, running = np.random.default_rng(0), [], []
    shapes = [[blob.at(128, rows) for blob in blobs] for blobs in (loop.bottoms, loop.weights, loop.tops, loop.tops)]
    inputs = [[(rng.normal(size=shape) / 4).astype(np.float32) for shape in each] for each in shapes]
    try:
        for count in (1, 2, 4):
            threads(count)
            bottoms, weights, tops, d_tops = ([array.copy() for array in arrays] for arrays in inputs)
            d_bottoms, d_weights = ([np.zeros_like(array) for array in arrays] for arrays in (bottoms, weights))
            workspace = np.zeros(loop.workspace_floats(128, rows) + 16, np.float32)
            blobs = [*map(addresses, (bottoms, weights, tops)), -(-workspace.ctypes.data // 64) * 64]
            loop.forward((128, rows), *blobs)
            gradients = addresses(d_tops), addresses(d_bottoms), addresses(d_weights)
            loop.backward((128, rows), *blobs, gradients, [True] * len(bottoms))
            found.append([*tops, *d_bottoms, *d_weights])
            running.append(len(os.listdir("/proc/self/task")))
        assert running[2] > running[0]
        for other in found[1:]:
            for one, array in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(one, array)
        assert_right(graph)
    finally:
        openmp.omp_pause_resource_all(2)  # ends its threads
        threads(1)


def addresses(arrays: list[np.ndarray]) -> list[int]:
    return [array.ctypes.data for array in arrays]
