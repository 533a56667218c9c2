"""Models that reached a rule or a branch of the compiler first: further ones are drawn near them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coverage import Coverage

import lstmc
import lstmc_caffe
from tests.random_models.models import RandomModel, seeded_model

NEAR = 0.5  # of the models
Reached = set[tuple[object, ...]]  # rules and branches
FOLDERS = [
    *(Path(lstmc.__file__).parent / name for name in ("passes", "patterns", "loops")),
    *(Path(lstmc_caffe.__file__).parent / name for name in ("legalize", "rows")),
]


class Frontier:
    """What models have reached, and those of them that were the first to reach something."""

    def __init__(self) -> None:
        self.reached: Reached = set()
        self.first: list[tuple[str, int, tuple[int, ...]]] = []  # target, seed, changes
        self.coverage = Coverage(data_file=None, branch=True, source=[*map(str, FOLDERS)], config_file=False)

    def drawn(self, seed: int, target: str) -> tuple[str, RandomModel, tuple[int, tuple[int, ...]]]:
        """Return the model of a seed for a target, or for half of the seeds one near a first one, for its target."""
        dice, of, changes = random.Random(f"near {seed}"), seed, ()
        if self.first and dice.random() < NEAR:
            target, of, before = dice.choice(self.first)
            changes = (*before, seed)
        return target, seeded_model(of, changes=changes), (of, changes)

    @contextmanager
    def watched(self, found: Reached) -> Iterator[None]:
        """Add the branches that are run inside."""
        self.coverage.start()
        try:
            yield
        finally:
            self.coverage.stop()
            data = self.coverage.get_data()
            found.update((file, *arc) for file in data.measured_files() for arc in data.arcs(file) or ())
            self.coverage.erase()

    def add(self, target: str, drawn: tuple[int, tuple[int, ...]], found: Reached) -> bool:
        """Keep a model if it is the first to reach something; return whether it is."""
        new = not found <= self.reached
        if new:
            self.reached |= found
            self.first.append((target, *drawn))
        return new
