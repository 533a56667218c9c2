"""Cells as generated layers against the fastest that PyTorch has for them: eager, script, compile, its own layer.

    python -m tests.on_demand.benchmarks.cell_time          one thread; forward and backward, at two sizes T, N, D, H

Minima of rounds; the nets take turns in one Caffe, then PyTorch's ways take turns in this process.
"""

from __future__ import annotations

import os
import time

import torch
from rich.console import Console
from rich.table import Table

import lstmc_torch
from lstmc import Cell, Input, Param, State, Value, cell, dims, linear, model, scan, tanh, xavier
from lstmc.backend import load_cell
from lstmc.ir import Graph
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.benchmarks import setting
from tests.on_demand.benchmarks.caffe_time import NETS, compiled_nets
from tools.gpu_check.torch_cells import CELLS, KERNEL, KEYS, RANK, STATES, compared, minima, operands, ways

# T, N, D, H, and how many of them are measured in a round
SIZES = {(2, 1, 4, 4): 1} if setting.SMALLEST else {(300, 1, 32, 64): 1, (50, 32, 256, 512): 10}
TARGETS = ("caffe", "caffe-fused")
WAYS = ("lstmc_torch", "eager", "script", "compile", "nn")
AIM = 0.5
N, D, H = dims("N D H")


@cell
def elman(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D, fill=xavier()),
    U: Value = Param(H, H, fill=xavier()),
    b: Value = Param(H),
) -> tuple[Value, dict[str, Value]]:
    """The first cell of docs/write-a-cell.md."""
    h = tanh(linear(x, W, b) + linear(h, U))
    return h, {"h": h}


def sizes(name: str, units: int) -> dict[str, int]:
    """The dimensions of a cell with so many units, or channels."""
    others = {
        "mamba": {"E": units, "S": STATES, "K": KERNEL, "R": RANK},
        "delta_net": {"H": units, "K": min(units, KEYS)},
    }
    return others.get(name, {"H": units})


def sequence(name: str, made: Cell, size: tuple[int, int, int, int]) -> Graph:
    """The cell over a sequence."""
    steps, batch, width, units = size

    @model
    def net(x: Value = Input(steps, batch, width)) -> dict[str, Value]:
        return {"y": scan(made(**sizes(name, units)), x)[0]}

    return net.graph()


def ours(caffe: Runner, name: str, size: tuple[int, int, int, int], rounds: int) -> dict[str, float]:
    """Forward and backward of each target's net."""
    compiled = compiled_nets(sequence(name, elman if name == "elman" else load_cell(name), size), TARGETS)
    for _, _, source in compiled.values():
        caffe.open_layers(source)
    nets = {target: text for target, (text, _, _) in compiled.items()}
    outputs = {target: blobs for target, (_, blobs, _) in compiled.items()}
    args = {"size": size, "nets": nets, "outputs": outputs, "rounds": rounds, "loads": 1}
    found = caffe.call(NETS, "measure", args, timeout=600).value
    return {target: min(found[target]["both"]) for target in nets}


def in_torch(name: str, size: tuple[int, int, int, int], rounds: int, made: Cell) -> dict[str, float]:
    """Forward and backward of each way in PyTorch, and of the module of the same cell in lstmc."""
    torch.set_num_threads(1)
    given = operands(name, size, "cpu")
    net = lstmc_torch.module(made, D=size[2], sizes=sizes(name, size[3]))
    net.load_lstmc({own: value.detach().numpy() for own, value in zip(net.spec.params, given[2], strict=True)})
    runs = {"lstmc_torch": lambda xs, states, params: net(xs)["y"], **dict(ways(name))}
    able, reasons = compared(runs, given)
    if reasons:
        print(name, reasons)
    return minima(able, given, rounds, time.process_time)


def main() -> None:
    """Measure, and print the ratios."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for size, each in SIZES.items():
        print_times(size, max(1, setting.rounds(100, quick=10) // each))


def print_times(size: tuple[int, int, int, int], rounds: int) -> None:
    """Print the times of all cells at one size, and their ratios."""
    table = Table(title=f"forward and backward, one thread, T,N,D,H = {size}, ms")
    for column in ("cell", "caffe-fused", "caffe", *WAYS, "caffe-fused to the fastest", "lstmc_torch to it"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    with Runner() as caffe:
        for name in setting.rows(tuple(CELLS)):
            nets = ours(caffe, name, size, rounds)
            made = elman if name == "elman" else load_cell(name)
            others = in_torch(name, size, max(3, rounds // 5), made)
            fastest = min(seconds for way, seconds in others.items() if way != "lstmc_torch")
            ratio, own = nets["lstmc caffe-fused"] / fastest, others["lstmc_torch"] / fastest
            cells = [f"{nets[f'lstmc {target}'] * 1e3:.2f}" for target in ("caffe-fused", "caffe")]
            cells += [f"{others[way] * 1e3:.2f}" if way in others else "-" for way in WAYS]
            table.add_row(name, *cells, f"{ratio:.3f}" + ("" if ratio <= AIM else f"  (aim: {AIM})"), f"{own:.3f}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
