"""What a step in C costs on Cortex-M4, M33 and M0: code, constants, stack, instructions; a table of docs/c.md.

python -m tests.on_demand.benchmarks.c_processor: by arm-none-eabi-gcc -O2, size, -fstack-usage, and qemu-arm, which
counts the instructions of two and of four steps. Where these are missing it says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import lstmc
from lstmc_c import CBackend
from lstmc_c.numbers import Numbers
from tests.on_demand.benchmarks import setting
from tests.on_demand.fuzz.c_models import MACHINES, Machine

NETS = (("gru", 32, 32), ("gru", 32, 64), ("lstm", 32, 32), ("lstm", 32, 64))
NUMBERS = ("float32", "c-int8-weights", "c-a16w8", "c-a8w8")
PROCESSORS = {"M4": MACHINES["cortex-m4"], "M33": MACHINES["cortex-m33"], "M0": MACHINES["cortex-m0"]}
MAIN = """
#include "{cell}.h"
int main(void) {{
  static {cell}_state state;
  static {cell}_work work;
  static {x} x[{inputs}];
  static {y} y[{outputs}];
  {cell}_reset(&state);
  for (int i = 0; i < STEPS; ++i) {cell}_step(&state, &work, x, y);
  return 0;
}}
"""


def instructions(folder: Path, cell: str, machine: Machine, steps: int) -> int:
    """Return the instructions of a program of so many steps."""
    command = [*machine.compiler, "-std=c99", f"-DSTEPS={steps}", "main.c", f"{cell}.c", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    log = ["-one-insn-per-tb", "-d", "exec,nochain", "-D", "log"]
    subprocess.run([*machine.runner, *log, "main"], cwd=folder, check=True)
    with (folder / "log").open("rb") as lines:
        return sum(1 for _ in lines)


def costs(cell: str, width: int, units: int, numbers: str) -> str:
    """Return the cells of a row: bytes of constants; of each processor bytes of code and of stack, and instructions."""
    data = {"x": np.random.default_rng(0).normal(size=(100, 4, width))}
    exact = lstmc.compile(cell, backend="c", outputs=["y"], N=1, D=width, H=units)
    chosen = Numbers.of(numbers, exact.ranges(data) if numbers.startswith("c-a") else None)
    net = lstmc.compile(
        cell, backend=CBackend(chosen), outputs=["y"], N=1, D=width, H=units, weights=dict(exact.weights)
    )
    cells: list[str] = []
    for machine in PROCESSORS.values():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            net.save(folder)
            x, y = re.findall(r"step\(.*?const (\w+) \*x, (\w+) \*y\)", net.files[f"{cell}.h"].decode())[0]
            (folder / "main.c").write_text(MAIN.format(cell=cell, x=x, y=y, inputs=width, outputs=units))
            compiled = [*machine.compiler, "-std=c99", "-fstack-usage", "-c", f"{cell}.c"]
            subprocess.run(compiled, cwd=folder, check=True)
            listed = subprocess.run(
                ["arm-none-eabi-size", "-A", f"{cell}.o"], cwd=folder, capture_output=True, text=True, check=True
            ).stdout
            sections = {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", listed, re.M)}
            code = sum(size for name, size in sections.items() if name.startswith(".text"))
            constants = sum(size for name, size in sections.items() if name.startswith(".rodata"))
            stack = sum(int(size) for size in re.findall(r"\t(\d+)\t", (folder / f"{cell}.su").read_text()))
            few, many = (instructions(folder, cell, machine, steps) for steps in (2, 4))
        cells = cells or [f"{constants / 1000:.1f} kB"]
        cells += [f"{code / 1000:.1f} kB", f"{stack} B", f"{(many - few) // 2:,}"]
    return " | ".join(cells)


def main() -> None:
    missing = [program for program in ("arm-none-eabi-gcc", "qemu-arm") if shutil.which(program) is None]
    if missing:
        print(f"not measured: {', '.join(missing)} not found: apt-get install gcc-arm-none-eabi qemu-user")
        return
    columns = [f"{name}: {column}" for name in PROCESSORS for column in ("code", "stack", "instructions")]
    print(f"| net | numbers | constants | {' | '.join(columns)} |")
    print("|---" * (3 + len(columns)) + "|")
    for cell, width, units in setting.rows(NETS):
        for numbers in setting.rows(NUMBERS):
            costs_text = costs(cell, width, units, numbers)
            print(f"| `{cell}` D={width} H={units} | `{numbers}` | {costs_text} |", flush=True)


if __name__ == "__main__":
    main()
