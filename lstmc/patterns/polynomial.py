"""Values of a step as sums of products, so that two ways to write one formula are one thing.

``n + z * (h - n)`` and ``z * h + (1 - z) * n`` are the same polynomial in z, h and n. What a polynomial is in are
atoms: a value that is not looked into, a part of a weight, a function of a polynomial, a product with a matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, Generic, Literal, Self, TypeVar

from lstmc.ir import Ref
from lstmc.ops import Op

__all__ = ["Columns", "Matrix", "Place", "Polynomial"]

M = TypeVar("M")  # what a monomial is
MOST_TERMS = 64  # of one polynomial: a longer one would be no gate of a cell, and its powers have no end


Columns = tuple[int, int] | None  # the first one, and the one after the last
Where = Literal["step", "sequence", "outside"]


@dataclass(frozen=True)
class Place:
    """The place of a value: columns of the last axis of ``ref``, or (None) the whole of a value with a number for each
    row.

    ``ref`` is a value of the scan's body (``step``), or of the graph that the scan stands in: of a ``sequence``
    [T, ...] the step's part is meant, and what is else ``outside`` is the same at every step.
    """

    ref: Ref
    columns: Columns = None
    where: Where = "step"


@dataclass(frozen=True)
class Matrix:
    """A part of a matrix [out, in], at a place as :class:`Place` has it: rows are outputs, columns are inputs."""

    ref: Ref
    rows: tuple[int, int]
    columns: tuple[int, int]
    where: Where = "step"


@dataclass(frozen=True, eq=False)
class Atom:
    """An indeterminate of the polynomials. Equal atoms are one object; ``number`` is the order in which they were first
    met, ``place`` the place where.
    """

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


class LinearCombination(ABC, Generic[M]):
    """A sum of monomials, each with a coefficient that is not 0. A subclass says what monomials are."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[M, Any] = MappingProxyType({})) -> None:
        self.terms = terms
        self._hash: int | None = None

    @staticmethod
    @abstractmethod
    def unit() -> M:
        """Return the monomial 1."""

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
        """Return the sum with others."""
        terms = dict(self.terms)
        for monomial, value in chain.from_iterable(other.terms.items() for other in others):
            _add_term(terms, monomial, value)
        return type(self)(terms)

    def scaled(self, number: Any) -> Self:
        """Return the product with a number."""
        return type(self)({monomial: value * number for monomial, value in self.terms.items()} if number else {})


def _add_term(terms: dict[M, Any], monomial: M, value: Any) -> None:
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
        """The terms, in the order in which their atoms were met."""
        return iter(sorted(self.terms.items(), key=lambda term: [atom.number for atom in term[0]]))

    @property
    def recurrent(self) -> bool:
        """Whether it depends on a state of the scan."""
        return any(atom.recurrent for monomial in self.terms for atom in monomial)

    @property
    def single(self) -> Monomial | None:
        """Its one monomial, if it is one with the coefficient 1."""
        if len(self.terms) != 1:
            return None
        ((monomial, value),) = self.terms.items()
        return monomial if value == 1 else None

    def divided(self, by: Monomial) -> tuple[Polynomial, Polynomial]:
        """Quotient and rest: the polynomial is ``quotient * by + rest``, and no monomial of the rest has ``by``."""
        quotient: dict[Monomial, float] = {}
        rest: dict[Monomial, float] = {}
        for monomial, value in self.terms.items():
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
