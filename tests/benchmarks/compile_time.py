"""How the time to compile grows with the number of steps: seconds of CPU a step, as ratios inside one process.

make bench
"""

import gc
import time

from rich.console import Console
from rich.table import Table

from lstmc.backend import load_backend, load_cell
from lstmc.dsl import CellModel
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights

STEPS = (100, 300, 1000, 3000)
ROUNDS = 5


def compile_once(steps: int) -> float:
    """Seconds of CPU from the DSL to the bytes of the files: an LSTM with N=1, D=32, H=64."""
    backend = load_backend("caffe")
    gc.collect()
    start = time.process_time()
    graph = CellModel(load_cell("lstm")).graph(T=steps, N=1, D=32, H=64)
    compiled = compile_graph(graph, backend)
    backend.emit(compiled, initial_weights(graph))
    return time.process_time() - start


def main() -> None:
    """Interleave the sizes, so that a slow moment of the machine meets them all; print each one's minimum."""
    compile_once(10)
    best = dict.fromkeys(STEPS, float("inf"))
    for _ in range(ROUNDS):
        for steps in STEPS:
            best[steps] = min(best[steps], compile_once(steps))
    first = best[STEPS[0]] / STEPS[0]
    table = Table("T", "CPU s", "us a step", f"a step, to T={STEPS[0]}", title=f"compile, minimum of {ROUNDS}")
    for steps, seconds in best.items():
        step = seconds / steps
        table.add_row(str(steps), f"{seconds:.3f}", f"{step * 1e6:.0f}", f"{step / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
