"""The import IR of a trained model: inputs, parameters, steps in order and outputs; loops whose body is such a net."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lstmc.dsl.printer import KEYWORDS, python_identifier
from lstmc.importers.ir.recur import Cell, Loop, Recur
from lstmc.importers.ir.sizes import (
    OpenSize,
    Shape,
    ShapeProblem,
    Size,
    listed,
    named,
    open_sizes,
    result_shapes,
)
from lstmc.importers.weight import Weight
from lstmc.ops import Op
from lstmc.text import unused

RESERVED = KEYWORDS | {"net", "N", "D", "S", "H", "P"}
CELL = re.compile(r"(rnn|gru|lstm)_cell(_\d+)?")  # names of the cells in a written model


@dataclass(frozen=True)
class Step:
    """An op with the names of its operands and results. ``origin`` is its place in the source, for messages."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class Net:
    """A trained model: ``inputs`` and ``params`` by name, the value of each of ``outputs``, ``shapes`` of all values.

    ``axes`` has the permutation of each input or output whose axes are not in the source's order.
    ``called`` has the source's own names of inputs and outputs. ``notes`` are remarks for the user, ``ignored``
    the unused tensors of the source, each with the reason. ``sizes`` has the source's numbers for open sizes;
    ``delays`` the number of steps by which an output is late; ``time`` is the length of sequences, where that is open.
    ``earlier`` is the source's net of which each late output without an axis of time is that of as many steps before,
    for comparison; an output that has none there is not compared.
    """

    name: str
    origin: str
    inputs: dict[str, Shape]
    params: dict[str, Weight]
    steps: tuple[Step, ...]
    outputs: dict[str, str]
    shapes: dict[str, Shape]
    axes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ignored: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    delays: dict[str, int] = field(default_factory=dict)
    time: tuple[OpenSize, ...] = ()
    earlier: Net | None = None

    def open_sizes(self) -> list[str]:
        """Return the names of the inputs' open sizes."""
        return list(dict.fromkeys(size.name for shape in self.inputs.values() for size in open_sizes(shape)))


def needed_steps(steps: Sequence[Step], outputs: Iterable[str]) -> tuple[list[Step], set[str]]:
    """Return the steps that outputs depend on, and the values that these read, with the outputs."""
    needed, kept = set(outputs), list[Step]()
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            kept.append(step)
            needed.update(step.inputs)
    return kept[::-1], needed


def scan_names(name: str) -> tuple[str, str, str]:
    """Return the names that a written scan occupies: its own, its step's, and that of its last states."""
    return name, f"{name}_step", f"{name}_last"


class NetBuilder:
    """Builds a net step by step: infers the shape and chooses the name of each result."""

    def __init__(self, name: str, origin: str) -> None:
        self.name, self.origin = name, origin
        self.inputs: dict[str, Shape] = {}
        self.params: dict[str, Weight] = {}
        self.steps: list[Step] = []
        self.outputs: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self.notes: list[str] = []
        self.ignored: dict[str, str] = {}
        self.called: dict[str, str] = {}
        self._reserved: set[str] = set(RESERVED)
        self._producers: dict[str, Step] = {}

    def fresh(self, hint: str) -> str:
        """Return an unused Python identifier made from ``hint``, numbered if necessary."""
        stem = python_identifier(hint)
        name = unused(f"{stem}_value" if CELL.fullmatch(stem) else stem, self._reserved.__contains__)
        self._reserved.add(name)
        return name

    def producer(self, name: str) -> Step | None:
        """Return the step that computes a value; None for an input or a parameter."""
        return self._producers.get(name)

    def input(self, hint: str, shape: Sequence[int | str], called: str | None = None) -> str:
        """Add an input and return its name; a size that is a name is open.

        ``called`` is the name in the source; the default is ``hint``.
        """
        name = self.fresh(hint)
        self.called[name] = hint if called is None else called
        self.inputs[name] = self.shapes[name] = named(shape)
        return name

    def source_inputs(self) -> dict[str, Shape]:
        """Return the shapes of the inputs by their names in the source."""
        return {self.called[name]: shape for name, shape in self.inputs.items()}

    def param(self, weight: Weight, hint: str) -> str:
        """Add a parameter and return its name; equal weights share one parameter."""
        for name, other in self.params.items():
            if weight.sources and other == weight and "/" not in name:
                return name
        name = self.fresh(hint)
        self.params[name], self.shapes[name] = weight, weight.shape
        return name

    def output(self, hint: str, value: str) -> str:
        """Make a value an output of the model, and return the name of the output."""
        stem = re.sub(r"\W+", "_", hint, flags=re.ASCII).strip("_") or "Y"
        stem = f"Y_{stem}" if stem[0].isdigit() else stem
        name = stem if stem not in self.outputs else f"{stem}_{len(self.outputs)}"
        self.outputs[name] = value
        self.called[name] = hint
        return name

    def add(self, op: Op, *values: str, hint: str, origin: str, hints: Iterable[str] = ()) -> tuple[str, ...]:
        """Add a step and return the names of its results. Raises :class:`~lstmc.importers.ir.sizes.ShapeProblem`."""
        shapes = result_shapes(op, *(self.shapes[value] for value in values))
        stems = list(hints) or [hint] * len(shapes)
        names = tuple(self.fresh(one) for one in stems)
        self.shapes.update(zip(names, shapes, strict=True))
        self.steps.append(Step(op, values, names, origin))
        self._producers.update(dict.fromkeys(names, self.steps[-1]))
        return names

    def one(self, op: Op, *values: str, hint: str, origin: str) -> str:
        """Add a step with one result, and return its name."""
        (name,) = self.add(op, *values, hint=hint, origin=origin)
        return name

    def cell_name(self, hint: str, cell: Cell, weights: Mapping[str, Weight]) -> str:
        """Return the name of an existing cell with the same equations and weights, else a new name."""
        for step in self.steps:
            if isinstance(step.op, Recur) and step.op.cell == cell:
                existing = {role: self.params[f"{step.op.title}/{role}"] for role in weights}
                if existing == weights and all(weight.sources for weight in existing.values()):
                    return step.op.title
        name = self.fresh(hint)
        self._reserved.add(f"{name}_last")  # the last states in the written scan
        return name

    def scan_name(self, hint: str) -> str:
        """Return a name for a scan, whose derived names (:func:`scan_names`) are unused too."""
        name = self.fresh(hint)
        while self._reserved.intersection(scan_names(name)[1:]):
            name = self.fresh(hint)
        self.reserve(scan_names(name))
        return name

    def reserve(self, names: Iterable[str]) -> None:
        """Exclude names from :meth:`fresh`."""
        self._reserved.update(names)

    def recur(
        self, op: Recur, x: str, weights: Mapping[str, Weight], more: Iterable[str], origin: str
    ) -> tuple[str, ...]:
        """Add a recurrent layer and return its results; its weights are those of cell ``op.title`` (:meth:`cell_name`).

        ``more`` are its initial states, then its other operands.
        """
        names = {role: f"{op.title}/{role}" for role in op.cell.weights()}
        for role, name in names.items():
            self.params[name], self.shapes[name] = weights[role], weights[role].shape
        operands = (x, *names.values(), *more)
        hints = [f"{op.title}_y", *(f"{op.title}_{state}_T" for state in op.cell.states)]
        return self.add(op, *operands, hint="", hints=hints, origin=origin)

    def loop(
        self,
        hint: str,
        body: Net,
        sequences: Sequence[str],
        states: Mapping[str, str | None],
        static: Sequence[str],
        steps: Size,
        origin: str,
        reverse: bool = False,
    ) -> tuple[str, ...]:
        """Add a loop over time; return its outputs over time, then the last states.

        ``body`` has inputs for the sequences, for the states of these names, and for the static values, in this order;
        its outputs are the next states, then what each step gives. Of ``states`` those that start at zero have no first
        value.
        """
        name = self.scan_name(hint)
        weights = {f"{name}/{role}": weight for role, weight in body.params.items()}
        self.params |= weights
        self.shapes |= {role: weight.shape for role, weight in weights.items()}
        first = {state: value for state, value in states.items() if value is not None}
        op = Rolled(body, name, steps, len(sequences), tuple(states), tuple(first), reverse)
        hints = [f"{name}_y"] * (len(body.outputs) - len(states)) + [f"{name}_{state}_T" for state in states]
        return self.add(op, *weights, *sequences, *first.values(), *static, hint="", hints=hints, origin=origin)

    def finish(self, inputs: Mapping[str, Shape] | None = None) -> Net:
        """Return the net without unused steps and parameters; also without unused inputs, unless ``inputs`` is set."""
        steps, needed = needed_steps(self.steps, self.outputs.values())
        return Net(
            self.name,
            self.origin,
            {n: s for n, s in self.inputs.items() if n in needed} if inputs is None else {**inputs},
            {name: weight for name, weight in self.params.items() if name in needed},
            tuple(steps),
            self.outputs,
            self.shapes,
            notes=tuple(self.notes),
            ignored=self.ignored,
            called=self.called,
        )


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Rolled(Loop):
    """A loop: ``body`` run for ``steps`` steps. Results: its outputs over time [T, ...], then the last states.

    The inputs of ``body`` are ``sequences`` elements of sequences, then the ``states``, then static inputs. Its
    outputs are the next states, then the outputs of the step. Operands: the body's weights in their order;
    the sequences [T, ...]; the initial value of each state of ``init``, the others being zero; the static inputs.
    """

    name = "source.rolled"
    body: Net
    title: str
    steps: Size
    sequences: int
    states: tuple[str, ...]
    init: tuple[str, ...] = ()
    reverse: bool = False

    def cut(self, operands: Sequence[T]) -> tuple[list[T], list[T], list[T], list[T]]:
        """Split operands into weights, sequences, initial states and static inputs."""
        groups, at = [], 0
        for count in (len(self.body.params), self.sequences, len(self.init), len(operands)):
            groups.append([*operands[at : at + count]])
            at += count
        return groups[0], groups[1], groups[2], groups[3]

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the body's sequence inputs and of its static inputs."""
        inputs = [*self.body.inputs]
        return inputs[: self.sequences], inputs[self.sequences + len(self.states) :]

    def shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        _, sequences, first, static = self.cut(shapes)
        names, seen = self.names()
        actual = [
            *zip(names, sequences, strict=True),
            *zip(self.init, first, strict=True),
            *zip(seen, static, strict=True),
        ]
        for name, shape in actual:
            expected = ((self.steps,) if name in names else ()) + self.body.inputs[name]
            if shape != expected:
                raise ShapeProblem(f"{name} of a step must be {listed(expected)}, found {listed(shape)}")
        results = [self.body.shapes[value] for value in self.body.outputs.values()]
        for state, shape in zip(self.states, results, strict=False):
            if shape != self.body.inputs[state]:
                raise ShapeProblem(f"state {state} is {listed(self.body.inputs[state])}, its next {listed(shape)}")
        count = len(self.states)
        return (*((self.steps, *shape) for shape in results[count:]), *results[:count])
