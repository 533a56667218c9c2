"""The description of a trained model: inputs, parameters, ordered steps and outputs; steps with steps of their own."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np

from lstmc.dsl import language
from lstmc.importers.ir.op import Op, Shape, ShapeProblem, Size, listed, with_sizes
from lstmc.importers.ir.recur import Cell, Recur
from lstmc.importers.weight import Weight
from lstmc.ops import Array

LANGUAGE = tuple(sorted(word for word in vars(language) if word[0] != "_"))  # what a written model may import
HELPERS = ("transposed", "tail", "erf", "exact_gelu")
RESERVED = frozenset(
    {*LANGUAGE, *keyword.kwlist, *keyword.softkwlist, *dir(builtins), *HELPERS, "net", "N", "D", "S", "H", "P"}
)
CELL = re.compile(r"(rnn|gru|lstm)_cell(_\d+)?")  # what the cells of a written model are called


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
        """The results' names. Raises :class:`~lstmc.importers.ir.op.ShapeProblem`."""
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


T = TypeVar("T")


@dataclass(frozen=True)
class Rolled(Op):
    """``body`` run for ``steps`` steps. Results: each of its outputs over time [T, ...], then the last states.

    The inputs of ``body`` are ``sequences`` elements of sequences, then the ``states``, then what every step sees. Its
    outputs are the next states, in their order, then what each step gives. Operands: the body's weights in their order;
    the sequences [T, ...]; a first value for each state of ``init``, the others being zero; what every step sees.
    ``name`` is that of the written cell, under which its weights are found.
    """

    body: Net
    name: str
    steps: Size
    sequences: int
    states: tuple[str, ...]
    init: tuple[str, ...] = ()
    reverse: bool = False

    def cut(self, operands: Sequence[T]) -> tuple[list[T], list[T], list[T], list[T]]:
        """Operands as weights, sequences, first states, and what every step sees."""
        found, at = [], 0
        for count in (len(self.body.params), self.sequences, len(self.init), len(operands)):
            found.append([*operands[at : at + count]])
            at += count
        return found[0], found[1], found[2], found[3]

    def names(self) -> tuple[list[str], list[str]]:
        """The body's inputs that are elements of sequences, and those that every step sees."""
        inputs = [*self.body.inputs]
        return inputs[: self.sequences], inputs[self.sequences + len(self.states) :]

    def bound(self, sizes: Mapping[str, int]) -> Self:
        (steps,) = with_sizes((self.steps,), sizes)
        return replace(self, body=self.body.bound(sizes), steps=steps)

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        _, sequences, first, static = self.cut(shapes)
        names, seen = self.names()
        told = [
            *zip(names, sequences, strict=True),
            *zip(self.init, first, strict=True),
            *zip(seen, static, strict=True),
        ]
        for name, shape in told:
            wanted = ((self.steps,) if name in names else ()) + self.body.inputs[name]
            if shape != wanted:
                raise ShapeProblem(f"{name} of a step must be {listed(wanted)}, found {listed(shape)}")
        made = [self.body.shapes[value] for value in self.body.outputs.values()]
        for state, shape in zip(self.states, made, strict=False):
            if shape != self.body.inputs[state]:
                raise ShapeProblem(f"state {state} is {listed(self.body.inputs[state])}, its next {listed(shape)}")
        count = len(self.states)
        return (*((self.steps, *shape) for shape in made[count:]), *made[:count])

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        weights, sequences, first, static = self.cut(arrays)
        names, seen = self.names()
        params = dict(zip(self.body.params, weights, strict=True))
        given = dict(zip(seen, static, strict=True)) | dict(zip(self.init, first, strict=True))
        for state in set(self.states) - set(self.init):
            given[state] = np.zeros([int(size) for size in self.body.inputs[state]])
        steps, count = len(sequences[0]) if sequences else int(self.steps), len(self.states)
        ys: list[list[Array]] = [[] for _ in range(len(self.body.outputs) - count)]
        for t in reversed(range(steps)) if self.reverse else range(steps):
            made = [
                *self.body.evaluate(given | {n: s[t] for n, s in zip(names, sequences, strict=True)}, params).values()
            ]
            given |= dict(zip(self.states, made, strict=False))
            for y, value in zip(ys, made[count:], strict=True):
                y.append(value)
        return (*(np.stack(y[::-1] if self.reverse else y) for y in ys), *(given[state] for state in self.states))
