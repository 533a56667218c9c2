"""Where a compiled net's time goes: forward and backward of each type of layer, in real Caffe.

.venv/bin/python tests/on_demand/benchmarks/layer_times.py 1000 1 32 64
"""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table

from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.benchmarks.caffe_time import NETS, compiled_nets
from tools.gpu_check.cases import sequence_of


def main(size: tuple[int, ...]) -> None:
    """Print the shares of the target ``caffe``'s net for an LSTM of T, N, D, H."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    text, outputs = compiled_nets(sequence_of("lstm", size), ["caffe"])["lstmc caffe"]
    with Runner() as caffe:
        args = {"size": size, "net": text, "outputs": outputs, "rounds": 30}
        found = caffe.call(NETS, "layer_seconds", args, timeout=600).value
    total = sum(forward + backward for _, forward, backward in found.values())
    table = Table(title=f"T,N,D,H = {size}: {total * 1e3:.2f} ms layer by layer")
    for column in ("layer", "how many", "forward ms", "backward ms", "share"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for kind, (count, forward, backward) in sorted(found.items(), key=lambda item: -sum(item[1][1:])):
        share = (forward + backward) / total
        table.add_row(kind, str(count), f"{forward * 1e3:.2f}", f"{backward * 1e3:.2f}", f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main(tuple(int(word) for word in sys.argv[1:5]))
