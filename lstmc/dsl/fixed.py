"""Arrays whose numbers are written in a cell or model."""

from __future__ import annotations

from typing import Any

from lstmc.dsl.declare import fixed_values
from lstmc.dsl.function import function
from lstmc.dsl.trace import open_trace
from lstmc.dsl.value import Value
from lstmc.errors import DslError
from lstmc.ops import Param
from lstmc.source import argument_location, assigned_names, here

__all__ = ["const"]


@function
def const(array: Any) -> Value:
    """An array of numbers as a Value, in a cell or model: ``const(numpy.eye(3))``.

    It is a parameter that is not trained, one for all places with the same numbers. So it can be the matrix of a
    ``linear``, and its numbers, float32, are in the weights of the net.
    """
    loc = here()
    fill = fixed_values("const", array, loc, 0, "array")
    if not fill.shape:
        raise DslError(
            "const takes an array of one axis or more: write a number as it is", loc=argument_location(loc, 0, "array")
        )
    root = open_trace("const", loc).root
    if fill not in root.constants:
        name = root.unique_name(next(iter(assigned_names(loc)), "const"))
        (ref,) = root.builder.add(Param(fill.shape, fill, 0.0, 0.0), names=(name,), loc=loc)
        root.constants[fill] = ref
    return Value(root, root.constants[fill])
