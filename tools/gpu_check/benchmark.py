"""How fast each target's net is on the GPU, as a ratio to Caffe's own LSTM layer there, and to PyTorch's."""

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
from tools.gpu_check.cases import FUSED, NATIVE, Case, Size, cases, sequence_of

TORCH = Path(__file__).with_name("torch_lstm.py")


def benchmark(executor: CaffeExecutor, sizes: tuple[Size, ...]) -> Iterator[str]:
    """A table by lines: seconds of a forward and backward pass of an LSTM, and their ratio to the LSTM layer's."""
    yield f"{'T, N, D, H':>18}  {'net':<12}  {'ms':>9}  times the LSTM layer's"
    for size in sizes:
        nets = {c.compiled.target: with_loss(c.prototxt, c.outputs) for c in cases((size,), ("lstm",))}
        fused, refused = _fused(executor, size)
        nets |= fused
        found = fastest_seconds(executor.runner, nets, executor.mode)
        found, reason = _with_torch(found, size) if executor.mode == "gpu" else (found, "")
        for name, seconds in found.items():
            yield f"{', '.join(map(str, size)):>18}  {name:<12}  {1000 * seconds:9.3f}  {seconds / found[NATIVE]:.2f}"
        for name, why in ((FUSED, refused), ("torch", reason)):
            if why:
                yield f"{', '.join(map(str, size)):>18}  {name:<12}  not measured: {why}"


def _fused(executor: CaffeExecutor, size: Size) -> tuple[dict[str, str], str]:
    """The net of generated layers, which the executor's Caffe then knows; or why there is none: no compiler is here."""
    compiled = compile_graph(sequence_of("lstm", size), CaffeBackend(), FUSED)
    try:
        executor.runner.open_layers(layers_source(compiled.expanded))
    except BackendError as error:
        return {}, error.message
    weights = initial_weights(compiled.model)
    case = Case("lstm", size, compiled, CaffeBackend().emit(compiled, weights), weights)
    return {FUSED: with_loss(case.prototxt, case.outputs)}, ""


def _with_torch(found: dict[str, float], size: Size) -> tuple[dict[str, float], str]:
    """The figures with those of torch.nn.LSTM, which uses cuDNN; or why there are none."""
    command = [sys.executable, str(TORCH), *map(str, size)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        return found, lines[-1]
    said = json.loads(ended.stdout.splitlines()[-1])
    if "reason" in said:
        return found, str(said["reason"])
    return {**found, f"torch {said['version']}"[:12]: float(said["seconds"])}, ""
