"""Symbolic numbers in normal form.

A number is a polynomial with rational coefficients in atoms. An atom is a symbol, or a function of such polynomials,
and nothing is known of a function but the identities of this module. Numbers with equal normal forms are equal for all
real values of the symbols for which both are defined: where no divisor is 0, and every operand of a logarithm or of a
root is positive. Different normal forms show nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import chain, islice
from typing import Any

import numpy as np

from lstmc.patterns.polynomial import LinearCombination
from lstmc.verification.constants import NoRule, Rational, constant_power, rational

DIGITS = 10  # coefficients that agree in so many digits are one: constants of a graph are rounded
LARGEST_EXPONENT = 700  # of exp as a float; beyond, as of a first maximum of -1e30, exp(c) is the number e to the c
MOST_DISTRIBUTED = 8  # terms of the shorter factor of a product that is past the largest
MOST_FACTORS = 16  # of a power that is multiplied out


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
        """Return a number, or a float or an integer as one. Raises :class:`NoRule` for one that is not finite."""
        return value if isinstance(value, Number) else cls.constant(rational(value))

    @classmethod
    def atom(cls, atom: Atom, exponent: Rational = 1) -> Number:
        return cls({((atom, exponent),): 1})

    @staticmethod
    def unit() -> Monomial:
        return ()

    @staticmethod
    def product(one: Monomial, two: Monomial) -> Monomial:
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
        """The number itself, if it is a constant."""
        if not self.terms:
            return 0
        constant: Rational | None = self.terms.get(()) if len(self.terms) == 1 else None
        return constant

    @property
    def lead(self) -> Fraction:
        """The coefficient of the least monomial."""
        return Fraction(self.terms[min(self.terms)])

    def over(self, divisor: Fraction) -> Number:
        """Return the quotient by a constant."""
        return self if divisor == 1 else self.scaled(1 / divisor)

    @property
    def algebra(self) -> Algebra | None:
        """The algebra of its atoms; None for a constant."""
        return next((monomial[0][0].algebra for monomial in self.terms if monomial), None)

    def times(self, monomial: Monomial, by: Rational = 1) -> Number:
        """Return the product with one monomial."""
        return Number({self.product(own, monomial): value * by for own, value in self.terms.items()})

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        more, less = sorted((self, Number.of(other)), key=len, reverse=True)
        if more.algebra is not None:
            more.algebra.spend(len(less))
        return super(Number, more).__add__(less)

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self + -Number.of(other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
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

    def __abs__(self) -> Any:
        return relu(self).scaled(2) - self

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
    """The atoms of one proof.

    ``budget`` is how many terms may be added and multiplied in all. A product of more than ``largest`` takes the longer
    factor as one atom, which is sound, but a factor that is written in another way is then another atom. So is a value
    of a graph that has more than ``longest`` terms.
    ``rounded`` says whether constants were taken for equal that agree in DIGITS digits only.
    """

    def __init__(self, budget: int = 2_000_000, largest: int = 800, longest: int | None = None) -> None:
        self.budget = budget
        self.largest, self.longest = largest, longest
        self.rounded = False
        self.maxima: dict[Number, tuple[Number, ...]] = {}
        self._count = 0
        self._exact: dict[tuple[str, tuple[Number, ...]], Atom] = {}
        self._near: dict[tuple[str, tuple[Any, ...]], Atom] = {}

    def clear(self) -> None:
        """Forget all atoms: they and the algebra refer to each other, which reference counts alone do not free."""
        self.maxima, self._exact, self._near = {}, {}, {}

    def symbol(self, name: str) -> Number:
        """Return a new symbol."""
        return Number.atom(self._new("symbol", (), name))

    def function(self, kind: str, *operands: Number) -> Number:
        """Return an uninterpreted function of numbers."""
        return Number.atom(self.atom(kind, *operands))

    def atom(self, kind: str, *operands: Number) -> Atom:
        """Return the atom of a function of numbers."""
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
        """Return two factors as they are to be multiplied."""
        if len(one) * len(two) > self.largest and min(len(one), len(two)) > 1:
            one, two = sorted((one, two), key=len, reverse=True)
            one = self.whole(one)
            if len(two) > MOST_DISTRIBUTED:
                two = self.whole(two)
        self.spend(len(one) * len(two))
        return one, two

    def shortened(self, x: Number) -> Number:
        """Return a value of a graph, as one atom if it is too long."""
        return x if self.longest is None or len(x) <= self.longest else self.whole(x)

    def whole(self, x: Number) -> Number:
        """Return a sum as what its terms share, times its first coefficient, times one atom of the rest."""
        shared = _shared(x)
        rest = x.times(_inverse(shared))
        return Number({Number.product(shared, ((self.atom("value", rest.over(rest.lead)), 1),)): rational(rest.lead)})

    def spend(self, terms: int) -> None:
        """Charge terms to the budget. Raises :class:`BudgetExceeded`."""
        self.budget -= terms
        if self.budget < 0:
            raise BudgetExceeded

    def _new(self, kind: str, operands: tuple[Number, ...], name: str = "") -> Atom:
        self._count += 1
        return Atom(self, self._count, kind, operands, name)


def _rounded(number: Number) -> Any:
    return frozenset((monomial, f"{float(value):.{DIGITS}e}") for monomial, value in number.terms.items())


# identities -------------------------------------------------------------------------------------------------------


def _multiplied_out(number: Number) -> Number:
    """Return the number with whole powers of sums, which come of the product of a root with itself, as products."""
    for monomial, value in number.terms.items():
        for atom, exponent in monomial:
            if atom.kind == "power" and exponent >= 1 and exponent == int(exponent):
                rest = tuple(each for each in monomial if each[0] is not atom)
                others = Number({m: v for m, v in number.terms.items() if m != monomial})
                return _sum(others, _product(Number({rest: value}), *[atom.operands[0]] * int(exponent)))
    return number


def _sum(*numbers: Number) -> Number:
    return reduce(Number.__add__, numbers)


def _product(*numbers: Number) -> Number:
    return reduce(Number.__mul__, numbers)


def power(x: Number, exponent: Rational) -> Number:
    """Return x ** exponent: powers of its positive factors, times an atom for the rest, of leading coefficient 1.

    Every factor counts as positive for a whole exponent.
    """
    if exponent == 0:
        return Number.constant(1)
    if x.value is not None:
        return Number.constant(constant_power(x.value, exponent))
    whole = exponent == int(exponent)
    if whole and 0 < exponent <= MOST_FACTORS:
        return _product(*[x] * int(exponent))
    if len(x) == 1:
        ((monomial, value),) = x.terms.items()
        if whole or (value > 0 and all(atom.kind == "exp" for atom, _ in monomial)):
            raised = tuple((atom, rational(Fraction(own * exponent))) for atom, own in monomial)
            return Number({raised: 1}).scaled(constant_power(value, exponent))
    shared = _shared(x, exponentials=True)
    rest = x.times(_inverse(shared))
    scale = rest.lead if whole or rest.lead > 0 else Fraction(1)
    base = _algebra(x).atom("power", rest.over(scale))
    atoms = Number({tuple((atom, own * exponent) for atom, own in shared): constant_power(scale, exponent)})
    return _product(atoms, Number.atom(base, exponent))


def _shared(x: Number, exponentials: bool = False) -> Monomial:
    """Return the largest product of atoms that divides each term; of exponentials alone it is positive."""
    least: dict[Atom, Rational] = {}
    terms: dict[Atom, int] = {}
    for atom, exponent in chain.from_iterable(x.terms):
        least[atom] = min(exponent, least.get(atom, exponent))
        terms[atom] = terms.get(atom, 0) + 1
    found = ((atom, least[atom] if terms[atom] == len(x) else min(least[atom], 0)) for atom in sorted(least))
    return tuple((a, e) for a, e in found if e and (a.kind == "exp" if exponentials else a.kind != "positive"))


def _inverse(monomial: Monomial) -> Monomial:
    return tuple((atom, -exponent) for atom, exponent in monomial)


def exp(x: Number) -> Number:
    """Return exp(x): the product of exp(m) ** c over the terms c m of x, and exp(c log(y)) is y ** c."""
    factors = [Number.constant(1)]
    for monomial, value in x.terms.items():
        if not monomial and (abs(value) < LARGEST_EXPONENT or len(x) == 1):
            factors.append(_of_constant(np.exp, value))
        elif not monomial:
            factors.append(Number.atom(_algebra(x).atom("exp", Number.constant(1)), value))
        elif len(monomial) == 1 and monomial[0][0].kind == "log" and monomial[0][1] == 1:
            factors.append(power(monomial[0][0].operands[0], value))
        else:
            factors.append(Number.atom(_algebra(x).atom("exp", Number({monomial: 1})), value))
    return _product(*factors)


def log(x: Number) -> Number:
    """Return log(x): exponentials that divide it come out, log(exp(y) z) is y + log(z)."""
    if x.value is not None:
        return _of_constant(np.log, x.value)
    shared = _shared(x, exponentials=True)
    rest = x.times(_inverse(shared))
    reduced = _without_squares(rest)
    last = _algebra(x).function("log", rest) if reduced is rest and rest.value is None else log(reduced)
    return _sum(last, *(atom.operands[0].scaled(exponent) for atom, exponent in shared))


def _without_squares(x: Number) -> Number:
    """Return the number with r r as r + r e - e, where r is exp(relu(y)), and e is exp(y): r is 1 or e.

    So log(1 + exp(-abs(y))) is log(1 + exp(y)) - relu(y). Of roots of both only if there are no more terms then.
    """
    for monomial, value in x.terms.items():
        for atom, exponent in monomial:
            if atom.kind != "exp" or exponent <= 0:
                continue
            ((factors, scale), *others) = atom.operands[0].terms.items()
            if others or scale != 1 or len(factors) != 1 or factors[0][0].kind != "relu" or factors[0][1] != 1:
                continue
            half = 1 if exponent >= 2 else rational(Fraction(exponent) / 2)
            r, e = Number.atom(atom, half), exp(factors[0][0].operands[0].scaled(half))
            quotient = Number({Number.product(monomial, ((atom, -2 * half),)): value})
            reduced = _sum(x, Number({monomial: -value}), _product(quotient, r + r * e - e))
            if half == 1 or len(reduced) <= len(x):
                return _without_squares(reduced)
    return x


def odd(kind: str, function: Callable[[float], Any]) -> Callable[[Number], Number]:
    """Return a function with f(-x) = -f(x)."""

    def normal(x: Number) -> Number:
        if x.value is not None:
            return _of_constant(function, x.value)
        return -_algebra(x).function(kind, -x) if x.lead < 0 else _algebra(x).function(kind, x)

    return normal


def cos(x: Number) -> Number:
    """Return cos(x), which is cos(-x)."""
    if x.value is not None:
        return _of_constant(np.cos, x.value)
    return _algebra(x).function("cos", -x if x.lead < 0 else x)


def relu(x: Number) -> Number:
    """Return max(x, 0): c relu(x) for relu(c x) with c > 0, x + relu(-x), and x itself where no factor is negative."""
    if x.value is not None:
        return Number.constant(max(x.value, 0))
    if len(x) == 1:
        ((monomial, value),) = x.terms.items()
        if all(_not_negative(atom, exponent) for atom, exponent in monomial):
            return x if value > 0 else Number.constant(0)
    normal, algebra = x.over(abs(x.lead)), _algebra(x)
    result = _sum(normal, algebra.function("relu", -normal)) if x.lead < 0 else algebra.function("relu", normal)
    return result.scaled(abs(x.lead))


def _not_negative(atom: Atom, exponent: Rational) -> bool:
    return atom.kind in ("relu", "exp", "positive") or exponent % 2 == 0


def maximum(x: Number | float, y: Number | float) -> Number | float:
    """Return the larger of two: x + relu(y - x), and of more than two one function of their differences."""
    if -np.inf in (x, y):  # what padding has outside of an image
        return y if x == -np.inf else x
    x, y = Number.of(x), Number.of(y)
    algebra = x.algebra or y.algebra
    if algebra is None:
        return max(x, y, key=float)
    parts = dict.fromkeys(part for each in (x, y) for part in algebra.maxima.get(each, (each,)))
    first, *others = sorted(parts, key=lambda part: sorted((*part.terms.items(),)))
    if not others:
        return first
    gaps = [other - first for other in others]
    result = _sum(first, relu(gaps[0]) if len(gaps) == 1 else algebra.function("max", *gaps))
    if result.value is None:
        algebra.maxima[result] = (first, *others)
    return result


def positive(x: Number) -> Number:
    """Return 1 where x > 0, else 0: of c x with c > 0, and of relu(x), that of x."""
    if x.value is not None:
        return Number.constant(int(x.value > 0))
    if len(x) == 1:
        ((monomial, value),) = x.terms.items()
        if all(atom.kind == "exp" for atom, _ in monomial):
            return Number.constant(int(value > 0))
        if value < 0 and all(_not_negative(atom, exponent) for atom, exponent in monomial):
            return Number.constant(0)
        if value > 0 and len(monomial) == 1 and monomial[0][0].kind == "relu" and monomial[0][1] == 1:
            return positive(monomial[0][0].operands[0])
    return _algebra(x).function("positive", x.over(abs(x.lead)))


def _of_constant(function: Callable[[float], Any], value: Rational) -> Number:
    with np.errstate(all="ignore"):
        return Number.constant(rational(float(function(float(value)))))


def _algebra(x: Number) -> Algebra:
    algebra = x.algebra
    assert algebra is not None, "a constant is computed"
    return algebra
