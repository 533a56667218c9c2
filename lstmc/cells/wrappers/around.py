"""Cells made of one cell: the same arguments, dimensions and options, and something done before or after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any

from lstmc import Cell, Value, cell, dropout, ones_like
from lstmc.errors import DslError
from lstmc.source import here

Step = tuple[Any, dict[str, Value]]  # a step's output, and its next states


def residual(inner: Cell) -> Cell:
    """The cell's output plus its first input, which has as many elements: y = x + cell(x).

    ``residual(lstm)(H=64)`` is bound and scanned as ``lstm(H=64)`` is. The states are the cell's own: what is added
    does not come back at the next step. He et al. 2015, arXiv:1512.03385; of LSTMs, Wu et al. 2016, arXiv:1609.08144.
    """
    if not inner.inputs:
        raise DslError(f"residual adds a cell's first input, and {inner.owner} has none", loc=here())
    first = next(iter(inner.inputs))

    def step(values: dict[str, Any]) -> Step:
        y, states = inner.function(**values)
        return values[first] + y, states

    return _like(inner, "residual", step)


def zoneout(inner: Cell, ratio: float = 0.1, **ratios: float) -> Cell:
    """In training each element of a state stays as it was with probability r; else h' = r h + (1 - r) cell(h).

    Krueger et al. 2016, arXiv:1606.01305, section 3. ``ratios`` are those of single states, ``ratio`` that of all
    others: ``zoneout(lstm, c=0.5, h=0.05)``. An output that is one of the next states is that state after zoneout.
    """
    shares = _shares("zoneout", inner, inner.states, ratio, ratios)

    def step(values: dict[str, Any]) -> Step:
        y, states = inner.function(**values)
        kept = {name: _zoned(values[name], new, shares[name]) for name, new in states.items()}
        return next((kept[name] for name, new in states.items() if new is y), y), kept

    return _like(inner, "zoneout", step)


def _zoned(old: Value, new: Value, ratio: float) -> Value:
    return old + (1 - ratio) * dropout(new - old, ratio)


def variational_dropout(inner: Cell, ratio: float = 0.5, **ratios: float) -> Cell:
    """Dropout of the cell's inputs and states, of the same elements at every step of a sequence.

    Gal and Ghahramani 2015, arXiv:1512.05287, section 4. ``ratios`` are those of single inputs and states, ``ratio``
    that of all others: the paper's LSTM drops x and h, ``variational_dropout(lstm, c=0)``.
    """
    shares = _shares("variational_dropout", inner, (*inner.inputs, *inner.states), ratio, ratios)

    def step(values: dict[str, Any]) -> Step:
        masks = {name: dropout(ones_like(values[name]), share) for name, share in shares.items() if share}
        result: Step = inner.function(**{**values, **{name: values[name] * mask for name, mask in masks.items()}})
        return result

    return _like(inner, "variational_dropout", step)


def _shares(
    wrapper: str, inner: Cell, names: Iterable[str], ratio: float, ratios: dict[str, float]
) -> dict[str, float]:
    """The ratio of each name, held against what there is."""
    shares = dict.fromkeys(names, ratio)
    for name, share in {"ratio": ratio, **ratios}.items():
        if name not in {"ratio", *shares}:
            raise DslError(
                f"{wrapper} of {inner.owner} takes ratios for {', '.join(shares) or 'nothing'}, found {name}",
                loc=here(),
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise DslError(f"{wrapper}: {name} must be from 0 up to, not including, 1, found {share!r}", loc=here())
    return shares | ratios


def _like(inner: Cell, name: str, step: Callable[[dict[str, Any]], Step]) -> Cell:
    """A cell with the arguments and options of ``inner``, and another step."""

    def function(**values: Any) -> Step:
        return step(values)

    arguments = {**inner.signature.declarations, **inner.signature.options}
    function.__name__, function.__doc__ = f"{name}_{inner.name}", inner.__doc__
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(n, Parameter.KEYWORD_ONLY, default=default) for n, default in arguments.items()]
    )
    return cell(function)
