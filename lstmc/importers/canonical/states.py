"""States of a net of one frame: inputs whose next value is an output, proved by tracing elements, which have numbers.

These are proofs: the output is the last state of a recurrent layer of one step, also of a written-out layer; elements
move towards their end in a chain, with a new value at its beginning that does not depend on the chain; the input is the
past in a convolution's window. Equal shapes, similar names and gated sums are no proof: such pairs are only suggested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import chain, permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import ShapeError
from lstmc.importers.ir.net import Net, origin_of
from lstmc.importers.ir.ops import function
from lstmc.importers.ir.values import open_sizes
from lstmc.ir import Builder, Graph, Ref, Scan
from lstmc.ops import Arg, Conv, Full, Input, Leaf, Mul, Param, Reshape, Role
from lstmc.passes.unrolled_steps import Step
from lstmc.patterns import Mismatch, Recognised, match_gru, match_lstm

Numbers = NDArray[Any]
MOST = 20_000_000  # elements that are numbered
LARGEST_CELL = 200  # ops that depend on a state, of a recurrent layer that is written out
CYCLES = "cycles"
RECURRENT, MOVED, WINDOW = "the last states of recurrent layers", "its own elements, moved on", "a convolution's past"


@dataclass
class States:
    """The states of a net of one frame. ``proved`` maps each state to its output and the proof in words. ``alike`` has
    pairs of an input and an output of one shape that may be states. ``cells`` maps the op that ends a written-out
    recurrent layer to the layer's kind, units and number of nodes."""

    proved: dict[str, tuple[str, str]] = field(default_factory=dict)
    alike: list[tuple[str, str]] = field(default_factory=list)
    cells: dict[str, tuple[str, int, int]] = field(default_factory=dict)


def step_states(net: Net, known: Mapping[str, str] = {}, loops: bool = False) -> States:
    """Return the states of a net of one frame, without the ``known`` pairs; none if it has open sizes, one input or too
    many elements, or if every input would be a state. With ``loops`` a loop of several steps proves states, too."""
    fixed = not any(open_sizes(shape) for shape in net.shapes.values())
    inputs = {a: shape for a, shape in net.inputs.items() if a not in known}
    outputs = {b: net.shapes[v] for b, v in net.outputs.items() if b not in known.values()}
    pairs = [(a, b) for a, before in inputs.items() for b, after in outputs.items() if before == after]
    if not fixed or not pairs or len(net.inputs) < 2 or sum(map(prod, net.shapes.values())) > MOST:
        return States()
    trace = _Trace(net, loops)
    trace.name_cells(pairs)
    windows = trace.windows(pairs)
    found = {pair: windows.get(pair) or trace.evidence(*pair) for pair in pairs}
    states = States(cells=trace.cells)
    for a in net.inputs:
        proofs = [(b, why) for (one, b), why in found.items() if one == a and why not in (None, CYCLES)]
        made = {trace.of(net.outputs[b]).tobytes() for b, _ in proofs}
        if len(made) == 1:  # one value may be several outputs
            b, why = max(proofs, key=lambda proof: _alike(net, a, proof[0]))
            states.proved[a] = b, str(why)
    if len(states.proved) == len(net.inputs):
        return States()
    taken = {b for b, _ in states.proved.values()}
    left = [(a, b) for (a, b), why in found.items() if a not in states.proved and b not in taken and why != CYCLES]
    for a, b in sorted(left, key=lambda pair: _alike(net, *pair), reverse=True):
        if trace.depends(net.outputs[b], a) and not {a, b}.intersection(chain.from_iterable(states.alike)):
            states.alike.append((a, b))
    if len(states.proved) + len(states.alike) == len(net.inputs):
        states.alike.pop()  # at least one input is no state: the input whose name is least like that of an output
    return states


def _alike(net: Net, a: str, b: str) -> tuple[float, int]:
    """Return how alike the names of an input and an output are, then the output's place among the outputs."""
    before, after = (net.called.get(name, name) for name in (a, b))
    return SequenceMatcher(None, before, after).ratio(), [*net.outputs].index(b)


class _Trace:
    """The elements of all values as numbers. ``last`` maps a last state's elements to the first state's."""

    def __init__(self, net: Net, loops: bool) -> None:
        """Number the elements of the inputs first, then of all other values; ``loops`` is as in :func:`step_states`."""
        self.net, self.loops = net, loops
        self.cells: dict[str, tuple[str, int, int]] = {}
        self.values: dict[str, Numbers] = {}
        self.makers, self.firsts = list[str](), list[int]()  # values with new numbers, and the first number of each
        self.at = 1
        for name in net.inputs:
            self.of(name)
        self.inputs = self.at
        self.last: dict[int, int] = {}
        for step in net.steps:
            self._step(step)

    def of(self, name: str) -> Numbers:
        """Return the elements of a value as numbers, which are new for a new value; equal numbers are one element."""
        if name not in self.values:
            shape = self.net.shapes[name]
            self.makers.append(name)
            self.firsts.append(self.at)
            self.values[name] = np.arange(self.at, self.at + prod(shape)).reshape(shape)
            self.at += prod(shape)
        return self.values[name]

    def _step(self, step: Step) -> None:
        """Number an op's results: ops that only move elements move numbers, and a loop's last states are recorded."""
        if step.op.moves:
            moved = step.op.eval(*(self.of(name) for name in step.inputs))
            self.values |= {n: np.asarray(one, np.int64) for n, one in zip(step.outputs, moved, strict=True)}
        elif isinstance(step.op, Scan) and (step.op.length == 1 or self.loops):
            first = step.op.of_role("state", step.inputs)
            ends = step.outputs[len(step.outputs) - step.op.states :]
            for before, after in zip(first, ends, strict=True):
                self.begin(self.of(before), after)
            following = [output.ref for output in step.op.next_states]
            for y, output in zip(step.outputs, step.op.step_outputs, strict=False):
                if output.ref in following and step.op.length == 1:
                    self.values[y] = self.of(ends[following.index(output.ref)])[None]
        elif isinstance(step.op, Mul) and self._is_masked_end(*step.inputs):
            self.values[step.outputs[0]] = self.of(step.inputs[0])

    def _is_masked_end(self, value: str, mask: str) -> bool:
        """Return whether ``value`` is a last state, and ``mask`` is ``step`` of an input: 0 for empty sequences."""
        while (maker := self.net.producers.get(mask)) is not None and maker.op.moves:
            mask = maker.inputs[0]
        of_lengths = maker is not None and maker.op == function("step") and maker.inputs[0] in self.net.inputs
        return of_lengths and next(self.of(value).flat, 0) in self.last

    def begin(self, before: Numbers, after: str) -> None:
        """Record that a layer started from ``before`` and ended in ``after``, if ``before`` are inputs' elements."""
        if before.size and before.max() < self.inputs:
            self.last.update(zip(self.of(after).ravel().tolist(), before.ravel().tolist(), strict=True))

    def _makers(self, numbers: Numbers) -> Numbers:
        """Return for each element the index in ``self.makers`` of the value that makes it."""
        return np.searchsorted(self.firsts, numbers, side="right") - 1

    def evidence(self, a: str, b: str) -> str | None:
        """Return the proof in words that output ``b`` is the next value of input ``a``, or None. Return CYCLES if an
        element would be replaced by itself or in a circle, so that it never changes."""
        own, made = self.of(a).ravel(), self.of(self.net.outputs[b]).ravel()
        begun = np.array([self.last.get(int(number), 0) for number in made])  # first states' elements, 0 for none
        if (begun[begun > 0] != own[begun > 0]).any():
            return None
        mine = (made >= own[0]) & (made <= own[-1])  # elements of ``b`` that are elements of ``a``
        ends = np.where(mine, made - own[0], np.arange(own.size))  # element -> its next element
        for _ in range(own.size.bit_length()):
            ends = ends[ends]
        if mine[ends].any():
            return CYCLES
        if begun.any():
            return RECURRENT
        makers = self._makers(made)
        for maker in np.unique(makers[ends[mine]]) if mine.any() else ():
            part = makers[ends] == maker
            if len(np.unique(ends[part])) < part.sum() and self._independent(self.makers[maker], a, own[part]):
                return MOVED
        return None

    def _independent(self, value: str, a: str, part: Numbers) -> bool:
        """Return whether a value depends on an input other than ``a``, and on no element of ``part`` of ``a``."""
        marks = {name: np.zeros(shape, np.int64) for name, shape in self.net.inputs.items()}
        marks[a] = np.isin(self.of(a), part).astype(np.int64)  # 1 for an element of ``part``
        marks |= {name: mark + 2 for name, mark in marks.items() if name != a}  # 2 for another input's
        return self._marked(marks, value) == 2

    def depends(self, value: str, a: str) -> bool:
        return self._marked({a: np.ones(self.net.inputs[a], np.int64)}, value) == 1

    def _marked(self, marks: Mapping[str, Numbers], value: str) -> int:
        """Return the bitwise or of the marks (integers) of all input elements that ``value`` depends on."""
        values = dict(marks)

        def mark(name: str) -> Numbers:
            return values.get(name, np.broadcast_to(np.int64(0), self.net.shapes[name]))

        for step in self.net.steps:
            if value in values:
                break
            if not any(name in values for name in step.inputs):
                continue
            if step.op.moves:
                moved = step.op.eval(*(mark(name) for name in step.inputs))
                values |= {name: np.asarray(one) for name, one in zip(step.outputs, moved, strict=True)}
                continue
            bits = np.bitwise_or.reduce([np.bitwise_or.reduce(mark(name), None) for name in step.inputs])
            values |= {name: np.broadcast_to(bits, self.net.shapes[name]) for name in step.outputs}
        return int(np.bitwise_or.reduce(mark(value), None))

    def windows(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the proof for each pair whose input is a convolution's past, and whose output is the window's end."""
        found = {}
        for step in self.net.steps:
            if not isinstance(step.op, Conv):
                continue
            window, kernel = self.of(step.inputs[0]), self.net.shapes[step.inputs[1]]
            for axis in range(2, window.ndim):
                rows = np.moveaxis(window, axis, 0).reshape(window.shape[axis], -1)
                for a, b in pairs if kernel[axis] > 1 else ():
                    own, made = self.of(a).ravel(), self.of(self.net.outputs[b]).ravel()
                    mine = (rows >= own[0]) & (rows <= own[-1])
                    past = int(mine.all(1).sum())
                    behind = mine[:past].all() and 0 < past < len(rows)
                    if behind and np.array_equal(made[rows[:past] - own[0]], rows[len(rows) - past :]):
                        found[a, b] = WINDOW
        return found

    def name_cells(self, pairs: list[tuple[str, str]]) -> None:
        """Find recurrent layers that are written out, and record where their states begin and end: a part of an output
        ``b`` is the next value of the same part of an input ``a``. A GRU has one such part, an LSTM two."""
        by_numbers: dict[bytes, list[str]] = {}
        for name, numbers in self.values.items():
            if numbers.size and numbers.max() < self.inputs:
                by_numbers.setdefault(numbers.tobytes(), []).append(name)
        parts: dict[str, list[str]] = {}  # a state after the step -> the values that are the state before it
        for a, b in pairs:
            own, made = self.of(a).ravel(), self.of(self.net.outputs[b]).ravel()
            for maker in np.unique(self._makers(made[made >= self.inputs])):
                after = self.makers[maker]
                numbers = self.of(after).ravel()
                places = np.flatnonzero(np.isin(made, numbers))
                if len(places) == numbers.size:
                    before = own[places[np.argsort(made[places])]]
                    if names := by_numbers.get(before.tobytes()):
                        parts.setdefault(after, []).extend(n for n in names if n not in parts.get(after, ()))
        choices = [(after, name) for after, names in parts.items() for name in names if after in self.net.producers]
        for count, match in ((1, match_gru), (2, match_lstm)):
            for cell in permutations(choices, count):
                states = dict(cell)
                known = [self.of(after).flat[0] in self.last for after in states]
                same = len({self.net.shapes[name] for name in states.values()}) == 1
                distinct = len(states) == len({*states.values()}) == count
                if distinct and not all(known) and same and self._is_cell(states, match):
                    for end, begun in states.items():
                        self.begin(self.of(begun), end)

    def _is_cell(self, states: Mapping[str, str], match: Callable[[Graph, str], Recognised]) -> bool:
        """Return whether ``match`` recognises a cell, and record it; ``states`` are values after a step and before."""
        try:
            graph = self._cell(states)
            if graph is not None:
                cell = match(graph, "loop")
                loop = graph.node("loop").op
                assert isinstance(loop, Scan)
                inside = sum(not isinstance(node.op, Leaf | Arg) for node in loop.body)
                self.cells[origin_of(self.net.producers[next(iter(states))])] = type(cell).__name__, cell.units, inside
        except (Mismatch, ShapeError):  # operands are broadcast in a way that no op of a graph allows
            return False
        return graph is not None

    def _cell(self, states: Mapping[str, str]) -> Graph | None:
        """Return one loop step over ``states`` (after: before) as a graph; None if it is too large or lacks a state."""
        shapes, begun_as = self.net.shapes, {self.of(before).tobytes(): before for before in states.values()}
        sizes = {len(numbers) for numbers in begun_as}
        alike = ((name, numbers.tobytes()) for name, numbers in self.values.items() if numbers.nbytes in sizes)
        same = {name: begun_as[numbers] for name, numbers in alike if numbers in begun_as}
        inside, needed = list[Step](), set(states)
        for step in reversed(self.net.steps):
            if step.outputs[0] not in same and not needed.isdisjoint(step.outputs):
                inside.append(step)
                needed.update(step.inputs)
        depends = needed & same.keys()
        if {same[name] for name in depends} < {*begun_as.values()}:
            return None  # a cell reads each of its states
        steps = []
        for step in reversed(inside):
            if depends.intersection(step.inputs):
                steps.append(step)
                depends.update(step.outputs)
        if len(steps) > LARGEST_CELL:
            return None
        rows = all(prod(shapes[name]) == shapes[name][-1] for name in states.values())
        flat = {name: (1, shapes[name][-1]) if rows else shapes[name] for name in states.values()}
        units = max(map(prod, flat.values()))
        outer, body, operands = Builder("cell"), Builder("step"), list[Ref]()

        def argument(name: str, role: Role, leaf: Leaf) -> Ref:
            operands.extend(outer.add(leaf, names=(name,)))
            return body.add(Arg(leaf.shape, role), names=(name,))[0]

        def shaped(ref: Ref, shape: tuple[int, ...]) -> Ref:
            return ref if body.type(ref).shape == shape else body.add(Reshape(shape), ref)[0]

        begun = {name: argument(name, "state", Full(shape)) for name, shape in flat.items()}
        refs = dict[str, Ref]()
        for name in dict.fromkeys(chain.from_iterable(step.inputs for step in steps)):
            if name in self.net.params and prod(shapes[name]) == 1 < units:  # the 1 of 1 - z
                (refs[name],) = body.add(Full(shapes[name], self.net.params[name].array().item()))
            elif name in same:
                refs[name] = shaped(begun[same[name]], shapes[name])
            elif name in self.net.params:
                refs[name] = argument(name, "weight", Param(shapes[name]))
            elif name not in depends:
                refs[name] = argument(name, "static", Input(shapes[name]))
        for step in steps:
            results = body.add(step.op, *(refs[name] for name in step.inputs), names=step.outputs)
            refs |= zip(step.outputs, results, strict=True)
        if not refs.keys() >= states.keys():
            return None
        outputs = [(before, shaped(refs[after], flat[before])) for after, before in states.items()]
        outer.add(Scan(body.finish(outputs), 1), *operands, names=("loop",))
        return outer.finish([(before, Ref("loop", i)) for i, before in enumerate(states.values())])


def notes(net: Net, states: States, given: Mapping[str, str]) -> Iterator[str]:
    """Yield notes on proved states, on states that the user named (``given``), and on pairs that may be states."""
    called = {name: net.called.get(name, name) for name in (*net.inputs, *net.outputs)}
    said = {name: (after, "as you said") for name, after in given.items()}
    for name, (after, why) in (states.proved | said).items():
        yield f"{called[name]} is a state: {called[after]} is its next value ({why}). It starts at 0."
    for name, after in states.alike:
        if name not in given and after not in given.values():
            yield (
                f"{called[name]} may be a state, as {called[after]} has its shape. Here it is an input of each step. If"
                f" it is a state, import the file again and name the state: {called[name]}={called[after]}."
            )
