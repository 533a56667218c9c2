"""Declarations in signatures: ``Input``, ``State``, ``Param`` and fillers; a traced function with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from types import FunctionType
from typing import Any, ClassVar, cast

import numpy as np

from lstmc import ops
from lstmc.dsl.dims import Size, as_size, free, is_scalar, shape_text
from lstmc.dsl.function import Declared, checked, described
from lstmc.dsl.trace import check_name
from lstmc.dsl.value import Value, bounded, finite
from lstmc.errors import DslError
from lstmc.ops import Constant, Filler, Gaussian, Msra, Uniform, Values, Xavier
from lstmc.source import SrcLoc, argument_location, function_location, here, parameter_location

_SCALARS = ("lr_mult", "decay_mult")


def as_filler(fill: Any, array: str = "", name: str = "fill", loc: SrcLoc | None = None) -> Any:
    """Return the filler of a number, or of an array if ``array`` says what errors call it; anything else unchanged.
    Errors of an array mark the argument ``name`` of the call at ``loc`` (None: of the user's call that runs)."""
    if array and isinstance(fill, np.ndarray | list | tuple):
        return fixed_values(array, fill, loc or here(), None, name)
    return Constant(finite(bounded(fill))) if is_scalar(fill) else fill


@dataclass(frozen=True, eq=False)
class Declaration(Declared):
    """The declared shape, filler and location of one argument. ``kind`` names the declaration in errors."""

    shape: tuple[Size, ...]
    fill: Filler | None
    loc: SrcLoc | None
    kind = "argument"

    def __post_init__(self) -> None:
        """Raise :class:`DslError` at the declaration if its shape or its filler is not valid."""
        if not self.shape:
            raise DslError(f"{self.kind} needs a shape of at least one axis, found none", loc=self.loc)
        for axis, size in enumerate(self.shape):
            if as_size(size) is None:
                valid = "positive integers and dimensions one by one, as in (N, 64)"
                raise self._wrong("shape", valid, repr(size), axis)
        object.__setattr__(self, "shape", tuple(map(as_size, self.shape)))
        if not self._takes_fill(self.fill):
            raise self._wrong("fill", "a filler such as constant(0) or uniform(-0.1, 0.1)", described(self.fill))

    def _takes_fill(self, fill: object) -> bool:
        return fill is None or (isinstance(fill, Filler) and not isinstance(fill, Values))

    def _wrong(self, argument: str, expected: str, actual: str, position: int | None = None) -> DslError:
        loc = argument_location(self.loc, position, argument)
        return DslError(f"{self.kind} {argument}: expected {expected}, found {actual}", loc=loc)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes of the declaration: its shape; for a list, the number of parameters comes first."""
        return self.shape

    @property
    def text(self) -> str:
        """The sizes as text, for errors and listings."""
        return shape_text(self.shape)

    def note(self, name: str) -> str:
        """Return the line of an error about this declaration: ``name``, kind, shape and place."""
        place = f", declared at {self.loc.short}" if self.loc else ""
        return f"{name}: {self.kind} {self.text}{place}"


@dataclass(frozen=True, eq=False)
class InputDeclaration(Declaration):
    """See :func:`Input`."""

    values: ops.Domain | None = None
    kind = "input"
    keyword = "Input"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values is not None and not isinstance(self.values, ops.DOMAINS):
            raise self._wrong("values", "integers(low, high) or reals(low, high)", described(self.values))


@dataclass(frozen=True, eq=False)
class StateDeclaration(Declaration):
    """See :func:`State`."""

    kind = "state"
    keyword = "State"

    def _takes_fill(self, fill: object) -> bool:
        return fill is None or isinstance(fill, Filler)


@dataclass(frozen=True, eq=False)
class ParamDeclaration(Declaration):
    """See :func:`Param`."""

    fill: Filler
    lr_mult: float = 1
    decay_mult: float = 1
    trained: bool = True
    count: Size | None = None  # the length of a list of parameters; None for a single parameter
    name: str | None = None  # in the model; None: the names of the cell and of the argument
    kind = "parameter"
    keyword = "Param"

    def __post_init__(self) -> None:
        """Check all fields. ``trained=False`` sets both multipliers to 0."""
        if self.count is not None:
            self._check_list()
        super().__post_init__()
        if not isinstance(self.trained, bool):
            raise self._wrong("trained", "True or False", repr(self.trained))
        if not self.trained:
            if (self.lr_mult, self.decay_mult) != (1, 1):
                raise DslError("a parameter that is not trained takes no lr_mult and no decay_mult", loc=self.loc)
            for name in _SCALARS:
                object.__setattr__(self, name, 0)
        for name in _SCALARS:
            value = getattr(self, name)
            if not is_scalar(value) or not value >= 0 or not isfinite(value):
                raise self._wrong(name, "a finite number of at least 0", repr(value))
            object.__setattr__(self, name, float(value))

    def _check_list(self) -> None:
        """Check the number and the filler of a list of parameters; an array cannot fill a list."""
        if as_size(self.count) is None:
            valid = "how many there are, then their shape, as in params(3, H, H)"
            raise DslError(f"params: expected {valid}, found {self.count!r}", loc=argument_location(self.loc, 0))
        object.__setattr__(self, "count", as_size(self.count))
        if not isinstance(self.fill, Filler) or isinstance(self.fill, Values):
            problem = f"params fill: expected a filler, which each of them is drawn by, found {described(self.fill)}"
            raise DslError(problem, loc=argument_location(self.loc, None, "fill"))

    def _takes_fill(self, fill: object) -> bool:
        return isinstance(fill, Filler)

    @property
    def sizes(self) -> tuple[Size, ...]:
        return self.shape if self.count is None else (self.count, *self.shape)

    @property
    def text(self) -> str:
        return shape_text(self.shape) if self.count is None else f"{self.count} x {shape_text(self.shape)}"

    def names(self, name: str, sizes: Sequence[int]) -> list[str]:
        """Return the names of the parameters in the model: ``name``, or ``name.0``, ``name.1``, ... for a list."""
        return [name] if self.count is None else [f"{name}.{i}" for i in range(sizes[0])]

    def op(self, sizes: tuple[int, ...], fill: Filler | None = None) -> ops.Param:
        shape = sizes if self.count is None else sizes[1:]
        return ops.Param(shape, fill or self.fill, self.lr_mult, self.decay_mult)


def fixed_values(what: str, array: object, loc: SrcLoc | None, position: int | None, name: str) -> Values:
    """Return an array of finite numbers as a filler. Raise DslError at the argument for anything else."""
    try:
        return Values.of(array)
    except ValueError as error:
        problem = f"{what}: expected an array of finite numbers, found {error}"
        raise DslError(problem, loc=argument_location(loc, position, name)) from None


# Declarations are typed as what the traced function gets in their place, so that an editor knows the argument.
@checked
def Input(*shape: Size, fill: Filler | float | None = None, values: ops.Domain | None = None) -> Value:
    """A network input; in a cell, the slice of one step.
    An input with ``fill`` may be left out if Caffe or lstmc runs the net; another program must feed it. ``values`` is
    the range of valid numbers: ``integers(0, 1)`` for a mask, ``reals(0, 10)`` for durations. Training data outside of
    it are an error, and ``verify`` draws its inputs from it."""
    return cast(Value, InputDeclaration(shape, as_filler(fill), here(), values))


@checked
def State(*shape: Size, fill: Filler | Any = None) -> Value:
    """A value carried from step to step. Its initial value is zero, ``fill``, or ``init`` of the scan.
    ``fill`` is a number (-1e30 for minus infinity), an initializer, or an array with or without the batch's axis."""
    return cast(Value, StateDeclaration(shape, as_filler(fill, "state fill"), here()))


@checked
def Param(
    *shape: Size, fill: Filler | Any = 0, lr_mult: float = 1, decay_mult: float = 1, trained: bool = True,
    name: str | None = None,
) -> Value:  # fmt: skip
    """A trained array, shared by all steps. The multipliers scale the optimizer's learning rate and weight decay.

    ``fill`` is the initial value: an initializer, a scalar or an array. ``trained=False`` freezes the parameter: both
    multipliers are 0, and if ``fill`` is an array, a weights file may omit the parameter. ``name`` is the parameter's
    name in the model; the default is the cell's name and the argument's: ``lstm/W``. Two cells that declare the same
    ``name`` share the parameter: shape, fill and multipliers must be equal.
    """
    if name is not None:
        check_name(name, "the name of a parameter", argument_location(here(), None, "name"))
    filler = as_filler(fill, "parameter fill")
    return cast(Value, ParamDeclaration(shape, filler, here(), lr_mult, decay_mult, trained, name=name))


@checked
def params(
    count: Size, *shape: Size, fill: Filler | float = 0, lr_mult: float = 1, decay_mult: float = 1, trained: bool = True
) -> tuple[Value, ...]:
    """A tuple of ``count`` parameters of one shape, each as :func:`Param` declares it: ``W=params(3, H, H)``.
    The cell's function gets ``W[0]``, ``W[1]``, ...; in files of weights they are called ``W.0``, ``W.1``, ..."""
    declared = ParamDeclaration(shape, as_filler(fill), here(), lr_mult, decay_mult, trained, count)
    return cast(tuple[Value, ...], declared)


@dataclass(frozen=True)
class Signature:
    """A traced function's declarations, and its options with their defaults, in the order of its arguments."""

    declarations: dict[str, Declaration]
    options: dict[str, Any]

    def of_kind(self, kind: type[Declaration]) -> dict[str, Any]:
        return {name: d for name, d in self.declarations.items() if isinstance(d, kind)}


def option_text(options: Mapping[str, object]) -> str:
    """Return options as NAME=VALUE: of a function its name, of any other value the beginning of its ``repr``."""
    texts = {name: v.__name__ if isinstance(v, FunctionType) else repr(v) for name, v in options.items()}
    return ", ".join(f"{name}={text:.40}" for name, text in texts.items())


class Definition:
    """A function to be traced: a cell's or a model's. ``owner`` is its name in errors: ``cell 'lstm'``."""

    kind: ClassVar[str]

    def __init__(self, function: Callable[..., Any]) -> None:
        """Read the function's declarations and options. Raise DslError for a function that cannot be traced."""
        _check_function(function, self.kind)
        self.function = function
        self.name = function.__name__
        self.owner = f"{self.kind} {self.name!r}"
        self.__doc__ = function.__doc__
        self.signature = _read_signature(function, self.owner)

    def __repr__(self) -> str:
        kinds = (("input", self.inputs), ("state", self.states), ("parameter", self.params))
        parts = [
            f"{kind}{'s' if len(named) > 1 else ''} " + ", ".join(f"{name} {d.text}" for name, d in named.items())
            for kind, named in kinds
            if named
        ]
        parts += [f"options {option_text(self.signature.options)}"] if self.signature.options else []
        return f"<{self.kind} {self.name}{': ' if parts else ''}{'; '.join(parts)}>"

    @cached_property
    def loc(self) -> SrcLoc | None:
        """The place of the function's ``def``. It is looked up late: loading a library of cells reads no source."""
        return function_location(self.function)

    @property
    def inputs(self) -> dict[str, InputDeclaration]:
        return self.signature.of_kind(InputDeclaration)

    @property
    def states(self) -> dict[str, StateDeclaration]:
        return self.signature.of_kind(StateDeclaration)

    @property
    def params(self) -> dict[str, ParamDeclaration]:
        return self.signature.of_kind(ParamDeclaration)

    @property
    def dims(self) -> list[str]:
        """The dimensions in the declared shapes, each once, in the order of the declarations."""
        return free([size for declared in self.signature.declarations.values() for size in declared.sizes])


def _check_function(function: object, kind: str) -> None:
    """Raise DslError unless ``function`` is an ordinary function with a name. ``kind`` is "cell" or "model"."""
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        actual = "a lambda, which has no name" if inspect.isfunction(function) else repr(function)
        raise DslError(f"@{kind} takes a function written with def, found {actual}", loc=here())
    if not function.__name__.isidentifier():
        problem = f"the name of a {kind}, its function's __name__, must be an identifier, found {function.__name__!r}"
        raise DslError(problem, loc=function_location(function))
    traits = {
        "a generator": inspect.isgeneratorfunction,
        "a coroutine": inspect.iscoroutinefunction,
        "an asynchronous generator": inspect.isasyncgenfunction,
    }
    for trait, has in traits.items():
        if has(function):
            problem = f"a {kind} is an ordinary function that returns its results once, found {trait}"
            raise DslError(problem, loc=function_location(function), scope=f"{kind} {function.__name__!r}")


def _read_signature(function: Callable[..., Any], owner: str) -> Signature:
    """Return the declarations and options of a function. Raise :class:`DslError` for an argument that is neither."""
    declarations: dict[str, Declaration] = {}
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        problem = _problem(name, parameter)
        if problem is not None:
            raise DslError(problem, loc=parameter_location(function, name), scope=owner)
        if isinstance(parameter.default, Declaration):
            declarations[name] = parameter.default
        else:
            options[name] = parameter.default
    return Signature(declarations, options)


def _problem(name: str, parameter: inspect.Parameter) -> str | None:
    """Return the text of an error if an argument cannot be traced; None if it is a declaration or an option."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        return f"argument {name} must be an ordinary named argument, without * or /"
    if parameter.default is parameter.empty:
        return (
            f"argument {name} is not declared: expected {name}=Input(...), State(...), Param(...)"
            " or a default value that makes it an option"
        )
    for declare in (Input, State, Param, params):
        if parameter.default is declare:
            return f"argument {name} has no shape: expected {name}={declare.__name__}(...), found {declare.__name__}"
    return None


constant, gaussian, msra, uniform, xavier = Constant, Gaussian, Msra, Uniform, Xavier

__all__ = ["Input", "Param", "State", "constant", "gaussian", "msra", "params", "uniform", "xavier"]
