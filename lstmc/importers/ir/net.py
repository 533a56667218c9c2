"""An imported net: its graph, its weights as recipes, and the facts of its import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lstmc.dsl.vocabulary import KEYWORDS, python_identifier
from lstmc.errors import ShapeError
from lstmc.importers.ir.values import Shape, ShapeProblem, Size, Weight, listed, named, open_names, plain, result_shapes
from lstmc.ir import Graph, Output, Ref, Scan
from lstmc.ops import Arg, Full, Input, IntegerRange, Leaf, Op, Param, Role, Types
from lstmc.passes.unrolled_steps import Step, graph_of_steps, steps_of
from lstmc.source import SrcLoc
from lstmc.text import Names, unused
from lstmc.types import OpenSize, TensorType

RESERVED = KEYWORDS | {"net", "N", "N_2", "N_3", "D", "S", "H", "P"}
CELL = re.compile(r"(rnn|gru|lstm)_cell(_\d+)?")  # names of the cells in a written model
_UNKNOWN = Ref("")  # the place of an output's value, until that value is in the graph


def place(origin: str) -> SrcLoc:
    """Return the location of a node of the source, which is described in words: layer 3 (conv1)."""
    return SrcLoc(origin, 0, 0, 0, 0)


def origin_of(step: Step) -> str:
    """Return the node of the source that a step comes from, in words."""
    return "" if step.loc is None else step.loc.file


@dataclass(frozen=True)
class Net:
    """A trained model: its graph, of core ops and ops of ``importers/ir/ops.py``, its weights, and facts of its import.

    - ``axes``: the permutation of each input or output whose axes are not in the source's order.
    - ``called``: the source's names of inputs and outputs.
    - ``notes``: remarks for the user.
    - ``ignored``: the unused tensors of the source, with reasons.
    - ``sizes``: the source's numbers for open sizes.
    - ``time``: the length of sequences, if it is open.
    - ``earlier``: for comparison, the source's net with each late output that has no axis of time computed as many
      steps earlier; a late output that it lacks is not compared.
    """

    graph: Graph
    origin: str
    params: dict[str, Weight]
    axes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ignored: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    time: tuple[OpenSize, ...] = ()
    earlier: Net | None = None

    @property
    def name(self) -> str:
        return self.graph.name

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return tuple(steps_of(self.graph))

    @cached_property
    def producers(self) -> dict[str, Step]:
        """The step that computes each value. Inputs and parameters are in no step."""
        return {value: step for step in self.steps for value in step.outputs}

    @cached_property
    def readers(self) -> dict[str, list[Step]]:
        """The steps that read each value; a step that reads the value twice is listed twice."""
        readers: dict[str, list[Step]] = {}
        for step in self.steps:
            for value in step.inputs:
                readers.setdefault(value, []).append(step)
        return readers

    @cached_property
    def leaves(self) -> dict[str, Leaf]:
        """The nodes that do not compute: inputs, parameters, and zeros from which states of loops start."""
        return {node.name: node.op for node in self.graph if isinstance(node.op, Leaf)}

    @cached_property
    def inputs(self) -> dict[str, Shape]:
        return {name: leaf.shape for name, leaf in self.leaves.items() if isinstance(leaf, Input)}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {name: t.shape for node in self.graph for name, t in zip(node.names, node.types, strict=True)}

    @cached_property
    def outputs(self) -> dict[str, str]:
        return {output.name: self.graph.value_name(output.ref) for output in self.graph.outputs}

    def source_inputs(self) -> dict[str, Shape]:
        """Return the shapes of the inputs by their names in the source."""
        return {self.called.get(name, name): shape for name, shape in self.inputs.items()}

    @property
    def delays(self) -> dict[str, int]:
        """The number of steps by which outputs are late."""
        return {output.name: output.delay for output in self.graph.outputs if output.delay}

    @property
    def states(self) -> dict[str, str]:
        """The states of a net that is one step: inputs, with the outputs that are their next values."""
        return {name: output.name for name, output in self.graph.carried().items()}

    def open_sizes(self) -> list[str]:
        return open_names(self.inputs)

    def of_steps(
        self, steps: Iterable[Step], leaves: Mapping[str, Leaf] | None = None,
        shapes: Mapping[str, Shape] | None = None, outputs: Mapping[str, str] | None = None,
        params: Mapping[str, Weight] = {}, delays: Mapping[str, int] | None = None, every_input: bool = True,
    ) -> Net:  # fmt: skip
        """Return the net with ``steps`` instead of its own, without those that no output needs and without unused
        leaves, except inputs if ``every_input``. ``params`` are further weights; an omitted argument keeps its
        value."""
        outputs = self.outputs if outputs is None else outputs
        weights = {**self.params, **params}
        own = {**(self.leaves if leaves is None else leaves)}
        own |= {n: Param(w.shape) for n, w in params.items() if n not in own or own[n].shape != w.shape}
        kept, needed = list[Step](), {*outputs.values()}
        for step in reversed([*steps]):
            if needed.intersection(step.outputs):
                kept.append(step)
                needed.update(step.inputs)
        own = {name: leaf for name, leaf in own.items() if name in needed or (every_input and isinstance(leaf, Input))}
        delays = self.delays if delays is None else delays
        results = [(Output(name, _UNKNOWN, delay=delays.get(name, 0)), value) for name, value in outputs.items()]
        graph = _graph(self.name, own, kept[::-1], self.shapes if shapes is None else shapes, results)
        graph = graph.carrying(self.states) if self.states else graph
        return replace(self, graph=graph, params={n: w for n, w in weights.items() if n in own})


def _graph(
    name: str, leaves: Mapping[str, Leaf], steps: Sequence[Step], shapes: Mapping[str, Shape],
    outputs: Iterable[tuple[Output, str]],
) -> Graph:  # fmt: skip
    """Return the graph of leaves and steps. ``shapes`` are those of the values; ``outputs`` has each output's value."""
    types = {value: TensorType(shapes[value]) for step in steps for value in step.outputs}
    types |= {value: TensorType(leaf.shape) for value, leaf in leaves.items()}
    return graph_of_steps(name, {value: (leaf, None) for value, leaf in leaves.items()}, steps, types, outputs)


@dataclass(frozen=True)
class MaskedScan(Scan):
    """A scan with the language's options ``cont`` or ``lengths``, whose values are its last operands."""

    name = "source.scan"
    options: tuple[str, ...] = ()

    def role(self, operand: int) -> Role:
        """Return the role of an operand; an option's value is a sequence (``cont``) or static (``lengths``)."""
        own = len(self.body.body_args())
        return super().role(operand) if operand < own else "x" if self.options[operand - own] == "cont" else "static"

    def infer(self, *args: TensorType) -> Types:
        own = args[: len(self.body.body_args())]
        batch = self.of_role("state", own)[0].shape[0]
        for option, arg in zip(self.options, args[len(own) :], strict=True):
            fits = (self.length, batch) if option == "cont" else (batch,)
            if arg.shape != fits:
                raise ShapeError(f"{option} must be {listed(fits)}, found {listed(arg.shape)}")
        return super().infer(*own)


def unmasked(step: Step) -> Step:
    """Return a :class:`MaskedScan`'s step with a plain scan, whose cell can be recognised; other steps unchanged."""
    if not isinstance(step.op, MaskedScan):
        return step
    scan, own = step.op, len(step.op.body.body_args())
    return replace(step, op=Scan(scan.body, scan.length, scan.reverse), inputs=step.inputs[:own])


def scan_names(name: str) -> tuple[str, str, str]:
    """Return the names that a written scan uses: its own, its cell's, and its last states'."""
    return name, f"{name}_cell", f"{name}_last"


def scan_of(title: str, body: Net, steps: Size, sequences: int, states: int, reverse: bool = False) -> Scan:
    """Return the scan that runs ``body`` for ``steps`` steps. The inputs of ``body`` are elements of so many
    ``sequences``, then so many ``states``, then static inputs; its outputs are the next states, then the outputs of the
    step. Raises :class:`ShapeProblem` for a state whose shape changes."""
    counts: dict[Role, int] = {"x": sequences, "state": states, "static": len(body.inputs) - sequences - states}
    roles = [role for role, count in counts.items() for _ in range(count)]
    leaves: dict[str, Leaf] = {name: Arg(s, role) for (name, s), role in zip(body.inputs.items(), roles, strict=True)}
    leaves |= {name: Arg(body.shapes[name], "weight") for name in body.params}
    results = [*body.outputs.values()]
    names = [*body.inputs][sequences : sequences + states]
    for state, value in zip(names, results, strict=False):
        if body.shapes[value] != body.inputs[state]:
            now, following = listed(body.inputs[state]), listed(body.shapes[value])
            raise ShapeProblem(f"state {state} is {now}, its next {following}")
    ys = results[states:]
    outputs = [(Output(str(place) if len(ys) > 1 else "", _UNKNOWN), value) for place, value in enumerate(ys)]
    outputs += [(Output(state, _UNKNOWN), value) for state, value in zip(names, results, strict=False)]
    return Scan(_graph(title, leaves, body.steps, body.shapes, outputs), steps, reverse and steps != 1)


def body_of(scan: Scan, weights: Sequence[Weight], constants: Mapping[Leaf, Weight] = {}) -> Net:
    """Return a loop's body as a net, the inverse of :func:`scan_of`; leaves in ``constants`` become parameters."""
    args = scan.body.body_args()
    params = dict(zip((arg.name for arg in scan.of_role("weight", args)), weights, strict=True))
    params |= {node.name: constants[node.op] for node in scan.body if isinstance(node.op, Full)}
    leaves: dict[str, Leaf] = {arg.name: Input(arg.types[0].shape) for arg in args if arg.name not in params}
    shapes = {name: t.shape for node in scan.body for name, t in zip(node.names, node.types, strict=True)}
    leaves |= {name: Param(shapes[name]) for name in params}
    outputs = [*scan.next_states, *(output._replace(name=f"y_{output.name}") for output in scan.step_outputs)]
    results = [(output, scan.body.value_name(output.ref)) for output in outputs]
    return Net(_graph(scan.body.name, leaves, [*steps_of(scan.body)], shapes, results), "", params)


def with_body(step: Step, scan: Scan, body: Net) -> tuple[Step, dict[str, Weight]]:
    """Return a step whose ``scan`` runs ``body`` instead, with the same arguments; and its weights by new names."""
    title, own = scan.body.name, len(scan.body.body_args())
    weights = {f"{title}/{role}": weight for role, weight in body.params.items()}
    inputs = [name for i, name in enumerate(step.inputs[:own]) if scan.role(i) != "weight"]
    sequences = len(scan.of_role("x", step.inputs[:own]))
    op = replace(scan, body=scan_of(title, body, scan.length, sequences, scan.states).body)
    return replace(step, op=op, inputs=(*inputs, *weights, *step.inputs[own:])), weights


def _spelled(hint: str) -> str:
    """Return a hint as an identifier that is no name of a cell."""
    stem = python_identifier(hint)
    return f"{stem}_value" if CELL.fullmatch(stem) else stem


class NetBuilder:
    """Builds a net step by step, with results' shapes and names; ``where`` is the source's node, if a step has none."""

    def __init__(self, name: str, origin: str, where: str = "") -> None:
        """Start an empty net. Its names avoid the words of Python and of the language."""
        self.name, self.origin, self.where = name, origin, where
        self.leaves: dict[str, Leaf] = {}
        self.params: dict[str, Weight] = {}
        self.steps: list[Step] = []
        self.shapes: dict[str, Shape] = {}
        self.notes: list[str] = []
        self.outputs, self.ignored, self.called = (dict[str, str]() for _ in range(3))  # as in Net
        self._names = Names(RESERVED, _spelled)
        self._producers: dict[str, Step] = {}  # value -> the step that computes it
        self.cells: dict[str, object] = {}  # title -> what layers of one title share; False for computed weights

    @classmethod
    def of(cls, net: Net) -> NetBuilder:
        """Return a builder with a net's leaves, parameters and shapes but no steps; new names differ from the net's."""
        builder = cls(net.name, net.origin)
        builder.leaves, builder.params, builder.shapes = dict(net.leaves), dict(net.params), dict(net.shapes)
        builder.reserve(name.partition("/")[0] for name in (*net.shapes, *net.params))
        for step in net.steps:
            if isinstance(step.op, Scan):
                builder.reserve(scan_names(step.op.body.name))
        return builder

    def fresh(self, hint: str) -> str:
        """Return an unused Python identifier made from ``hint``, numbered if necessary."""
        return self._names.unique(hint)

    def producer(self, name: str) -> Step | None:
        return self._producers.get(name)

    def input(
        self, hint: str, shape: Sequence[int | str], called: str | None = None, values: IntegerRange | None = None
    ) -> str:
        """Add an input and return its name; a size that is a text is an open size of this name. ``called`` is the name
        in the source, by default ``hint``; ``values`` is the range of the elements."""
        name = self.fresh(hint)
        self.called[name] = hint if called is None else called
        return self.leaf(name, Input(named(shape), values=values))

    def leaf(self, name: str, leaf: Leaf) -> str:
        self.leaves[name], self.shapes[name] = leaf, leaf.shape
        return name

    @property
    def inputs(self) -> dict[str, Shape]:
        return {name: leaf.shape for name, leaf in self.leaves.items() if isinstance(leaf, Input)}

    def param(self, weight: Weight, hint: str) -> str:
        """Add a parameter and return its name; a weight of the same source tensors is the same parameter."""
        for name, other in self.params.items():
            if weight.sources and other == weight and "/" not in name:
                return name
        name = self.fresh(hint)
        self.hold({name: weight})
        return name

    def hold(self, weights: Mapping[str, Weight]) -> None:
        self.params |= weights
        for name, weight in weights.items():
            self.leaf(name, Param(weight.shape))

    def output(self, hint: str, value: str) -> str:
        """Make a value an output, and return the output's name: numbered if an input or output has this name."""
        stem = re.sub(r"\W+", "_", hint, flags=re.ASCII).strip("_") or "Y"
        stem = f"Y_{stem}" if stem[0].isdigit() else stem
        name, count = stem, len(self.outputs)
        while name in self.outputs or self.called.get(name, hint) != hint:  # an input may have become this name
            name, count = f"{stem}_{count}", count + 1
        self.outputs[name] = value
        self.called[name] = hint
        return name

    def add(
        self, op: Op, *values: str, hint: str, origin: str | None = None, hints: Iterable[str] = ()
    ) -> tuple[str, ...]:
        """Add a step and return its results' names. Raises :class:`ShapeProblem` if the operands' shapes do not fit."""
        shapes = result_shapes(op, *(self.shapes[value] for value in values))
        stems = list(hints) or [hint] * len(shapes)
        names = tuple(self.fresh(one) for one in stems)
        self.put(Step(op, values, names, place(self.where if origin is None else origin)), shapes)
        return names

    def put(self, step: Step, shapes: Sequence[Shape] | None = None) -> None:
        """Add a step whose results have names already; their shapes are inferred by default."""
        if shapes is None:
            shapes = result_shapes(step.op, *(self.shapes[value] for value in step.inputs))
        self.shapes.update(zip(step.outputs, shapes, strict=True))
        self.steps.append(step)
        self._producers.update(dict.fromkeys(step.outputs, step))

    def one(self, op: Op, *values: str, hint: str = "value", origin: str | None = None) -> str:
        (name,) = self.add(op, *values, hint=hint, origin=origin)
        return name

    def scan_name(self, hint: str) -> str:
        """Return an unused name for a scan, and reserve it with its derived names (:func:`scan_names`)."""
        name = self.fresh(hint)
        while self._names.taken.intersection(scan_names(name)[1:]):
            name = self.fresh(hint)
        self.reserve(scan_names(name))
        return name

    def reserve(self, names: Iterable[str]) -> None:
        self._names.taken.update(names)

    def loop(
        self, title: str, body: Net, sequences: Sequence[str], states: Mapping[str, str | None],
        static: Sequence[str], steps: Size, reverse: bool = False,
    ) -> tuple[str, ...]:  # fmt: skip
        """Add a loop over time. Return the names of its outputs over time, then of its last states. ``title`` comes
        from :meth:`scan_name`, or is that of an earlier loop with the same weights. ``body`` has inputs for the
        sequences, the states and the static values, in this order; its outputs are the next states, then each step's
        outputs. ``states`` has the first value of each state, None for zeros."""
        weights = {f"{title}/{role}": weight for role, weight in body.params.items()}
        self.hold(weights)
        first = dict(states)
        for state in (state for state, value in states.items() if value is None):
            first[state] = zeros = unused(f"{title}/{state}_0", self.leaves.__contains__)
            self.leaf(zeros, Full(tuple(map(plain, body.inputs[state]))))
        op = scan_of(title, body, steps, len(sequences), len(states), reverse)
        hints = [f"{title}_y"] * (len(body.outputs) - len(states)) + [f"{title}_{state}_T" for state in states]
        operands = [*sequences, *map(str, first.values()), *static, *weights]
        return self.add(op, *operands, hint="", hints=hints)

    def finish(self, every_input: bool = False, stored: Iterable[str] = (), why: str = "") -> Net:
        """Return the net without unused steps and parameters, and without unused inputs unless ``every_input`` is set.
        Tensors of the source (``stored``) that it does not use are listed as ignored, with the reason ``why``."""
        net = Net(_graph(self.name, {}, (), {}, ()), self.origin, {}, called=self.called)
        net = net.of_steps(self.steps, self.leaves, self.shapes, self.outputs, self.params, every_input=every_input)
        idle = [self.called[name] for name in self.inputs if name not in net.inputs]
        missing = [f"No output depends on input {name}: it is left out." for name in idle]
        used = {name for weight in net.params.values() for name in weight.sources}
        ignored = {**self.ignored, **{name: why for name in stored if name not in used}}
        return replace(net, notes=(*self.notes, *missing), ignored=ignored)
