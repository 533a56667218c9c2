"""The error that is predicted in low precision is the program's: of random cells, and of cells that were once off."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.numerics import effects
from tests.on_demand.fuzz.numbers import IMPORTS, Case, drawn, judge, measured

PARAM = "Param(6, 6, fill=gaussian(0, 0.5))"
HEAD = f"@cell\ndef drawn(x=Input(N, 6), c=State(N, 6), *, W={PARAM}, V={PARAM}):\n"
# The softmax of ONNX Runtime's integers has 254 of 255 as its one, which a sum of all of it loses in each step.
MASTER_GATE = (
    HEAD
    + """\
    v, g = split(linear(x, W), 2)
    gate = 1 - linear(softmax(v), const(np.tril(np.ones((3, 3)))))
    c = 0.98 * c + concat(gate, gate, axis=1)
    return c, {"c": c}
"""
)
# MNN rounds no piece of a Slice but the one whose scale is that of the whole.
NORMALISED = (
    HEAD
    + """\
    c = 0.8 * c + 0.2 * linear(x, W)
    return linear(rms_norm(silu(c)), V), {"c": c}
"""
)
CASES = {
    "master_gate": ("onnxruntime-a8w8", Case(3, f"{IMPORTS}\n\n{MASTER_GATE}")),
    "normalised": ("mnn-int8", Case(3, f"{IMPORTS}\n\n{NORMALISED}")),
    "onnxruntime 2": ("onnxruntime-a8w8", drawn(2)),
    "scales that are not numbers": ("mnn-int8", drawn(0)),
    "the largest of integers": ("mnn-int8", drawn(45)),
    "the sum in a power": ("mnn-int8", drawn(920078)),
    "a ReLU with a slope": ("mnn-int8", drawn(920116)),
    "a ReLU with a slope of a sum": ("mnn-int8", drawn(1202019)),
    "steps of weights to six decimals": ("mnn-int8", drawn(1202209)),
    "a sum that is reshaped": ("mnn-int8", drawn(1202310)),
    "an Exp": ("mnn-int8", drawn(920204)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_error_is_predicted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "CAUSE_STEPS", 0)
    numbers, case = CASES[name]
    real, predicted, size = measured(case, numbers, tmp_path)
    assert judge(real, predicted, size) == "within", (real, predicted)
