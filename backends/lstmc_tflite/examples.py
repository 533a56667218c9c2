"""Programs that stream through a net: in Python by LiteRT, in C++ by TFLite Micro."""

from __future__ import annotations

import subprocess
import sys
from math import ceil, log, prod
from typing import Any

import numpy as np

from lstmc.backend import Artifact, Compiled
from lstmc.errors import BackendError
from lstmc.files.templates import text_templates
from lstmc.manifest import Manifest, parse_manifest
from lstmc.text import quoted
from lstmc.version import __version__
from lstmc_tflite.net import Net, read_net, words
from lstmc_tflite.runtime import micro

_TEMPLATES = text_templates("lstmc_tflite", ".")
_TEMPLATES.filters["quoted"] = quoted
BYTES = {"float32": 4, "int8": 1, "int16": 2}
PER_LINE = 16
# In another process, which an arena that is too small may end.
LOADS = (
    "import sys; from tflite_micro.python.tflite_micro import runtime;"
    "runtime.Interpreter.from_bytes(sys.stdin.buffer.read(), arena_size=int(sys.argv[1])).invoke()"
)
SMALLEST, LARGEST, STEP = 2**10, 2**26, 1.1  # bytes of an arena, and the factor between two that are tried


def example(compiled: Compiled, artifact: Artifact, language: str) -> dict[str, bytes]:
    """Return a program by file name, for C++ with a header of the net as an array. Raises :class:`BackendError` for
    another language, and for a net that is not one step."""
    if compiled.states is None or language not in ("python", "cpp"):
        wanted = "a net of one step" if compiled.states is None else "python or cpp"
        raise BackendError(f"no program for {compiled.name} in {language}: expected {wanted}")
    manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
    net, content = read_net(artifact.files[artifact.net]), artifact.files[artifact.net]
    values = _values(compiled, manifest, net)
    if language == "python":
        return {f"{compiled.name}_stream.py": _TEMPLATES.get_template("stream.py.j2").render(values).encode()}
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in compiled.name)
    values |= {"identifier": f"lstmc_{name}_net", **_arena(content, net)}
    return {
        f"{compiled.name}_stream.cc": _TEMPLATES.get_template("stream.cc.j2").render(values).encode(),
        f"{compiled.name}_data.h": _array(values["identifier"], content).encode(),
    }


def _values(compiled: Compiled, manifest: Manifest, net: Net) -> dict[str, Any]:
    """Return the values for the example's templates; indices are among the tensors that the net reads or writes."""
    fed, read = list(net.inputs), list(net.outputs)
    states: list[dict[str, Any]] = [
        {
            "name": name,
            "first": None if isinstance(state.initial, str) else state.initial,
            "flat": [f"{x:.9g}f" for x in np.ravel(state.initial)] if isinstance(state.initial, list) else [],
            "before": state.input,
            "after": state.output,
            "input": fed.index(manifest.inputs[state.input].place.names[0]),
            "output": read.index(manifest.outputs[state.output].names[0]),
        }
        for name, state in (manifest.states or {}).items()
        if manifest.inputs[state.input].place.names
    ]
    before, after = ({state[end] for state in states} for end in ("before", "after"))
    inputs = [name for name, entry in manifest.inputs.items() if name not in before and entry.place.names]
    outputs = [name for name in manifest.outputs if name not in after]
    tensors = list(net.inputs.values())
    return {
        "name": compiled.name, "version": __version__, "inputs": inputs, "outputs": outputs, "states": states,
        "asked": [state["name"] for state in states if state["first"] is None], "delays": compiled.delays,
        "fed": [fed.index(manifest.inputs[name].place.names[0]) for name in inputs],
        "read": [read.index(manifest.outputs[name].names[0]) for name in outputs],
        "kept": sum(prod(tensors[s["input"]].shape) * BYTES[tensors[s["input"]].dtype] for s in states) or 1,
        "operators": sorted({words(o.code) for o in net.operators}),  # as TFLite Micro's resolver names them
    }  # fmt: skip


def _arena(content: bytes, net: Net) -> dict[str, Any]:
    """Return the bytes of the least arena in which TFLite Micro runs a net, by bisection; an estimate if not installed.
    Raises :class:`BackendError` if the largest arena is too small."""
    try:
        micro()
    except BackendError:
        sizes = [prod(tensor.shape) * BYTES.get(tensor.dtype, 4) for tensor in net.tensors]
        return {"arena": 2**14 + 4 * sum(sizes), "measured": ", an estimate: tflite-micro is not installed"}
    low, high = 0, ceil(log(LARGEST / SMALLEST, STEP))
    if not runs_in_arena(content, high):
        raise BackendError(f"TFLite Micro does not run the net in an arena of {LARGEST} bytes")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs_in_arena(content, middle) else (middle, high)
    return {"arena": _bytes(high), "measured": ", in which it ran here"}


def _bytes(step: int) -> int:
    """Return the bytes of the arena that is tried as number ``step``, each a tenth larger than the one before."""
    return ceil(SMALLEST * STEP**step / 16) * 16


def runs_in_arena(content: bytes, step: int) -> bool:
    """Return whether TFLite Micro runs a net in an arena, in a process of its own, which a small arena may end."""
    command = [sys.executable, "-P", "-c", LOADS, str(_bytes(step))]
    return subprocess.run(command, input=content, capture_output=True, check=False).returncode == 0


def _array(identifier: str, content: bytes) -> str:
    lines = [content[i : i + PER_LINE] for i in range(0, len(content), PER_LINE)]
    body = "\n".join("  " + ", ".join(f"0x{byte:02x}" for byte in line) + "," for line in lines)
    return f"#pragma once\nalignas(16) constexpr unsigned char {identifier}[] = {{\n{body}\n}};\n"
