"""Tracing: one run of a user's function, recorded node by node.
The model has one trace, and each scanned cell has one below it. A value of the model that a body uses becomes an
argument of the body: a ``weight`` if it is a parameter or the transpose of one, else ``static``."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from lstmc.dsl.dims import Scope, Size
from lstmc.errors import DimError, DslError, ShapeError, errors_at, size_argument
from lstmc.ir import Builder, Graph, Output, Ref, Scan, is_weight, rename_values
from lstmc.ops import Arg, Domain, Input, Op, Param, Role, Transpose, Values
from lstmc.source import SrcLoc, assigned_names, here
from lstmc.text import Names
from lstmc.types import TensorType


@dataclass(eq=False)
class CellUse:
    """What all uses of one bound cell in a model share. ``running``: its body is being traced."""

    name: str
    scope: Scope = field(default_factory=Scope)
    params: dict[str, tuple[Ref, ...]] = field(default_factory=dict)  # in the model's trace, by argument
    scanned: bool = False  # a scan has used it
    running: bool = False
    births: int = 0  # how many bound cells the body has made so far, while it is traced

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Mark the cell's body as being traced: the block traces it, and the bound cells made there belong to it."""
        self.running, self.births = True, 0
        token = _tracing.set(self)
        try:
            yield
        finally:
            _tracing.reset(token)
            self.running = False


@dataclass(frozen=True)
class Instantiation:
    """The place where a cell's body makes a bound cell, by its ``number`` among those that the body makes. A body that
    is traced again makes its bound cells again: an equal place tells that they are the same cells."""

    use: CellUse
    number: int


_tracing: ContextVar[CellUse | None] = ContextVar("the bound cell whose body is being traced", default=None)


def instantiation() -> Instantiation | None:
    """Return the place where a bound cell is made now; None outside of cells' bodies."""
    use = _tracing.get()
    if use is None:
        return None
    use.births += 1
    return Instantiation(use, use.births)


_NAME = re.compile(r"[^\W\d][\w./-]*")
_LONGEST_TEXT = 60
_LONGEST_NAME = 40  # of a name that is made of the names of operands


class Traced:
    """An array of a trace, by its place ``ref`` in the graph; users' functions get :class:`~lstmc.dsl.value.Value`."""

    __slots__ = ("ref", "trace")

    def __init__(self, trace: Trace, ref: Ref) -> None:
        self.trace = trace
        self.ref = ref

    @property
    def type(self) -> TensorType:
        return self.trace.builder.type(self.ref)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape


T = TypeVar("T", bound=Traced)


def origin(value: Traced) -> str:
    """Return an error's note on where a value comes from: its declaration, or its name, type and line."""
    trace, ref = value.trace, value.ref
    if ref in trace.declared:
        return trace.declared[ref]
    node = trace.builder.node(ref.node)
    assigned = () if isinstance(node.op, Scan) else assigned_names(node.loc)
    text = node.loc.text() if node.loc and not isinstance(node.op, Scan) else None
    label = text if text and len(text) <= _LONGEST_TEXT else trace.name(ref)
    name = assigned[ref.out] if ref.out < len(assigned) else label
    return f"{name}: {node.types[ref.out]}{f', made at {node.loc.short}' if node.loc else ''}"


@dataclass(eq=False)
class Trace:
    """A graph that is built while a user's function runs. ``owner`` names the function in errors: ``cell 'lstm'``. A
    cell's body has the model's trace as ``parent``."""

    owner: str
    builder: Builder
    scope: Scope
    parent: Trace | None = None
    finished: bool = False
    captured: dict[Ref, tuple[Traced, Traced]] = field(default_factory=dict)  # by the outer ref: outer and own value
    declared: dict[Ref, str] = field(default_factory=dict)  # the note of an error about an argument
    expected: dict[str, Domain] = field(default_factory=dict)  # the domain of the elements of a leaf, by its name
    counter: Ref | None = None  # the argument of a cell's body that has the number of the step
    names: dict[Ref, str] = field(default_factory=dict)  # names of values; equal names get numbers at the end
    words: dict[Ref, str] = field(default_factory=dict)  # a value's word in names of results, if not its name

    @property
    def root(self) -> ModelTrace:
        """The trace of the model."""
        assert self.parent is not None, "only a model's trace has no parent"
        return self.parent.root

    def apply(self, op: Op, *operands: Traced, names: Sequence[str] = (), loc: SrcLoc | None = None) -> tuple[Ref, ...]:
        """Record one op, and return its results. A shape error names the user's line and the operands' origins."""
        loc = loc or here()
        values = [self.adopt(value, loc) for value in operands]
        try:
            refs = self._add(op, values, names, loc)
            for value, domain in zip(values, op.domains(*[v.type for v in values]), strict=True):
                if domain is not None:
                    self.expect(value.ref, domain)
            return refs
        except ShapeError as error:
            notes = [f"{_operand_name(op, slot)} is {origin(value)}" for slot, value in enumerate(values)]
            raise error.located(loc, notes=list(dict.fromkeys(notes))) from None

    def _add(self, op: Op, values: Sequence[Traced], names: Sequence[str], loc: SrcLoc | None) -> tuple[Ref, ...]:
        """Add a node and return its results, called ``names``, or by the variables of the user's line, or by op and
        operands. Inside a function of the language the variables name only the function's result."""
        call = CALL.get()
        if not names and (call is None or not values):
            names = assigned_names(loc)
        if names or not values:
            refs = self.builder.add(op, *[v.ref for v in values], names=names, loc=loc)
        else:
            names = (derived_name(op.name.rpartition(".")[2].lower(), values),)
            refs = self.builder.add(op, *[v.ref for v in values], names=names, loc=loc)
            self.words.update(dict.fromkeys(refs, next(iter(_words(values)), "")))
        if values:
            self.names.update((ref, names[min(i, len(names) - 1)]) for i, ref in enumerate(refs))
        if call is not None:
            call.values.update((self, ref) for ref in refs)
        return refs

    def finished_graph(self, outputs: Iterable[tuple[str, Ref] | Output], names: Mapping[Ref, str]) -> Graph:
        """Return the graph with ``outputs``. Its values are called by ``names``, or else by the trace's own names."""
        return rename_values(self.builder.finish(outputs), names, self.names)

    def expect(self, ref: Ref, domain: Domain) -> None:
        """Record a value's domain at the inputs and arguments that it comes from by ops that only move elements."""
        op = self.builder.node(ref.node).op
        if isinstance(op, Input | Arg):
            previous = self.expected.get(ref.node)
            self.expected[ref.node] = domain if previous is None else previous.both(domain)
        elif op.moves:
            for operand in self.builder.args(ref.node):
                self.expect(operand, domain)

    def adopt(self, value: T, loc: SrcLoc | None) -> T:
        """Return a value as a value of this trace; a value of the parent becomes an argument. Raise DslError for any
        further trace, or for one that is finished."""
        if self.finished or value.trace.finished or value.trace not in (self, self.parent):
            owner = self.owner if self.finished else value.trace.owner
            remedy = "Return it from there, or pass it on as an input, a state or a static input"
            raise DslError(f"a value of {owner} is used outside the call that made it. {remedy}", loc=loc)
        if value.trace is self:
            return value
        if value.ref not in self.captured:
            outer = value.trace
            node = outer.builder.node(value.ref.node)
            source = node
            while isinstance(source.op, Transpose):
                source = outer.builder.node(outer.builder.args(source.name)[0].node)
            role: Role = "weight" if isinstance(source.op, Param) else "static"
            (ref,) = self.builder.add(Arg(value.shape, role), names=(outer.name(value.ref),), loc=node.loc)
            self.declared[ref] = origin(value)
            self.captured[value.ref] = (value, type(value)(self, ref))
        argument = self.captured[value.ref][1]
        assert isinstance(argument, type(value))
        return argument

    def name(self, ref: Ref) -> str:
        """Return the name of a value, without the number that makes it unique."""
        return self.names.get(ref) or self.builder.node(ref.node).names[ref.out]


@dataclass(eq=False)
class ModelTrace(Trace):
    """The trace of a model, with the facts that the model and the bodies of its cells share."""

    cells: dict[Hashable, CellUse] = field(default_factory=dict)  # by bound cell, or by its instantiation and its cell
    titles: Names = field(default_factory=Names)  # names of bound cells and scans that are taken
    masks: dict[tuple[Ref, int], Ref] = field(default_factory=dict)  # which steps are valid, by lengths and steps
    counters: dict[tuple[int, bool, bool], Ref] = field(default_factory=dict)  # numbers of steps: T, reverse, carry
    carried: dict[Ref, Ref] = field(default_factory=dict)  # for each input the value that it takes in the next batch
    params: dict[str, Ref] = field(default_factory=dict)  # declared parameters by name
    constants: dict[Values, Ref] = field(default_factory=dict)  # the parameters of fixed arrays
    is_step: bool = False  # the model is one step: its scans run along other axes than time
    draws: Iterator[int] = field(default_factory=count)  # numbers for dropouts, each of which draws for itself
    nested: int = 0  # how many cells are being traced, one inside the other

    @property
    def root(self) -> ModelTrace:
        return self

    def constant(self, fill: Values, name: str, loc: SrcLoc | None) -> Ref:
        """Return the parameter with these fixed numbers: one for all places that have them."""
        if fill not in self.constants:
            (ref,) = self.builder.add(Param(fill.shape, fill, 0.0, 0.0), names=(name,), loc=loc)
            self.constants[fill] = ref
        return self.constants[fill]


def _operand_name(op: Op, slot: int) -> str:
    named = op.operands[min(slot, len(op.operands) - 1)]
    return f"operand {slot + 1}" if named.startswith("*") else named


@dataclass(eq=False)
class Call:
    """A call of a function of the language, and the values that are recorded in it."""

    values: set[tuple[Trace, Ref]] = field(default_factory=set)


CALL: ContextVar[Call | None] = ContextVar("the function of the language that is running", default=None)


def derived_name(word: str, operands: Sequence[Traced]) -> str:
    """Return a name for an unnamed value: a word, and at most two words of its operands, as ``mul_f_c_prev``."""
    for most in (2, 1):
        name = "_".join((word, *_words(operands)[:most]))
        if len(name) <= _LONGEST_NAME:
            return name
    return word


def _words(values: Sequence[Traced]) -> list[str]:
    """Return words for a result's name: of the first weight among the operands, or else of all operands, each once. An
    unnamed operand has the word of its first operand, so that names do not grow along a chain."""
    weights = [value for value in values if is_weight(value.trace.builder, value.ref)]
    words = [_word(value) for value in weights[:1] or values]
    return [word for word in dict.fromkeys(words) if word]


def _word(value: Traced) -> str:
    trace, ref = value.trace, value.ref
    word = trace.words.get(ref)
    return trace.name(ref).rpartition("/")[2] if word is None else word


def check_name(name: object, what: str, loc: SrcLoc | None) -> None:
    """Raise :class:`DslError` unless ``name`` is valid for layers and blobs; ``what`` describes it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        valid = "a letter or _, then letters, digits and any of _ . / -"
        raise DslError(f"{what} must be {valid}, found {name!r}", loc=loc)


_OPEN: ContextVar[Trace | None] = ContextVar("the trace that a function is being run for", default=None)


@contextmanager
def opened(trace: Trace) -> Iterator[None]:
    """Make ``trace`` record calls without any Value in the block, and finish it at the end."""
    token = _OPEN.set(trace)
    try:
        yield
    finally:
        _OPEN.reset(token)
        trace.finished = True


def open_trace(function: str, loc: SrcLoc | None) -> Trace:
    """Return the trace of the running model or cell, for a call of ``function`` without any Value."""
    trace = _OPEN.get()
    if trace is None:
        raise DslError(f"{function} must be called in a model: expected a function with @model around it", loc=loc)
    return trace


def size_in(trace: Trace, size: Size, loc: SrcLoc | None) -> int:
    """Return a size as a number by the dimensions of ``trace``. Raise DimError for a dimension without a size."""
    missing = trace.scope.missing((size,))
    if missing:
        argument = size_argument(missing[0])
        is_model = trace.scope is trace.root.scope
        remedy = f"give it a size with {argument}" if is_model else f"an argument of it declares {missing[0]}, or none"
        problem = f"no size in {trace.owner}, which has {', '.join(trace.scope.names) or 'none'}"
        raise DimError(f"dimension {missing[0]} has {problem}: {remedy}", loc=loc)
    with errors_at(loc):
        return trace.scope.size(size)
