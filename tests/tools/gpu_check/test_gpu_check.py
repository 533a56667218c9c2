"""The check that goes to a machine with a GPU, run here on the CPU; and what it says where there is no GPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lstmc.backend import Execution, find_cells
from lstmc.errors import BackendError
from lstmc.loops.code import Source
from lstmc.verification.report import GRADIENT_TOLERANCE, VALUE_TOLERANCE, Difference, Report
from lstmc_caffe import CaffeBackend
from lstmc_caffe.processes.process import CaffeLocation, GpuState
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.runtime.pythons import script
from tools.gpu_check import __main__ as program
from tools.gpu_check import benchmark as timing
from tools.gpu_check import solver, torch_cells
from tools.gpu_check.cases import TIMED_CELLS, Case, cases
from tools.gpu_check.outcome import Outcome
from tools.gpu_check.suite import _against_each_other, suite

SIZE = (3, 2, 3, 4)


def case(cell: str = "lstm", target: str = "caffe") -> Case:
    return next(found for found in cases((SIZE,), (cell,)) if found.compiled.target == target)


def names(outcomes: list[Outcome], *, passed: bool) -> set[str]:
    """Of those that passed, or failed: what was compared with what."""
    return {outcome.name.partition(": ")[2] for outcome in outcomes if outcome.passed == passed}


FORWARD, GRADIENTS, STEPS = (
    f"caffe-cpu against the interpreter, {what}" for what in ("forward", "gradients", "5 solver steps")
)


def test_every_target_that_has_the_cell_is_a_case() -> None:
    found = [str(case) for case in cases((SIZE,), ("lstm", "gru"))]
    sizes = "T=3 N=2 D=3 H=4"
    assert found == [
        *(f"lstm as {target} {sizes}" for target in ("caffe", "flat", "noslice", "caffe-native")),
        *(f"gru as {target} {sizes}" for target in ("caffe", "flat", "noslice")),
    ]


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "caffe-native", "flat"])
def test_forward_gradients_and_steps_pass(caffe: Runner, target: str) -> None:
    outcomes = list(suite([case(target=target)], [CaffeExecutor(caffe, "cpu")]))
    assert names(outcomes, passed=False) == set()
    assert names(outcomes, passed=True) == {FORWARD, GRADIENTS, STEPS} - ({STEPS} if target == "flat" else set())


@pytest.mark.caffe
def test_two_places_are_compared_with_each_other_too(caffe: Runner) -> None:
    class Other(CaffeExecutor):
        """One whose weights are not the ones it is given."""

        def run(self, compiled, artifact, arrays):  # type: ignore[no-untyped-def]
            other = CaffeBackend().emit(compiled, {name: 2 * value for name, value in case().weights.items()})
            return super().run(compiled, other, arrays)

    other = Other(caffe, "cpu")
    other.name = "caffe-other"
    outcomes = list(suite([case()], [CaffeExecutor(caffe, "cpu"), other]))
    wrong = ("against the interpreter", "against caffe-cpu")
    assert names(outcomes, passed=False) == {
        f"caffe-other {pair}, {what}" for pair in wrong for what in ("forward", "gradients")
    }
    assert {FORWARD, GRADIENTS, STEPS} <= names(outcomes, passed=True)


def test_what_float32_loses_is_allowed_between_two_places_too() -> None:
    """Two places may be off as far from each other as each from the interpreter; by no more."""
    rounding = Report(
        "interpreter",
        (
            Difference("output", "y", 1, 1e-5, 1e-5, VALUE_TOLERANCE),
            Difference("blob", "z", 1, 1e-3, 1e-3, VALUE_TOLERANCE),
            Difference("gradient", "W", 1, 2e-7, 2e-7, GRADIENT_TOLERANCE),
        ),
    )
    one, gradients = Execution({"y": np.ones(2)}, {}, {"W": np.ones(2)}), 1 + GRADIENT_TOLERANCE
    for off, passed in ((3e-3, True), (5e-3, False)):
        other = Execution({"y": np.array([1.0, 1.0 + off])}, {}, {"W": np.array([1.0, gradients + 1e-6])})
        found = list(_against_each_other("two places", other, one, rounding))
        assert [outcome.passed for outcome in found] == [passed, False]
        assert [outcome.allowed for outcome in found] == [4e-3, GRADIENT_TOLERANCE]


@pytest.mark.caffe
def test_other_solver_steps_are_noticed(caffe: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "_SOLVER", solver._SOLVER.replace("{momentum}", "0.8"))  # Caffe's alone
    outcomes = list(suite([case()], [CaffeExecutor(caffe, "cpu")]))
    assert names(outcomes, passed=False) == {STEPS}


def test_a_place_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "exit 3")
    with Runner(CaffeLocation(python, None, None, "setting")) as runner:
        outcomes = list(suite([case()], [CaffeExecutor(runner, "cpu")]))
    assert [outcome.passed for outcome in outcomes] == [False, False]
    reason = "CaffeAborted: Caffe's process ended (exit status 3) when asked to start"
    assert all(outcome.error == reason for outcome in outcomes), outcomes


@pytest.mark.slow
def test_outcomes_read_well() -> None:
    assert str(Outcome("a", 2e-7, 1e-5)) == "ok     a: 2.0e-07 (allowed 1e-05)"
    assert str(Outcome("a", 2e-5, 1e-5)) == "FAILED a: 2.0e-05 (allowed 1e-05)"
    assert str(Outcome("a", np.nan, 1e-5)) == "FAILED a: nan (allowed 1e-05)"
    assert str(Outcome("a", 0, 1e-5, "no GPU")) == "FAILED a: no GPU"


def torch_program(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> None:
    (folder / "torch_cells.py").write_text(source)
    monkeypatch.setattr(timing, "TORCH", folder / "torch_cells.py")


@pytest.mark.caffe
def test_the_benchmark_is_a_table_of_ratios(caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc_caffe.runtime.executor.SECONDS", 0.05)
    torch_program(monkeypatch, tmp_path, "import sys; raise SystemExit(' '.join(sys.argv[1:]))")
    header, *rows, last = timing.benchmark(CaffeExecutor(caffe, "cpu"), (SIZE,), ("lstm",))
    assert header.split() == ["cell", "T,", "N,", "D,", "H", "net", "ms", "times", "caffe's"]
    cells = [row.split() for row in rows]
    assert {row[5] for row in cells} == {"caffe", "flat", "noslice", "caffe-native", "caffe-fused"}
    assert all(row[:5] == ["lstm", "3,", "2,", "3,", "4"] and float(row[6]) > 0 and float(row[7]) > 0 for row in cells)
    assert [row[7] for row in cells if row[5] == "caffe"] == ["1.00"]
    assert re.split(" +", last) == [*cells[0][:5], "torch", "not", "measured:", "cpu", "lstm", "3", "2", "3", "4"]


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        (
            'print(\'{"seconds": {"nn": 0.002}, "reasons": {"compile": "no triton"}, "version": "2.9.0"}\')',
            ["torch nn           2.000  0.50", "torch compile  not measured: no triton"],
        ),
        ('print(\'{"reason": "no GPU here"}\')', ["torch          not measured: no GPU here"]),
        ("raise SystemExit('no memory')", ["torch          not measured: no memory"]),
        ("raise SystemExit(3)", ["torch          not measured: exit status 3"]),
        ("while True: pass", ["torch          not measured: it took more than 2 seconds"]),
    ],
)
def test_torch_is_measured_where_it_can_be(
    source: str, rows: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Measured(Runner):
        gpu = GpuState(True, True, "")

        def call(self, *_, **__):  # type: ignore[no-untyped-def]
            return type("Result", (), {"value": {"caffe": 0.004}})

        def open_layers(self, source: Source | None) -> None:
            raise BackendError("there is no compiler")

    torch_program(monkeypatch, tmp_path, source)
    monkeypatch.setattr(timing, "TORCH_SECONDS", 2.0 if "while" in source else 60.0)
    rows = ["caffe-fused    not measured: there is no compiler", *rows]
    found = list(timing.benchmark(CaffeExecutor(Measured(), "gpu"), (SIZE,), ("gru",)))[1:]
    named = sorted(re.sub("^gru *3, 2, 3, 4  ", "", row) for row in found)
    assert named == sorted(["caffe              4.000  1.00", *rows])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning", "ignore:.*torch.jit.script:FutureWarning")
def test_pytorch_has_every_cell_that_is_timed() -> None:
    assert set(TIMED_CELLS) <= torch_cells.CELLS.keys()
    given, runs = torch_cells.operands("lstm", SIZE, "cpu"), dict(torch_cells.ways("lstm"))
    runs = {"eager": runs["eager"], "nn": runs["nn"], "broken": lambda *_: 1 / 0}
    able, reasons = torch_cells.compared(runs, given)
    assert (able.keys(), reasons) == ({"eager", "nn"}, {"broken": "division by zero"})
    times = torch_cells.minima(able, given, 1, time.perf_counter)
    assert times.keys() == able.keys()
    assert min(times.values()) > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("cell", TIMED_CELLS)
def test_pytorch_s_ways_run_on_the_cpu(cell: str) -> None:
    command = [sys.executable, str(timing.TORCH), "cpu", cell, *map(str, SIZE)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {"eager", "script", "compile"} <= found["seconds"].keys()
    assert found["reasons"] == {}


def test_an_emulated_device_is_not_timed() -> None:
    class Emulated(Runner):
        gpu = GpuState(True, True, "", "", "no GPU: emulated by the CPU", True)

    with pytest.raises(BackendError) as caught:
        next(iter(timing.fastest_seconds(Emulated(), {}, "gpu")))
    assert caught.value.message == "expected a GPU to time nets on, found no GPU: emulated by the CPU"


@pytest.mark.caffe
@pytest.mark.parametrize(
    "cells",
    [("lstm", "conv_gru", "slstm"), pytest.param(find_cells(), marks=pytest.mark.exhaustive)],
    ids=["some", "all"],
)
def test_without_a_gpu_every_cell_passes_on_the_cpu_and_the_gpu_is_refused_with_its_reason(
    caffe: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cells: Sequence[str]
) -> None:
    """All cells are in ``make exhaustive``; that Caffe computes each of them is in tests/cells/test_library.py too."""

    class NoGpu(CaffeExecutor):
        def unavailable(self) -> str | None:
            return "there is no NVIDIA driver (no libcuda.so.1)"

        def close(self) -> None:
            pass

    class Cpu(CaffeExecutor):
        def close(self) -> None:
            pass

    backend = type("Backend", (), {"executors": lambda self: (Cpu(caffe, "cpu"), NoGpu(caffe, "gpu"))})
    monkeypatch.setattr(program, "CaffeBackend", backend)
    monkeypatch.setattr(program, "CHECKED", (SIZE,))
    monkeypatch.setattr("tools.gpu_check.cases.find_cells", lambda: cells)
    assert program.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("lstmc ")
    assert lines[1].startswith("card: ")
    assert lines[2] == "FAILED caffe-gpu can be used: there is no NVIDIA driver (no libcuda.so.1)"
    passed = [line for line in lines if line.startswith("ok ")]
    assert lines[-2:] == ["no benchmark: there is no GPU to measure", f"{len(passed)} passed, 1 failed"]
    assert {found[1] for line in passed if (found := re.match(r"ok +(\w+) as caffe ", line))} == set(cells)


class Passing(CaffeExecutor):
    """A place without a worker."""

    def unavailable(self) -> str | None:
        return None


@pytest.mark.parametrize("emulated", [True, False])
def test_a_page_is_written_of_a_gpu_alone(
    emulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OnDevice(Runner):
        gpu = GpuState(True, True, "", "", "no GPU: emulated by the CPU" if emulated else "a card", emulated)

    executors = (Passing(Runner(), "cpu"), Passing(OnDevice(), "gpu"))
    monkeypatch.setattr(program, "CaffeBackend", type("Backend", (), {"executors": lambda self: executors}))
    monkeypatch.setattr(program, "suite", lambda *_: [Outcome("a", 0, 1), Outcome("b", 2, 1)])
    monkeypatch.setattr(program, "benchmark", lambda *_: ["T, N, D, H  net  ms", "1, 1, 1, 1  caffe  2.000"])
    monkeypatch.setattr(program, "card", lambda: "H100, 9.0")
    page = tmp_path / "gpu-measured.md"
    assert program.main(["-o", str(page)]) == 1
    *_, said, counts = capsys.readouterr().out.splitlines()
    assert counts == "1 passed, 1 failed"
    if emulated:
        assert said == f"did not write {page}: no GPU was measured"
        assert not page.exists()
    else:
        assert said == f"wrote {page}"
        text = page.read_text()
        assert "- card: H100, 9.0\n" in text
        assert "1 passed, 1 failed\n" in text
        assert "1, 1, 1, 1  caffe  2.000\n```\n" in text


def test_without_any_caffe_it_still_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nowhere(CaffeExecutor):
        def unavailable(self) -> str | None:
            return "CaffeNotFound: Caffe was not found\n  tried nothing"

    executors = (Nowhere(Runner(), "cpu"), Nowhere(Runner(), "gpu"))
    monkeypatch.setattr(program, "CaffeBackend", type("Backend", (), {"executors": lambda self: executors}))
    assert program.main() == 1
    reason = "CaffeNotFound: Caffe was not found; tried nothing"
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"FAILED caffe-cpu can be used: {reason}",
        f"FAILED caffe-gpu can be used: {reason}",
        "no benchmark: there is no GPU to measure",
        "0 passed, 2 failed",
    ]


def test_the_card_is_what_nvidia_s_program_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.card() == "not known: there is no nvidia-smi"
    path = tmp_path / "nvidia-smi"
    for body, card in (
        ("echo 'NVIDIA H100, 9.0, 81559 MiB, 580.65.06'", "NVIDIA H100, 9.0, 81559 MiB, 580.65.06"),
        ("exit 9", "not known: nvidia-smi ended with exit status 9"),
        (":", "none"),
    ):
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        assert program.card() == card
