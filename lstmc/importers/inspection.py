"""Inspection of a trained model: what it is, and what an import will do with it. Nothing is run or written."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from html import escape
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

from lstmc.errors import ShapeError
from lstmc.importers.canonical import roll_up
from lstmc.importers.canonical.frame import Places, axes_of, equal_axes
from lstmc.importers.canonical.states import RECURRENT, States, step_states
from lstmc.importers.canonical.time import is_zero, time_places
from lstmc.importers.frames import Reading, at_sizes, of_one
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.importers.importer import ONNX, TFLITE, ImportedModel, reader_of, source_of
from lstmc.importers.ir.net import Net, origin_of, unmasked
from lstmc.importers.ir.values import Shape, open_sizes
from lstmc.importers.read.onnx_file import load_onnx
from lstmc.importers.read.tflite_file import TfliteFile
from lstmc.importers.refusal import RefusedError, SourceError
from lstmc.importers.runtimes import TorchLayers
from lstmc.importers.sources import ImportOptions
from lstmc.importers.zoo import recipe_of
from lstmc.ir import Scan, graph_work, with_sizes
from lstmc.ops import Add, Concat, Conv, Full, Input, Linear, Mul, Pointwise, Reshape, Split
from lstmc.passes.unrolled_steps import Step
from lstmc.patterns import Unrecognised, recognise
from lstmc.text import nearest_or_all

__all__ = ["Inspection", "inspect"]

SEQUENCE = (
    "Each call starts from zeros: feed whole sequences, or convert it with `step`, which makes states of its pasts."
)
SHOWN = 3  # nodes of one kind
LISTS = files("lstmc.importers") / "operator_lists"
MOST = 24  # the most values of one shape that are tried as the next value of a past
DEEPEST = 5  # the most nodes that take a state out of a stack of states
CUT = "/end of a window"
_DIRECTIONS = "in|out|input|output|prev|previous|next|new|old|past|present|initial|final|i|o|n|t"  # of a step


@dataclass(frozen=True)
class Value:
    """An input or an output: its sizes, as numbers or names, and the meaning of each axis, such as "time"."""

    name: str
    shape: tuple[int | str, ...]
    axes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} [{', '.join(f'{s} {a}' for s, a in zip(self.shape, self.axes, strict=True))}]"


@dataclass(frozen=True)
class Part:
    """Recurrent layers of one kind: the cell, the ``units`` of each layer, the axis they run along, and their nodes."""

    kind: str
    units: tuple[int, ...]
    over: str
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        same = len({*self.units}) == 1
        units = f"{len(self.units)} x {self.units[0]}" if same else ", ".join(map(str, self.units))
        more = f" and {len(self.nodes) - SHOWN} more" * (len(self.nodes) > SHOWN)
        return f"{self.kind} {units} {self.over}: {', '.join(self.nodes[:SHOWN])}{more}"


@dataclass(frozen=True)
class Unread:
    """An operator that is not read: the number of its nodes, the first node, its line in the source, and the remedy."""

    what: str
    count: int
    node: str
    line: str
    mend: str


@dataclass(frozen=True)
class Left:
    """Nodes of an operator that is not in a runtime's published list, or there with a limit: ``why`` says it."""

    runtime: str
    operator: str
    count: int
    why: str


@dataclass(frozen=True)
class Inspection:
    """The result of :func:`inspect`. ``pasts`` are values that layers pass from step to step, ``perhaps`` pairs of an
    input and output that may be states by shapes and names alone; ``notes`` say how the net can be streamed."""

    file: str
    kind: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...] = ()
    parts: tuple[Part, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    pasts: tuple[Past, ...] = ()
    perhaps: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()
    left: tuple[Left, ...] = ()
    lists: tuple[str, ...] = ()

    @property
    def lost(self) -> bool:
        """Whether a stream loses a past, or an operator is not read."""
        return bool(self.unread) or any(past.lost for past in self.pasts)

    def facts(self) -> dict[str, object]:
        """Return the inspection as values for JSON."""
        return {**asdict(self), "lost": self.lost}

    def __str__(self) -> str:
        sizes = f": {self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds a step" * (not self.unread)
        lines = [f"{self.file} ({self.kind}){sizes}", *_block("inputs", self.inputs), *_block("outputs", self.outputs)]
        lines += _block("recurrent parts", self.parts)
        carried = [f"{p.input} -> {p.output}: {p.node}" for p in self.pasts if not p.lost]
        lost = [f"{p.input or p.output or 'no name'}: {p.node}: {p.lost}" for p in self.pasts if p.lost]
        lines += _block("states", carried)
        lines += _block("not proved, but may be states", [f"{a} -> {b}" for a, b in self.perhaps])
        lines += [*_block("LOST between two calls", lost), *_block("time", self.notes)]
        told = [f"{u.count} x {u.what}: {u.node}{f' at {u.line}' * bool(u.line)}: {u.mend}" for u in self.unread]
        lines += _block("NOT READ", told)
        for title in self.lists:
            name = title.partition(":")[0]
            left = [f"{one.count} x {one.operator}: {one.why}" for one in self.left if one.runtime == name]
            lines += _block(title, left or ["all operators are in the list"])
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def _block(title: str, rows: Iterable[object]) -> list[str]:
    """Return a title and indented rows after an empty line; nothing without rows."""
    lines = [f"  {row}" for row in rows]
    return ["", title, *lines] if lines else []


@dataclass(frozen=True)
class Past:
    """A value that a node keeps from step to step: the names of its ``input`` and of the ``output`` that is its next
    value, or ""; ``why`` is the proof in words, ``lost`` the reason why a stream loses the value, or ""."""

    node: str
    input: str
    output: str
    why: str
    lost: str = ""


def pasts(net: Net, freed: Net, time: Mapping[str, int] = {}) -> list[Past]:
    """Return the values that a net keeps from step to step: a net of one frame or, along ``time`` (axes of inputs), the
    loops of a net of sequences. In ``freed`` stored zeros that may be such values are inputs: with them as inputs, and
    their possible next values as outputs, :func:`step_states` can prove which are pasts."""
    called = {name: net.called.get(name, name) for name in (*net.inputs, *net.outputs)}
    loops = bool(time)
    proved = step_states(net, {}, loops).proved
    found = [Past(reader(net, a), called[a], called[b], why) for a, (b, why) in proved.items()]
    found = [replace(past, lost=lost) for past, lost in zip(found, crossed(found), strict=True)]
    known = {a: b for a, (b, _) in proved.items()}
    freed = with_zeros_as_inputs(freed, time)
    for a, (b, why) in step_states(freed, known, loops).proved.items():
        known[a] = b
        if a in net.inputs:
            found.append(Past(reader(freed, a), called[a], called[b], why))
        else:
            lost = f"it starts from zeros at every call: {called[b]} has its next value, and no input takes it"
            found.append(Past(reader(freed, a), "", called[b], why, lost))
    reshaped = {_before_reshapes(freed, value): called[name] for name, value in freed.outputs.items()}
    for a, following, why in unread(freed, known, loops):
        if a in net.inputs and known.keys() | {a} >= net.inputs.keys():
            continue  # one input must be left that is no state
        output = "" if a in net.inputs else reshaped.get(_before_reshapes(freed, following), "")
        begins = f"{called[a]} has it" if a in net.inputs else "it starts from zeros at every call"
        ends = f": {output} has its next value, and no input takes it"
        ends = ends if output else ", and no output is its next value"
        found.append(Past(reader(freed, a), called.get(a, ""), output, why, f"{begins}{ends}"))
    return found


def _before_reshapes(net: Net, value: str) -> str:
    """Return the value that reshapes alone turn into ``value``; ``value`` itself if no reshape makes it."""
    while (step := net.producers.get(value)) is not None and isinstance(step.op, Reshape):
        value = step.inputs[0]
    return value


def reader(net: Net, name: str) -> str:
    """Return the first node that computes with a value, past nodes that only move it; the value's name if none does."""
    names = {name}
    for step in net.steps:
        if names.intersection(step.inputs):
            if not step.op.moves or isinstance(step.op, Concat):
                return origin_of(step)
            names.update(step.outputs)
    return name


def stem(name: str) -> str:
    """Return a state's name without words for before or after a step, as ``next``: ``h`` for ``h_0`` and ``ht``."""
    if match := re.fullmatch(r"([hc])_?[0nt]", name):
        return match[1]
    return "_".join(word for word in re.findall(r"[a-z]+|\d+", name.lower()) if not re.fullmatch(_DIRECTIONS, word))


def crossed(found: list[Past]) -> Iterator[str]:
    """Yield for each past "", or why its names contradict its proof: the output named like its input is not its own."""
    outputs = {stem(past.output): past.output for past in found}
    for past in found:
        named = outputs.get(stem(past.input), past.output)
        crosses = named != past.output and stem(past.output) in {stem(other.input) for other in found}
        yield (f"its next value is {past.output}, and {named} has its name: the two are exchanged" if crosses else "")


def with_zeros_as_inputs(net: Net, time: Mapping[str, int]) -> Net:
    """Return the net with inputs in place of zeros that layers compute with, and of zeros from which loops begin."""
    names: dict[str, None] = {}
    bands = layer_axes(net, time)[1] if time else {}
    for step in net.steps:
        op = step.op
        for slot, value in enumerate(step.inputs):
            zeros = value in net.params and prod(net.shapes[value]) > 1 and is_zero(net, value)
            if isinstance(op, Scan):
                kept = op.length == 1 or (bool(time) and not (op.reverse or is_over(bands, op, step)))
                zeros = (zeros or isinstance(net.leaves.get(value), Full)) and kept and op.role(slot) == "state"
            elif isinstance(op, Add) or (isinstance(op, Linear | Conv) and slot):
                zeros = False  # zeros that are added, or weights and biases of zeros
            names |= {value: None} if zeros else {}
    leaves = {**net.leaves, **{name: Input(net.shapes[name]) for name in names}}
    params = {name: weight for name, weight in net.params.items() if name not in names}
    return replace(net, params=params).of_steps(net.steps, leaves)


def layer_axes(net: Net, time: Mapping[str, int] = {}) -> tuple[list[dict[str, int]], dict[str, int]]:
    """Return the axes that may be time, each as a dict from values to axes, and one such dict for bands: axes along
    which loops run both ways beside loops over time. Open axes, and the axes ``time`` of inputs, take precedence."""
    near = equal_axes(net)
    places = [_through_loops(net, near, dict(axis)) for axis in time_places(net) if axis]
    backwards = {v for s in net.steps if isinstance(s.op, Scan) and s.op.reverse for v in s.op.of_role("x", s.inputs)}
    both = [axis for axis in places if any(axis.get(value) == 0 for value in backwards)]
    single = any(isinstance(step.op, Scan) and step.op.length == 1 for step in net.steps)  # a net of one frame
    both = both if single or len(both) < len(places) else []
    times = [axis for axis in places if axis not in both and not axis.keys().isdisjoint(net.inputs)]
    sized = ((name, at, size) for name, shape in net.inputs.items() for at, size in enumerate(shape))
    named = time.items() or [(name, at) for name, at, size in sized if open_sizes((size,))]
    opened = [axis for axis in times if any(axis.get(name) == at for name, at in named)]
    others = both or [axis for axis in times if opened and axis not in opened]
    return opened or times, {value: axis for one in others for value, axis in one.items()}


def _through_loops(net: Net, near: Places, axes: dict[str, int]) -> dict[str, int]:
    """Return each value's axis, also through loops; the given ``axes`` if a layer mixes all elements of the axis."""
    try:
        return axes_of(net, near, axes)
    except RefusedError:  # a layer relates all its elements
        return axes


def is_over(axes: Mapping[str, int], loop: Scan, step: Step) -> bool:
    return any(axes.get(value) == 0 for value in loop.of_role("x", step.inputs))


def unread(net: Net, known: Mapping[str, str], loops: bool) -> Iterator[tuple[str, str, str]]:
    """Yield inputs whose next value, or that of a part, is computed but is no output; with this value and the proof."""
    known = dict(known)
    for depth in range(DEEPEST):
        made, owner = exposed(net, [name for name in net.inputs if name not in known], depth)
        for name, (output, why) in step_states(made, known, loops).proved.items():
            if owner[name] not in known:
                known[owner[name]] = ""
                yield owner[name], made.outputs[output], why


def exposed(net: Net, inputs: Collection[str], depth: int) -> tuple[Net, dict[str, str]]:
    """Return the net with possible next values of ``inputs`` as further outputs, and a map from its inputs to
    ``inputs``: a part that up to ``depth`` nodes take out of an input is an input of its own."""
    owner = {name: name for name in inputs}
    steps, leaves, shapes = list(net.steps), dict(net.leaves), dict(net.shapes)
    for _ in range(depth):
        cut = [step for step in steps if step.op.moves and len(step.inputs) == 1 and step.inputs[0] in owner]
        cut = [step for step in cut if step.inputs[0] in leaves]
        for step in cut:
            owner |= dict.fromkeys(step.outputs, owner[step.inputs[0]])
            leaves |= {name: Input(shapes[name]) for name in step.outputs}
        steps = [step for step in steps if step not in cut]
    wanted = {shapes[name] for name in owner if name in leaves}
    values, counts = dict[str, str](), dict[object, int]()
    for step in [*steps]:
        if isinstance(step.op, Conv):
            steps += _ends(net, step, wanted, shapes, values)
        if _may_be_next(net, step):
            for value in step.outputs:
                count = counts[shapes[value]] = counts.get(shapes[value], 0) + 1
                if shapes[value] in wanted and count <= MOST:
                    values[f"{value}/"] = value
    return net.of_steps(steps, leaves, shapes, {**net.outputs, **values}, every_input=not depth), owner


def _may_be_next(net: Net, step: Step) -> bool:
    """Return whether the results of a step may be next values of states, judged by its op."""
    makers = [net.producers.get(name) for name in step.inputs]
    if isinstance(step.op, Reshape):
        return makers[0] is not None and _may_be_next(net, makers[0])
    if isinstance(step.op, Mul):  # the output gate times the function of an LSTM's cell state
        return all(maker is not None and isinstance(maker.op, Pointwise) for maker in makers)
    return isinstance(step.op, Add | Concat | Scan)


def _ends(
    net: Net, step: Step, wanted: Collection[object], shapes: dict[str, Shape], values: dict[str, str]
) -> Iterator[Step]:
    """Yield a step that cuts off the end of a convolution's window, the next past, if the window begins with a past of
    a ``wanted`` shape. The step's results are added to ``shapes``, and the next past to ``values``."""
    join = net.producers.get(_before_reshapes(net, step.inputs[0]))
    if join is None or not isinstance(join.op, Concat):
        return
    window, axis, past = join.outputs[0], join.op.axis, shapes[join.inputs[0]]
    rest = shapes[window][axis] - past[axis]
    if past in wanted and f"{window}{CUT}" not in values:
        names = (f"{window}/front", f"{window}{CUT}")
        shapes |= {names[0]: (*past[:axis], rest, *past[axis + 1 :]), names[1]: past}
        values[names[1]] = names[1]
        yield Step(Split(axis, (rest, past[axis])), (window,), names, step.loc)


def inspect(path: Path | str, *, runtimes: Sequence[str] = (), **options: Any) -> Inspection:
    """Return what a trained model is: inputs, recurrent parts, carried and lost states, operators that are not read.

    ``runtimes`` names published lists of operators, such as ``"rknn"``, in which the file's operators are looked up.
    ``options`` are those of :func:`~lstmc.importers.import_file` for reading, such as ``shapes``. No code of the file
    is executed. Raises :class:`~lstmc.importers.refusal.SourceError` for a file that cannot be read.
    """
    if recipe := recipe_of(path):
        chosen = recipe.arguments(options)
        known = {each.name for each in fields(ImportOptions)}
        return inspect(recipe.path(), runtimes=runtimes, **{name: chosen[name] for name in chosen if name in known})
    path = Path(path)
    reading = Reading(reader_of(path, **{"recurrent_only": False, **options}), options.get("shapes", {}))
    left, lists = _left(path, runtimes) if runtimes else ((), ())
    try:
        model = ImportedModel.of_reading(reading)
    except RefusedError as refused:
        inputs = tuple(_value(name, shape, {}) for name, shape in refused.inputs.items())
        kind, notes = source_of(path).summary, tuple(refused.notes)
        return Inspection(path.name, kind, inputs, notes=notes, unread=_unread(refused), left=left, lists=lists)
    net = model.described
    made = Inspection(path.name, model.kind, (), left=left, lists=lists)
    # a state dict has layers alone: the states that its program keeps are not in the file
    layers = isinstance(model.runtime, TorchLayers)
    found, sequence = ([], True) if layers else _audit(path, net, reading, options)
    frame = reading.if_it_can(of_one(net.source_inputs())) if net.open_sizes() else None
    one = net if frame is None else frame.described  # read with 1 for each open size
    times, bands = layer_axes(net)
    time = times[0] if len(times) == 1 else {}
    time = {value: axis for value, axis in time.items() if sequence or open_sizes((net.shapes[value][axis],))}
    states = {name for past in found for name in (past.input, past.output)}
    frame_states = step_states(one)
    alike = [(net.called.get(a, a), net.called.get(b, b)) for a, b in frame_states.alike if not sequence]
    alike = [(a, b) for a, b in alike if stem(b).startswith(stem(a) or " ")]
    masks = {v: len(net.shapes[v]) - 1 for step in net.steps for v in step.inputs[len(unmasked(step).inputs) :]}
    length = 1 if layers else next((one.shapes[v][a] for v, a in time.items() if v in one.shapes), 1)
    graph = with_sizes(net.graph, dict.fromkeys(net.open_sizes(), 1)) if layers else one.graph

    def value(name: str, own: str) -> Value:
        called = net.called.get(name, name)
        kinds = {"time": time.get(own), "band": bands.get(own), "batch": masks.get(own)}
        return _value(called, net.shapes[own], {"state": None} if called in states else kinds)

    return replace(
        made,
        inputs=tuple(value(name, name) for name in net.inputs),
        outputs=tuple(value(name, own) for name, own in net.outputs.items()),
        parts=tuple(_parts(roll_up(net.of_steps(map(unmasked, net.steps))), frame_states)),
        parameters=sum(prod(weight.shape) for weight in net.params.values()),
        multiply_adds=graph_work(graph).multiply_adds // max(int(length), 1),
        pasts=tuple(found),
        perhaps=tuple(pair for pair in alike if states.isdisjoint(pair)),
        notes=tuple(_notes(model, found)) if sequence else (),
    )


def _audit(path: Path, net: Net, reading: Reading, options: Mapping[str, Any]) -> tuple[list[Past], bool]:
    """Return a net's pasts, and whether it runs over sequences: then none, unless one is an input or an output."""
    times = layer_axes(net)[0]
    sequence = bool(times)
    sizes = of_one(net.source_inputs()) if net.open_sizes() else {}
    found: list[Past] = []
    along = {name: axis for name, axis in times[0].items() if name in net.inputs} if len(times) == 1 else {}
    for time in ({}, along) if along else ({},):
        if time and net.open_sizes():
            names = {str(net.inputs[name][axis]): 3 for name, axis in time.items()}
            sizes = at_sizes(net.source_inputs(), {**dict.fromkeys(net.open_sizes(), 1), **names})
        source = reading.if_it_can(sizes) if sizes else None
        frame = net if source is None else source.described
        if any(open_sizes(shape) for shape in frame.shapes.values()):
            return [], sequence
        freed = _freed(path, {**sizes, **reading.shapes}, options) or frame
        found = pasts(frame, freed, time)
        if not time and any(past.why != RECURRENT and past.input and past.output for past in found):
            return found, False
    streams = not sequence or any(past.input or past.output for past in found)
    return [past for past in found if streams], sequence


def _freed(path: Path, shapes: Mapping[str, Sequence[int]], options: Mapping[str, Any]) -> Net | None:
    """Return an ONNX graph's net in which zeros that may be pasts are inputs; None for other files, or if refused."""
    if not ONNX.knows(path):
        return None
    try:
        return describe_onnx(load_onnx(path), path.name, path.parent, shapes, options.get("values", {}), free=True)
    except (RefusedError, SourceError):
        return None


def _value(name: str, shape: Shape, kinds: Mapping[str, int | None]) -> Value:
    """Return an input or output with a word for each axis: its kind in ``kinds`` (kind: place), batch or feature."""
    state = "state" in kinds
    axes = ["state" if state else "feature"] * len(shape)
    for kind, place in kinds.items():
        if place is not None:
            axes[place] = kind
    if not state and "feature" in axes[:-1]:
        axes[axes.index("feature")] = "batch"
    return Value(name, tuple(str(size) if open_sizes((size,)) else int(size) for size in shape), tuple(axes))


def _parts(net: Net, frame: States) -> Iterable[Part]:
    """Yield the recurrent parts of a net: its loops, and the cells written out in the net of one frame (``frame``)."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    bands = layer_axes(net)[1]
    for step in net.steps:
        if not isinstance(step.op, Scan):
            continue
        node = next(node.name for node in net.graph if node.op is step.op)
        try:
            cell = recognise(net.graph, node)
        except ShapeError:  # units are unknown
            cell = Unrecognised(node, {})
        states = step.outputs[len(step.outputs) - step.op.states :]
        units = [int(net.shapes[state][-1]) for state in states] or [0]
        kind = f"cell of {len([*step.op.body])} nodes" if isinstance(cell, Unrecognised) else type(cell).__name__
        over = f"over {step.op.length} bands" if is_over(bands, step.op, step) else "over time"
        over += ", backwards" if step.op.reverse else ""
        groups.setdefault((kind, over), []).append((units[0], origin_of(step)))
    for node_name, (kind, size, count) in frame.cells.items():
        groups.setdefault((f"{kind} written out in {count} nodes,", "a step"), []).append((size, node_name))
    for (kind, over), layers in groups.items():
        yield Part(kind, tuple(size for size, _ in layers), over, tuple(dict.fromkeys(node for _, node in layers)))


def _notes(model: ImportedModel, found: Sequence[Past]) -> Iterable[str]:
    """Yield how a net of sequences can be streamed: the delays of outputs, or the layers that need the future."""
    try:
        streamed = model.streamed().net
    except (RefusedError, SourceError) as error:
        yield from [f"cannot be streamed: {refusal}" for refusal in getattr(error, "refusals", [error])]
        return
    if not any(past.input and past.output for past in found):
        yield SEQUENCE
    yield from (note for note in streamed.notes if note.startswith("Output ") and note not in model.net.notes)


def _unread(refused: RefusedError) -> tuple[Unread, ...]:
    """Return the operators that are not read, each with the number of its nodes."""
    by_what: dict[str, list[Any]] = {}
    for refusal in refused.refusals:
        operator = refusal.node.rpartition("(")[2].rstrip(")")
        what = refusal.value if refusal.attribute == "operator" else f"{operator}: {refusal.why}"
        by_what.setdefault(what, []).append(refusal)
    return tuple(Unread(what, len(r), r[0].node, r[0].line, r[0].mend) for what, r in by_what.items())


@cache
def operator_lists() -> Mapping[str, Mapping[str, Any]]:
    """Return the published lists of operators by the runtime's name."""
    paths = sorted((path for path in LISTS.iterdir() if path.name.endswith(".toml")), key=lambda path: path.name)
    return {path.name.removesuffix(".toml"): tomllib.loads(path.read_text("utf-8")) for path in paths}


def _left(path: Path, runtimes: Sequence[str]) -> tuple[tuple[Left, ...], tuple[str, ...]]:
    """Return the nodes that runtimes do not take, and the title of each list; a runtime of another format takes no
    node. Raises :class:`SourceError` for an unknown list, and for a file that is neither ONNX nor TFLite."""
    lists = operator_lists()
    for name in runtimes:
        if name not in lists:
            raise SourceError(f"no list of operators {name}{nearest_or_all(name, lists, 'the lists are')}")
    form, nodes = _nodes(path)
    left = []
    for name in runtimes:
        known, of = lists[name], lists[name].get("format", "ONNX")
        if form != of:
            why = f"the list {name} is for {of}: convert the file for backend {of.lower()}, and inspect that net"
            if not nodes:
                raise SourceError(f"{path.name}: {why}")
            left.append(Left(name, f"{form} operator", len(nodes), why))
            continue
        counts = Counter((operator, _why(known, operator, kinds)) for operator, kinds in nodes)
        left += [Left(name, operator, count, why) for (operator, why), count in sorted(counts.items()) if why]
    chosen = ((name, lists[name]) for name in runtimes)
    titles = [f"{name}: {of['title']}, read on {of['read']} from {of['source']}" for name, of in chosen]
    return tuple(left), tuple(titles)


def _nodes(path: Path) -> tuple[str, list[tuple[str, set[str]]]]:
    """Return a file's format ("": another), and each node's operator with, in TFLite, its computed values' types."""
    if ONNX.knows(path):
        return "ONNX", [(node.op_type, set()) for node in load_onnx(path).graph.node if node.op_type != "Constant"]
    if not TFLITE.knows(path):
        return "", []
    file = TfliteFile(path)
    places = [(each.code, (*each.inputs, *each.outputs)) for each in file.operators]
    values = {place: tensor.kind for place, tensor in enumerate(file.tensors) if tensor.stored is None}
    return "TFLite", [(code, {values[place] for place in at if place in values}) for code, at in places]


def _why(known: Mapping[str, Any], operator: str, kinds: set[str]) -> str:
    """Return why a list does not take an operator on values of these types, or the limit it states; "" if neither."""
    if operator not in known["operators"]:
        return str(known["others"])
    if other := sorted(kinds - {*known.get("elements", kinds)}):
        return f"values of {other[0].lower()}: the list has {', '.join(known['elements']).lower()}"
    limit = known["limits"].get(operator)
    return f"listed with the limit: {limit}" if limit else ""
