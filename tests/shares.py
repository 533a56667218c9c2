"""How many of some random models must have an outcome that a share of all models has."""

from __future__ import annotations

from math import comb


def least(share: float, models: int) -> int:
    """How many of so many models have the outcome at the least; one of them in any case.

    Models are drawn in groups that are alike, so that a few models say less than as many that are drawn apart would:
    they are held to what a quarter of them, drawn apart, give all but once in 100 000 times.
    """
    apart, chance = models // 4, 0.0
    for count in range(apart):
        chance += comb(apart, count) * share**count * (1 - share) ** (apart - count)
        if chance > 1e-5:
            return max(1, 4 * count)
    return models if share == 1 else max(1, 4 * apart)
