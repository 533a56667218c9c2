"""The linter: check any net's prototxt against a target's rules, and against known faults of its runtimes. A layer that
is one of our ops has the shapes that the op infers; others follow Caffe's own ``Reshape`` of that layer
(``src/caffe/layers/*_layer.cpp``). Unknown shapes are reported, never guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from lstmc.backend import Layer, LintReport, Violation, Warned
from lstmc.errors import BackendError, ShapeError
from lstmc.files.reading import read_file
from lstmc.text import did_you_mean
from lstmc.types import TensorType
from lstmc_caffe.ops import WINDOWS, CaffeOp, LayerOps, front_axis, layer_ops, read_layer, unusual_windows
from lstmc_caffe.proto import net as proto
from lstmc_caffe.targets.target import Pitfall, Restriction, Target

Shape = tuple[int, ...]
Infer = Callable[[Any, list[Shape]], list[Shape]]


@dataclass
class Shapes:
    """Shapes by blob name: of the last layer that wrote it. ``unknown`` has the layers whose tops could not be found,
    each with the reason; ``seen``, for each layer, the shapes of its bottoms and tops at this layer (None: unknown)."""

    blobs: dict[str, Shape | None] = field(default_factory=dict)
    seen: list[tuple[list[Shape | None], list[Shape | None]]] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def infer_shapes(
    layers: Iterable[Any], inputs: Mapping[str, Shape | None] = {}, declared: Mapping[str, Shape] = {}
) -> Shapes:
    """Return the shape of each blob that the layers write, None if unknown; ``declared`` shapes take precedence."""
    shapes, ops = Shapes(dict(inputs)), layer_ops()
    for layer in layers:
        bottoms = [shapes.blobs.get(name) for name in layer.bottom]
        tops: list[Shape | None] = []
        try:
            tops += _tops(layer, bottoms, ops)
        except ShapeError as error:
            shapes.unknown[layer.name] = error.message
        tops += [None] * (len(layer.top) - len(tops))
        tops = [declared.get(name, top) for name, top in zip(layer.top, tops, strict=False)]
        shapes.blobs.update(zip(layer.top, tops, strict=False))
        shapes.seen.append((bottoms, tops[: len(layer.top)]))
    return shapes


def old_inputs(net: Any) -> dict[str, Shape | None]:
    """Return the inputs of a net without Input layers, with their shapes, or None for an input without a shape: from
    ``input`` with ``input_shape``, or with four ``input_dim`` for each."""
    shapes: dict[str, Shape | None] = {}
    for i, name in enumerate(net.input):
        if net.input_shape:
            shape = tuple(net.input_shape[min(i, len(net.input_shape) - 1)].dim)
        else:
            shape = tuple(net.input_dim[4 * i : 4 * i + 4])
        shapes[name] = shape or None
    return shapes


def unwritten_bottoms(net: Any) -> Iterator[tuple[Any, str, str]]:
    """Yield each layer with a bottom that no layer before it writes, the bottom, and a suggestion of another name.
    Caffe cannot load such a net: ``Unknown bottom blob`` (``Net<Dtype>::AppendBottom`` in ``src/caffe/net.cpp``)."""
    written = dict.fromkeys(net.input)
    for layer in net.layer:
        yield from ((layer, blob, did_you_mean(blob, written)) for blob in layer.bottom if blob not in written)
        written |= dict.fromkeys(layer.top)


def _tops(layer: Any, bottoms: list[Shape | None], ops: LayerOps) -> list[Shape]:
    """Return the shapes that a layer writes; raise :class:`ShapeError` if they cannot be inferred."""
    rule = REST.get(layer.type)
    if rule is None and layer.type not in ops:
        raise ShapeError(f"{layer.type} is not a layer whose shapes are known here")
    shapes = [shape for shape in bottoms if shape is not None]
    if len(shapes) < len(bottoms):
        names = [name for name, shape in zip(layer.bottom, bottoms, strict=True) if shape is None]
        raise ShapeError(f"the shape of its bottom {', '.join(names)} is not known")
    types = tuple(TensorType(shape) for shape in shapes)
    refusal = f"its parameters do not fit its bottoms, {', '.join(map(str, types)) or 'no bottom'}"
    try:
        op = read_layer(_of_same_shapes(layer), types, ops)
        if op is not None:
            return [top.shape for top in op.infer_tops(types)]
    except ShapeError as error:
        refusal = error.message
    if rule is not None:
        with suppress(IndexError):
            return rule(layer, shapes)
    raise ShapeError(refusal)


# What changes the numbers that a layer writes, and not the shapes: no op of ours has them.
NO_MATTER_OF_SHAPES = (
    ("dummy_data_param", ("data_filler",)),
    ("eltwise_param", ("operation",)),
    ("exp_param", ("base", "scale", "shift")),
    ("log_param", ("base", "scale", "shift")),
    ("pooling_param", ("pool",)),
    ("reduction_param", ("coeff", "operation")),
    ("scale_param", ("bias_term",)),
)


def _of_same_shapes(layer: Any) -> Any:
    """Return a copy of a layer without settings that do not change its shapes, so that the copy may be an op's."""
    plain = type(layer)()
    plain.CopyFrom(layer)
    plain.ClearField("propagate_down")
    for param, names in NO_MATTER_OF_SHAPES:
        for name in names if layer.HasField(param) else ():
            getattr(plain, param).ClearField(name)
    if layer.HasField("embed_param"):
        plain.embed_param.bias_term = False
    return plain


def _declared(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    param = layer.input_param if layer.type == "Input" else layer.dummy_data_param
    shapes = [tuple(shape.dim) for shape in param.shape]
    return [shapes[i if len(shapes) > 1 else 0] for i in range(len(layer.top))]


def flattened(layer: Any, shape: Shape) -> Shape:
    """Return the shape of a Flatten's top. Raises :class:`ShapeError` for axes that the bottom does not have."""
    param = layer.flatten_param
    start, stop = (front_axis(layer.type, axis, TensorType(shape)) for axis in (param.axis, param.end_axis))
    return (*shape[:start], prod(shape[start : stop + 1]), *shape[stop + 1 :])


def _recurrent(layer: Any, bottoms: list[Shape]) -> list[Shape]:
    steps, size, units = bottoms[0][0], bottoms[0][1], layer.recurrent_param.num_output
    return [(steps, size, units), *[(1, size, units)] * (len(layer.top) - 1)]


LIKE_BOTTOM = ("BatchNorm", "Clip", "LRN", "MVN", "PReLU", "Swish", "Threshold")
LOSSES = ("EuclideanLoss", "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "Accuracy")
REST: dict[str, Infer] = {
    **dict.fromkeys(LIKE_BOTTOM, lambda layer, bottoms: [bottoms[0]] * len(layer.top)),
    "Flatten": lambda layer, bottoms: [flattened(layer, bottoms[0])],
    "Silence": lambda layer, bottoms: [],
    # of several tops
    "Input": _declared,
    "DummyData": _declared,
    # with states that go in and come out
    "LSTM": _recurrent,
    "RNN": _recurrent,
    # of one number
    **dict.fromkeys(LOSSES, lambda layer, bottoms: [()]),
}


def listed_layers(net: bytes) -> tuple[Layer, ...]:
    """Return every layer in order. Raises :class:`BackendError` for text that is not a net, and for V1 layers."""
    read = proto.net_from_text(proto.net_text(net))
    shapes = infer_shapes(read.layer, old_inputs(read))
    return tuple(
        Layer(layer.name, layer.type, tuple(layer.bottom), tuple(layer.top), tuple(tops))
        for layer, (_, tops) in zip(read.layer, shapes.seen, strict=True)
    )


def warnings(layers: Iterable[Any], target: Target) -> tuple[Warned, ...]:
    """Return the target's warnings that apply to a net, each with the last layers of the paths that match it."""
    net = list(layers)
    matches = ((pitfall, _ends(net, pitfall)) for pitfall in target.warning)
    return tuple(Warned(p.name, ends, p.text, p.version, p.source) for p, ends in matches if ends)


def _ends(net: list[Any], pitfall: Pitfall) -> tuple[str, ...]:
    """Return the layers at which a path of the warning's types ends, in the order of the net."""
    gone: dict[str, set[int]] = {}  # blob -> lengths of beginnings of the path that end at its layer
    ends = []
    for layer in net:
        before = {0}.union(*(gone.get(bottom, ()) for bottom in layer.bottom))
        reached = {length + 1 for length in before if pitfall.path[length] == layer.type}
        if len(pitfall.path) in reached:
            ends.append(layer.name)
        for top in layer.top:
            gone[top] = reached - {len(pitfall.path)}
    return tuple(ends)


def lint_file(path: Path, target: Target) -> LintReport:
    """Check a file; raises :class:`BackendError` for an unreadable file, and as :func:`lint_text` does."""
    try:
        return lint_text(proto.net_text(read_file(path)), target)
    except OSError as error:
        raise BackendError(f"cannot be read: {error.strerror}") from None


def lint_text(text: str, target: Target) -> LintReport:
    """Check a prototxt against a target. Raises :class:`BackendError` for text that is not a net, and for V1 layers."""
    net, target = proto.net_from_text(text), target.reads or target  # the rules on nets from elsewhere
    shapes, before = infer_shapes(net.layer, old_inputs(net)), Before()
    violations = [*_misspelt(text, net), *_unwritten(net), *_old_inputs(net, shapes.blobs, target)]
    for layer, (bottoms, tops) in zip(net.layer, shapes.seen, strict=True):
        violations += lint_layer(layer, bottoms, tops, target)
        violations += before.lint(layer, target)
    asked = any(rule.axes or rule.steps_at_most or rule.rows_at_most or rule.columns_at_least for rule in target.rule)
    unknown = tuple(f"{name}: {why}" for name, why in shapes.unknown.items()) if asked else ()
    return LintReport(tuple(violations), unknown, len(net.layer), warnings(net.layer, target))


def lint_op(op: CaffeOp, bottoms: Sequence[TensorType], tops: Sequence[TensorType], target: Target) -> list[Violation]:
    """Check an op, as a layer to write. The number of rows is checked later, in the written layers."""
    layer = proto.LayerParameter(name=op.name, type=op.layer_type)
    layer.bottom.extend(f"bottom{number}" for number in range(len(bottoms)))
    layer.top.extend(f"top{number}" for number in range(len(tops)))
    op.write(layer)
    return list(lint_layer(layer, [t.shape for t in bottoms], [t.shape for t in tops], target, rows=False))


def misspelt(text: str, net: Any) -> Iterator[proto.UnknownField]:
    """Yield the misspelt fields of a net's text, except in unknown layers, whose fields may resemble known ones."""
    types = {*REST, *layer_ops()}
    for found in proto.misspelt_fields(text):
        if found.layer is None or found.message != "LayerParameter" or net.layer[found.layer].type in types:
            yield found


def _misspelt(text: str, net: Any) -> Iterator[Violation]:
    reason, source = "no program can load the net", "TextFormat of protobuf: Message type has no field named"
    for found in misspelt(text, net):
        layer = proto.NetParameter() if found.layer is None else net.layer[found.layer]
        kind = "net" if found.layer is None else layer.type
        expected = f"a field of {found.message}: did you mean {found.near}?"
        yield Violation(layer.name, kind, f"field {found.name} on line {found.line}", expected, reason, source)


def _unwritten(net: Any) -> Iterator[Violation]:
    reason, source = "no program can load the net", "Net::AppendBottom of Caffe: Unknown bottom blob"
    for layer, blob, near in unwritten_bottoms(net):
        yield Violation(layer.name, layer.type, f"bottom {blob}", f"a blob of a layer before it{near}", reason, source)


def _old_inputs(net: Any, shapes: dict[str, Shape | None], target: Target) -> Iterator[Violation]:
    """Yield a violation for each input outside of Input layers with a number of axes that the target does not take."""
    for name in net.input:
        for rule in target.restrictions_on("Input"):
            if rule.axes:
                for pair in _axes_problems(rule, [(name, shapes.get(name))]):
                    yield Violation(f"input {name}", "Input", *pair, rule.reason, rule.source)


def lint_layer(
    layer: Any, bottoms: Sequence[Shape | None], tops: Sequence[Shape | None], target: Target, rows: bool = True
) -> Iterator[Violation]:
    """Check a LayerParameter with blobs of these shapes (None: unknown); without ``rows``, not for limits of rows."""
    rules = target.restrictions_on(layer.type)
    forbidden = next((rule for rule in rules if rule.forbidden), None)
    if forbidden is not None:
        yield _violation(forbidden, layer, f"layer type {layer.type}", "a supported layer type")
        return
    if not target.lists(layer.type):
        listed, found = target.layers, f"layer type {layer.type}"
        allowed = f"one of {', '.join(listed.types)}"
        yield Violation(layer.name, layer.type, found, allowed, listed.reason, listed.source)
        return
    for rule in rules:
        if rows or rule.rows_at_most is None:
            yield from (_violation(rule, layer, *pair) for pair in _problems(rule, layer, bottoms, tops))


@dataclass
class Before:
    """The writer and the readers of each blob in the layers before a layer. Programs merge two Reshapes of one blob to
    one shape, so these count as one blob."""

    writers: dict[str, str] = field(default_factory=dict)  # blob -> type of the layer that wrote it
    readers: dict[str, list[Any]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)  # the first of equal Reshapes, by top and by operand

    def lint(self, layer: Any, target: Target) -> Iterator[Violation]:
        """Yield violations of the target's rules on a layer's neighbours, then add the layer. The first reader of a
        blob is checked when the second reader comes."""
        rules = target.restrictions_on(layer.type)
        for name in dict.fromkeys(layer.bottom):
            writer, readers = self.writers.get(name), self.readers.setdefault(self.first.get(name, name), [])
            for rule in rules:
                if writer in rule.not_after:
                    yield _violation(rule, layer, f"{name} is of a {writer}", "another layer between them")
            pairs = [(layer, readers[0])] if readers and writer in target.unshared else []
            for one, other in pairs + [(other, one) for one, other in pairs if len(readers) == 1]:
                for rule in target.restrictions_on(one.type):
                    if writer in rule.unshared:
                        yield _violation(rule, one, f"{name} is read by {other.name} too", "to be its only reader")
            if (layer.type, layer.power_param.scale) != ("Power", 0):  # a constant, which readers fold
                readers.append(layer)
        # equal Reshapes of a blob count as the first of them
        for bottom, top in zip(layer.bottom, layer.top, strict=False) if layer.type == "Reshape" else ():
            shape = f"{self.first.get(bottom, bottom)} as {layer.reshape_param}"
            self.first[top] = self.first.setdefault(shape, top)
        self.writers.update(dict.fromkeys(layer.top, layer.type))


Pair = tuple[str, str]  # of a violation: found, expected


def _problems(
    rule: Restriction, layer: Any, bottoms: Sequence[Shape | None], tops: Sequence[Shape | None]
) -> Iterator[Pair]:
    """Yield the problems of a layer by one rule, each as what was found and what is expected."""
    if rule.field:
        yield from _field_problems(rule, layer)
    elif rule.bottoms is not None:
        if len(layer.bottom) != rule.bottoms:
            yield _count(len(layer.bottom), "bottom"), _count(rule.bottoms, "bottom")
    elif rule.bottoms_at_most is not None:
        if len(layer.bottom) > rule.bottoms_at_most:
            yield f"{len(layer.bottom)} bottoms", f"at most {rule.bottoms_at_most} bottoms"
    elif rule.steps_at_most is not None:
        if bottoms and bottoms[0] is not None and bottoms[0][0] > rule.steps_at_most:
            yield f"{bottoms[0][0]} steps", f"at most {rule.steps_at_most} steps"
    elif rule.axes:
        yield from _axes_problems(rule, zip(layer.top, tops, strict=True))
    elif rule.rows_at_most is not None:
        for name, shape in zip(layer.top, tops, strict=True):
            if shape and shape[0] > rule.rows_at_most:
                yield f"blob {name} is {list(shape)}", f"at most {_count(rule.rows_at_most, 'row')}"
    elif rule.columns_at_least is not None:
        for name, shape in zip(layer.bottom, bottoms, strict=False):
            if shape and prod(shape[1:]) < rule.columns_at_least:
                found = f"blob {name} is {list(shape)}, with {_count(prod(shape[1:]), 'column')}"
                yield found, f"at least {_count(rule.columns_at_least, 'column')}"
    elif rule.bottoms_differ:
        large = [name for name, shape in zip(layer.bottom, bottoms, strict=True) if shape is None or prod(shape) > 1]
        twice = next((name for name, count in Counter(large).items() if count > 1), None)
        if twice is not None:
            yield f"{twice} is read several times", "each blob once"
    elif rule.no_windows:
        for shape in bottoms:
            windows = unusual_windows(layer, shape) if shape is not None and len(shape) == 4 else {}
            yield from ((text, WINDOWS[kind]) for kind, text in windows.items() if kind in rule.no_windows)
    elif not rule.in_place:
        overwritten = [name for name in layer.top if name in layer.bottom]
        yield from ((f"{name} is overwritten in place", "a top of another name") for name in overwritten)
    elif rule.every_size_given:
        sizes = list(layer.reshape_param.shape.dim)
        if any(size < 1 for size in sizes):
            yield f"shape {sizes}", "every size written out"


def _field_problems(rule: Restriction, layer: Any) -> Iterator[Pair]:
    """Yield the problem of a rule on a field of the layer: what was found and what is expected."""
    param, _, name = rule.field.rpartition(".")
    message = getattr(layer, param)
    content = getattr(message, name)
    if rule.absent:
        if hasattr(content, "__len__"):
            shown = ", ".join(f"{number:g}" for number in content)
        else:  # a message
            shown = "set" if message.HasField(name) else ""
        if shown:
            yield f"{name} is {shown}", f"no {name}"
    elif rule.present:
        if name not in {field.name for field, _ in message.ListFields()}:
            yield f"no {name}", f"{name} written out"
    elif rule.all_equal:
        if len(set(content)) > 1:
            yield f"{name} is {', '.join(map(_shown, content))}", f"{name} of equal numbers"
    else:
        value, label = proto.field_value(message, name), name
        old = proto.OLD_NAMES.get(rule.field)
        if old is not None and message.HasField(old):
            value, label = getattr(message, old), old
        field = message.DESCRIPTOR.fields_by_name[name]
        unset = label == name and not field.has_default_value and not message.HasField(name)
        if rule.one_of and not unset and value not in rule.one_of:
            yield f"{label} is {_shown(value)}", f"{name} {' or '.join(map(_shown, rule.one_of))}"
        if rule.at_most is not None and value > rule.at_most:
            yield f"{label} is {value}", f"{name} of at most {rule.at_most}"


def _axes_problems(rule: Restriction, blobs: Iterable[tuple[str, Shape | None]]) -> Iterator[Pair]:
    for name, shape in blobs:
        if shape is not None and len(shape) not in rule.axes:
            found = f"blob {name} is {list(shape)}, with {_count(len(shape), 'axis', 'axes')}"
            yield found, f"{' or '.join(map(str, rule.axes))} axes"


def _violation(rule: Restriction, layer: Any, actual: str, expected: str) -> Violation:
    return Violation(layer.name, layer.type, actual, expected, rule.reason, rule.source, rule.is_limit)


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
