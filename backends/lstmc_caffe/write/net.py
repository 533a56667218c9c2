"""Write an expanded graph of Caffe ops as NetParameter messages: the net, and its weights as a caffemodel. Also read
the parts of both files by name, to compare two artifacts: layers with their settings, weights with their copies."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.backend import Part, Parts, Violation
from lstmc.errors import BackendError, WeightsError
from lstmc.files.reading import read_file, reading
from lstmc.interp import forward
from lstmc.ir import Graph, Node, Ref, twice_stored, weight_graph
from lstmc.manifest import Stored, read_manifest
from lstmc.ops import Affine, Array, Constant, Filler, Gaussian, Op, Param, Uniform, Values
from lstmc.prepare.one_step import STEP
from lstmc.process.status import with_progress
from lstmc.source import SrcLoc
from lstmc.weights import unpack_weights
from lstmc_caffe.legalize.unroll import FAN
from lstmc_caffe.ops import CaffeOp, Feed, write_filler
from lstmc_caffe.proto.net import NetParameter, RawNet, SharingNet, net_from_text, net_text
from lstmc_caffe.targets.lint import Before, lint_layer
from lstmc_caffe.targets.target import Target, load_target

WEIGHTS_SUFFIX = ".caffemodel"
MOST_BYTES = 2**31 - 1 - 2**20  # of arrays, in a protobuf message that has names too
# Up to here a caffemodel has every layer, as Caffe's own snapshots have. Caffe looks for each by its name among all,
# and a parameter is there once for each layer that shares it.
WHOLE_NET_LAYERS = 10_000
WHOLE_NET_COPIES = 2**24  # bytes of parameters that are there already
Fields = dict[str, str | Array]


@dataclass(frozen=True)
class Section:
    """Neighbouring layers that belong together: one step of a scan, or the layers between scans."""

    title: str
    net: Any = field(default_factory=NetParameter)


@dataclass(frozen=True)
class WrittenNet:
    """A written net: its layers in sections, and the place of each parameter that it has, in the layer that owns it."""

    name: str
    sections: tuple[Section, ...]
    owners: dict[str, Stored]
    weights: Graph  # from the user's parameters to the blobs, outputs named as the blobs' ``param { name }``

    def layers(self) -> Iterator[Any]:
        for section in self.sections:
            yield from section.net.layer

    def message(self) -> Any:
        whole = NetParameter(name=self.name)
        for section in self.sections:
            whole.layer.extend(section.net.layer)
        return whole


def write_net(graph: Graph, target: Target | None = None, in_place: Mapping[Ref, str] | None = None) -> WrittenNet:
    """Return a net of an expanded graph: one layer for each node, blobs named as values, parameters shared by name.
    ``in_place`` are the values that a layer overwrites, and the names of their blobs (``overwritten``). The first layer
    that uses a parameter owns the parameter: only this layer has the filler. Values that nothing reads go to Silence
    layers at the end, so that the net's outputs are the model's (if the target has Silence). The net is checked against
    the target's rules: a violation is a size past a limit, or a bug of the compiler."""
    target = target or load_target("caffe")
    sections: list[Section] = []
    owners: dict[str, Stored] = {}
    blobs: dict[Ref, None] = {}
    unwritten = _inlined(graph)
    for node in with_progress(graph, "making the net's layers"):
        if not isinstance(node.op, CaffeOp) or node.name in unwritten:
            continue  # a parameter, a function of parameters, or a constant that is a field of a layer
        title = "the model" if node.step is None else f"{node.step.scan}, step {node.step.t}"
        if not sections or sections[-1].title != title:
            sections.append(Section(title))
        _write_layer(sections[-1].net.layer.add(), graph, node, owners, blobs, in_place or {}, target)
    unread = _unread(graph)
    if unread and target.allows("Silence"):
        sections.append(Section("values that nothing reads"))
        for start in range(0, len(unread), FAN):
            name = "silence" if start == 0 else f"silence_{start}"
            sections[-1].net.layer.add(name=name, type="Silence", bottom=unread[start : start + FAN])
    net = WrittenNet(graph.name, tuple(sections), owners, _checked_weights(weight_graph(graph, blobs), target))
    shapes = {name: type_.shape for node in graph for name, type_ in zip(node.names, node.types, strict=True)}
    before = Before()
    for layer in with_progress(list(net.layers()), f"checking layers for {target.name}"):
        _check_layer(layer, shapes, before, target)
    return net


def _check_layer(layer: Any, shapes: Mapping[str, tuple[int, ...]], before: Before, target: Target) -> None:
    """Raise BackendError for a layer that violates the target's rules; otherwise add the layer to ``before``."""
    bottoms, tops = ([shapes[name] for name in names] for names in (layer.bottom, layer.top))
    for violation in (*lint_layer(layer, bottoms, tops, target), *before.lint(layer, target)):
        unknown = () if violation.limit else ("lstmc knows no other way to write it",)
        raise BackendError(
            f"target {target.name}: layer {violation.layer} ({violation.type}) was written with {violation.found},"
            f" expected {violation.expected}",
            notes=(violation.reason, f"documented in: {violation.source}", *unknown),
        )


def _checked_weights(weights: Graph, target: Target) -> Graph:
    """Return the graph of the weights. Raise BackendError if training would need one weight in two blobs."""
    twice = twice_stored(weights)
    if twice and target.trained:
        loc = next((node.loc for node in weights if set(node.names) & set(twice)), None)
        raise BackendError(
            f"{', '.join(twice)} would be in two blobs of the net, and come apart in training:"
            " use a parameter either as it is or in one concat or split",
            loc=loc,
            notes=(
                "a product with a part of W is that part of the product with W: split(linear(x, W), ...); one with"
                " concat(A, B) is concat(linear(x, A), linear(x, B))",
                "target flat, whose nets are not trained, takes it as it is",
            ),
        )
    return weights


def _inlined(graph: Graph) -> set[str]:
    """Return the constants that are fields of all layers that read them, so that no layer writes them."""
    reads: Counter[Ref] = Counter()
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, CaffeOp):
            reads.update(args[slot] for slot in node.op.inlined(len(args)))
    readers = graph.readers()
    return {ref.node for ref, count in reads.items() if readers[ref] == count}


def _write_layer(
    layer: Any,
    graph: Graph,
    node: Node,
    owners: dict[str, Stored],
    blobs: dict[Ref, None],
    in_place: Mapping[Ref, str],
    target: Target,
) -> None:
    """Fill the message of a node's layer: name, type, bottoms, tops and settings, and each learned blob's name,
    multipliers and filler. A blob's first layer is entered in ``owners``, and the blob in ``blobs``."""
    op = node.op
    assert isinstance(op, CaffeOp), op
    layer.name = node.name
    layer.type = op.layer_type
    args = graph.args(node.name)
    learned = op.blobs(len(args))
    if not isinstance(op, Feed):  # whose operand is the caller's, not a blob
        own = op.inlined(len(args)).union(learned)
        bottoms = [ref for slot, ref in enumerate(args) if slot not in own]
        layer.bottom.extend(in_place.get(ref) or graph.value_name(ref) for ref in bottoms)
    layer.top.extend(in_place.get(Ref(node.name, out)) or name for out, name in enumerate(node.names))
    op.write(layer)
    if op.stops_gradient and not layer.propagate_down:  # else Caffe runs the layer's own Backward
        layer.propagate_down.extend([False] * len(layer.bottom))
    messages = op.fillers(layer)
    declared: dict[int, list[Filler]] = {}  # of each filler message: a recurrent layer has one for several blobs
    for index, slot in enumerate(learned):
        blob = graph.value_name(args[slot])
        params = _parameters_in(graph, args[slot])
        _write_param(layer.param.add(), blob, params, target.trained, node.loc)
        if blob not in owners:
            owners[blob] = Stored(node.name, index, graph.type(args[slot]).shape)
            blobs[args[slot]] = None
            filler = _common_filler(graph, args[slot], params)
            if filler is not None:
                declared.setdefault(id(messages[index]), []).append(filler)
    # the messages that the target's layers must not have
    paths = [rule.field.rpartition(".") for rule in target.restrictions_on(layer.type) if rule.absent]
    unwanted = [getattr(getattr(layer, param), field) for param, _, field in paths]
    for message in {id(message): message for message in messages}.values():
        if len(set(declared.get(id(message), []))) == 1 and not any(message is other for other in unwanted):
            write_filler(message, declared[id(message)][0])


def _parameters_in(graph: Graph, blob: Ref) -> dict[str, Param]:
    """Return the user's parameters that a blob is computed from, by name."""
    seen: dict[str, Op] = {}
    stack = [blob.node]
    while stack:
        name = stack.pop()
        if name not in seen:
            seen[name] = graph.node(name).op
            stack += [ref.node for ref in reversed(graph.args(name))]
    return {name: op for name, op in seen.items() if isinstance(op, Param)}


def _common_filler(graph: Graph, blob: Ref, params: Mapping[str, Param]) -> Filler | None:
    """Return the filler that draws a blob as its parameters' fillers do; None if the caffemodel alone has numbers."""
    fillers = {param.fill for param in params.values()}
    if isinstance(graph.node(blob.node).op, Param):
        filler = fillers.pop()
        return None if isinstance(filler, Values) else filler  # Caffe has none: the numbers are in the caffemodel
    if len(fillers) != 1 or not isinstance(next(iter(fillers)), Constant | Uniform | Gaussian):
        return None
    filler = fillers.pop()
    symmetric = filler in (Constant(0), Constant(0.0)) or (isinstance(filler, Uniform) and filler.min == -filler.max)
    negated = any(isinstance(graph.node(name).op, Affine) for name in graph.needed([blob]))
    return filler if symmetric or not negated else None


def _write_param(spec: Any, name: str, params: Mapping[str, Param], trained: bool, loc: SrcLoc | None) -> None:
    """Fill a ParamSpec message. Raise BackendError if multipliers of one blob's parameters differ in a trained net."""
    spec.name = name
    multipliers = {(param.lr_mult, param.decay_mult) for param in params.values()} or {(0.0, 0.0)}  # of constants alone
    if len(multipliers) > 1:
        if not trained:
            return  # parameters may be in one blob however each is trained elsewhere
        rates = ", ".join(f"{n} has {p.lr_mult:g} and {p.decay_mult:g}" for n, p in params.items())
        raise BackendError(
            f"one blob has one lr_mult and one decay_mult, but {name} is made of several: {rates}", loc=loc
        )
    ((lr_mult, decay_mult),) = multipliers
    if lr_mult != 1:
        spec.lr_mult = lr_mult
    if decay_mult != 1:
        spec.decay_mult = decay_mult


def _unread(graph: Graph) -> list[str]:
    """Return the names of layers' tops that nothing reads."""
    readers = graph.readers()
    refs = [ref for node in graph if isinstance(node.op, CaffeOp) for ref in node.refs]
    return [graph.value_name(ref) for ref in refs if ref not in readers]


def caffemodel(net: WrittenNet, weights: Mapping[str, Array], every_sharer: bool = False) -> bytes:
    """Return the bytes of a NetParameter: the whole net with all blobs of each layer, so that the file shows the graph.
    A net past ``WHOLE_NET_LAYERS`` or ``WHOLE_NET_COPIES`` has only the layers that own blobs, by name and type,
    because Caffe loads a blob once, through its owner (``net.cpp: CopyTrainedLayersFrom``). With ``every_sharer`` every
    layer has its blobs, as other readers require. Raises BackendError, first of all, if a message cannot hold them."""
    sizes = {output.name: 4 * prod(net.weights.type(output.ref).shape) for output in net.weights.outputs}
    layers = list(net.layers())
    once, copied = sum(sizes.values()), sum(sizes[spec.name] for layer in layers for spec in layer.param)
    size = copied if every_sharer else once
    if size > MOST_BYTES:
        note = f"for this target each layer has a copy of the parameters that it shares: give {STEP}, or fewer steps"
        raise BackendError(
            f"{net.name} has {size} bytes of weights: expected at most {MOST_BYTES}, as in a message of Caffe's",
            notes=[note] if size > once else (),
        )
    values = forward(net.weights, params=weights, dtype=np.float32).outputs
    whole = len(layers) <= WHOLE_NET_LAYERS and (every_sharer or copied - once <= WHOLE_NET_COPIES)
    owning = {owner.layer for owner in net.owners.values()}
    arrays = {name: np.ascontiguousarray(array, "<f4") for name, array in values.items()}
    model = RawNet(name=net.name)
    for layer in layers:
        if not (whole or layer.name in owning or (every_sharer and layer.param)):
            continue
        message = model.layer.add(name=layer.name, type=layer.type)
        if whole:
            message.MergeFromString(layer.SerializeToString())  # fields that a RawLayer does not know stay as they are
        for spec in layer.param:
            array = arrays[spec.name]
            message.blobs.add(data=array.tobytes()).shape.dim.extend(array.shape)
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def read_blobs(path: Path, blobs: Mapping[str, Stored]) -> dict[str, Array]:
    """Return blobs of a caffemodel (lstmc's, or a file that Caffe trained) by their parameter names. ``blobs`` is a
    manifest's: for each name the owning layer, the blob's index and its shape. Raises WeightsError for a file other
    than a caffemodel, and for a blob that is missing or has another shape."""
    with reading(path, WeightsError):
        content = read_file(path)
    try:
        model = RawNet.FromString(content)
    except DecodeError:
        raise WeightsError(f"{path}: expected a caffemodel, found something else") from None
    layers = {layer.name: layer for layer in model.layer}
    arrays: dict[str, Array] = {}
    problems = []
    for name, where in blobs.items():
        layer, index, shape = layers.get(where.layer), where.index, where.shape
        if layer is None or len(layer.blobs) <= index:
            problems.append(f"missing: blob {index} of layer {where.layer}, which holds {name}")
            continue
        data, sizes = layer.blobs[index].data, tuple(layer.blobs[index].shape.dim)
        if sizes != shape:
            problems.append(f"wrong shape: {name} must be {list(shape)}, found {list(sizes)}")
        elif len(data) != 4 * prod(shape):
            problems.append(f"wrong size: {name} {list(shape)} must have {4 * prod(shape)} bytes, found {len(data)}")
        else:
            arrays[name] = np.frombuffer(data, "<f4").reshape(shape)
    if problems:
        raise WeightsError(f"{path} is not a caffemodel of this net", notes=problems)
    for name, owner, other in islice((copy for copy in differing_copies(content) if copy[0] in blobs), 1):
        others = f"layer {other} has other numbers, with which a program may run"
        warnings.warn(f"{path}: {name} is read from layer {owner}; {others}", stacklevel=2)
    return arrays


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the parameters by the model's names, and the names of the parameters that are in no layer. The caffemodel
    may be from a later training: Caffe keeps the names of layers."""
    described = read_manifest(manifest)
    unpacked = unpack_weights(described.weights, read_blobs(trained, described.blobs))
    weights = {name: array for name, array in unpacked.items() if name in described.parameters}  # without passes' own
    return weights, [name for name in described.parameters if name not in weights]


def parts(file: str, content: bytes) -> Parts | None:
    """Return the layers of a prototxt, or the weights of a caffemodel; None for another file."""
    if file.endswith(".prototxt"):
        return _net_parts(content)
    if not file.endswith(".caffemodel"):
        return None
    found: dict[Part, Fields] = {}
    for name, layer, array in stored_blobs(content):
        found.setdefault(("weight", name), {})[f"in layer {layer}"] = array
    return found


def _net_parts(content: bytes) -> Parts:
    """Return the order of a prototxt's layers, its settings, and the fields of each layer that are no defaults."""
    net = net_from_text(net_text(content), others=False)
    layers = list(net.layer)
    found: dict[Part, Fields] = {("net", "order of layers"): {"": "".join(f"{layer.name}\n" for layer in layers)}}
    for number, layer in enumerate(layers):
        name = layer.name if ("layer", layer.name) not in found else f"{layer.name}, layer {number}"
        found["layer", name] = dict(_fields(layer))
    net.ClearField("layer")
    found["net", "settings"] = dict(_fields(net))
    return found


def _fields(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a message that differ from their defaults, by path, as ``param[0].lr_mult``."""
    for kind, value in message.ListFields():
        repeated = not hasattr(value, "ListFields") and hasattr(value, "__len__") and not isinstance(value, str | bytes)
        for at, each in enumerate(value) if repeated else [("", value)]:
            name = f"{path}{kind.name}{f'[{at}]' if repeated else ''}"
            if hasattr(each, "ListFields"):
                yield from list(_fields(each, f"{name}.")) or ([(name, "{}")] if repeated else [])
            elif repeated or each != kind.default_value:
                yield name, kind.enum_type.values_by_number[each].name if kind.enum_type else str(each)


def stored_blobs(content: bytes, params: Mapping[str, Sequence[str]] | None = None) -> Iterator[tuple[str, str, Array]]:
    """Yield each blob of a caffemodel: its parameter's name, its layer, and its numbers. ``params`` has the names by
    layer, by default the file's own; an unnamed blob is named by its place. Raises BackendError for other content."""
    try:
        layers = SharingNet.FromString(content).layer
    except DecodeError:
        raise BackendError("expected a caffemodel, found something else") from None
    for layer in layers:
        names = (params or {}).get(layer.name) or [spec.name for spec in layer.param]
        for index, blob in enumerate(layer.blobs):
            name = (names[index] if index < len(names) else "") or f"{index} of {layer.name}"
            yield name, layer.name, _array(blob)


def _array(blob: Any) -> Array:
    """Return the numbers of a blob, or its raw bytes if they do not fit its shape."""
    shape = tuple(blob.shape.dim)
    if len(blob.data) != 4 * prod(shape):
        return np.frombuffer(blob.data, np.uint8)
    return np.frombuffer(blob.data, "<f4").reshape(shape)


def lint_copies(net: Path) -> Iterator[Violation]:
    """Yield a violation for each layer whose copy of a parameter differs, in the caffemodel beside a prototxt."""
    stored = net.with_suffix(".caffemodel")
    if not stored.is_file():
        return
    layers = {layer.name: layer for layer in net_from_text(net_text(read_file(net))).layer}
    names = {name: [spec.name for spec in layer.param] for name, layer in layers.items()}
    try:
        copies = list(differing_copies(read_file(stored), names))
    except (BackendError, OSError) as error:
        reason = error.message if isinstance(error, BackendError) else f"cannot be read: {error.strerror}"
        raise BackendError(f"{stored.name} beside it: {reason}") from None
    reason = "the layers of a shared parameter have different numbers, and programs differ in which of them they use"
    for name, owner, layer in copies:
        kind = layers[layer].type if layer in layers else ""
        found, expected = f"other numbers of {name}", f"those of layer {owner}"
        yield Violation(layer, kind, found, expected, reason, "net.cpp: CopyTrainedLayersFrom")


def differing_copies(
    content: bytes, params: Mapping[str, Sequence[str]] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the first layer and the other layer of each copy of a parameter that differs from the first."""
    first: dict[str, tuple[str, Array]] = {}
    for name, layer, array in stored_blobs(content, params):
        owner, expected = first.setdefault(name, (layer, array))
        if expected.shape != array.shape or expected.tobytes() != array.tobytes():
            yield name, owner, layer
