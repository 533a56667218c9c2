"""Whether a scan is a GRU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lstmc.ir import Graph
from lstmc.patterns.core_formulas import CORE_FORMULAS
from lstmc.patterns.gates import Gates, gate_or_rest, new_content
from lstmc.patterns.polynomial import Function, Monomial, Place, Product, without
from lstmc.patterns.recognised import GRU
from lstmc.patterns.step import Formulas, Step


def match_gru(graph: Graph, name: str, formulas: Formulas = CORE_FORMULAS) -> GRU:
    """The scan as a GRU; raises :class:`Mismatch`."""
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
        raise step.mismatch_at(
            "two gates, an update gate z and a reset gate r (one alone is a minimal gated unit)", z.place
        )
    found = {"z": reader.gate(z), "r": reader.gate(inner.r), "n": reader.gate(n, skipped=inner.terms)}
    if found["n"].recurrent:
        raise step.mismatch_at("n to see h through the reset gate alone", n.operand_place)
    found["n"] = replace(found["n"], recurrent=tuple(product.matrix for product in inner.products))
    common = step.common({"h": h}, step.results({"h": step.updates[h]}), reset)
    common |= {"update_new": update_new, "reset_after": inner.after, "inner_biases": inner.biases}
    return GRU(**common, z=found["z"], r=found["r"], n=found["n"])


@dataclass
class _ResetGate:
    """How a GRU's candidate sees h through r: which terms of it do so, and r."""

    reader: Gates
    h: Monomial
    n: Function
    r: Function = field(init=False)
    after: bool = field(init=False)
    products: list[Product] = field(default_factory=list)
    biases: tuple[Place, ...] = ()
    terms: set[Monomial] = field(default_factory=set)

    def __post_init__(self) -> None:
        found = {gate: (term, product, after) for term, product, gate, after in self._seen()}
        if len(found) != 1:
            raise self.reader.step.mismatch_at(
                "n = tanh(W x + b + R (r * h)), or r * (R h) in it", self.n.operand_place
            )
        ((self.r, (_, _, self.after)),) = found.items()
        self.products = [product for _, product, _, _ in self._seen()]
        self.terms = {term for term, _, _, _ in self._seen()}
        if self.after:
            inner = {m: a[0] for m, _ in self.reader.opened(self.n)[1] if (a := without(m, (self.r,))) and len(a) == 1}
            vectors = {m: a.place for m, a in inner.items() if self.reader.is_vector(a)}
            self.biases, self.terms = tuple(vectors.values()), self.terms | set(vectors)

    def _seen(self) -> Iterator[tuple[Monomial, Product, Function, bool]]:
        for monomial, _ in self.reader.opened(self.n)[1]:
            for product in monomial:
                if not isinstance(product, Product) or not product.recurrent:
                    continue
                read = product.operand.single
                inside = None if read is None else without(read, self.h)
                outside = without(monomial, (product,)) or ()
                for gate, other, after in ((inside, outside, False), (outside, inside, True)):
                    if gate and len(gate) == 1 and other == () and isinstance(gate[0], Function):
                        yield monomial, product, gate[0], after
