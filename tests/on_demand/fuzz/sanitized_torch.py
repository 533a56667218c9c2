"""``python -m tests.on_demand.fuzz.sanitized_torch --minutes M``: what PyTorch gives native code, under sanitizers.

The loops of a random model are compiled with the sanitizers of addresses and of undefined behaviour, and run as the
operators of ``lstmc_torch``, forward and back: on tensors of every type and layout, empty ones, NaN, infinity and huge
numbers. Each result must be that of contiguous float32 tensors with the same numbers; tensors of other shapes must be
refused. Each fifth model runs by the operators that a written file builds. Each is a process of its own, where the
sanitizers are loaded before all else. Exits with 1 if something was found.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.cpp_extension import include_paths, library_paths

from lstmc.errors import DataError
from lstmc.loops import native
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_torch import TorchBackend, program
from lstmc_torch.loop import load_or_warn
from tests.random_models.models import seeded_model

SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SIZES = ((1, 1), (2, 3), (7, 13), (3, 0), (0, 2), (0, 0))
TYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.bool),
)
SPECIAL = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-42, 0.0)
CASES = 3  # of each loop and sizes
ROOT = Path(__file__).parents[3]
LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x,
    lambda x: torch.stack([x, x], -1)[..., 0],
    lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0) if x.dim() > 1 else x,
    lambda x: x[:1].expand_as(x) if x.dim() and x.shape[0] else x,
    lambda x: x.flip(0) if x.dim() else x,
    lambda x: torch._neg_view(x) if x.is_floating_point() else x,
)


def drawn(rng: random.Random, shape: Sequence[int]) -> Tensor:
    """Return a tensor of any type and layout."""
    x = 0.5 * torch.randn(*shape)
    if rng.random() < 0.5 and x.numel():
        x.view(-1)[rng.randrange(x.numel())] = rng.choice(SPECIAL)
    return rng.choice(LAYOUTS)(x.to(rng.choice(TYPES)))


def plain(x: Tensor) -> Tensor:
    """Return the numbers of a tensor in float32, one behind the other."""
    return torch.empty(x.shape).copy_(x.resolve_neg())  # copy_ of another type may lose the sign of a view


def run(operators: Any, kind: str, loop: native.Loop, at: tuple[int, int], rng: random.Random) -> None:
    """Run a loop forward and back on drawn tensors, and on the same numbers in plain ones."""
    sizes = (at[0], 1 if loop.layer.fixed else at[1])
    groups = [[drawn(rng, blob.at(*sizes)) for blob in blobs] for blobs in (loop.bottoms, loop.weights, loop.tops)]
    needed = [rng.random() < 0.7 for _ in loop.bottoms]
    results = []
    for bottoms, weights, gradients in (groups, [[plain(x) for x in group] for group in groups]):
        *tops, workspace = operators.loop(kind, *at, bottoms, weights)
        back = operators.loop_backward(kind, at, bottoms, weights, [*tops, workspace], gradients, needed)
        results.append([*tops, *(x for x, use in zip(back, [*needed, *[True] * len(weights)], strict=True) if use)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def refused(operators: Any, kind: str, loop: native.Loop, rng: random.Random) -> None:
    """Expect an error where one tensor has an axis more or less, another last size, or is sparse."""
    whole = [[torch.randn(blob.at(2, 3)) for blob in blobs] for blobs in (loop.bottoms, loop.weights)]
    for group, blobs in enumerate((loop.bottoms, loop.weights)):
        for at, blob in enumerate(blobs):
            x = whole[group][at]
            others = [x[None]]
            if blob.sizes:
                others += [x[0], torch.cat([x, x[..., :1]], -1), x[..., :0], x.to_sparse()]
            bad = [list(each) for each in whole]
            bad[group][at] = rng.choice(others)
            try:
                operators.loop(kind, 2, 3, *bad)
            except (DataError, RuntimeError):
                continue
            raise AssertionError(f"{kind} took {[[list(each.shape) for each in group] for group in bad]}")


def built(layers: str, name: str, folder: Path) -> Any:
    """Return the operators of a written file, compiled under the sanitizers."""
    source, library = folder / "layers.cpp", folder / "layers.so"
    source.write_text(layers, encoding="utf-8")
    flags = [flag for flag in native.FLAGS if not flag.startswith("-std")]
    headers = [f"-isystem{path}" for path in include_paths()]
    command = ["g++", "-DLSTMC_TORCH", "-std=c++20", *flags, *headers, "-shared", str(source), "-o", str(library)]
    folders = [flag for path in library_paths() for flag in (f"-L{path}", f"-Wl,-rpath,{path}")]
    subprocess.run([*command, *folders, "-lc10", "-ltorch_cpu", "-ltorch"], check=True)
    torch.ops.load_library(library)
    return getattr(torch.ops, name)


def child(seed: int, written: bool) -> int:
    """Run the loops of a model. Return how many it has."""
    os.environ.pop("LD_PRELOAD", None)  # a compiler needs it not, and takes ten times as long with it
    native.FLAGS = (*(flag for flag in native.FLAGS if not flag.startswith("-O")), *SANITIZED)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng, graph = random.Random(seed), seeded_model(seed).graph()
    compiled, backend = compile_graph(graph, TorchBackend()), TorchBackend()
    _, made = compiled.written(program.program_of)
    if not made.cpp:
        return 0
    loops = native.loops_of(made.cpp, "")
    assert load_or_warn(made.cpp, f"random model {seed}")
    operators: Any = torch.ops.lstmc
    with tempfile.TemporaryDirectory(prefix="lstmc-sanitized-") as name:
        if written:
            files = backend.emit(compiled, initial_weights(graph)).files
            text = next(content.decode() for file, content in files.items() if file.endswith(".layers.cpp"))
            operators = built(text, text.partition("TORCH_LIBRARY(")[2].partition(",")[0], Path(name))
        for kind, loop in loops.items():
            for sizes in itertools.chain.from_iterable(itertools.repeat(SIZES, CASES)):
                run(operators, kind, loop, sizes, rng)
            refused(operators, kind, loop, rng)
    return len(loops)


def found_in(seed: int, written: bool = False, before: str = "") -> tuple[int, str]:
    """Return how many loops of a model ran, after a statement ``before``, and what was found, or an empty text."""
    first = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    options = "detect_leaks=0:alloc_dealloc_mismatch=0:detect_odr_violation=0"
    environment = {**os.environ, "LD_PRELOAD": ":".join(first), "ASAN_OPTIONS": options, "OMP_NUM_THREADS": "1"}
    program = f"{before}\nfrom tests.on_demand.fuzz.sanitized_torch import child\nprint(child({seed}, {written}))"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        return 0, f"seed {seed}, exit code {ended.returncode}:\n{ended.stderr}"
    return int(ended.stdout.split()[-1]), ""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.on_demand.fuzz.sanitized_torch", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: 2)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="draw the models of an earlier run")
    given = parser.parse_args()
    print(f"operators of PyTorch under sanitizers, seed {given.seed}", flush=True)
    until, ran, failed = time.monotonic() + 60 * given.minutes, 0, 0
    for number, seed in enumerate(itertools.count(given.seed * 10**6)):
        if time.monotonic() >= until:
            break
        loops, found = found_in(seed, number % 5 == 0)
        ran += loops
        failed += bool(found)
        if found:
            print(f"failed: {found}", flush=True)
    print(f"{ran} loops, {failed} models wrong")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
