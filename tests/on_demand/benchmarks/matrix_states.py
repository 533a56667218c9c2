"""Recurrences without products of states as generated layers, compiled for this process: their time to that of FLOPs.

    python -m tests.on_demand.benchmarks.matrix_states [--quick | --smallest]

The cores of cells of the library, without projections: T = 1024, 4 heads as rows of the batch, 64 keys and values. One
thread, CPU time, minima. The last column compares the memory of all buffers with that of the states of all steps.

Where flash-linear-attention and mlstm_kernels are installed (``pip install --no-deps fla-core mlstm_kernels einops``),
their code for PyTorch alone is timed too: files of the former are loaded by their paths, as the package needs Triton.

Cells of vectors whose products of inputs leave the loop, N = 1, D = H = 1024, are compared with these products alone:
as NumPy's BLAS computes them, and at the peak.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lstmc import Cell, Input, State, Value, abs, cell, dims, einsum, exp, maximum, outer, sigmoid, sum
from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.ir import Graph
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.native import loops
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from tests.on_demand.benchmarks import setting
from tests.on_demand.benchmarks.fma_peak import flops_per_second

STEPS, HEADS, SIZE = 1024, 4, 64
UNITS = 1024
VECTORS = {"sru": 3, "lru": 3, "min_gru": 2, "rg_lru": 2}  # with how many products [UNITS, UNITS] they have
N, K, V = dims("N K V")
Result = tuple[Value, dict[str, Value]]


def read(S: Value, q: Value) -> Value:
    """The value that a matrix holds for a key."""
    return einsum("nvk,nk->nv", S, q)


@cell
def delta_net(
    q: Value = Input(N, K), k: Value = Input(N, K), v: Value = Input(N, V), b: Value = Input(N, 1),
    S: Value = State(N, V, K),
) -> Result:  # fmt: skip
    S = S + outer(b * (v - read(S, k)), k)
    return read(S, q), {"S": S}


@cell
def mlstm(
    q: Value = Input(N, K), k: Value = Input(N, K), v: Value = Input(N, V), i: Value = Input(N, 1),
    f: Value = Input(N, 1), C: Value = State(N, V, K), n: Value = State(N, K), m: Value = State(N, 1),
) -> Result:  # fmt: skip
    f = f + m
    m = maximum(f, i)
    i, f = exp(i - m), exp(f - m)
    C, n = f[..., None] * C + outer(i * v, k), f * n + i * k
    size = maximum(abs(sum(n * q, axis=-1, keepdims=True)), exp(-m))
    return read(C, q) / size, {"C": C, "n": n, "m": m}


@cell
def gla(
    q: Value = Input(N, K), k: Value = Input(N, K), v: Value = Input(N, V), a: Value = Input(N, K),
    S: Value = State(N, K, V),
) -> Result:  # fmt: skip
    S = sigmoid(a)[..., None] * S + outer(k, v)
    return einsum("nkv,nk->nv", S, q), {"S": S}


@cell
def rwkv6(
    r: Value = Input(N, K), k: Value = Input(N, K), v: Value = Input(N, V), w: Value = Input(N, K),
    S: Value = State(N, K, V),
) -> Result:  # fmt: skip
    y = einsum("nkv,nk->nv", S, r) + sum(r * k, axis=-1, keepdims=True) * v
    return y, {"S": exp(-exp(w))[..., None] * S + outer(k, v)}


@cell
def rwkv7(
    r: Value = Input(N, K), k: Value = Input(N, K), v: Value = Input(N, V), w: Value = Input(N, K),
    kappa: Value = Input(N, K), a: Value = Input(N, K), S: Value = State(N, V, K),
) -> Result:  # fmt: skip
    S = S * sigmoid(w)[:, None, :] - outer(read(S, kappa), sigmoid(a) * kappa) + outer(v, k)
    return read(S, r), {"S": S}


@cell
def retnet(q: Value = Input(N, K), k: Value = Input(N, K), v: Value = Input(N, V), S: Value = State(N, K, V)) -> Result:
    S = 0.97 * S + outer(k, v)
    return einsum("nkv,nk->nv", S, q), {"S": S}


@cell
def mamba2(
    x: Value = Input(N, V), B: Value = Input(N, K), C: Value = Input(N, K), dt: Value = Input(N, 1),
    S: Value = State(N, V, K),
) -> Result:  # fmt: skip
    S = exp(-exp(dt))[..., None] * S + outer(dt * x, B)
    return read(S, C), {"S": S}


# with the FLOPs of a step for each element of the state: of its update and of what reads it
CORES = {delta_net: 6, mlstm: 5, gla: 5, rwkv6: 5, rwkv7: 9, retnet: 5, mamba2: 5}
ALIGNED = 16  # floats of a line of the cache
Floats = NDArray[np.float32]


def arrays(shapes: Iterable[tuple[int, ...]]) -> tuple[list[Floats], list[int]]:
    """Return random arrays of some shapes, and where they begin."""
    rng = np.random.default_rng(0)
    made = [(rng.standard_normal(shape) / 8).astype(np.float32) for shape in shapes]
    return made, [array.ctypes.data for array in made]


def measured(graph: Graph, at: tuple[int, int], rounds: int) -> tuple[float, float, int]:
    """Return the seconds of a sequence, T and N, forward, and forward and backward, and the bytes of its buffers."""
    compiled = compile_graph(graph, CaffeBackend(), "caffe-fused").expanded
    (plan,) = (node.op.plan() for node in compiled if isinstance(node.op, GeneratedScan))
    (loop,) = loops([plan], "this benchmark needs it")
    bottoms, tops, weights = ([blob.at(*at) for blob in blobs] for blobs in (loop.bottoms, loop.tops, loop.weights))
    shapes = (bottoms, tops, weights, bottoms, tops, weights)
    kept, (ins, outs, params, d_ins, d_outs, d_params) = zip(*map(arrays, shapes), strict=True)
    for array in (*kept[0], *kept[2]):
        if array.ndim == 1:
            array[...] = -np.abs(array)  # what a cell computes of its parameter may be the logarithm of a decay
    floats = loop.workspace_floats(*at)
    memory = np.zeros(floats + ALIGNED, np.float32)
    workspace = -(-memory.ctypes.data // (4 * ALIGNED)) * 4 * ALIGNED
    forward = both = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        loop.forward(at, ins, params, outs, workspace)
        forward = min(forward, time.process_time() - start)
        loop.backward(at, ins, params, outs, workspace, (d_outs, d_ins, d_params), [True] * len(ins))
        both = min(both, time.process_time() - start)
    assert all(np.isfinite(array).all() for group in kept[:2] for array in group)
    return forward, both, 4 * floats


def product_alone(outs: int, rounds: int) -> float:
    """Return the seconds of a product of all steps' inputs by NumPy's BLAS."""
    x, w = (np.ones((rows, UNITS), np.float32) for rows in (STEPS, outs))
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        x @ w.T
        best = min(best, time.process_time() - start)
    return best


# [batch, heads, T, ...]: a folder of flash-linear-attention's fla/ops, or a module of another package, a function, and
# what it takes
AUTHORS: dict[Cell, tuple[str, str, tuple[str, ...]]] = {
    mlstm: (
        "mlstm_kernels.torch.chunkwise.native",
        "mlstm_chunkwise__native_custbw",
        ("q", "k", "v", "number", "number"),
    ),
    delta_net: ("delta_rule", "delta_rule_chunkwise", ("q", "k", "v", "number")),
    gla: ("gla", "naive_recurrent_gla", ("q", "k", "v", "gates")),
    retnet: ("retention", "naive_retention", ("q", "k", "v")),
    mamba2: ("simple_gla", "naive_chunk_simple_gla", ("q", "k", "v", "number")),
}
TIME_FIRST = ("gla", "simple_gla")  # [batch, T, heads, ...]


def authors(core: Cell) -> Callable[..., Any] | None:
    """Return the authors' function for a core; None where there is none, or the package is not installed."""
    folder, name, _ = AUTHORS.get(core, ("", "", ()))
    package, _, module_of = folder.partition(".")
    spec = find_spec(package if module_of else "fla")
    if not folder or spec is None or not spec.submodule_search_locations:
        return None
    if module_of:
        module = import_module(folder)
    else:
        path = Path(spec.submodule_search_locations[0]) / "ops" / folder / "naive.py"
        spec = spec_from_file_location(f"fla_{folder}", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, name)
    return found


def in_torch(core: Cell, rounds: int) -> tuple[float, float] | None:
    """Return the seconds of the authors' code forward, and forward and backward."""
    run = authors(core)
    if run is None:
        return None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder, _, takes = AUTHORS[core]
    lead = (1, STEPS, HEADS) if folder in TIME_FIRST else (1, HEADS, STEPS)
    given = [torch.randn(lead if name == "number" else (*lead, SIZE)) / 8 for name in takes]
    given = [-x.abs() if name in ("gates", "number") else x for name, x in zip(takes, given, strict=True)]
    for x in given:
        x.requires_grad_()
    forward = both = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        y = run(*given)
        y = y[0] if isinstance(y, tuple) else y
        forward = min(forward, time.process_time() - start)
        y.sum().backward()
        both = min(both, time.process_time() - start)
    return forward, both


def main() -> None:
    """Measure, and print times and ratios."""
    rounds = setting.rounds(100, quick=10)
    peak = flops_per_second()
    table = Table(
        title=f"cores at T={STEPS}, {HEADS} heads, K=V={SIZE}, one thread; FLOPs of both: three times forward's"
    )
    for column in (
        "core",
        "forward, ms",
        "both, ms",
        "forward to peak",
        "both to peak",
        "buffers to all states",
        "to the authors' code",
    ):
        table.add_column(column, justify="left" if column == "core" else "right")
    for core, flops in setting.rows(tuple(CORES.items())):
        graph = CellModel(core).graph(T=STEPS, N=HEADS, **{dim: SIZE for dim in core.dims if dim != "N"})
        forward, both, floats = measured(graph, (STEPS, HEADS), rounds)
        least = flops * STEPS * HEADS * SIZE * SIZE / peak
        ratios = forward / least, both / (3 * least), floats / (4 * STEPS * HEADS * SIZE * SIZE)
        times = f"{forward * 1e3:.2f}", f"{both * 1e3:.2f}"
        theirs = in_torch(core, max(2, rounds // 10))
        to = f"{forward / theirs[0]:.2f} / {both / theirs[1]:.2f}" if theirs else "-"
        table.add_row(core.name, *times, f"{ratios[0]:.1f}", f"{ratios[1]:.1f}", f"{ratios[2]:.2f}", to)
    Console(width=130).print(table)
    table = Table(title=f"products of T={STEPS}, N=1, D=H={UNITS} leave the loop; one thread")
    for column in ("cell", "forward, ms", "to the product by BLAS", "to the product at the peak"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    for name, products in setting.rows(tuple(VECTORS.items())):
        made = load_cell(name)
        graph = CellModel(made).graph(T=STEPS, N=1, **{dim: UNITS for dim in made.dims if dim != "N"})
        forward, _, _ = measured(graph, (STEPS, 1), max(3, rounds // 4))
        alone, least = product_alone(products * UNITS, max(3, rounds // 4)), 2.0 * STEPS * products * UNITS**2 / peak
        table.add_row(name, f"{forward * 1e3:.2f}", f"{forward / alone:.2f}", f"{forward / least:.2f}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
