"""Recognise a scan as an LSTM, a GRU or an RNN, or report the first difference from each.

A scan is read as formulas (``equations.py``). So recognition works at every stage of a model: with gates packed in any
order or separate, with products in the loop or before it, and with gates written in different ways. A gate is a
function of a sum of W x, R h and b; several ops may compute the function (a hard sigmoid, clipping before the
function). A reset is a factor that multiplies every state before the step, one number for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from lstmc.ir import Graph, Ref
from lstmc.ops import Op
from lstmc.patterns import equations
from lstmc.patterns import recognised as cells
from lstmc.patterns.equations import CORE_FORMULAS, Atom, Clip, Function, Monomial, Place, Polynomial, Product, Weight
from lstmc.patterns.recognised import Activation, Clipped, Difference, Entering, Gate, HardSigmoid
from lstmc.patterns.step import ONE, Mismatch, Step

__all__ = ["match_gru", "match_lstm", "match_rnn", "recognise"]


def activation_of(function: Function) -> tuple[Activation, Polynomial] | None:
    """Return a gate's activation and its operand, read through clips; None for a clip that is no hard sigmoid."""
    if not isinstance(function.op, Clip):
        if (held := _held(function.operand)) is None:
            return function.op, function.operand
        clip, low, inner = held
        return Clipped(function.op, low, low + clip.high), inner + Polynomial.constant(low)
    slopes = {value for monomial, value in function.operand if monomial}
    if function.op.high != 1 or len(slopes) != 1:
        return None
    (slope,) = slopes
    offset = sum(value for monomial, value in function.operand if not monomial)
    operand = Polynomial.of({monomial: 1.0 for monomial, _ in function.operand if monomial})
    if (held := _held(operand)) is None:
        return HardSigmoid(slope, offset), operand
    clip, _, inner = held
    low = -clip.high / 2  # only the sum of lower bound and offset is known: take bounds of equal size, as usual
    clipped = Clipped(HardSigmoid(slope, offset - slope * low), low, -low)
    return clipped, inner + Polynomial.constant(low)


def _held(formula: Polynomial) -> tuple[Clip, float, Polynomial] | None:
    """Return a formula that is a clip plus a number as three parts: the clip, the number (the lower bound), and the
    clip's operand; None for any other formula."""
    low = sum(value for monomial, value in formula if not monomial)
    function = (formula - Polynomial.constant(low)).function
    return (function.op, low, function.operand) if function and isinstance(function.op, Clip) else None


@dataclass(frozen=True)
class Gates:
    """Reads the gates of a step with state ``h``; ``resets`` maps one state to its factor, which must be that of h."""

    step: Step
    h: Ref
    resets: Mapping[Ref, Monomial]

    def gate(self, function: Function, cell: Monomial | None = None, skipped: Collection[Monomial] = ()) -> Gate:
        """Return the weights and other terms of the gate that ``function`` computes. ``cell`` is the operand of a
        peephole; ``skipped`` terms do not belong to the gate. Raises :class:`~lstmc.patterns.Mismatch` for a term that
        cannot be in a gate."""
        if not self._all_units(function.operand_place.columns):
            raise self.step.mismatch_at(f"a gate of {self._units} units", function.operand_place)
        activation, terms = self.opened(function)
        gate = Gate(activation, function.operand_place)
        for monomial, coefficient in terms:
            if monomial in skipped and coefficient == 1:
                continue
            atom = monomial[0] if len(monomial) == 1 else None
            seen = equations.without(monomial, cell) if cell else None
            if not monomial:
                gate = replace(gate, constant=coefficient)
            elif coefficient != 1:
                raise self._no_term(function)
            elif isinstance(atom, Product) and self._all_units(atom.matrix.rows) and not atom.recurrent:
                gate = replace(gate, entering=(*gate.entering, Entering(atom.matrix, atom.operand_place)))
            elif isinstance(atom, Product) and self._all_units(atom.matrix.rows):
                self._check_operand(atom)
                gate = replace(gate, recurrent=(*gate.recurrent, atom.matrix))
            elif atom is not None and self.is_vector(atom):
                gate = replace(gate, biases=(*gate.biases, atom.place))
            elif atom is not None and not atom.recurrent:
                gate = replace(gate, added=(*gate.added, atom.place))
            elif gate.peephole is None and seen is not None and len(seen) == 1 and self.is_vector(seen[0]):
                gate = replace(gate, peephole=seen[0].place)
            else:
                raise self._no_term(function)
        return gate

    def opened(self, function: Function) -> tuple[Activation, Polynomial]:
        """Return a gate's activation and the sum that it is applied to. Raises :class:`~lstmc.patterns.Mismatch`."""
        if (activation := activation_of(function)) is None:
            raise self.step.mismatch_at("a function such as sigmoid", function.place)
        return activation

    def _no_term(self, function: Function) -> Mismatch:
        return self.step.mismatch_at("a sum of W x, R h and b", function.operand_place)

    @property
    def _units(self) -> int:
        return self.step.body.type(self.h).shape[-1]

    def _all_units(self, columns: tuple[int, int] | None) -> bool:
        """Return whether columns have one number for each unit. A single number would be broadcast to all units."""
        return columns is not None and columns[1] - columns[0] == self._units

    def is_vector(self, atom: Atom) -> bool:
        """Return whether an atom is a weight with a number for each unit."""
        place = atom.place
        if not isinstance(atom, Weight) or not self._all_units(place.columns):
            return False
        return all(size == 1 for size in self.step.equations.graph(place.where).type(place.ref).shape[:-1])

    def _check_operand(self, product: Product) -> None:
        """Raise Mismatch unless a product multiplies h, or h times the factor that multiplies every state."""
        h = self.step.atom(self.h)
        read = product.operand.single
        factor = None if read is None else equations.without(read, (h,))
        if factor is None or not all(self.step.by_rows(atom) for atom in factor):
            raise self.step.mismatch_at(f"a product of the state %{self.h.node}", product.place)
        ((other, expected),) = self.resets.items()
        if factor != expected:
            factors = [(self.h, factor), (other, expected)][: 1 + (other != self.h)]
            found = " and ".join(self._times(state, by) for state, by in factors)
            wanted = "every state to be multiplied by the same indicator, or none"
            raise Mismatch(Difference(wanted, found, self.step.node.loc))

    def _times(self, state: Ref, by: Monomial) -> str:
        """Return a state and its factors as text, for an error."""
        names = [self.step.equations.graph(atom.place.where).value_name(atom.place.ref) for atom in by]
        return " times ".join(f"%{name}" for name in (state.node, *names))


def gate_or_rest(formula: Polynomial) -> tuple[Function | None, bool]:
    """Return the gate g of a formula that is g or 1 - g, and whether it is 1 - g; (None, False) for any other."""
    for inverted, value in ((False, formula), (True, ONE - formula)):
        if value.function is not None:
            return value.function, inverted
    return None, False


def new_content(gate: Function, new: Polynomial, direct: bool) -> Function | None:
    """Return the function n of a term gate * n (``direct``) or (1 - gate) * n; None for any other term."""
    times, rest = new.divided((gate,))
    n = (times if direct else rest).function
    factor = Polynomial.atom(gate) if direct else ONE - Polynomial.atom(gate)
    return n if n is not None and factor * Polynomial.atom(n) == new else None


def match_lstm(graph: Graph, name: str, formulas: equations.Formulas = CORE_FORMULAS) -> cells.LSTM:
    """Return the cell of the scan ``name`` as an LSTM. Raises :class:`Mismatch` with the first difference."""
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


def _lstm(first: Step, formulas: equations.Formulas, c: Ref) -> cells.LSTM:
    """Return the scan as an LSTM with the cell state ``c``. Raises :class:`Mismatch`. The formulas are read twice: the
    second time values that equal c' are opaque, so that h' is read as a formula of c'."""
    _CellUpdate.of(first, c)
    values = first.equations.equal_to(first.updates[c])
    step = Step(first.graph, first.node.name, formulas, dict.fromkeys(values, values[0]) if values else {})
    h = next(state for state in step.states if state != c)
    if not values:
        raise step.mismatch("h' = o * tanh(c')", step.following[h])
    cell = Place(values[0], step.equations.whole(values[0]))
    after = step.equations.opaque(cell)
    update = _CellUpdate.of(step, c, step.equations.inside(values[0]))
    o, activation = _output(step, h, after)
    reader = Gates(step, h, {c: update.reset})
    peeped = (step.atom(c), *update.reset)
    i, f = (reader.gate(gate, peeped) if gate else None for gate in (update.i, update.f))
    g, opened = reader.gate(update.g, peeped), reader.gate(o, (after,))
    results = step.results({"h": step.updates[h], "c": Polynomial.atom(after)})
    common = step.common({"h": h, "c": c}, results, update.reset)
    return cells.LSTM(**common, i=i, f=f, o=opened, g=g, activation=activation, c=values[0])


@dataclass(frozen=True)
class _CellUpdate:
    """The gates of c' = f c + i g, and the factor ``reset`` of c. No f: it is 1 - i; no i: it is 1 - f."""

    i: Function | None
    f: Function | None
    g: Function
    reset: Monomial

    @classmethod
    def of(cls, step: Step, c: Ref, formula: Polynomial | None = None) -> _CellUpdate:
        """Return the update of ``c``, read from ``formula``, or else from the step's formula of c'. Raises Mismatch."""
        formula = step.updates[c] if formula is None else formula
        quotient, new = formula.divided((step.atom(c),))
        reset, quotient = step.reset_of(quotient)
        gate, inverted = gate_or_rest(quotient)
        g = None if gate is None else new_content(gate, new, inverted)
        if gate is not None and g is not None:
            return cls(gate, None, g, reset) if inverted else cls(None, gate, g, reset)
        functions = [atom for atom in new.single or () if isinstance(atom, Function)]
        if gate is None or inverted or len(new.single or ()) != 2 or len(functions) != 2:
            raise step.mismatch("c' = f * c + i * g", step.following[c])
        i, g = functions if functions[1].op != gate.op or functions[0].op == gate.op else functions[::-1]
        return cls(i, gate, g, reset)


def _output(step: Step, h: Ref, c: Atom) -> tuple[Function, Op | None]:
    """Return the output gate, and the function of c' that it multiplies (None: identity). Raises :class:`Mismatch`."""
    atoms = step.updates[h].single or ()
    for cell, gate in (atoms, atoms[::-1]) if len(atoms) == 2 else ():
        if not isinstance(gate, Function) or gate.operand == Polynomial.atom(c):
            continue
        if cell is c:
            return gate, None
        if isinstance(cell, Function) and not isinstance(cell.op, Clip) and cell.operand == Polynomial.atom(c):
            return gate, cell.op
    raise step.mismatch("h' = o * tanh(c')", step.following[h])


def match_gru(graph: Graph, name: str, formulas: equations.Formulas = CORE_FORMULAS) -> cells.GRU:
    """Return the cell of the scan ``name`` as a GRU. Raises :class:`Mismatch` with the first difference."""
    step = Step(graph, name, formulas)
    step.expect_states(1, "one state, h")
    (h,) = step.states
    quotient, new = step.updates[h].divided((step.atom(h),))
    reset, quotient = step.reset_of(quotient)
    z, update_new = gate_or_rest(quotient)
    n = None if z is None else new_content(z, new, update_new)
    if z is None or n is None:
        raise step.mismatch("h' = z * h + (1 - z) * n", step.following[h])
    reader = Gates(step, h, {h: reset})
    inner = _ResetGate(reader, (step.atom(h), *reset), n)
    if inner.r is z:
        expected = "two gates, an update gate z and a reset gate r (one alone is a minimal gated unit)"
        raise step.mismatch_at(expected, z.place)
    update, opened, new_gate = reader.gate(z), reader.gate(inner.r), reader.gate(n, skipped=inner.terms)
    if new_gate.recurrent:
        raise step.mismatch_at("n to see h through the reset gate alone", n.operand_place)
    new_gate = replace(new_gate, recurrent=tuple(product.matrix for product in inner.products))
    common = step.common({"h": h}, step.results({"h": step.updates[h]}), reset)
    common |= {"update_new": update_new, "reset_after": inner.after, "inner_biases": inner.biases}
    return cells.GRU(**common, z=update, r=opened, n=new_gate)


class _ResetGate:
    """The reset gate ``r`` of a GRU's candidate ``n``, and the terms of ``n`` that read h through this gate. ``after``:
    r multiplies the product with h, not h. Then ``biases`` are the vectors that r multiplies too."""

    def __init__(self, reader: Gates, h: Monomial, n: Function) -> None:
        """Find the only gate that multiplies h, or R h, in the candidate's operand, or raise Mismatch."""
        seen = [*self._seen(reader, h, n)]
        gates = {gate: after for _, _, gate, after in seen}
        if len(gates) != 1:
            expected = "n = tanh(W x + b + R (r * h)), or r * (R h) in it"
            raise reader.step.mismatch_at(expected, n.operand_place)
        ((self.r, self.after),) = gates.items()
        self.products = [product for _, product, _, _ in seen]
        left = {m: equations.without(m, (self.r,)) for m, _ in reader.opened(n)[1] if self.after}
        biases = {m: a[0].place for m, a in left.items() if a and len(a) == 1 and reader.is_vector(a[0])}
        self.biases, self.terms = tuple(biases.values()), {term for term, _, _, _ in seen} | set(biases)

    @staticmethod
    def _seen(reader: Gates, h: Monomial, n: Function) -> Iterator[tuple[Monomial, Product, Function, bool]]:
        """Yield terms of n with h, gate and matrix: term, product, gate, and whether the gate follows the product."""
        for monomial, _ in reader.opened(n)[1]:
            for product in monomial:
                if not isinstance(product, Product) or not product.recurrent:
                    continue
                read = product.operand.single
                inside = None if read is None else equations.without(read, h)
                outside = equations.without(monomial, (product,)) or ()
                for gate, other, after in ((inside, outside, False), (outside, inside, True)):
                    if gate and len(gate) == 1 and other == () and isinstance(gate[0], Function):
                        yield monomial, product, gate[0], after


def match_rnn(graph: Graph, name: str, formulas: equations.Formulas = CORE_FORMULAS) -> cells.RNN:
    """Return the cell of the scan ``name`` as an RNN. Raises :class:`Mismatch` with the first difference."""
    step = Step(graph, name, formulas)
    step.expect_states(1, "one state, h")
    (h,) = step.states
    if (function := step.updates[h].function) is None:
        raise step.mismatch("h' = f(W x + b + R h), f being a function such as tanh", step.following[h])
    opened = activation_of(function)
    terms = function.operand if opened is None else opened[1]
    products = [a for m, _ in terms for a in m if isinstance(a, Product) and a.recurrent]
    read = products[0].operand.single if products else None
    reset = () if read is None else equations.without(read, (step.atom(h),)) or ()
    gate = Gates(step, h, {h: reset}).gate(function)
    if not gate.recurrent:
        raise step.mismatch_at("a product R h of the state", function.operand_place)
    return cells.RNN(**step.common({"h": h}, step.results({"h": step.updates[h]}), reset), h=gate)


Match = Callable[[Graph, str, equations.Formulas], cells.Cell]
MATCHES: dict[str, Match] = {"LSTM": match_lstm, "GRU": match_gru, "RNN": match_rnn}


def recognise(graph: Graph, name: str, formulas: equations.Formulas = CORE_FORMULAS) -> cells.Cell | cells.Unrecognised:
    """Return the LSTM, GRU or RNN that a scan computes, or how it differs from each; ``formulas`` read its ops."""
    differences = {}
    for kind, match in MATCHES.items():
        try:
            return match(graph, name, formulas)
        except Mismatch as mismatch:
            differences[kind] = mismatch.difference
    return cells.Unrecognised(name, differences)
