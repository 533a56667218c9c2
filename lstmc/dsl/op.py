"""Any op in a cell or model: the way to those that a package brings, and that have no function here."""

from __future__ import annotations

from inspect import signature

from lstmc.dsl.arguments import check_value
from lstmc.dsl.value import Value, described, inner_trace
from lstmc.errors import DslError, LstmcError
from lstmc.ops import Op
from lstmc.source import argument_location, here

__all__ = ["op", "op_results"]


def op(made: Op, *values: Value) -> Value:
    """The result of an op on values: ``op(Cube(), x)``. For an op with several results there is ``op_results``.

    Raises :class:`~lstmc.errors.DslError` for what is no op of models, and ``ShapeError`` as the op's ``infer`` does.
    """
    results = _applied("op", made, values)
    if len(results) != 1:
        raise DslError(f"op: {made.name} has {len(results)} results: write op_results, which gives all", loc=here())
    return results[0]


def op_results(made: Op, *values: Value) -> tuple[Value, ...]:
    """All results of an op on values, in order: ``high, low = op_results(Halves(), x)``. Raises what ``op`` does."""
    return _applied("op_results", made, values)


def _applied(function: str, made: Op, values: tuple[Value, ...]) -> tuple[Value, ...]:
    if not isinstance(made, Op):
        found = f"the class {made.__name__}: call it" if isinstance(made, type) else described(made)
        raise DslError(
            f"{function} takes an op, then the Values that it works on, found {found}",
            loc=argument_location(here(), 0, "made"),
        )
    if made.backend:
        raise DslError(
            f"{function}: {made.name} is a layer of backend {made.backend}: write a model in ops of no backend",
            loc=argument_location(here(), 0, "made"),
        )
    for position, value in enumerate(values, 1):
        check_value(made.name, value, position)
    try:
        signature(made.infer).bind(*values)
    except TypeError:
        wanted = ", ".join(made.operands) or "no Value"
        raise DslError(f"{made.name} takes {wanted}, found {_values(len(values))}", loc=here()) from None
    if not values:
        raise DslError(
            f"{function}: {made.name} has no operands: a value starts from an Input, or from numbers", loc=here()
        )
    trace = inner_trace(*values)
    try:
        refs = trace.apply(made, *values)
    except LstmcError:
        raise
    except Exception as error:
        raise DslError(
            f"{made.name}: its infer failed ({type(error).__name__}: {error}): the op must raise ShapeError", loc=here()
        ) from error
    return tuple(Value(trace, ref) for ref in refs)


def _values(count: int) -> str:
    return "1 Value" if count == 1 else f"{count or 'no'} Values"
