"""The formulas of a scan's step, read from its graph, and the formulas of the core ops.

Every value is read by columns of its last axis, so gates that are packed in one value are read apart. Reading goes on
through the scan's arguments into the graph around the scan, so a product that was moved out of the loop is read like a
product in the step. The formula of an op gives some columns of the op's result from the formulas of the op's operands.

A formula is a sum of products, so that different notations are equal: ``n + z * (h - n)`` is the same polynomial as ``z
* h + (1 - z) * n``. The indeterminates of polynomials are atoms: an opaque value, a part of a weight, a function of a
polynomial, a product with a matrix. A value is opaque if its formula is not known, or is not looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import add, sub
from types import MappingProxyType
from typing import Any, Generic, Literal, Self, TypeVar

from lstmc.ir import Graph, Node, Ref, is_weight
from lstmc.ops import Add, Affine, Arg, Concat, Full, Linear, Mul, Op, Pointwise, Relu, Reshape, Split, Sub

__all__ = ["CORE_FORMULAS", "Columns", "Equations", "Formula", "Matrix", "Place", "Polynomial", "Reading", "multiplied"]


M = TypeVar("M")  # the type of a monomial
MOST_TERMS = 64  # of one polynomial: a longer one would be no gate of a cell, and its powers have no end


Columns = tuple[int, int] | None  # the first one, and the one after the last
Where = Literal["step", "sequence", "outside"]


@dataclass(frozen=True)
class Place:
    """The place of a value: columns of the last axis of ``ref``; None for a whole value of one number for each row.
    ``ref`` is a value of the scan's body (``step``), or of the graph that contains the scan: if that value is a
    ``sequence`` [T, ...], the place is the element of the current step; any other value (``outside``) is the same at
    every step."""

    ref: Ref
    columns: Columns = None
    where: Where = "step"


@dataclass(frozen=True)
class Matrix:
    """A part of a matrix [out, in], at a :class:`Place`: rows are outputs, columns are inputs."""

    ref: Ref
    rows: tuple[int, int]
    columns: tuple[int, int]
    where: Where = "step"


@dataclass(frozen=True, eq=False)
class Atom:
    """An indeterminate of the polynomials; equal atoms are one object. ``place`` is where the atom was met first."""

    number: int
    recurrent: bool  # it depends on a state of the scan
    place: Place


@dataclass(frozen=True, eq=False)
class Opaque(Atom):
    """A value whose formula is not known."""


@dataclass(frozen=True, eq=False)
class Weight(Atom):
    """A parameter, a part of one, or parameters rearranged without arithmetic."""


@dataclass(frozen=True)
class Clip:
    """x clipped to [0, ``high``], which models write as high - relu(high - relu(x))."""

    high: float


@dataclass(frozen=True, eq=False)
class Function(Atom):
    """An element-wise function of ``operand``: ``op`` is an op of models or a :class:`Clip`."""

    op: Op | Clip
    operand: Polynomial
    operand_place: Place


@dataclass(frozen=True, eq=False)
class Product(Atom):
    """The product operand @ matrix.T."""

    operand: Polynomial
    matrix: Matrix
    operand_place: Place


Monomial = tuple[Atom, ...]  # in the order of their numbers; a square has an atom twice


class LinearCombination(ABC, Generic[M]):
    """A sum of monomials, each with a coefficient that is not 0. A subclass says what monomials are."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[M, Any] = MappingProxyType({})) -> None:
        self.terms = terms
        self._hash: int | None = None

    @staticmethod
    @abstractmethod
    def unit() -> M:
        """Return the monomial 1, which is the unit of products."""

    @staticmethod
    @abstractmethod
    def product(one: M, two: M) -> M:
        """Return the product of two monomials."""

    @classmethod
    def constant(cls, value: Any) -> Self:
        return cls({cls.unit(): value} if value else {})

    def __len__(self) -> int:
        return len(self.terms)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms))  # of monomials alone: hashes of fractions are slow
        return self._hash

    def __add__(self, other: Self) -> Self:
        return self.plus(other)

    def __neg__(self) -> Self:
        return self.scaled(-1)

    def __sub__(self, other: Self) -> Self:
        return self + -other

    def __mul__(self, other: Self) -> Self:
        terms: dict[M, Any] = {}
        for one, a in self.terms.items():
            for two, b in other.terms.items():
                _add_term(terms, self.product(one, two), a * b)
        return type(self)(terms)

    def plus(self, *others: Self) -> Self:
        terms = dict(self.terms)
        for monomial, value in chain.from_iterable(other.terms.items() for other in others):
            _add_term(terms, monomial, value)
        return type(self)(terms)

    def scaled(self, number: Any) -> Self:
        return type(self)({monomial: value * number for monomial, value in self.terms.items()} if number else {})


def _add_term(terms: dict[M, Any], monomial: M, value: Any) -> None:
    """Add ``value`` times a monomial to ``terms``, and remove the monomial if its coefficient becomes 0."""
    total = terms.get(monomial, 0) + value
    if total:
        terms[monomial] = total
    else:
        terms.pop(monomial, None)


class Polynomial(LinearCombination[Monomial]):
    """A polynomial with floats as coefficients."""

    __slots__ = ()

    @classmethod
    def of(cls, terms: Mapping[Monomial, float]) -> Polynomial:
        return cls({monomial: float(value) for monomial, value in terms.items() if value})

    @classmethod
    def atom(cls, atom: Atom) -> Polynomial:
        return cls({(atom,): 1.0})

    @staticmethod
    def unit() -> Monomial:
        return ()

    @staticmethod
    def product(one: Monomial, two: Monomial) -> Monomial:
        return tuple(sorted((*one, *two), key=lambda atom: atom.number))

    def __iter__(self) -> Iterator[tuple[Monomial, float]]:
        """Iterate over the terms, in the order in which their atoms were met."""
        return iter(sorted(self.terms.items(), key=lambda term: [atom.number for atom in term[0]]))

    @property
    def recurrent(self) -> bool:
        return any(atom.recurrent for monomial in self.terms for atom in monomial)

    @property
    def single(self) -> Monomial | None:
        """The only monomial of the polynomial, if its coefficient is 1; else None."""
        if len(self.terms) != 1:
            return None
        ((monomial, value),) = self.terms.items()
        return monomial if value == 1 else None

    @property
    def function(self) -> Function | None:
        """The function that the polynomial is; None for any other polynomial."""
        atoms = self.single
        return atoms[0] if atoms is not None and len(atoms) == 1 and isinstance(atoms[0], Function) else None

    def divided(self, by: Monomial) -> tuple[Polynomial, Polynomial]:
        """Return quotient and rest of the division by a monomial: the polynomial is ``quotient * by + rest``."""
        quotient: dict[Monomial, float] = {}
        rest: dict[Monomial, float] = {}
        for monomial, value in self.terms.items():
            left = without(monomial, by)
            (rest if left is None else quotient)[monomial if left is None else left] = value
        return Polynomial.of(quotient), Polynomial.of(rest)


def without(monomial: Monomial, by: Monomial) -> Monomial | None:
    """Return ``monomial`` divided by the monomial ``by``; None if ``by`` does not divide ``monomial``."""
    missing, left = Counter(by), []
    for atom in monomial:
        if missing[atom]:
            missing[atom] -= 1
        else:
            left.append(atom)
    return None if missing.total() else tuple(left)


DEEPEST = 80  # ops nested in one another that are read: a cell has fewer, and Python's stack has an end


class Equations:
    """The formulas of one body of a scan; equal formulas are equal polynomials within one object. ``formulas`` has the
    formula of each kind of op that is not opaque. ``around`` is the graph that contains the scan, and the scan's name
    in it; without ``around`` the body's arguments are opaque. ``cuts`` maps each value that is made opaque to the value
    whose atom stands for it and its equals."""

    def __init__(
        self, body: Graph, formulas: Formulas, around: tuple[Graph, str] | None = None, cuts: Mapping[Ref, Ref] = {}
    ) -> None:
        self.body = body
        self.around = around
        self.formulas = formulas
        self.cuts = dict(cuts)
        self._atoms: dict[Hashable, Atom] = {}
        self._known: dict[Place, Polynomial] = {}  # formulas that were read
        self._depth = 0  # ops nested in one another at present
        self._position = {node.name: number for number, node in enumerate(body)}
        # by formula, the values of the body's nodes that are listed so far; and the nodes that are still to be listed
        self._equals: dict[Polynomial, list[Ref]] = {}
        self._to_list = deque(body)
        self._recurrent = body.dependents(set(body.arguments("state")))
        outside = () if around is None else zip(body.arguments(), around[0].args(around[1]), strict=True)
        self._operands: dict[str, Ref] = dict(outside)  # argument of the body -> the scan's operand

    def graph(self, where: Where) -> Graph:
        if where == "step":
            return self.body
        assert self.around is not None
        return self.around[0]

    def value(self, ref: Ref) -> Polynomial:
        return self.at(Place(ref, self.whole(ref)))

    def whole(self, ref: Ref) -> Columns:
        shape = self.body.type(ref).shape
        return (0, shape[-1]) if shape else None

    def equal_to(self, formula: Polynomial, until: str | None = None) -> list[Ref]:
        """Return the values of the body that have this formula, in the body's order, up to the node ``until``."""
        last = len(self._position) if until is None else self._position[until]
        while self._to_list and self._position[self._to_list[0].name] <= last:
            node = self._to_list.popleft()
            for ref in (Ref(node.name, out) for out, type_ in enumerate(node.types) if type_.rank):
                self._equals.setdefault(self.value(ref), []).append(ref)
        matches = [(self._position[ref.node], ref) for ref in self._equals.get(formula, ())]
        return [ref for position, ref in sorted(matches) if position <= last]

    def cut(self, ref: Ref) -> None:
        """Make a value opaque from now on, and forget the formulas that were read through this value."""
        self.cuts[ref] = ref
        stale = self.body.dependents({ref.node})
        self._known.clear()
        for listed in self._equals.values():
            listed[:] = [equal for equal in listed if equal.node not in stale]
        until = self._position[self._to_list[0].name] if self._to_list else len(self._position)
        again = [node for node in self.body if node.name in stale and self._position[node.name] < until]
        self._to_list.extendleft(reversed(again))

    def inside(self, ref: Ref) -> Polynomial:
        """Return the formula that the op of a value computes, even if the value is cut."""
        place = Place(ref, self.whole(ref))
        formula = self._op(place)
        return Polynomial.atom(self.opaque(place)) if formula is None else formula

    def at(self, place: Place) -> Polynomial:
        """Return the formula of the value at a place: an opaque atom if it is unknown or nested too deeply."""
        if place not in self._known:
            self._depth += 1
            formula = None if self._depth > DEEPEST else self._read(place)
            self._depth -= 1
            self._known[place] = Polynomial.atom(self.opaque(place)) if formula is None else formula
        return self._known[place]

    def opaque(self, place: Place) -> Atom:
        """Return the atom that stands for the value at a place."""
        recurrent = place.where == "step" and place.ref.node in self._recurrent
        return self._atom((Opaque, place), lambda number: Opaque(number, recurrent, place))

    def function(self, place: Place, op: Op, of: Place) -> Polynomial:
        """Return the formula of an element-wise op on the value at ``of``. relu(d - relu(x)) is read as d - clip(x, 0,
        d) if x depends on a state; any other x may be a mask of valid steps, so the op stays."""
        plain, operand = _of_models(op), self.at(of)
        if isinstance(plain, Relu) and operand.recurrent and len(operand) == 2:
            (none, bound), (inner, sign) = operand
            held = inner[0] if len(inner) == 1 else None
            if not none and bound > 0 and sign == -1 and isinstance(held, Function) and isinstance(held.op, Relu):
                clipped = self._function(place, Clip(bound), held.operand, held.operand_place)
                return Polynomial.constant(bound) - Polynomial.atom(clipped)
        return Polynomial.atom(self._function(place, plain, operand, of))

    def _function(self, place: Place, op: Op | Clip, operand: Polynomial, of: Place) -> Atom:
        key = Function, op, operand
        return self._atom(key, lambda number: Function(number, operand.recurrent, place, op, operand, of))

    def product(self, place: Place, matrix: Matrix, of: Place) -> Atom:
        """Return the atom of the product of the value at ``of`` with a matrix."""
        operand, of = self.at(of), self._sequence(of)
        key = Product, operand, matrix
        return self._atom(key, lambda number: Product(number, operand.recurrent, place, operand, matrix, of))

    def _sequence(self, place: Place) -> Place:
        """Return the place outside of the scan of a body's argument that is no state; any other place unchanged."""
        op = self.graph(place.where).node(place.ref.node).op
        if isinstance(op, Arg) and op.role != "state" and place.where == "step" and place.ref.node in self._operands:
            where: Where = "sequence" if op.role == "x" else "outside"
            return Place(self._operands[place.ref.node], place.columns, where)
        return place

    def weight(self, place: Place) -> Atom:
        return self._atom((Weight, place), lambda number: Weight(number, False, place))

    def _atom(self, key: Hashable, make: Callable[[int], Atom]) -> Atom:
        if key not in self._atoms:
            self._atoms[key] = make(len(self._atoms))
        return self._atoms[key]

    def _read(self, place: Place) -> Polynomial | None:
        """Return the formula of the value at a place: an opaque atom for a cut value, None for an unknown formula."""
        if place.ref in self.cuts and place.where == "step":
            return Polynomial.atom(self.opaque(replace(place, ref=self.cuts[place.ref])))
        return self._op(place)

    def _op(self, place: Place) -> Polynomial | None:
        """Return the formula of the value at a place by the node's op, also for a cut value; None if it is unknown."""
        ref, graph = place.ref, self.graph(place.where)
        if is_weight(graph, ref) and graph.type(ref).rank and place.columns is not None:
            return Polynomial.atom(self.weight(self._stored(place)))
        node = graph.node(ref.node)
        if isinstance(node.op, Arg):
            outside = self._sequence(place)
            return None if outside == place else self.at(outside)
        formula = next((self.formulas[kind] for kind in type(node.op).__mro__ if kind in self.formulas), None)
        if formula is None:
            return None
        return formula(Reading(self, place), node, graph.args(node.name), place.columns)

    def _stored(self, place: Place) -> Place:
        """Return where a weight vector, or a part of one, is stored, through splits and arguments of the body."""
        place = replace(place, where="outside") if place.where == "sequence" else place
        while True:
            place = self._sequence(place)
            graph, columns = self.graph(place.where), place.columns
            assert columns is not None
            part = part_of(graph, place.ref, columns, graph.type(place.ref).rank - 1, place.where == "step")
            if part is None:
                return place
            place = Place(*part, place.where)

    def matrix(self, ref: Ref, where: Where, rows: tuple[int, int], columns: tuple[int, int]) -> Matrix | None:
        """Return the stored place of a part of a matrix of weights; None if it is not made from parameters alone."""
        if not is_weight(self.graph(where), ref):
            return None
        where = "outside" if where == "sequence" else where
        while True:
            outside = self._sequence(Place(ref, None, where))
            ref, where = outside.ref, outside.where
            graph = self.graph(where)
            if (by_rows := part_of(graph, ref, rows, 0, where == "step")) is not None:
                ref, rows = by_rows
            elif (by_columns := part_of(graph, ref, columns, 1, where == "step")) is not None:
                ref, columns = by_columns
            else:
                return Matrix(ref, rows, columns, where)


class Reading:
    """Access to the operands of the node at a place, for the formula of its op."""

    def __init__(self, equations: Equations, place: Place) -> None:
        self.equations = equations
        self.place = place
        self.graph = equations.graph(place.where)

    def at(self, ref: Ref, columns: Columns) -> Place:
        """Return the place of an operand. If the result is a sequence, an operand with fewer axes has no time axis."""
        where = self.place.where
        if where == "sequence" and self.graph.type(ref).rank < self.graph.type(self.place.ref).rank:
            where = "outside"
        return Place(ref, columns, where)

    def operand(self, ref: Ref, columns: Columns) -> Polynomial:
        return self.equations.at(self.at(ref, columns))

    def by_rows(self, ref: Ref) -> Polynomial:
        """Return the formula of an operand with one number for each row: a value [N] beside values [N, H]."""
        return self.equations.at(self.at(ref, None))

    def aligned(self, ref: Ref, like: Node, columns: Columns) -> Polynomial:
        """Return the formula of the columns of an operand that broadcasting puts at ``columns`` of node ``like``."""
        shape = self.graph.type(ref).shape
        if not shape or columns is None:
            return self.by_rows(ref)
        return self.operand(ref, columns if shape[-1] == like.types[0].shape[-1] else (0, 1))


Formula = Callable[[Reading, Node[Any], tuple[Ref, ...], Columns], Polynomial | None]
Formulas = Mapping[type[Op], Formula]


def part_of(
    graph: Graph, ref: Ref, part: tuple[int, int], axis: int, joined: bool = False
) -> tuple[Ref, tuple[int, int]] | None:
    """Return where a ``part`` of ``ref``, the result of a Split along ``axis`` or if ``joined`` of a Concat, lies in an
    operand: the operand, and the part's place in it; None for other ops, and a part in several operands."""
    node = graph.node(ref.node)
    if isinstance(node.op, Split) and node.op.axis == axis:
        before = sum(node.op.sizes[: ref.out])
        return graph.args(node.name)[0], (part[0] + before, part[1] + before)
    if isinstance(node.op, Concat) and node.op.axis == axis and joined:
        pieces = ((x, start) for x, (start, stop) in _joined(graph, ref, axis) if start <= part[0] and part[1] <= stop)
        return next(((x, (part[0] - start, part[1] - start)) for x, start in pieces), None)
    return None


def _joined(graph: Graph, x: Ref, axis: int) -> list[tuple[Ref, tuple[int, int]]]:
    """Return the operands of a Concat along ``axis``, or else ``x`` itself, each with its span [start, stop)."""
    node = graph.node(x.node)
    pieces = graph.args(x.node) if isinstance(node.op, Concat) and node.op.axis == axis else (x,)
    bounds, start = [], 0
    for piece in pieces:
        stop = start + graph.type(piece).shape[axis]
        bounds.append((piece, (start, stop)))
        start = stop
    return bounds


def _of_models(op: Op) -> Op:
    """Return the op of models that a backend's op derives from, with its attributes: a layer Sigmoid is a Sigmoid."""
    classes = (kind for kind in type(op).__mro__ if issubclass(kind, Op) and not kind.backend and "name" in vars(kind))
    kind = next(classes, type(op))
    return kind(**{field.name: getattr(op, field.name) for field in fields(kind)})


def _of_two(function: Callable[[Polynomial, Polynomial], Polynomial | None]) -> Formula:
    return lambda r, node, args, columns: function(*(r.aligned(ref, node, columns) for ref in args))


def multiplied(x: Polynomial, y: Polynomial) -> Polynomial | None:
    """Return the product; None if it would have too many terms to be a formula of a cell."""
    return x * y if len(x) * len(y) <= MOST_TERMS else None


def _affine(r: Reading, node: Node[Affine], args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    return r.operand(args[0], columns).scaled(node.op.scale) + Polynomial.constant(node.op.shift)


def _part(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    """Return the formula of columns of a Split or Concat; None if they are not columns of one operand."""
    if columns is None:
        return None
    part = part_of(r.graph, r.place.ref, columns, node.types[0].rank - 1, joined=True)
    return None if part is None else r.operand(*part)


def _reshape(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    """Return the formula of a reshape that only adds or removes axes of one at the start or end; None for any other."""
    before, after = r.graph.type(args[0]).shape, node.types[0].shape
    for one, other in ((before, after), (_without_ones(before), _without_ones(after))):
        if columns is not None and other == (*one, 1):
            return r.equations.at(Place(args[0], None, r.place.where))
        if columns is None and one == (*other, 1):
            return r.equations.at(Place(args[0], (0, 1), r.place.where))
    same = _without_ones(before) == _without_ones(after)
    return r.equations.at(Place(args[0], columns, r.place.where)) if same else None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape[:1] == (1,):
        shape = shape[1:]
    return shape


def _linear(r: Reading, node: Node[Linear], args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    """Return the formula of a Linear: a product for each piece of x, and the bias; None for a computed matrix."""
    if columns is None:
        return None
    x, w, *bias = args
    total = Polynomial.constant(0)
    width = r.graph.type(w).shape[1]
    last = node.op.axis == r.graph.type(x).rank - 1
    for piece, span in _joined(r.graph, x, node.op.axis) if last else [(x, (0, width))]:
        if (matrix := r.equations.matrix(w, r.place.where, columns, span)) is None:
            return None
        of = r.at(piece, (0, span[1] - span[0]) if last else None)
        total += Polynomial.atom(r.equations.product(r.place, matrix, of))
    for b in bias:
        total += r.operand(b, columns)
    return total


CORE_FORMULAS: Formulas = {
    Add: _of_two(add),
    Sub: _of_two(sub),
    Mul: _of_two(multiplied),
    Affine: _affine,
    Full: lambda r, node, args, columns: Polynomial.constant(node.op.value),
    Pointwise: lambda r, node, args, columns: r.equations.function(r.place, node.op, r.at(args[0], columns)),
    Split: _part,
    Concat: _part,
    Reshape: _reshape,
    Linear: _linear,
}
