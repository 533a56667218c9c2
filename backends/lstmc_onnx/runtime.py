"""ONNX files and ONNX Runtime: read nets and weights, execute, time and lint them; the checks of doctor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from lstmc import backend
from lstmc.backend import Artifact, Compiled, Execution, Executor, Finding, Layer, Part, Parts, RunArrays
from lstmc.errors import BackendError, WeightsError
from lstmc.files.reading import read_file
from lstmc.interp import drawn
from lstmc.manifest import Stored, parse_manifest, read_manifest
from lstmc.nets.session import NetFiles
from lstmc.nets.tune import processor
from lstmc.ops import Array
from lstmc.plugins import problem_with
from lstmc.text import brief
from lstmc.verification.differential import forward_only
from lstmc.weights import unpack_weights
from lstmc_onnx.artifact import value_names
from lstmc_onnx.lowerings import Shared, newest, onnx, onnxruntime

SUFFIX = ".onnx"


def read_model(path: Path, data: bool = True) -> Any:
    """Return a file's ``ModelProto``, with the weights beside it if ``data``. Raises BackendError if this fails."""
    try:
        model = model_of(read_file(path))
        if data:
            onnx().load_external_data_for_model(model, str(path.parent))
    except OSError as error:
        raise BackendError(f"{path}: cannot be read: {error.strerror}") from None
    except BackendError as error:
        raise BackendError(f"{path}: {error.message}") from None
    except Exception as error:  # onnx raises it if the weights beside the file are missing
        raise BackendError(f"{path}: its weights cannot be read: {str(error)[:100]}") from None
    return model


def model_of(content: bytes) -> Any:
    """Parse a ``ModelProto`` from bytes. Raises :class:`BackendError` for bytes that are not one."""
    try:
        model = onnx().load_model_from_string(content)
    except Exception as error:  # protobuf's error
        raise BackendError(f"expected an ONNX model, found something else: {str(error)[:100]}") from None
    if not model.graph.node and not model.graph.output:
        raise BackendError("expected an ONNX model, found a file without a graph")
    return model


def array_of(tensor: Any) -> Array:
    """Return the numbers of a ``TensorProto``. Raises :class:`BackendError` if they do not fit the shape."""
    try:
        array: Array = onnx().numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise BackendError(f"tensor {tensor.name} of shape {list(tensor.dims)} is damaged: {brief(error)}") from None
    return array


def read_initializers(path: Path, blobs: Mapping[str, Stored]) -> dict[str, Array]:
    """Return initialisers by the names of a manifest's ``blobs``. Raises WeightsError if one is missing or differs."""
    try:
        model = read_model(path)
    except BackendError as error:
        raise WeightsError(error.message) from None
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays, problems = dict[str, Array](), list[str]()
    for name, where in blobs.items():
        tensor = stored.get(where.layer)
        if tensor is None:
            problems.append(f"missing: initializer {where.layer}")
        elif tuple(tensor.dims) != where.shape:
            problems.append(f"wrong shape: {name} must be {list(where.shape)}, found {list(tensor.dims)}")
        else:
            arrays[name] = np.asarray(array_of(tensor), np.float32)
    if problems:
        raise WeightsError(f"{path} is not this net", notes=problems)
    return arrays


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the parameters in ``trained`` by the model's names, and the names of those that cannot be read back."""
    stored_manifest = read_manifest(manifest)
    weights = unpack_weights(stored_manifest.weights, read_initializers(trained, stored_manifest.blobs))
    return weights, [name for name in stored_manifest.parameters if name not in weights]


def model_parts(content: bytes) -> Parts:
    """Return what comparisons compare of a model. Raises :class:`BackendError` for bytes that are no model."""
    model = model_of(content)
    graph, arrays = model.graph, dict[Part, Mapping[str, str | Array]]()
    for tensor in graph.initializer:
        outside = {entry.key: entry.value for entry in tensor.external_data}
        arrays["weight", tensor.name] = outside or {"": array_of(tensor)}
    opsets = {f"opset of {entry.domain or 'ai.onnx'}": str(entry.version) for entry in model.opset_import}
    return {
        ("net", "versions"): {"IR": str(model.ir_version), **opsets},
        ("net", "order of operators"): {"": "".join(f"{node.name}\n" for node in graph.node)},
        **{("input", each.name): {"": str(each.type)} for each in graph.input},
        **{("output", each.name): {"": str(each.type)} for each in graph.output},
        **{("node", node.name or node.output[0]): dict(_node_fields(node)) for node in graph.node},
        **arrays,
    }


def _node_fields(node: Any, path: str = "") -> Iterator[tuple[str, str | Array]]:
    """Yield each field of an operator, as name and value; of a loop the fields of all operators of its body too."""
    yield f"{path}operator", f"{node.domain}{node.op_type}"
    for kind, names in (("input", node.input), ("output", node.output)):
        yield from ((f"{path}{kind} {at}", name) for at, name in enumerate(names))
    for attribute in node.attribute:
        name = f"{path}{attribute.name}"
        if attribute.HasField("g"):  # the body of a loop
            yield f"{name}, order", "".join(f"{each.name}\n" for each in attribute.g.node)
            for each in attribute.g.node:
                yield from _node_fields(each, f"{name}, {each.name}, ")
            for kind, infos in (("input", attribute.g.input), ("output", attribute.g.output)):
                yield from ((f"{name}, {kind} {at}", f"{info.name} {info.type}") for at, info in enumerate(infos))
            yield from ((f"{name}, {each.name}", array_of(each)) for each in attribute.g.initializer)
        elif attribute.HasField("t"):
            yield name, array_of(attribute.t)
        else:
            yield name, str(onnx().helper.get_attribute_value(attribute))


def listed_layers(net: bytes) -> tuple[Layer, ...]:
    """Return every operator of the main graph in order. Raises :class:`BackendError` for bytes that are not a model."""
    graph = onnx().shape_inference.infer_shapes(model_of(net)).graph
    shapes = {info.name: _shape(info) for info in (*graph.value_info, *graph.output)}
    rows = [(n, tuple(shapes.get(name) for name in n.output)) for n in graph.node]
    return tuple(Layer(n.name, n.op_type, tuple(n.input), tuple(n.output), row) for n, row in rows)


def _shape(info: Any) -> tuple[int, ...] | None:
    dims = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None


def findings() -> Iterator[Finding]:
    """Yield whether the packages that write and run nets are installed; both are optional."""
    yield Finding.of("onnx", onnx, lambda package: f"{package.__version__}, opsets up to {newest()}", "ONNX")
    yield Finding.of("onnxruntime", onnxruntime, lambda package: str(package.__version__), "ONNX")


GPU = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Loaded:
    """A net in ONNX Runtime."""

    session: Any

    @property
    def outputs(self) -> list[str]:
        """The names of the net's outputs."""
        return [slot.name for slot in self.session.get_outputs()]

    def forward(self, blobs: Mapping[str, Array], outputs: Iterable[str]) -> Mapping[str, Array]:
        """Return the outputs of one forward pass. Arrays that the net does not read are left out."""
        names = list(outputs)
        fed = {slot.name: np.asarray(blobs[slot.name], np.float32) for slot in self.session.get_inputs()}
        arrays = self.session.run(names, fed) if names else ()  # without names it returns all outputs
        return dict(zip(names, arrays, strict=True))


def load(net: Path | bytes, gpu: bool = False, threads: int = 0) -> Loaded:
    """Return a net loaded from its file or its bytes, on this many threads (0: ONNX Runtime's choice). Raises
    :class:`BackendError` with ONNX Runtime's message if it cannot load the net, and if ``gpu`` but there is no GPU."""
    runtime = onnxruntime()
    if gpu and GPU not in runtime.get_available_providers():
        expected = f"expected one with {GPU}, as of onnxruntime-gpu"
        raise BackendError(f"ONNX Runtime {runtime.__version__} is one for the CPU: {expected}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # log errors alone: they are raised
    try:
        file, provider = net if isinstance(net, bytes) else str(net), GPU if gpu else "CPUExecutionProvider"
        session = runtime.InferenceSession(file, options, providers=[provider])
    except Exception as error:  # its errors, which have no common base
        raise BackendError(f"ONNX Runtime {runtime.__version__} cannot load the net: {error}") from None
    return Loaded(session)


@contextmanager
def loaded_net(files: NetFiles, gpu: bool) -> Iterator[Loaded]:
    """Yield a written net that is loaded. If a file of other weights is given, these replace the net's own weights."""
    if files.weights == files.net:
        yield load(files.net, gpu)
        return
    model = read_model(files.net)
    arrays = read_initializers(files.weights, files.manifest.blobs)
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(onnx().numpy_helper.from_array(arrays[tensor.name], tensor.name))
    yield load(model.SerializeToString(), gpu)


PACKED = "it is part of an initializer"


class RuntimeExecutor(Executor):
    """ONNX Runtime on the CPU: the net as it was written, and again with every value as an output."""

    name = "onnx-cpu"

    def unavailable(self) -> str | None:
        return problem_with(onnxruntime)

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Run the net as written, and again with every value as an output, so that optimisation removes none."""
        graph = compiled.expanded
        names = value_names(graph, Shared(0).main)
        inputs = arrays.fed(graph)
        with tempfile.TemporaryDirectory(prefix="lstmc-") as folder:
            for file, content in artifact.files.items():
                Path(folder, file).write_bytes(content)
            path = Path(folder, f"{compiled.name}.onnx")
            model = read_model(path, data=False)
            net_outputs = [output.name for output in model.graph.output]
            computed = dict(load(path, threads=1).forward(inputs, net_outputs))
            others = [name for name in names.values() if name not in {*inputs, *net_outputs}]
            stored = {tensor.name for tensor in model.graph.initializer}
            model.graph.output.extend(onnx().helper.make_empty_tensor_value_info(n) for n in others if n not in stored)
            path.write_bytes(model.SerializeToString())
            computed |= {tensor.name: array_of(tensor) for tensor in read_model(path).graph.initializer}
            computed |= load(path, threads=1).forward(inputs, [name for name in others if name not in stored])
        outputs = {graph.value_name(o.ref): computed[name] for name, o in zip(net_outputs, graph.outputs, strict=True)}
        values = {graph.value_name(ref): computed[name] for ref, name in names.items() if name in computed}
        values |= inputs | outputs
        return forward_only(compiled, arrays, values, PACKED, "an ONNX net", files=artifact.run_files)


SECONDS = 4.0  # for all nets together
LEAST, MOST = 5, 2000  # rounds


def artifact_seconds(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Return by form the seconds of a forward pass of each written net, on one thread; see :func:`least_seconds`."""
    nets = {}
    with ExitStack() as stack:
        for form, artifact in artifacts.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lstmc-")))
            for name, content in artifact.files.items():
                (folder / name).write_bytes(content)
            read = parse_manifest(next(c for name, c in artifact.files.items() if name.endswith(".manifest.json")))
            inputs = {name: drawn(0, name, each.place.shape, each.values) for name, each in read.inputs.items()}
            nets[form] = load(folder / artifact.net, threads=1), read.fed(inputs)
        return least_seconds(nets)


def least_seconds(nets: Mapping[str, tuple[Loaded, Mapping[str, Array]]]) -> dict[str, float]:
    """Return by form the least seconds of a net's passes. The nets take turns, so that all see the same load."""
    best = dict.fromkeys(nets, float("inf"))
    rounds, end = 0, perf_counter() + SECONDS
    while rounds < LEAST or (rounds < MOST and perf_counter() < end):
        rounds += 1
        for form, (net, fed) in nets.items():
            began = perf_counter()
            net.forward(fed, net.outputs)
            best[form] = min(best[form], perf_counter() - began)
    return best


def build() -> str:
    """Return the ONNX Runtime that measures, and the processor that it runs on."""
    return f"onnxruntime {onnxruntime().__version__} {processor()}"


CHECKER = "https://onnx.ai/onnx/api/checker.html"
RUNTIME = "https://onnxruntime.ai/docs/reference/compatibility.html"


def lint_file(path: Path) -> backend.LintReport:
    """Check a net by onnx.checker, with shape inference, and load it in ONNX Runtime. Report the first refusal."""
    graph, violations = read_model(path, data=False).graph, list[backend.Violation]()
    rule = "a valid ONNX model", "onnx.checker refuses it", CHECKER
    try:
        onnx().checker.check_model(str(path), full_check=True)
        rule = "a net that it loads", "ONNX Runtime on the CPU lacks it", RUNTIME
        load(path, threads=1)
    except Exception as error:  # errors of the checker, of shape inference, of ONNX Runtime
        text = error.message if isinstance(error, BackendError) else str(error)
        first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        violations.append(backend.Violation(graph.name or path.stem, "graph", first, *rule))
    return backend.LintReport(tuple(violations), (), len(graph.node))
