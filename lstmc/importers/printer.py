"""The files of an imported net: ``model.py`` in the public language, for people to edit; weights; and their origin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten, wrap
from typing import Any

from lstmc.dsl.printer import Printer
from lstmc.dsl.vocabulary import expression
from lstmc.errors import WeightsError
from lstmc.files.arrays import element_problem, npz_bytes
from lstmc.importers.ir.net import MaskedScan, Net
from lstmc.importers.ir.ops import Formula
from lstmc.importers.ir.values import NamedSize, OpenSize, Shape, open_sizes
from lstmc.ir import Scan
from lstmc.ops import Affine, Array, Op, Split
from lstmc.process.status import gc_paused
from lstmc.text import quoted
from lstmc.version import __version__


@gc_paused()
def files(net: Net, kind: str) -> dict[str, bytes]:
    """Return ``model.py``, ``weights.npz`` and ``import.json``. Raises :class:`WeightsError` for NaN and infinity."""
    arrays = _Arrays(net)
    content = npz_bytes(arrays)
    if arrays.problems:
        raise WeightsError(f"the weights of {net.origin} cannot be used", notes=arrays.problems)
    text = json.dumps(record(net, kind), indent=2)  # each list of plain values gets one line
    listed = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{re.sub(chr(10) + ' +', ' ', match[1])}]", text)
    model = _NetPrinter(net).text().encode()
    return {"model.py": model, "weights.npz": content, "import.json": f"{listed}\n".encode()}


class _Arrays(Mapping[str, Array]):
    """Arrays of a model's weights by name, each computed at its access, so that one is in memory at a time;
    ``problems`` collects the weights with elements that are not finite."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.problems: list[str] = []

    def __getitem__(self, name: str) -> Array:
        """Return the array of a weight, and record a problem if an element is not finite."""
        array = self.net.params[name].array()
        if problem := element_problem(name, array):
            self.problems.append(problem)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.net.params)

    def __len__(self) -> int:
        return len(self.net.params)


def record(net: Net, kind: str) -> dict[str, Any]:
    """Return the content of ``import.json``: inputs, outputs and parameters with their shapes and origins."""
    outputs = {name: net.shapes[value] for name, value in net.outputs.items()}
    return {
        "lstmc": __version__,
        "source": net.origin,
        "kind": kind,
        "model": net.name,
        "inputs": {name: {"shape": _shape(shape), **_axes(net, name)} for name, shape in net.inputs.items()},
        "outputs": {name: {"shape": _shape(shape), **_axes(net, name)} for name, shape in outputs.items()},
        "parameters": {n: {"shape": w.shape, "from": w.sources, "recipe": w.recipe} for n, w in net.params.items()},
        "ignored": net.ignored,
        "notes": net.notes,
    }


def _shape(shape: Shape) -> list[int | str]:
    return [str(size) if isinstance(size, OpenSize) else size for size in shape]


def _axes(net: Net, name: str) -> dict[str, Any]:
    """Return facts of an input or output: the source's name and order of axes where they differ, and a delay."""
    called = {"called": net.called[name]} if net.called.get(name, name) != name else {}
    axes = called | ({"axes": net.axes[name]} if name in net.axes else {})
    return axes | ({"delay": net.delays[name]} if name in net.delays else {})


class _NetPrinter(Printer):
    """Prints an imported net as a model, with the source's names in comments, and names in place of sizes."""

    def __init__(self, net: Net) -> None:
        """Write the module's docstring, the comments of inputs and parameters, and the line of dimensions."""
        super().__init__(net.graph)
        orders = dict.fromkeys((*net.inputs, *net.outputs), "")
        orders |= {n: f"the source's axes in the order {', '.join(map(str, axes))}" for n, axes in net.axes.items()}
        about = [*(f"Output {name} has {orders[name]}." for name in net.outputs if orders[name]), *net.notes]
        self.title = "\n".join(
            [
                f"Imported from {quoted(net.origin, 'comment')} by lstmc {__version__}. Edit it as you like.",
                "",
                "The weights are in weights.npz, by this model's names; import.json says what each is made of.",
                *(line for note in about for line in ("", *wrap(quoted(note, "comment"), 100))),
                "",
            ]
        )
        texts = {name: quoted(param.recipe, "comment") for name, param in net.params.items() if "/" not in name}
        recipes = {name: shorten(text, 80, placeholder=" ...") for name, text in texts.items()}
        self.comments = {name: orders[name] for name in net.inputs} | recipes
        scans = [step.op for step in net.steps if isinstance(step.op, Scan)]
        dims = dict.fromkeys(str(size) for shape in net.inputs.values() for size in open_sizes(shape))
        dims |= dict.fromkeys(str(size) for scan in scans for size in _named_sizes(scan))
        given = " ".join(f"{dim}={net.sizes[dim]}" if dim in net.sizes else dim for dim in dims)
        self.sizes = ["", f'{", ".join(dims)} = dims("{given}")'] if dims else []

    def expression(self, op: Op, names: Sequence[str]) -> str:
        """Return the expression of an op; functions of the importers have a text of their own."""
        if isinstance(op, Formula):
            return op.text(*names)
        text = expression(op, names)
        if text is None and isinstance(op, Affine):
            return f"{op.scale!r} * {names[0]} + {op.shift!r}"
        assert text is not None, f"no text for {op}"
        return text

    def cell_name(self, scan: Scan) -> str:
        """Return the name of a scan's cell: its body's name if all its named sizes are open, else the kind of cell."""
        if all(isinstance(size, OpenSize) for size in _named_sizes(scan)):
            return super().cell_name(scan)
        gated = any(isinstance(node.op, Split) for node in scan.body)
        return "lstm_cell" if scan.states == 2 else "gru_cell" if gated else "rnn_cell"

    def options(self, scan: Scan) -> Sequence[str]:
        return scan.options if isinstance(scan, MaskedScan) else ()


def _named_sizes(scan: Scan) -> list[NamedSize | OpenSize]:
    """Return the sizes of a cell's inputs and states that have names."""
    args = [arg for i, arg in enumerate(scan.body.body_args()) if scan.role(i) != "weight"]
    return [size for arg in args for size in arg.types[0].shape if isinstance(size, NamedSize | OpenSize)]
