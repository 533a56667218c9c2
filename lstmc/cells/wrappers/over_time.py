"""Ways to run cells over a sequence, in a model."""

from __future__ import annotations

from typing import Any

from lstmc import BoundCell, Value, concat, reshape, scan


def bidirectional(
    ahead: BoundCell, back: BoundCell, xs: Any, **options: Any
) -> tuple[Value, dict[str, dict[str, Value]]]:
    """One cell from the first step to the last, one the other way; their outputs side by side, their last states.

    ``y, last = bidirectional(lstm(H=64), lstm(H=64), X)`` has y [T, N, 128] and ``last["back"]["h"]``, the state after
    the first step. ``options`` are those of ``scan`` for both, such as ``lengths`` and ``static``. Schuster and Paliwal
    1997, "Bidirectional recurrent neural networks".
    """
    y_ahead, ahead_T = scan(ahead, xs, **options)
    y_back, back_T = scan(back, xs, reverse=True, **options)
    return concat(y_ahead, y_back), {"ahead": ahead_T, "back": back_T}


def time_distributed(layer: BoundCell, x: Value) -> Value:
    """A cell without states on every step of x [T, N, ...] at once: [T, N, ...] again, with one call for all steps."""
    steps, batch = x.shape[:2]
    y, _ = layer(reshape(x, steps * batch, *x.shape[2:]))
    made: Value = reshape(y, steps, batch, *y.shape[1:])
    return made
