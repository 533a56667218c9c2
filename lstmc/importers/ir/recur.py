"""A recurrent layer: the equations of its cell, the scan that runs them, and the layouts of frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lstmc.importers.ir.net import MaskedScan, Net, NetBuilder, body_of, unmasked
from lstmc.importers.ir.ops import Where, function
from lstmc.importers.ir.values import NamedSize, OpenSize, ShapeProblem, Size, Weight, fixed, listed, number
from lstmc.ir import Scan
from lstmc.ops import Add, Affine, Array, Linear, Mul, Op, Param, Reshape, Sigmoid, Split, Sub, Tanh
from lstmc.passes.unrolled_steps import Step
from lstmc.patterns.recognised import GRU_ORDERS, LSTM_ORDERS

Kind = Literal["rnn", "gru", "lstm"]
SIGMOID, TANH = Sigmoid(), Tanh()
GATES: dict[Kind, tuple[str, ...]] = {"rnn": ("h",), "gru": ("z", "r", "n"), "lstm": ("i", "f", "o", "g")}
_BATCH = ("N", "N_2", "N_3")  # the axes of a batch
Extra = Literal["mask", "static", "cont", "lengths"]


@dataclass(frozen=True)
class Cell:
    """The equations of a recurrent layer.

    - ``gate``, ``new``, ``out``: the functions of the gates, of the candidate (the only function of an ``rnn``), and of
      an LSTM's cell state in the output.
    - ``reset_after``: a GRU's reset gate multiplies the recurrent product, not its operand.
    - ``coupled``: the forget gate is f = 1 - i.
    - ``clip``: the argument of each function is limited to [-clip, clip].
    - ``static``: there is one more input, the same at every step.
    """

    kind: Kind
    gate: Op = SIGMOID
    new: Op = TANH
    out: Op = TANH
    bias: bool = True
    reset_after: bool = False
    peepholes: bool = False
    coupled: bool = False
    projection: bool = False
    clip: float | None = None
    static: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.kind == "lstm" else ("h",)

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates in the order of the rows of the written model's weights."""
        return tuple(gate for gate in GATES[self.kind] if not (self.coupled and gate == "f"))

    def weights(self) -> dict[str, str]:
        """Return each weight's shape as text; D, S, H and P are the widths of input, static input, units and output."""
        rows = "H" if self.kind == "rnn" else f"{len(self.gates)} * H"
        recurrent = "P" if self.projection else "H"
        shapes = {"W_x": f"{rows}, D"}
        if self.bias:
            shapes["b"] = rows
        if self.static:
            shapes["W_s"] = f"{rows}, S"
        if self.kind == "gru" and not self.reset_after:
            shapes |= {"W_h": "2 * H, H", "U": "H, H"}
        else:
            shapes["W_h"] = f"{rows}, {recurrent}"
        if self.kind == "gru" and self.reset_after and self.bias:
            shapes["b_h"] = "H"
        if self.peepholes:
            shapes |= {f"p_{gate}": "H" for gate in self.gates if gate != "g"}
        if self.projection:
            shapes["W_p"] = "P, H"
        return shapes


def add_layer(
    builder: NetBuilder, hint: str, x: str, cell: Cell, weights: Mapping[str, Weight],
    init: Mapping[str, str] = {}, extras: Mapping[Extra, str] = {}, reverse: bool = False,
) -> tuple[str, ...]:  # fmt: skip
    """Add a layer over x [T, N, D] or [T, N, N_2, D], and return its outputs [T, N, P], then each last state. ``init``
    has first values [N, .] of states. ``extras`` may have: ``mask`` [T, N, 1], 0 where all states stay; ``static`` [N,
    S], the static input of the cell; ``cont`` [T, N], which multiplies every state before a step; ``lengths`` [N],
    after which a sequence's states stay, and its outputs are zero. Equal layers share one scan's title and weights."""
    shape = builder.shapes[x]
    width, recurrent = weights["W_x"].shape[1], weights["W_h"].shape[1]
    steps, *batch, last = shape if len(shape) > 1 else (*shape, 0)
    if not 1 <= len(batch) <= len(_BATCH):
        raise ShapeProblem(f"a recurrent layer takes [T, N, D], found {listed(shape)}")
    if last != width:
        raise ShapeProblem(f"{listed(shape)} goes into weights for {width} inputs")
    sizes: dict[str, Size] = {**dict(zip(_BATCH, batch, strict=False)), "D": width, "H": recurrent, "P": recurrent}
    if cell.projection:
        sizes["P"], sizes["H"] = weights["W_p"].shape
    if cell.static:
        sizes["S"] = weights["W_s"].shape[1]
    sequences, static = [x], [extras["static"]] if cell.static else []
    body = _step(cell, sizes, weights)
    if "mask" in extras:
        body = with_mask(body, 1, len(cell.states), len(batch))
        sequences.append(extras["mask"])
    shared = all(weight.sources for weight in weights.values()) and (cell, "mask" in extras, batch, weights)
    title = next((title for title, other in builder.cells.items() if shared and other == shared), None)
    title = title or builder.scan_name(hint)
    builder.cells[title] = shared
    first = {state: init.get(state) for state in cell.states}
    results = builder.loop(title, body, sequences, first, static, steps, reverse)
    options = {option: value for option, value in extras.items() if option in ("cont", "lengths")}
    if options:
        step = builder.steps.pop()
        assert isinstance(step.op, Scan)
        op = MaskedScan(step.op.body, step.op.length, reverse, options=tuple(options))
        builder.put(replace(step, op=op, inputs=(*step.inputs, *options.values())))
    return results


def _step(cell: Cell, sizes: Mapping[str, Size], weights: Mapping[str, Weight]) -> Net:
    """Return a cell's step as a net from x, states and static input to the next states and y; sizes print as names."""
    named = {n: size.called(n) if isinstance(size, OpenSize) else NamedSize(n, size) for n, size in sizes.items()}
    step, n, units = NetBuilder("step", ""), [named[axis] for axis in _BATCH if axis in named], int(named["H"])
    _hold_weights(step, cell, named, weights)
    x, h = step.input("x", (*n, named["D"])), step.input("h", (*n, named["P" if cell.projection else "H"]))
    c = step.input("c", (*n, named["H"])) if cell.kind == "lstm" else ""

    one = step.one

    def linear(x: str, *roles: str, hint: str = "value") -> str:
        return one(Linear(len(n)), x, *roles, hint=hint)

    def split(value: str, *gates: str) -> tuple[str, ...]:
        return step.add(Split(len(n), (units,) * len(gates)), value, hint="", hints=gates)

    def applied(op: Op, value: str, peephole: str = "", state: str = "", hint: str = "value") -> str:
        """Return ``op`` of a value, to which ``peephole * state`` is added, and which is clipped, as the cell says."""
        if peephole and cell.peepholes:
            value = one(Add(), value, one(Mul(), peephole, state))
        if cell.clip is not None:
            value = one(function("clip", -cell.clip, cell.clip), value)
        return one(op, value, hint=hint)

    product = linear(x, "W_x", *["b"] * cell.bias)
    if cell.static:
        product = one(Add(), product, linear(step.input("s", (*n, named["S"])), "W_s"))
    if cell.kind == "rnn":
        h = applied(cell.new, one(Add(), product, linear(h, "W_h")), hint="h_next")
    elif cell.kind == "gru":
        z, r, new = split(product, "z", "r", "n")
        h_z, h_r, *h_n = split(linear(h, "W_h"), "h_z", "h_r", *["h_n"] * cell.reset_after)
        z, r = applied(cell.gate, one(Add(), z, h_z), hint="z"), applied(cell.gate, one(Add(), r, h_r), hint="r")
        if cell.reset_after:
            reset = one(Mul(), r, one(Add(), h_n[0], "b_h") if cell.bias else h_n[0])
        else:
            reset = linear(one(Mul(), r, h), "U")
        new = applied(cell.new, one(Add(), new, reset), hint="n_next")
        h = one(Add(), new, one(Mul(), z, one(Sub(), h, new)), hint="h_next")
    else:
        gates = dict(zip(cell.gates, split(one(Add(), product, linear(h, "W_h")), *cell.gates), strict=True))
        i = applied(cell.gate, gates["i"], "p_i", c, hint="i")
        f = one(Affine(-1.0, 1.0), i) if cell.coupled else applied(cell.gate, gates["f"], "p_f", c, hint="f")
        c = one(Add(), one(Mul(), f, c), one(Mul(), i, applied(cell.new, gates["g"])), hint="c_next")
        h = one(Mul(), applied(cell.gate, gates["o"], "p_o", c, hint="o"), one(cell.out, c), hint="h_next")
        if cell.projection:
            h = linear(h, "W_p", hint="h_next")
    step.outputs = {"h": h, **({"c": c} if c else {}), "y": h}
    return step.finish(every_input=True)


def _hold_weights(
    step: NetBuilder, cell: Cell, named: Mapping[str, OpenSize | NamedSize], weights: Mapping[str, Weight]
) -> None:
    """Add the weights of a cell to its step. Raises :class:`ShapeProblem` if a shape is not the cell's."""
    for role, text in cell.weights().items():
        expected = tuple(_size(size, named) for size in text.split(", "))
        if weights[role].shape != expected:
            raise ShapeProblem(f"{role} must be {[*map(int, expected)]}, found {listed(weights[role].shape)}")
        step.hold({role: weights[role]})
        step.leaf(role, Param(expected))
    step.reserve(weights)


def with_mask(body: Net, sequences: int, states: int, lead: int = 1, resets: bool = False) -> Net:
    """Return a loop's body with one more sequence, a mask [N, 1]: where it is 0, all states stay, or, with ``resets``,
    are set to 0 before the step. N stands for the first ``lead`` axes of the states."""
    builder, names = NetBuilder.of(body), [*body.inputs]
    builder.steps = [] if resets else [*body.steps]
    own = names[sequences : sequences + states]
    mask = builder.input("m", (*body.inputs[own[0]][:lead], 1))
    kept = dict[str, str]()
    for state, value in zip(own, body.outputs.values(), strict=False):
        shape = (*body.inputs[state][:lead], *(1,) * (len(body.inputs[state]) - lead))
        m = mask if len(shape) == lead + 1 else builder.one(Reshape(shape), mask, hint="mask")
        if resets:
            kept[state] = builder.one(Mul(), state, m, hint=f"{state}_kept")
        else:
            kept[value] = builder.one(Where(), m, value, state, hint=f"{state}_kept")
    if resets:
        builder.steps += [replace(s, inputs=tuple(kept.get(name, name) for name in s.inputs)) for s in body.steps]
    names.insert(sequences, mask)
    leaves = {name: builder.leaves[name] for name in names} | builder.leaves
    outputs = {name: kept.get(value, value) for name, value in body.outputs.items()}
    return body.of_steps(builder.steps, leaves, builder.shapes, outputs)


def with_plain_scans(net: Net) -> Net:
    """Return the net, whose sizes are numbers, with plain scans: their steps compute the options of the scans."""
    if not any(isinstance(step.op, MaskedScan) for step in net.steps):
        return net
    builder, new = NetBuilder.of(net), dict[str, str]()
    for step in net.steps:
        step = replace(step, inputs=tuple(new.get(name, name) for name in step.inputs))
        if isinstance(step.op, MaskedScan):
            new.update(zip(step.outputs, _plain_scan(builder, net, step, step.op), strict=True))
        else:
            builder.put(step)
    outputs = {name: new.get(value, value) for name, value in net.outputs.items()}
    return net.of_steps(builder.steps, builder.leaves, builder.shapes, outputs, builder.params)


def _plain_scan(builder: NetBuilder, net: Net, step: Step, scan: MaskedScan) -> Sequence[str]:
    """Add a scan's loop with the scan's options as operations in the step, and return the loop's results."""
    own = unmasked(step).inputs
    x, first, static, weights = (scan.of_role(role, own) for role in ("x", "state", "static", "weight"))
    body, valid = body_of(scan, [net.params[name] for name in weights]), ""  # valid: the mask of ``lengths``, if any
    states = [*body.inputs][len(x) : len(x) + len(first)]
    for option, value in zip(scan.options, step.inputs[len(own) :], strict=True):
        if option == "lengths":
            numbers = builder.param(number(np.arange(float(scan.length))[:, None]), "step")
            value = builder.one(function("step"), builder.one(Sub(), value, numbers, hint="left"), hint="valid")
        mask = builder.one(Reshape((*builder.shapes[value], 1)), value, hint=option)
        body = with_mask(body, len(x), len(states), resets=option == "cont")
        x, valid = [*x, mask], mask if option == "lengths" else valid
    begun = dict[str, str | None](zip(states, first, strict=True))
    results = builder.loop(scan.body.name, body, x, begun, static, scan.length, scan.reverse)
    count = len(scan.step_outputs) if valid else 0
    return *(builder.one(Mul(), y, valid, hint="y") for y in results[:count]), *results[count:]


def _size(text: str, sizes: Mapping[str, Size]) -> Size:
    """Return the number of a product such as ``4 * H``; the number prints as this text."""
    number, _, name = text.rpartition(" * ")
    return NamedSize(text, fixed(sizes[name], name) * int(number or 1))


def cell_weights(
    framework: str, cell: Cell, w_x: Weight, w_h: Weight, b_x: Weight | None = None, b_h: Weight | None = None,
    more: Mapping[str, Weight] = {},
) -> dict[str, Weight]:  # fmt: skip
    """Return the written cell's weights from a framework's, whose gates have another order; ``more`` is added. b_x is
    the bias of the input product, b_h of the recurrent product; of a GRU with ``reset_after`` gate n needs both."""
    named = "pytorch" if framework == "torch" else framework  # the order of the gates in the weights
    stored = "h" if cell.kind == "rnn" else (LSTM_ORDERS if cell.kind == "lstm" else GRU_ORDERS)[named]
    if framework == "keras":  # stored as [in, gates x H], gates side by side; otherwise [gates x H, in]
        w_x, w_h = w_x.transposed(), w_h.transposed()

    def blocks(weight: Weight, gates: tuple[str, ...]) -> Weight:
        return weight.rows(len(stored), [stored.index(gate) for gate in gates], gates)

    packed = {"W_x": blocks(w_x, cell.gates)}
    if cell.bias:
        packed["b"] = _bias(cell, *(None if b is None else blocks(b, cell.gates) for b in (b_x, b_h)))
    if cell.kind == "gru" and not cell.reset_after:
        packed |= {"W_h": blocks(w_h, ("z", "r")), "U": blocks(w_h, ("n",))}
    else:
        packed["W_h"] = blocks(w_h, cell.gates)
    if cell.kind == "gru" and cell.reset_after and cell.bias:
        assert b_h is not None
        packed["b_h"] = blocks(b_h, ("n",))
    return {**packed, **more}


def _bias(cell: Cell, b_x: Weight | None, b_h: Weight | None) -> Weight:
    """Return the sum of both biases, or the only one; for gate n of a GRU with ``reset_after`` b_x alone."""
    if b_x is None or b_h is None:
        bias = b_x or b_h
        assert bias is not None
        return bias
    if not (cell.kind == "gru" and cell.reset_after):
        return b_x.plus(b_h)
    cut = b_x.shape[0] * 2 // 3

    def make() -> Array:
        return np.concatenate([b_x.make()[:cut] + b_h.make()[:cut], b_x.make()[cut:]])

    return Weight(b_x.shape, (*b_x.sources, *b_h.sources), f"{b_x.recipe} + z, r of {b_h.recipe}", make)
