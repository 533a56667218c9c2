"""The differential suite: Caffe on the CPU and on the GPU against the interpreter, and against each other.

A cell may let the rounding of float32 grow past a tolerance. How much it grows is measured, by the interpreter in
float32: Caffe may be off by MARGIN times that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lstmc.backend import Artifact, Compiled, Execution, Executor, RunArrays
from lstmc.errors import LstmcError
from lstmc.verification.conditioning import relative_gap
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc.verification.report import GRADIENT_TOLERANCE, VALUE_TOLERANCE, Report
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.targets.target import load_target
from tools.gpu_check.cases import Case
from tools.gpu_check.outcome import Outcome
from tools.gpu_check.solver import STEPS, caffe_steps, interpreter_steps, rate_of

MARGIN = 4
KINDS = {"forward": ("output", "blob"), "gradients": ("gradient",)}
TOLERANCES = {"forward": VALUE_TOLERANCE, "gradients": GRADIENT_TOLERANCE}


class _Kept(Executor):
    """An executor that keeps what it gave last."""

    def __init__(self, executor: CaffeExecutor) -> None:
        self.executor, self.name = executor, executor.name
        self.last: Execution | None = None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        self.last = self.executor.run(compiled, artifact, arrays)
        return self.last


def suite(cases: Iterable[Case], executors: Sequence[CaffeExecutor]) -> Iterator[Outcome]:
    """Forward, gradients and solver steps of every case on every executor, and the others against the first.

    ``executors`` is not empty.
    """
    kept = [_Kept(executor) for executor in executors]
    for case in cases:
        rounding = check(case.compiled, case.artifact, case.weights, InterpreterExecutor())
        for executor in kept:
            yield from _against_interpreter(case, executor, rounding)
        first = kept[0]
        for other in kept[1:]:
            if first.last is not None and other.last is not None:
                name = f"{case}: {other.name} against {first.name}"
                yield from _against_each_other(name, other.last, first.last, rounding)
        if load_target(case.compiled.target).trained:
            yield from _steps(case, executors)


def _against_interpreter(case: Case, executor: _Kept, rounding: Report) -> Iterator[Outcome]:
    name = f"{case}: {executor.name} against the interpreter"
    executor.last = None
    try:
        report = check(case.compiled, case.artifact, case.weights, executor)
    except LstmcError as error:
        yield Outcome(name, np.nan, VALUE_TOLERANCE, str(error))
        return
    for what, kinds in KINDS.items():
        yield Outcome(f"{name}, {what}", _worst(report, *kinds), _allowed(what, rounding))


def _worst(report: Report, *kinds: str) -> float:
    # NumPy's max, which a NaN wins
    return float(np.max([d.relative for d in report.differences if d.kind in kinds], initial=0.0))


def _allowed(what: str, rounding: Report) -> float:
    return max(TOLERANCES[what], MARGIN * _worst(rounding, *KINDS[what]))


def _against_each_other(name: str, found: Execution, wanted: Execution, rounding: Report) -> Iterator[Outcome]:
    values = [relative_gap(found.values[blob], value) for blob, value in wanted.values.items()]
    yield Outcome(f"{name}, forward", float(np.max(values, initial=0.0)), _allowed("forward", rounding))
    pairs = [(found.input_gradients, wanted.input_gradients)]
    pairs += [(found.param_gradients, wanted.param_gradients)]
    gradients = [relative_gap(ours[key], value) for ours, theirs in pairs for key, value in theirs.items()]
    yield Outcome(f"{name}, gradients", float(np.max(gradients, initial=0.0)), _allowed("gradients", rounding))


def _steps(case: Case, executors: Sequence[CaffeExecutor]) -> Iterator[Outcome]:
    rate = rate_of(case)
    wanted, float32 = interpreter_steps(case, rate), interpreter_steps(case, rate, np.float32)
    if not all(np.isfinite(value).all() for steps in (wanted, float32) for value in steps.values()):
        return  # the training itself diverges in the interpreter, as that of ttt_linear at the largest size
    rounding = max(relative_gap(float32[parameter], value) for parameter, value in wanted.items())
    allowed = max(GRADIENT_TOLERANCE, MARGIN * rounding)
    for executor in executors:
        name = f"{case}: {executor.name} against the interpreter, {STEPS} solver steps"
        try:
            found = caffe_steps(case, rate, executor)
        except LstmcError as error:
            yield Outcome(name, np.nan, allowed, str(error))
            continue
        worst = [relative_gap(found[parameter], value) for parameter, value in wanted.items() if parameter in found]
        yield Outcome(name, float(np.max(worst, initial=0.0)), allowed)
