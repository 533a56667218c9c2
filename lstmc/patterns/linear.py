"""Linear recurrences: states whose next values are affine in the states, so that all steps have a closed form.

A value of a step is affine in some states if it is ``factor * state + offset``, and neither factor nor offset reads
these states. Its form is the factors and the offset. The reading goes node by node and builds factors and offsets as
nodes of a new graph of the step. Max-plus arithmetic has the maximum in place of ``+`` and the sum in place of ``*``,
so a running maximum is affine too. States that read each other are one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import ShapeError
from lstmc.ir import Graph, Node, Output, Rebuild, Ref, Scan, broadcast
from lstmc.ops import Add, Affine, Conv, Full, Linear, Maximum, Mul, Op, Relu, Reshape, Sub, Sum
from lstmc.patterns.recurrence import LEAST, NO_MASKS, Kind, Masks, Recurrence, masked_sum, operand_masks, states_read

__all__ = ["recurrences", "scan_lines", "state_lines"]

MOST_STEPS = 16  # of a delay: each step of a delay adds nodes
MOST_OF_GROUP = 4  # states that read each other: the products of their factors are matrices of so many rows


@dataclass(frozen=True)
class _Term:
    """The dependence of a value on one state: the element that each of its elements reads, and the factor. ``index``
    has flat indices, -1 for an element that does not depend on the state. It is None if an element depends on several
    elements of the state; then there is no factor. ``factor`` None is the neutral factor. ``varies``: the factor
    differs from step to step."""

    index: NDArray[np.int64] | None
    factor: Ref | None = None
    varies: bool = False


@dataclass(frozen=True)
class _Form:
    """An affine value: its term for each state by the state's number, and its offset, None if it has none. ``later``:
    where two values of a maximum are equal, the later one gets the gradient."""

    terms: Mapping[int, _Term]
    offset: Ref | None = None
    later: bool = True


class _NonlinearError(Exception):
    """A value is not affine in the states."""

    def __init__(self, reason: str, node: Node) -> None:
        super().__init__(reason)
        self.reason, self.node = reason, node


def recurrences(body: Graph, masks: Masks = NO_MASKS) -> tuple[Recurrence, ...]:
    """Return the recurrence of each group of a body's states; a group follows all groups that it reads. ``masks`` are
    the arguments of the body that are masks of lengths."""
    reads = states_read(body)
    groups: dict[frozenset[int], frozenset[int]] = {}
    for number, reached in enumerate(reads):
        group = frozenset({number, *(other for other in reached if number in reads[other])})
        groups[group] = frozenset(reached - group)
    in_order = sorted(groups.items(), key=lambda item: (len(item[1]), min(item[0])))
    return tuple(_recurrence(body, tuple(sorted(group)), reads, masks) for group, reads in in_order)


def state_lines(body: Graph, masks: Masks = NO_MASKS) -> list[tuple[str, str]]:
    """Return each state of a body by its name, in the order of the states, with its recurrence in words."""
    by_state = {state: recurrence for recurrence in recurrences(body, masks) for state in recurrence.states}
    return [(r.names[r.states.index(state)], r.description(state)) for state, r in sorted(by_state.items())]


def scan_lines(graph: Graph) -> list[tuple[str, str, str]]:
    """Return three texts for each state of a model's scans: the scan's name, the state's name, its recurrence in words.
    Scans with a separate first step, with a kept time axis, or with layers of a backend are left out."""
    scans = [(node, node.op) for node in graph if isinstance(node.op, Scan)]
    open_scans = [
        (node.name, scan.body, operand_masks(graph, scan, graph.args(node.name)))
        for node, scan in scans
        if scan.first is None and not scan.kept and not any(node.op.backend for node in scan.body)
    ]
    return [(name, *line) for name, body, masks in open_scans for line in state_lines(body, masks)]


def _recurrence(body: Graph, group: tuple[int, ...], reads: frozenset[int], masks: Masks) -> Recurrence:
    """Return the recurrence of one group of states, in ordinary arithmetic or, for a single state, in max-plus
    arithmetic; without a kind, but with reasons, if the group is linear in neither."""
    following = body.outputs[len(body.outputs) - len(body.arguments("state")) :]
    names = tuple(following[number].name for number in group)
    result = Recurrence(group, names, reads, None)
    whole = _Reading(body, group, masks)
    try:
        return whole.recurrence(result)
    except _NonlinearError as error:
        if len(group) == 1:
            with suppress(_NonlinearError):
                return _Reading(body, group, masks, maximum=True).recurrence(result)
        return replace(result, reasons=whole.reasons(), loc=error.node.loc)


class _Reading:
    """Reads a body's values as affine in a group of states; if ``maximum``, in max-plus arithmetic."""

    def __init__(self, body: Graph, group: tuple[int, ...], masks: Masks, maximum: bool = False) -> None:
        self.body, self.group, self.masks, self.maximum = body, group, masks, maximum
        self.rebuild = Rebuild(body)
        self.b = self.rebuild.builder
        states = body.arguments("state")
        self.following = body.outputs[len(body.outputs) - len(states) :]  # the next values of all states
        self.states = {states[number]: number for number in group}
        self.varying = body.dependents(set(body.arguments("x", "state")))  # nodes that differ from step to step
        self.forms: dict[Ref, _Form | _NonlinearError] = {}  # of values that read states of the group

    def recurrence(self, result: Recurrence) -> Recurrence:
        """Return ``result`` completed with the recurrence of the group. Raises :class:`_NonlinearError`."""
        for node in self.body:
            self.rebuild.copy(node)
            if node.name in self.states:
                size, shape = node.types[0].size, node.types[0].shape
                self.forms[Ref(node.name)] = _Form({self.states[node.name]: _Term(np.arange(size).reshape(shape))})
            elif any(ref in self.forms for ref in self.body.args(node.name)):
                self._read(node)
        forms = {number: self._known(self.following[number].ref) for number in self.group}
        varies = any(term.varies for form in forms.values() for term in form.terms.values())
        kind = self._kind(forms)
        delay = self._delay(forms) if kind in (Kind.DELAY, Kind.MATRIX) else 0
        result = replace(result, kind=Kind.DELAY if delay else kind, varies=varies, delay=delay)
        if result.kind is Kind.MATRIX:
            return result
        step, factors, offsets = self._step({} if delay > 1 else forms)
        following = {state: self.rebuild.new[self.following[state].ref] for state in result.reads}
        later = all(form.later for form in forms.values())
        return replace(result, step=step, factors=factors, offsets=offsets, following=following, later=later)

    def reasons(self) -> tuple[str, ...]:
        """Return why each next value of the group is not affine; for an affine one, the first reason of another."""
        results = [self.forms.get(self.following[number].ref) for number in self.group]
        causes = [result.reason for result in results if isinstance(result, _NonlinearError)]
        return tuple(r.reason if isinstance(r, _NonlinearError) else causes[0] for r in results)

    def _known(self, ref: Ref) -> _Form:
        """Return a value's form, or raise the error that refused it. A value that reads no state is its own offset."""
        form = self.forms.get(ref)
        if isinstance(form, _NonlinearError):
            raise form
        return _Form({}, self.rebuild.new[ref]) if form is None else form

    def _kind(self, forms: Mapping[int, _Form]) -> Kind:
        """Return the kind of recurrence of a group of states whose next values have these forms."""
        shapes = {self.body.type(Ref(name)).shape for name in self.states}
        terms = [term for form in forms.values() for term in form.terms.values()]
        if not terms:
            return Kind.DELAY
        own = next(iter(shapes))
        identity = np.arange(int(np.prod(own))).reshape(own)
        elementwise = all(t.index is not None and np.array_equal(t.index, identity) for t in terms)
        if elementwise and len(shapes) == 1 and len(self.group) <= MOST_OF_GROUP:
            return Kind.MAXIMUM if self.maximum else Kind.ELEMENTWISE
        if self.maximum:
            raise _NonlinearError("a maximum that mixes elements", self.body.node(next(iter(self.states))))
        return Kind.MATRIX

    def _delay(self, forms: Mapping[int, _Form]) -> int:
        """Return the number of steps after which nothing is left of a state whose elements only move; 0 if something is
        left after ``MOST_STEPS`` steps, or if the state is not of this kind."""
        terms = [term for form in forms.values() for term in form.terms.values()]
        if not terms:
            return 1
        if len(forms) > 1 or terms[0].index is None:
            return 0
        index = terms[0].index.ravel()
        left = np.ones(len(index), bool)
        for steps in range(1, MOST_STEPS + 1):
            left = (index >= 0) & left[index]
            if not left.any():
                return steps
        return 0

    def _step(
        self, forms: Mapping[int, _Form]
    ) -> tuple[Graph, dict[tuple[int, int], Ref | None], dict[int, Ref | None]]:
        """Return the graph that computes factors and offsets, broadcast to the state's shape, and its values: the
        factor of each pair of states (next, read), and the offset of each state."""
        factors: dict[tuple[int, int], Ref | None] = {}
        offsets: dict[int, Ref | None] = {}
        outputs: list[Output] = []

        def whole(ref: Ref | None, name: str) -> Ref | None:
            """Make a factor or offset an output of the step in the state's shape; None stays."""
            if ref is None:
                return None
            ref = broadcast(self.b, ref, shape)
            outputs.append(Output(name, ref))
            return ref

        for number, form in forms.items():
            name = self.body.arguments("state")[number]
            shape = self.body.type(Ref(name)).shape
            for other, term in form.terms.items():
                factors[number, other] = whole(term.factor, f"{name}/factor{other}")
            offsets[number] = whole(form.offset, f"{name}/offset")
        return self.b.finish(outputs), factors, offsets

    # arithmetic of factors and offsets; None is the neutral element --------------------------------------------

    def _binary(self, op: Op, x: Ref, y: Ref, node: Node) -> Ref:
        """Add an op of two values in place of ``node``; broadcast x to the node's shape if the op needs it."""
        try:
            return self.b.add(op, x, y, names=node.names, loc=node.loc)[0]
        except ShapeError:
            return self.b.add(op, broadcast(self.b, x, node.types[0].shape), y, names=node.names, loc=node.loc)[0]

    def _unary(self, op: Op, x: Ref, node: Node) -> Ref:
        return self.b.add(op, x, names=node.names, loc=node.loc)[0]

    def _full(self, value: float) -> Ref:
        return self.b.add(Full((1,), value))[0]

    def _joined(self, op: Op, x: Ref | None, y: Ref | None, node: Node) -> Ref | None:
        """Return ``op`` of two values; if one of them is None, the neutral element, return the other."""
        return y if x is None else x if y is None else self._binary(op, x, y, node)

    def _plus(self, x: Ref | None, y: Ref | None, node: Node) -> Ref | None:
        return self._joined(Maximum() if self.maximum else Add(), x, y, node)

    def _times(self, x: Ref | None, y: Ref | None, node: Node) -> Ref | None:
        return self._joined(Add() if self.maximum else Mul(), x, y, node)

    def _read(self, node: Node) -> None:
        """Store the form of each result of a node, or the reason why the result is not affine."""
        results: Sequence[_Form | _NonlinearError]
        if self.maximum and isinstance(node.op, Add) and (kept := self._kept(node)):
            self.forms[Ref(node.name)] = kept
            return
        try:
            forms = [self._operand(node, ref) for ref in self.body.args(node.name)]
            rule = self._max_plus if self.maximum else self._affine
            results = self._moved(node, forms) if node.op.moves else [rule(node, forms)]
        except _NonlinearError as error:
            results = [error] * len(node.types)
        for out, form in enumerate(results):
            self.forms[Ref(node.name, out)] = form

    def _operand(self, node: Node, ref: Ref) -> _Form:
        """Return the form of an operand. Raises :class:`_NonlinearError`; if the node multiplies the operand by an
        affine value, the error names this product."""
        if isinstance(self.forms.get(ref), _NonlinearError) and isinstance(node.op, Mul):
            for other in self.body.args(node.name):
                if other != ref and isinstance(self.forms.get(other), _Form):
                    raise self._product(node, other, ref)
        return self._known(ref)

    def _product(self, node: Node, one: Ref, other: Ref) -> _NonlinearError:
        """Return the error of a product of two values that both read states of the group."""
        factor = f"{self.body.value_name(other)}, which reads {self._states_of(other)}"
        return _NonlinearError(f"{self._states_of(one)} is multiplied by {factor}", node)

    def _states_of(self, *refs: Ref) -> str:
        needed = self.body.needed(refs)
        return " and ".join(self.following[n].name or name for name, n in self.states.items() if name in needed)

    def _nonlinear(self, node: Node) -> _NonlinearError:
        read = self._states_of(*(ref for ref in self.body.args(node.name) if ref in self.forms))
        return _NonlinearError(f"the step has the {node.op.name} of a value that reads {read}", node)

    def _affine(self, node: Node, forms: list[_Form]) -> _Form:
        """Return the form of a node's result. Raises _NonlinearError if the op is not affine in its operands."""
        match node.op:
            case Add():
                return self._sum(node, *forms)
            case Sub():
                return self._sum(node, forms[0], self._scaled(node, forms[1], -1.0))
            case Affine(scale=scale, shift=shift):
                scaled = self._scaled(node, forms[0], scale)
                return self._sum(node, scaled, _Form({}, self._full(shift))) if shift else scaled
            case Mul() if not (forms[0].terms and forms[1].terms):
                held, factor = forms if forms[0].terms else forms[::-1]
                free = self.body.args(node.name)[1 if forms[0].terms else 0]
                return self._multiplied(node, held, factor.offset, free.node in self.varying)
            case Mul():
                raise self._product(node, *self.body.args(node.name))
            case Sum(axis=axis) if self.body.type(self.body.args(node.name)[0]).shape[axis] == 1:
                return self._moved(node, forms, Reshape(node.types[0].shape))[0]
            case Sum() | Linear() | Conv() if not any(form.terms for form in forms[1:]):
                varies = any(ref.node in self.varying for ref in self.body.args(node.name)[1:2])
                return _Form({s: _Term(None, None, t.varies or varies) for s, t in forms[0].terms.items()})
        raise self._nonlinear(node)

    def _max_plus(self, node: Node, forms: list[_Form]) -> _Form:
        """Return the form of a node's result in max-plus arithmetic. Raises _NonlinearError for an op that it lacks."""
        free = [ref for ref, form in zip(self.body.args(node.name), forms, strict=True) if not form.terms]
        varies = any(ref.node in self.varying for ref in free)
        match node.op:
            case Add() if free:
                held, shift = forms if forms[0].terms else forms[::-1]
                return self._multiplied(node, held, shift.offset, varies)
            case Sub() if forms[0].terms and free:
                assert forms[1].offset is not None
                negated = self._unary(Affine(-1.0, 0.0), forms[1].offset, node)
                return self._multiplied(node, forms[0], negated, varies)
            case Affine(scale=1.0, shift=shift):
                return self._multiplied(node, forms[0], self._full(shift), False)
            case Maximum():
                whole = self._sum(node, *forms)
                return replace(whole, later=bool(forms[0].terms)) if free else whole
            case Relu():
                return replace(self._sum(node, forms[0], _Form({}, self._full(0.0))), later=True)
            case Sum(axis=axis) if self.body.type(self.body.args(node.name)[0]).shape[axis] == 1:
                return self._moved(node, forms, Reshape(node.types[0].shape))[0]
        raise self._nonlinear(node)

    def _kept(self, node: Node) -> _Form | None:
        """Return the max-plus form of ``valid * new + (1 - valid) * state``, by which a masked step keeps its state;
        None if the sum is not of this form. At an invalid step the offset is ``LEAST``, below every state, and the
        state plus the masked factor 0 is the maximum."""
        parts = [(mask, self.forms.get(value)) for mask, value in masked_sum(self.body, node, self.masks)]
        if not parts:
            return None
        (valid, new), (_, old) = parts if _unchanged(parts[1][1]) else parts[::-1]
        if not isinstance(new, _Form) or not _unchanged(old) or new.terms.keys() != old.terms.keys():
            return None
        ((state, term),), gate = new.terms.items(), self.rebuild.new[valid]
        if not np.array_equal(_index(term), _index(old.terms[state])):
            return None
        factor = None if term.factor is None else self._binary(Mul(), term.factor, gate, node)
        offset = None
        if new.offset is not None:
            past = self._unary(Affine(-LEAST, LEAST), gate, node)
            offset = self._binary(Add(), self._binary(Mul(), new.offset, gate, node), past, node)
        return _Form({state: replace(term, factor=factor, varies=True)}, offset, new.later)

    def _scaled(self, node: Node, form: _Form, scale: float) -> _Form:
        """Return the form of a value times a number."""
        op = Affine(scale, 0.0)
        terms = {
            s: replace(t, factor=self._full(scale) if t.factor is None else self._unary(op, t.factor, node))
            for s, t in form.terms.items()
        }
        return _Form(terms, None if form.offset is None else self._unary(op, form.offset, node))

    def _sum(self, node: Node, x: _Form, y: _Form) -> _Form:
        """Return the form of the sum (in max-plus arithmetic, the maximum) of two values, in the node's shape."""
        shape = node.types[0].shape
        terms: dict[int, _Term] = {}
        for state in {**x.terms, **y.terms}:
            both = [form.terms[state] for form in (x, y) if state in form.terms]
            if any(term.index is None for term in both):
                terms[state] = _Term(None, None, any(term.varies for term in both))
                continue
            wide = [replace(term, index=np.broadcast_to(_index(term), shape)) for term in both]
            terms[state] = self._merged(node, *wide) if len(wide) > 1 else wide[0]
        return _Form(terms, self._plus(x.offset, y.offset, node), x.later and y.later)

    def _merged(self, node: Node, one: _Term, other: _Term) -> _Term:
        """Return the sum of two terms in one state; without index if the terms read different elements of the state."""
        varies = one.varies or other.varies
        if not np.array_equal(_index(one), _index(other)):
            return _Term(None, None, varies)
        x, y = (self._full(0.0 if self.maximum else 1.0) if t.factor is None else t.factor for t in (one, other))
        return _Term(one.index, self._plus(x, y, node), varies)

    def _multiplied(self, node: Node, form: _Form, factor: Ref | None, varies: bool) -> _Form:
        """Return the form of a value times a factor without states, which ``varies`` from step to step."""
        terms: dict[int, _Term] = {}
        for state, term in form.terms.items():
            index = None if term.index is None else np.broadcast_to(term.index, node.types[0].shape)
            product = None if index is None else self._times(term.factor, factor, node)
            terms[state] = _Term(index, product, term.varies or varies)
        offset = None if form.offset is None else self._times(form.offset, factor, node)
        return _Form(terms, offset, form.later)

    def _moved(self, node: Node, forms: list[_Form], op: Op | None = None) -> list[_Form]:
        """Return the form of each result of an op that moves elements: it moves the indices, factors and offsets."""
        op = op or node.op
        types = [self.body.type(ref) for ref in self.body.args(node.name)]
        offsets: list[Ref | None] = [None] * len(node.types)
        if any(form.offset is not None for form in forms):
            if self.maximum and any(form.offset is None for form in forms):
                raise self._nonlinear(node)
            offsets = list(self._move(node, op, [form.offset for form in forms], types, 0.0))
        terms: list[dict[int, _Term]] = [{} for _ in node.types]
        for state in dict.fromkeys(s for form in forms for s in form.terms):
            own = [form.terms.get(state) for form in forms]
            varies = any(term is not None and term.varies for term in own)
            factors: list[Ref | None] = [None] * len(node.types)
            if any(term is not None and term.index is None for term in own):
                for each in terms:
                    each[state] = _Term(None, None, varies)
                continue
            if any(term is not None and term.factor is not None for term in own):
                neutral = 0.0 if self.maximum else 1.0
                factors = list(self._move(node, op, [t.factor if t else None for t in own], types, neutral))
            whole = (np.broadcast_to(-1 if t is None else _index(t), x.shape) for t, x in zip(own, types, strict=True))
            for out, index in enumerate(op.eval(*whole)):
                if (np.asarray(index) >= 0).any():
                    terms[out][state] = _Term(np.asarray(index), factors[out], varies)
        return [_Form(each, offset, all(f.later for f in forms)) for each, offset in zip(terms, offsets, strict=True)]

    def _move(self, node: Node, op: Op, refs: Sequence[Ref | None], types: Sequence[Any], neutral: float) -> Any:
        """Add a node that moves ``refs``, broadcast to ``types``; None stands for an array of ``neutral``."""
        typed = zip(refs, [type_.shape for type_ in types], strict=True)
        whole = [self.b.add(Full(s, neutral))[0] if ref is None else broadcast(self.b, ref, s) for ref, s in typed]
        return self.b.add(op, *whole, names=node.names, loc=node.loc)


def _unchanged(form: _Form | _NonlinearError | None) -> TypeGuard[_Form]:
    """Return whether a value is exactly one state, without factor and offset."""
    return isinstance(form, _Form) and form.offset is None and [term.factor for term in form.terms.values()] == [None]


def _index(term: _Term) -> NDArray[np.int64]:
    assert term.index is not None
    return term.index
