"""Ops written as formulas of other ops: the simplest way to bring an op of a package to every target."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from lstmc.ir import Builder, Graph, GraphValue, Node, Scan
from lstmc.ops import Op
from lstmc.passes.base import Pass, PassResult, Refs, in_bodies, result, rewrite


@dataclass(frozen=True)
class Decompose(Pass):
    """Base of passes that replace an op by a formula of other ops. A subclass names ``op`` and has the formula.

    The formula gets the op, for its attributes, and its operands. It is written as a ``vjp`` is, with ``+ - * /``,
    ``.shape`` and :func:`lstmc.ops.applied`, and returns the op's result, or a tuple of all results.
    """

    op: ClassVar[type[Op]]

    # Overrides name the op and its operands, as those of Op.eval do; hence Any here.
    @abstractmethod
    def formula(self, *args: Any, **kwargs: Any) -> Any:
        """Return the results of the op, the first argument, from its operands, in the shapes of its own results."""

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, self._rewritten(graph, counts), counts)

    def _rewritten(self, graph: Graph, counts: Counter[str]) -> Graph:
        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if isinstance(node.op, Scan):
                return b.copy(node, args, in_bodies(node.op, lambda body: self._rewritten(body, counts)))
            if type(node.op) is not self.op:
                return None
            counts["decompose"] += 1
            formula = self.formula(node.op, *(GraphValue(b, ref, node.name, node.loc) for ref in args))
            results = formula if isinstance(formula, tuple) else (formula,)
            refs = tuple(value.ref for value in results)
            assert tuple(map(b.type, refs)) == node.types, f"the formula of {self.name} gives other shapes"
            return refs

        return rewrite(graph, visit)
