"""The files of an imported net: ``model.py`` in the public language, for people to edit; weights; their origin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten, wrap
from typing import Any

from lstmc.dsl.printer import import_line
from lstmc.dsl.vocabulary import expression, listed
from lstmc.errors import WeightsError
from lstmc.files.arrays import element_problem, npz_bytes
from lstmc.files.output import text_templates
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.ops import Formula
from lstmc.importers.ir.recur import Cell, Recur
from lstmc.importers.ir.values import OpenSize, Shape, open_sizes
from lstmc.ir import Graph, Scan
from lstmc.ops import Affine, Arg, Array, Linear, Op, Role
from lstmc.passes.unrolled_steps import Step, steps_of
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
WIDE = 80  # columns of a call's arguments


@dataclass(frozen=True)
class Argument:
    """An argument of the model's function, with its comment."""

    name: str
    shape: str
    note: str


def model_text(net: Net) -> str:
    """Return the text of ``model.py``."""
    cells = dict.fromkeys(step.op.cell for step in net.steps if isinstance(step.op, Recur))
    names = dict(zip(cells, _cell_names(cells), strict=True))
    scans = [step.op for step in net.steps if isinstance(step.op, Scan)]
    cell_texts = [*(_cell(cell, name) for cell, name in names.items()), *map(_step_cell, scans)]
    lines = [*_lines(net.steps, {*net.outputs.values()}, names)]
    args = [arg.op for op in scans for arg in op.body.body_args()]
    shapes = [*net.inputs.values(), *(arg.shape for arg in args if isinstance(arg, Arg) and arg.role != "weight")]
    sizes = dict.fromkeys(size.name for shape in shapes for size in open_sizes(shape))
    in_cells = dict.fromkeys(
        name
        for cell in cells
        for name in ("N", "D", "H", *("P" if cell.projection else ""), *("S" if cell.static else ""))
    )
    body = "\n".join([*cell_texts, *lines])
    words = ["model", *(["cell"] if cell_texts else []), *(["dims"] if sizes or in_cells else [])]
    return _TEMPLATES.get_template("model.j2").render(
        title=f"Imported from {_inert(net.origin)} by lstmc {__version__}. Edit it as you like.",
        intro="The weights are in weights.npz, by this model's names; import.json says what each is made of.",
        about=[line for note in _about(net) for line in ("", *wrap(_inert(note), 100))],
        imported=import_line(body + "\n" + "\n".join(_leaves(net)), words),
        dims=list(dict.fromkeys([*sizes, *in_cells])),
        sizes=net.sizes,
        cells=cell_texts,
        name=net.name,
        delays=net.delays,
        inputs=[Argument(name, listed(shape), _order_note(net, name)) for name, shape in net.inputs.items()],
        params=[
            Argument(name, listed(weight.shape), shorten(_inert(weight.recipe), 80, placeholder=" ..."))
            for name, weight in net.params.items()
            if "/" not in name
        ],
        lines=lines,
        returned=[f'"{name}": {value}' for name, value in net.outputs.items()],
    )


def traced(net: Net, sizes: Mapping[str, int]) -> Graph:
    """Return the graph of the net's model text, traced with these sizes of its dynamic dimensions."""
    scope: dict[str, Any] = {"__name__": net.name}
    exec(compile(model_text(net), f"<{net.name}>", "exec"), scope)
    graph: Graph = scope[net.name].graph(**sizes)
    return graph


def _leaves(net: Net) -> Iterator[str]:
    yield "model( Input("
    if any("/" not in name for name in net.params):
        yield "Param("


def _inert(text: str) -> str:
    """Return a text of the source that cannot end a comment or a docstring."""
    return re.sub(r"[^\x20-\x7e]|\\", "?", text).replace('"', "'")


def _about(net: Net) -> list[str]:
    orders = [f"Output {name} has {_order_note(net, name)}." for name in net.outputs if _order_note(net, name)]
    return [*orders, *net.notes]


def _order_note(net: Net, name: str) -> str:
    if name not in net.axes:
        return ""
    return f"the source's axes in the order {', '.join(map(str, net.axes[name]))}"


def _expression(op: Any, names: Sequence[str]) -> str:
    if isinstance(op, Formula):
        return op.text(*names)
    if isinstance(op, Linear):  # which axes are flattened must not depend on sizes that are open
        return f"linear({listed(names)}, axis=-1)"
    if isinstance(op, Affine) and op.shift:
        return f"{names[0] if op.scale == 1 else f'{op.scale!r} * {names[0]}'} + {op.shift!r}"
    text = expression(op, names)
    assert text is not None, f"no text for {op}"
    return text


def _cell_names(cells: dict[Cell, None]) -> Iterator[str]:
    count: dict[str, int] = {}
    for cell in cells:
        count[cell.kind] = count.get(cell.kind, 0) + 1
        yield f"{cell.kind}_cell" + (f"_{count[cell.kind]}" if count[cell.kind] > 1 else "")


def _cell(cell: Cell, name: str) -> str:
    def applied(op: Op) -> object:
        def text(x: str, product: bool = False) -> str:
            template = _expression(op, ("?",))
            alone = re.search(r"\(\?[,)]", template)  # it stands in a call's brackets
            if not re.fullmatch(r"\w+", x) and (alone is None or template.count("?") > 1):
                x = f"({x})"
            call = template.replace("?", x)
            return f"({call})" if product and not re.fullmatch(r"\w+(\([^()]*(\([^()]*\))?[^()]*\))?", call) else call

        return text

    return _TEMPLATES.get_template("cell.j2").render(
        cell=cell, name=name, gate=applied(cell.gate), new=applied(cell.new), out=applied(cell.out)
    )


def _step_cell(op: Scan) -> str:
    """Return the body of a loop as a cell."""
    args, body = op.body.body_args(), op.body
    weights = op.of_role("weight", args)
    ys, following = ([body.value_name(one.ref) for one in outputs] for outputs in (op.step_outputs, op.next_states))
    kinds = [(arg, "State" if op.role(i) == "state" else "Input") for i, arg in enumerate(args) if arg not in weights]
    inputs = [f"{arg.name}={kind}({listed(arg.types[0].shape)})" for arg, kind in kinds]
    params = [f"{arg.name}=Param({listed(arg.types[0].shape)})" for arg in weights]
    arguments = [", ".join([*inputs, "*"] if params else inputs), *params]
    returned = ys[0] if len(ys) == 1 else f"({', '.join(ys)})" if ys else "None"
    following_states = _mapping([output.name for output in op.next_states], following)
    lines = [*_lines([*steps_of(body)], {*ys, *following}, {}), f"return {returned}, {following_states}"]
    head = ["@cell", f"def {body.name}_step(", *(f"    {argument}," for argument in arguments), "):"]
    return "\n".join([*head, *(f"    {line}" for line in lines)])


def _mapping(names: Sequence[str], values: Sequence[str]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in zip(names, values, strict=True)) + "}"


def _scan_line(op: Scan, step: Step, used: set[str]) -> Iterator[str]:
    title, states = op.body.name, [output.name for output in op.next_states]
    names = [arg.name for arg in op.body.body_args()]

    def given(role: Role) -> str:
        pairs = zip(op.of_role(role, names), op.of_role(role, step.inputs), strict=True)
        own = {name: value for name, value in pairs if not value.startswith(f"{title}/")}
        return _mapping([*own], [*own.values()]) if own else ""

    x, init, static = given("x"), given("state"), given("static")
    call = f'{title}_step(name="{title}")' + (f", {x}" if x else f", length={op.length}")
    call += f", init={init}" if init else ""
    call += f", static={static}" if static else ""
    call += ", reverse=True" if op.reverse else ""
    count = len(op.step_outputs)
    ys = ", ".join(step.outputs[:count])
    yield f"{f'({ys})' if count > 1 else ys or '_'}, {title}_last = scan(\n        {call}\n    )"
    for state, name in zip(states, step.outputs[count:], strict=True):
        if name in used:
            yield f'{name} = {title}_last["{state}"]'


def _lines(steps: Sequence[Step], results: set[str], cells: dict[Cell, str]) -> Iterator[str]:
    used = results.union(*(step.inputs for step in steps))
    for step in steps:
        yield from _step_lines(step, steps, used, cells)


def _step_lines(step: Step, steps: Sequence[Step], used: set[str], cells: dict[Cell, str]) -> Iterator[str]:
    if isinstance(step.op, Scan):
        yield from _scan_line(step.op, step, used)
        return
    if not isinstance(step.op, Recur):
        yield f"{', '.join(step.outputs)} = {_expression(step.op, step.inputs)}"
        return
    op = step.op
    weights = len(op.cell.weights())
    operands = step.inputs[1 + weights :]
    sizes = f"H={op.units}" + (f", P={op.outputs}" if op.cell.projection else "")
    first = ", ".join(f'"{state}": {value}' for state, value in zip(op.init, operands, strict=False))
    options = f", init={{{first}}}" if op.init else ""
    given_x = step.inputs[0]
    for extra, value in op.extras(step.inputs).items():
        if extra == "mask":
            given_x = f'{{"x": {given_x}, "m": {value}}}'
            continue
        options += f', static={{"s": {value}}}' if extra == "static" else f", {extra}={value}"
    options += ", reverse=True" if op.reverse else ""
    y, *last = step.outputs
    bound = f'{cells[op.cell]}({sizes}, name="{op.title}")'
    shared = [one for one in steps if isinstance(one.op, Recur) and one.op.title == op.title]
    if len(shared) > 1:  # its scans share the one bound cell, and so its weights
        if step is shared[0]:
            yield f"{op.title} = {bound}"
        bound = op.title
    call = f"{bound}, {given_x}{options}"
    yield f"{y}, {op.title}_last = scan(" + (f"{call})" if len(call) < WIDE else f"\n        {call}\n    )")
    for state, name in zip(op.cell.states, last, strict=True):
        if name in used:
            yield f'{name} = {op.title}_last["{state}"]'
