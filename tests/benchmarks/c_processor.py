"""What a step in C costs on a Cortex-M4: bytes of code and constants, bytes of stack, and instructions.

python -m tests.benchmarks.c_processor: by arm-none-eabi-gcc -O2 and -O3, size, -fstack-usage, and qemu-arm, which
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

NETS = (("gru", 32, 64), ("lstm", 32, 64))
NUMBERS = ("float32", "c-int8-weights", "c-a16w8", "c-a8w8")
COMPILER = "arm-none-eabi-gcc"
FLAGS = ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-mthumb", "-std=c99")
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


def instructions(folder: Path, cell: str, level: str, steps: int) -> int:
    """Return the instructions of a program of so many steps."""
    command = [COMPILER, *FLAGS, level, f"-DSTEPS={steps}", "--specs=rdimon.specs", "main.c", f"{cell}.c", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    log = ["-one-insn-per-tb", "-d", "exec,nochain", "-D", "log"]
    subprocess.run(["qemu-arm", "-cpu", "cortex-m4", *log, "main"], cwd=folder, check=True)
    with (folder / "log").open("rb") as lines:
        return sum(1 for _ in lines)


def costs(cell: str, width: int, units: int, numbers: str, level: str) -> str:
    data = {"x": np.random.default_rng(0).normal(size=(100, 4, width))}
    exact = lstmc.compile(cell, backend="c", outputs=["y"], N=1, D=width, H=units)
    chosen = Numbers.of(numbers, exact.ranges(data) if numbers.startswith("c-a") else None)
    net = lstmc.compile(
        cell, backend=CBackend(chosen), outputs=["y"], N=1, D=width, H=units, weights=dict(exact.weights)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net.save(folder)
        x, y = re.findall(r"step\(.*?const (\w+) \*x, (\w+) \*y\)", net.files[f"{cell}.h"].decode())[0]
        (folder / "main.c").write_text(MAIN.format(cell=cell, x=x, y=y, inputs=width, outputs=units))
        compiled = [COMPILER, *FLAGS, level, "-fstack-usage", "-c", f"{cell}.c"]
        subprocess.run(compiled, cwd=folder, check=True)
        listed = subprocess.run(
            ["arm-none-eabi-size", "-A", f"{cell}.o"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
        sections = {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", listed, re.M)}
        code = sum(size for name, size in sections.items() if name.startswith(".text"))
        constants = sum(size for name, size in sections.items() if name.startswith(".rodata"))
        stack = sum(int(size) for size in re.findall(r"\t(\d+)\t", (folder / f"{cell}.su").read_text()))
        few, many = (instructions(folder, cell, level, steps) for steps in (2, 4))
    return f"code {code} B, constants {constants} B, stack at most {stack} B, {(many - few) // 2:,} instructions a step"


def main() -> None:
    missing = [program for program in (COMPILER, "qemu-arm") if shutil.which(program) is None]
    if missing:
        print(
            f"not measured on a Cortex-M4: {', '.join(missing)} not found: apt-get install gcc-arm-none-eabi qemu-user"
        )
        return
    print("one step on a Cortex-M4:")
    for cell, width, units in NETS:
        for numbers in NUMBERS:
            for level in ("-O2", "-O3"):
                print(f"  {cell} D={width} H={units} {numbers} {level}: {costs(cell, width, units, numbers, level)}")


if __name__ == "__main__":
    main()
