"""LiteRT: nets loaded by its three sets of kernels, and executed for a comparison with the interpreter; Vela. Vela is
the compiler of Arm's Ethos-U: it reports the operators that it leaves to the CPU, and estimates cycles."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lstmc.backend import Artifact, Compiled, Execution, Executor, Finding, RunArrays
from lstmc.errors import BackendError
from lstmc.files.reading import read_file
from lstmc.manifest import Manifest, parse_manifest
from lstmc.nets.session import NetFiles
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.sequences import StepRunner
from lstmc.ops import Array
from lstmc.plugins import need, problem_with
from lstmc.verification.differential import forward_only, random_inputs
from lstmc_tflite.lowerings import write_net
from lstmc_tflite.net import litert, read_net, schema
from lstmc_tflite.numbers import FLOAT32, Numbers

# Sets of kernels, by the names that devices have for them, and the resolver of LiteRT that has each.
KERNELS: Mapping[str, str] = {
    "xnnpack": "BUILTIN",
    "litert-optimised": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "litert-reference": "BUILTIN_REF",
}


def _interpreter() -> Any:
    return litert("interpreter")


def micro() -> Any:
    """Return TFLite Micro. Raises :class:`BackendError` if it is not installed."""
    return need("tflite_micro.python.tflite_micro.runtime", "TFLite Micro", "test", BackendError)


class LiteRT:
    """A net in LiteRT, on one thread, by the names of its tensors. ``all_values``: not only the outputs can be read."""

    def __init__(self, content: bytes, kernels: str = "xnnpack", all_values: bool = False) -> None:
        package = _interpreter()
        resolver = getattr(package.OpResolverType, KERNELS[kernels])
        try:
            self._net = package.Interpreter(
                model_content=content, num_threads=1, experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=all_values,
            )  # fmt: skip
            self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"LiteRT cannot load the net: {error}") from None
        self._inputs = {each["name"]: each for each in self._net.get_input_details()}
        details = self._net.get_tensor_details() if all_values else self._net.get_output_details()
        self._outputs = {each["name"]: each for each in details}

    @property
    def names(self) -> list[str]:
        """The names of the tensors that can be read."""
        return [*self._outputs]

    def integers(self, blobs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """Return the stored numbers of tensors after one pass."""
        for name, each in self._inputs.items():
            self._net.set_tensor(each["index"], stored(blobs[name], each))
        try:
            self._net.invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"LiteRT cannot run the net: {error}") from None
        return {name: np.array(self._net.get_tensor(self._outputs[name]["index"])) for name in names}

    def forward(self, blobs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """Return the blobs of these names after one forward pass, in float32."""
        return {name: real(array, self._outputs[name]) for name, array in self.integers(blobs, names).items()}


ADVICE = "target tflite-micro has just what TFLite Micro computes"


class Micro:
    """A net in TFLite Micro, by the names of its inputs and outputs. The Python package has the reference kernels."""

    def __init__(self, content: bytes) -> None:
        model = schema().Model.GetRootAs(content)
        graph = model.Subgraphs(0)
        sizes = [int(np.prod(graph.Tensors(i).ShapeAsNumpy())) for i in range(graph.TensorsLength())]
        try:
            self._net = micro().Interpreter.from_bytes(content, arena_size=2**20 + 32 * sum(sizes))
        except RuntimeError as error:
            raise BackendError(f"TFLite Micro cannot load the net: {error}", notes=[ADVICE]) from None
        self._inputs = [graph.Tensors(graph.Inputs(i)).Name().decode() for i in range(graph.InputsLength())]
        self._outputs = [graph.Tensors(graph.Outputs(i)).Name().decode() for i in range(graph.OutputsLength())]

    def integers(self, blobs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        for place, name in enumerate(self._inputs):
            self._net.set_input(stored(blobs[name], _details(self._net.get_input_details(place))), place)
        try:
            self._net.invoke()
        except RuntimeError as error:
            raise BackendError(f"TFLite Micro cannot run the net: {error}", notes=[ADVICE]) from None
        return {name: np.array(self._net.get_output(self._outputs.index(name))) for name in names}

    def forward(self, blobs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        details = [_details(self._net.get_output_details(place)) for place in range(len(self._outputs))]
        of_name = dict(zip(self._outputs, details, strict=True))
        return {name: real(array, of_name[name]) for name, array in self.integers(blobs, names).items()}


def loaded(content: bytes, kernels: str) -> LiteRT | Micro:
    """Return a net in the runtime that has this set of kernels."""
    return Micro(content) if kernels == "tflm" else LiteRT(content, kernels)


def _details(micro: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type and the scale of a tensor of TFLite Micro in the form of LiteRT's details."""
    numbers = micro["quantization_parameters"]
    pair = [*map(float, numbers["scales"][:1]), *map(int, numbers["zero_points"][:1])]
    return {"dtype": micro["dtype"], "quantization": pair or [0.0, 0]}


def stored(array: Array, details: Mapping[str, Any]) -> Array:
    """Return an array as a tensor stores it: as integers if the tensor has a scale, or else as float32."""
    dtype, (scale, zero) = details["dtype"], details["quantization"]
    if not scale:
        return np.asarray(array, dtype)
    limits = np.iinfo(dtype)
    integers = np.rint(np.asarray(array, np.float64) / np.float64(np.float32(scale))) + zero
    clipped: Array = np.clip(integers, limits.min, limits.max).astype(dtype)
    return clipped


def real(array: Array, details: Mapping[str, Any]) -> Array:
    """Return the numbers of a tensor in float32."""
    scale, zero = details["quantization"]
    if not scale:
        return np.asarray(array, np.float32)
    numbers: Array = (array.astype(np.float64) - zero) * np.float64(np.float32(scale))
    return numbers.astype(np.float32)


@contextmanager
def loaded_net(files: NetFiles, gpu: bool) -> Iterator[LiteRT]:
    """Yield a written net in LiteRT. Raises :class:`BackendError` for a GPU, and for weights of another file."""
    if gpu:
        raise BackendError(f"{files.net}: LiteRT runs it on the CPU here")
    if files.weights != files.net:
        raise BackendError(f"{files.weights}: a .tflite net has its weights in it: compile it again with these weights")
    yield LiteRT(read_file(files.net))


INSIDE = "it is no tensor of the net, or a part of one"
STEPS = 20  # carried steps of a net in integers, each to the bit


@dataclass(frozen=True)
class TfliteExecutor(Executor):
    """One step in LiteRT, by XNNPACK where possible; in integers also a stream of steps with carried states."""

    numbers: Numbers = FLOAT32
    name = "tflite-cpu"
    kernels: ClassVar[str] = "xnnpack"

    def unavailable(self) -> str | None:
        return problem_with(micro if self.kernels == "tflm" else _interpreter)

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run one step: the outputs of the net as written, and for float32 in LiteRT every value that is a tensor."""
        graph, content = compiled.expanded, artifact.files[artifact.net]
        manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
        rounding, net = self.numbers.rounding(compiled, self.kernels), loaded(content, self.kernels)
        values = arrays.fed(graph)
        fed = manifest.fed(values)
        if rounding is None and isinstance(net, LiteRT):
            values |= kept_values(compiled, content, fed, arrays.weights)
        results = net.forward(fed, manifest.output_blobs)
        values |= {graph.value_name(o.ref): manifest.outputs[o.name].read(results) for o in graph.outputs}
        if rounding is not None:  # the very integers, and no difference of float32
            values |= rounding.on_grids(values)
        within = FLOATS if rounding is None else WIDE_FLOATS if wide_floats(content, self.kernels) else 0.0
        return forward_only(
            compiled, arrays, values, INSIDE, "a TFLite net", tolerance=within, files=artifact.run_files,
            rounding=rounding or self.numbers.half_weights(compiled),
            exact={} if rounding is None else streamed(compiled, manifest, net, arrays, rounding, within),
        )  # fmt: skip


class ReferenceExecutor(TfliteExecutor):
    """One step in LiteRT, by its reference kernels."""

    name = "tflite-reference"
    kernels: ClassVar[str] = "litert-reference"


class MicroExecutor(TfliteExecutor):
    """One step in TFLite Micro, by its reference kernels."""

    name = "tflm"
    kernels: ClassVar[str] = "tflm"


FLOATS = 4e-6  # the tolerance of float32: sums in another order, and XNNPACK's own exp and tanh
WIDE_FLOATS = 1e-3
ROUNDED = {"EXP", "LOG", "SIN", "COS", "POW", "TANH", "LOGISTIC"}  # to about one last bit, by the C library


def wide_floats(content: bytes, kernels: str) -> bool:
    """Return whether a net rounds functions of float32 to 16 bits, so that their last bit may change an integer. Roots
    and quotients count for XNNPACK alone: all other kernels give the nearest float32."""
    operators = read_net(content).operators
    floats = [o for o in operators if o.inputs and o.inputs[0].dtype == "float32"]
    seen = any(o.code == "QUANTIZE" and o.outputs[0].dtype == "int16" for o in floats)
    return seen and (kernels == "xnnpack" or any(o.code in ROUNDED for o in floats))


def kept_values(
    compiled: Compiled, content: bytes, fed: Mapping[str, Array], weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Return by name the values of a pass in which LiteRT keeps every tensor."""
    graph, written = compiled.expanded, write_net(compiled, weights)
    kept = {*written.net.tensors}
    names = {ref: tensor.name for ref, tensor in written.tensors.items() if tensor in kept}
    arrays = LiteRT(content, "litert-optimised", all_values=True).forward(fed, names.values())
    return {graph.value_name(ref): arrays[name].reshape(graph.type(ref).shape) for ref, name in names.items()}


def streamed(
    compiled: Compiled, manifest: Manifest, net: LiteRT | Micro, arrays: RunArrays, rounding: IntegerRounding,
    within: float,
) -> dict[str, tuple[Array, Array]]:  # fmt: skip
    """Return for each output two arrays of a stream of steps: from the interpreter, and from the net. Before each step
    the interpreter takes the net's states. Differences up to ``within`` times the largest number count as equal."""
    runner = StepRunner(compiled, arrays.weights, rounding)
    states = {pair.before: pair.after for pair in compiled.states or ()}
    first = arrays.fed(compiled.expanded)
    current = {name: first[name] for name in states}
    pairs: dict[str, list[tuple[Array, Array]]] = {}
    for step in range(STEPS):
        runner.resume({pair.name: current[pair.before] for pair in runner.states})
        inputs = replace(arrays, inputs={**random_inputs(compiled, step), **current}).fed(compiled.expanded)
        values, blobs = runner.step(inputs), net.forward(manifest.fed(inputs), manifest.output_blobs)
        found = {o.name: manifest.outputs[o.name].read(blobs) for o in compiled.expanded.outputs}
        for output in compiled.expanded.outputs:
            grid = rounding.grid(output.ref)
            both = values[output.ref], found[output.name]
            one, other = (grid.rounded(each.astype(np.float64)) if grid else each for each in both)
            other = np.where(np.abs(one - other) <= within * np.abs(one).max(), one, other)
            pairs.setdefault(f"{STEPS} steps of {output.name}", []).append((one, other))
        current = {before: found[after] for before, after in states.items()}
    return {name: (np.stack([a for a, _ in each]), np.stack([b for _, b in each])) for name, each in pairs.items()}


def findings() -> Iterator[Finding]:
    """Yield the installed runtimes, all of which are optional."""
    yield Finding.of("LiteRT", _interpreter, lambda _: version("ai-edge-litert"), "TFLite")
    yield Finding.of("TFLite Micro", micro, lambda _: version("tflite-micro"), "TFLite")


NPUS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")


def _vela() -> Any:
    return need("ethosu.vela", "Vela", "vela", BackendError)


@dataclass(frozen=True)
class VelaReport:
    """Vela's report on a net: the first results of operators that stay on the CPU, the number of operators on the NPU,
    and the cycles of a pass by Vela's default system configuration."""

    npu: str
    on_cpu: tuple[str, ...]
    on_npu: int
    cycles: int

    def __str__(self) -> str:
        left = f"{len(self.on_cpu)} on the CPU ({', '.join(self.on_cpu)})" if self.on_cpu else "none on the CPU"
        return f"{self.npu}: {self.on_npu} operators on the NPU, {left}, {self.cycles} cycles"


def vela_report(content: bytes, npu: str) -> VelaReport:
    """Compile a net by Vela, and return its report. Raises :class:`BackendError` with Vela's message if it fails."""
    _vela()
    with tempfile.TemporaryDirectory(prefix="lstmc-") as name:
        folder = Path(name)
        (folder / "net.tflite").write_bytes(content)
        command = [sys.executable, "-P", "-m", "ethosu.vela", "net.tflite", "--accelerator-config", npu]
        done = subprocess.run(
            [*command, "--output-dir", "out"], cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
        made = folder / "out" / "net_vela.tflite"
        if done.returncode != 0 or not made.exists():
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise BackendError(f"Vela does not compile the net for {npu}", notes=lines[-6:])
        operators = read_net(made.read_bytes()).operators
        (table,) = (folder / "out").glob("*_summary_*.csv")
        row = [*csv.DictReader(table.read_text(encoding="utf-8").splitlines())][-1]
        found = re.search(r"NPU operators = (\d+)", done.stdout)
        on_cpu = tuple(operator.outputs[0].name for operator in operators if operator.code != "CUSTOM")
        return VelaReport(npu, on_cpu, int(found[1]) if found else 0, round(float(row["cycles_total"])))


@dataclass(frozen=True)
class VelaExecutor(ReferenceExecutor):
    """Vela for three NPUs, each of which must take the whole net; the net itself runs in LiteRT."""

    name = "vela"

    def unavailable(self) -> str | None:
        if not self.numbers.integers:
            return "Vela leaves a net in float32 to the CPU: expected integers, by numbers=a8w8 and ranges=FILE"
        return problem_with(_vela) or super().unavailable()

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run one step in LiteRT; for each NPU the number of operators left to the CPU is compared with 0."""
        reports = [vela_report(artifact.files[artifact.net], npu) for npu in NPUS]
        left = {str(each): (np.zeros(1), np.array([float(len(each.on_cpu))])) for each in reports}
        found = super().run(compiled, artifact, arrays)
        return replace(found, exact={**found.exact, **left})
