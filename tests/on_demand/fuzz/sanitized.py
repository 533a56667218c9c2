"""``python -m tests.on_demand.fuzz.sanitized --minutes M``: the generated layers of random models under sanitizers.

Each source is compiled with a program that gives every array just the memory that it should need, and runs each layer
forward and backward in two threads that share the weights: once under the sanitizers of addresses and of undefined
behaviour, once under that of threads. So is its CUDA, as a program for the CPU, where each thread of a kernel is one of
the host: with few rows, whose steps are one kernel with barriers, and with more, whose steps are a graph. Exits with 1
if one of them found something; the source is saved.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import BackendError
from lstmc.loops.code import Source
from lstmc.loops.native import FLAGS
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.write.artifact import layers_source
from tests.random_models.models import seeded_model

TARGET = "caffe-fused"
PROGRAM = Path(__file__).with_name("run_layers.cpp")
# With these g++ compiles NAME.layers.cu, as if its layers were those for the CPU.
CUDA = (f"-I{Path(__file__).with_name('cuda')}", "-Dlstmc_gpu_layers=lstmc_layers", "-DON_HOST_THREADS")
SANITIZERS = ("address,undefined", "thread")
SIZES = ((1, 1), (2, 3), (7, 13))  # T, N: fewer rows in all than are packed for, and more
CUDA_SIZES = ((1, 1), (4, 3), (2, 65))  # one row and thread; persistent kernels; more rows than those have


def found_in(source: str, sanitizers: Sequence[str] = SANITIZERS, *, cuda: bool = False, times: int = 1) -> str | None:
    """What a sanitizer says of the layers in ``source``, which may be CUDA; None for nothing in so many runs."""
    source = source.replace("extern __shared__ float memory[];", "float* const memory = block_memory;")
    with tempfile.TemporaryDirectory(prefix="lstmc-sanitized-") as name:
        folder = Path(name)
        (folder / "layers.cpp").write_text(source, encoding="utf-8")
        for sanitizer in sanitizers:
            found = _ran_under(sanitizer, folder, cuda, times)
            if found is not None:
                return found
    return None


def _ran_under(sanitizer: str, folder: Path, cuda: bool, times: int) -> str | None:
    flags = [*(CUDA if cuda else ()), *(flag for flag in FLAGS if not flag.startswith("-O"))]
    flags += ["-O0", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", f'-DLAYERS="{folder}/layers.cpp"']
    command = ["g++", *flags, str(PROGRAM), "-o", str(folder / "run_layers"), "-lopenblas", "-pthread"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return f"it does not compile with -fsanitize={sanitizer}:\n{made.stderr}"
    for steps, rows in times * (CUDA_SIZES if cuda else SIZES):
        ended = subprocess.run(
            [folder / "run_layers", str(steps), str(rows)], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            return f"{sanitizer}, T = {steps}, N = {rows}, exit code {ended.returncode}:\n{ended.stderr}"
    return None


def source_of(seed: int) -> Source | None:
    """The generated layers of a random model; None where it has none."""
    try:
        return layers_source(compile_graph(seeded_model(seed).graph(), CaffeBackend(), TARGET).expanded)
    except BackendError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.on_demand.fuzz.sanitized", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: 2)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="draw the models of an earlier run")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/fuzz"), help="where sources go that fail")
    given = parser.parse_args()
    print(f"generated layers under sanitizers, seed {given.seed}; failures go to {given.out}", flush=True)
    until, tried, failed = time.monotonic() + 60 * given.minutes, 0, 0
    for seed in itertools.count(given.seed * 10**6):
        if time.monotonic() >= until:
            break
        source = source_of(seed)
        if source is None:
            continue
        tried += 1
        assert source.cu is not None
        for suffix, text in (("cpp", source.cpp), ("cu", source.cu)):
            found = found_in(text, cuda=suffix == "cu")
            if found is not None:
                failed += 1
                given.out.mkdir(parents=True, exist_ok=True)
                saved = given.out / f"sanitized-{seed}.layers.{suffix}"
                saved.write_text(re.sub("(?m)^", "// ", found) + "\n" + text, encoding="utf-8")
                print(f"failed: {saved}: {found.splitlines()[0]}", flush=True)
    print(f"{tried} sources, {failed} of them wrong")
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
