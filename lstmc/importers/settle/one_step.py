"""Cells that a program calls step by step: each as the ops that it consists of, for a chain of them to be found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lstmc.importers.describe.net import Net, NetBuilder, Step, around_scan
from lstmc.importers.describe.op import Op
from lstmc.importers.describe.ops import Apply, Binary, Linear, Reshape, Split
from lstmc.importers.describe.pointwise import Activation
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.rolled import Rolled
from lstmc.importers.weight import number


def names_of(net: Net) -> NetBuilder:
    """A builder that knows the net's shapes, and gives none of its names again."""
    builder = NetBuilder(net.name, net.origin)
    builder.shapes = dict(net.shapes)
    builder.reserve(name.partition("/")[0] for name in (*net.shapes, *net.params))
    for step in net.steps:
        if isinstance(step.op, Recur | Rolled):
            builder.reserve(around_scan(step.op.name))
    return builder


def in_steps(net: Net) -> Net:
    """Recurrent layers of one step, where there are several of one cell, as products and functions."""
    ones = [step for step in net.steps if isinstance(step.op, Recur) and _of_one_step(net, step)]
    counts = Counter(step.op.name for step in ones if isinstance(step.op, Recur))
    taken = [step for step in ones if isinstance(step.op, Recur) and counts[step.op.name] > 1]
    if not taken:
        return net
    builder = names_of(net)
    builder.params = dict(net.params)
    for step in net.steps:
        if step in taken:
            _Cell(builder, step).write()
        else:
            builder.steps.append(step)
    return Net(
        net.name, net.origin, net.inputs, builder.params, tuple(builder.steps), net.outputs, builder.shapes, net.axes,
        net.notes, net.ignored, net.called,
    )  # fmt: skip


def _of_one_step(net: Net, step: Step) -> bool:
    op = step.op
    assert isinstance(op, Recur)
    cell = op.cell
    plain = not (cell.peepholes or cell.coupled or cell.clip or cell.static or cell.masked or op.more)
    return net.shapes[step.inputs[0]][0] == 1 and plain and (cell.kind != "gru" or cell.reset_after)


class _Cell:
    """One step of a cell, written as ops."""

    def __init__(self, builder: NetBuilder, step: Step) -> None:
        assert isinstance(step.op, Recur)
        self.builder, self.step, self.op, self.cell = builder, step, step.op, step.op.cell
        self.w = {role: f"{self.op.name}/{role}" for role in self.cell.weights()}

    def one(self, op: Op, *values: str) -> str:
        return self.builder.one(op, *values, hint=f"{self.op.name}_value", origin=self.step.origin)

    def named(self, op: Op, name: str, *values: str) -> str:
        self.builder.steps.append(Step(op, values, (name,), self.step.origin))
        return name

    def apply(self, function: Activation, x: str) -> str:
        return self.one(Apply(function), x)

    def cut(self, x: str, names: Sequence[str]) -> list[str]:
        sizes = (self.op.units,) * len(names)
        return [*self.builder.add(Split(1, sizes), x, hint=f"{self.op.name}_gate", origin=self.step.origin)]

    def first(self, state: str) -> str:
        """The state before; zeros where none is given."""
        if state in self.op.init:
            return self.step.inputs[1 + len(self.w) + self.op.init.index(state)]
        batch = self.builder.shapes[self.step.inputs[0]][1]
        assert isinstance(batch, int)
        size = self.op.outputs if state == "h" else self.op.units
        name = f"{self.op.name}_{state}_zero"
        if name not in self.builder.params:
            self.builder.params[name] = zeros = number(np.zeros((batch, size)), "zeros")
            self.builder.shapes[name] = zeros.shape
        return name

    def write(self) -> None:
        y, h_next, *c_next = self.step.outputs
        x = self.step.inputs[0]
        h, bias = self.first("h"), [self.w["b"]] if "b" in self.w else []
        seen = self.one(Linear(), self.one(Reshape(self.builder.shapes[x][1:]), x), self.w["W_x"], *bias)
        kept = self.one(Linear(), h, self.w["W_h"])
        if self.cell.kind == "rnn":
            self.named(Apply(self.cell.new), h_next, self.one(Binary("add"), seen, kept))
        elif self.cell.kind == "gru":
            self._gru(seen, kept, h, h_next)
        else:
            self._lstm(seen, kept, h_next, c_next[0])
        self.named(Reshape(self.builder.shapes[y]), y, h_next)

    def _gru(self, seen: str, kept: str, h: str, h_next: str) -> None:
        z, r, n = self.cut(seen, self.cell.gates)
        h_z, h_r, h_n = self.cut(kept, self.cell.gates)
        z = self.apply(self.cell.gate, self.one(Binary("add"), z, h_z))
        r = self.apply(self.cell.gate, self.one(Binary("add"), r, h_r))
        if "b_h" in self.w:
            h_n = self.one(Binary("add"), h_n, self.w["b_h"])
        n = self.apply(self.cell.new, self.one(Binary("add"), n, self.one(Binary("mul"), r, h_n)))
        moved = self.one(Binary("mul"), z, self.one(Binary("sub"), h, n))
        self.named(Binary("add"), h_next, n, moved)

    def _lstm(self, seen: str, kept: str, h_next: str, c_next: str) -> None:
        i, f, o, g = self.cut(self.one(Binary("add"), seen, kept), self.cell.gates)
        i, f, o = (self.apply(self.cell.gate, value) for value in (i, f, o))
        held = self.one(Binary("mul"), f, self.first("c"))
        taken = self.one(Binary("mul"), i, self.apply(self.cell.new, g))
        self.named(Binary("add"), c_next, held, taken)
        shown = self.apply(self.cell.out, c_next)
        if self.cell.projection:
            self.named(Linear(), h_next, self.one(Binary("mul"), o, shown), self.w["W_p"])
        else:
            self.named(Binary("mul"), h_next, o, shown)
