"""A backend that trains with the interpreter: plain gradient descent, a snapshot in a file, nothing of Caffe."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from lstmc_plugin_example.backend import TextBackend

from lstmc.backend import Artifact, Compiled, Settings
from lstmc.backend.compiled import Trained, TrainingData, TrainingRequest
from lstmc.errors import BackendError
from lstmc.interp import backward, forward
from lstmc.ops import Array


@dataclass(frozen=True)
class Descent:
    """How it trains. At update ``interrupt`` the process gets ``number`` as from a keyboard; at ``fail`` it fails;
    with ``refuse`` it does not begin."""

    max_iter: int = 20
    iter_size: int = 1
    base_lr: float = 0.1
    test_interval: int = 10
    snapshot: int = 5
    interrupt: int = 0
    number: int = int(signal.SIGINT)
    fail: int = 0
    refuse: int = 0


class InterpreterBackend(TextBackend):
    """Writes text and trains in NumPy."""

    name = "interpreter"
    targets: ClassVar[Mapping[str, str]] = {"text": "reading"}
    training_targets = ("text",)

    def build(self) -> str:
        return "text"

    def settings(self, given: object | None, overrides: Sequence[str]) -> Settings:
        pairs = [text.partition("=") for text in overrides]
        return Descent(**{key: type(getattr(Descent, key))(value) for key, _, value in pairs})

    def emit(self, compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
        made = super().emit(compiled, weights)
        total = sum(float(array.sum()) for array in weights.values())
        return Artifact({**made.files, f"{compiled.name}.sum": f"{total:.6f}".encode()}, made.layers)

    def emit_training(self, compiled: Compiled, settings: Settings, data: TrainingData | None) -> Mapping[str, bytes]:
        return super().emit(compiled, {}).files

    def train(
        self, compiled: Compiled, weights: Mapping[str, Array], settings: Settings, run: TrainingRequest
    ) -> Trained:
        assert isinstance(settings, Descent)
        snapshot = run.folder / "snapshot.npz"
        now, done = {name: array.astype(np.float64) for name, array in weights.items()}, 0
        if settings.refuse:
            raise BackendError(f"{run.folder} has a run already")
        if run.resume:
            with np.load(snapshot) as saved:
                now = {name: saved[name] for name in now}
                done = int(saved["iteration"])
        ended = False
        while done < settings.max_iter and not ended:
            now = self._update(compiled, now, settings, run, done)
            done += 1
            if done == settings.interrupt:
                os.kill(os.getpid(), settings.number)
            if done == settings.fail:
                raise BackendError("the loss is NaN")
            if run.test_batches is not None and done % settings.test_interval == 0:
                run.callbacks.tested(done, self._scores(compiled, now, run))
            ended = run.stop()
            if done % settings.snapshot == 0 or ended or done == settings.max_iter:
                run.folder.mkdir(parents=True, exist_ok=True)
                np.savez(snapshot, iteration=done, **now)  # type: ignore[arg-type]
                run.callbacks.saved(done, snapshot)
        finished = done == settings.max_iter
        trained = {name: array.astype(np.float32) for name, array in now.items()}
        return Trained(done, "finished" if finished else "stopped", trained, Path(snapshot))

    def _update(
        self, compiled: Compiled, now: dict[str, Array], settings: Descent, run: TrainingRequest, done: int
    ) -> dict[str, Array]:
        result = forward(compiled.model, run.batches.batch(done), now)
        gradients = backward(result, {"loss": np.ones(())}).params
        run.callbacks.stepped(done + 1, float(result.outputs["loss"]), settings.base_lr)
        return {name: array - settings.base_lr * gradients[name] for name, array in now.items()}

    def _scores(self, compiled: Compiled, now: dict[str, Array], run: TrainingRequest) -> dict[str, float]:
        assert run.test_batches is not None
        batches = [run.test_batches.batch(i) for i in range(run.test_batches.per_epoch)]
        results = [forward(compiled.model, batch, now).outputs for batch in batches]
        return {name: float(np.mean([r[name] for r in results])) for name in results[0]}
