"""Symbolic numbers in normal form: polynomials with rational coefficients in atoms.

An atom is a symbol, or a function of such polynomials, and a function has only the identities of this module. Numbers
with equal normal forms are equal for all real values of the symbols for which both are defined: where no divisor is 0,
and every operand of a logarithm or of a root is positive. Different normal forms prove nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import chain, islice
from math import isfinite
from typing import Any

import numpy as np

from lstmc.patterns.equations import LinearCombination

Rational = int | Fraction
LOST = 2.0**-120  # constants below it are 0: divisions add FLT_MIN to divisors that may be 0
DIGITS = 10  # coefficients that agree in so many digits are one: constants of a graph are rounded
LARGEST_EXPONENT = 700  # up to it exp(c) is a float; beyond, as for a first maximum of -1e30, a power of an atom
MOST_DISTRIBUTED = 8  # terms of the shorter factor of a product of more than ``largest`` terms
MOST_FACTORS = 16  # of a power that is multiplied out


class NoRule(Exception):
    """An op needs actual numbers, which symbols are not: for a comparison, or as an index."""


class BudgetExceeded(Exception):
    """The normal forms have more terms than the budget of the algebra allows."""


@dataclass(frozen=True, eq=False, slots=True)
class Atom:
    """A symbol, or a function (``kind``) of numbers. Equal atoms of one algebra are one object, ordered by age."""

    algebra: Algebra
    number: int
    kind: str
    operands: tuple[Number, ...]
    name: str = ""

    def __lt__(self, other: Atom) -> bool:
        return self.number < other.number

    def text(self, depth: int) -> str:
        inner = ", ".join(operand.text(depth - 1) for operand in self.operands) if depth else "..."
        return self.name or f"{self.kind}({inner})"


Monomial = tuple[tuple[Atom, Rational], ...]  # atoms in order, each with its exponent, which is not 0


class Number(LinearCombination[Monomial]):
    """A polynomial in atoms. NumPy's arithmetic works on arrays of them, with each other and with floats."""

    __slots__ = ()

    @classmethod
    def of(cls, value: Any) -> Number:
        """Return a number; a float or an integer becomes a constant. Raises :class:`NoRule` unless it is finite."""
        return value if isinstance(value, Number) else cls.constant(rational(value))

    @classmethod
    def atom(cls, atom: Atom, exponent: Rational = 1) -> Number:
        return cls({((atom, exponent),): 1})

    @staticmethod
    def unit() -> Monomial:
        return ()

    @staticmethod
    def product(one: Monomial, two: Monomial) -> Monomial:
        """Return the product of two monomials: exponents of one atom are added."""
        if not one or not two:
            return one or two
        if len(one) < len(two):
            one, two = two, one
        factors = list(one)
        for atom, exponent in two:  # of few factors, mostly one
            at = bisect_left(factors, (atom,))
            if at == len(factors) or factors[at][0] is not atom:
                factors.insert(at, (atom, exponent))
            elif atom.kind != "positive":  # it is 0 or 1, and so are its powers
                total = factors[at][1] + exponent
                factors[at : at + 1] = [(atom, total)] if total else []
        return tuple(factors)

    @property
    def value(self) -> Rational | None:
        """The value of a constant; None for any other number."""
        if not self.terms:
            return 0
        constant: Rational | None = self.terms.get(()) if len(self.terms) == 1 else None
        return constant

    @property
    def lead(self) -> Fraction:
        """The coefficient of the least monomial in the order of monomials."""
        return Fraction(self.terms[min(self.terms)])

    def over(self, divisor: Fraction) -> Number:
        return self if divisor == 1 else self.scaled(1 / divisor)

    @property
    def algebra(self) -> Algebra | None:
        """The algebra of the number's atoms; None for a constant."""
        return next((monomial[0][0].algebra for monomial in self.terms if monomial), None)

    def without(self, monomials: Container[Monomial]) -> Number:
        return Number({own: value for own, value in self.terms.items() if own not in monomials})

    def times(self, monomial: Monomial, by: Rational = 1) -> Number:
        return Number({self.product(own, monomial): value * by for own, value in self.terms.items()})

    def __add__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else sum_of(self, Number.of(other))

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self + -Number.of(other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        """Return the product; long factors become atoms (:meth:`Algebra.factors`), powers of sums are expanded."""
        if isinstance(other, np.ndarray):
            return NotImplemented
        one, two = self, Number.of(other)
        algebra = one.algebra or two.algebra
        if algebra is not None:
            one, two = algebra.factors(one, two)
        return _multiplied_out(super(Number, one).__mul__(two))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self * power(Number.of(other), -1)

    def __rtruediv__(self, other: Any) -> Any:
        return Number.of(other) * power(self, -1)

    def __pow__(self, exponent: Any) -> Any:
        return power(self, rational(exponent))

    def __float__(self) -> float:
        if self.value is None:
            raise NoRule("it needs the number that a symbol stands for")
        return float(self.value)

    def __int__(self) -> int:
        return int(float(self))

    __index__ = __int__

    def __bool__(self) -> bool:
        return bool(float(self))

    def _compared(self, other: Any) -> Any:
        raise NoRule("it decides by comparing symbols")

    __lt__ = __le__ = __gt__ = __ge__ = _compared

    def text(self, depth: int = 1, most: int = 3) -> str:
        """Return the first terms, with functions of functions up to ``depth`` written out."""

        def factor(atom: Atom, exponent: Rational) -> str:
            return atom.text(depth) + ("" if exponent == 1 else f"**{exponent}" if exponent > 0 else f"**({exponent})")

        def term(monomial: Monomial, value: Rational) -> str:
            factors = [factor(*each) for each in monomial]
            return " ".join(factors if value == 1 and factors else [f"{float(value):.6g}", *factors])

        terms = [term(*each) for each in islice(self.terms.items(), most)]
        return " + ".join([*terms, *(["..."] if len(self) > most else [])]) or "0"

    __str__ = __repr__ = text


class Algebra:
    """The atoms of one proof. ``budget`` is the number of terms that may be added and multiplied in all.

    In a product of more than ``largest`` terms the longer factor becomes one atom. That is sound, but an equal factor
    in another notation becomes another atom. A value of a graph with more than ``longest`` terms becomes an atom too.
    ``last`` is the maximum of products of terms in one step of a comparison. ``rounded``: constants that agree in only
    DIGITS digits were taken as equal.
    """

    def __init__(self, budget: int = 10**6, largest: int = 800, longest: int | None = None, last: int = 300) -> None:
        self.budget = budget
        self.largest, self.longest, self.last = largest, longest, last
        self.rounded = False
        self.maxima: dict[Number, tuple[Number, ...]] = {}  # a maximum -> the numbers of which it is the largest
        self.growths: dict[Atom, Number] = {}  # tanh(y) -> exp(2 y)
        self._count = 0
        self._exact: dict[tuple[str, tuple[Number, ...]], Atom] = {}  # (kind, operands) -> atom
        self._near: dict[tuple[str, tuple[Any, ...]], Atom] = {}  # (kind, rounded operands) -> atom

    def clear(self) -> None:
        """Forget all atoms: they and the algebra refer to each other, so reference counting does not free them."""
        self.maxima, self.growths, self._exact, self._near = {}, {}, {}, {}

    def symbol(self, name: str) -> Number:
        return Number.atom(self._new("symbol", (), name))

    def function(self, kind: str, *operands: Number) -> Number:
        """Return an uninterpreted function of numbers."""
        return Number.atom(self.atom(kind, *operands))

    def atom(self, kind: str, *operands: Number) -> Atom:
        """Return the atom of a function of numbers. Operands that are equal up to rounding give the same atom."""
        key = kind, operands
        atom = self._exact.get(key)
        if atom is None:
            near = kind, tuple(map(_rounded, operands))
            if near in self._near:
                self.rounded, atom = True, self._near[near]
            else:
                atom = self._near[near] = self._new(kind, operands)
            self._exact[key] = atom
        return atom

    def factors(self, one: Number, two: Number) -> tuple[Number, Number]:
        """Return both factors. If their product has too many terms, a symbol (atom) replaces the longer, or each."""
        if len(one) * len(two) > self.largest and min(len(one), len(two)) > 1:
            one, two = sorted((one, two), key=len, reverse=True)
            one = self.whole(one)
            if len(two) > MOST_DISTRIBUTED:
                two = self.whole(two)
        self.spend(len(one) * len(two))
        return one, two

    def shortened(self, x: Number) -> Number:
        return x if self.longest is None or len(x) <= self.longest else self.whole(x)

    def whole(self, x: Number) -> Number:
        """Return a sum as a product: its terms' common factors, its first coefficient, and one atom for the rest."""
        shared = shared_factors(x)
        rest = x.times(inverse(shared))
        return Number({Number.product(shared, ((self.atom("value", rest.over(rest.lead)), 1),)): rational(rest.lead)})

    def spend(self, terms: int) -> None:
        """Subtract terms from the budget. Raises :class:`BudgetExceeded` if fewer are left."""
        self.budget -= terms
        if self.budget < 0:
            raise BudgetExceeded

    def _new(self, kind: str, operands: tuple[Number, ...], name: str = "") -> Atom:
        self._count += 1
        return Atom(self, self._count, kind, operands, name)


def _rounded(number: Number) -> Any:
    """Return a key that is equal for numbers whose coefficients agree in DIGITS digits."""
    return frozenset((monomial, f"{float(value):.{DIGITS}e}") for monomial, value in number.terms.items())


# constants --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def rational(value: Any) -> Rational:
    """Return a constant of a graph as a rational number: for a float the simplest fraction within its rounding, so 0.1
    becomes 1/10, and so does 0.1 * 3 / 3. A number too small to change any normal float becomes 0. Raises
    :class:`NoRule` for a number that is not finite."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else value
    if not isfinite(value):
        raise NoRule(f"it computes with {float(value)}")
    exact = Fraction(float(value)) if abs(value) >= LOST else Fraction(0)
    if exact.denominator == 1:
        return exact.numerator
    margin = abs(exact) / 2**50
    nearest = _simplest(abs(exact) - margin, abs(exact) + margin)
    return rational(nearest if exact > 0 else -nearest)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction with the least denominator between two positive fractions."""
    whole = low.numerator // low.denominator
    if whole == low or whole + 1 <= high:
        return Fraction(whole if whole == low else whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


def constant_power(value: Rational, exponent: Rational) -> Rational:
    """Return value ** exponent. Raises :class:`NoRule` for a division by 0, and for a root of a negative number."""
    if exponent == int(exponent):
        if value == 0 and exponent < 0:
            raise NoRule("it divides by 0")
        return rational(Fraction(value) ** int(exponent))
    if value < 0:
        raise NoRule(f"it takes a root of {float(value)}")
    return rational(float(value) ** float(exponent))


# identities -------------------------------------------------------------------------------------------------------


def _multiplied_out(number: Number) -> Number:
    """Return a number in which whole powers of sums, also two equal roots, and tanh(y) exp(2 y) are multiplied out."""
    parts = {m: part for m, v in number.terms.items() if (part := _term_multiplied_out(m, v)) is not None}
    return sum_of(number.without(parts), *parts.values()) if parts else number


def _term_multiplied_out(monomial: Monomial, value: Rational) -> Number | None:
    """Return a term with a whole power of a sum, or tanh(y) exp(2 y), multiplied out; None if it has neither."""
    for atom, exponent in monomial:
        if exponent < 1 or exponent != int(exponent) or atom.kind not in ("power", "tanh"):
            continue
        rest = tuple(each for each in monomial if each[0] is not atom)
        if atom.kind == "power":
            return product_of(Number({rest: value}), *[atom.operands[0]] * int(exponent))
        quotient = _quotient_by_growth(atom, rest)
        if quotient is not None:
            rest, factor = quotient
            return product_of(Number({rest: value}), factor, *[Number.atom(atom)] * (int(exponent) - 1))
    return None


def _quotient_by_growth(tanh: Atom, monomial: Monomial) -> tuple[Monomial, Number] | None:
    """Divide a monomial by e = exp(2 y): return the quotient and tanh(y) e = e - 1 - tanh(y), or both with 1 / e in
    place of e. Return None if neither is a factor of the monomial."""
    exponents = dict(monomial)
    if not any(atom.kind == "exp" for atom in exponents):
        return None
    growth = tanh.algebra.growths.get(tanh)
    if growth is None:
        growth = tanh.algebra.growths[tanh] = exp(tanh.operands[0].scaled(2))
    (factors, _), *more = growth.terms.items()
    ratios = [Fraction(exponents.get(atom, 0)) / exponent for atom, exponent in factors]
    if more or not ratios or max(min(ratios), -max(ratios)) < 1:
        return None
    sign = 1 if min(ratios) >= 1 else -1
    whole = power(growth, sign)
    ((divisor, scale),) = whole.terms.items()
    return Number.product(monomial, inverse(divisor)), ((whole - 1).scaled(sign) - Number.atom(tanh)).over(
        Fraction(scale)
    )


def sum_of(*numbers: Number) -> Number:
    """Return the sum of numbers, charged to the budget of their algebra."""
    longest, *others = sorted(numbers, key=len, reverse=True)
    if longest.algebra is not None:
        longest.algebra.spend(sum(map(len, others)))
    return longest.plus(*others)


def product_of(*numbers: Number) -> Number:
    return reduce(Number.__mul__, numbers)


def power(x: Number, exponent: Rational) -> Number:
    """Return x ** exponent as a product of powers: of each positive factor of x, and of the rest, which is divided by
    its leading coefficient and becomes an atom. For a whole exponent every factor may be treated as positive."""
    if exponent == 0:
        return Number.constant(1)
    if x.value is not None:
        return Number.constant(constant_power(x.value, exponent))
    whole = exponent == int(exponent)
    if whole and 0 < exponent <= MOST_FACTORS:
        return product_of(*[x] * int(exponent))
    if len(x) == 1:
        ((monomial, value),) = x.terms.items()
        if whole or (value > 0 and all(_is_positive(atom) for atom, _ in monomial)):
            raised = tuple((atom, rational(Fraction(own * exponent))) for atom, own in monomial)
            return Number({raised: 1}).scaled(constant_power(value, exponent))
    shared = shared_factors(x, exponentials=True, positive=not whole)
    rest = x.times(inverse(shared))
    if (exponent < 0 or not whole) and (ratio := as_ratio(rest)) is not None:
        return product_of(*(power(Number.atom(atom, own), exponent) for atom, own in shared), power(ratio, exponent))
    scale = rest.lead if whole or rest.lead > 0 else Fraction(1)
    base = algebra_of(x).atom("power", rest.over(scale))
    atoms = Number({tuple((atom, own * exponent) for atom, own in shared): constant_power(scale, exponent)})
    return product_of(atoms, Number.atom(base, exponent))


def as_ratio(x: Number) -> Number | None:
    """Return c + c tanh(y) as 2 c / (1 + exp(-2 y)), the same sigmoid in another notation; None for another number."""
    constant, *others = sorted(x.terms.items(), key=lambda term: len(term[0]))
    if constant[0] or len(others) != 1:
        return None
    ((monomial, value),) = others
    if len(monomial) != 1 or monomial[0][0].kind != "tanh" or monomial[0][1] != 1 or abs(value) != abs(constant[1]):
        return None
    y = monomial[0][0].operands[0].scaled(-2 if value == constant[1] else 2)
    return product_of(Number.constant(2 * constant[1]), power(sum_of(Number.constant(1), exp(y)), -1))


def _is_positive(atom: Atom) -> bool:
    """Return whether an atom is certainly positive: an exponential, or a power of a sum of positive terms."""
    terms = atom.operands[0].terms if atom.kind == "power" else {}
    sums = bool(terms) and all(value > 0 and all(_is_positive(each) for each, _ in m) for m, value in terms.items())
    return atom.kind == "exp" or sums


def shared_factors(x: Number, exponentials: bool = False, positive: bool = False) -> Monomial:
    """Return the largest product of atoms that divides each term of x: of any atoms, except those that are 0 or 1 (kind
    "positive"). With ``exponentials`` it has only exponentials; with ``positive``, only these and powers of sums that
    are always positive."""
    least: dict[Atom, Rational] = {}
    terms: dict[Atom, int] = {}
    for atom, exponent in chain.from_iterable(x.terms):
        least[atom] = min(exponent, least.get(atom, exponent))
        terms[atom] = terms.get(atom, 0) + 1

    def divides(atom: Atom) -> bool:
        whole = positive and terms[atom] == len(x) and _is_positive(atom)
        return whole or (atom.kind == "exp" if exponentials or positive else atom.kind != "positive")

    found = ((atom, least[atom] if terms[atom] == len(x) else min(least[atom], 0)) for atom in sorted(least))
    return tuple((atom, exponent) for atom, exponent in found if exponent and divides(atom))


def inverse(monomial: Monomial) -> Monomial:
    """Return 1 / monomial."""
    return tuple((atom, -exponent) for atom, exponent in monomial)


def exp(x: Number) -> Number:
    """Return exp(x): the product of exp(m) ** c over the terms c m of x, where exp(c log(y)) is y ** c."""
    factors = [Number.constant(1)]
    for monomial, value in x.terms.items():
        if not monomial and (abs(value) < LARGEST_EXPONENT or len(x) == 1):
            factors.append(of_constant(np.exp, value))
        elif not monomial:
            factors.append(Number.atom(algebra_of(x).atom("exp", Number.constant(1)), value))
        elif len(monomial) == 1 and monomial[0][0].kind == "log" and monomial[0][1] == 1:
            factors.append(power(monomial[0][0].operands[0], value))
        else:
            factors.append(Number.atom(algebra_of(x).atom("exp", Number({monomial: 1})), value))
    return product_of(*factors)


def of_constant(function: Callable[[float], Any], value: Rational) -> Number:
    with np.errstate(all="ignore"):
        return Number.constant(rational(float(function(float(value)))))


def algebra_of(x: Number) -> Algebra:
    algebra = x.algebra
    assert algebra is not None, "a constant is computed"
    return algebra
