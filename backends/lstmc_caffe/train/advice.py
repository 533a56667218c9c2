"""What to try where a loss has gone wrong: which settings, and by how much."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmc.ops import Array
from lstmc_caffe.train.solver import Solver


def what_to_try(solver: Solver, batch: Mapping[str, Array]) -> tuple[str, ...]:
    """Lines of advice; where the batch itself is not finite, that and nothing else."""
    bad = [name for name, array in batch.items() if not np.isfinite(array).all()]
    if bad:
        return (f"its batch has NaN or infinity in {', '.join(bad)}: check the data",)
    clip = "clip_gradients=5" if solver.clip_gradients is None else f"clip_gradients below {solver.clip_gradients:g}"
    return (f"try base_lr below {solver.base_lr:g}, {clip}, or smaller first weights",)
