"""Functions of symbolic numbers: logarithms, functions with a symmetry, maxima and comparisons; and equality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from lstmc.verification import symbols
from lstmc.verification.symbols import Atom, Monomial, Number, Rational, algebra_of, product_of, sum_of

SURE = 1e-9  # a difference beyond this share of the sum of magnitudes is more than rounding
MEANINGS: Mapping[str, Callable[[complex], Any]] = {
    "power": complex,
    "value": complex,
    "exp": np.exp,
    "tanh": np.tanh,
    "positive": lambda x: x.real > 0,
}
GOLDEN_RATIO = 0.6180339887498949  # multiples of it, less their whole part, are spread evenly
MOST_WRITTEN_OUT = 100_000  # terms of a product when a sum that was one atom is written out
MOST_KINKS = 2  # maxima of a comparison that is done by cases
MOST_CASES = 10  # comparisons in a number that is checked for 0 case by case


def log(x: Number) -> Number:
    """Return log(x). Exponentials are taken out of x as factors: log(exp(y) z) is y + log(z)."""
    if x.value is not None:
        return symbols.of_constant(np.log, x.value)
    shared = symbols.shared_factors(x, positive=True)
    rest = x.times(symbols.inverse(shared))
    ratio = symbols.as_ratio(rest)
    reduced = _without_squares(rest) if ratio is None else ratio
    last = algebra_of(x).function("log", rest) if reduced is rest and rest.value is None else log(reduced)
    whole = ((atom.operands[0] if atom.kind == "exp" else log(atom.operands[0]), by) for atom, by in shared)
    return sum_of(last, *(part.scaled(by) for part, by in whole))


def _without_squares(x: Number) -> Number:
    """Return x with r + e r - e in place of r r, where r is exp(relu(y)) and e is exp(y), so that r is 1 or e: log(1 +
    exp(-abs(y))) becomes log(1 + exp(y)) - relu(y). Roots of r and e are replaced only if that adds no terms."""
    for monomial, value in x.terms.items():
        for atom, exponent in monomial:
            if atom.kind != "exp" or exponent <= 0:
                continue
            ((factors, scale), *others) = atom.operands[0].terms.items()
            if others or scale != 1 or len(factors) != 1 or factors[0][0].kind != "relu" or factors[0][1] != 1:
                continue
            half = 1 if exponent >= 2 else symbols.rational(Fraction(exponent) / 2)
            r, e = Number.atom(atom, half), symbols.exp(factors[0][0].operands[0].scaled(half))
            quotient = Number({Number.product(monomial, ((atom, -2 * half),)): value})
            reduced = sum_of(x.without((monomial,)), product_of(quotient, r + r * e - e))
            if half == 1 or len(reduced) <= len(x):
                return _without_squares(reduced)
    return x


def symmetric(kind: str, function: Callable[[float], Any], sign: int) -> Callable[[Number], Number]:
    """Return an odd or even function on symbolic numbers, f(-x) = sign f(x), with one atom for both x and -x."""

    def normal(x: Number) -> Number:
        if x.value is not None:
            return symbols.of_constant(function, x.value)
        made = algebra_of(x).function
        return made(kind, -x).scaled(sign) if x.lead < 0 else made(kind, x)

    return normal


def relu(x: Number) -> Number:
    """Return max(x, 0) as c relu(x / c), where c > 0 is the size of x's leading coefficient; if that is negative, y +
    relu(-y) stands for relu(y). A product of factors that are never negative becomes x or 0."""
    if x.value is not None:
        return Number.constant(max(x.value, 0))
    if len(x) == 1:
        ((monomial, value),) = x.terms.items()
        if all(_not_negative(atom, exponent) for atom, exponent in monomial):
            return x if value > 0 else Number.constant(0)
    normal, algebra = x.over(abs(x.lead)), algebra_of(x)
    result = sum_of(normal, algebra.function("relu", -normal)) if x.lead < 0 else algebra.function("relu", normal)
    return result.scaled(abs(x.lead))


def _not_negative(atom: Atom, exponent: Rational) -> bool:
    return atom.kind in ("relu", "exp", "positive") or exponent % 2 == 0


def maximum(x: Number | float, y: Number | float) -> Number | float:
    """Return the larger of x and y, as x + relu(y - x). If x or y is a maximum itself, return the maximum of all values
    in both: the first value plus one function of the differences of the others from it."""
    if -np.inf in (x, y):  # padding outside of an image has this number
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
    result = sum_of(first, relu(gaps[0]) if len(gaps) == 1 else algebra.function("max", *gaps))
    if result.value is None:
        algebra.maxima[result] = (first, *others)
    return result


def positive(x: Number) -> Number:
    """Return 1 where x > 0, else 0. A factor c > 0 of x is left out. For c > 0, y + c max(a, b) is positive if y + c a
    or y + c b is; for c < 0, if both are."""
    if x.value is not None:
        return Number.constant(int(x.value > 0))
    if len(x) == 1:
        ((monomial, value),) = x.terms.items()
        if all(atom.kind == "exp" for atom, _ in monomial):
            return Number.constant(int(value > 0))
        if value < 0 and all(_not_negative(atom, exponent) for atom, exponent in monomial):
            return Number.constant(0)
    kinks = {atom: monomial for monomial in x.terms for atom, _ in monomial if atom.kind in ("relu", "max")}
    for atom, monomial in kinks.items() if len(kinks) <= MOST_KINKS else ():
        factor = x.terms[monomial]
        rest = x.without((monomial,))
        if monomial == ((atom, 1),) and not any(other is atom for each in rest.terms for other, _ in each):
            cases = (positive(sum_of(rest, operand.scaled(factor))) for operand in (Number(), *atom.operands))
            return product_of(*cases) if factor < 0 else 1 - product_of(*(1 - case for case in cases))
    return algebra_of(x).function("positive", x.over(abs(x.lead)))


# equality -------------------------------------------------------------------------------------------------------------


def equal(x: Number, y: Number) -> bool:
    """Return whether two numbers are proved equal: by their normal forms, or by the normal form of their difference
    after it is multiplied by its divisors and after sums that were made atoms are expanded, the youngest first."""
    gap = x - y
    if gap.terms and _differ_at_a_point(x, y):
        return False
    scale = max((abs(value) for each in (x, y) for value in each.terms.values()), default=1)
    while not all(abs(value) * 10**symbols.DIGITS <= scale for value in gap.terms.values()):
        least: dict[Atom, Rational] = {}
        for atom, exponent in chain.from_iterable(gap.terms):
            if atom.kind == "value" or (atom.kind == "power" and exponent < 0):
                least[atom] = min(least.get(atom, 0), exponent)
        if not least:
            return zero_by_cases(gap)
        atom = max(least)
        if len(gap) * len(atom.operands[0]) > atom.algebra.last:
            return False
        gap = _written_out(gap, atom, -least[atom])
    for algebra in (x.algebra, y.algebra) if gap.terms else ():
        if algebra is not None:
            algebra.rounded = True
    return True


def _written_out(x: Number, atom: Atom, exponent: Rational) -> Number:
    """Return x times atom ** exponent. An atom that stands for a sum is replaced by the sum."""
    algebra, largest = atom.algebra, atom.algebra.largest
    algebra.largest = MOST_WRITTEN_OUT
    try:
        product = x * Number.atom(atom, exponent) if exponent else x
        if atom.kind != "value":
            return product
        parts: dict[Rational, dict[Monomial, Rational]] = {}
        for monomial, by in product.terms.items():
            rest, power = tuple(factor for factor in monomial if factor[0] is not atom), dict(monomial).get(atom, 0)
            assert power.denominator == 1, "a root of a sum that is one atom"
            parts.setdefault(power, {})[rest] = by
        return sum_of(*(product_of(Number(part), *[atom.operands[0]] * int(power)) for power, part in parts.items()))
    finally:
        algebra.largest = largest


def _differ_at_a_point(x: Number, y: Number) -> bool:
    """Return whether two polynomials in atoms certainly differ at one point of fixed values: no identity makes these
    equal. Functions that appear in no identity count as symbols. All powers of a negative number use one root."""
    values: dict[Atom, complex] = {}

    def value(atom: Atom) -> complex:
        """Return the value of an atom at the point: by its meaning, or else chosen by its number."""
        if atom not in values:
            meaning = MEANINGS.get(atom.kind)
            if meaning is None:
                values[atom] = 0.4 + atom.number * GOLDEN_RATIO % 1
            else:
                values[atom] = complex(meaning(sum(terms(atom.operands[0]))))
        return values[atom]

    def terms(x: Number) -> list[complex]:
        return [float(by) * prod(value(atom) ** float(power) for atom, power in m) for m, by in x.terms.items()]

    with np.errstate(all="ignore"):
        try:
            ones, others = terms(x), terms(y)
        except (OverflowError, ZeroDivisionError):
            return False
    return bool(abs(sum(ones) - sum(others)) > SURE * sum(map(abs, ones + others)))


def zero_by_cases(x: Number) -> bool:
    """Return whether a number is 0 for every consistent outcome of its comparisons."""
    compared = dict.fromkeys(atom for each in x.terms for atom, _ in each if atom.kind == "positive")
    return 0 < len(compared) <= MOST_CASES and _is_zero(x, [*compared], {})


def _is_zero(x: Number, compared: Sequence[Atom], known: Mapping[Number, bool]) -> bool:
    """Return whether a number is 0 in each case of the comparisons ``compared``. A number in ``known`` is positive if
    its value there is true, and otherwise at least 0."""
    if not x.terms or not compared:
        return not x.terms
    atom, *others = compared
    atom.algebra.spend(len(x))
    for value, fact in ((1, atom.operands[0]), (0, -atom.operands[0])):
        facts = _with_sums(known, fact, bool(value))
        if facts is not None and not _is_zero(_replaced(x, atom, value), others, facts):
            return False
    return True


def _with_sums(known: Mapping[Number, bool], fact: Number, strict: bool) -> Mapping[Number, bool] | None:
    """Return the facts ``known`` with one more fact, and its sums with each of them; None if they contradict each
    other. ``strict``: the number ``fact`` is positive, not only at least 0."""
    facts = dict(known)
    for total, more in [(fact, strict), *((sum_of(fact, other), strict or each) for other, each in known.items())]:
        if total.value is None:
            facts[total] = facts.get(total, False) or more
        elif total.value < 0 or (more and total.value == 0):
            return None
    return facts


def _replaced(x: Number, atom: Atom, value: int) -> Number:
    """Return a number with ``value`` in place of an atom that is 0 or 1."""
    rest = {m: v for m, v in x.terms.items() if all(each is not atom for each, _ in m)}
    held = {tuple(f for f in m if f[0] is not atom): v for m, v in x.terms.items() if m not in rest}
    return sum_of(Number(rest), Number(held)) if value else Number(rest)
