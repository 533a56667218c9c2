"""Arrays by name, from files that people give: what is wrong with one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lstmc.stored import AnyArray


def element_problem(name: str, given: AnyArray) -> str | None:
    """Why an array cannot go into a net: its elements are no numbers, not finite, or too large for float32."""
    real = np.issubdtype(given.dtype, np.number) and not np.issubdtype(given.dtype, np.complexfloating)
    if not real and given.dtype != np.bool_:
        return f"not numbers: {name} has dtype {given.dtype}"
    array = np.asarray(given)
    if (bad := ~np.isfinite(array)).any():
        return f"not finite: {name} has {places(bad)} NaN or infinite{first_place(bad)}"
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32))
    return f"too large for float32: {name} has {places(bad)} that are{first_place(bad)}" if bad.any() else None


class Values(Protocol):
    """What elements must be, beyond being numbers; its text says it."""

    def holds(self, array: NDArray[Any]) -> NDArray[np.bool_]: ...


def value_problem(name: str, given: AnyArray, values: Values | None) -> str | None:
    """What is wrong with an array's elements: no numbers, not finite, or not the ``values`` that ops read."""
    problem = element_problem(name, given)
    if problem is not None or values is None:
        return problem
    array = np.asarray(given)
    if (bad := ~values.holds(array)).any():
        found = f"{places(bad)} that are not{first_place(bad)}: {array[bad][0]:g}"
        return f"outside: {name} must be {values}, has {found}"
    return problem


def places(bad: NDArray[np.bool_]) -> str:
    """How many elements are meant: ``2 of 8 elements``."""
    return f"{np.count_nonzero(bad)} of {bad.size} elements"


def first_place(bad: NDArray[np.bool_]) -> str:
    """Where the first of them is: ``, the first at [0, 3]``."""
    return f", the first at {[int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)]}" if bad.ndim else ""
