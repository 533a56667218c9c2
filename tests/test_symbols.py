"""Normal forms: each identity holds for numbers, and what is no identity is not proved."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lstmc.verification.functions import equal, positive, zero_by_cases
from lstmc.verification.proof import FUNCTIONS, as_symbolic, symbols
from lstmc.verification.symbols import Algebra, BudgetExceeded, NoRule, Number, rational

VALUES = dict(zip("abc", (0.7310585786, -1.3132616875, 0.4187219083), strict=True))
NEAR_A_KINK = 1e-7
LOGICAL = {"bitwise_and", "bitwise_or", "invert"}


def evaluated(number: Number) -> float:
    """The value of a normal form, from what its atoms mean."""

    @cache
    def of(atom: Any) -> float:
        operands = [total(each) for each in atom.operands]
        match atom.kind:
            case "symbol":
                return VALUES[atom.name]
            case "max":
                return max(0.0, *operands)
            case "relu":
                return max(0.0, *operands)
            case "positive":
                return float(operands[0] > 0)
            case "power" | "value":
                return operands[0]
            case kind:
                return float(getattr(np, kind)(operands[0]))

    def total(polynomial: Number) -> float:
        factors = ([of(atom) ** float(exponent) for atom, exponent in monomial] for monomial in polynomial.terms)
        values = map(float, polynomial.terms.values())
        return sum(value * math.prod(each) for value, each in zip(values, factors, strict=True))

    return total(number)


@st.composite
def expressions(draw: Any, depth: int = 4) -> Any:
    """A nested tuple: the name of a symbol, a constant, or a function of NumPy with its operands."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(["a", "b", "c", 2.0, -0.5, 0.3]))
    one = st.deferred(lambda: expressions(depth - 1))
    name = draw(
        st.sampled_from([*sorted(FUNCTIONS.keys() - LOGICAL), "add", "subtract", "multiply", "true_divide", "negative"])
    )
    if name in ("log", "log1p", "sqrt"):
        return name, ("add", 0.3, ("multiply", (square := draw(one)), square))
    if name == "power":
        exponent = draw(st.sampled_from([-2.0, -1.0, -0.5, 0.5, 1.5, 2.0, 3.0]))
        return name, ("add", 0.3, ("multiply", (square := draw(one)), square)), exponent
    if name in ("tanh", "rint", "sin", "cos", "exp", "expm1", "absolute", "negative", "isnan"):
        return name, draw(one)
    return name, draw(one), draw(one)


def computed(expression: Any, value: Callable[[Any], Any], check: bool = False) -> Any:
    """An expression by NumPy, with ``value`` applied to leaves and results.

    With ``check`` no operand may be so near to a kink that rounding decides.
    """
    if not isinstance(expression, tuple):
        return value(expression)
    name, *operands = expression
    values = [computed(each, value, check) for each in operands]
    if check:
        x = values[0]
        assume(all(abs(value) < 50 for value in values))
        if name in ("maximum", "minimum", "greater", "less", "greater_equal", "less_equal", "equal", "not_equal"):
            assume(abs(x - values[1]) > NEAR_A_KINK or operands[0] == operands[1])
        if name == "rint":
            assume(abs(x - math.floor(x) - 0.5) > NEAR_A_KINK)
        if name == "true_divide":
            assume(abs(values[1]) > 1e-2)
        if name == "absolute":
            assume(abs(x) > NEAR_A_KINK)
    return value(getattr(np, name)(*values))


@given(expressions(), st.sampled_from([(1, 1), (1, None), (800, None)]))
def test_a_normal_form_has_the_value_of_its_expression(expression: Any, limits: tuple[int, int | None]) -> None:
    def number_of(each: Any) -> np.float64:
        return np.float64(VALUES[each] if isinstance(each, str) else each)

    wanted = float(computed(expression, number_of, check=True))
    assume(abs(wanted) < 1e6)
    algebra = Algebra(20_000, *limits)
    leaves = {name: symbols(algebra, name, ()) for name in VALUES}
    try:
        number = computed(expression, lambda x: as_symbolic(leaves[x] if isinstance(x, str) else x, algebra))
    except (BudgetExceeded, NoRule):
        assume(False)
    assert evaluated(Number.of(number.item())) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def numbers(count: int = 3) -> list[Any]:
    algebra = Algebra()
    return [symbols(algebra, name, ()) for name in "abc"[:count]]


IDENTITIES: dict[str, Callable[..., tuple[Any, Any]]] = {
    "products": lambda a, b, c: ((a + b) * (a - b), a * a - b * b),
    "quotients": lambda a, b, c: ((a / b) * (b / c), a / c),
    "sums over one divisor": lambda a, b, c: (a / (b + c) + b / (b + c) + c / (b + c), 1 + a / (b + c)),
    "roots": lambda a, b, c: (np.sqrt(a * a + b) ** 3 / (a * a + b), np.sqrt(a * a + b)),
    "tanh is odd": lambda a, b, c: (np.tanh(a - b), -np.tanh(b - a)),
    "sin is odd, cos is even": lambda a, b, c: (np.sin(a - b) * np.cos(a - b), -np.sin(b - a) * np.cos(b - a)),
    "exponentials": lambda a, b, c: (np.exp(a + b) * np.exp(c - b), np.exp(a + c)),
    "exponentials past all floats": lambda a, b, c: (np.exp(a - 1e30) * np.exp(b + 1e30), np.exp(a + b)),
    "softmax without its maximum": lambda a, b, c: (
        np.exp(a - np.maximum(a, b)) / (np.exp(a - np.maximum(a, b)) + np.exp(b - np.maximum(a, b))),
        np.exp(a) / (np.exp(a) + np.exp(b)),
    ),
    "logarithms": lambda a, b, c: (np.logaddexp(a, b), a + np.log1p(np.exp(b - a))),
    "softplus of no large number": lambda a, b, c: (
        np.maximum(a - b, 0) + np.log1p(np.exp(-np.absolute(a - b))),
        np.log1p(np.exp(a - b)),
    ),
    "softplus of a half": lambda a, b, c: (
        np.maximum((a - b) / 2, 0) + np.log1p(np.exp(-np.absolute((a - b) / 2))),
        np.log1p(np.exp((a - b) / 2)),
    ),
    "the slope of softplus": lambda a, b, c: (np.exp(a - np.logaddexp(a, 0)), np.exp(a) / (1 + np.exp(a))),
    "the root of a sigmoid": lambda a, b, c: (np.sqrt((1 + np.tanh(a / 2)) / 2), np.exp(-np.log1p(np.exp(-a)) / 2)),
    "the logarithm of a sigmoid": lambda a, b, c: (
        np.log((1 - np.tanh(a / 2)) * np.exp(b)),
        np.log(2) + b - np.log1p(np.exp(a)),
    ),
    "exp by tanh": lambda a, b, c: ((1 + 2 * np.tanh(a / 4) / (1 - np.tanh(a / 4))) ** 2, np.exp(a)),
    "exp of a maximum by tanh": lambda a, b, c: (
        (1 + 2 * np.tanh(np.maximum(a, b) / 8) / (1 - np.tanh(np.maximum(a, b) / 8))) ** 4,
        np.exp(np.maximum(b, a)),
    ),
    "exp by a sigmoid": lambda a, b, c: (np.exp(a - b) * (1 - np.tanh((a - b) / 2)), 1 + np.tanh((a - b) / 2)),
    "exp of a sum by tanh": lambda a, b, c: (
        (1 + np.tanh(a + b)) / (1 - np.tanh(a + b)) * np.exp(c),
        np.exp(2 * a + 2 * b + c),
    ),
    "relu of a multiple": lambda a, b, c: (np.maximum(3 * a, 0), 3 * np.maximum(a, 0)),
    "relu of a negative": lambda a, b, c: (np.maximum(-a, 0), np.maximum(a, 0) - a),
    "absolute values": lambda a, b, c: (np.abs(a - b), np.maximum(a, b) - np.minimum(a, b)),
    "maxima in another order": lambda a, b, c: (np.maximum(a, np.maximum(b, c)), np.maximum(np.maximum(c, b), a)),
    "max pooling's shares": lambda a, b, c: ((a > b) | ~(a > b) & (c > a), (a > b) | (c > a) & ~(a > b)),
    "larger than a maximum": lambda a, b, c: (a > np.maximum(b, c), (a > b) & (a > c)),
    "a maximum that is larger": lambda a, b, c: (np.maximum(np.maximum(a, b), c) > a, (b > a) | (c > a)),
    "an absolute value is larger": lambda a, b, c: (np.abs(a) > b, (a > b) | (-a > b)),
    "one of two is larger": lambda a, b, c: (((a > b) & (b > a)) * c, 0 * c),
    "one of three is the largest": lambda a, b, c: ((a > b) & (b > c) & (a > c), (a > b) & (b > c)),
    "rounded constants": lambda a, b, c: (0.1 * 3 * np.tanh(a * (1 / 3)), 0.3 * np.tanh(a / 3)),
}
FALSE: dict[str, Callable[..., tuple[Any, Any]]] = {
    "tanh of a multiple": lambda a, b, c: (np.tanh(2 * a), 2 * np.tanh(a)),
    "tanh is not even": lambda a, b, c: (np.tanh(-a), np.tanh(a)),
    "exp of a product": lambda a, b, c: (np.exp(a * b), np.exp(a) * np.exp(b)),
    "exp by another tanh": lambda a, b, c: ((1 + 2 * np.tanh(a / 4) / (1 - np.tanh(a / 4))) ** 4, np.exp(a)),
    "exp of a minimum by tanh": lambda a, b, c: (
        (1 + 2 * np.tanh(np.minimum(a, b) / 8) / (1 - np.tanh(np.minimum(a, b) / 8))) ** 4,
        np.exp(np.maximum(b, a)),
    ),
    "exp by another sigmoid": lambda a, b, c: (np.exp(a + b) * (1 - np.tanh((a - b) / 2)), 1 + np.tanh((a - b) / 2)),
    "log of a sum": lambda a, b, c: (np.log(a + b), np.log(a) + np.log(b)),
    "softplus of two numbers": lambda a, b, c: (
        np.maximum(a / 2, 0) + np.log1p(np.exp(-np.absolute(a))),
        np.log1p(np.exp(a / 2)),
    ),
    "the root of a square": lambda a, b, c: (np.sqrt(a * a), a),
    "the root of a product": lambda a, b, c: (np.sqrt(a * b), np.sqrt(a) * np.sqrt(b)),
    "relu of a negative multiple": lambda a, b, c: (np.maximum(-2 * a, 0), -2 * np.maximum(a, 0)),
    "relu of a product": lambda a, b, c: (np.maximum(a * b, 0), np.maximum(a, 0) * np.maximum(b, 0)),
    "a maximum of more": lambda a, b, c: (np.maximum(a, b), np.maximum(np.maximum(a, b), c)),
    "positive at 0": lambda a, b, c: (a > 0, a >= 0),
    "one of two is larger, also if they are equal": lambda a, b, c: ((a > b) | (b > a), (a > b) | (a <= b)),
    "one of three is larger": lambda a, b, c: ((a > b) & (b > c), a > c),
    "larger than one of two": lambda a, b, c: (a > np.maximum(b, c), (a > b) | (a > c)),
    "the root of another sigmoid": lambda a, b, c: (np.sqrt((1 + np.tanh(a)) / 2), np.exp(-np.log1p(np.exp(-a)) / 2)),
    "the root of no sigmoid": lambda a, b, c: (np.sqrt((1 + np.tanh(a / 2)) / 3), np.exp(-np.log1p(np.exp(-a)) / 2)),
    "round of a sum": lambda a, b, c: (np.rint(a + b), np.rint(a) + np.rint(b)),
    "another constant": lambda a, b, c: (0.1 * a, 0.100001 * a),
    "a lost term": lambda a, b, c: (a + b, a),
    "swapped operands": lambda a, b, c: (a - b, b - a),
    "a divisor": lambda a, b, c: (a / (b + c), a / b + a / c),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_are_proved(name: str) -> None:
    one, other = IDENTITIES[name](*numbers())
    assert equal(Number.of(one.item()), Number.of(other.item()))


@pytest.mark.parametrize("name", FALSE)
def test_what_is_no_identity_is_not_proved(name: str) -> None:
    one, other = FALSE[name](*numbers())
    assert not equal(Number.of(one.item()), Number.of(other.item()))


def test_a_long_factor_is_one_atom_and_its_product_is_still_proved() -> None:
    algebra = Algebra(largest=4)
    a, b, c = (symbols(algebra, name, ()).item() for name in "abc")
    long = (a + b + c) * (a - b)  # 6 products of terms
    assert len(long) == 2
    assert equal(long, (a + b + c) * (a - b))
    assert not equal(long, (a + b + c) * (a + b))


def test_one_atom_stands_for_a_sum_without_what_its_terms_share() -> None:
    algebra = Algebra(largest=1)
    a, b, c = (symbols(algebra, name, ()).item() for name in "abc")
    product = (a * a * b * 2 + a * b * 6 / c) * (b + c)
    assert len(product) == 2
    assert equal(product, a * ((a * c + 3) * (b * b + b * c) / c * 2))
    assert not equal(product, a * ((a * c + 4) * (b * b + b * c) / c * 2))
    long = sum((a**n for n in range(10)), b)
    assert len((long + c) * (long - c)) == 1


def test_a_long_value_is_one_atom_that_has_its_factor() -> None:
    algebra = Algebra(longest=2)
    a, b, c = (symbols(algebra, name, ()).item() for name in "abc")
    long = as_symbolic(np.array([a + b, a + b + c, 2 * (a + b + c) * a]), algebra)
    assert [len(each) for each in long] == [2, 1, 1]
    assert equal(long[1] * a * 2, long[2])
    assert len(long[1] - c) == 2  # what an atom is of is looked into at the end alone
    assert equal(long[1] - c, long[0])
    assert not equal(long[1] - c, 2 * long[0])


def test_comparisons_by_cases_are_charged_to_the_budget() -> None:
    algebra = Algebra()
    a, b, *others = symbols(algebra, "x", (32,)).tolist()
    never = positive(a - b) * positive(b - a) * sum(others)
    budget = algebra.budget
    assert zero_by_cases(never)
    assert budget - algebra.budget >= 2 * len(never)


def test_what_differs_at_a_point_is_not_multiplied_out() -> None:
    algebra = Algebra()
    x, y = (sum(1 / (sum(symbols(algebra, f"x{n}", (9,))) + more) for n in range(4)) for more in (1, 2))
    budget = algebra.budget
    assert not equal(x, y)
    assert budget - algebra.budget <= len(x) + len(y)


def test_long_sums_in_other_words_are_proved() -> None:
    """A sum that is one atom is a divisor on one side, and parts of it are atoms on the other side."""
    algebra = Algebra(largest=1)
    a, b, c, d = symbols(algebra, "x", (4,)).tolist()
    one = (a + b + c) * (c + d) / ((a + b) * (c - d))
    parts = ((a + b) * (c + d) + c * c + c * d) / (a * (c - d) + b * c - b * d)
    assert equal(one, parts)
    assert not equal(one, parts + a - 2 * a)
    assert algebra.largest == 1


def test_a_proof_ends_when_its_budget_is_spent() -> None:
    algebra = Algebra(budget=100)
    total = sum(symbols(algebra, "x", (8,)))
    with pytest.raises(BudgetExceeded):
        total**4


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30))
def test_a_constant_is_the_simplest_fraction_within_its_rounding(value: float) -> None:
    found = rational(value)
    if abs(value) < 2.0**-120:
        assert found == 0
    else:
        assert abs(found - Fraction(value)) <= abs(Fraction(value)) / 2**50
        assert Fraction(found).denominator <= Fraction(value).denominator


@pytest.mark.parametrize(("value", "wanted"), [(0.1, "1/10"), (0.1 * 3, "3/10"), (-1 / 3, "-1/3"), (2.5, "5/2")])
def test_constants_as_people_write_them(value: float, wanted: str) -> None:
    assert rational(value) == Fraction(wanted)


def test_what_symbols_cannot_do_is_an_error() -> None:
    a, _, _ = numbers()
    array = symbols(Algebra(), "x", (3,))
    for wrong in (
        lambda: int(a.item()),
        lambda: array.argmax(),
        lambda: a * np.inf,
        lambda: as_symbolic(np.zeros(1), Algebra()) ** -1,
    ):
        with pytest.raises(NoRule):
            wrong()
