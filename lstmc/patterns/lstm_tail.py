"""The end of an LSTM's step in any body: in a cell of several layers, in a cell with more states, in a first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from lstmc.ir import Graph, Ref
from lstmc.ops import Op, Split
from lstmc.patterns.equations import Equations
from lstmc.patterns.polynomial import Atom, Clip, Function, Given, Monomial, Place, Polynomial, without


@dataclass(frozen=True)
class LSTMTail:
    """c = f c_prev + i g, h = o activation(c); without the first product there is neither f nor c_prev.

    ``gates`` has of each gate its activation and what it is of. Where c_prev is a state times a number for each row,
    ``state`` and ``reset`` are those, and then no value of the body may be that product.
    """

    c: Ref
    h: Ref
    activation: Op
    gates: dict[str, tuple[Op, Place]]
    c_prev: Ref | None
    state: Ref | None
    reset: Place | None


def lstm_tails(equations: Equations) -> Iterator[LSTMTail]:
    """Yield the tail of every LSTM, in order; its cell is opaque from then on."""
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
    if not isinstance(o, Function) or not isinstance(shown, Function) or isinstance(shown.op, Clip):
        return
    c = shown.operand_place
    if c.where != "step" or c.columns != equations.whole(c.ref):
        return
    for gates, before in _updates(shown.operand, o.op):
        before_c = _before(equations, before, c.ref)
        if before_c is not None:
            gates["o"] = o
            places = {name: gate.operand_place for name, gate in gates.items()}
            seen = {name: (gate.op, places[name]) for name, gate in gates.items() if not isinstance(gate.op, Clip)}
            yield LSTMTail(c.ref, h, shown.op, seen, *before_c)


def _updates(c: Polynomial, gate: Op | Clip) -> Iterator[tuple[dict[str, Function], Monomial]]:
    """Yield the readings of a formula as f c + i g: the gates, of which i and f have the function ``gate`` if possible,
    and c.
    """
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
    """Return the value that a formula of the old c is; if a state times a number for each row, that state and number
    too.
    """
    if not monomial:
        return None, None, None
    values = equations.equal_to(Polynomial.of({monomial: 1.0}), c.node)
    value = next((ref for ref in values if equations.body.type(ref) == equations.body.type(c)), None)
    for state, *factors in permutations(monomial):
        rows = [a.place for a in factors if isinstance(a, Given) and not a.recurrent]
        if isinstance(state, Given) and state.recurrent and len(rows) == len(factors) == 1:
            return value, state.place.ref, rows[0]
    return None if value is None else (value, None, None)


def packed(body: Graph, places: dict[str, Place], parts: int) -> tuple[Ref, dict[str, int]] | None:
    """The one value of the body that all places are equal parts of, ``parts`` in all, and which one each is."""
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
