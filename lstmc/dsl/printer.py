"""Print a graph as Python: its cells and its model in the language. Tracing the printed model gives the graph again.

@cell
def lstm_cell(
    x=Input(2, 5), h=State(2, 8), *, W=Param(8, 5, fill=uniform(-0.05, 0.05)),
):
    ...
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from textwrap import wrap
from typing import Any

from lstmc.dsl.vocabulary import KEYWORDS, LANGUAGE, expression, keywords, listed, python_identifier
from lstmc.errors import DslError
from lstmc.ir import Graph, Node, Output, Ref, Scan, is_step
from lstmc.ops import Dropout, Full, Input, IntegerRange, Linear, Op, Param, Split, Tile, Transpose, Values
from lstmc.ops.layers import flatten_axis
from lstmc.text import Names, identifier
from lstmc.types import MOST_ELEMENTS, TensorType

WIDE = 100  # columns of a line that is not folded


def import_line(text: str, words: Sequence[str] = ()) -> str:
    """Return the line that imports ``words`` and the functions of the language that ``text`` calls."""
    used = {*re.findall(r"(?<![\w.])(\w+)(?=\()", text), *words}
    names = listed([name for name in LANGUAGE if name in used])
    if len(names) < 90:
        return f"from lstmc import {names}"
    return "from lstmc import (\n" + "\n".join(f"    {line}" for line in wrap(names + ",", 110)) + "\n)"


def print_python(graph: Graph) -> str:
    """Return a graph as the text of a Python module with its cells and one model. Sizes are numbers.
    Raises :class:`~lstmc.errors.DslError` for a graph with parts that only passes make, such as layers of a backend."""
    return Printer(graph).text()


def _of_passes(what: str) -> DslError:
    return DslError(f"{what}, which only passes make: print the model as it was written")


def python_names(taken: Iterable[str] = ()) -> Names:
    """Return unique identifiers for one function, which avoid ``taken`` and the names of Python and of the language."""
    return Names({*KEYWORDS, *taken}, _spelled)


def _spelled(hint: str, otherwise: str = "value") -> str:
    return hint if hint.isidentifier() and identifier(hint) == hint else python_identifier(hint, otherwise)


class Printer:
    """The text of a graph: its cells, then its model. ``title`` is the module's docstring, ``comments`` are of the
    model's arguments by name, ``sizes`` are lines before all functions. A subclass may print ops of its own."""

    comments: Mapping[str, str] = {}
    sizes: Sequence[str] = ()

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.title = f"{graph.name}, printed from its graph."
        self.names = python_names()
        self.model = self.names.unique(_spelled(graph.name, "net"))  # the name of the model's function
        self.cells: dict[str, str] = {}  # the name of each cell by the text of the cell without its name
        self.bound: dict[str, str] = {}  # the call that binds a cell which several scans share, by the scans' title
        self.modules: dict[str, set[str]] = {}  # classes to import by module: ops that the language has no function of
        self.draws = 0  # how many dropouts have been printed

    def text(self) -> str:
        """Return the module: its docstring, the imports, the lines ``sizes``, the cells, the model."""
        function = Function(self, self.graph)
        arguments = [*function.arguments()]
        lines = [*function.lines()]
        states = {name: output.name for name, output in self.graph.carried().items()} if is_step(self.graph) else {}
        outputs = self.graph.outputs
        results = [output for output in outputs if output.carried_to is None or states] or outputs
        returned = folded("{", [f'"{output.name}": {function.values[output.ref]}' for output in results], "}")
        delays = {output.name: output.delay for output in results if output.delay}
        options = [f"{name}={value!r}" for name, value in (("delays", delays), ("states", states)) if value]
        decorator = f"model({', '.join(options)})".replace("'", '"') if options else "model"
        model = _definition(decorator, self.model, arguments, lines, returned, self.comments)
        cells = [text.replace("def (", f"def {name}(", 1) for text, name in self.cells.items()]
        code = "\n\n\n".join([*cells, model])
        imports = [f"from {module} import {listed(sorted(names))}" for module, names in sorted(self.modules.items())]
        called = "\n".join([*self.sizes, re.sub("  # .*", "", code)])
        head = import_line(called, ["model", *(["cell"] if self.cells else [])])
        return "\n".join([f'"""{self.title}"""', "", head, *imports, *self.sizes, "", "", code, ""])

    def cell_name(self, scan: Scan) -> str:
        """Return the name for a scan's cell; the caller makes it unique."""
        return f"{python_identifier(scan.body.name)}_cell"

    def options(self, scan: Scan) -> Sequence[str]:
        """Return the keywords of a scan's call that take its last operands, behind the body's; () for a core scan."""
        return ()

    def own_weights(self, op: Op) -> Sequence[int]:
        """Return the slots of an op's operands that become parameters of the cell that the op is printed as."""
        return [i for i in range(len(op.body.body_args())) if op.role(i) == "weight"] if isinstance(op, Scan) else ()

    def expression(self, op: Op, names: Sequence[str]) -> str | None:
        """Return the expression of an op; None if the language has no function for it, or if a Dropout is not the next
        by its number: the language numbers dropouts in the order of the text."""
        text = expression(op, names)
        if isinstance(op, Dropout):
            text = text if op.draw == self.draws else None
            self.draws += text is not None
        return text

    def constructed(self, op: Op) -> str:
        """Return the expression that makes an op, whose class the module imports."""
        kind = type(op)
        if op.backend or isinstance(op, Scan):
            raise _of_passes(f"{op.name} is a layer of backend {op.backend}")
        self.modules.setdefault(kind.__module__, set()).add(kind.__name__)
        return f"{kind.__name__}({', '.join(repr(getattr(op, field.name)) for field in fields(op))})"

    def param(self, op: Param, name: str, default: str) -> str:
        """Return the declaration of a parameter; it gives the name if that is not ``default``."""
        values = isinstance(op.fill, Values)
        fill = op.fill.draw(None, op.shape).tolist() if values else op.fill  # type: ignore[arg-type]
        options = keywords(fill=(fill, None)) if fill != Param(op.shape).fill else ""
        if (op.lr_mult, op.decay_mult) == (0, 0):
            options += ", trained=False"
        else:
            options += keywords(lr_mult=(op.lr_mult, 1.0), decay_mult=(op.decay_mult, 1.0))
        options += keywords(name=(name, default))
        return f"Param({listed(op.shape)}{options})"


class Function:
    """The text of one graph: the model's, or a step's. ``values`` has the expression of each value.
    With ``nested`` an expression with one reader is written inside the reader's expression, if the line stays short."""

    def __init__(self, module: Printer, graph: Graph, nested: bool = False) -> None:
        self.module, self.graph, self.nested = module, graph, nested
        self.values: dict[Ref, str] = {}
        self.carried = graph.carried()
        self.readers = graph.readers()
        self.scans = [node for node in graph if isinstance(node.op, Scan)]
        self.names = python_names(module.cell_name(node.op) for node in self.scans if isinstance(node.op, Scan))
        self.held: dict[Ref, str] = {}  # expressions of values that may be written inside their reader
        # leaves that a scan declares itself: zeros, fills and carried states
        self.begun = {ref.node for scan in self.scans for ref in self._first_values(scan)}

    def arguments(self) -> Iterator[str]:
        """Yield the declarations of the model's inputs, then of the parameters that are not a cell's alone."""
        inputs = [node for node in self.graph if isinstance(node.op, Input) and node.name not in self.begun]
        read = {output.ref for output in self.graph.outputs}
        for node in self.graph:
            own = {*self.module.own_weights(node.op)}
            read |= {ref for i, ref in enumerate(self.graph.args(node.name)) if i not in own}
        params = [node for node in self.graph if isinstance(node.op, Param)]
        params = [node for node in params if Ref(node.name) in read or Ref(node.name) not in self.readers]
        for node in (*inputs, *params):  # the expression of an argument is its name
            self.values[Ref(node.name)] = self.names.unique(node.name)
        for node in inputs:
            name = self.values[Ref(node.name)]
            if name != node.name or (node.name in self.carried and not is_step(self.graph)):
                raise _of_passes(f"input {node.name} is a state of a net of one step")
            yield f"{name}={_input(node.op)}"
        yield from ["*"] if params else ()
        for node in params:
            name = self.values[Ref(node.name)]
            assert isinstance(node.op, Param)
            yield f"{name}={self.module.param(node.op, node.name, name)}"

    def lines(self) -> Iterator[str]:
        """Yield the statements of the nodes in the graph's order."""
        for node in self.graph:
            if isinstance(node.op, Scan):
                yield from self._scan(node, node.op)
            elif not (isinstance(node.op, Input | Param) or node.name in self.begun or Ref(node.name) in self.values):
                yield from self._statement(node)

    def _statement(self, node: Node) -> Iterator[str]:
        """Yield the lines that compute a node's results; if ``nested``, one reader's text may contain it instead."""
        text = self.expression(node)
        for ref in self.graph.args(node.name):
            if ref in self.held:
                whole = _inserted(text, self.values[ref], inner := self.held.pop(ref))
                if whole is None:
                    yield f"{self.values[ref]} = {inner}"
                else:
                    text = whole
        refs = node.refs
        for ref in refs:
            self.values[ref] = self.names.unique(self._hint(ref))
        once = self.readers.get(refs[0]) == 1 and refs[0] not in {output.ref for output in self.graph.outputs}
        if self.nested and once and len(refs) == 1 and not isinstance(node.op, Dropout | Split):
            self.held[refs[0]] = text
            return
        results = ", ".join(self.values[ref] for ref in refs)
        yield f"{results}{',' if isinstance(node.op, Split) and len(refs) == 1 else ''} = {text}"

    def _hint(self, ref: Ref) -> str:
        """Return the name for a value's variable, with ``_next`` if it is taken: a state's argument has its name."""
        name = self.graph.value_name(ref)
        return f"{name}_next" if name in self.names.taken else name

    def expression(self, node: Node) -> str:
        """Return the expression of a node's results, on the names or expressions of its operands."""
        op, args = node.op, self.graph.args(node.name)
        names = [self.values[ref] for ref in args]
        if isinstance(op, Full):
            return f"full({op.shape}, {op.value!r})"
        if isinstance(op, Linear):
            x, w = (self.graph.type(ref) for ref in args[:2])
            default = flatten_axis(x, w.shape[-1]) if w.rank else None
            return f"linear({listed(names)}{keywords(axis=(op.axis, x.rank - 1 if default is None else default))})"
        if isinstance(op, Transpose):
            return _transposed(op, self.graph.type(args[0]), names[0])
        if isinstance(op, Tile) and op.tiles > 1:
            counts = [1] * self.graph.type(args[0]).rank
            counts[op.axis] = op.tiles
            return f"tile({names[0]}, {tuple(counts)})"
        text = self.module.expression(op, names)
        if text is None:
            word = "op" if len(node.types) == 1 else "op_results"
            return f"{word}({listed([self.module.constructed(op), *names])})"
        return text

    def _first_values(self, scan: Node) -> Iterator[Ref]:
        """Yield the first values that the scan makes itself for its states: zeros, a fill, or the last batch's."""
        assert isinstance(scan.op, Scan)
        for i, ref in enumerate(self.graph.args(scan.name)):
            op = self.graph.node(ref.node).op
            if scan.op.role(i) == "state" and self.readers[ref] == 1 and isinstance(op, Input | Full):
                own = ref.node.startswith(f"{scan.op.body.name}/")
                if own and (op.value == 0 if isinstance(op, Full) else op.fill is not None):
                    yield ref

    def _scan(self, node: Node, op: Scan) -> Iterator[str]:
        """Yield the call of a scan, and before it the binding of a cell that several scans share."""
        if op.first is not None or op.kept:
            raise _of_passes(f"scan {op.body.name} has a first step of its own")
        title, arguments, operands = op.body.name, op.body.body_args(), self.graph.args(node.name)
        states = [output.name for output in op.next_states]
        sequences, static, init, cell = list[str](), list[str](), list[str](), _Cell(self.module, op)
        carry = False
        for i, (argument, ref) in enumerate(zip(arguments, operands, strict=False)):
            role, leaf = op.role(i), self.graph.node(ref.node).op
            if role == "weight" and isinstance(leaf, Param):
                cell.parameter(argument, ref.node, leaf)
            elif role == "state":
                state = states[len(cell.states)]
                own = ref.node in self.begun
                carry |= own and ref.node in self.carried
                fill = leaf.fill if own and isinstance(leaf, Input) and ref.node not in self.carried else None
                cell.state(argument, state, fill)
                if not own:
                    init.append(f'"{state}": {self.values[ref]}')
            else:
                name = cell.input(argument)
                (sequences if role == "x" else static).append(f'"{name}": {self.values[ref]}')
        bound = f'{cell.write()}({cell.sizes()}name="{title}")'
        if sum(isinstance(each.op, Scan) and each.op.body.name == title for each in self.scans) > 1:
            if title not in self.module.bound:
                yield f"{title} = {bound}"
            assert self.module.bound.setdefault(title, bound) == bound, f"scans {title} have other cells"
            bound = title
        call = [bound]
        if len(sequences) == 1:
            call.append(sequences[0].partition(": ")[2])
        else:
            call.append(f"{{{', '.join(sequences)}}}" if sequences else f"length={op.length}")
        call += [f"init={{{', '.join(init)}}}"] if init else []
        call += [f"static={{{', '.join(static)}}}"] if static else []
        options = zip(self.module.options(op), operands[len(arguments) :], strict=True)
        call += [f"{option}={self.values[ref]}" for option, ref in options]
        call += [f"{word}=True" for word, is_set in (("reverse", op.reverse), ("carry", carry)) if is_set]
        last = [Ref(node.name, len(op.step_outputs) + i) for i in range(len(states))]
        read = any(ref in self.readers for ref in last)
        results = self.names.unique(f"{title}_last") if read else "_"
        self.values.update({ref: f'{results}["{state}"]' for ref, state in zip(last, states, strict=True)})
        yield folded(f"{self._over_time(node, op)}, {results} = scan(", call, ")")

    def _over_time(self, node: Node, op: Scan) -> str:
        """Return the left side of the assignment of a scan's outputs, and note the expression of each output."""
        names = [output.name for output in op.step_outputs]
        refs = [Ref(node.name, out) for out in range(len(names))]
        if not names:
            return "_"
        if _of_tuple(names) or names == [""]:
            self.values.update({ref: self.names.unique(self.graph.value_name(ref)) for ref in refs})
            targets = listed([self.values[ref] for ref in refs])
            return targets if names == [""] else f"({targets}{',' if len(names) == 1 else ''})"
        mapping = self.names.unique(f"{op.body.name}_y")
        self.values.update({ref: f'{mapping}["{name}"]' for ref, name in zip(refs, names, strict=True)})
        return mapping


def _of_tuple(names: Sequence[str]) -> bool:
    """Return whether a step's outputs have the names 0, 1, 2, ... of a returned tuple."""
    return list(names) == [str(i) for i in range(len(names))]


class _Cell:
    """The text of a scan's cell, whose arguments are declared one after another."""

    def __init__(self, module: Printer, scan: Scan) -> None:
        """Raise :class:`DslError` for a state whose name is no identifier."""
        self.module, self.scan = module, scan
        self.function = Function(module, scan.body, nested=True)
        self.known: set[str] = set()  # the sizes of inputs
        self.states: list[str] = []  # the text of each declaration, as in the next two lists
        self.inputs: list[str] = []
        self.params: list[str] = []
        for output in scan.next_states:  # the argument of a state must have its name
            if not output.name.isidentifier() or self.function.names.unique(output.name) != output.name:
                raise DslError(f"scan {scan.body.name}: state {output.name!r} has no name in Python")

    def _declare(self, argument: Node, name: str) -> None:
        self.function.values[Ref(argument.name)] = name

    def input(self, argument: Node) -> str:
        name = self.function.names.unique(argument.name)
        self._declare(argument, name)
        self.known.update(map(str, argument.types[0].shape))
        self.inputs.append(f"{name}=Input({listed(argument.types[0].shape)})")
        return name

    def state(self, argument: Node, name: str, fill: Any) -> None:
        self._declare(argument, name)
        self.states.append(f"{name}=State({listed(argument.types[0].shape)}{keywords(fill=(fill, None))})")

    def parameter(self, argument: Node, name: str, op: Param) -> None:
        """Declare a parameter of the cell by its name in the model, without the scan's prefix."""
        own = self.function.names.unique(name.removeprefix(f"{self.scan.body.name}/"))
        self._declare(argument, own)
        declared = replace(op, shape=argument.types[0].shape)  # whose sizes may have names
        self.params.append(f"{own}={self.module.param(declared, name, f'{self.scan.body.name}/{own}')}")

    def sizes(self) -> str:
        """Return the keywords that bind the sizes which have names and which no input determines."""
        states = self.scan.of_role("state", self.scan.body.body_args())
        named = {str(n): int(n) for state in states for n in state.types[0].shape if str(n) not in self.known}
        given = {name: n for name, n in named.items() if not name.isdigit() and n <= MOST_ELEMENTS}
        return "".join(f"{name}={n}, " for name, n in given.items())

    def write(self) -> str:
        """Add the cell to the module unless an equal cell is there, and return the name of that cell."""
        lines = [*self.function.lines()]
        outputs, states = self.scan.step_outputs, self.scan.next_states
        arguments = [*self.inputs, *self.states, *(["*", *self.params] if self.params else [])]
        returned = f"{self._returned(outputs)}, {{{', '.join(map(self._item, states))}}}"
        text = _definition("cell", "", arguments, lines, returned)
        if text not in self.module.cells:
            self.module.cells[text] = self.module.names.unique(self.module.cell_name(self.scan))
        return self.module.cells[text]

    def _item(self, output: Output) -> str:
        return f'"{output.name}": {self.function.values[output.ref]}'

    def _returned(self, outputs: Sequence[Output]) -> str:
        """Return the expression of the step's output: a value, None, a tuple or a dict."""
        values = [self.function.values[output.ref] for output in outputs]
        names = [output.name for output in outputs]
        if names == [""]:
            return values[0]
        if not names:
            return "None"
        if _of_tuple(names):
            return f"({listed(values)}{',' if len(values) == 1 else ''})"
        return f"{{{', '.join(map(self._item, outputs))}}}"


def _input(op: Op) -> str:
    assert isinstance(op, Input)
    values = None if isinstance(op.values, IntegerRange) and op.values.also is not None else op.values
    return f"Input({listed(op.shape)}{keywords(fill=(op.fill, None), values=(values, None))})"


def _transposed(op: Transpose, x: TensorType, name: str) -> str:
    if op.axis == x.rank - 2:
        return f"transpose({name})"
    order = [*range(x.rank)]
    order[op.axis : op.axis + 2] = [op.axis + 1, op.axis]
    return f"transpose({name}, {listed(order)})"


def _definition(
    kind: str, name: str, arguments: Sequence[str], lines: Sequence[str], result: str, comments: Mapping[str, str] = {}
) -> str:
    """Return the text of a function with the decorator ``kind``. An argument with a comment has a line of its own."""
    body = [f"    {line}" for one in (*lines, f"return {result}") for line in one.split("\n")]
    head = [""]
    for argument in arguments:
        comment = comments.get(argument.partition("=")[0])
        if comment or len(head[-1]) + len(argument) > WIDE:
            head.append("")
        head[-1] += f"{head[-1] and ' '}{argument},"
        if comment:
            head[-1:] = [f"{head[-1]}  # {comment}", ""]
    return "\n".join([f"@{kind}", f"def {name}(", *(f"    {line}" for line in head if line), "):", *body])


def _inserted(text: str, name: str, value: str) -> str | None:
    """Return ``text`` with ``value`` in place of ``name``; None if ``text`` has it twice, or the result is too long."""
    tree = ast.parse(text, mode="eval")
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    inserted = _Insertion(name, ast.parse(value, mode="eval").body).visit(tree)
    whole = ast.unparse(inserted).replace("'", '"')
    return whole if len(read) == 1 and len(whole) < WIDE - 20 else None


@dataclass(frozen=True)
class _Insertion(ast.NodeTransformer):
    """Puts an expression in place of a name."""

    name: str
    value: ast.expr

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == self.name else node


def folded(before: str, items: Sequence[str], after: str) -> str:
    """Return items between brackets, in one line if they fit, else with a line for each item."""
    line = f"{before}{', '.join(items)}{after}"
    return line if len(line) <= WIDE else "\n".join([before, *(f"    {one}," for one in items), after])
