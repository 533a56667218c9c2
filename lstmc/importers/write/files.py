"""The three files of an imported model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lstmc.errors import WeightsError
from lstmc.files.arrays import element_problem, npz_bytes
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.sizes import OpenSize, Shape
from lstmc.importers.write.model import model_text
from lstmc.ops import Array
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
