"""Remedies that refused streams name are tried: the model that each is for is refused, and the changed one streams."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from lstmc.importers import RefusedError, from_torch
from lstmc.importers.canonical import over_time, streaming
from tests.importers.test_torch_modules import Lambda

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
F = nn.functional
STEPS = 9


def gru(**options: Any) -> nn.GRU:
    return nn.GRU(4, 5, batch_first=True, **options)


def windows(x: torch.Tensor, c: nn.Module, before: int) -> torch.Tensor:
    return c(F.pad(x.transpose(1, 2), (before, 0))).transpose(1, 2)


# By remedy: the function of a model that is refused, the changed one, and the layers of both.
TRIED: dict[str, tuple[Any, Any, dict[str, nn.Module]]] = {
    "read each step, or compute it in the program that streams": (
        lambda x, g: g(x)[0] + g(x)[0][:, -1:], lambda x, g: g(x)[0] + g(x)[0], {"g": gru()}
    ),
    "read the last step, y[:, -1], or take the {kind} in the program that streams": (
        lambda x, g: g(x)[0].mean(1), lambda x, g: g(x)[0][:, -1], {"g": gru()}
    ),
    "use a stride of 1 along time, or stream only the part after it": (
        lambda x, g, c: F.avg_pool1d(windows(x, c, 2).transpose(1, 2), 2, 2),
        lambda x, g, c: F.avg_pool1d(windows(x, c, 2).transpose(1, 2), 2, 1),
        {"g": gru(), "c": nn.Conv1d(4, 4, 3)},
    ),
    "use a layer of one direction, or a loop from the first step to the last one": (
        lambda x, both, g: both(x)[0], lambda x, both, g: g(x)[0], {"both": gru(bidirectional=True), "g": gru()}
    ),
    "read the last step, or all of them": (
        lambda x, g: g(x)[0][:, 5], lambda x, g: g(x)[0][:, -1], {"g": gru()}
    ),
    "join them outside of the net": (lambda x, g: g(torch.cat([x, x], 1))[0], lambda x, g: g(x)[0], {"g": gru()}),
    "compute it, or make it an input": (
        lambda x, g, own: g(x * own.weight)[0], lambda x, g, own: g(x * torch.sigmoid(x))[0],
        {"g": gru(), "own": nn.Embedding(STEPS, 4)},
    ),
    "read it to its end, and feed each step so much later": (
        lambda x, g: g(x[:, :-1])[0][:, -1], lambda x, g: g(x)[0][:, -1], {"g": gru()}
    ),
    "pad less": (
        lambda x, g, c: g(windows(x, c, 4))[0], lambda x, g, c: g(windows(x, c, 2))[0],
        {"g": gru(), "c": nn.Conv1d(4, 4, 3)},
    ),
    "pad what reads it instead": (
        lambda x, g: F.pad(g(x)[0], (0, 0, 2, 0)), lambda x, g: g(x)[0], {"g": gru()}
    ),
    "stream the part before it, and compute it outside of the net": (
        lambda x, g: g(x)[0].reshape(2, -1), lambda x, g: g(x)[0], {"g": gru()}
    ),
}  # fmt: skip
# Remedies that no model here comes to: another is refused before it, or a file alone can say it.
UNTRIED = {
    "begin with one, or with equal ones",
    "pad the convolutions before them so that they come at the same step",
    "write the model so that it holds for every length",
    "give it four axes",
    "pad the convolution before it only in front",
    "use one",
    "pad where it is convolved",
}


def remedies(module: ModuleType) -> Iterator[str]:
    """Yield the texts in a module that are the last argument of ``_refuse`` or ``_close``, also by a variable."""
    tree = ast.parse(inspect.getsource(module))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        texts = dict[str, str]()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
                value = value.values[-1] if isinstance(value, ast.BoolOp) else value  # what is said of the rest
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = value.elts if isinstance(value, ast.Tuple) else [value]
                texts |= {ast.unparse(n): _text(v) for n, v in zip(names, values, strict=False)}
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("_refuse", "_close"):
                last = call.args[-1]
                own = getattr(module, ast.unparse(last), "") if isinstance(last, ast.Name) else _text(last)
                yield texts.get(ast.unparse(last), own)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return ast.unparse(node)[2:-1]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_remedy_of_a_stream_is_known() -> None:
    found = {text for module in (streaming, over_time) for text in remedies(module)}
    assert found == TRIED.keys() | UNTRIED


@pytest.mark.parametrize("remedy", TRIED)
def test_a_remedy_helps(remedy: str) -> None:
    refused, changed, layers = TRIED[remedy]
    with pytest.raises(RefusedError) as raised:
        from_torch(Lambda(refused, **layers).eval(), torch.randn(2, STEPS, 4), step=True)
    assert remedy.replace("{kind}", "mean") in [one.mend for one in raised.value.refusals]
    assert from_torch(Lambda(changed, **layers).eval(), torch.randn(2, STEPS, 4), step=True).net.time
