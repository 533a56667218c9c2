"""The functions of each element that random bodies draw from, by how they behave."""

from __future__ import annotations

from collections.abc import Callable

# (expression of one value, the bound of its result from the operand's); the count of ops is taken from the text
Functions = tuple[tuple[str, Callable[[float], float]], ...]
SMOOTH: Functions = (
    ("sigmoid({})", lambda x: 1),
    ("tanh({})", lambda x: 1),
    ("exp(tanh({}))", lambda x: 2.8),
    ("softplus({})", lambda x: x + 0.7),
    ("sin(2 * {})", lambda x: 1),  # a larger factor in a recurrence multiplies rounding at each step
    ("cos({})", lambda x: 1),
    ("log(sigmoid({}) + 0.5)", lambda x: 0.7),
    ("power(sigmoid({}) + 0.5, 1.5)", lambda x: 1.9),
    ("power(sigmoid({}) + 0.5, -1)", lambda x: 2),
    ("power(sigmoid({}) + 0.5, 0.5)", lambda x: 1.3),
    ("1 / (1.5 + tanh({}))", lambda x: 2),
    ("stop_gradient({})", lambda x: x),
    ("dropout({}, 0.25)", lambda x: x),
)
SCALED: Functions = (
    ("{} * 0.5", lambda x: x / 2),
    ("2 * {}", lambda x: 2 * x),
    ("{} / 2", lambda x: x / 2),
    ("1 - {}", lambda x: x + 1),
    ("{} - 0.25", lambda x: x + 0.25),
    ("0.5 + {}", lambda x: x + 0.5),
    ("-{}", lambda x: x),
    ("{} * 0", lambda x: 0),
    ("{} + 0", lambda x: x),
    ("power({}, 1)", lambda x: x),
    ("power({}, 0)", lambda x: 1),
)
POLYNOMIAL: Functions = (("power({}, 2)", lambda x: x**2), ("{} ** 3", lambda x: x**3))
KINKED: Functions = (
    ("relu({})", lambda x: x),
    ("leaky_relu({}, 0.2)", lambda x: x),
    ("clip({}, -0.5, 0.25)", lambda x: 0.5),
    ("abs({})", lambda x: x),
    ("elu({})", lambda x: x),
    ("elu({}, 0.7)", lambda x: x),
    ("log(abs({}) + 0.5)", lambda x: 2),
)
# Integers: of raw values, and moved away from where exact ones jump, so that float32 lands on the same side.
WHOLE: Functions = (
    ("floor({} + 0.137)", lambda x: x + 1.2),
    ("({} + 0.137) // 0.5", lambda x: 2 * x + 1.3),
    ("mod({} + 0.137, 0.75)", lambda x: 0.75),
    ("({} - 0.137) % -2", lambda x: 2),
)
OPS_OF_WHOLE = 6  # about
# Of the number of the step, at most 5, and exact where it is made whole; with a bound.
STEP_INDEX = (
    ("step_index()", 5.0),
    ("0.3 * step_index()", 1.5),
    ("step_index() % 3", 2.0),
    ("floor(step_index() / 2)", 2.0),
)
# What is made of several ops, which only the fuzzer of readers draws: with the count of ops, of values away from zero.
COMPOSED: tuple[tuple[str, Callable[[float], float], int], ...] = (
    ("gelu({})", lambda x: x, 4),
    ("silu({})", lambda x: x, 2),
    ("softsign({})", lambda x: 1, 4),
    ("hard_sigmoid({})", lambda x: 1, 3),
    ("hard_tanh({})", lambda x: 1, 4),
    ("log_sigmoid({})", lambda x: x + 0.7, 3),
    ("log(softmax({}) + 0.1)", lambda x: 2.4, 3),
    ("rsqrt({} ** 2 + 0.5)", lambda x: 1.5, 3),
    ("rms_norm({}, eps=0.5)", lambda x: 2, 5),
    ("l2_norm({}, eps=0.5)", lambda x: 1, 5),
)
# What jumps, of raw values alone: the fuzzer of readers draws these too.
JUMPING: Functions = (
    ("step({})", lambda x: 1),
    ("step({} - 0.3) - 0.5", lambda x: 0.5),
    ("where(step({}), 0.5, 2.0)", lambda x: 2),
)
