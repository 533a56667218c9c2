"""Compiled nets in real Caffe against the post's NetSpec net, Caffe's own LSTM layer and the bare matrix products.

    make bench            writes out/bench.json and prints tables
    ... --quick           two rows, few rounds: under a minute

One BLAS thread; all nets of a row are loaded in one process and take turns, so that every figure is a ratio of
minima from one run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runner import Runner
from rich.console import Console
from rich.table import Table

from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights

NETS = Path(__file__).with_name("caffe_nets.py")
ROWS = ((3, 10, 1024, 500), (20, 10, 128, 256), (100, 1, 64, 128), (50, 32, 256, 512), (300, 1, 32, 64), (1000, 1, 32, 64))
QUICK = ((20, 10, 128, 256), (300, 1, 32, 64))
SECONDS_A_ROW = 12.0


def compiled_nets(size: tuple[int, ...], cell: str = "lstm") -> dict[str, str]:
    """The prototxt of the cell for every target that can express it."""
    backend = CaffeBackend()
    graph = CellModel(load_cell(cell)).graph(**dict(zip("TNDH", size, strict=True)))
    weights = initial_weights(graph)
    found = {}
    for target in backend.targets:
        artifact = backend.emit(compile_graph(graph, backend, target), weights)
        found[f"lstmc {target}"] = artifact.files[f"{cell}.prototxt"].decode()
    return found


def measure_row(caffe: Runner, size: tuple[int, ...], rounds: int, loads: int) -> dict[str, Any]:
    """One row's figures: for each net its minima."""
    nets = {"netspec": "netspec", "native": "native", **compiled_nets(size)}
    outputs = {name: "H" if name in ("netspec", "native") else "y" for name in nets}
    args = {"size": size, "nets": nets, "outputs": outputs, "rounds": rounds, "loads": loads}
    found = caffe.call(NETS, "measure", args, timeout=600).value
    return {
        name: {key: min(times) if isinstance(times, list) else times for key, times in figures.items()}
        for name, figures in found.items()
    }


def table_of(rows: dict[str, dict[str, Any]]) -> Table:
    """Ratios: forward and both to the bare products, and to Caffe's LSTM layer; load to the NetSpec net's."""
    table = Table(title="in real Caffe (minima of interleaved rounds)")
    for column in ("T,N,D,H", "net", "layers", "forward/gemms", "both/gemms", "forward/LSTM", "both/LSTM", "load/NetSpec"):
        table.add_column(column, justify="left" if column in ("T,N,D,H", "net") else "right")
    for size, nets in rows.items():
        for name, f in nets.items():
            if name == "gemms":
                continue
            ratios = [f[key] / nets[base][key] for base in ("gemms", "native") for key in ("forward", "both")]
            ratios.append(f["load"] / nets["netspec"]["load"])
            table.add_row(size, name, str(f["layers"]), *(f"{ratio:.2f}" for ratio in ratios))
        table.add_section()
    return table


def main(quick: bool = False, to: Path = Path("out/bench.json")) -> None:
    """Measure every row, print the table, write the figures."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    rows: dict[str, dict[str, Any]] = {}
    with Runner() as caffe:
        for size in QUICK if quick else ROWS:
            once = measure_row(caffe, size, 1, 1)
            seconds = sum(f["forward"] + f["both"] for f in once.values())
            rounds = max(3, min(100, int((SECONDS_A_ROW if not quick else 5) / seconds)))
            rows[",".join(map(str, size))] = measure_row(caffe, size, rounds, 3)
    Console(width=130).print(table_of(rows))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
