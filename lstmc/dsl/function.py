"""Common behaviour of the language's functions: they reject wrong arguments and name their results."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, NoReturn, ParamSpec, TypeVar

import numpy as np

from lstmc.dsl.dims import DimExpr, is_scalar
from lstmc.dsl.operators import names_elsewhere
from lstmc.dsl.trace import CALL, Call, Trace, Traced, derived_name, origin
from lstmc.errors import DslError, ShapeError
from lstmc.ops import Filler
from lstmc.source import argument_location, assigned_names, here
from lstmc.text import ByIdentifier, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def function(body: Callable[P, R]) -> Callable[P, R]:
    """Return ``body`` with names for its results, as :func:`named` gives them, and a check of its arguments' types."""
    return named(body, body.__name__, signature(body))


def named(body: Callable[P, R], word: str = "", checked_by: Signature | None = None) -> Callable[P, R]:
    """Return ``body`` with names for its results: the variables on the caller's line, or ``word`` and the operands'
    names.
    Without ``word``, as for an operator, ``Trace.apply`` chooses the names. ``checked_by`` checks the arguments."""

    @wraps(body)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if checked_by is not None:
            _check_values(word, checked_by, args, kwargs)
        if CALL.get() is not None:  # inside another function of the language, which names its own result
            return body(*args, **kwargs)
        inside = Call()
        token = CALL.set(inside)
        try:
            result = body(*args, **kwargs)
        except TypeError as error:
            refuse_arguments(body, kwargs, error)
            raise
        finally:
            CALL.reset(token)
        _name_results(inside, result, word, (*args, *kwargs.values()))
        return result

    return call


def _check_values(function: str, expected: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise DslError for an argument declared as a Value that is none; ``Value | float`` allows a number instead."""
    try:
        bound = expected.bind(*args, **kwargs).arguments
    except TypeError:  # the call of the function raises the same error
        return
    for position, parameter in enumerate(expected.parameters.values()):
        value, declared = bound.get(parameter.name), parameter.annotation
        if declared == "Value | Sequence[Value]":
            for place, given in enumerate(value or (), position):
                in_list = isinstance(given, list | tuple)
                for one in given if in_list else [given]:
                    check_value(function, one, None if in_list else place)
        elif (
            (declared == "Value" and parameter.kind is not Parameter.VAR_POSITIONAL)
            or (declared == "Value | None" and value is not None)
            or (declared == "Value | float" and not is_scalar(value))
        ):
            check_value(function, value, position, parameter.name)


def check_value(function: str, value: object, position: int | None, name: str | None = None) -> None:
    """Raise :class:`DslError` at the argument ``position`` or ``name`` of ``function`` unless ``value`` is a Value."""
    if not isinstance(value, Traced):
        loc = argument_location(here(), position, name)
        raise DslError(f"{function} takes Values, found {described(value)}", loc=loc)


def wrong_argument(function: str, name: str, expected: str, value: object, position: int | None = None) -> DslError:
    """Return the error for an argument that is not ``expected``; ``position`` is its place in the call."""
    loc = argument_location(here(), position, name)
    return DslError(f"{function}: {name} must be {expected}, found {described(value)}", loc=loc)


def wrong_shape(problem: str, more: str = "", /, **values: Traced) -> ShapeError:
    """Return the error for values whose shapes do not fit; ``more`` is an advice at its end."""
    types = ", ".join(f"{name} is {value.type}" for name, value in values.items())
    notes = [f"{name} is {origin(value)}" for name, value in values.items()]
    return ShapeError(f"{problem}: {types}{more}", loc=here(), notes=notes)


def checked(body: Callable[P, R]) -> Callable[P, R]:
    """Return ``body`` so that a call with wrong arguments raises :class:`DslError` instead of TypeError."""

    @wraps(body)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except TypeError as error:
            refuse_arguments(body, kwargs, error)
            raise

    return call


def refuse_arguments(function: Callable[..., Any], keywords: Iterable[str], error: TypeError) -> None:
    """Raise :class:`DslError` if ``error`` is of the call itself, and not from inside the function."""
    if error.__traceback__ is None or error.__traceback__.tb_next is None:
        refuse_call(function.__name__, signature(function), keywords, str(error))


def refuse_call(name: str, expected: Signature, keywords: Iterable[str], why: str) -> NoReturn:
    """Raise DslError for a call that does not fit the signature ``expected``; ``why`` is Python's own text."""
    bare = [parameter.replace(annotation=Parameter.empty) for parameter in expected.parameters.values()]
    usage = f"{name}{Signature([_plain(p) for p in bare])}".replace("Ellipsis", "...")
    unknown = [word for word in keywords if word not in expected.parameters]
    starred = [p.name for p in bare if p.kind is Parameter.VAR_POSITIONAL]
    if unknown:
        word = unknown[0]
        problem = f"{name} has no argument {word}{suggested_argument(word, expected.parameters)}; it is {usage}"
        raise DslError(problem, loc=argument_location(here(), None, word))
    if set(keywords) & set(starred):
        raise DslError(f"{name} takes {starred[0]} one by one, without a name; it is {usage}", loc=here())
    raise DslError(f"{name}: {why.removeprefix(f'{name}() ')}; it is {usage}", loc=here())


def _plain(parameter: Parameter) -> Parameter:
    """Return a parameter for display: a default such as ``<object ...>``, which is no expression, becomes ``...``."""
    is_mark = parameter.default is not Parameter.empty and repr(parameter.default).startswith("<")
    return parameter.replace(default=...) if is_mark else parameter


def suggested_argument(word: str, names: Iterable[str]) -> str:
    """Return the end of the error "no argument WORD": the argument that is meant, or '' if none is like it."""
    valid = list(names)
    meant = [name for name in valid if word in names_elsewhere("arguments").get(name, "").split()]
    return f": write {meant[0]}=" if meant else did_you_mean(word, valid)


def _name_results(call: Call, result: object, word: str, args: Iterable[Any]) -> None:
    """Name the new results of a call by the caller's variables, or else by ``word`` and the operands."""
    results = result if isinstance(result, tuple) else (result,)
    new = [isinstance(value, Traced) and (value.trace, value.ref) in call.values for value in results]
    if not any(new):
        return
    first = results[new.index(True)]
    trace: Trace = first.trace
    names = assigned_names(trace.builder.node(first.ref.node).loc)
    assigned = len(names) == len(results)
    if not assigned:
        if not word:
            return
        names = (derived_name(word, [value for value in flat(args) if isinstance(value, Traced)]),) * len(results)
    for value, name, is_new in zip(results, names, new, strict=True):
        if is_new:
            trace.names[value.ref] = name
            if assigned:
                trace.words[value.ref] = name


def flat(arguments: Iterable[Any]) -> list[Any]:
    return [thing for part in arguments for thing in (part if isinstance(part, list | tuple) else [part])]


class Declared:
    """The base of declarations. ``keyword`` is the function that declares: ``Input``, ``State`` or ``Param``."""

    keyword: ClassVar[str]


def described(thing: object) -> str:
    """Return a description of an unexpected object, for an error."""
    if thing is None or isinstance(thing, bool):
        return repr(thing)
    if isinstance(thing, np.ndarray):
        return "a NumPy array (write const(it), or declare it as an Input or a Param)"
    if isinstance(thing, DimExpr):
        return f"dimension {thing} (for its number write x.shape[axis])"
    if isinstance(thing, Traced):
        return "a Value"
    if isinstance(thing, Declared):
        return f"{thing.keyword}(...), which is a Value as an argument alone: write def f(x={thing.keyword}(...))"
    if isinstance(thing, type) and issubclass(thing, Filler):
        return f"the filler {thing.name} itself: write {thing.name}(...)"
    if isinstance(thing, ByIdentifier):
        thing = dict(thing)
    return f"{type(thing).__name__} {reprlib.repr(thing)}"
