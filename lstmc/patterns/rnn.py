"""Whether a scan is a simple recurrent network."""

from __future__ import annotations

from lstmc.ir import Graph
from lstmc.patterns.activation import activation_of
from lstmc.patterns.core_formulas import CORE_FORMULAS
from lstmc.patterns.gates import Gates
from lstmc.patterns.polynomial import Function, Product, without
from lstmc.patterns.recognised import RNN
from lstmc.patterns.step import Formulas, Step


def match_rnn(graph: Graph, name: str, formulas: Formulas = CORE_FORMULAS) -> RNN:
    """The scan as a simple recurrent network; raises :class:`Mismatch`."""
    step = Step(graph, name, formulas)
    step.expect_states(1, "one state, h")
    (h,) = step.states
    atoms = step.updates[h].single
    if atoms is None or len(atoms) != 1 or not isinstance(atoms[0], Function):
        raise step.mismatch("h' = f(W x + b + R h), f being a function such as tanh", step.following[h])
    opened = activation_of(atoms[0])
    terms = atoms[0].operand if opened is None else opened[1]
    products = [a for m, _ in terms for a in m if isinstance(a, Product) and a.recurrent]
    read = products[0].operand.single if products else None
    reset = () if read is None else without(read, (step.atom(h),)) or ()
    gate = Gates(step, h, {h: reset}).gate(atoms[0])
    if not gate.recurrent:
        raise step.mismatch_at("a product R h of the state", atoms[0].operand_place)
    return RNN(**step.common({"h": h}, step.results({"h": step.updates[h]}), reset), h=gate)
