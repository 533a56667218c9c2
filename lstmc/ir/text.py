"""The text form: one line a node. ``parse_graph(print_graph(g)) == g``, exactly.

    graph demo {
      %X: f32[3,4,5] = input()  # demo.py:9:10-9:24
      %W: f32[8,5] = param(fill=uniform(-0.05, 0.05))
      %z: f32[3,4,8] = linear(%X, %W, axis=2)
      return z=%z
    }

A field with its default value is left out; a leaf's shape is in its type. A scan's bodies follow it in braces; a
body returns the step's outputs, a single output without a name, then the ``next`` states:

    return %y, next h=%h, next c=%c

A result that an input takes in the next batch names that input: ``return y=%y, h_T=%h_T -> %h_0``. A late result has
its delay in steps: ``return y=%y late 2``.

A node that unrolling made has its scan and step; a cut sequence has them for each of its pieces: ``@ lstm:3``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields
from functools import cache, lru_cache
from typing import Any

from lstmc.errors import DslError, ParseError, ShapeError
from lstmc.ir.graph import Builder, Graph, Node, Output, Ref, Step, Steps
from lstmc.ir.scan import Scan
from lstmc.ops import DOMAINS, FILLERS, Arg, Filler, Leaf, Op
from lstmc.ops.base import dialect_of, dialects, load_dialect
from lstmc.source import SrcLoc
from lstmc.types import TensorType

__all__ = ["parse_filler", "parse_graph", "print_graph", "print_node"]

_NODE = re.compile(
    r"(?P<names>%\S+(?:, %\S+)*): (?P<types>\w+\[[\d,]*\](?:, \w+\[[\d,]*\])*)"
    r" = (?P<op>[\w.]+)\((?P<args>.*?)\)(?P<block> \{)?(?:  @ (?P<steps>[^\s,]+(?:, [^\s,]+)*))?(?:  # (?P<loc>.*))?"
)
_NO_STEP = "-"
_STEP = re.compile(r"(\S+):(\d+)")
_LOC = re.compile(r"(.*):(\d+):(\d+)-(\d+):(\d+)")
_OPERANDS = re.compile(r"((?:%[^\s,()]+(?:, )?)*)(.*)")
_TYPE = re.compile(r"\w+\[[\d,]*\]")
_CALLED: dict[str, Callable[..., Any]] = {kind.name: kind for kind in (*DOMAINS, *FILLERS)}


def print_graph(graph: Graph) -> str:
    """Return the text of a graph, ending in a newline."""
    return "\n".join(_graph_lines(graph, "graph")) + "\n"


def _graph_lines(graph: Graph, keyword: str) -> Iterator[str]:
    """Yield the lines of a graph; ``keyword`` is "graph", or "body" or "first" for a body of a scan."""
    yield f"{keyword} {graph.name} {{"
    for node in graph:
        yield from (f"  {line}" for line in _node_lines(graph, node))
    yield f"  return {', '.join(_returned(graph))}".rstrip()
    yield "}"


def _returned(graph: Graph) -> Iterator[str]:
    """Yield each result of a graph as it stands after ``return``."""
    following = _next_states(graph)
    for i, output in enumerate(graph.outputs):
        word = "next " if i in following else ""
        text = f"{word}{output.name}{'=' if output.name else ''}%{graph.value_name(output.ref)}"
        text += f" late {output.delay}" if output.delay else ""
        yield f"{text} -> %{graph.value_name(output.carried_to)}" if output.carried_to else text


def print_node(graph: Graph, node: Node) -> str:
    """Return the first line of a node, without its steps and its location."""
    names = ", ".join(f"%{name}" for name in node.names)
    types = ", ".join(map(str, node.types))
    parts = [f"%{graph.value_name(ref)}" for ref in graph.args(node.name)] + list(_attributes(node.op))
    return f"{names}: {types} = {node.op.name}({', '.join(parts)})"


def _node_lines(graph: Graph, node: Node) -> Iterator[str]:
    """Yield the lines of a node: one, or for a scan the lines of its bodies too."""
    loc = node.loc
    steps = [f"{step.scan}:{step.t}" if step else _NO_STEP for step in (node.steps[:1] if node.step else node.steps)]
    place = f"  @ {', '.join(steps)}" if steps else ""
    place += f"  # {loc.file}:{loc.line}:{loc.col}-{loc.end_line}:{loc.end_col}" if loc else ""
    if not isinstance(node.op, Scan):
        yield print_node(graph, node) + place
        return
    yield print_node(graph, node) + " {" + place
    yield from (f"  {line}" for line in _graph_lines(node.op.body, "body"))
    if node.op.first is not None:
        yield from (f"  {line}" for line in _graph_lines(node.op.first, "first"))
    yield "}"


def _next_states(graph: Graph) -> range:
    """Return the indices of a graph's results that are next states: the last results, one for each state."""
    states = sum(isinstance(arg.op, Arg) and arg.op.role == "state" for arg in graph.body_args())
    return range(max(0, len(graph.outputs) - states), len(graph.outputs))


@cache
def _fields(op: type[Op]) -> dict[str, Any]:
    """Return the names of an op's attributes, and their defaults: MISSING for an attribute without a default."""
    return {field.name: field.default for field in fields(op)}


def _attributes(op: Op) -> Iterator[str]:
    """Yield NAME=VALUE for each attribute that is not at its default; bodies and a leaf's shape stand elsewhere."""
    for name, default in _fields(type(op)).items():
        value = getattr(op, name)
        if isinstance(value, Graph) or (name == "shape" and isinstance(op, Leaf)):
            continue
        if default is MISSING or value != default or type(value) is not type(default):
            yield f"{name}={value!r}"


def parse_graph(text: str, ops: Sequence[type[Op]] = ()) -> Graph:
    """Return the graph that ``text`` prints, with ops of installed dialects and ``ops``, which belong to none. Raises
    :class:`ParseError` with the line's number and text, and :class:`PluginError` if a dialect does not load."""
    classes: tuple[type[Op], ...] = (Scan, *ops)
    return _Parser(text, {op.name: op for op in classes}).whole()


class _Parser:
    """Reads a graph from its text, line by line; ``at`` is the index of the next line."""

    def __init__(self, text: str, ops: dict[str, type[Op]]) -> None:
        lines = [*text.splitlines(), "the end of the text"]
        # the lines that are not empty, with their numbers
        kept = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
        self.numbers, self.lines = [n for n, _ in kept], [line for _, line in kept]
        self.at = 0
        self.ops = ops
        self.missing = set(dialects())  # dialects that are not loaded, as no op of them was read

    def whole(self) -> Graph:
        graph = self.graph("graph")
        if self.at < len(self.lines) - 1:
            raise self.error("nothing after the graph's closing brace")
        return graph

    def error(self, expected: str) -> ParseError:
        return ParseError(f"line {self.numbers[self.at]}: expected {expected}, found: {self.lines[self.at]}")

    def peek(self) -> str:
        return self.lines[self.at]

    def graph(self, keyword: str) -> Graph:
        """Return the graph, or the scan body, that starts at the next line."""
        head = re.fullmatch(rf"{keyword} (\S+) \{{", self.peek())
        if head is None:
            raise self.error(f"`{keyword} NAME {{`")
        self.at += 1
        builder, values = Builder(head[1]), dict[str, Ref]()
        while not re.match(r"return\b", self.peek()):
            self.node(builder, values)
        graph = self.returning(builder, values)
        if self.peek() != "}":
            raise self.error("`}`")
        self.at += 1
        return graph

    def returning(self, builder: Builder, values: dict[str, Ref]) -> Graph:
        """Read the ``return`` line, and return the finished graph."""
        items = [item for item in self.peek()[len("return") :].strip().split(", ") if item]
        outputs = []
        for item in items:
            returned, arrow, start = item.partition(" -> %")
            name, percent, value = returned.removeprefix("next ").rpartition("%")
            value, late, steps = value.partition(" late ")
            if not percent:
                raise self.error("each result as NAME=%VALUE")
            if late and not steps.isdecimal():
                raise self.error("a number of steps after `late`")
            carried_to = self.value(start, values) if arrow else None
            outputs.append(Output(name.removesuffix("="), self.value(value, values), carried_to, int(steps or 0)))
        graph = builder.finish(outputs)
        if [item.startswith("next ") for item in items] != [i in _next_states(graph) for i in range(len(items))]:
            raise self.error("`next NAME=%VALUE` for each state, after the step's outputs")
        self.at += 1
        return graph

    def value(self, name: str, values: dict[str, Ref]) -> Ref:
        if name not in values:
            raise self.error(f"a value defined above, not %{name}")
        return values[name]

    def node(self, builder: Builder, values: dict[str, Ref]) -> None:
        """Read one node, with the bodies of a scan, and add it to ``builder`` and its values to ``values``."""
        match = _NODE.fullmatch(self.peek())
        if match is None:
            raise self.error("`%NAME: TYPE = OP(...)` or `return`")
        start = self.at
        names = tuple(name[1:] for name in match["names"].split(", "))
        types = tuple(_parse_type(text) for text in _TYPE.findall(match["types"]))
        split = _OPERANDS.fullmatch(match["args"])
        assert split is not None
        operands = [self.value(name[1:], values) for name in split[1].split(", ") if name]
        op = self.op(match["op"], split[2], types, bool(match["block"]))
        try:
            inferred = op.infer(*[builder.type(ref) for ref in operands])
        except (ShapeError, TypeError) as error:
            self.at = start
            raise self.error(f"a well-typed node ({getattr(error, 'message', error)})") from None
        new = len(set(names)) == len(names) and values.keys().isdisjoint(names)
        if inferred != types or len(names) != len(types) or not new:
            self.at = start
            raise self.error(f"{len(types)} new names and types {', '.join(map(str, inferred))}")
        steps = _parse_steps(match["steps"])
        if steps is None or len(steps) not in (0, 1, len(types)):
            self.at = start
            raise self.error(f"SCAN:STEP, for all or for each of {len(types)}, after @")
        steps = steps * len(types) if len(steps) == 1 else steps
        refs = builder.add(op, *operands, names=names, loc=_parse_loc(match["loc"]), types=types, steps=steps)
        values.update(zip(names, refs, strict=True))

    def op(self, name: str, attributes: str, types: tuple[TensorType, ...], block: bool) -> Op:
        """Return the op called ``name``, and load its dialect if needed; with ``block``, its bodies follow."""
        dialect = dialect_of(name)
        if name not in self.ops and dialect in self.missing:
            self.missing.remove(dialect)
            self.ops = load_dialect(dialect) | self.ops
        if name not in self.ops:
            raise self.error(f"a known op, not {name}")
        cls, start = self.ops[name], self.at
        try:
            short = len(attributes) <= _SHORT
            fields = dict(_short_values(attributes) if short else _attribute_values(attributes))
        except (SyntaxError, ValueError):
            raise self.error("attributes as NAME=VALUE") from None
        except (TypeError, DslError) as error:
            raise self.error(f"attributes of {name} ({getattr(error, 'message', error)})") from None
        if issubclass(cls, Leaf):
            fields["shape"] = types[0].shape
        self.at += 1
        if block:
            fields["body"] = self.graph("body")
            if self.peek().startswith("first"):
                fields["first"] = self.graph("first")
            if self.peek() != "}":
                raise self.error("`}`")
            self.at += 1
        valid = _fields(cls)
        unknown = [field for field in fields if field not in valid]
        try:
            if unknown:
                raise TypeError(f"it has {', '.join(valid) or 'none'}, not {', '.join(unknown)}")
            return cls(**fields)
        except TypeError as error:
            self.at = start
            raise self.error(f"attributes of {name} ({error})") from None


def parse_filler(text: str) -> Filler:
    """Return the filler that ``text`` prints: ``uniform(-0.1, 0.1)``. Raises :class:`ParseError` for any other text."""
    try:
        filler = _literal(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, DslError):
        filler = None
    if not isinstance(filler, Filler):
        raise ParseError(f"expected a filler, found: {text}")
    return filler


def _attribute_values(text: str) -> dict[str, Any]:
    """Return a text such as ``axis=2`` as attributes by name. Raises ValueError or SyntaxError for other texts."""
    if not text:
        return {}
    call = ast.parse(f"f({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(text)
    return {keyword.arg: _literal(keyword.value) for keyword in call.keywords if keyword.arg}


_SHORT = 200  # characters
_short_values = lru_cache(maxsize=1024)(_attribute_values)  # nodes repeat the same texts, and Python's parser is slow


def _literal(node: ast.expr) -> Any:
    """Return the value of a Python literal, or of a call of a filler or a domain, such as ``uniform(-0.1, 0.1)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id not in _CALLED:
            raise ValueError(node.func.id)
        return _CALLED[node.func.id](*[_literal(arg) for arg in node.args])
    return ast.literal_eval(node)


@lru_cache(maxsize=4096)
def _parse_type(text: str) -> TensorType:
    dtype, _, sizes = text[:-1].partition("[")
    return TensorType(tuple(int(size) for size in sizes.split(",") if size), dtype)


def _parse_steps(text: str | None) -> Steps | None:
    """Return the steps after ``@``, or () if there are none. Return None if the text is malformed."""
    steps: list[Step | None] = []
    for item in text.split(", ") if text else ():
        match = _STEP.fullmatch(item)
        if match is None and item != _NO_STEP:
            return None
        steps.append(Step(match[1], int(match[2])) if match else None)
    return tuple(steps)


def _parse_loc(text: str | None) -> SrcLoc | None:
    match = _LOC.fullmatch(text) if text else None
    return SrcLoc(match[1], *(int(match[i]) for i in range(2, 6))) if match else None
