"""The end of an LSTM's step as LSTMUnit has it: the gates packed in one value, in some order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lstmc.ir import Graph, Ref
from lstmc.ops import Sigmoid, Tanh
from lstmc.patterns import Equations, Place, lstm_tails, packed
from lstmc_caffe.recurrent.layer_formulas import FORMULAS


@dataclass(frozen=True)
class GateTail:
    """c = sigmoid(f) c_prev + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c): its values, and the one value that the
    gates are the quarters of, in ``order``. Without the first product there is no c_prev. See
    :class:`~lstmc.patterns.LSTMTail` for ``state`` and ``reset``; ``cont`` is what LSTMUnit has for ``reset``, a
    sequence outside of the scan."""

    c: Ref
    h: Ref
    c_prev: Ref | None
    gates: Ref
    order: str
    state: Ref | None = None
    reset: Place | None = None
    cont: Ref | None = None


def gate_tails(body: Graph, around: tuple[Graph, str] | None = None) -> Iterator[GateTail]:
    """Every gate tail of a scan's body of Caffe ops, in order; ``around`` is the graph and the scan's name in it."""
    for tail in lstm_tails(Equations(body, FORMULAS, around)):
        found = packed(body, {name: place for name, (_, place) in tail.gates.items()}, 4)
        usual = all(op == (Tanh() if name == "g" else Sigmoid()) for name, (op, _) in tail.gates.items())
        if found is None or not usual or tail.activation != Tanh():
            continue
        source, numbers = found
        order = ["f"] * 4  # a first step without f has the other three where they are
        for name, number in numbers.items():
            order[number] = name
        yield GateTail(tail.c, tail.h, tail.c_prev, source, "".join(order), tail.state, tail.reset)
