"""The Python of docs/write-an-op.md runs as it stands, and its entry points are those of the example."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lstmc import Input, Param, model
from lstmc.interp import forward
from lstmc.testing import assert_same_meaning
from lstmc_caffe.legalize import legalize
from lstmc_caffe.legalize.legalize import legalized
from lstmc_caffe.legalize.rules import RuleTable, rules
from lstmc_caffe.proto import net as proto

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "write-an-op.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_runs_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proto, "MESSAGES", dict(proto.MESSAGES))  # what it makes known is forgotten again
    package = ModuleType("my_package.ops")  # the blocks import from each other by this name
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    names = vars(package)
    for code in blocks("python"):
        exec(compile(code, str(tmp_path / "written.py"), "exec", dont_inherit=True), names)
    assert list(names["RULES"]) == [names["Exponential"], names["SwapHalves"]]

    @model
    def net(x: Any = Input(4), p: Any = Param(4)) -> Any:
        return {"y": names["exponential"](x, 0.5), "z": names["swap_halves"](x + names["swap_halves"](p))}

    graph, (x, p) = net.graph(), np.array([[-2.0, 0.0, 3.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    found = forward(graph, {"x": x}, {"p": p}).outputs
    assert {name: list(value) for name, value in found.items()} == {
        "y": [4.0, 1.0, 0.125, 0.5],
        "z": [3.0 + 1, 1.0 + 2, -2.0 + 3, 0.0 + 4],
    }
    counts: Counter[str] = Counter()
    monkeypatch.setattr(legalize, "rules", lambda: RuleTable({**rules().trained, **names["RULES"]}, {}, {}))
    assert_same_meaning(graph, legalized(graph, counts, trained=True, fused=False))
    assert counts["swap_halves_to_layers"] == 2


def test_the_entry_points_are_the_example_s() -> None:
    project = tomllib.loads((ROOT / "tests" / "plugin_example" / "pyproject.toml").read_text())["project"]
    for code in blocks("toml"):
        ((group, points),) = tomllib.loads(code)["project"]["entry-points"].items()
        shown = {name: value.replace("my_package", "lstmc_plugin_example") for name, value in points.items()}
        assert shown == project["entry-points"][group]
