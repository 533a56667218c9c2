"""The three files of an imported model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lstmc.errors import WeightsError
from lstmc.files.arrays import element_problem, npz_bytes
from lstmc.importers.ir.net import Net
from lstmc.importers.write.model import model_text
from lstmc.ops import Array
from lstmc.version import __version__


def files(net: Net, kind: str) -> dict[str, bytes]:
    """``model.py``, ``weights.npz`` and ``import.json``. Raises :class:`WeightsError` for NaN."""
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
    """A model's weights, each made when it is asked for, so that there is one at a time; what is wrong with any."""

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
    """JSON whose lists of plain values stand on one line each."""
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{re.sub(chr(10) + ' +', ' ', match[1])}]", text)


def record(net: Net, kind: str) -> dict[str, Any]:
    """Where everything came from: for programs, and for who wants to know."""
    return {
        "lstmc": __version__,
        "source": net.origin,
        "kind": kind,
        "model": net.name,
        "inputs": {name: {"shape": shape, **_axes(net, name)} for name, shape in net.inputs.items()},
        "outputs": {
            name: {"shape": net.shapes[value], **_axes(net, name), **_delay(net, name)}
            for name, value in net.outputs.items()
        },
        "parameters": {
            name: {"shape": weight.shape, "from": weight.sources, "recipe": weight.recipe}
            for name, weight in net.params.items()
        },
        "ignored": net.ignored,
        "notes": net.notes,
    }


def _delay(net: Net, name: str) -> dict[str, int]:
    """By how many steps an output is late."""
    return {"delay": net.delays[name]} if name in net.delays else {}


def _axes(net: Net, name: str) -> dict[str, Any]:
    """Of an input or output that the source calls otherwise: how; and if its axes lie otherwise, which each one is."""
    called = {"called": net.called[name]} if net.called.get(name, name) != name else {}
    return called | ({"axes": net.axes[name]} if name in net.axes else {})
