#!/usr/bin/python3
"""nvcc for an emulated device: compiles CUDA for the host, by g++. It takes the options that lstmc gives nvcc."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

INCLUDE = Path(__file__).resolve().parents[1] / "include"
OWN = ("-DEMULATED_NVCC", "-isystem", str(INCLUDE), "-include", "cuda_runtime.h", "-x", "c++")
BRACKETS = {"(": ")", "{": "}", "<": ">"}


def version() -> str:
    """Return nvcc's line of the version, and a digest of the headers that its code is compiled with."""
    content = b"".join(path.read_bytes() for path in sorted(INCLUDE.rglob("*.h")))
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"lstmc's nvcc for an emulated device, {digest}\nCuda compilation tools, release 13.0"


def matching(code: str, start: int, step: int = 1) -> int:
    """Return the index of the bracket that matches the one at ``start``, searching in the direction of ``step``."""
    opening = code[start]
    closing = BRACKETS[opening] if step > 0 else next(left for left, right in BRACKETS.items() if right == opening)
    depth, at = 0, start
    while True:
        depth += {opening: 1, closing: -1}.get(code[at], 0)
        if depth == 0:
            return at
        at += step


def run_start(code: str, end: int, belongs: Callable[[str], object]) -> int:
    """Return the start of the run of characters that ends at ``end`` and for all of which ``belongs`` is true."""
    while belongs(code[end - 1]):
        end -= 1
    return end


def translated_launches(code: str) -> str:
    """Rewrite ``kernel<T><<<grid, block>>>(arguments)`` as a call of an ``emulated::Launch``."""
    done, parts = 0, []
    for launch in re.finditer(r"<<\s*<", code):
        end = run_start(code, launch.start(), str.isspace)
        start = matching(code, end - 1, -1) if code[end - 1] == ">" else end
        start = run_start(code, run_start(code, start, str.isspace), lambda character: re.match(r"[\w:]", character))
        close = re.compile(r">>\s*>\s*\(").search(code, launch.end())
        assert close is not None
        kernel, configuration = code[start:end].strip(), code[launch.end() : close.start()]
        name = kernel.partition("<")[0].strip().rpartition("::")[2]
        call = f'::emulated::Launch{{"{name}", {configuration}}}([](auto... arguments) {{ {kernel}(arguments...); }}'
        closing = matching(code, close.end() - 1)
        parts += [code[done:start], call, "," if code[close.end() : closing].strip() else ""]
        done = close.end()
    return "".join(parts) + code[done:]


def translated_kernels(code: str) -> str:
    """Remove ``__global__``, and declare each kernel to the runtime library behind its definition."""
    done, parts = 0, []
    for kernel in re.finditer(r"__global__\s+(?:(?:static|inline)\s+)*void\s+(\w+)\s*(?=\()", code):
        parts.append(code[done : kernel.start()])
        done = kernel.start() + len("__global__")
        body = matching(code, kernel.end()) + 1
        if not code[body:].lstrip().startswith("{"):
            continue  # a declaration
        end = matching(code, code.index("{", body)) + 1
        prefix = re.sub(r"\b(static|inline)\s*$", "", code[: kernel.start()].rstrip()).rstrip()
        function = "nullptr" if prefix.endswith(">") else f"reinterpret_cast<const void*>(&{kernel[1]})"
        parts += [code[done:end], f'\nstatic const ::emulated::Kernel kernel_{end}{{"{kernel[1]}", {function}}};']
        done = end
    return "".join(parts) + code[done:]


def translated_memory(code: str) -> str:
    """Rewrite shared memory: of one size as static, as one block runs at a time; of the launch's as a pointer to it."""
    pointer = r"\1* const \2 = static_cast<\1*>(::emulated::shared_memory());"
    return re.sub(r"\bextern\s+__shared__\s+(\w+)\s+(\w+)\[\];", pointer, code).replace("__shared__", "static")


def main(arguments: Sequence[str]) -> int:
    if "--version" in arguments:
        print(version())
        return 0
    compiler, preprocessing, both, output, source, rest = "g++", [], [], [], "", iter(arguments)
    for option in rest:
        if option == "-ccbin":
            compiler = next(rest)
        elif option.startswith("-Xcompiler="):
            both += option.removeprefix("-Xcompiler=").split(",")
        elif option == "-o":
            output = [option, next(rest)]
        elif option == "-include":
            preprocessing += [option, next(rest)]
        elif option.startswith(("-I", "-D")):
            preprocessing.append(option)
        elif option.endswith(".cu"):
            source = option
        elif option != "-c":
            both.append(option)
    command = [compiler, "-E", *OWN, *preprocessing, *both, source]
    preprocessed = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8")
    if preprocessed.returncode:
        return preprocessed.returncode
    code = translated_launches(translated_kernels(translated_memory(preprocessed.stdout)))
    command = [compiler, *both, "-x", "c++-cpp-output", "-c", "-", *output]
    return subprocess.run(command, input=code, encoding="utf-8").returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
