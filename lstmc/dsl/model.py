"""Models: functions of whole arrays, traced to a graph once their dimensions have sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lstmc.dsl.declare import (
    InputDeclaration,
    ParamDeclaration,
    Signature,
    StateDeclaration,
    read_signature,
)
from lstmc.dsl.dims import DimExpr, Scope
from lstmc.dsl.trace import Trace
from lstmc.dsl.value import Value
from lstmc.errors import DimError, DslError
from lstmc.ir import Builder, Graph, rename_values
from lstmc.ops import Input, Leaf, Param
from lstmc.source import assigned_names, function_location


class Model:
    """A function from inputs and parameters to named outputs. :meth:`graph` traces it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.owner = f"model {self.name!r}"
        self.loc = function_location(function)
        self.__doc__ = function.__doc__
        self.signature: Signature = read_signature(function, self.owner)
        for name, declared in self.signature.of_kind(StateDeclaration).items():
            raise DslError(
                f"{name} is declared as a State: a model has Inputs and Params, states belong to cells",
                loc=declared.loc,
                scope=self.owner,
            )

    @property
    def dims(self) -> list[str]:
        """The names of its dimensions: those of its signature in order, then those its body uses as global names."""
        sizes: list[Any] = [size for d in self.signature.declarations.values() for size in d.shape]
        names: tuple[str, ...] = self.function.__code__.co_names
        sizes += [self.function.__globals__.get(name) for name in names]  # scan(lstm(H=H), X)
        return list(dict.fromkeys(name for size in sizes if isinstance(size, DimExpr) for name in size.free()))

    def graph(self, **sizes: int) -> Graph:
        """The model's graph, its dimensions bound to ``sizes``.

        Raises :class:`~lstmc.errors.DslError` and its kinds, at the user's own lines.
        """
        trace = Trace(self.owner, Builder(self.name), self._scope(sizes))
        arguments: dict[str, Any] = {}
        for name, declared in self.signature.declarations.items():
            shape = trace.scope.sizes(declared.shape, f"{declared.kind} {name}", declared.loc, "write -D {name}=SIZE")
            op: Leaf
            if isinstance(declared, ParamDeclaration):
                op = Param(shape, declared.fill, float(declared.lr_mult), float(declared.decay_mult))
            else:
                assert isinstance(declared, InputDeclaration)
                op = Input(shape, declared.fill)
            (ref,) = trace.builder.add(op, names=(name,), loc=declared.loc)
            trace.declared[ref] = declared.told(name)
            arguments[name] = Value(trace, ref)
        result = self.function(**arguments, **self.signature.options)
        outputs = {name: value.ref for name, value in self._outputs(result, trace).items()}
        graph = trace.builder.finish(list(outputs.items()))
        return rename_values(graph, {ref: name for name, ref in reversed(outputs.items())})

    def _scope(self, sizes: Mapping[str, int]) -> Scope:
        scope = Scope(self.owner)
        known = self.dims
        for name, size in sizes.items():
            if name not in known:
                raise DimError(
                    f"unknown dimension {name}: {self.name} has {', '.join(known) or 'no dimensions'}",
                    loc=self.loc,
                    scope=self.owner,
                )
            scope.bind(name, size, f"given as {name}={size}", self.loc)
        return scope

    def _outputs(self, result: Any, trace: Trace) -> dict[str, Value]:
        if isinstance(result, Value):
            named: dict[Any, Any] = {self._name_of(result, "out"): result}
        elif isinstance(result, tuple | list):
            named = {self._name_of(v, f"out_{i}") if isinstance(v, Value) else i: v for i, v in enumerate(result)}
            if len(named) != len(result):
                named = {f"out_{i}": value for i, value in enumerate(result)}
        else:
            named = dict(result) if isinstance(result, Mapping) else {"": result}
        if not named:
            raise DslError("a model must return at least one Value, found none", loc=self.loc, scope=self.owner)
        for name, value in named.items():
            if not isinstance(value, Value) or not isinstance(name, str):
                raise DslError(
                    f"a model returns a Value, a tuple of Values or a dict of them by name, found {value!r}",
                    loc=self.loc,
                    scope=self.owner,
                )
        return {name: trace.adopt(value, self.loc) for name, value in named.items()}

    @staticmethod
    def _name_of(value: Value, default: str) -> str:
        names = assigned_names(value.trace.builder.node(value.ref.node).loc)
        return names[value.ref.out] if value.ref.out < len(names) and names[0].isidentifier() else default


def model(function: Callable[..., Any]) -> Model:
    """Make a model of a function whose arguments default to ``Input`` and ``Param`` declarations.

    It returns a Value, a tuple of Values, or a dict of them by name.
    """
    return Model(function)
