"""The time of one step in C, of one sequence on one thread, against ONNX Runtime and the C of emx-onnx-cgen.

python -m tests.benchmarks.c_time: compiled by gcc -O3 -march=native -fno-trapping-math. Times are of the processor, so
that other processes disturb them less. emx-onnx-cgen is used where it is on the path.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import thread_time

import numpy as np

import lstmc
from lstmc_c import CBackend
from lstmc_onnx.runtime import load

NETS = (("lstm", 32, 64), ("gru_reset_after", 32, 64), ("lstm", 64, 128), ("lstm", 128, 256), ("lstm", 256, 512))
ALLOWED = 0.5  # of ONNX Runtime's time
ALLOWED_EMX = 0.8  # of the time of emx-onnx-cgen's C
ROUNDS, STEPS = 200, 50

FLAGS = ("-std=gnu99", "-O3", "-march=native", "-fno-trapping-math")
MAIN = """
#include <stdio.h>
#include <time.h>
{declarations}
static double now(void) {{
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}}
int main(void) {{
  double least = 1.0;
  for (int round = 0; round < {rounds}; ++round) {{
    const double began = now();
    for (int i = 0; i < {steps}; ++i) {call};
    const double seconds = (now() - began) / {steps};
    if (seconds < least) least = seconds;
  }}
  printf("%.9g", least);
}}
"""


def measured(folder: Path, source: str, declarations: str, call: str) -> float:
    """Return the seconds of a call of a C file's function."""
    main = MAIN.format(declarations=declarations, call=call, rounds=ROUNDS, steps=STEPS)
    (folder / "main.c").write_text(main)
    subprocess.run(["gcc", *FLAGS, "main.c", source, "-o", "main", "-lm"], cwd=folder, check=True)
    return float(subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout)


def seconds_in_c(cell: str, width: int, units: int, numbers: str = "float32") -> float:
    backend = CBackend().with_options({"numbers": numbers})
    net = lstmc.compile(cell, backend=backend, outputs=["y"], N=1, D=width, H=units)
    with tempfile.TemporaryDirectory() as name:
        net.save(name)
        arrays = f"static {cell}_state state; static {cell}_work work; static float x[{width}], y[{units}];"
        return measured(Path(name), f"{cell}.c", f'#include "{cell}.h"\n{arrays}', f"{cell}_step(&state, &work, x, y)")


def seconds_in_emx(cell: str, width: int, units: int) -> float | str:
    """Return the seconds of a step in the C of emx-onnx-cgen, or why there are none."""
    program = shutil.which("emx-onnx-cgen")
    if program is None:
        return "not installed: pip install emx-onnx-cgen"
    net = lstmc.compile(cell, backend="onnx", step=True, outputs=["y"], N=1, D=width, H=units)
    with tempfile.TemporaryDirectory() as name:
        net.save(name)
        command = [program, "compile", f"{cell}.onnx", "model.c", "--large-weight-threshold", "0"]
        ended = subprocess.run([*command, "--large-temp-threshold", "0"], cwd=name, capture_output=True, text=True)
        if ended.returncode or not Path(name, "model.c").exists():
            said = re.search(r"Result: (.{0,60})", ended.stdout + ended.stderr)
            return f"refused: {said[1] if said else ended.stderr[-60:]}"
        sizes = [int(np.prod(shape)) for shape in (*net.inputs.values(), *net.outputs.values())]
        arrays = "".join(f"static float a{i}[{size}]; " for i, size in enumerate(sizes))
        return measured(
            Path(name),
            "model.c",
            f"void model({', '.join(['void *'] * len(sizes))}); {arrays}",
            f"model({', '.join(f'a{i}' for i in range(len(sizes)))})",
        )


def seconds_in_onnx_runtime(cell: str, width: int, units: int) -> float:
    net = lstmc.compile(cell, backend="onnx", step=True, outputs=["y"], N=1, D=width, H=units)
    loaded = load(net.files[net.artifact.net], threads=1)
    fed = {name: np.zeros(shape, np.float32) for name, shape in net.inputs.items()}
    least = 1.0
    for _ in range(ROUNDS):
        began = thread_time()
        for _ in range(STEPS):
            loaded.session.run(loaded.outputs, fed)
        least = min(least, (thread_time() - began) / STEPS)
    return least


def compared(ours: float, name: str, theirs: float | str, allowed: float) -> str:
    if isinstance(theirs, str):
        return f"{name} {theirs}"
    verdict = "ok" if ours <= allowed * theirs else "MISSED"
    return f"{name} {theirs * 1e6:.1f} us, {ours / theirs:.2f} of that (at most {allowed}: {verdict})"


def main() -> None:
    print("one step of one sequence, one thread:")
    for net in NETS:
        ours = seconds_in_c(*net)
        cell, width, units = net
        print(
            f"  {cell} D={width} H={units}: C {ours * 1e6:.1f} us, int8 weights"
            f" {seconds_in_c(*net, numbers='c-int8-weights') * 1e6:.1f} us;"
            f" {compared(ours, 'ONNX Runtime', seconds_in_onnx_runtime(*net), ALLOWED)};"
            f" {compared(ours, 'emx-onnx-cgen', seconds_in_emx(*net), ALLOWED_EMX)}"
        )


if __name__ == "__main__":
    main()
