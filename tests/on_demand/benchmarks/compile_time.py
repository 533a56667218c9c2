"""How time and memory to compile grow with the number of steps, against NetSpec building the post's net.

    make bench

Seconds of CPU from the DSL to the bytes of the files, an LSTM with N=1, D=32, H=64. NetSpec builds and prints the
net that the post unrolls by hand, in pycaffe's own Python. Every size takes its turns; minima are printed. Memory is
that of a process of its own: its peak above what it had before it compiled.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lstmc.backend import load_backend, load_cell
from lstmc.dsl import CellModel
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.benchmarks import setting

NETS = Path(__file__).with_name("caffe_nets.py")
SIZE = {"N": 1, "D": 32, "H": 64}
STEPS = (10, 100, 300, 1000, 3000, 10000, 100000)
MOST_NETSPEC = 10000  # steps: more than that takes minutes


def compile_once(steps: int) -> tuple[float, int]:
    """Seconds of CPU from the DSL to the files' bytes, and the number of layers."""
    backend = load_backend("caffe")
    start = time.process_time()
    graph = CellModel(load_cell("lstm")).graph(T=steps, **SIZE)
    artifact = backend.emit(compile_graph(graph, backend), initial_weights(graph))
    return time.process_time() - start, artifact.layers


def peak() -> int:
    """The most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_own_process(steps: int) -> dict[str, Any]:
    """Seconds, layers and bytes a layer of one compilation in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.on_demand.benchmarks.compile_time", "--one", str(steps)],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def one(steps: int) -> None:
    """Compile once and print the figures as JSON."""
    compile_once(2)
    before = peak()
    seconds, layers = compile_once(steps)
    print(json.dumps({"seconds": seconds, "layers": layers, "bytes_a_layer": (peak() - before) / layers}))


def measure(steps: tuple[int, ...]) -> dict[str, Any]:
    """The figures of every size, interleaved."""
    rows: dict[int, dict[str, Any]] = {}
    with Runner() as caffe:
        for _ in range(setting.rounds(3, quick=3)):
            for count in steps:
                found = in_own_process(count)
                if count <= MOST_NETSPEC:
                    args = {"size": [count, *SIZE.values()], "rounds": 1}
                    found["netspec"] = caffe.call(NETS, "netspec_seconds", args, timeout=600).value
                best = rows.setdefault(count, found)
                rows[count] = {key: min(best[key], found[key]) for key in best}
    return {str(count): row for count, row in rows.items()}


def table_of(rows: dict[str, Any]) -> Table:
    """Times a step, and their ratios to T=1000 and to NetSpec."""
    table = Table(title="compile (minima)")
    for column in ("T", "layers", "CPU s", "us a step", "a step, to T=1000", "to NetSpec", "bytes a layer"):
        table.add_column(column, justify="right")
    per_step = {steps: row["seconds"] / int(steps) for steps, row in rows.items()}
    for steps, row in rows.items():
        netspec = f"{row['seconds'] / row['netspec']:.2f}" if "netspec" in row else "-"
        cells = (f"{row['seconds']:.3f}", f"{per_step[steps] * 1e6:.0f}", f"{per_step[steps] / per_step['1000']:.2f}")
        table.add_row(steps, str(row["layers"]), *cells, netspec, f"{row['bytes_a_layer']:.0f}")
    return table


def main(to: Path = Path("out/bench-compile.json")) -> None:
    """Measure, print the table, write the figures."""
    rows = measure((1000,) if setting.SMALLEST else (100, 1000, 3000) if setting.QUICK else STEPS)
    Console(width=110).print(table_of(rows))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    one(int(sys.argv[2])) if "--one" in sys.argv else main()
