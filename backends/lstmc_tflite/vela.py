"""Vela, the compiler of Arm's Ethos-U: which operators of a net it leaves to the CPU, and its estimate of cycles."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.errors import BackendError
from lstmc.plugins import need, problem_with
from lstmc_tflite.net import read_net
from lstmc_tflite.runtime import ReferenceExecutor

NPUS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")


def _vela() -> Any:
    return need("ethosu.vela", "Vela", "vela", BackendError)


@dataclass(frozen=True)
class VelaReport:
    """What Vela made of a net: the results of the operators that stay on the CPU, the number on the NPU, and the cycles
    of a pass by its default system configuration."""

    npu: str
    on_cpu: tuple[str, ...]
    on_npu: int
    cycles: int

    def __str__(self) -> str:
        left = f"{len(self.on_cpu)} on the CPU ({', '.join(self.on_cpu)})" if self.on_cpu else "none on the CPU"
        return f"{self.npu}: {self.on_npu} operators on the NPU, {left}, {self.cycles} cycles"


def vela_report(content: bytes, npu: str) -> VelaReport:
    """Compile a net by Vela. Raises :class:`BackendError` with what it says where it fails."""
    _vela()
    with tempfile.TemporaryDirectory(prefix="lstmc-") as name:
        folder = Path(name)
        (folder / "net.tflite").write_bytes(content)
        command = [sys.executable, "-P", "-m", "ethosu.vela", "net.tflite", "--accelerator-config", npu]
        done = subprocess.run(
            [*command, "--output-dir", "out"], cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
        made = folder / "out" / "net_vela.tflite"
        if done.returncode != 0 or not made.exists():
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise BackendError(f"Vela does not compile the net for {npu}", notes=lines[-6:])
        operators = read_net(made.read_bytes()).operators
        (table,) = (folder / "out").glob("*_summary_*.csv")
        row = [*csv.DictReader(table.read_text(encoding="utf-8").splitlines())][-1]
        found = re.search(r"NPU operators = (\d+)", done.stdout)
        return VelaReport(
            npu,
            tuple(operator.outputs[0].name for operator in operators if operator.code != "CUSTOM"),
            int(found[1]) if found else 0,
            round(float(row["cycles_total"])),
        )


@dataclass(frozen=True)
class VelaExecutor(ReferenceExecutor):
    """Vela, for three NPUs, each of which must take the whole net; the net itself runs in LiteRT."""

    name = "vela"

    def unavailable(self) -> str | None:
        """Return why Vela cannot be used, here or with a net in float32, or None."""
        if not self.numbers.integers:
            return "Vela leaves a net in float32 to the CPU: expected integers, by numbers=a8w8 and ranges=FILE"
        return problem_with(_vela) or super().unavailable()

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Return the outputs of a step in LiteRT, and as a function of each NPU the operators left to the CPU."""
        reports = [vela_report(artifact.files[artifact.net], npu) for npu in NPUS]
        left = {str(each): (np.zeros(1), np.array([float(len(each.on_cpu))])) for each in reports}
        found = super().run(compiled, artifact, arrays)
        device = "; ".join(f"{each.npu} {each.cycles} cycles" for each in reports)
        return replace(found, exact={**found.exact, **left}, device=device)
