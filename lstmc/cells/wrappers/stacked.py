"""Layers of one cell as one cell."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

from lstmc import Cell, Value, cell, dims
from lstmc.errors import DslError
from lstmc.source import here


def stacked(inner: Cell, depth: int, **bindings: Any) -> Cell:
    """``depth`` layers of the cell, each fed the output of the one below; parameters are ``layer_1/W_x`` and so on.

    ``stacked(lstm, 3)(H=64)`` is bound and scanned as one cell. Its states are called ``h_1``, ``c_1`` (the lowest
    layer's), ``h_2`` and so on. What is no dimension of a state or an input of the cell is bound by ``bindings``, for
    all layers: options, fillers, other dimensions. The first input goes through the layers, the others to each of them.
    Graves et al. 2013, arXiv:1303.5778, section 3, without the connections that skip layers.
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
            given = {first: y, **{name: values[name] for name in others}}
            y, states = layer(**given, **{state: values[f"{state}_{k}"] for state in inner.states})
            following |= {f"{state}_{k}": value for state, value in states.items()}
        return y, following

    arguments = dict(inner.inputs) | {
        f"{state}_{k}": declared for k in range(1, depth + 1) for state, declared in inner.states.items()
    }
    shapes = [size for declared in inner.states.values() for size in declared.shape if not isinstance(size, int)]
    sizes = {name: dims(name) for size in shapes for name in size.free() if name not in bindings}
    function.__name__, function.__doc__ = f"stacked_{inner.name}", inner.__doc__
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(n, Parameter.KEYWORD_ONLY, default=declared) for n, declared in arguments.items()]
    )
    return cell(function)
