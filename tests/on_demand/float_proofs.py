"""``python -m tests.on_demand.float_proofs`` (``make proofs``): claims on float32, proved for all values by z3.

Each claim is of every float32, rounded to nearest as processors do. Where one is documented up to a limit, the solver
also finds a float beyond it for which it is false: the limit is exact.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import z3

from lstmc_caffe.ops import RoundingPower
from lstmc_caffe.rows.functions import NO_SHIFT

FLOAT, NEAREST = z3.Float32(), z3.RNE()
x = z3.FP("x", FLOAT)


def number(value: float) -> z3.FPNumRef:
    return z3.FPVal(value, FLOAT)


def within(low: float, high: float) -> z3.BoolRef:
    size = z3.fpAbs(x)
    return z3.And(z3.fpLEQ(number(low), size), z3.fpLEQ(size, number(high)))


def claims() -> Iterator[tuple[str, z3.BoolRef, bool]]:
    """Each claim in words and as a formula, and whether it is true."""
    shift, whole = number(RoundingPower.shift), z3.fpRoundToIntegral(NEAREST, x)
    shifted = z3.fpAdd(NEAREST, x, shift)
    exact, back = z3.fpEQ(shifted, z3.fpAdd(NEAREST, whole, shift)), z3.fpEQ(z3.fpSub(NEAREST, shifted, shift), whole)
    yield "x + shift is shift + round(x), |x| up to 2**22", z3.Implies(within(0, 2**22), exact), True
    yield "x + shift - shift is round(x), |x| up to 2**22", z3.Implies(within(0, 2**22), back), True
    yield "x + shift - shift is round(x), |x| up to 2**22 + 1", z3.Implies(within(0, 2**22 + 1), back), False
    half = z3.fpMul(NEAREST, x, number(0.5))
    even = z3.fpSub(NEAREST, z3.fpAdd(NEAREST, half, shift), shift)
    odd = z3.fpSub(NEAREST, x, z3.fpMul(NEAREST, number(2), even))
    parity = z3.Or(*(z3.fpEQ(odd, number(each)) for each in (-1, 0, 1)))
    yield (
        "k - 2 round(k / 2) is -1, 0 or 1, whole k up to 2**22",
        z3.Implies(z3.And(within(0, 2**22), z3.fpEQ(whole, x)), parity),
        True,
    )
    lost, largest = z3.fpEQ(z3.fpAdd(NEAREST, x, number(NO_SHIFT)), x), 2.0**127
    yield "x + NO_SHIFT is x, |x| from 2**-101 on", z3.Implies(within(2.0**-101, largest), lost), True
    yield "x + NO_SHIFT is x, |x| from 2**-102 on", z3.Implies(within(2.0**-102, largest), lost), False


def main() -> int:
    failed = 0
    for text, formula, true in claims():
        started, solver = time.monotonic(), z3.Solver()
        solver.add(z3.Not(formula))
        found = solver.check()
        right = found == (z3.unsat if true else z3.sat)
        failed += not right
        how = "proved" if found == z3.unsat else f"false for x = {solver.model()[x]}" if found == z3.sat else "unknown"
        seconds = f"{time.monotonic() - started:.1f} s"
        print(f"{'' if right else 'FAILED: '}{text}: {how}, {seconds}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
