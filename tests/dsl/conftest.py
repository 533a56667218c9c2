"""A user's file, written and imported: paths, lines and carets in errors are real."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lstmc.errors import LstmcError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.ops import Input, Param

# A test's own code starts at line 5.
PREAMBLE = """\
import math
import numpy as np
from lstmc import *
T, N, D, H, K = dims("T N D H K")
"""
# ... or, behind a cell, at line 9.
RNN = """\
@cell
def rnn(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H)):
    h = tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}
"""
# A model that scans a bound cell, {}.
NET = "\n@model\ndef net(X=Input(T, N, D)):\n    y, last = scan({}, X)\n    return y\n"
SIZES = {"T": 3, "N": 2, "D": 5}


class UserFile:
    """Writes ``user.py`` into the current folder, and traces its model ``net`` with T=3, N=2, D=5."""

    def __init__(self) -> None:
        self.count = 0

    def module(self, code: str) -> ModuleType:
        self.count += 1
        path = Path("user.py" if self.count == 1 else f"user{self.count}.py")
        path.write_text(PREAMBLE + dedent(code))
        spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def graph(self, code: str, **sizes: Any) -> Graph:
        net = self.module(code).net
        used = {
            name: size
            for name, size in SIZES.items()
            if re.search(rf"\b{name}\b(?!=)", inspect.getsource(net.function))
        }
        graph: Graph = net.graph(**(used | sizes))
        return graph

    def refused(self, code: str, **sizes: Any) -> str:
        """The whole text of the error that writing, importing and tracing ``code`` ends in."""
        with pytest.raises(LstmcError) as caught:
            self.graph(code, **sizes)
        return str(caught.value)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserFile:
    monkeypatch.chdir(tmp_path)
    return UserFile()


def leaves(graph: Graph, kind: type[Input] | type[Param]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a model's inputs or parameters."""
    return {node.name: node.op.shape for node in graph if isinstance(node.op, kind)}


def random_arrays(graph: Graph) -> dict[str, np.ndarray]:
    """Numbers in (0.3, 1) for every input and parameter."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.3, 1, shape) for kind in (Input, Param) for name, shape in leaves(graph, kind).items()}


def outputs(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return forward(graph, arrays, arrays).outputs


def lines(*text: str) -> str:
    return "\n".join(text)
