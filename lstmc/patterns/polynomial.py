"""Values of a step as sums of products, so that two ways to write one formula are one thing.

``n + z * (h - n)`` and ``z * h + (1 - z) * n`` are the same polynomial in z, h and n. What a polynomial is in are
atoms: a value that is not looked into, a part of a weight, a function of a polynomial, a product with a matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lstmc.ir import Ref
from lstmc.ops import Op

MOST_TERMS = 64  # of one polynomial: a longer one would be no gate of a cell, and its powers have no end


Columns = tuple[int, int] | None  # the first one, and the one after the last
Where = Literal["step", "sequence", "outside"]


@dataclass(frozen=True)
class Place:
    """Where a value is: columns of the last axis of ``ref``, or (None) all of what has a number for each row.

    ``ref`` is a value of the scan's body (``step``), or of the graph that the scan stands in: of a ``sequence``
    [T, ...] the step's part is meant, and what is else ``outside`` is the same at every step.
    """

    ref: Ref
    columns: Columns = None
    where: Where = "step"


@dataclass(frozen=True)
class Matrix:
    """A part of a matrix [out, in], as :class:`Place` says where: rows are what it gives, columns what it takes."""

    ref: Ref
    rows: tuple[int, int]
    columns: tuple[int, int]
    where: Where = "step"


@dataclass(frozen=True, eq=False)
class Atom:
    """What polynomials are in. Equal atoms are one object; ``number`` says which was met first, ``place`` where."""

    number: int
    recurrent: bool  # it depends on a state of the scan
    place: Place


@dataclass(frozen=True, eq=False)
class Given(Atom):
    """A value that is not looked into."""


@dataclass(frozen=True, eq=False)
class Weight(Atom):
    """A parameter, or a part of one, or what is made of parameters by moving elements."""


@dataclass(frozen=True)
class Clip:
    """x, held between 0 and ``high``: no op of models, which have it as high - relu(high - relu(x))."""

    high: float


@dataclass(frozen=True, eq=False)
class Function(Atom):
    """An element-wise function, as an op of models or a :class:`Clip`; where it was found first, and its operand."""

    op: Op | Clip
    operand: Polynomial
    operand_place: Place


@dataclass(frozen=True, eq=False)
class Product(Atom):
    """operand @ matrix.T; where it was found first, and its operand."""

    operand: Polynomial
    matrix: Matrix
    operand_place: Place


Monomial = tuple[Atom, ...]  # in the order of their numbers; a square has an atom twice


@dataclass(frozen=True)
class Polynomial:
    """A sum of products of atoms, each with a coefficient that is not 0."""

    terms: frozenset[tuple[Monomial, float]] = field(default=frozenset())

    @classmethod
    def of(cls, terms: Mapping[Monomial, float]) -> Polynomial:
        return cls(frozenset((monomial, float(value)) for monomial, value in terms.items() if value))

    @classmethod
    def constant(cls, value: float) -> Polynomial:
        return cls.of({(): value})

    @classmethod
    def atom(cls, atom: Atom) -> Polynomial:
        return cls.of({(atom,): 1.0})

    def __iter__(self) -> Iterator[tuple[Monomial, float]]:
        """The terms, in the order in which their atoms were met."""
        return iter(sorted(self.terms, key=lambda term: [atom.number for atom in term[0]]))

    def __len__(self) -> int:
        return len(self.terms)

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, value in other.terms:
            terms[monomial] = terms.get(monomial, 0.0) + value
        return Polynomial.of(terms)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, float] = {}
        for one, a in self.terms:
            for two, b in other.terms:
                monomial = tuple(sorted((*one, *two), key=lambda atom: atom.number))
                terms[monomial] = terms.get(monomial, 0.0) + a * b
        return Polynomial.of(terms)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other.times(-1)

    def times(self, number: float) -> Polynomial:
        return Polynomial.of({monomial: value * number for monomial, value in self.terms})

    @property
    def recurrent(self) -> bool:
        """Whether it depends on a state of the scan."""
        return any(atom.recurrent for monomial, _ in self.terms for atom in monomial)

    @property
    def single(self) -> Monomial | None:
        """Its one monomial, if it is one with the coefficient 1."""
        if len(self.terms) != 1:
            return None
        ((monomial, value),) = self.terms
        return monomial if value == 1 else None

    def divided(self, by: Monomial) -> tuple[Polynomial, Polynomial]:
        """Quotient and rest: the polynomial is ``quotient * by + rest``, and no monomial of the rest has ``by``."""
        quotient: dict[Monomial, float] = {}
        rest: dict[Monomial, float] = {}
        for monomial, value in self.terms:
            left = without(monomial, by)
            (rest if left is None else quotient)[monomial if left is None else left] = value
        return Polynomial.of(quotient), Polynomial.of(rest)


def without(monomial: Monomial, by: Monomial) -> Monomial | None:
    """The monomial divided by another; None if it is no multiple of it."""
    missing, left = Counter(by), []
    for atom in monomial:
        if missing[atom]:
            missing[atom] -= 1
        else:
            left.append(atom)
    return None if missing.total() else tuple(left)
