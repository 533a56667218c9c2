"""The backend of plain C: its passes, its files, and running them on this machine by the functions that users call."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PurePath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lstmc.backend import Artifact, Compiled, Execution, Executor, Finding, RunArrays
from lstmc.errors import Argument, BackendError
from lstmc.files.reading import read_file
from lstmc.files.templates import text_templates
from lstmc.ir import Ref, Rounding, Scan, values_over_time
from lstmc.loops.native import Compiler, cached
from lstmc.manifest import Manifest, parse_manifest
from lstmc.nets.session import NetFiles, RunsFiles
from lstmc.numerics.device import Grid
from lstmc.numerics.integers import IntegerRounding
from lstmc.ops import Array, Op
from lstmc.passes import CheckOps, Cse, Dead, Expand, Pass, Simplify, fuse_linears
from lstmc.prepare import StatePair
from lstmc.process.status import gc_paused
from lstmc.verification.differential import forward_only, random_inputs
from lstmc_c.artifact import LAYOUTS, STATE, WEIGHTS, Source, artifact, is_frame, macro
from lstmc_c.code import OPS
from lstmc_c.elements import identifier
from lstmc_c.numbers import FLOAT32, Numbers, integer_type
from lstmc_c.wav import LANGUAGE, program

STEPS = 3
Pair = tuple[NDArray[Any], NDArray[Any]]


def blobs_of_each_step(compiled: Compiled, manifest: Manifest) -> frozenset[str]:
    """Return the blobs that have a value for each step. In a block of steps, these values follow one another."""
    over_time, frame = values_over_time(compiled.model), is_frame(compiled.model)
    before = {state.input for state in (manifest.states or {}).values()}
    after = {state.output for state in (manifest.states or {}).values()}
    places = [(Ref(name), entry.place) for name, entry in manifest.inputs.items() if name not in before]
    places += [
        (o.ref, manifest.outputs[o.name]) for o in compiled.model.outputs if o.name in manifest.outputs.keys() - after
    ]
    return frozenset(blob for ref, place in places if frame or ref in over_time for blob in place.names)


def compared_functions(
    compiled: Compiled, manifest: Manifest, net: Library, weights: Mapping[str, Array], rounding: Rounding | None
) -> dict[str, Pair]:
    """Return the expected and the actual result, equal to the bit, of each function of the net, by the end of its name:
    ``open`` accepts the file of weights and no damaged file; ``reset`` sets the first states; ``steps`` after a reset
    and a ``block`` give the results of single steps whose states are fed."""
    found = {"open": _opened(net)} if len(net.weights) else {}
    each = blobs_of_each_step(compiled, manifest)
    fed = [random_inputs(compiled, seed) for seed in range(STEPS)]
    steps = [manifest.fed(inputs) for inputs in fed]
    together = {blob: np.stack([step[blob] for step in steps]) if blob in each else steps[0][blob] for blob in steps[0]}
    streams = {function: net.stream(function, together) for function in ("steps", "block")}
    first = streams["steps"][0]
    if compiled.states:
        found["reset"] = _joined(first_states(compiled.states, manifest, first, weights, rounding))
    wanted, states = dict[str, list[Array]](), dict(first)
    for step in steps:
        results = net.forward({**steps[0], **{b: a for b, a in step.items() if b in each}, **states})
        states = {blob: results[blob] for blob in states}
        for blob, array in results.items():
            wanted.setdefault(blob, []).append(array)
    for function, (_, results) in streams.items():
        found[function] = _joined(
            [(np.stack(arrays if blob in each else arrays[-1:]), results[blob]) for blob, arrays in wanted.items()]
        )
    return found | (_conversions(compiled, manifest, net, rounding) if isinstance(rounding, IntegerRounding) else {})


def _conversions(compiled: Compiled, manifest: Manifest, net: Library, rounding: IntegerRounding) -> dict[str, Pair]:
    """Return a pair of expected and actual numbers for each function that rounds an input or scales an output."""
    states = {name for state in (manifest.states or {}).values() for name in (state.input, state.output)}
    places = [("quantize", name, Ref(name), entry.place) for name, entry in manifest.inputs.items()]
    places += [("dequantize", o.name, o.ref, manifest.outputs[o.name]) for o in compiled.expanded.outputs]
    return {
        f"{verb}_{blob}": (_quantized if verb == "quantize" else _dequantized)(net, f"{verb}_{blob}", grid)
        for verb, name, ref, place in places
        if name not in states and (grid := rounding.grid(ref)) is not None
        for blob in place.names
    }


def _quantized(net: Library, function: str, grid: Grid) -> Pair:
    """Return zeros, and how far the integers of a rounding function are from the numbers: 0 for at most a half."""
    most, quotients = grid.high, np.r_[np.linspace(-1.5, 1.5, 1001), np.inf, -np.inf, np.nan]
    numbers = (grid.scale * most * quotients).astype(np.float32)
    integers = net.converted(function, numbers, integer_type(most).removesuffix("_t"))
    off = np.abs(integers - np.clip(np.nan_to_num(numbers / np.float64(grid.scale), nan=-np.inf), -most, most))
    return np.zeros(len(off)), np.where(off <= 0.51, 0.0, off)


def _dequantized(net: Library, function: str, grid: Grid) -> Pair:
    integers = np.linspace(-grid.high, grid.high, 255).astype(integer_type(grid.high).removesuffix("_t"))
    return (grid.scale * integers.astype(np.float64)).astype(np.float32), net.converted(function, integers, "float32")


def first_states(
    states: Iterable[StatePair], manifest: Manifest, found: Mapping[str, Array], weights: Mapping[str, Array],
    rounding: Rounding | None,
) -> Iterator[list[Array]]:  # fmt: skip
    """Yield each state's first value by the model, and by a reset (``found``); by a reset twice if it is an input."""
    for state in states:
        (blob,) = manifest.inputs[state.before].place.names
        first = state.first(weights)
        both = [found[blob] if isinstance(first, str) else np.full(found[blob].shape, first, np.float32), found[blob]]
        grid = rounding.grid(Ref(state.before)) if isinstance(rounding, IntegerRounding) else None
        yield both if grid is None else [grid.rounded(array.astype(np.float64)) for array in both]


def _joined(pairs: Iterable[Sequence[Array]]) -> Pair:
    """Return pairs of arrays as one pair of flat arrays; as zeros if both are equal, with NaN at the same places."""
    wanted, found = (np.concatenate([np.ravel(array) for array in arrays]) for arrays in zip(*pairs, strict=True))
    same = np.array_equal(wanted, found, equal_nan=True)
    return (np.zeros(1), np.zeros(1)) if same else (wanted, found)


def _opened(net: Library) -> Pair:
    """Return whether contents should and do open as weights: damaged, short, misaligned, and (last) the right ones."""
    others = [np.r_[np.uint8(0), net.weights][1:], net.weights[:-4].copy()]
    for at in (0, 4, 8, -1):
        others.append(net.weights.copy())
        others[-1][at] ^= 1
    opened = [net.opens(content) for content in (*others, net.weights)]
    return np.arange(len(opened)) == len(others), np.array(opened)


SUFFIX, HEADER = ".c", ".h"
PROGRAM = "gcc"
FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
_TEMPLATES = text_templates("lstmc_c", ".")


def find_compiler() -> Compiler:
    """Return gcc. Raises :class:`BackendError` if it is missing."""
    return Compiler.find(PROGRAM, "nets in C are compiled to run here", (), "--version")


def call_source(
    manifest: Manifest, function: str = "lstmc_call", each_step: Collection[str] = (), steps: int = 1
) -> str:
    """Return the C of functions that a test program calls, because they take pointers to arrays of float alone: one
    runs a step, states included; one opens a file of weights and returns whether it fits; with several ``steps`` two
    run so many after a reset, one by one and as a block. ``each_step``: the blobs with a value for each step."""
    blobs = {
        **{blob: entry.place for entry in manifest.inputs.values() for blob in entry.place.names},
        **{blob: place for place in manifest.outputs.values() for blob in place.names},
    }
    fed, read = manifest.input_blobs, manifest.output_blobs
    arrays = [
        {
            "blob": blob.removeprefix(STATE),
            "index": index,
            "state": blob.startswith(STATE),
            "each_step": blob in each_step,
            "size": prod(place.shape),
            "macro": macro(identifier(manifest.name), blob),
            "fed": fed.index(blob) if blob in fed else None,
            "read": read.index(blob) if blob in read else None,
        }
        for index, (blob, place) in enumerate(blobs.items())
    ]
    return _TEMPLATES.get_template("call.c.j2").render(
        file=manifest.name, name=identifier(manifest.name), function=function, macro=weights_macro(manifest),
        arrays=arrays, steps=steps, count=len(read), states=any(array["state"] for array in arrays),
        order=[
            i for blob in (*fed, *read) if not blob.startswith(STATE) for i, each in enumerate(blobs) if each == blob
        ],
    )  # fmt: skip


def weights_macro(manifest: Manifest) -> str:
    """Return the macro that the header defines if the net's weights are in a file."""
    return f"{identifier(manifest.name).upper()}_WEIGHTS_BYTES"


def has_file(manifest: Manifest, header: bytes) -> bool:
    """Return whether a net with this header has its weights in a file."""
    return f"#define {weights_macro(manifest)} ".encode() in header


class Library:
    """A net in C, compiled and loaded here. The blobs ``each_step`` have a value for each of ``steps`` steps."""

    def __init__(
        self, manifest: Manifest, files: Mapping[str, bytes], each_step: Collection[str] = (), steps: int = 1
    ) -> None:
        source, header = files[SUFFIX], files[HEADER]
        compiler, call = find_compiler(), call_source(manifest, each_step=each_step, steps=steps)
        texts = [source.decode(), header.decode(), call]

        def build(folder: Path) -> Path:
            names = [f"{manifest.name}.c", f"{manifest.name}.h", "lstmc_call.c"]
            for name, text in zip(names, texts, strict=True):
                (folder / name).write_text(text, encoding="utf-8")
            compiler.run([*FLAGS, names[0], names[2], "-o", "net.so"], folder, f"compiling {names[0]}")
            return folder / "net.so"

        path = cached(".so", [*texts, *FLAGS, compiler.identity], build)
        self._library = ctypes.CDLL(str(path))
        self._name, self._each_step, self._steps = identifier(manifest.name), each_step, steps
        self.weights = np.frombuffer(bytearray(files.get(WEIGHTS, b"")), np.uint8)  # the library reads this memory
        if not self.opens(self.weights):
            raise BackendError(
                f"{manifest.name}{WEIGHTS}: not the weights of {manifest.name}{SUFFIX}: expected the file of"
                f" {len(self.weights)} bytes that was written with it, or with a net of the same layout"
            )
        self._fed, self._read = manifest.input_blobs, manifest.output_blobs
        self._shapes = {blob: place.shape for place in manifest.outputs.values() for blob in place.names}

    def forward(self, blobs: Mapping[str, Array], names: Iterable[str] | None = None) -> dict[str, Array]:
        """Return the blobs of the results of one step: those in ``names``, or all."""
        fed = [np.ascontiguousarray(blobs[blob], np.float32) for blob in self._fed]
        results = {blob: np.empty(self._shapes[blob], np.float32) for blob in self._read}
        self._library.lstmc_call(_pointers(fed), _pointers(results.values()))
        return results if names is None else {name: results[name] for name in names}

    def stream(self, function: str, blobs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the states after a reset, and the results of all steps after it: by ``steps`` or as a ``block``."""
        fed = [np.ascontiguousarray(blobs.get(blob, ()), np.float32) for blob in self._fed]
        counts = {blob: self._steps if blob in self._each_step else 1 for blob in self._read}
        results = {blob: np.zeros((count, *self._shapes[blob]), np.float32) for blob, count in counts.items()}
        first = {blob: np.zeros((1, *self._shapes[blob]), np.float32) for blob in self._read}
        self._library[f"lstmc_call_{function}"](_pointers(fed), _pointers([*results.values(), *first.values()]))
        return {blob: array[0] for blob, array in first.items() if blob.startswith(STATE)}, results

    def converted(self, function: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
        """Return the result of a function that converts numbers to integers, or integers to numbers."""
        result = np.zeros(array.shape, dtype)
        pointers = map(ctypes.c_void_p, _pointers([array, result]))
        self._library[f"{self._name}_{function}"](*pointers, ctypes.c_size_t(array.size))
        return result

    def opens(self, content: NDArray[np.uint8]) -> bool:
        """Return whether the net takes this content, in bytes, as its weights."""
        size = ctypes.c_size_t(len(content))
        return bool(self._library.lstmc_call_open(ctypes.c_void_p(content.ctypes.data), size))


def _pointers(arrays: Iterable[Array]) -> ctypes.Array[ctypes.c_void_p]:
    addresses = [array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * max(len(addresses), 1))(*addresses)


@contextmanager
def loaded_net(files: NetFiles, gpu: bool) -> Iterator[Library]:
    """Yield a written net, loaded. Raises :class:`BackendError` for a GPU, for weights of another net, without gcc."""
    if gpu:
        raise BackendError(f"{files.net}: C runs on the CPU alone")
    separate = None if files.weights == files.net else files.weights
    paths = {SUFFIX: files.net, HEADER: files.net.with_suffix(HEADER), WEIGHTS: separate}
    contents: dict[str, bytes] = {}
    try:
        for suffix, path in paths.items():
            if suffix == WEIGHTS and has_file(files.manifest, contents[HEADER]):
                path = separate or files.net.with_suffix(WEIGHTS)
            if path is not None:
                contents[suffix] = read_file(path)
    except OSError as error:
        raise BackendError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if separate is not None and not has_file(files.manifest, contents[HEADER]):
        raise BackendError(
            f"{separate}: a net in C has its weights in its source: compile it again with {Argument('weights')}, or"
            " with the option weights=file of the backend"
        )
    yield Library(files.manifest, contents)


INSIDE = "C keeps it in a register, or in memory that other values use too"


@dataclass(frozen=True)
class GccExecutor(Executor):
    """One step of a net in C, compiled by gcc, that computes in these numbers."""

    numbers: Numbers = FLOAT32
    name = "c-cpu"

    def unavailable(self) -> str | None:
        try:
            find_compiler()
        except BackendError as error:
            return "\n".join([error.message, *error.notes])
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run one step, and return its outputs and next states. Other functions of the net are compared too."""
        files = {PurePath(name).suffix: content for name, content in artifact.files.items()}
        manifest = parse_manifest(files[".json"])
        inputs = arrays.fed(compiled.expanded)
        net = Library(manifest, files, blobs_of_each_step(compiled, manifest), STEPS)
        results = net.forward(manifest.fed(inputs))
        found = execution(compiled, manifest, arrays, inputs, results, self.numbers)
        compared = compared_functions(compiled, manifest, net, arrays.weights, found.rounding)
        name = identifier(manifest.name)
        exact = {f"{name}_{'step' if function == 'steps' else function}": pair for function, pair in compared.items()}
        return replace(found, files=artifact.run_files, exact=exact)


def execution(
    compiled: Compiled, manifest: Manifest, arrays: RunArrays, inputs: Mapping[str, Array],
    results: Mapping[str, Array], numbers: Numbers = FLOAT32,
) -> Execution:  # fmt: skip
    """Return the execution of one step, from the ``inputs`` of the step and the blobs of its ``results``."""
    graph, rounding, tolerance = compiled.expanded, numbers.rounding(compiled), None
    values = dict(inputs) | {graph.value_name(o.ref): manifest.outputs[o.name].read(results) for o in graph.outputs}
    if isinstance(rounding, IntegerRounding):  # equal integers: no difference of float32 is allowed
        values |= rounding.on_grids(values)
        tolerance = 0.0
    bound = None if numbers.device is None else numbers.device.tolerance
    settings = {"tolerance": tolerance, "rounding": rounding, "bound": bound}
    return forward_only(compiled, arrays, values, INSIDE, "a net in C", **settings)


def findings() -> Iterator[Finding]:
    """Yield whether there is a compiler to run nets in C."""
    fix = f"apt-get install {PROGRAM}"
    yield Finding.of(PROGRAM, find_compiler, lambda found: found.identity.partition("\n")[0], "C", fix)


def _check(op: Op) -> None:
    if not isinstance(op, OPS):
        raise BackendError(f"{op.name} has no C code")


MODEL: tuple[Pass, ...] = (Simplify(), Cse(), Dead(), fuse_linears, Simplify(), Cse(), Dead(), CheckOps("C", _check))


def _is_loop(scan: Scan) -> bool:
    """Return whether a scan is a loop in C: only an innermost scan, as its constants are weights of the whole step."""
    innermost = not any(isinstance(node.op, Scan) for node in scan.body)
    return innermost and scan.inside and scan.length > 1 and scan.first is None and not scan.kept


@dataclass(frozen=True)
class CBackend(RunsFiles):
    """Writes one step of a net as a C file without a library, and runs the file by gcc. ``layout`` is a name in
    ``LAYOUTS``. With ``loops`` a scan inside a step of float32 is a loop in C, else it is unrolled."""

    numbers: Numbers = FLOAT32
    weights_in_file: bool = False
    layout: str = "files"
    loops: bool = True
    name: ClassVar[str] = "c"
    summary: ClassVar[str] = "plain C: one step as NAME.c and NAME.h, and a manifest"
    targets: ClassVar[Mapping[str, str]] = {"c": "C99 without a library or a heap: microcontrollers, audio threads"}
    ops: ClassVar[tuple[type[Op], ...]] = (*OPS, Scan)
    one_step: ClassVar[bool] = True
    options: ClassVar[Mapping[str, str]] = {
        "numbers": "float32, c-fp16-weights, c-int8-weights, c-a16w8 or c-a8w8 in integers, or FILE.toml; float32",
        "ranges": "for integers: the range of each value, a file that lstmc numbers ranges wrote",
        "layout": "files, or the folders of an arduino library or of an esp-idf component; files",
        "weights": "source, or file: NAME.bin, which is loaded as the program runs; source",
    }

    def with_options(self, values: Mapping[str, str]) -> CBackend:
        weights = values.get("weights", "file" if self.weights_in_file else "source")
        if weights not in ("source", "file"):
            raise BackendError(f"weights={weights}: expected source or file")
        layout = values.get("layout", self.layout)
        if layout not in LAYOUTS:
            raise BackendError(f"layout={layout}: expected {', '.join(LAYOUTS)}")
        numbers = self.numbers.with_options(values)
        return replace(self, numbers=numbers, weights_in_file=weights == "file", layout=layout)

    net_suffix: ClassVar[str] = SUFFIX
    weights_suffix: ClassVar[str] = SUFFIX

    def passes(self, target: str) -> tuple[Pass, ...]:
        """Return the passes. Integers have no loops in C, because values of each iteration have their own ranges."""
        loops = self.loops and self.numbers == FLOAT32
        return (*MODEL, Expand(loops=_is_loop) if loops else Expand(), Dead())

    def with_each_value(self) -> CBackend:
        return replace(self, loops=False)

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        with gc_paused():
            return artifact(Source(compiled, weights, self.numbers, self.weights_in_file), self.layout)

    def example(self, compiled: Compiled, artifact: Artifact, language: str) -> Mapping[str, bytes]:
        """Return a program that streams a WAV file through a net. Raises :class:`BackendError` if the net has none."""
        argument = Argument("language", language)
        if language.partition(":")[0] != LANGUAGE:
            raise BackendError(f"{argument}: a net in C is a function; for sound there is {LANGUAGE}")
        if self.numbers.integers or self.weights_in_file or self.layout != "files":
            raise BackendError(f"{argument}: expected a net in floats with its weights in its source, and layout=files")
        return program(compiled, artifact, language)

    loaded = staticmethod(loaded_net)

    def executors(self) -> Sequence[GccExecutor]:
        return (GccExecutor(self.numbers),)

    doctor = staticmethod(findings)
