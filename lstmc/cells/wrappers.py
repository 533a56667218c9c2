"""Wrappers of any cell: cells built from a cell, and ways to run one. In the public language only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any

from lstmc import BoundCell, Cell, Value, cell, concat, dims, dropout, ones_like, reshape, scan
from lstmc.errors import DslError
from lstmc.source import here

Step = tuple[Any, dict[str, Value]]  # a step's output, and its next states


def residual(inner: Cell) -> Cell:
    """The cell's output plus its first input, which has as many elements: y = x + cell(x).

    ``residual(lstm)(H=64)`` is bound and scanned as ``lstm(H=64)`` is. The states are the cell's: the added input does
    not enter the next step. He et al. 2015, arXiv:1512.03385; for LSTMs, Wu et al. 2016, arXiv:1609.08144.
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

    Krueger et al. 2016, arXiv:1606.01305, section 3. ``ratios`` are for single states, ``ratio`` for all remaining
    states: ``zoneout(lstm, c=0.5, h=0.05)``. If an output is a next state, it is the state after zoneout.
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

    Gal and Ghahramani 2015, arXiv:1512.05287, section 4. ``ratios`` are for single inputs and states, ``ratio`` for the
    rest: the paper's LSTM drops x and h, ``variational_dropout(lstm, c=0)``.
    """
    shares = _shares("variational_dropout", inner, (*inner.inputs, *inner.states), ratio, ratios)

    def step(values: dict[str, Any]) -> Step:
        masks = {name: dropout(ones_like(values[name]), share) for name, share in shares.items() if share}
        result: Step = inner.function(**{**values, **{name: values[name] * mask for name, mask in masks.items()}})
        return result

    return _like(inner, "variational_dropout", step)


def stacked(inner: Cell, depth: int, **bindings: Any) -> Cell:
    """``depth`` layers of the cell, each fed the output of the one below; parameters are ``layer_1/W_x`` and so on.

    ``stacked(lstm, 3)(H=64)`` is bound and scanned as one cell. Its states are called ``h_1``, ``c_1`` (the lowest
    layer's), ``h_2`` and so on. ``bindings`` are for all layers: options, fillers, and dimensions that are in no state
    or input of the cell. The first input goes through the layers, every other input to each layer. Graves et al. 2013,
    arXiv:1303.5778, section 3, without the connections that skip layers.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise DslError(f"stacked takes a number of layers of 1 or more, found {depth!r}", loc=here())
    if not inner.inputs:
        raise DslError(f"stacked feeds a cell's first input, and {inner.owner} has none", loc=here())
    first, *others = inner.inputs

    def function(**values: Value) -> tuple[Any, dict[str, Value]]:
        y: Any = values[first]
        following: dict[str, Value] = {}
        for k in range(1, depth + 1):
            layer = inner(name=f"layer_{k}", **sizes, **bindings)
            inputs = {first: y, **{name: values[name] for name in others}}
            y, states = layer(**inputs, **{state: values[f"{state}_{k}"] for state in inner.states})
            following |= {f"{state}_{k}": value for state, value in states.items()}
        return y, following

    arguments = dict(inner.inputs) | {
        f"{state}_{k}": declared for k in range(1, depth + 1) for state, declared in inner.states.items()
    }
    shapes = [size for declared in inner.states.values() for size in declared.shape if not isinstance(size, int)]
    sizes = {dim.name: dims(dim.name) for size in shapes for dim in size.parts() if dim.name not in bindings}
    function.__name__, function.__doc__ = f"stacked_{inner.name}", inner.__doc__
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(n, Parameter.KEYWORD_ONLY, default=declared) for n, declared in arguments.items()]
    )
    return cell(function)


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
    out: Value = reshape(y, steps, batch, *y.shape[1:])
    return out


def _shares(
    wrapper: str, inner: Cell, names: Iterable[str], ratio: float, ratios: dict[str, float]
) -> dict[str, float]:
    """Return the ratio of each name, all of them checked."""
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
    """Return a cell with the arguments and options of ``inner``, and another step."""

    def function(**values: Any) -> Step:
        return step(values)

    arguments = {**inner.signature.declarations, **inner.signature.options}
    function.__name__, function.__doc__ = f"{name}_{inner.name}", inner.__doc__
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(n, Parameter.KEYWORD_ONLY, default=default) for n, default in arguments.items()]
    )
    return cell(function)
