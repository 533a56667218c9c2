"""``python -m tests.on_demand.fuzz.c_models 10000``: random models in C, under warnings and sanitizers.

Many nets are one program, which gives every array just the memory that it should need. Each model is compiled as one
step, and, where it has none, as all steps. Every failure is printed with its seed. ``--on`` says what compiles and runs
them: gcc, clang, or the compiler for Cortex-M4, M33 or M0 and qemu.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from lstmc.api.models import keep_outputs
from lstmc.backend import Artifact, Backend, Compiled, Execution, RunArrays
from lstmc.errors import LstmcError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph, Output, Ref, Scan
from lstmc.manifest import Manifest, parse_manifest
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Op
from lstmc.passes import Pass
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.verification.differential import check, random_arrays
from lstmc.weights import random_weights
from lstmc_c import CBackend
from lstmc_c.artifact import STATE
from lstmc_c.backend import STEPS, blobs_of_each_step, call_source, execution, first_states
from lstmc_c.code import OPS
from lstmc_c.numbers import FLOAT32, Numbers
from tests.on_demand.fuzz.trial import generic
from tests.random_models.models import seeded_model

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
BATCH = 40  # nets of one program
STATIC = re.compile(r"^static [^=({;[]*?(\w+)[=(;[]", re.MULTILINE)
MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Machine:
    """What compiles a program, and what runs it."""

    compiler: tuple[str, ...] = ("gcc",)
    runner: tuple[str, ...] = ()


def _arm(processor: str, unit: str = "") -> Machine:
    """Return a processor with a floating-point unit, or without one."""
    floats = (f"-mfpu={unit}", "-mfloat-abi=hard") if unit else ("-mfloat-abi=soft",)
    flags = (f"-mcpu={processor}", *floats, "-mthumb", "-O2", "--specs=rdimon.specs")
    return Machine(("arm-none-eabi-gcc", *flags), ("qemu-arm", "-cpu", processor))


MACHINES = {
    # -Og, and calls rather than checks in line, compile in less than half of the time of -O1
    "gcc": Machine(("gcc", *SANITIZERS, "-Og", "--param=asan-instrumentation-with-call-threshold=0")),
    "clang": Machine(("clang", *SANITIZERS, "-O1")),
    "cortex-m4": _arm("cortex-m4", "fpv4-sp-d16"),
    "cortex-m33": _arm("cortex-m33", "fpv5-sp-d16"),
    "cortex-m0": _arm("cortex-m0"),
}

MAIN = """\
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void run(void (*call)(const float *const *, float *const *), const size_t *in, const size_t *out) {
  static float *arrays[1000];
  size_t inputs = 0, outputs = 0, i;
  for (; in[inputs]; ++inputs) {
    arrays[inputs] = malloc(in[inputs] * sizeof(float));
    if (fread(arrays[inputs], sizeof(float), in[inputs], stdin) != in[inputs]) exit(3);
  }
  for (; out[outputs]; ++outputs) arrays[inputs + outputs] = malloc(out[outputs] * sizeof(float));
  call((const float *const *)arrays, arrays + inputs);
  for (i = 0; i < outputs; ++i) fwrite(arrays[inputs + i], sizeof(float), out[i], stdout);
  for (i = 0; i < inputs + outputs; ++i) free(arrays[i]);
}
static float number(int kind, size_t i) {
  const float numbers[] = {0.25f * (float)(i * 7 % 9) - 1.0f, 0.0f, 1e-42f, 3e38f, (float)INFINITY, (float)NAN};
  return i % 2 && kind > 1 ? -numbers[kind] : numbers[kind];
}
// After a reset, steps of all kinds of numbers give what a block gives, to the bit. Writes the states after a reset.
static void stream(void (*const calls[])(const float *const *, float *const *), const size_t *in, const size_t *out) {
  static float *fed[1000], *results[2][1000];
  for (int kind = 0; kind < 6; ++kind) {
    size_t inputs = 0, outputs = 0, i;
    for (; in[inputs]; ++inputs) {
      fed[inputs] = malloc(in[inputs] * sizeof(float));
      for (i = 0; i < in[inputs]; ++i) fed[inputs][i] = number(kind, i);
    }
    for (; out[outputs]; ++outputs)
      for (i = 0; i < 2; ++i) results[i][outputs] = calloc(out[outputs], sizeof(float));
    for (i = 0; i < 2; ++i) calls[i]((const float *const *)fed, results[i]);
    for (i = 0; i < outputs; ++i) {
      if (memcmp(results[0][i], results[1][i], out[i] * sizeof(float))) exit(4);
      if (!kind && i >= outputs / 2) fwrite(results[0][i], sizeof(float), out[i], stdout);
      free(results[0][i]);
      free(results[1][i]);
    }
    for (i = 0; i < inputs; ++i) free(fed[i]);
  }
}
// Opens a file of weights; exits where that fails, or where a damaged one opens.
static void opened(int (*opens)(const void *, size_t), const void *data, size_t size) {
  unsigned char *const damaged = malloc(size);
  for (size_t i = 0; i < size; i += size / 5 + 1) {
    memcpy(damaged, data, size);
    damaged[i] ^= 4;
    if (opens(damaged, size)) exit(5);
  }
  free(damaged);
  if (opens(data, size - 4) || !opens(data, size)) exit(6);
}
"""


@dataclass(frozen=True)
class WholeBackend(Backend):
    """The backend for a model of all steps, unrolled: what it does with ops that no step has."""

    name: ClassVar[str] = "c"
    summary: ClassVar[str] = ""
    targets: ClassVar[Mapping[str, str]] = {"c": ""}
    ops: ClassVar[tuple[type[Op], ...]] = (*OPS, Scan)

    def passes(self, target: str) -> tuple[Pass, ...]:
        return CBackend().passes(target)

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        return CBackend().emit(compiled, weights)


def inside_a_step(graph: Graph, copies: int = 1) -> Graph:
    """Return a model whose scans are loops of one step; several ``copies`` of it, whose scans can be lanes of one."""
    b, outputs = Builder(graph.name), list[Output]()
    for copy in range(copies):
        new: dict[Ref, Ref] = {}
        for node in graph:
            op = node.op
            if isinstance(op, Scan):
                op = replace(op, inside=True, reverse=op.reverse ^ (copy % 2 == 1))
            names = [f"{name}_copy{copy}" if copy else name for name in node.names]
            refs = b.add(op, *[new[ref] for ref in graph.args(node.name)], names=names, loc=node.loc)
            new.update((Ref(node.name, out), ref) for out, ref in enumerate(refs))
        outputs += [Output(f"{o.name}_copy{copy}" if copy else o.name, new[o.ref]) for o in graph.outputs]
    return b.finish(outputs)


@dataclass
class Net:
    """A compiled net, its files, and what one pass is fed."""

    compiled: Compiled
    artifact: Artifact
    weights: Mapping[str, Array]
    arrays: RunArrays
    seed: int = 0
    given: Mapping[str, Array] = field(default_factory=dict)
    numbers: Numbers = FLOAT32
    results: dict[str, Array] = field(default_factory=dict)
    first: dict[str, Array] = field(default_factory=dict)  # the states after a reset
    name = "c-cpu"

    @classmethod
    def of(
        cls,
        compiled: Compiled,
        weights: Mapping[str, Array],
        name: str,
        seed: int = 0,
        given: Mapping[str, Array] = {},
        numbers: str = "float32",
        in_file: bool = False,
    ) -> Net:
        """Write a net under another name. Integers have the ranges of the arrays that it is fed."""
        compiled = replace(compiled, name=name)
        arrays = random_arrays(compiled, weights, seed, given)
        chosen = Numbers.of(numbers, limits(compiled, arrays)) if numbers != "float32" else FLOAT32
        return cls(compiled, CBackend(chosen, in_file).emit(compiled, weights), weights, arrays, seed, given, chosen)

    @cached_property
    def manifest(self) -> Manifest:
        return parse_manifest(self.artifact.files[f"{self.compiled.name}.manifest.json"])

    def unavailable(self) -> str | None:
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """What the program gave, as an executor gives it."""
        inputs = arrays.fed(compiled.expanded)
        return execution(compiled, self.manifest, arrays, inputs, self.results, self.numbers)

    def close(self) -> None:
        pass


def limits(compiled: Compiled, arrays: RunArrays) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest of each value of a net, on these arrays."""
    values = forward(compiled.expanded, arrays.inputs, arrays.weights).by_name()
    return {name: (float(array.min()), float(array.max())) for name, array in values.items()}


def build(folder: Path, nets: Sequence[Net], machine: Machine = MACHINES["gcc"]) -> None:
    """Compile the nets as one program, ``nets``. Raises AssertionError with what the compiler says.

    All are one source, which is compiled in half of the time: names that are static get the number of their net.
    """
    table, lines = [], [MAIN]
    for i, net in enumerate(nets):
        for name, content in net.artifact.files.items():
            (folder / name).write_bytes(content)
        manifest, name = net.manifest, net.compiled.name
        each = blobs_of_each_step(net.compiled, manifest)
        call = call_source(manifest, f"call_{i}", each, STEPS)
        (folder / f"call_{i}.c").write_text(call)
        own = STATIC.findall(net.artifact.files[f"{name}.c"].decode() + call)
        lines += [f"#define {word} own_{i}_{word}" for word in dict.fromkeys(own)]
        lines += [f'#include "{name}.c"', f'#include "call_{i}.c"']
        lines += [f"#undef {word}" for word in dict.fromkeys([*own, *MACRO.findall(call)])]
        shapes = {blob: entry.place.shape for entry in manifest.inputs.values() for blob in entry.place.names}
        fed = [int(np.prod(shapes[blob])) for blob in manifest.input_blobs]
        shapes = {blob: place.shape for place in manifest.outputs.values() for blob in place.names}
        read = [int(np.prod(shapes[blob])) for blob in manifest.output_blobs]
        streamed = [
            [size * (STEPS if blob in each else 1) for blob, size in zip(blobs, sizes, strict=True)]
            for blobs, sizes in ((manifest.input_blobs, fed), (manifest.output_blobs, read))
        ]
        first = [size if blob.startswith(STATE) else 1 for blob, size in zip(manifest.output_blobs, read, strict=True)]
        table.append((fed, read, streamed[0], [*streamed[1], *first]))
        if content := net.artifact.files.get(f"{name}.bin"):
            words = ", ".join(f"{word}u" for word in np.frombuffer(content, "<u4"))
            lines.append(f"static const uint32_t data_{i}[] = {{{words}}};")
    lines += ["int main(void) {", "  (void)opened;"]
    for i, (net, sizes) in enumerate(zip(nets, table, strict=True)):
        arrays = [
            f"{array}[] = {{{', '.join(map(str, [*each, 0]))}}}"
            for array, each in zip(("in", "out", "more", "all"), sizes, strict=True)
        ]
        calls = (
            f"static void (*const calls[])(const float *const *, float *const *) = {{call_{i}_steps, call_{i}_block}};"
        )
        lines += ["  {", f"    static const size_t {', '.join(arrays)};", f"    {calls}"]
        if f"{net.compiled.name}.bin" in net.artifact.files:
            lines.append(f"    opened(call_{i}_open, data_{i}, sizeof data_{i});")
        lines += [f"    run(call_{i}, in, out);", "    stream(calls, more, all);", "  }"]
    lines += ["  return 0;", "}"]
    (folder / "main.c").write_text("\n".join(lines) + "\n")
    made = subprocess.run(
        [*machine.compiler, *WARNINGS, "main.c", "-o", "nets"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[:4000]


def run(folder: Path, nets: Sequence[Net], machine: Machine = MACHINES["gcc"]) -> None:
    """Run the program once: each net's ``results``. Raises AssertionError with what a sanitizer says."""
    fed = b""
    for net in nets:
        blobs = net.manifest.fed(net.arrays.fed(net.compiled.expanded))
        fed += b"".join(np.asarray(blobs[blob], "<f4").tobytes() for blob in net.manifest.input_blobs)
    ended = subprocess.run(
        [*machine.runner, folder / "nets"],
        input=fed,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert ended.returncode == 0, ended.stderr.decode()[:4000]
    results, at = np.frombuffer(ended.stdout, "<f4"), 0
    for net in nets:
        shapes = {blob: place.shape for place in net.manifest.outputs.values() for blob in place.names}
        for blob in net.manifest.output_blobs:
            size = int(np.prod(shapes[blob]))
            net.results[blob] = results[at : at + size].reshape(shapes[blob])
            at += size
        for blob in net.manifest.output_blobs:
            shape = shapes[blob] if blob.startswith(STATE) else (1,)
            size = int(np.prod(shape))
            net.first[blob] = results[at : at + size].reshape(shape)
            at += size
    assert at == results.size


def wrong(net: Net) -> list[str]:
    """The differences of a net that has run which float32 does not excuse."""
    report = check(net.compiled, net.artifact, net.weights, net, net.seed, net.given)
    rounding, compiled = net.numbers.rounding(net.compiled), net.compiled
    first = (
        [] if compiled.states is None else first_states(compiled.states, net.manifest, net.first, net.weights, rounding)
    )
    resets = [f"reset: {found} for {wanted}" for wanted, found in first if not np.array_equal(wanted, found)]
    return [*(str(one) for one in report.differences if not one.passed), *resets]


def random_net(seed: int, numbers: str = "float32") -> Net | str:
    """The net of a random model in these numbers; the reason where there is none."""
    try:
        graph = deploy_graph(seeded_model(seed, wide=seed % 2 == 1).graph())
        if numbers != "float32":  # which have no value that depends on no input
            fixed = constants(graph)
            graph = keep_outputs(graph, [o.name for o in graph.outputs if o.ref.node not in fixed] or None)
        loops = numbers == "float32" and seed % 2 == 1
        graph = inside_a_step(graph) if loops else graph
        weights = random_weights(graph, seed)
        try:
            compiled = compile_graph(graph, WholeBackend() if loops else CBackend())
        except LstmcError:
            compiled = compile_graph(graph, WholeBackend())
        return Net.of(compiled, weights, f"net_{seed}", seed, numbers=numbers, in_file=seed % 3 == 0)
    except LstmcError as error:
        return generic(error.message)


def tried(
    seeds: Sequence[int], machine: Machine = MACHINES["gcc"], numbers: str = "float32"
) -> tuple[Counter[str], list[str]]:
    """What became of the models of these seeds, and the failures."""
    outcomes: Counter[str] = Counter()
    failures = []
    nets = []
    for seed in seeds:
        try:
            net = random_net(seed, numbers)
        except Exception:
            failures.append(f"seed {seed}: {traceback.format_exc()}")
            continue
        if isinstance(net, str):
            outcomes[f"refused: {net}"] += 1
        else:
            nets.append(net)
    groups = [nets]
    while groups:
        group = groups.pop()
        with tempfile.TemporaryDirectory(prefix="lstmc-c-") as name:
            try:
                build(Path(name), group, machine)
                run(Path(name), group, machine)
            except AssertionError as error:
                if len(group) > 1:  # which of them
                    groups += [group[: len(group) // 2], group[len(group) // 2 :]]
                else:
                    failures.append(f"seed {group[0].seed}: {error}")
                continue
        for net in group:
            differences = wrong(net)
            outcomes["one step" if net.compiled.states is not None else "all steps"] += 1
            failures += [f"seed {net.seed}: {difference}" for difference in differences]
    return outcomes, failures


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.on_demand.fuzz.c_models", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("count", type=int, help="how many models")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed")
    parser.add_argument("--on", choices=MACHINES, default="gcc", help="what compiles and runs them")
    parser.add_argument("--numbers", default="float32", help="the numbers of the nets, as c-a16w8")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    failed = 0
    for first in range(options.seed, options.seed + options.count, BATCH):
        seeds = range(first, min(first + BATCH, options.seed + options.count))
        found, failures = tried(seeds, MACHINES[options.on], options.numbers)
        outcomes += found
        failed += len(failures)
        for failure in failures:
            print(failure, flush=True)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7} {outcome}")
    print(f"{failed:7} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
