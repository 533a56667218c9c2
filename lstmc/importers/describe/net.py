"""A trained model as lstmc sees it: inputs, parameters, steps in order, outputs; no framework's names for anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lstmc.importers.describe.cell import Cell
from lstmc.importers.describe.names import CELL, RESERVED
from lstmc.importers.describe.op import Op
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.shapes import Shape, with_sizes
from lstmc.importers.weight import Weight
from lstmc.ops import Array


@dataclass(frozen=True)
class Step:
    """An op on values by name, and what it makes. ``origin`` says for people where it comes from."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class Net:
    """``inputs`` and ``params`` by name, ``outputs`` by name with the value each is, ``shapes`` of all values.

    ``axes`` says of an input or output whose axes are not in the source's order which of the source's each one is.
    ``called`` has the source's own names of inputs and outputs. ``notes`` are what a person should know, ``ignored``
    the source's tensors that are not used, each with why. ``sizes`` has those that the source had in the place of
    names; ``delays`` of each output that is late, by how many steps; ``time`` is the name of the length of sequences.
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
    time: tuple[str, ...] = ()

    def bound(self, sizes: Mapping[str, int]) -> Net:
        """The same, its named sizes being numbers."""

        return replace(
            self,
            inputs={name: with_sizes(shape, sizes) for name, shape in self.inputs.items()},
            steps=tuple(replace(step, op=step.op.bound(sizes)) for step in self.steps),
            shapes={name: with_sizes(shape, sizes) for name, shape in self.shapes.items()},
        )

    def evaluate(self, inputs: Mapping[str, Array], params: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs, by NumPy, in the arrays' own precision."""
        values: dict[str, Array] = {**params, **inputs}
        for step in self.steps:
            results = step.op.eval(*(values[name] for name in step.inputs))
            values.update(zip(step.outputs, results, strict=True))
        return {name: values[value] for name, value in self.outputs.items()}


def around_scan(name: str) -> tuple[str, str, str]:
    """The names that a written scan of this name has: its own, its step's, and that of its last states."""
    return name, f"{name}_step", f"{name}_last"


class NetBuilder:
    """A net while a source is read: shapes are inferred, and names given, as each step is added."""

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
        self._taken: set[str] = set(RESERVED)
        self._makers: dict[str, Step] = {}

    def fresh(self, hint: str) -> str:
        """A name for Python that is not taken: the hint's letters, and a number where it must be."""
        stem = re.sub(r"\W+", "_", hint, flags=re.ASCII).strip("_") or "value"
        stem = f"v{stem}" if stem[0].isdigit() else f"{stem}_value" if CELL.fullmatch(stem) else stem
        name, count = stem, 1
        while name in self._taken:
            name, count = f"{stem}_{count + 1}", count + 1
        self._taken.add(name)
        return name

    def maker(self, name: str) -> Step | None:
        """The step that makes a value."""
        return self._makers.get(name)

    def input(self, hint: str, shape: Shape, called: str | None = None) -> str:
        """An input; ``called`` is the source's own name for it, where that is not the hint."""
        name = self.fresh(hint)
        self.called[name] = hint if called is None else called
        self.inputs[name] = self.shapes[name] = shape
        return name

    def param(self, weight: Weight, hint: str) -> str:
        """A value of a parameter; the same for the same recipe."""
        for name, known in self.params.items():
            if weight.sources and known == weight and "/" not in name:
                return name
        name = self.fresh(hint)
        self.params[name], self.shapes[name] = weight, weight.shape
        return name

    def output(self, hint: str, value: str) -> str:
        """A value as an output of the model, and what it is called."""
        stem = re.sub(r"\W+", "_", hint, flags=re.ASCII).strip("_") or "Y"
        stem = f"Y_{stem}" if stem[0].isdigit() else stem
        name = stem if stem not in self.outputs else f"{stem}_{len(self.outputs)}"
        self.outputs[name] = value
        self.called[name] = hint
        return name

    def add(self, op: Op, *values: str, hint: str, origin: str, hints: Iterable[str] = ()) -> tuple[str, ...]:
        """The results' names. Raises :class:`~lstmc.importers.describe.shapes.ShapeProblem`."""
        shapes = op.infer(*(self.shapes[value] for value in values))
        given = list(hints) or [hint] * len(shapes)
        names = tuple(self.fresh(one) for one in given)
        self.shapes.update(zip(names, shapes, strict=True))
        self.steps.append(Step(op, values, names, origin))
        self._makers.update(dict.fromkeys(names, self.steps[-1]))
        return names

    def one(self, op: Op, *values: str, hint: str, origin: str) -> str:
        """The only result."""
        (name,) = self.add(op, *values, hint=hint, origin=origin)
        return name

    def cell_name(self, hint: str, cell: Cell, weights: Mapping[str, Weight]) -> str:
        """The name of a cell with these weights: that of the same one with the very same, else a new one."""
        for step in self.steps:
            if isinstance(step.op, Recur) and step.op.cell == cell:
                known = {role: self.params[f"{step.op.name}/{role}"] for role in weights}
                if known == weights and all(weight.sources for weight in known.values()):
                    return step.op.name
        name = self.fresh(hint)
        self._taken.add(f"{name}_last")  # what the written scan calls its last states
        return name

    def scan_name(self, hint: str) -> str:
        """The name of a step that is run over time, from which other names are made."""
        name = self.fresh(hint)
        while self._taken.intersection(around_scan(name)[1:]):
            name = self.fresh(hint)
        self.reserve(around_scan(name))
        return name

    def reserve(self, names: Iterable[str]) -> None:
        """Names that are not to be given."""
        self._taken.update(names)

    def recur(
        self, op: Recur, x: str, weights: Mapping[str, Weight], more: Iterable[str], origin: str
    ) -> tuple[str, ...]:
        """A recurrent layer; its weights are parameters of the cell ``op.name``, a :meth:`cell_name`.

        ``more``: its first states, and its other operands.
        """
        names = {role: f"{op.name}/{role}" for role in op.cell.weights()}
        for role, name in names.items():
            self.params[name], self.shapes[name] = weights[role], weights[role].shape
        operands = (x, *names.values(), *more)
        hints = [f"{op.name}_y", *(f"{op.name}_{state}_T" for state in op.cell.states)]
        return self.add(op, *operands, hint="", hints=hints, origin=origin)

    def finish(self, inputs: Mapping[str, Shape] | None = None) -> Net:
        """The net without what no output needs, of steps and parameters; and of inputs, if none are given."""
        wanted, steps = set(self.outputs.values()), []
        for step in reversed(self.steps):
            if wanted & set(step.outputs):
                steps.append(step)
                wanted |= set(step.inputs)
        return Net(
            self.name,
            self.origin,
            {n: s for n, s in self.inputs.items() if n in wanted} if inputs is None else {**inputs},
            {name: weight for name, weight in self.params.items() if name in wanted},
            tuple(reversed(steps)),
            self.outputs,
            self.shapes,
            notes=tuple(self.notes),
            ignored=self.ignored,
            called=self.called,
        )
