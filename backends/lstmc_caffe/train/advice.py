"""What to try where a loss has gone wrong: at which op, or which settings and by how much."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmc.ops import Array
from lstmc.verify.conditioning import NotFinite
from lstmc_caffe.train.solver import Solver


def what_to_try(solver: Solver, batch: Mapping[str, Array], at: NotFinite | None = None) -> tuple[str, ...]:
    """Lines of advice; where the batch itself is not finite, that and nothing else.

    ``at`` is the first value or gradient that is not finite, where it is known. Settings are named where it is not, or
    where it is no function of single elements, as a sum or a product of matrices that overflows.
    """
    bad = [name for name, array in batch.items() if not np.isfinite(array).all()]
    if bad:
        return (f"its batch has NaN or infinity in {', '.join(bad)}: check the data",)
    if at is not None and at.operands:
        return (str(at), "keep its operand in range, as with maximum(x, 1e-6) or clip(x, -50, 50)")
    clip = "clip_gradients=5" if solver.clip_gradients is None else f"clip_gradients below {solver.clip_gradients:g}"
    settings = f"try base_lr below {solver.base_lr:g}, {clip}, or smaller initial weights"
    return (settings,) if at is None else (str(at), settings)
