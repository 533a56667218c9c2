"""Remedies that refused streams name are tried: the model that each is for is refused, and the changed one streams."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lstmc.errors import worded
from lstmc.importers import RefusedError, from_torch
from lstmc.importers.canonical.streaming import NO_TIME
from lstmc.importers.canonical.time import TIME
from tests.importers import test_remedies_keras, test_remedies_onnx, test_remedies_torch, test_tflite
from tests.importers.remedies import remedies
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
    "use a layer of one direction, or, if it runs over another axis than time, name time, as in {TIME}": (
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
    "import the whole sequence instead, or train the model with recurrent layers alone": (
        lambda x, g: torch.softmax(g(x)[0] @ g(x)[0].mT, -1) @ x, lambda x, g: g(x)[0], {"g": gru()}
    ),
    "stream the part behind it, or compute each step alone (a LayerNorm in place of a GroupNorm)": (
        lambda x, g: g(F.group_norm(x.mT, 2).mT)[0], lambda x, g: g(F.layer_norm(x, (4,)))[0], {"g": gru()}
    ),
    worded(NO_TIME[1]): (lambda x, g: torch.tanh(x), lambda x, g: g(torch.tanh(x))[0], {"g": gru()}),
}  # fmt: skip
# Remedies that no model here comes to: another is refused before it, or a file alone can say it.
UNTRIED = {
    "begin with one, or with equal ones": "steps in front that differ are read, or refused for their own reason",
    "pad the convolutions before them so that they come at the same step": "values of different delays are delayed",
    "write the model so that it holds for every length": "a file alone can say it",
    "give it four axes": "a file alone can say it",
    "pad the convolution before it only in front": "another remedy comes before it",
    "use one": "a file alone can say it",
    "pad where it is convolved": "another remedy comes before it",
    "stream the part before it": "no net of frames is known that comes to it",
}
FRONTENDS = (test_remedies_torch, test_remedies_onnx, test_remedies_keras)


def test_every_remedy_of_a_stream_is_known() -> None:
    assert remedies("canonical/") == TRIED.keys() | UNTRIED.keys()


def test_at_most_a_quarter_of_all_remedies_is_untried() -> None:
    untried = [*UNTRIED, *(text for one in FRONTENDS for text in one.UNTRIED)]
    tried = [*TRIED, *test_tflite.REMEDIES, *(text for one in FRONTENDS for text in one.TRIED)]
    assert len(untried) <= (len(untried) + len(tried)) / 4
    others = {
        *test_tflite.REMEDIES,
        *test_remedies_torch.WHOLE,
        *test_remedies_torch.FILES,
        *test_remedies_onnx.ELSEWHERE,
    }
    assert remedies("") == {*tried, *untried} | others


@pytest.mark.parametrize("remedy", TRIED)
def test_a_remedy_helps(remedy: str) -> None:
    refused, changed, layers = TRIED[remedy]
    with pytest.raises(RefusedError) as raised:
        from_torch(Lambda(refused, **layers).eval(), torch.randn(2, STEPS, 4), step=True)
    assert remedy.replace("{kind}", "mean").replace("{TIME}", worded(str(TIME))) in [
        one.mend for one in raised.value.refusals
    ]
    assert from_torch(Lambda(changed, **layers).eval(), torch.randn(2, STEPS, 4), step=True).net.time
