"""The time of one step in C, of one sequence on one thread, against ONNX Runtime.

python -m tests.benchmarks.c_time: compiled by gcc -O3 -march=native -fno-trapping-math.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

import lstmc
from lstmc_onnx.runtime import load

NETS = (("lstm", 32, 64), ("gru_reset_after", 32, 64), ("lstm", 64, 128))
ALLOWED = 0.5  # of ONNX Runtime's time
ROUNDS, STEPS = 200, 50

MAIN = """
#include <stdio.h>
#include <time.h>
#include "{name}.h"
static double now(void) {{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}}
int main(void) {{
  static {name}_state state;
  static {name}_work work;
  static float x[{inputs}], y[{outputs}];
  double least = 1.0;
  {name}_reset(&state);
  for (int round = 0; round < {rounds}; ++round) {{
    const double began = now();
    for (int i = 0; i < {steps}; ++i) {name}_step(&state, &work, x, y);
    const double seconds = (now() - began) / {steps};
    if (seconds < least) least = seconds;
  }}
  printf("%.9g", least);
}}
"""


def seconds_in_c(cell: str, width: int, units: int) -> float:
    net = lstmc.compile(cell, backend="c", outputs=["y"], N=1, D=width, H=units)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net.save(folder)
        main = MAIN.format(name=cell, inputs=width, outputs=units, rounds=ROUNDS, steps=STEPS)
        (folder / "main.c").write_text(main)
        flags = ["-std=gnu99", "-O3", "-march=native", "-fno-trapping-math"]
        subprocess.run(["gcc", *flags, "main.c", f"{cell}.c", "-o", "main"], cwd=folder, check=True)
        return float(subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout)


def seconds_in_onnx_runtime(cell: str, width: int, units: int) -> float:
    net = lstmc.compile(cell, backend="onnx", step=True, outputs=["y"], N=1, D=width, H=units)
    loaded = load(net.files[net.artifact.net], threads=1)
    fed = {name: np.zeros(shape, np.float32) for name, shape in net.inputs.items()}
    least = 1.0
    for _ in range(ROUNDS):
        began = perf_counter()
        for _ in range(STEPS):
            loaded.session.run(loaded.outputs, fed)
        least = min(least, (perf_counter() - began) / STEPS)
    return least


def main() -> None:
    print("one step of one sequence, one thread:")
    for net in NETS:
        ours, theirs = seconds_in_c(*net), seconds_in_onnx_runtime(*net)
        verdict = "ok" if ours <= ALLOWED * theirs else "MISSED"
        cell, width, units = net
        print(
            f"  {cell} D={width} H={units}: C {ours * 1e6:.1f} us, ONNX Runtime {theirs * 1e6:.1f} us,"
            f" {ours / theirs:.2f} of that  (at most {ALLOWED}: {verdict})"
        )


if __name__ == "__main__":
    main()
