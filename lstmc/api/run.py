"""A training run that has ended: what it measured, what its parameters are, and the net with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lstmc.api.displays import png_html
from lstmc.api.net import Net
from lstmc.ops import Array
from lstmc.runs.drawing import CURVES
from lstmc.runs.metrics import METRICS, Record, read_metrics, run_seconds


@dataclass(frozen=True, eq=False)
class Run:
    """What :func:`lstmc.train` gives: ``net`` is the model as it is used, with the trained ``weights``.

    ``ended`` says whether all iterations were made, or the run was stopped; then it can be resumed from ``snapshot``.
    ``files`` are those that it left in ``folder``. ``parameters`` counts what was trained; ``flops`` are of one forward
    pass of the deployed model for one example (:func:`lstmc.api.training.costs`). In a notebook a run shows its
    loss curve.
    """

    folder: Path
    iteration: int
    ended: Literal["finished", "stopped"]
    weights: Mapping[str, Array]
    net: Net
    snapshot: Path
    files: tuple[Path, ...]
    not_drawn: str | None = None  # why there is no loss curve
    parameters: int = 0
    flops: int = 0

    @property
    def metrics(self) -> list[Record]:
        """All that was measured, in order: ``{"kind": "train", "iteration": 1, "loss": 2.3, ...}``, and tests."""
        return read_metrics(self.folder / METRICS)

    @property
    def seconds(self) -> float:
        """What the updates and tests took, in all processes that went on with the run."""
        return run_seconds(self.metrics)

    @property
    def losses(self) -> list[float | None]:
        """The loss of each update; None where it was no number."""
        return [record["loss"] for record in self.metrics if record["kind"] == "train"]

    @property
    def scores(self) -> dict[str, float | None]:
        """The scores of the last test; none where nothing was tested."""
        tests = [record["scores"] for record in self.metrics if record["kind"] == "test"]
        return dict(tests[-1]) if tests else {}

    def __str__(self) -> str:
        scores = "".join(f", {name} {score:.4g}" for name, score in self.scores.items() if score is not None)
        return f"{self.net.name} in {self.folder}: {self.ended} after {self.iteration} iterations{scores}"

    def __repr__(self) -> str:
        return f"<lstmc.Run {self}>"

    def _repr_html_(self) -> str:
        curve = self.folder / CURVES[0]
        return png_html(str(self), curve.read_bytes() if curve.is_file() else None)
