"""The equation of an einsum, as the frameworks write it."""

from __future__ import annotations

import re
from string import ascii_lowercase

from lstmc.importers.refusal import Refused

_EQUATION = re.compile(r"[a-zA-Z]+(,[a-zA-Z]+)+(->[a-zA-Z]*)?")


def einsum_letters(equation: str, count: int) -> tuple[list[str], str]:
    """Return the letters of each of ``count`` operands and of the result, in lower case.

    Raises :class:`Refused` for an equation with dots, or of one operand.
    """
    compact = equation.replace(" ", "")
    letters = dict.fromkeys(re.sub("[^a-zA-Z]", "", compact))
    if _EQUATION.fullmatch(compact) is None or len(letters) > len(ascii_lowercase):
        why = "only two operands or more and their result, all in letters, are read"
        raise Refused("equation", equation, why, "write it without dots, or by other functions")
    if not compact.islower():
        compact = compact.translate(str.maketrans("".join(letters), ascii_lowercase[: len(letters)]))
    operands, arrow, result = compact.partition("->")
    if operands.count(",") + 1 != count:
        raise Refused("equation", equation, f"it has {count} operands", "check the model")
    once = operands.replace(",", "")
    return operands.split(","), result if arrow else "".join(sorted(one for one in {*once} if once.count(one) == 1))
