"""The formulas of a scan's step: next states, masks, results; and the tails of LSTMs, from gates to c' and h'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from lstmc.ir import Graph, Ref, Scan, print_node
from lstmc.ops import Op, Relu, Split
from lstmc.patterns.equations import (
    Atom,
    Clip,
    Equations,
    Formulas,
    Function,
    Monomial,
    Opaque,
    Place,
    Polynomial,
    without,
)
from lstmc.patterns.recognised import Difference, Result, State, Valid

__all__ = ["LSTMTail", "Mismatch", "lstm_tails", "packed"]

ONE = Polynomial.constant(1)


class Mismatch(Exception):
    """The scan does not match the pattern."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class Step:
    """The formulas of a scan's step: ``updates`` has each state's next value at valid steps, or nothing if a state is
    no [N, H]. ``valid`` is the mask of valid steps, if the scan has one, and ``present`` its formula, 1 at valid
    steps."""

    def __init__(self, graph: Graph, name: str, formulas: Formulas, cuts: Mapping[Ref, Ref] = {}) -> None:
        """Read the formulas of the next states, without their mask. ``cuts`` maps values of the body that are not read
        as formulas to the values whose atoms stand for them."""
        self.graph, self.node, self.formulas = graph, graph.node(name), formulas
        scan = self.node.op
        assert isinstance(scan, Scan)
        self.scan, self.body = scan, scan.body
        self.equations = Equations(scan.body, formulas, (graph, name), cuts)
        self.states = [*map(Ref, self.body.arguments("state"))]
        self.following = {arg: output.ref for arg, output in zip(self.states, scan.next_states, strict=True)}
        flat = all(self.body.type(arg).rank == (3 if scan.kept else 2) for arg in self.states)
        self.updates = {arg: self.equations.value(ref) for arg, ref in self.following.items()} if flat else {}
        self.valid: Valid | None = None
        self.present = ONE
        self._unmask()

    def atom(self, state: Ref) -> Atom:
        return self.equations.opaque(Place(state, self.equations.whole(state)))

    def mismatch(self, expected: str, *refs: Ref) -> Mismatch:
        """Return the exception that says what was expected, and prints the nodes of ``refs`` as what was found."""
        text = "; ".join(print_node(self.body, self.body.node(ref.node)) for ref in refs)
        return Mismatch(Difference(expected, text, self.body.node(refs[0].node).loc or self.node.loc))

    def mismatch_at(self, expected: str, place: Place) -> Mismatch:
        """Return the exception that says what was expected, and prints the node at ``place`` as what was found."""
        graph = self.equations.graph(place.where)
        node = graph.node(place.ref.node)
        return Mismatch(Difference(expected, print_node(graph, node), node.loc or self.node.loc))

    def expect_states(self, count: int, expected: str) -> None:
        """Raise :class:`Mismatch` unless the scan has ``count`` states, all of one type [N, H]."""
        if len(self.states) != count:
            actual = ", ".join(f"%{ref.node}" for ref in self.states) or "none"
            raise Mismatch(Difference(expected, actual, self.node.loc))
        if not self.updates or len({self.body.type(s) for s in self.states}) != 1:
            actual = ", ".join(f"%{ref.node}: {self.body.type(ref)}" for ref in self.states)
            raise Mismatch(Difference("states [N, H]", actual, self.node.loc))

    def by_rows(self, atom: Atom) -> bool:
        """Return whether an atom is one number for each row of the batch, and depends on no state."""
        if atom.recurrent or not isinstance(atom, Opaque | Function):
            return False
        columns = atom.place.columns
        wide = any(self.body.type(state).shape[-1] > 1 for state in self.states)
        graph, ref = self.equations.graph(atom.place.where), atom.place.ref
        return columns is None or (columns == (0, 1) and wide and graph.type(ref).shape[-1] == 1)

    def _unmask(self) -> None:
        """Find the mask that makes every state keep its value at invalid steps, and divide it out of the updates."""
        first = next(iter(self.updates.values()), ONE)
        for mask in dict.fromkeys(a for monomial, _ in first for a in monomial if self.by_rows(a)):
            split = {s: update.divided((mask,)) for s, update in self.updates.items()}
            old = {s: Polynomial.atom(self.atom(s)) for s in self.states}
            inverted = any(rest != old[s] for s, (_, rest) in split.items())
            if inverted and any(rest + factor != old[s] for s, (factor, rest) in split.items()):
                continue
            self.updates = {s: rest if inverted else rest + factor for s, (factor, rest) in split.items()}
            there = Polynomial.atom(mask)
            self.present = ONE - there if inverted else there
            self.valid = Valid(mask.place, inverted, _lengths(self.graph, mask, self.formulas) if inverted else None)
            return

    def reset_of(self, quotient: Polynomial) -> tuple[Monomial, Polynomial]:
        """Return the factor that all terms share, one number for each row (() for none), and the formula without it."""
        for atom in dict.fromkeys(a for monomial, _ in quotient for a in monomial if self.by_rows(a)):
            divided, rest = quotient.divided((atom,))
            if not rest.terms:
                return (atom,), divided
        return (), quotient

    def results(self, named: Mapping[str, Polynomial]) -> tuple[Result, ...]:
        """Return which ``named`` formula each output equals, and whether masked. Raises :class:`Mismatch` for none."""
        matches = []
        readers = self.graph.readers()
        for number, output in enumerate(self.scan.step_outputs):
            formula = self.equations.value(output.ref)
            name = next((name for name, value in named.items() if formula in (value, value * self.present)), None)
            if name is None:
                raise self.mismatch(f"each step to return {' or '.join(named)} alone", output.ref)
            matches.append(Result(name, formula != named[name], Ref(self.node.name, number) in readers))
        return tuple(matches)

    def common(self, states: Mapping[str, Ref], results: tuple[Result, ...], reset: Monomial) -> dict[str, Any]:
        """Return the fields that the three kinds of :class:`~lstmc.patterns.recognised.Recognised` share."""
        operands = dict(zip(self.body.arguments(), self.graph.args(self.node.name), strict=True))
        readers, steps = self.graph.readers(), len(self.scan.step_outputs)
        read = {arg: Ref(self.node.name, steps + number) in readers for number, arg in enumerate(self.states)}
        return {
            "scan": self.node.name,
            "units": self.body.type(self.states[0]).shape[-1],
            "steps": self.scan.length,
            "reverse": self.scan.reverse,
            "states": tuple(State(s, a, operands[a.node], self.following[a], read[a]) for s, a in states.items()),
            "results": results,
            "reset": reset[0].place if reset else None,
            "valid": self.valid,
        }


def _lengths(graph: Graph, mask: Atom, formulas: Formulas) -> Ref | None:
    """Return the model's lengths if a mask is relu(1 - relu(left)) and a scan counts left down from them, else None."""
    inner = (ONE - mask.operand).function if isinstance(mask, Function) and isinstance(mask.op, Relu) else None
    left = inner.operand.single if inner is not None and isinstance(inner.op, Relu) else None
    if left is None or len(left) != 1 or not isinstance(left[0], Opaque) or left[0].place.where != "sequence":
        return None
    ref = left[0].place.ref
    scan = graph.node(ref.node).op
    if not isinstance(scan, Scan) or scan.states != 1 or scan.reverse or ref.out >= len(scan.step_outputs):
        return None
    counted = Equations(scan.body, formulas, (graph, ref.node))
    (state,) = scan.body.arguments("state")
    before = Polynomial.atom(counted.opaque(Place(Ref(state), None)))
    following = counted.at(Place(scan.next_states[0].ref, None))
    counter = counted.at(Place(scan.step_outputs[ref.out].ref, None))
    initial = graph.args(ref.node)[scan.body.arguments().index(state)]
    return initial if (counter, following) == (before, before - ONE) else None


@dataclass(frozen=True)
class LSTMTail:
    """The tail c = f c_prev + i g, h = o activation(c); if c = i g, there is neither f nor c_prev. ``gates`` has the
    activation and the operand of each gate. If c_prev is a state times a number for each row, ``state`` and ``reset``
    are the two factors; then ``c_prev`` is None if no value of the body equals the product."""

    c: Ref
    h: Ref
    activation: Op
    gates: dict[str, tuple[Op | Clip, Place]]
    c_prev: Ref | None
    state: Ref | None
    reset: Place | None


def lstm_tails(equations: Equations) -> Iterator[LSTMTail]:
    """Yield the tail of every LSTM, in the body's order; each tail's c is cut, so that later formulas read it as a
    value. A body has several tails if its cell has several layers."""
    for node in equations.body:
        ref = Ref(node.name)
        if len(node.types) > 1 or not node.types[0].rank:
            continue
        atoms = equations.value(ref).single
        if atoms is None or len(atoms) != 2 or equations.equal_to(equations.value(ref), ref.node)[0] != ref:
            continue
        tail = next((tail for o, shown in permutations(atoms) for tail in _tails(equations, ref, o, shown)), None)
        if tail is not None:
            equations.cut(tail.c)
            yield tail


def _tails(equations: Equations, h: Ref, o: Atom, shown: Atom) -> Iterator[LSTMTail]:
    """Yield the tails whose h is the output gate ``o`` times ``shown``, a function of c."""
    if not isinstance(o, Function) or not isinstance(shown, Function) or isinstance(shown.op, Clip):
        return
    c = shown.operand_place
    if c.where != "step" or c.columns != equations.whole(c.ref):
        return
    for gates, before in _updates(shown.operand, o.op):
        if (before_c := _before(equations, before, c.ref)) is not None:
            seen = {name: (gate.op, gate.operand_place) for name, gate in {**gates, "o": o}.items()}
            yield LSTMTail(c.ref, h, shown.op, seen, *before_c)


def _updates(c: Polynomial, gate: Op | Clip) -> Iterator[tuple[dict[str, Function], Monomial]]:
    """Yield the readings of a formula as f c + i g: the gates by name, and the monomial of the old c, which is () if
    the formula is i g. If possible, i and f are functions with the op ``gate``."""
    terms = [monomial for monomial, coefficient in c if coefficient == 1]
    if len(terms) != len(c) or len(c) not in (1, 2):
        return
    for new, *kept in permutations(terms):
        functions = [atom for atom in new if isinstance(atom, Function)]
        if len(new) != 2 or len(functions) != 2:
            continue
        i, g = sorted(functions, key=lambda function: function.op != gate)
        if not kept:
            yield {"i": i, "g": g}, ()
        for f in kept[0] if kept else ():
            if isinstance(f, Function) and f.op == gate:
                yield {"i": i, "g": g, "f": f}, without(kept[0], (f,)) or ()


def _before(equations: Equations, monomial: Monomial, c: Ref) -> tuple[Ref | None, Ref | None, Place | None] | None:
    """Return the value that equals the monomial of the old c, and the state and the number for each row whose product
    it is; None for a part that does not exist, None alone if there is neither value nor product."""
    if not monomial:
        return None, None, None
    values = equations.equal_to(Polynomial.of({monomial: 1.0}), c.node)
    value = next((ref for ref in values if equations.body.type(ref) == equations.body.type(c)), None)
    for state, *factors in permutations(monomial):
        rows = [a.place for a in factors if isinstance(a, Opaque) and not a.recurrent]
        if isinstance(state, Opaque) and state.recurrent and len(rows) == len(factors) == 1:
            return value, state.place.ref, rows[0]
    return None if value is None else (value, None, None)


def packed(body: Graph, places: dict[str, Place], parts: int) -> tuple[Ref, dict[str, int]] | None:
    """Return the value that all places are equal parts of, and the number of each part by the place's name. The value
    has ``parts`` parts along its last axis. Return None if there is no such value, or if two places are one part."""
    pieces: dict[str, tuple[Ref, int]] = {}
    for name, place in places.items():
        if place.where != "step" or place.columns is None:
            return None
        ref, (start, stop) = place.ref, place.columns
        size = stop - start
        while body.type(ref).shape[-1] != parts * size:
            node = body.node(ref.node)
            if not isinstance(node.op, Split) or node.op.axis != body.type(ref).rank - 1:
                return None
            start += sum(node.op.sizes[: ref.out])
            (ref,) = body.args(node.name)
        if start % size:
            return None
        pieces[name] = ref, start // size
    sources = {ref for ref, _ in pieces.values()}
    numbers = {name: number for name, (_, number) in pieces.items()}
    return (sources.pop(), numbers) if len(sources) == 1 and len(set(numbers.values())) == len(numbers) else None
