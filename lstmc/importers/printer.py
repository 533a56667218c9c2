"""The files of an imported net: ``model.py`` in the public language, for people to edit; weights; their origin."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from textwrap import shorten, wrap
from typing import Any

from lstmc.dsl.printer import Function, Printer, folded
from lstmc.dsl.vocabulary import expression
from lstmc.errors import WeightsError
from lstmc.files.arrays import element_problem, npz_bytes
from lstmc.files.output import text_templates
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.ops import Formula
from lstmc.importers.ir.recur import Cell, Recur
from lstmc.importers.ir.values import OpenSize, Shape, open_sizes
from lstmc.ir import Graph, Node, Ref, Scan
from lstmc.ops import Affine, Arg, Array, Op
from lstmc.process.status import gc_paused
from lstmc.version import __version__


def files(net: Net, kind: str) -> dict[str, bytes]:
    """Return ``model.py``, ``weights.npz`` and ``import.json``. Raises :class:`WeightsError` for NaN."""
    arrays = _Arrays(net)
    content = npz_bytes(arrays)
    if arrays.problems:
        raise WeightsError(f"the weights of {net.origin} cannot be used", notes=arrays.problems)
    return {
        "model.py": model_text(net).encode(),
        "weights.npz": content,
        "import.json": (_lists_on_a_line(json.dumps(record(net, kind), indent=2)) + "\n").encode(),
    }


class _Arrays(Mapping[str, Array]):
    """The weights of a model, each computed on access, so that one is in memory; ``problems`` collects errors."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.problems: list[str] = []

    def __getitem__(self, name: str) -> Array:
        array = self.net.params[name].array()
        if problem := element_problem(name, array):
            self.problems.append(problem)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.net.params)

    def __len__(self) -> int:
        return len(self.net.params)


def _lists_on_a_line(text: str) -> str:
    """Return JSON with each list of plain values on one line."""
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{re.sub(chr(10) + ' +', ' ', match[1])}]", text)


def record(net: Net, kind: str) -> dict[str, Any]:
    """Return the content of ``import.json``: the origin of inputs, outputs and parameters."""
    return {
        "lstmc": __version__,
        "source": net.origin,
        "kind": kind,
        "model": net.name,
        "inputs": {name: {"shape": _shape(shape), **_axes(net, name)} for name, shape in net.inputs.items()},
        "outputs": {
            name: {"shape": _shape(net.shapes[value]), **_axes(net, name), **_delay(net, name)}
            for name, value in net.outputs.items()
        },
        "parameters": {
            name: {"shape": weight.shape, "from": weight.sources, "recipe": weight.recipe}
            for name, weight in net.params.items()
        },
        "ignored": net.ignored,
        "notes": net.notes,
    }


def _shape(shape: Shape) -> list[int | str]:
    return [str(size) if isinstance(size, OpenSize) else size for size in shape]


def _delay(net: Net, name: str) -> dict[str, int]:
    """Return the delay of an output in steps, if it has one."""
    return {"delay": net.delays[name]} if name in net.delays else {}


def _axes(net: Net, name: str) -> dict[str, Any]:
    """Return the source's name and axes of an input or output, where they differ."""
    called = {"called": net.called[name]} if net.called.get(name, name) != name else {}
    return called | ({"axes": net.axes[name]} if name in net.axes else {})


_TEMPLATES = text_templates("lstmc.importers", ".")


@gc_paused()
def model_text(net: Net) -> str:
    """Return the text of ``model.py``."""
    return _NetPrinter(net).text()


def traced(net: Net, sizes: Mapping[str, int]) -> Graph:
    """Return the graph of the net's model text, traced with these sizes of its dynamic dimensions."""
    printer = _NetPrinter(net)
    scope: dict[str, Any] = {"__name__": net.name}
    exec(compile(printer.text(), f"<{net.name}>", "exec"), scope)
    graph: Graph = scope[printer.model].graph(**sizes)
    return graph


class _NetPrinter(Printer):
    """The text of an imported net, with the source's names in comments, and recurrent layers as scans of a cell."""

    def __init__(self, net: Net) -> None:
        super().__init__(net.graph)
        orders = {name: _order_note(net, name) for name in (*net.inputs, *net.outputs)}
        about = [*(f"Output {name} has {orders[name]}." for name in net.outputs if orders[name]), *net.notes]
        self.title = "\n".join(
            [
                f"Imported from {_inert(net.origin)} by lstmc {__version__}. Edit it as you like.",
                "",
                "The weights are in weights.npz, by this model's names; import.json says what each is made of.",
                *(line for note in about for line in ("", *wrap(_inert(note), 100))),
                "",
            ]
        )
        recipes = {n: shorten(_inert(w.recipe), 80, placeholder=" ...") for n, w in net.params.items() if "/" not in n}
        self.comments = {name: orders[name] for name in net.inputs} | recipes
        self.recurrent: dict[Cell, str] = {}
        self.titles = Counter(step.op.title for step in net.steps if isinstance(step.op, Recur))
        self.bound: set[str] = set()
        scans = [step.op for step in net.steps if isinstance(step.op, Scan)]
        args = [arg.op for op in scans for arg in op.body.body_args()]
        shapes = [*net.inputs.values(), *(arg.shape for arg in args if isinstance(arg, Arg) and arg.role != "weight")]
        dims = {size.name: None for shape in shapes for size in open_sizes(shape)}
        for cell in (step.op.cell for step in net.steps if isinstance(step.op, Recur)):
            dims |= dict.fromkeys(["N", "D", "H", *"P" * cell.projection, *"S" * cell.static])
        given = " ".join(f"{dim}={net.sizes[dim]}" if dim in net.sizes else dim for dim in dims)
        self.sizes = ["", f'{", ".join(dims)} = dims("{given}")'] if dims else []

    def expression(self, op: Op, names: Sequence[str]) -> str:
        if isinstance(op, Formula):
            return op.text(*names)
        if isinstance(op, Affine) and op.shift:
            return f"{names[0] if op.scale == 1 else f'{op.scale!r} * {names[0]}'} + {op.shift!r}"
        text = expression(op, names)
        assert text is not None, f"no text for {op}"
        return text

    def own_weights(self, op: Op) -> Sequence[int]:
        return range(1, 1 + len(op.cell.weights())) if isinstance(op, Recur) else super().own_weights(op)

    def statement(self, function: Function, node: Node) -> Iterator[str]:
        if not isinstance(node.op, Recur):
            yield from super().statement(function, node)
            return
        op, args = node.op, self.graph.args(node.name)
        values = [function.values.get(ref, "") for ref in args]
        cell = f'{self._cell(op.cell)}(H={op.units}{f", P={op.outputs}" * op.cell.projection}, name="{op.title}")'
        if self.titles[op.title] > 1:  # its scans share the one bound cell, and so its weights
            if op.title not in self.bound:
                yield f"{op.title} = {cell}"
            self.bound.add(op.title)
            cell = op.title
        extras: dict[str, str] = dict(op.extras(values).items())
        mask = extras.pop("mask", None)
        static = {"static": f'{{"s": {extras.pop("static")}}}'} if "static" in extras else {}
        begun = zip(op.init, values[1 + len(op.cell.weights()) :], strict=False)
        first = ", ".join(f'"{state}": {value}' for state, value in begun)
        init = {"init": f"{{{first}}}"} if first else {}
        options = {**init, **static, **extras, **({"reverse": "True"} if op.reverse else {})}
        x = values[0] if mask is None else f'{{"x": {values[0]}, "m": {mask}}}'
        call = [cell, x, *(f"{word}={text}" for word, text in options.items())]
        last = {Ref(node.name, out): state for out, state in enumerate(op.cell.states, 1)}
        name = function.names.fresh(f"{op.title}_last") if any(ref in function.readers for ref in last) else "_"
        function.values |= {ref: f'{name}["{state}"]' for ref, state in last.items()}
        y = function.values[Ref(node.name)] = function.names.fresh(node.name)
        yield folded(f"{y}, {name} = scan(", call, ")")

    def _cell(self, cell: Cell) -> str:
        """Return the name of a recurrent layer's cell, whose text is a cell of the module."""
        if cell not in self.recurrent:
            name = self.recurrent[cell] = self.names.fresh(f"{cell.kind}_cell")
            functions = {role: partial(self._applied, getattr(cell, role)) for role in ("gate", "new", "out")}
            text = _TEMPLATES.get_template("cell.j2").render(cell=cell, name=name, **functions)
            self.cells.append(text.rstrip())
        return self.recurrent[cell]

    def _applied(self, op: Op, x: str, product: bool = False) -> str:
        """Return the expression of a function of a gate, in brackets where it is a factor."""
        template = self.expression(op, ("?",))
        alone = re.search(r"\(\?[,)]", template)  # it stands in a call's brackets
        if not re.fullmatch(r"\w+", x) and (alone is None or template.count("?") > 1):
            x = f"({x})"
        call = template.replace("?", x)
        return f"({call})" if product and not re.fullmatch(r"\w+(\([^()]*(\([^()]*\))?[^()]*\))?", call) else call


def _inert(text: str) -> str:
    """Return a text of the source that cannot end a comment or a docstring."""
    return re.sub(r"[^\x20-\x7e]|\\", "?", text).replace('"', "'")


def _order_note(net: Net, name: str) -> str:
    if name not in net.axes:
        return ""
    return f"the source's axes in the order {', '.join(map(str, net.axes[name]))}"
