"""Rewrites that are exact for real numbers, and lose less in a device's low precision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight
from lstmc.ir.rebuild import NEGATE
from lstmc.ops import Add, Affine, Concat, Linear, Mul, Sigmoid, Split, Sub
from lstmc.passes.base import PassList, Refs, node_pass

__all__ = ["convex_updates", "with_convex_updates"]

COMPLEMENT = Affine(-1.0, 1.0)
Rows = tuple[int, int]  # of a product's weights, so columns of its result: from, and up to


@node_pass(bodies=False, before_peel=True)
def convex_updates(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Write a state that moves towards a value as h + u (n - h): the state's own factor is then exactly 1.

    In n + z (h - n) and z h + (1 - z) n a device rounds two large terms whose sum is the state, at each step; in h + u
    (n - h) it rounds the small change, and a state at rest stays.

    1. (1 - u) h + u n               => h + u (n - h)
    2. n + z (h - n), z h + (1 - z) n where z = sigmoid(a) of products with weights, read by nothing else
                                     => h + sigmoid(-a) (n - h), the weights of those products negated
    3. z h + (1 - z) n, any other z => h + (1 - z) (n - h)

    h is the state whose next value the result is. No rule adds an op; rule 3 may add a layer, which negates h, where a
    target has no subtraction.
    """
    if not isinstance(node.op, Scan):
        return None
    return b.copy(node, args, replace(node.op, body=_Body(node.op, counts).rewritten()))


@dataclass(frozen=True)
class _Update:
    """A new state as a mixture: ``gate`` multiplies the old ``state`` if ``keeps``, and ``other`` if not."""

    state: Ref
    other: Ref
    gate: Ref
    keeps: bool


def with_convex_updates(passes: PassList) -> PassList:
    """Return the list with :func:`convex_updates` inserted after products are packed, before gates are fused."""
    names = [step.name for step in passes]
    before = next((names.index(name) for name in ("fuse_linears", "precompute", "dead") if name in names), -1)
    passes.insert(before + 1, convex_updates)
    return passes


class _Body:
    """A scan's body, in which convex updates of states are searched and rewritten."""

    def __init__(self, scan: Scan, counts: Counter[str]) -> None:
        self.body, self.counts = scan.body, counts
        self.reads = scan.body.readers()
        states = map(Ref, scan.body.arguments("state"))
        self.updates: dict[str, _Update] = {}  # node of the new state -> its update
        self.negated: dict[str, set[Rows]] = {}  # product -> its negated rows
        self.gates: set[str] = set()  # the sigmoids of negated values
        for state, after in zip(states, scan.next_states, strict=True):
            update = self._convex_update(after.ref, state)
            if update is not None and self._is_free(update):
                self.updates[after.ref.node] = update

    def _convex_update(self, new: Ref, state: Ref) -> _Update | None:
        """Return the update of a state that becomes n + z (h - n) or z h + (1 - z) n, else None."""
        terms = self._operands(new, Add)
        for first, second in (terms, terms[::-1]) if terms else ():
            for gate, difference in self._orders(second):
                if self._operands(difference, Sub) == (state, first):  # n + z (h - n)
                    return _Update(state, first, gate, True)
            for gate, one in self._orders(first):
                for complement, other in self._orders(second):
                    node = self.body.node(complement.node)
                    if node.op == COMPLEMENT and self.body.args(node.name) == (gate,) and state in (one, other):
                        return _Update(state, other if one == state else one, gate, one == state)
        return None

    def _operands(self, ref: Ref, kind: type) -> tuple[Ref, ...]:
        return self.body.args(ref.node) if type(self.body.node(ref.node).op) is kind else ()

    def _orders(self, product: Ref) -> tuple[tuple[Ref, ...], ...]:
        """Return the two factors of a product in both orders; () if the value is no product or has several readers."""
        factors = self._operands(product, Mul)
        return (factors, factors[::-1]) if factors and self.reads[product] == 1 else ()

    def _is_free(self, update: _Update) -> bool:
        """Return whether the update adds no layer: it needs no 1 - gate, 1 - gate exists already, or the products whose
        sum the gate's sigmoid reads can be negated, and are noted to be."""
        same = self.body.type(update.state) == self.body.type(update.other)
        if not update.keeps or not same:
            return same
        gate = self.body.node(update.gate.node)
        readers = [node for node in self.body if update.gate in self.body.args(node.name)]
        if type(gate.op) is Sigmoid and len(readers) == self.reads[update.gate]:
            inside = {node.name for node in readers if type(node.op) is Mul or node.op == COMPLEMENT}
            negated = self._products(self.body.args(gate.name)[0])
            if negated is not None and len(inside) == len(readers):
                for name, rows in negated:
                    self.negated.setdefault(name, set()).add(rows)
                self.gates.add(gate.name)
                return True
        return any(node.op == COMPLEMENT for node in readers)

    def _products(self, ref: Ref, start: int = 0, size: int | None = None) -> list[tuple[str, Rows]] | None:
        """Return the matrix products whose sum the value ``ref`` is, each with the rows of its weights that give the
        value. Return None if another node reads a part of the sum, or if a term is no product with weights. ``start``
        and ``size`` are the rows that a split has cut from the value."""
        if self.reads[ref] != 1:
            return None
        node, args, shape = self.body.node(ref.node), self.body.args(ref.node), self.body.type(ref).shape
        size = shape[-1] if size is None else size
        if type(node.op) is Add and all(self.body.type(arg) == self.body.type(ref) for arg in args):
            terms = [self._products(arg, start, size) for arg in args]
            return None if None in terms else [row for term in terms if term is not None for row in term]
        if type(node.op) is Split and node.op.axis == len(shape) - 1:
            return self._products(args[0], start + sum(node.op.sizes[: ref.out]), size)
        if type(node.op) is not Linear or not all(is_weight(self.body, weight) for weight in args[1:]):
            return None
        return [(node.name, (start, start + size))]

    def rewritten(self) -> Graph:
        """Return the body with all updates as h + u (n - h), and negated weights for gates whose complement is u."""
        if not self.updates:
            return self.body
        rebuild = Rebuild(self.body)
        for node in self.body:
            args = rebuild.args(node)
            if node.name in self.negated:
                rows = sorted(self.negated[node.name])
                weights = [_negated(rebuild.builder, weight, rows) for weight in args[1:]]
                rebuild.put(node, rebuild.builder.copy(node, (args[0], *weights)))
            elif node.name in self.gates:
                complement = (f"{node.names[0]}_complement",)
                rebuild.put(node, rebuild.builder.add(node.op, *args, names=complement, loc=node.loc))
            elif node.name in self.updates:
                rebuild.put(node, self._moved(rebuild, node, self.updates[node.name]))
            else:
                rebuild.copy(node)
        return rebuild.finish()

    def _moved(self, rebuild: Rebuild, node: Node, update: _Update) -> Refs:
        """Return the new state as h + u (n - h), where u is the gate or 1 - gate."""
        b, name = rebuild.builder, node.names[0]
        state, other, gate = (rebuild.new[ref] for ref in (update.state, update.other, update.gate))
        if update.keeps and update.gate.node not in self.gates:
            self.counts["by_complement"] += 1
            (gate,) = b.add(COMPLEMENT, gate, names=(f"{name}/factor",), loc=node.loc)
        else:
            self.counts["negated" if update.keeps else "factored"] += 1
        (difference,) = b.add(Sub(), other, state, names=(f"{name}/difference",), loc=node.loc)
        (change,) = b.add(Mul(), gate, difference, names=(f"{name}/change",), loc=node.loc)
        return b.add(Add(), state, change, names=node.names, loc=node.loc)


def _negated(b: Builder, weight: Ref, rows: list[Rows]) -> Ref:
    """Return a weight with ``rows`` negated, by a split and a concatenation."""
    name, count = b.node(weight.node).names[weight.out].rpartition("/")[2], b.type(weight).shape[0]
    ends = sorted({0, count, *(end for each in rows for end in each)})
    sizes = tuple(stop - start for start, stop in pairwise(ends))
    starts = {start for start in ends[:-1] if any(first <= start < last for first, last in rows)}
    pieces: Refs = (weight,)
    if len(sizes) > 1:
        pieces = b.add(Split(0, sizes), weight, names=tuple(f"{name}/rows_{start}" for start in ends[:-1]))
    begun = zip(ends[:-1], pieces, strict=True)
    signed = [b.add(NEGATE, x, names=(f"{name}/minus_{at}",))[0] if at in starts else x for at, x in begun]
    return b.add(Concat(0), *signed, names=(f"{name}/signed",))[0] if len(signed) > 1 else signed[0]
