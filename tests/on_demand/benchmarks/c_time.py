"""The time of one step in C, of one sequence on one thread, against ONNX Runtime, and against other generators of C.

python -m tests.on_demand.benchmarks.c_time: compiled by gcc -O3 -march=native -fno-trapping-math. Times are of the
processor, so that other processes disturb them less. emx-onnx-cgen and onnx2c are used where they are on the path,
keras2c where ``--keras2c`` names a Python that has it and TensorFlow, and the folder ``include`` of its repository,
which no package has. What no kernel can be faster than is the time to read the weights, which is measured too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import thread_time

import numpy as np

import lstmc
from lstmc_c import CBackend
from lstmc_onnx.runtime import load
from tests.on_demand.benchmarks import setting

NETS = (("lstm", 32, 64), ("gru_reset_after", 32, 64), ("lstm", 64, 128), ("lstm", 128, 256), ("lstm", 256, 512))
ALLOWED = 0.5  # of ONNX Runtime's time
ALLOWED_IN_C = 0.8  # of the time of the C of other generators
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
  {begin}
  for (int round = 0; round < {rounds}; ++round) {{
    const double began = now();
    for (int i = 0; i < {steps}; ++i) {call};
    const double seconds = (now() - began) / {steps};
    if (seconds < least) least = seconds;
  }}
  printf("%.9g", least);
}}
"""


def measured(
    folder: Path, sources: Sequence[str], declarations: str, call: str, begin: str = "", rounds: int = ROUNDS
) -> float:
    """Return the least seconds of a call of a function in C files, after the statements of ``begin``."""
    main = MAIN.format(declarations=declarations, call=call, rounds=rounds, steps=STEPS, begin=begin)
    (folder / "main.c").write_text(main)
    subprocess.run(["gcc", *FLAGS, "-w", "main.c", *sources, "-o", "main", "-lm"], cwd=folder, check=True)
    return measured_again(folder)


def measured_again(folder: Path) -> float:
    """Return the seconds of the call that was measured in a folder."""
    return float(subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout)


def seconds_in_c(cell: str, width: int, units: int, numbers: str = "float32") -> float:
    backend = CBackend().with_options({"numbers": numbers})
    net = lstmc.compile(cell, backend=backend, outputs=["y"], N=1, D=width, H=units)
    with tempfile.TemporaryDirectory() as name:
        net.save(name)
        arrays = f"static {cell}_state state; static {cell}_work work; static float x[{width}], y[{units}];"
        return measured(
            Path(name), [f"{cell}.c"], f'#include "{cell}.h"\n{arrays}', f"{cell}_step(&state, &work, x, y)"
        )


READING = """
static const unsigned weights[{count}] = {{1}};
static volatile unsigned result;
static void reading(const volatile unsigned *first) {{
  unsigned sum = *first;  // integers, whose sum compilers take in vectors
  for (int i = 1; i < {count}; ++i) sum += weights[i];
  result = sum;
}}
"""


def seconds_of_reading(cell: str, width: int, units: int) -> float:
    """Return the seconds in which as many numbers are added up as a net has weights."""
    net = lstmc.compile(cell, backend="c", outputs=["y"], N=1, D=width, H=units)
    count = sum(array.size for array in net.weights.values())
    with tempfile.TemporaryDirectory() as name:
        return measured(Path(name), [], READING.format(count=count), "reading(weights)")


ONNX_TO_C = {  # the command for a file, and the function that it writes to model.c or to its output
    "emx-onnx-cgen": (
        ("compile", "{}", "model.c", "--large-weight-threshold", "0", "--large-temp-threshold", "0"),
        "model",
    ),
    "onnx2c": (("{}",), "entry"),
}


def seconds_from_onnx(generator: str, cell: str, width: int, units: int) -> float | str:
    """Return the seconds of a step in the C that a program makes from an ONNX file, or why there are none."""
    program = shutil.which(generator)
    if program is None:
        return "not on the path"
    net = lstmc.compile(cell, backend="onnx", step=True, outputs=["y"], N=1, D=width, H=units)
    arguments, function = ONNX_TO_C[generator]
    with tempfile.TemporaryDirectory() as name:
        net.save(name)
        command = [program, *(each.format(f"{cell}.onnx") for each in arguments)]
        ended = subprocess.run(command, cwd=name, capture_output=True, text=True)
        source = Path(name, "model.c")
        if ended.returncode == 0 and not source.exists():
            source.write_text(ended.stdout)
        if ended.returncode:
            said = re.search(r"(?:Result|Unimplemented|ERROR|Fatal).{0,60}", ended.stdout[-2000:] + ended.stderr)
            return f"refuses it: {said[0] if said else ended.stderr[-60:].strip()}"
        sizes = [int(np.prod(shape)) for shape in (*net.inputs.values(), *net.outputs.values())]
        arrays = "".join(f"static float a{i}[{size}]; " for i, size in enumerate(sizes))
        declarations = f"void {function}({', '.join(['void *'] * len(sizes))}); {arrays}"
        return measured(
            Path(name), ["model.c"], declarations, f"{function}({', '.join(f'a{i}' for i in range(len(sizes)))})"
        )


KERAS = """
import sys
from keras2c import k2c
from keras2c.backend import keras
kind, width, units = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
layer = keras.layers.LSTM(units, stateful=True) if kind == "lstm" else keras.layers.GRU(units, stateful=True)
k2c(keras.Sequential([keras.Input(batch_shape=(1, 1, width)), layer]), "net", malloc=True, num_tests=1)
"""


def seconds_in_keras2c(programs: Sequence[str], cell: str, width: int, units: int) -> float | str:
    """Return the seconds of a step in the C of keras2c, or why there are none."""
    if not programs:
        return "not named by --keras2c"
    python, include = programs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "generate.py").write_text(KERAS)
        command = [python, "generate.py", cell.partition("_")[0], str(width), str(units)]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if ended.returncode:
            return f"refuses it: {ended.stderr[-60:].strip()}"
        shutil.copytree(include, folder / "include")
        names = re.findall(r"float\* (\w+)", (folder / "net.h").read_text().partition("void net_initialize")[0])
        weights = "".join(f"static float *{each}; " for each in names)
        tensors = f"""
        #include "net.h"
        static float x[{width}], y[{units}];
        static k2c_tensor in = {{x, 2, {width}, {{1, {width}, 1, 1, 1}}}};
        static k2c_tensor out = {{y, 1, {units}, {{{units}, 1, 1, 1, 1}}}};
        {weights}"""
        sources = ["net.c", *(f"include/{path.name}" for path in (folder / "include").glob("*.c"))]
        begin = f"net_initialize({', '.join(f'&{each}' for each in names)});"
        return measured(folder, sources, tensors, f"net(&in, &out, {', '.join(names)})", begin)


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
        return f"{name} {theirs}"  # why there is none
    verdict = "ok" if ours <= allowed * theirs else "MISSED"
    return f"{name} {theirs * 1e6:.1f} us, {ours / theirs:.2f} of that (at most {allowed}: {verdict})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.on_demand.benchmarks.c_time")
    parser.add_argument("--quick", action="store_true", help="the first two nets")
    parser.add_argument("--smallest", action="store_true", help="the first net")
    parser.add_argument("--keras2c", nargs=2, default=(), metavar=("PYTHON", "INCLUDE"))
    options = parser.parse_args()
    print("one step of one sequence, one thread:")
    for net in setting.rows(NETS, quick=NETS[:2]):
        ours = seconds_in_c(*net)
        cell, width, units = net
        print(
            f"  {cell} D={width} H={units}: C {ours * 1e6:.1f} us, int8 weights"
            f" {seconds_in_c(*net, numbers='c-int8-weights') * 1e6:.1f} us, its weights are read in"
            f" {seconds_of_reading(*net) * 1e6:.1f} us"
        )
        print(f"    {compared(ours, 'ONNX Runtime', seconds_in_onnx_runtime(*net), ALLOWED)}")
        for generator in ONNX_TO_C:
            print(f"    {compared(ours, generator, seconds_from_onnx(generator, *net), ALLOWED_IN_C)}")
        print(f"    {compared(ours, 'keras2c', seconds_in_keras2c(options.keras2c, *net), ALLOWED_IN_C)}", flush=True)


if __name__ == "__main__":
    main()
