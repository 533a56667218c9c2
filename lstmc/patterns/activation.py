"""Functions of gates that models write with several ops: the hard sigmoid, and what is clipped before it is put in."""

from __future__ import annotations

from lstmc.patterns.polynomial import Clip, Function, Polynomial
from lstmc.patterns.recognised import Activation, Clipped, HardSigmoid


def activation_of(function: Function) -> tuple[Activation, Polynomial] | None:
    """The function that a gate has, and what it is of; None where a bound is none of the hard sigmoid's."""
    if not isinstance(function.op, Clip):
        held = _held(function.operand)
        if held is None:
            return function.op, function.operand
        clip, low, inner = held
        return Clipped(function.op, low, low + clip.high), inner + Polynomial.constant(low)
    slopes = {value for monomial, value in function.operand if monomial}
    if function.op.high != 1 or len(slopes) != 1:
        return None
    (slope,) = slopes
    offset = sum(value for monomial, value in function.operand if not monomial)
    operand = Polynomial.of({monomial: 1.0 for monomial, _ in function.operand if monomial})
    held = _held(operand)
    if held is None:
        return HardSigmoid(slope, offset), operand
    clip, _, inner = held
    low = -clip.high / 2  # of both bounds together with the offset one is known; the usual ones are alike
    clipped = Clipped(HardSigmoid(slope, offset - slope * low), low, -low)
    return clipped, inner + Polynomial.constant(low)


def _held(formula: Polynomial) -> tuple[Clip, float, Polynomial] | None:
    """Of something held between bounds: how far they are apart, the lower one, and what is held less it."""
    low = sum(value for monomial, value in formula if not monomial)
    atoms = (formula - Polynomial.constant(low)).single
    if atoms is None or len(atoms) != 1 or not isinstance(atoms[0], Function):
        return None
    return (atoms[0].op, low, atoms[0].operand) if isinstance(atoms[0].op, Clip) else None
