"""A quantised net in its own reader: made by the reader's quantiser, run over sequences with its own states."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstmc.errors import BackendError
from lstmc.files.arrays import npz_bytes, read_npz
from lstmc.numerics.calibration import PROGRAM
from lstmc.numerics.effects import OutputError, ReaderOutput
from lstmc.ops import Array
from lstmc.process.status import report_activity

MOST_SEQUENCES = 4  # that a reader runs: some take a tenth of a second a step
LINES = 6  # of what a failed program printed


@dataclass(frozen=True)
class Interpreter:
    """A Python that has a reader's packages, and the environment variables to start it with."""

    path: Path
    environment: Mapping[str, str]


def run_quantised(
    files: Mapping[str, bytes], interpreter: Interpreter, options: Sequence[str], fed: Mapping[str, Array], title: str
) -> dict[str, Array]:
    """Return the outputs [S, T, ...] of a net, by blob, that its quantizer makes and runs in the reader.

    ``files`` are those of a calibration, ``fed`` as of :func:`~lstmc.numerics.calibration.take_streams`. Raises
    :class:`BackendError` with what the program printed where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="lstmc-") as name:
        folder = Path(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
        (folder / "stream.npz").write_bytes(npz_bytes(fed))
        command = [str(interpreter.path), "-u", PROGRAM, *options, "--stream", "stream.npz", "--streamed", "out.npz"]
        report_activity(f"quantising by {title}, and running it")
        ran = subprocess.run(
            command,
            cwd=folder,
            env=dict(interpreter.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if ran.returncode != 0 or not (folder / "out.npz").exists():
            lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
            raise BackendError(f"{title} does not quantise or run the net", notes=lines[-LINES:])
        return {name: np.asarray(array) for name, array in read_npz(folder / "out.npz", BackendError).items()}


def reader_outputs(
    given: Mapping[str, Array], exact: Mapping[str, Array], predicted: Mapping[str, float]
) -> tuple[ReaderOutput, ...]:
    """Return the errors of a reader's outputs, arrays [S, T, ...] by name, against those of float32."""
    compared = []
    for name, truth in exact.items():
        numbers = given[name].reshape(truth.shape).astype(np.float64)
        errors = np.abs(numbers - truth)
        size = float(np.sqrt((truth.astype(np.float64) ** 2).mean()))
        by_step = errors.mean(axis=(0, *range(2, errors.ndim)))
        other = (numbers.argmax(-1) != truth.argmax(-1)).mean(axis=(0, *range(2, errors.ndim - 1)))
        steps = (tuple(map(float, column)) for column in (by_step, other))
        error = OutputError(name, float(errors.mean()), float(errors.max()), size, *steps)
        compared.append(ReaderOutput(error, predicted[name], len(np.unique(numbers))))
    return tuple(compared)
