"""What a cell or model says of its arguments: ``Input``, ``State`` and ``Param``, written as signature defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lstmc.dsl.dims import Size, is_size, shape_text
from lstmc.errors import DslError
from lstmc.ops import Constant, Filler
from lstmc.source import SrcLoc, function_location, here

_SCALARS = ("lr_mult", "decay_mult")


@dataclass(frozen=True, eq=False)
class Declaration:
    """One argument's shape and place. ``kind`` is how errors call it."""

    shape: tuple[Size, ...]
    fill: Filler | None
    loc: SrcLoc | None
    kind = "argument"

    def __post_init__(self) -> None:
        if not self.shape:
            raise DslError(f"{self.kind} needs a shape of at least one axis, found none", loc=self.loc)
        for size in self.shape:
            if not is_size(size):
                raise DslError(
                    f"{self.kind} shape: expected positive whole numbers or dimensions, found {size!r}", loc=self.loc
                )
        if self.fill is not None and not isinstance(self.fill, Filler):
            raise DslError(
                f"{self.kind} fill: expected a filler such as constant(0) or uniform(-0.1, 0.1), found {self.fill!r}",
                loc=self.loc,
            )

    def told(self, name: str) -> str:
        """How an error's note names it."""
        place = f", declared at {self.loc.short}" if self.loc else ""
        return f"{name}: {self.kind} {shape_text(self.shape)}{place}"


@dataclass(frozen=True, eq=False)
class InputDeclaration(Declaration):
    """See :func:`Input`."""

    kind = "input"


@dataclass(frozen=True, eq=False)
class StateDeclaration(Declaration):
    """See :func:`State`."""

    kind = "state"


@dataclass(frozen=True, eq=False)
class ParamDeclaration(Declaration):
    """See :func:`Param`."""

    fill: Filler
    lr_mult: float = 1
    decay_mult: float = 1
    kind = "parameter"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _SCALARS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise DslError(f"parameter {name}: expected a number of at least 0, found {value!r}", loc=self.loc)


# The three return Any so that a strict type checker accepts them as the default of an argument used as a Value.
def Input(*shape: Size, fill: Filler | None = None) -> Any:
    """An array that is fed. In a cell it is one step's slice. With ``fill`` a net has it as DummyData."""
    return InputDeclaration(shape, fill, here())


def State(*shape: Size, fill: Filler | None = None) -> Any:
    """A value carried from step to step. It starts at zero, or at a constant blob made by ``fill``, or at ``init``."""
    return StateDeclaration(shape, fill, here())


def Param(*shape: Size, fill: Filler = Constant(0), lr_mult: float = 1, decay_mult: float = 1) -> Any:
    """A trained array, shared by all steps. The multipliers scale the solver's learning rate and weight decay."""
    return ParamDeclaration(shape, fill, here(), lr_mult, decay_mult)


@dataclass(frozen=True)
class Signature:
    """A traced function's arguments: declarations, and plain options with their defaults, in order."""

    declarations: dict[str, Declaration]
    options: dict[str, Any]

    def of_kind(self, kind: type[Declaration]) -> dict[str, Any]:
        return {name: d for name, d in self.declarations.items() if isinstance(d, kind)}


def read_signature(function: Callable[..., Any], owner: str) -> Signature:
    """The declarations of a function. Raises :class:`DslError` for an argument that has none."""
    declarations: dict[str, Declaration] = {}
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        loc = function_location(function)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DslError(f"argument {name} must be an ordinary named argument, without * or /", loc=loc, scope=owner)
        if parameter.default is parameter.empty:
            raise DslError(
                f"argument {name} is not declared: expected {name}=Input(...), State(...), Param(...)"
                " or a default value that makes it an option",
                loc=loc,
                scope=owner,
            )
        if isinstance(parameter.default, Declaration):
            declarations[name] = parameter.default
        else:
            options[name] = parameter.default
    return Signature(declarations, options)
