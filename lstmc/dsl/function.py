"""What all functions of the language do besides their own work: they check their arguments and name their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from lstmc.dsl.trace import CALL, Call, Trace, Traced, derived_name
from lstmc.source import assigned_names

P = ParamSpec("P")
R = TypeVar("R")


def function(made: Callable[P, R]) -> Callable[P, R]:
    """The function with its results named, after the function where they have no variable: see :func:`named`."""
    return named(made, made.__name__)


def named(made: Callable[P, R], word: str = "") -> Callable[P, R]:
    """The function with its results named: by the variables that they are assigned to, else by ``word`` and operands.

    The ops inside, and the result of an operator (no ``word``), have names of their own: see ``Trace.apply``.
    """

    @wraps(made)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if CALL.get() is not None:  # inside another function, whose result it is no more than a part of
            return made(*args, **kwargs)
        inside = Call()
        token = CALL.set(inside)
        try:
            result = made(*args, **kwargs)
        finally:
            CALL.reset(token)
        _name_results(inside, result, word, (*args, *kwargs.values()))
        return result

    return call


def _name_results(call: Call, result: object, word: str, args: Iterable[Any]) -> None:
    results = result if isinstance(result, tuple) else (result,)
    new = [isinstance(value, Traced) and (value.trace, value.ref) in call.made for value in results]
    if not any(new):
        return
    first = results[new.index(True)]
    trace: Trace = first.trace
    names = assigned_names(trace.builder.node(first.ref.node).loc)
    assigned = len(names) == len(results)
    if not assigned:
        if not word:
            return
        names = (derived_name(word, [value for value in _flat(args) if isinstance(value, Traced)]),) * len(results)
    for value, name, is_new in zip(results, names, new, strict=True):
        if is_new:
            trace.names[value.ref] = name
            if assigned:
                trace.words[value.ref] = name


def _flat(args: Iterable[Any]) -> Iterable[Any]:
    for value in args:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value
