"""Values: arithmetic is recorded and means what NumPy means; everything else is refused with a reason."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstmc import Input, Model, Value, model
from lstmc.dsl import value
from lstmc.dsl.value import LARGEST, finite
from lstmc.errors import DslError
from lstmc.interp import forward
from tests.dsl.conftest import UserFile, lines, outputs, random_arrays

A, B = Input(2, 3), Input(2, 3)


def computed(function: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """A function of two arrays [2, 3] as a model computes it, and as NumPy does."""

    @model
    def net(a: Any = A, b: Any = B) -> Any:
        return {"y": function(a, b)}

    arrays = random_arrays(net.graph())
    return outputs(net.graph(), arrays)["y"], function(arrays["a"], arrays["b"])


@pytest.mark.parametrize("number", [2, 0.5, np.float32(0.5), np.float64(2), np.int64(3)], ids=repr)
@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_a_number_may_stand_on_either_side(number: Any, operation: Callable[[Any, Any], Any]) -> None:
    for function in (lambda a, b: operation(a, number), lambda a, b: operation(number, a)):
        found, wanted = computed(function)
        np.testing.assert_allclose(found, wanted, rtol=1e-15)


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_two_values_combine_element_by_element(operation: Callable[[Any, Any], Any]) -> None:
    found, wanted = computed(operation)
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


@pytest.mark.parametrize("exponent", [2, 3, -1, 0.5, 0, np.float32(2), np.int32(3)], ids=repr)
def test_a_value_has_powers_of_numbers(exponent: Any) -> None:
    found, wanted = computed(lambda a, b: a**exponent)
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


def test_a_number_may_be_the_largest_of_float32() -> None:
    assert finite(LARGEST) == LARGEST == float(np.finfo(np.float32).max)
    with pytest.raises(DslError):
        finite(np.nextafter(LARGEST, np.inf))


def test_signs_and_absolute_values() -> None:
    found, wanted = computed(lambda a, b: -a + abs(a - 0.5) - (+b))
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


def test_sum_of_a_list_is_a_sum() -> None:
    found, wanted = computed(lambda a, b: sum([a, b, a]))
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


def test_augmented_assignment_makes_a_new_value() -> None:
    def double(a: Any, b: Any) -> Any:
        y = a * 1
        y += b
        y *= 2
        return y - a

    found, wanted = computed(double)
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


def seen(look: Callable[[Value], Any]) -> Any:
    found = []

    @model
    def net(a: Any = A) -> Any:
        found.append(look(a))
        return {"y": a}

    assert isinstance(net, Model)
    net.graph()
    return found[0]


def test_a_value_shows_its_name_its_type_and_its_shape() -> None:
    assert seen(lambda a: (repr(a), f"{a}", a.shape, str(a.type))) == (
        "<Value %a: f32[2,3]>",
        "<Value %a: f32[2,3]>",
        (2, 3),
        "f32[2,3]",
    )


def test_a_value_can_be_a_key_and_be_found_by_identity() -> None:
    assert seen(lambda a: ({a: 1}[a], a in [a])) == (1, True)


def test_what_tools_look_for_is_absent_in_the_ordinary_way() -> None:
    assert seen(lambda a: hasattr(a, "_repr_html_")) is False
    assert seen(lambda a: getattr(a, "__wrapped__", None)) is None


BODY = """\
@cell
def rnn(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H)):
    {statement}
    return h, {{"h": h}}

@model
def net(X=Input(T, N, D)):
    y, last = scan(rnn(H=4), X)
    return y
"""
FUNCTIONS = ", ".join(value.FUNCTIONS)
TRUTH = (
    "a Value has no truth value: the function is traced once, before there are numbers, so `if`, `while`, `and`, `or`"
    " and `not` cannot look at it. Write where(step(x), a, b): a where x > 0, else b"
)
LOOPED = (
    "a Value cannot be looped over, unpacked or searched: write split(x, parts) for its pieces, or scan(cell, x) in a"
    " model to run a cell over time"
)
COMPARED = (
    "Values cannot be compared, as there are no numbers yet. A mask, 1 where a {} b and else 0, is {};"
    " where(mask, x, y) chooses by it, and maximum(a, b) is the larger one"
)
GREATER, LESS = COMPARED.format(">", "step(a - b)"), COMPARED.format("<", "step(b - a)")
AT_MOST = COMPARED.format("<=", "1 - step(a - b)")
EQUAL, UNEQUAL = COMPARED.format("==", "1 - step(abs(a - b))"), COMPARED.format("!=", "step(abs(a - b))")
NUMBER = (
    "a Value has no number yet: float() and Python's math cannot take it. Use it in expressions, as in 2 * x, and by"
    " lstmc's functions, as in tanh(x)"
)
INTEGER = "a Value has no number yet: int() cannot take it. Use it in expressions; floor(x) and round(x) are integers"
INDEX = (
    "a Value has no number yet: range(), a shape and an index of a list cannot take it. A size is x.shape[0]; the"
    " element of an array x of K elements at the place i is sum(one_hot(i, K) * x, -1)"
)
FORMAT = 'a Value has no number yet: a format such as :.3f cannot take it. print(x) and f"{x}" show its name and shape'
OPERATION = (
    "{} is no operation on Values. For masks of 0 and 1, write a * b for 'and', maximum(a, b) for 'or', abs(a - b) for"
    " 'exclusive or', 1 - a for 'not'"
)
ARRAY_OF = (
    "a Value cannot become a NumPy array, as there are no numbers yet: write lstmc's own functions, as in tanh(x), and"
    " stack(a, b) or concat(a, b) for an array of several"
)
MATMUL = "@ takes Values on both sides: an array is declared as an Input or a Param"
TAKES = "{} takes a Value or a number, found {}"
ARRAY = "a NumPy array (write const(it), or declare it as an Input or a Param)"
FINITE = "a scalar must be a finite float32 number, found {}"
DIVISOR = "/ takes a divisor whose inverse is finite, found {}"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        # Python that needs the truth of a value
        ("if «h»: pass", TRUTH),
        ("while «h»: pass", TRUTH),
        ("z = x if «h» else h", TRUTH),
        ("z = «h and x»", TRUTH),
        ("z = «h or x»", TRUTH),
        ("z = «not h»", TRUTH),
        ("assert «h»", TRUTH),
        ("z = «any([h])»", TRUTH),
        # ... or its elements
        ("for v in «h»: pass", LOOPED),
        ("a, b = «h»", LOOPED),
        ("z = «[*h]»", LOOPED),
        ("z = «list(h)»", LOOPED),
        ("z = «sorted(h)»", LOOPED),
        ("z = «3 in h»", LOOPED),
        ("z = «len(h)»", "a Value has no length: write x.shape[0]"),
        ("«h[0]» = 1", "a Value cannot be changed: build the new one, for instance with split and concat"),
        ("del «h[0]»", "a Value cannot be changed: build the new one, for instance with split and concat"),
        # ... or compares it
        ("z = «h > 0»", GREATER),
        ("if «h <= x»: pass", AT_MOST),
        ("z = «h == x»", EQUAL),
        ("z = «0 != h»", UNEQUAL),
        ("z = «np.float64(0) < h»", GREATER),
        ("z = «sorted([h, x])»", LESS),
        ("z = «h in [x]»", EQUAL),
        # ... or needs a number
        ("z = «float(h)»", NUMBER),
        ("z = «int(h)»", INTEGER),
        ("z = «complex(h)»", NUMBER),
        (
            "z = «round(h, 2)»",
            "round takes a Value alone, found 2 digits: write round(x * 100) / 100 for two",
        ),
        ("z = «range(h)»", INDEX),
        ("z = «math.tanh(h)»", NUMBER),
        ("z = «math.ceil(h)»", NUMBER),
        ("z = «[1, 2][h]»", INDEX),
        ("z = «format(h, '.3f')»", FORMAT),
        # operators there are not, or not for these operands
        ("z = «h % 0»", "mod: expected a divisor that is not 0"),
        ("z = «h // None»", "// takes Values, found None"),
        ("z = «np.eye(4) @ h»", MATMUL),
        ("z = «h & x»", OPERATION.format("&")),
        ("z = «~h»", OPERATION.format("~")),
        (
            "z = «h ** x»",
            "** takes a number on the right, found a Value: a ** b is exp(b * log(a))",
        ),
        (
            "z = «2 ** h»",
            "** takes a number on the right, found a Value there: 2 ** x is exp(x * math.log(2))",
        ),
        # operands there are not
        ("z = «h + 'a'»", TAKES.format("+", "str 'a'")),
        ("z = «h - None»", TAKES.format("-", "None")),
        ("z = «[1] + h»", TAKES.format("+", "list [1]")),
        ("z = «h * True»", TAKES.format("*", "True")),
        ("z = «h * 1j»", TAKES.format("*", "complex 1j")),
        ("z = «h / 'a'»", TAKES.format("/", "str 'a'")),
        ("z = «'a' / h»", TAKES.format("/", "str 'a'")),
        ("z = «h + np.eye(4)»", TAKES.format("+", ARRAY)),
        ("z = «np.eye(4) + h»", TAKES.format("+", ARRAY)),
        ("z = «np.eye(4) / h»", TAKES.format("/", ARRAY)),
        ("z = «h * H»", TAKES.format("*", "dimension H (for its number write x.shape[axis])")),
        ("z = «h + math.inf»", FINITE.format("inf")),
        ("z = «math.nan * h»", FINITE.format("nan")),
        ("z = «h * 1e300»", FINITE.format("1e+300")),
        ("z = «h * 10**400»", FINITE.format("100000000000000000...0000000000000000000")),
        ("z = «h ** math.inf»", FINITE.format("inf")),
        ("z = «h / 0»", DIVISOR.format("0")),
        ("z = «h / 0.0»", DIVISOR.format("0.0")),
        ("z = «h / 1e-320»", DIVISOR.format("1e-320")),
        # attributes
        ("z = «h.var»()", "a Value has no attribute 'var': write var(x)"),
        ("z = «h.chunk»(2)", "a Value has no attribute 'chunk': write split(x, parts)"),
        (
            "z = h.mean(«dim=0»)",
            "mean has no argument dim: write axis=; it is mean(x, axis=None, *, keepdims=False)",
        ),
        ("z = «h.ndim»", "a Value has no attribute 'ndim': write len(x.shape)"),
        ("z = «h.data»", "a Value has no attribute 'data': write x itself, or stop_gradient(x)"),
        ("z = «h.softmx»()", "a Value has no attribute 'softmx': did you mean softmax?"),
        ("z = «h.qqq»()", "a Value has no attribute 'qqq': docs/language.md has the functions"),
        (
            "import lstmc; z = lstmc.softmax(h, «dim=-1»)",
            "softmax has no argument dim: write axis=; it is softmax(x, axis=-1)",
        ),
        ("«h.mask» = x", "a Value takes no attributes, found 'mask': keep what belongs to it in a variable"),
        # NumPy
        ("z = «np.tanh(h)»", "NumPy's tanh cannot take a Value: write tanh(x)"),
        ("z = «np.maximum(h, 0)»", "NumPy's maximum cannot take a Value: write maximum(a, b)"),
        ("z = «np.where(h, h, x)»", "NumPy's where cannot take a Value: write where(m, a, b)"),
        (
            "z = «np.concatenate([h, x])»",
            "NumPy's concatenate cannot take a Value: write concat(a, b)",
        ),
        ("z = «np.sum(h)»", "NumPy's sum cannot take a Value: write sum(x, axis=0)"),
        ("z = «np.std(h)»", "NumPy's std cannot take a Value: write var(x, axis=0) ** 0.5"),
        ("z = «np.roll(h, 1)»", "NumPy's roll cannot take a Value: write concat(x[-n:], x[:-n], axis=0)"),
        ("z = «np.convolve(h, h)»", "NumPy's convolve cannot take a Value: did you mean conv?"),
        ("z = «np.fft.fft(h)»", "NumPy's fft cannot take a Value: docs/language.md has the functions"),
        ("z = «np.sinc(h)»", "NumPy's sinc cannot take a Value: did you mean sin?"),
        ("z = «np.max(h, -1)»", "NumPy's max cannot take a Value: write max(x, axis=-1)"),
        # PyTorch
        ("import torch; z = «torch.cat([h, h])»", "PyTorch's cat cannot take a Value: write concat(a, b)"),
        ("import torch; z = «torch.nn.functional.silu(h)»", "PyTorch's silu cannot take a Value: write silu(x)"),
        ("import torch; z = «torch.sigmoid(h)»", "PyTorch's sigmoid cannot take a Value: write sigmoid(x)"),
        ("z = «np.add.reduce(h)»", "NumPy's add.reduce cannot take a Value: write sum(x, axis=0)"),
        ("z = «np.asarray(h)»", ARRAY_OF),
        ("z = «np.array([h, h])»", ARRAY_OF),
    ],
)
def test_what_a_value_is_not(user: UserFile, marked: str, message: str) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    assert user.refused(BODY.format(statement=statement)) == lines(
        f"DslError: {message}",
        f"  user.py:7:{start + 5} in cell 'rnn'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        "  cell 'rnn' is scanned at user.py:12",
    )


def test_values_whose_shapes_do_not_fit_are_named_with_where_they_come_from(user: UserFile) -> None:
    assert user.refused(BODY.format(statement="h = tanh(linear(x, W) + x)")) == lines(
        "ShapeError: add: shapes do not fit: x is f32[2,4], y is f32[2,5]",
        "  user.py:7:14 in cell 'rnn'",
        "    h = tanh(linear(x, W) + x)",
        "             ^^^^^^^^^^^^^^^^",
        "  x is linear(x, W): f32[2,4], made at user.py:7",
        "  y is x: input [N, D], declared at user.py:6",
        "  cell 'rnn' is scanned at user.py:12",
    )


def test_a_span_over_several_lines_is_marked_to_the_end_of_its_first(user: UserFile) -> None:
    code = BODY.format(statement="h = tanh(\n        linear(\n            x, W\n        ) + x\n    )")
    assert user.refused(code) == lines(
        "ShapeError: add: shapes do not fit: x is f32[2,4], y is f32[2,5]",
        "  user.py:8:9 in cell 'rnn'",
        "    linear(",
        "    ^^^^^^^",
        "  x is linear_W: f32[2,4], made at user.py:8",
        "  y is x: input [N, D], declared at user.py:6",
        "  cell 'rnn' is scanned at user.py:16",
    )


def test_carets_count_characters_not_bytes(user: UserFile) -> None:
    statement = "é = 'ü'; z = tanh(é)"
    assert user.refused(BODY.format(statement=statement)) == lines(
        "DslError: tanh takes Values, found str 'ü'",
        "  user.py:7:25 in cell 'rnn'",
        f"    {statement}",
        "                      ^",
        "  cell 'rnn' is scanned at user.py:12",
    )


def test_what_means_one_thing_wherever_it_comes_from_works(user: UserFile) -> None:
    guesses = {
        "x.T": "x.T",
        "x.mean()": "x.mean()",
        "x.sum(0)": "x.sum(0)",
        "x.max(axis=1)": "x.max(axis=1)",
        "max(x, 2 * x)": "np.maximum(x, 2 * x)",
        "max(0, x)": "np.maximum(0, x)",
        "min(x, 0.5, -x)": "np.minimum(np.minimum(x, 0.5), -x)",
        "x.reshape(5, -1)": "x.reshape(5, -1)",
        "x.view(10)": "x.reshape(10)",
        "x.tanh()": "np.tanh(x)",
        "x.pow(2)": "x ** 2",
        "x @ x.T": "x @ x.T",
        "sum(x, axis=None)": "np.sum(x)",
        "mean(x, -1)": "np.mean(x, -1)",
    }
    returned = ", ".join(f'"out_{i}": {text}' for i, text in enumerate(guesses))
    x = np.random.default_rng(0).normal(size=(2, 5))
    made = user.module(f"@model\ndef net(x=Input(2, 5)):\n    return {{{returned}}}\n").net
    found = forward(made.graph(), {"x": x}).outputs
    for i, (text, numpy_text) in enumerate(guesses.items()):
        np.testing.assert_allclose(found[f"out_{i}"], eval(numpy_text, {"np": np, "x": x}), err_msg=text)
