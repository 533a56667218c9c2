"""Recurrent layers of one step lowered to ops, so that chains of them are recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lstmc.importers.ir.net import Net, NetBuilder, Rolled, Step, scan_names
from lstmc.importers.ir.recur import Recur
from lstmc.importers.weight import number
from lstmc.ops import Add, Linear, Mul, Op, Reshape, Split, Sub


def builder_for(net: Net) -> NetBuilder:
    """Return a builder with the net's shapes, whose new names differ from all of the net's."""
    builder = NetBuilder(net.name, net.origin)
    builder.shapes = dict(net.shapes)
    builder.reserve(name.partition("/")[0] for name in (*net.shapes, *net.params))
    for step in net.steps:
        if isinstance(step.op, Recur | Rolled):
            builder.reserve(scan_names(step.op.name))
    return builder


def lower_single_steps(net: Net) -> Net:
    """Lower recurrent layers of one step to products and functions, where one cell has several of them."""
    ones = [step for step in net.steps if isinstance(step.op, Recur) and _is_single_step(net, step)]
    counts = Counter(step.op.name for step in ones if isinstance(step.op, Recur))
    lowered = [step for step in ones if isinstance(step.op, Recur) and counts[step.op.name] > 1]
    if not lowered:
        return net
    builder = builder_for(net)
    builder.params = dict(net.params)
    for step in net.steps:
        if step in lowered:
            _Cell(builder, step).write()
        else:
            builder.steps.append(step)
    builder.outputs = net.outputs
    finished = builder.finish(net.inputs)
    return replace(net, params=finished.params, steps=finished.steps, shapes=finished.shapes)


def _is_single_step(net: Net, step: Step) -> bool:
    op = step.op
    assert isinstance(op, Recur)
    cell = op.cell
    plain = not (cell.peepholes or cell.coupled or cell.clip or cell.static or cell.masked or op.more)
    return net.shapes[step.inputs[0]][0] == 1 and plain and (cell.kind != "gru" or cell.reset_after)


class _Cell:
    """Lowers one step of a cell to ops."""

    def __init__(self, builder: NetBuilder, step: Step) -> None:
        assert isinstance(step.op, Recur)
        self.builder, self.step, self.op, self.cell = builder, step, step.op, step.op.cell
        self.w = {role: f"{self.op.name}/{role}" for role in self.cell.weights()}

    def one(self, op: Op, *values: str) -> str:
        return self.builder.one(op, *values, hint=f"{self.op.name}_value", origin=self.step.origin)

    def named(self, op: Op, name: str, *values: str) -> str:
        self.builder.steps.append(Step(op, values, (name,), self.step.origin))
        return name

    def cut(self, x: str, names: Sequence[str]) -> list[str]:
        sizes = (self.op.units,) * len(names)
        return [*self.builder.add(Split(1, sizes), x, hint=f"{self.op.name}_gate", origin=self.step.origin)]

    def first(self, state: str) -> str:
        """Return the initial value of a state; zeros if the layer has none."""
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
        seen = self.one(Linear(1), self.one(Reshape(self.builder.shapes[x][1:]), x), self.w["W_x"], *bias)
        kept = self.one(Linear(1), h, self.w["W_h"])
        if self.cell.kind == "rnn":
            self.named(self.cell.new, h_next, self.one(Add(), seen, kept))
        elif self.cell.kind == "gru":
            self._gru(seen, kept, h, h_next)
        else:
            self._lstm(seen, kept, h_next, c_next[0])
        self.named(Reshape(self.builder.shapes[y]), y, h_next)

    def _gru(self, seen: str, kept: str, h: str, h_next: str) -> None:
        z, r, n = self.cut(seen, self.cell.gates)
        h_z, h_r, h_n = self.cut(kept, self.cell.gates)
        z = self.one(self.cell.gate, self.one(Add(), z, h_z))
        r = self.one(self.cell.gate, self.one(Add(), r, h_r))
        if "b_h" in self.w:
            h_n = self.one(Add(), h_n, self.w["b_h"])
        n = self.one(self.cell.new, self.one(Add(), n, self.one(Mul(), r, h_n)))
        moved = self.one(Mul(), z, self.one(Sub(), h, n))
        self.named(Add(), h_next, n, moved)

    def _lstm(self, seen: str, kept: str, h_next: str, c_next: str) -> None:
        i, f, o, g = self.cut(self.one(Add(), seen, kept), self.cell.gates)
        i, f, o = (self.one(self.cell.gate, value) for value in (i, f, o))
        held = self.one(Mul(), f, self.first("c"))
        update = self.one(Mul(), i, self.one(self.cell.new, g))
        self.named(Add(), c_next, held, update)
        shown = self.one(self.cell.out, c_next)
        if self.cell.projection:
            self.named(Linear(1), h_next, self.one(Mul(), o, shown), self.w["W_p"])
        else:
            self.named(Mul(), h_next, o, shown)
