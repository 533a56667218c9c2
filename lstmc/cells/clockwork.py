"""The clockwork recurrent network: modules that tick at periods of their own."""

from collections.abc import Callable

import numpy as np

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    const,
    constant,
    dims,
    linear,
    minimum,
    mod,
    split,
    step_index,
    tanh,
    where,
    xavier,
)

N, D, H = dims("N D H")


@cell
def clockwork(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W: Value = Param(H, D, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
    U: Value = Param(H, H, fill=xavier()),
    periods: tuple[int, ...] = (1, 2, 4, 8),
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """h' = tanh(W x + b + U h) of the modules whose period goes into the number of the step; the others keep h.

    Koutnik et al. 2014, arXiv:1402.3511, section 3: a module for each of the rising ``periods``, each of H over their
    number of units, sees itself and those with longer periods alone; the other blocks of U are not used.
    """
    period = np.repeat(periods, h.shape[-1] // len(periods))
    heard = [
        linear(h * const(period >= own), rows)
        for own, rows in zip(periods, split(U, len(periods), axis=0), strict=True)
    ]
    due = 1 - minimum(mod(step_index(), const(period)), 1)
    h = where(due, activation(linear(x, W, b) + concat(heard)), h)
    return h, {"h": h}
