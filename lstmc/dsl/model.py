"""Models: functions of whole arrays, traced to a graph when their dimensions have sizes; a model of one cell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from types import FunctionType
from typing import Any, NoReturn, Self, cast, overload

from lstmc.dsl.cell import Cell, add_params, as_argument, step_outputs
from lstmc.dsl.declare import Declaration, Definition, InputDeclaration, ParamDeclaration
from lstmc.dsl.dims import Dim, Scope, parts, whole_number
from lstmc.dsl.function import described
from lstmc.dsl.scan import scan
from lstmc.dsl.trace import ModelTrace, Trace, check_name, opened
from lstmc.dsl.value import Value
from lstmc.errors import DimError, DslError, errors_at
from lstmc.ir import Builder, Graph, Output, Ref, Scan
from lstmc.ops import Input
from lstmc.source import assigned_names, encloses, here, return_location, returned_names
from lstmc.text import did_you_mean, nearest_or_all, unused


class Model(Definition):
    """A function from inputs and parameters to named outputs. :meth:`graph` traces it.
    ``solver`` has the settings of training. ``delays`` has the number of steps by which an output is late, as after a
    convolution that sees future frames. ``states`` maps inputs of a model of one step to outputs, the next values."""

    kind = "model"

    def __init__(
        self,
        function: Callable[..., Any],
        solver: object = None,
        delays: Mapping[str, int] | None = None,
        states: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(function)
        self.source_function = cast(FunctionType, self.function)  # the user's, whose lines errors name
        self.solver = solver
        self.delays = self._checked_delays({} if delays is None else delays)
        self.next_states = self._checked_states({} if states is None else states)
        for name, declared in self.states.items():
            problem = f"{name} is declared as a State: a model has Inputs and Params, states belong to cells"
            raise DslError(problem, loc=declared.loc, scope=self.owner)

    def graph(self, /, **sizes: int) -> Graph:
        """Trace the function at ``sizes``, by dimension (those with a default may be left out), and return the graph.
        Raises :class:`~lstmc.errors.DslError` or a subclass at the user's own lines."""
        trace = ModelTrace(self.owner, Builder(self.name), self._scope(sizes), is_step=bool(self.next_states))
        try:
            with opened(trace):
                arguments = {name: self._argument(trace, name, d) for name, d in self.signature.declarations.items()}
                result = self.function(**arguments, **self.signature.options)
                outputs = {name: value.ref for name, value in self._outputs(result, trace).items()}
        except DslError as error:
            error.located(scope=self.owner if encloses(self.function, error.loc) else None)
            unused = [name for name in sizes if name not in trace.scope.asked]
            if unused and not set(trace.scope.asked) <= set(sizes):  # one is missing: it may have a wrong name
                missing = [name for name in trace.scope.asked if name not in sizes]
                hints = [f"{name}{did_you_mean(name, missing)}" for name in unused]
                error.located(notes=[f"sizes that were given, and not used until here: {', '.join(hints)}"])
            raise
        self._check_used(sizes, dict.fromkeys((*self.dims, *trace.scope.asked)))
        for name, domain in trace.expected.items():
            trace.builder.amend(name, replace(trace.builder.node(name).op, values=domain))  # type: ignore[call-arg]
        for name in self.delays:
            self._check_known(name, outputs, "delays", "outputs")
        carried = _with_carried(trace, outputs, self.delays)
        if self.next_states:
            carried = self._with_states(trace, carried)
        return trace.finished_graph(carried, {output.ref: output.name for output in reversed(carried)})

    def __call__(self, /, *args: object, **kwargs: object) -> NoReturn:
        """Raise: a model is compiled, not called."""
        inputs = ", ".join(f"{name}=..." for name in self.inputs)
        remedy = f"lstmc.compile({self.name}, ...).run({inputs}) computes it"
        common = "what several models have in common is a cell, or a function without @model"
        raise DslError(f"{self.owner} is not called: {remedy}, and {common}", loc=here())

    def with_options(self, /, **values: object) -> Self:
        """Return a copy of the model with other values of some options. Raise DslError for an unknown option."""
        options = self.signature.options
        for name in values:
            if name not in options:
                problem = f"{self.owner} has no option {name}{nearest_or_all(name, options, 'it has')}"
                note = "an option is an argument with a default value that is no Input and no Param"
                raise DslError(problem, loc=self.loc, notes=(note,))
        other = copy(self)
        other.signature = replace(self.signature, options={**options, **values})
        return other

    def _error(self, problem: str) -> DslError:
        return DslError(problem, loc=self.loc, scope=self.owner)

    def _argument(self, trace: ModelTrace, name: str, declared: Declaration) -> Any:
        """Add an input or the parameters of a declaration to the graph, and return the function's argument."""
        with errors_at(declared.loc, self.owner):
            sizes = trace.scope.sizes(declared.sizes, f"{declared.kind} {name}")
        if isinstance(declared, ParamDeclaration):
            refs = add_params(trace, declared, name, sizes, self.owner)
            return as_argument(declared, tuple(Value(trace, ref) for ref in refs))
        (ref,) = trace.builder.add(Input(sizes, declared.fill), names=(name,), loc=declared.loc)
        trace.declared[ref] = declared.note(name)
        if isinstance(declared, InputDeclaration) and declared.values is not None:
            trace.expect(ref, declared.values)
        return Value(trace, ref)

    def _scope(self, sizes: Mapping[str, int]) -> Scope:
        """Return the sizes of the dimensions: given ones, and defaults. Raise :class:`DimError` for an invalid size."""
        scope = Scope(needed=self.dims)
        for name, size in sizes.items():
            number = whole_number(size)
            with errors_at(self.loc, self.owner):
                if number is None:
                    raise DimError(f"dimension {name} must be a positive integer, found {described(size)}")
                scope.bind(name, number, f"given as {name}={number}")
        for dim in parts(size for declared in self.signature.declarations.values() for size in declared.sizes):
            if dim.default is not None and dim.name not in sizes:
                scope.bind(dim.name, dim.default, f"its default, {dim.name}={dim.default}")
        return scope

    def _checked_delays(self, delays: object) -> dict[str, int]:
        """Return the delays that are not 0. Raise :class:`DslError` unless they are integers of 0 or more by name."""
        given = delays if isinstance(delays, Mapping) else {"": None}
        steps = {name: whole_number(count) for name, count in given.items()}
        if any(count is None or count < 0 for count in steps.values()):
            raise self._error(f'delays= has the steps by which outputs are late, as in {{"y": 2}}, found {delays!r}')
        return {name: count for name, count in steps.items() if count}

    def _check_known(self, name: str, names: Collection[str], option: str, kind: str) -> None:
        """Raise DslError unless ``name``, which the model's ``option`` has, is in ``names``, the model's ``kind``."""
        if name not in names:
            raise self._error(f"{option}= names {name}{nearest_or_all(name, names, f'the {kind} of {self.name} are')}")

    def _checked_states(self, states: object) -> dict[str, str]:
        """Return the name of each state's next value. Raise DslError unless states are inputs with own next values."""
        names = states if isinstance(states, Mapping) else {"": None}
        if not all(isinstance(name, str) for name in (*names, *names.values())) or len({*names.values()}) < len(names):
            valid = 'states= has the next value of each state, an output, as in {"h": "h_next"}'
            raise self._error(f"{valid}, found {states!r}")
        for name in names:
            self._check_known(name, self.inputs, "states", "inputs")
        return dict(names)

    def _with_states(self, trace: ModelTrace, outputs: Sequence[Output]) -> list[Output]:
        """Return the outputs of a model that is one step, with ``carried_to`` on the next values of states. Raise
        DslError if a next value is no output, has another type than its state, or if there is no other output."""
        refs = {output.name: output.ref for output in outputs}
        for state, following in self.next_states.items():
            self._check_known(following, refs, "states", "outputs")
            own, new = trace.builder.type(Ref(state)), trace.builder.type(refs[following])
            if own != new:
                problem = f"state {state} is {own}: expected {following}, its next value, to be the same"
                raise self._error(f"{problem}, found {new}")
        takes = {output: Ref(state) for state, output in self.next_states.items()}
        if refs.keys() == takes.keys():
            mend = "return a result too, which may be the same value under another name"
            example = f'{{"result": y, "{next(iter(takes))}": y}}'
            raise self._error(f"{self.name} returns next values of states alone: {mend}, as in {example}")
        return [o._replace(carried_to=takes.get(o.name, o.carried_to)) for o in outputs]

    def _check_used(self, sizes: Iterable[str], used: Collection[str]) -> None:
        for name in sizes:
            if name not in used:
                problem = f"unknown dimension {name}{nearest_or_all(name, used, f'{self.name} has')}"
                raise DimError(problem, loc=self.loc, scope=self.owner)

    def _outputs(self, result: Any, trace: Trace) -> dict[str, Value]:
        """Return the outputs by name from the function's ``result``. Raise DslError for anything but Values."""
        loc = return_location(self.function)
        if isinstance(result, Mapping):
            named: dict[Any, Any] = dict(result)
        else:
            results = result if isinstance(result, tuple | list) else [result]
            named = dict(zip(self._names(results), results, strict=True))
            if len(named) != len(results):
                named = {f"out_{i}": value for i, value in enumerate(results)}
        if not named:
            raise DslError("a model must return at least one Value, found none", loc=loc)
        for name, value in named.items():
            if not isinstance(value, Value):
                actual = f"{described(value)}{'' if value is result else ' in it'}{_hint(result, name, value)}"
                valid = "a Value, a tuple of Values or a dict of them by name"
                raise DslError(f"a model returns {valid}, found {actual}", loc=loc)
            check_name(name, "the name of a model's output", loc)
        return {name: trace.adopt(value, loc) for name, value in named.items()}

    def _names(self, results: Sequence[Any]) -> list[str]:
        """Return the names of outputs that are not in a dict: the variables of the ``return``, or the values' names."""
        variables = returned_names(self.function)
        if len(variables) != len(results):
            variables = (None,) * len(results)
        names = []
        for i, (name, value) in enumerate(zip(variables, results, strict=True)):
            default = "out" if len(results) == 1 else f"out_{i}"
            names.append(name or (self._name_of(value, default) if isinstance(value, Value) else default))
        return names

    @staticmethod
    def _name_of(value: Value, default: str) -> str:
        """Return the variable that an output was assigned to, ``h_T`` for a scan's last h, or else ``default``."""
        node = value.trace.builder.node(value.ref.node)
        names, out = assigned_names(node.loc), value.ref.out
        if isinstance(node.op, Scan):
            steps = len(node.op.step_outputs)
            if out >= steps:
                return node.names[out].rpartition("/")[2]
            names = names[:1] if steps == 1 else ()
        return names[out] if out < len(names) else default


def _with_carried(trace: ModelTrace, outputs: Mapping[str, Ref], delays: Mapping[str, int]) -> list[Output]:
    """Return a model's outputs, and further outputs for last states that the next batch starts from."""
    by_name = {name: Output(name, ref, delay=delays.get(name, 0)) for name, ref in outputs.items()}
    for start, last in trace.carried.items():
        others = {name for name, output in by_name.items() if output.ref != last or output.carried_to}
        name = unused(trace.builder.node(last.node).names[last.out], others.__contains__)
        by_name[name] = Output(name, last, start)
    return list(by_name.values())


def _hint(result: object, name: object, value: object) -> str:
    """Return a hint for an output that is no Value, but contains Values; else an empty text."""
    last_states = isinstance(value, Mapping) and isinstance(result, tuple)
    if last_states or (isinstance(value, tuple) and any(isinstance(item, Mapping) for item in value)):
        return ": scan returns its outputs and the last states, as in y, last = scan(...)"
    if isinstance(value, Mapping) and value:
        inner = next(iter(value))
        return f": give each Value in it a name, as in {{'{name}_{inner}': ...}}; last states of a scan are last['h']"
    return ""


@overload
def model(function: Callable[..., Any]) -> Model: ...


@overload
def model(
    *, solver: object = None, delays: Mapping[str, int] | None = None, states: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Model]: ...


def model(
    function: Callable[..., Any] | None = None,
    *,
    solver: object = None,
    delays: Mapping[str, int] | None = None,
    states: Mapping[str, str] | None = None,
) -> Any:
    """Make a model from a function whose arguments default to ``Input`` and ``Param`` declarations.
    It returns a Value, a tuple of Values, or a dict of them by name. ``solver`` has the settings of training: a
    ``lstmc.Solver``, or a backend's own. ``@model(delays={"y": 2})`` says that output y comes 2 steps late: y[t]
    belongs to the inputs of step t - 2. Manifests and streaming programs contain this number. ``@model(states={"h":
    "h_next"})`` says that the model is one step: output h_next is the value of input h at the next step. At the first
    step it is 0, or the input's ``fill``. Scans in it run along other axes than time."""
    if function is None:
        return lambda decorated: Model(decorated, solver, delays, states)
    return Model(function)


class CellModel(Model):
    """A model that runs a cell over ``T`` steps: inputs are sequences [T, ...], outputs are ``y`` over time and last
    states.
    The last value of a state ``h`` is called ``h_T``; outputs that the cell returns as a dict keep their names.
    ``options`` are those of :func:`~lstmc.scan`."""

    def __init__(self, cell: Cell, **options: Any) -> None:
        self.cell = cell
        time = Dim("T")

        def run(**sequences: Value) -> dict[str, Value]:
            sizes: dict[str, Any] = {name: Dim(name) for name in cell.dims}
            bound = cell(name=cell.name, **sizes)
            y, last = scan(bound, sequences, **options)
            named = {(f"y_{name}" if isinstance(y, tuple) else name or "y"): v for name, v in step_outputs(y).items()}
            return {**named, **{f"{name}_T": value for name, value in last.items()}}

        run.__name__, run.__doc__ = cell.name, cell.__doc__
        sequences = {n: InputDeclaration((time, *d.shape), d.fill, d.loc) for n, d in cell.inputs.items()}
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, keyword_only, default=d) for name, d in sequences.items()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        super().__init__(run)
        self.source_function = cast(FunctionType, cell.function)
        self.loc, self.owner = cell.loc, cell.owner  # what errors speak of is the cell

    @property
    def dims(self) -> list[str]:
        return list(dict.fromkeys(["T", *self.cell.dims]))

    def _scope(self, sizes: Mapping[str, int]) -> Scope:
        """Return the sizes of the dimensions, and raise :class:`DimError` if one of the cell's is missing."""
        self._check_used(sizes, self.dims)
        scope = super()._scope(sizes)
        for name, declared in self.cell.signature.declarations.items():
            with errors_at(declared.loc, self.owner):
                scope.sizes(declared.sizes, f"{declared.kind} {name}")
        return scope


__all__ = ["Model", "model"]
