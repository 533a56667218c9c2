"""A scan as formulas: its states after a step, the masks that it has, what its steps return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmc.ir import Graph, Ref, Scan, print_node
from lstmc.ops import Arg, Op, Relu
from lstmc.patterns.equations import Equations, Formula
from lstmc.patterns.polynomial import Atom, Function, Given, Monomial, Place, Polynomial
from lstmc.patterns.recognised import Difference, Result, State, Valid

Formulas = Mapping[type[Op], Formula]
ONE = Polynomial.constant(1)


class Mismatch(Exception):
    """The scan does not match the pattern."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class Step:
    """The formulas of a scan's step: the next value of each state, at valid steps."""

    def __init__(self, graph: Graph, name: str, formulas: Formulas, cuts: Mapping[Ref, Ref] = {}) -> None:
        self.graph, self.node, self.formulas = graph, graph.node(name), formulas
        scan = self.node.op
        assert isinstance(scan, Scan)
        self.scan, self.body = scan, scan.body
        self.equations = Equations(scan.body, formulas, (graph, name), cuts)
        args = [Ref(a.name) for a in self.body.body_args() if isinstance(a.op, Arg) and a.op.role == "state"]
        self.states = args
        self.following = {arg: output.ref for arg, output in zip(args, scan.next_states, strict=True)}
        flat = all(self.body.type(arg).rank == (3 if scan.kept else 2) for arg in args)
        self.updates = {arg: self.equations.value(ref) for arg, ref in self.following.items()} if flat else {}
        self.valid: Valid | None = None
        self.present = ONE
        self._unmask()

    def atom(self, state: Ref) -> Atom:
        return self.equations.given(Place(state, self.equations.whole(state)))

    def mismatch(self, expected: str, *refs: Ref) -> Mismatch:
        text = "; ".join(print_node(self.body, self.body.node(ref.node)) for ref in refs)
        return Mismatch(Difference(expected, text, self.body.node(refs[0].node).loc or self.node.loc))

    def mismatch_at(self, expected: str, place: Place) -> Mismatch:
        graph = self.equations.graph(place.where)
        node = graph.node(place.ref.node)
        return Mismatch(Difference(expected, print_node(graph, node), node.loc or self.node.loc))

    def expect_states(self, count: int, expected: str) -> None:
        if len(self.states) != count:
            actual = ", ".join(f"%{ref.node}" for ref in self.states) or "none"
            raise Mismatch(Difference(expected, actual, self.node.loc))
        if not self.updates or len({self.body.type(s) for s in self.states}) != 1:
            actual = ", ".join(f"%{ref.node}: {self.body.type(ref)}" for ref in self.states)
            raise Mismatch(Difference("states [N, H]", actual, self.node.loc))

    def by_rows(self, atom: Atom) -> bool:
        """Return whether an atom is one number for each row, of no state."""
        if atom.recurrent or not isinstance(atom, Given | Function):
            return False
        columns = atom.place.columns
        wide = any(self.body.type(state).shape[-1] > 1 for state in self.states)
        return columns is None or (columns == (0, 1) and wide and self._width(atom.place) == 1)

    def _width(self, place: Place) -> int:
        return self.equations.graph(place.where).type(place.ref).shape[-1]

    def _unmask(self) -> None:
        """Find the mask that keeps every state at invalid steps, if there is one, and the updates of the states at the
        others.
        """
        if not self.updates:
            return
        formula = next(iter(self.updates.values()))
        for mask in dict.fromkeys(a for monomial, _ in formula for a in monomial if self.by_rows(a)):
            split = {s: update.divided((mask,)) for s, update in self.updates.items()}
            old = {s: Polynomial.atom(self.atom(s)) for s in self.states}
            if all(rest == old[s] for s, (_, rest) in split.items()):
                inverted = False
            elif all(rest + factor == old[s] for s, (factor, rest) in split.items()):
                inverted = True
            else:
                continue
            self.updates = {s: rest if inverted else rest + factor for s, (factor, rest) in split.items()}
            there = Polynomial.atom(mask)
            self.present = ONE - there if inverted else there
            self.valid = Valid(mask.place, inverted, _lengths(self.graph, mask, self.formulas) if inverted else None)
            return

    def reset_of(self, quotient: Polynomial) -> tuple[Monomial, Polynomial]:
        """Return the common factor of a formula that has one number a row, if there is one, and
        the formula without it.
        """
        for atom in dict.fromkeys(a for monomial, _ in quotient for a in monomial if self.by_rows(a)):
            divided, rest = quotient.divided((atom,))
            if not rest.terms:
                return (atom,), divided
        return (), quotient

    def results(self, named: Mapping[str, Polynomial]) -> tuple[Result, ...]:
        matches = []
        readers = self.graph.readers()
        for number, output in enumerate(self.scan.step_outputs):
            formula = self.equations.value(output.ref)
            for name, value in named.items():
                if formula in (value, value * self.present):
                    matches.append(Result(name, formula != value, Ref(self.node.name, number) in readers))
                    break
            else:
                raise self.mismatch(f"each step to return {' or '.join(named)} alone", output.ref)
        return tuple(matches)

    def _state(self, name: str, arg: Ref, initial: Ref) -> State:
        last = Ref(self.node.name, len(self.scan.step_outputs) + self.states.index(arg))
        return State(name, arg, initial, self.following[arg], last in self.graph.readers())

    def common(self, states: Mapping[str, Ref], results: tuple[Result, ...], reset: Monomial) -> dict[str, Any]:
        """The fields of a :class:`~lstmc.patterns.recognised.Recognised`."""
        operands = dict(zip([a.name for a in self.body.body_args()], self.graph.args(self.node.name), strict=True))
        return {
            "scan": self.node.name,
            "units": self.body.type(self.states[0]).shape[-1],
            "steps": self.scan.length,
            "reverse": self.scan.reverse,
            "states": tuple(self._state(name, arg, operands[arg.node]) for name, arg in states.items()),
            "results": results,
            "reset": reset[0].place if reset else None,
            "valid": self.valid,
        }


def _lengths(graph: Graph, mask: Atom, formulas: Formulas) -> Ref | None:
    """The model's lengths, if a mask is relu(1 - relu(left)), ``left`` being the lengths counted down step by step."""
    if not isinstance(mask, Function) or not isinstance(mask.op, Relu):
        return None
    rest = (ONE - mask.operand).single
    inner = rest[0] if rest is not None and len(rest) == 1 else None
    if not isinstance(inner, Function) or not isinstance(inner.op, Relu):
        return None
    atoms = inner.operand.single
    if atoms is None or len(atoms) != 1 or not isinstance(atoms[0], Given) or atoms[0].place.where != "sequence":
        return None
    ref = atoms[0].place.ref
    scan = graph.node(ref.node).op
    if not isinstance(scan, Scan) or scan.states != 1 or scan.reverse or ref.out >= len(scan.step_outputs):
        return None
    counted = Equations(scan.body, formulas, (graph, ref.node))
    number = next(i for i in range(len(scan.body.body_args())) if scan.role(i) == "state")
    state = Ref(scan.body.body_args()[number].name)
    before = Polynomial.atom(counted.given(Place(state, None)))
    following = counted.at(Place(scan.next_states[0].ref, None))
    counter = counted.at(Place(scan.step_outputs[ref.out].ref, None))
    return graph.args(ref.node)[number] if (counter, following) == (before, before - ONE) else None
