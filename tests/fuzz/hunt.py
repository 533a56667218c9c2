"""Random models one after the other: what became of them, counted, and each failure saved as a model file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lstmc_caffe.run.runner import Runner
from tests.fuzz.trial import Trial, try_model
from tests.strategies import RandomModel, seeded_model

TARGETS = ("caffe", "caffe-native", "flat", "noslice")


@dataclass
class Tally:
    """What became of the models so far. ``refused`` counts reasons by target; ``saved`` are the failures' files."""

    tried: int = 0
    rounding: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    saved: list[Path] = field(default_factory=list)

    @property
    def compiled(self) -> int:
        return self.tried - self.refused.total()

    @property
    def failed(self) -> list[str]:
        return list(map(str, self.saved))

    def add(self, other: Tally) -> None:
        self.tried += other.tried
        self.rounding += other.rounding
        self.refused.update(other.refused)
        self.saved += other.saved

    def __str__(self) -> str:
        lines = [
            f"{self.tried} models tried, {self.compiled} compiled, {self.refused.total()} refused,"
            f" {len(self.saved)} failed; {self.rounding} past a tolerance by float32's own rounding"
        ]
        lines += [f"  refused {count} times: {target}: {why}" for (target, why), count in self.refused.most_common()]
        lines += [f"  failed: {path}" for path in self.saved]
        return "\n".join(lines)


def hunt(seeds: Iterable[int], runner: Runner, folder: Path, targets: tuple[str, ...] = TARGETS) -> Iterable[Tally]:
    """Try the model of each seed for one of the targets, in turn. Yields what became of each."""
    for seed in seeds:
        target, model = targets[seed % len(targets)], seeded_model(seed)
        trial = try_model(model, target, runner)
        tally = Tally(tried=1, rounding=int(trial.outcome == "rounding"))
        if trial.outcome == "refused":
            tally.refused[target, trial.why] += 1
        elif trial.outcome == "failed":
            tally.saved.append(save(model, target, trial, folder / f"{target.replace('-', '_')}_{seed}.py"))
        yield tally


def save(model: RandomModel, target: str, trial: Trial, path: Path) -> Path:
    """The model as a file of its own, which says what was wrong and by which command to see it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = f"-D T={model.T} -D N={model.N}"
    command = f"lstmc verify {path} {sizes} --seed {model.seed} --target {target} --on caffe-cpu"
    wrong = "".join(f"#   {line}".rstrip() + "\n" for line in trial.why.splitlines())
    path.write_text(
        f"# A random model that target {target} gets wrong. To see it:\n#   {command}\n{wrong}\n{model.source}"
    )
    return path
