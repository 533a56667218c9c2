"""Whether a scan is an LSTM."""

from __future__ import annotations

from dataclasses import dataclass

from lstmc.ir import Graph, Ref
from lstmc.ops import Op
from lstmc.patterns.core_formulas import CORE_FORMULAS
from lstmc.patterns.gates import Gates, gate_or_rest, new_content
from lstmc.patterns.polynomial import Atom, Clip, Function, Monomial, Place, Polynomial
from lstmc.patterns.recognised import LSTM
from lstmc.patterns.step import Formulas, Mismatch, Step


def match_lstm(graph: Graph, name: str, formulas: Formulas = CORE_FORMULAS) -> LSTM:
    """The scan as an LSTM; raises :class:`Mismatch`."""
    step = Step(graph, name, formulas)
    step.expect_states(2, "two states, h and c")
    cells = [s for s in step.states if step.updates[s].divided((step.atom(s),))[0].terms]
    if not cells:
        raise step.mismatch("c' = f * c + i * g", *step.following.values())
    mismatches = []
    for c in cells:
        try:
            return _lstm(step, formulas, c)
        except Mismatch as mismatch:
            mismatches.append(mismatch)
    raise mismatches[0]


def _lstm(first: Step, formulas: Formulas, c: Ref) -> LSTM:
    _CellUpdate.of(first, c)
    values = first.equations.equal_to(first.updates[c])
    step = Step(first.graph, first.node.name, formulas, dict.fromkeys(values, values[0]) if values else {})
    h = next(state for state in step.states if state != c)
    if not values:
        raise step.mismatch("h' = o * tanh(c')", step.following[h])
    cell = Place(values[0], step.equations.whole(values[0]))
    after = step.equations.given(cell)
    update = _CellUpdate.of(step, c, step.equations.inside(values[0]))
    o, activation = _output(step, h, after)
    reader = Gates(step, h, {c: update.reset})
    gates = {
        gate: reader.gate(function, (step.atom(c), *update.reset)) if function else None
        for gate, function in (("i", update.i), ("f", update.f), ("g", update.g))
    }
    g = gates["g"]
    assert g is not None
    opened = reader.gate(o, (after,))
    results = step.results({"h": step.updates[h], "c": Polynomial.atom(after)})
    common = step.common({"h": h, "c": c}, results, update.reset)
    return LSTM(**common, i=gates["i"], f=gates["f"], o=opened, g=g, activation=activation, c=values[0])


@dataclass(frozen=True)
class _CellUpdate:
    """c' = f c + i g; a gate that is None is one minus the other."""

    i: Function | None
    f: Function | None
    g: Function
    reset: Monomial

    @classmethod
    def of(cls, step: Step, c: Ref, formula: Polynomial | None = None) -> _CellUpdate:
        formula = step.updates[c] if formula is None else formula
        quotient, new = formula.divided((step.atom(c),))
        reset, quotient = step.reset_of(quotient)
        gate, inverted = gate_or_rest(quotient)
        g = None if gate is None else new_content(gate, new, inverted)
        if gate is not None and g is not None:
            return cls(gate, None, g, reset) if inverted else cls(None, gate, g, reset)
        atoms = new.single
        if gate is None or inverted or atoms is None or len(atoms) != 2:
            raise step.mismatch("c' = f * c + i * g", step.following[c])
        functions = [a for a in atoms if isinstance(a, Function)]
        if len(functions) != 2:
            raise step.mismatch("c' = f * c + i * g", step.following[c])
        i, g = functions if functions[1].op != gate.op or functions[0].op == gate.op else functions[::-1]
        return cls(i, gate, g, reset)


def _output(step: Step, h: Ref, c: Atom) -> tuple[Function, Op | None]:
    """The output gate, and the function of c' (None: none) that it is multiplied with."""
    atoms = step.updates[h].single or ()
    for cell, gate in (atoms, atoms[::-1]) if len(atoms) == 2 else ():
        if not isinstance(gate, Function) or gate.operand == Polynomial.atom(c):
            continue
        if cell is c:
            return gate, None
        if isinstance(cell, Function) and not isinstance(cell.op, Clip) and cell.operand == Polynomial.atom(c):
            return gate, cell.op
    raise step.mismatch("h' = o * tanh(c')", step.following[h])
