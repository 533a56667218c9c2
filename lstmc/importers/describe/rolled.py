"""A step that is described by steps of its own, run over time: what is no LSTM, GRU or RNN of a framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np

from lstmc.importers.describe.net import Net
from lstmc.importers.describe.op import Op
from lstmc.importers.describe.shapes import Shape, ShapeProblem, Size, listed, with_sizes
from lstmc.ops import Array

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
