"""The differential check at inputs of two magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from lstmc.backend import Artifact, Compiled, Executor
from lstmc.ops import Array
from lstmc.verification.arrays import free_inputs
from lstmc.verification.differential import check
from lstmc.verification.report import GRADIENT_TOLERANCE, NOT_FINITE, VALUE_TOLERANCE, Report

LARGE = 8.0  # how much larger the inputs of the second comparison are
# Where gates saturate, libraries differ more in how they round than a few runs that round at random show: by three
# times the tolerance in ONNX Runtime's sigmoid. A fault is larger. Of low precision no limit holds there, as its ranges
# were measured on other inputs.
SLACK = 10
LIMITS = {
    "output": VALUE_TOLERANCE,
    "blob": VALUE_TOLERANCE,
    "gradient": GRADIENT_TOLERANCE,
    "setting": 0.0,
    "function": 0.0,
    "numbers": inf,
}


def check_scales(
    compiled: Compiled,
    artifact: Artifact,
    weights: Mapping[str, Array],
    executor: Executor,
    seed: int = 0,
    given: Mapping[str, Array] | None = None,
) -> Report:
    """Check a net as :func:`check` does, and where it agrees also with inputs ``LARGE`` times as large.

    What gates do beyond the middle of their curves shows there. Inputs with ``values`` stay within these.
    """
    report = check(compiled, artifact, weights, executor, seed, given)
    if not report.passed or not free_inputs(compiled, given or {}):
        return report
    larger = check(compiled, artifact, weights, executor, seed, given, LARGE)
    problem = next((remark for remark in larger.remarks if remark.startswith(NOT_FINITE)), "")
    if problem:
        text = f"inputs {LARGE:g} times as large were not compared: {problem}"
        return replace(report, remarks=(*report.remarks, text))
    limited = (replace(d, tolerance=max(LIMITS[d.kind], SLACK * d.tolerance)) for d in larger.differences)
    failed = {(d.kind, d.name): d for d in limited if not d.passed}
    differences = [failed.get((d.kind, d.name), d) for d in report.differences]
    named = (d if d.passed else replace(d, name=f"{d.name}, of inputs x {LARGE:g}") for d in differences)
    return replace(report, differences=tuple(named), remarks=larger.remarks if failed else report.remarks)
