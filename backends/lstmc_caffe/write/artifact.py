"""The files of a compiled model: prototxt, in-place layers, generated code, caffemodel and manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lstmc.backend import Artifact, Compiled
from lstmc.errors import BackendError
from lstmc.files.reading import read_file
from lstmc.ir import Graph, Node, Output, Ref
from lstmc.loops import code as code_of
from lstmc.loops.layer import memory_text, plan_text
from lstmc.loops.low_precision import FLOAT32
from lstmc.loops.rows import batch_of
from lstmc.manifest import Manifest, Place, State, describe, step_blobs
from lstmc.ops import Array, Input
from lstmc.process.status import gc_paused, with_progress
from lstmc.text import late, quoted
from lstmc.types import TensorType
from lstmc.version import __version__
from lstmc.weights import parameters
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.fused import FusedScan
from lstmc_caffe.ops.inputs import read_blobs
from lstmc_caffe.targets.lint import warnings
from lstmc_caffe.targets.target import load_target
from lstmc_caffe.write.net import WrittenNet, caffemodel, write_net

SUFFIX, GPU_SUFFIX = ".layers.cpp", ".layers.cu"
NOT_IN_NET = "not in the net, as no output depends on it"


def input_places(graph: Graph) -> dict[str, tuple[Place, bool]]:
    """Return, by the name of each input of an expanded graph, its place, and whether the net fills this input itself.
    An input of the host has a blob, or a blob for each step, None for a step that nothing reads."""
    feeds: dict[str, dict[int | None, tuple[str, TensorType]]] = {}
    for node in graph:
        if isinstance(node.op, caffe.Feed):
            feeds.setdefault(graph.args(node.name)[0].node, {})[node.op.step] = node.name, node.types[0]
    places = {}
    for node in graph:
        if isinstance(node.op, Input):
            blobs: tuple[tuple[str, TensorType] | None, ...] = ((node.name, node.types[0]),)
            if isinstance(node.op, caffe.HostInput):
                fed, steps = feeds.get(node.name, {}), range(node.op.shape[0])
                blobs = tuple(map(fed.get, steps)) if fed.keys() - {None} else tuple(fed.values())
            places[node.name] = Place.from_types(node.types[0], blobs), isinstance(node.op, caffe.FilledInput)
    return places


def output_place(graph: Graph, output: Output) -> Place:
    """Return the place of an output of an expanded graph: a blob, or a blob for each step."""
    blobs = tuple((graph.value_name(ref), graph.type(ref)) for ref in read_blobs(graph, output.ref))
    return Place.from_types(graph.type(output.ref), blobs)


def manifest(compiled: Compiled, net: WrittenNet, weights: Mapping[str, Array]) -> Manifest:
    """Return the manifest: the mapping of the model's names to blobs of the net."""
    graph = compiled.expanded
    return describe(
        replace(compiled, target=load_target(compiled.target).name),  # not the path of the target's file
        weights,
        inputs=input_places(graph),
        outputs={output.name: output_place(graph, output) for output in graph.outputs},
        weights=net.weights,
        blobs={o.name: net.owners[o.name] for o in net.weights.outputs},
    )


def layers_source(graph: Graph) -> code_of.Source | None:
    """Return the source of all generated layers of a net's graph; None where it has none."""
    layers = [code_of.layer_code(node.op.plan()) for node in graph if isinstance(node.op, FusedScan)]
    return code_of.source(graph.name, layers) if layers else None


def layers_files(name: str, graph: Graph) -> dict[str, bytes]:
    """Return ``NAME.layers.cpp`` and ``NAME.layers.cu`` by name; no file for a graph without generated layers."""
    code = layers_source(graph)
    if code is None:
        return {}
    gpu = {} if code.cu is None else {f"{name}{GPU_SUFFIX}": code.cu.encode()}
    return {f"{name}{SUFFIX}": code.cpp.encode(), **gpu}


def read_sources(files: Mapping[str, bytes]) -> dict[str, code_of.Source]:
    """Return the source of the generated layers of each net among ``files``, by the NAME of its ``NAME.layers.cpp``."""
    texts = {name: content.decode() for name, content in files.items() if name.endswith((SUFFIX, GPU_SUFFIX))}
    names = [name.removesuffix(SUFFIX) for name in texts if name.endswith(SUFFIX)]
    return {name: code_of.Source(texts[f"{name}{SUFFIX}"], texts.get(f"{name}{GPU_SUFFIX}")) for name in names}


def stored_source(path: Path) -> code_of.Source:
    """Return the source of ``NAME.layers.cpp``, and its CUDA if any. Raises :class:`BackendError` if unreadable."""
    for_gpus = path.with_suffix(".cu")
    return code_of.Source(_source_text(path), _source_text(for_gpus) if for_gpus.exists() else None)


def _source_text(path: Path) -> str:
    try:
        return read_file(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None


def layers_text(graph: Graph) -> str:
    """Return the plans of the generated layers of a net's graph as text; empty without such layers."""
    texts = []
    for node in graph:
        if isinstance(node.op, FusedScan):
            plan = node.op.plan()
            sizes = node.op.length, batch_of(node.op)
            on_gpu = code_of.gpu_text(plan, *sizes) if plan.numbers == FLOAT32 else ""
            texts.append(plan_text(plan) + memory_text(plan, *sizes) + on_gpu)
    return "\n".join(texts)


def prototxt(
    compiled: Compiled, net: WrittenNet, data: Sequence[str] | None = None, states: Mapping[str, State] = {}
) -> str:
    """Return the net as text that parses to ``net.message()``: a header for people, then its sections under banners.
    ``data`` are lines on where the net's inputs come from, by default the caller; ``states`` are the manifest's."""
    graph = compiled.expanded
    params = parameters(graph)
    first = {state.input: state.first_value for state in states.values()}
    numbers = sum(graph.type(Ref(name)).size for name in params)
    feed = list(data or ())
    for name, (place, filled) in input_places(graph).items() if data is None else ():
        line = _line(name, place) + (f", at the first step {first[name]}" if first.get(name) else "")
        feed += [] if filled else [f"feed {line}" if place.names else f"input {line}: {NOT_IN_NET}"]
    read = [_line(o.name, output_place(graph, o)) + (f", {late(o.delay)}" if o.delay else "") for o in graph.outputs]
    made = f"made by lstmc {__version__} from {quoted(compiled.source, 'comment')}"
    head = (
        f"# {net.name}: {made}, for target {load_target(compiled.target).name}",
        f"# {sum(1 for _ in net.layers())} layers, {numbers:,} weights in {len(params)} parameters",
        *(f"# {line}" for line in feed),
        *(f"# read {line}" for line in read),
        f"name: {quoted(net.name, 'prototxt')}",
    )
    sections = (
        f"\n# ---- {section.title} {'-' * (72 - len(section.title))}\n{section.net}"
        for section in with_progress(net.sections, "writing the net as text")
    )
    return "".join([*(f"{line}\n" for line in head), *sections])


def _line(name: str, place: Place) -> str:
    """Return ``y [3, 2, 4]``, followed by the blobs if their name, shape or number differs from the value's."""
    line = f"{name} {list(place.shape)}"
    if len(place.blobs) > 1:
        unread = [str(t) for t, blob in enumerate(place.blobs) if blob is None]
        but = f" except {', '.join(unread)}" if unread else ""
        return f"{line}: for each step{but} a blob {list(place.part_shape)}, {place.names[0]} to {place.names[-1]}"
    for blob in place.names:
        shape = "" if place.blob_shape is None else f" {list(place.blob_shape)}"
        line += f", blob {blob}{shape}" if blob != name or shape else ""
    return line


# Activations whose backward reads their top, or their bottom's sign, which is the top's too (sigmoid_layer.cpp,
# tanh_layer.cpp, relu_layer.cpp, elu_layer.cpp); not AbsVal, Log and Power, which read their bottom's value.
OVERWRITING = (caffe.SigmoidLayer, caffe.TanHLayer, caffe.ReLULayer, caffe.ELULayer)
# Layers whose backward does not read their top, and whose top is memory of its own. Not so an activation (it reads its
# top), Reshape and Split (their top is their bottom's memory), nor a Slice or Concat of one.
OVERWRITTEN = (
    *(caffe.InnerProduct, caffe.Eltwise, caffe.Bias, caffe.Scale, caffe.SliceLayer, caffe.ConcatLayer),
    *(caffe.EmbedLayer, caffe.Convolution, caffe.MaxPooling, caffe.AvePooling),
)


def overwritten(graph: Graph, protected: Collection[str] = ()) -> dict[Ref, str]:
    """Return the values that an activation may overwrite in place, with the activation's name, which their blob then
    has. The activation is the value's only reader, the value is not an output, its name is not in ``protected``, and
    its layer's backward pass does not read it."""
    readers = graph.readers()
    names = {}
    for node in graph:
        if type(node.op) in OVERWRITING:
            (bottom,) = graph.args(node.name)
            if readers[bottom] == 1 and graph.value_name(bottom) not in protected and _own_memory(graph, bottom):
                names[bottom] = node.name
    return names


def _own_memory(graph: Graph, value: Ref) -> bool:
    """Return whether a value's layer has memory of its own for the value and does not read it in its backward pass."""
    node: Node = graph.node(value.node)
    if isinstance(node.op, caffe.SliceLayer):
        return len(node.types) > 1
    if isinstance(node.op, caffe.ConcatLayer):
        return len(graph.args(node.name)) > 1
    return type(node.op) in OVERWRITTEN


def written_net(compiled: Compiled) -> WrittenNet:
    """Return the net of a compiled model. If the target allows it, activations overwrite blobs in place."""
    return write_net(compiled.expanded, load_target(compiled.target), blobs_in_place(compiled))


def blobs_in_place(compiled: Compiled) -> dict[Ref, str]:
    """Return the values that are overwritten in the net, and the name that their blob has then."""
    in_place = load_target(compiled.target).in_place
    return overwritten(compiled.expanded, step_blobs(compiled)) if in_place else {}


@gc_paused()
def artifact(compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
    """Return the files ``NAME.prototxt``, ``NAME.caffemodel`` and ``NAME.manifest.json``, for generated layers also
    ``NAME.layers.cpp`` and ``NAME.layers.cu``. The same input gives the same bytes."""
    target = load_target(compiled.target)
    net = written_net(compiled)
    described = manifest(compiled, net, weights)
    return Artifact(
        files={
            f"{compiled.name}.prototxt": prototxt(compiled, net, states=described.states or {}).encode(),
            f"{compiled.name}.caffemodel": caffemodel(net, weights, target.sharers_carry_blobs),
            f"{compiled.name}.manifest.json": described.text().encode(),
            **layers_files(compiled.name, compiled.expanded),
        },
        layers=sum(1 for _ in net.layers()),
        inputs={n: entry.place.label for n, entry in described.inputs.items() if entry.in_net and not entry.filled},
        outputs={n: place.label for n, place in described.outputs.items()},
        notes=(
            *(f"input {n}: {NOT_IN_NET}" for n, entry in described.inputs.items() if not entry.in_net),
            *described.first_values(),
            *map(str, warnings(net.layers(), target)),
        ),
    )
