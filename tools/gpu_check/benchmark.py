"""How fast each target's net is on the GPU, as a ratio to target caffe's there, beside PyTorch's ways of the cell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lstmc.errors import BackendError
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor, fastest_seconds, with_loss
from lstmc_caffe.write.artifact import layers_source
from tools.gpu_check.cases import FUSED, Case, Size, cases, sequence_of

TORCH = Path(__file__).with_name("torch_cells.py")
TORCH_SECONDS = 900.0
"""For all of PyTorch's ways of one cell at one size: to compile a step by ``torch.compile`` takes a minute or two."""
DEVICES = {"gpu": "cuda", "cpu": "cpu"}  # PyTorch's, of an executor's mode


def benchmark(executor: CaffeExecutor, sizes: tuple[Size, ...], cells: tuple[str, ...]) -> Iterator[str]:
    """Yield a table by lines: milliseconds of a forward and backward pass of each cell, and their ratio to caffe's."""
    yield f"{'cell':<15} {'T, N, D, H':>18}  {'net':<13}  {'ms':>9}  times caffe's"
    for cell in cells:
        for size in sizes:
            begin = f"{cell:<15} {', '.join(map(str, size)):>18}"
            nets = {c.compiled.target: with_loss(c.prototxt, c.outputs) for c in cases((size,), (cell,))}
            fused, reasons = _fused(executor, cell, size)
            found = fastest_seconds(executor.runner, nets | fused, executor.mode)
            others, why = _in_torch(DEVICES[executor.mode], cell, size)
            for name, seconds in (found | others).items():
                yield f"{begin}  {name:<13}  {1000 * seconds:9.3f}  {seconds / found['caffe']:.2f}"
            for name, reason in (reasons | why).items():
                yield f"{begin}  {name:<13}  not measured: {reason}"


def _fused(executor: CaffeExecutor, cell: str, size: Size) -> tuple[dict[str, str], dict[str, str]]:
    """The net of generated layers, which the executor's Caffe then knows; or why there is none: no compiler is here."""
    compiled = compile_graph(sequence_of(cell, size), CaffeBackend(), FUSED)
    try:
        executor.runner.open_layers(layers_source(compiled.expanded))
    except BackendError as error:
        return {}, {FUSED: error.message}
    weights = initial_weights(compiled.model)
    case = Case(cell, size, compiled, CaffeBackend().emit(compiled, weights), weights)
    return {FUSED: with_loss(case.prototxt, case.outputs)}, {}


def _in_torch(device: str, cell: str, size: Size) -> tuple[dict[str, float], dict[str, str]]:
    """The seconds of each of PyTorch's ways, whose own layers use cuDNN on a GPU; and why others have none."""
    command = [sys.executable, str(TORCH), device, cell, *map(str, size)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        return {}, {"torch": f"it took more than {TORCH_SECONDS:g} seconds"}
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        return {}, {"torch": lines[-1]}
    said = json.loads(ended.stdout.splitlines()[-1])
    if "reason" in said:
        return {}, {"torch": str(said["reason"])}
    times, reasons = ({f"torch {way}": of[way] for way in of} for of in (said["seconds"], said["reasons"]))
    return times, reasons
