"""Random models one after the other, whole and step by step: what became of them, and each failure saved as a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import lstmc.passes
import lstmc_caffe
from lstmc.passes import simplify
from lstmc_caffe.legalize import layers
from lstmc_caffe.rows import narrow
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz.frontier import Frontier, Reached
from tests.on_demand.fuzz.streams import try_stream
from tests.on_demand.fuzz.trial import Trial, save_model, try_model
from tests.random_models.models import RandomModel

TARGETS = ("caffe", "caffe-native", "flat", "noslice", "caffe-fused")
STREAMED = ("caffe", "flat", "noslice")
STEP = " --step"


@dataclass
class Tally:
    """What became of the models so far.

    ``refused`` counts reasons by target; ``saved`` are the failures' files. ``first`` counts the models that reached a
    rule or a branch before all others of their process, ``streams`` the outcomes of running them step by step, and
    ``rules`` the models that each rule was used in.
    """

    tried: int = 0
    rounding: int = 0
    first: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
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
        self.first += other.first
        self.refused.update(other.refused)
        self.streams.update(other.streams)
        self.rules.update(other.rules)
        self.saved += other.saved

    def __str__(self) -> str:
        lines = [
            f"{self.tried} models tried, {self.compiled} compiled, {self.refused.total()} refused,"
            f" {len(self.saved)} failed; {self.rounding} past a tolerance by float32's own rounding"
        ]
        if self.streams:
            streamed = self.streams.total() - self.streams["refused"]
            lines.append(f"  {streamed} of them run step by step too, {self.streams['failed']} failed so")
        lines += [f"  refused {count} times: {target}: {why}" for (target, why), count in self.refused.most_common()]
        lines += [f"  failed: {path}" for path in self.saved]
        lines.append(
            f"  {self.first} were the first to reach a rule or a branch; half of the models are drawn near such ones"
        )
        if self.rules:
            unused = sorted(known_rules() - self.rules.keys())
            lines.append(f"  {len(self.rules)} rules used; of those known by name never: {', '.join(unused) or 'none'}")
        return "\n".join(lines)


def known_rules() -> frozenset[str]:
    """The rules of passes: functions in the tables of rules, and the names that passes count their changes by."""
    rules = (*simplify.RULES, *layers.RULES.values(), *narrow.RULES.values())
    packages = (Path(lstmc.passes.__file__).parent, Path(lstmc_caffe.__file__).parent)
    texts = [path.read_text() for package in packages for path in package.rglob("*.py")]
    counted = (name for text in texts for name in re.findall(r'counts\["(\w+)"\] \+=', text))
    return frozenset([*(rule.__name__ for rule in rules), *counted])


def hunt(seeds: Iterable[int], runner: Runner, folder: Path, targets: tuple[str, ...] = TARGETS) -> Iterable[Tally]:
    """Try the model of each seed for one of the targets, in turn; whole, and step by step where the target unrolls.

    Half of the models are near those that were the first to reach a rule or a branch. Yields what became of each.
    """
    frontier = Frontier()
    for seed in seeds:
        target, model, drawn = frontier.drawn(seed, targets[seed % len(targets)])
        reached: Reached = set()
        with frontier.watched(reached):
            trial = try_model(model, target, runner)
        first = frontier.add(target, drawn, reached | {(target, rule) for rule in trial.rules})
        tally = Tally(tried=1, rounding=int(trial.outcome == "rounding"), rules=Counter(trial.rules), first=int(first))
        if trial.outcome == "refused":
            tally.refused[target, trial.why] += 1
        elif trial.outcome == "failed":
            tally.saved.append(save(model, target, trial, folder / f"{target.replace('-', '_')}_{seed}.py"))
        if target in STREAMED:
            stream = try_stream(model, target, runner)
            tally.streams[stream.outcome] += 1
            if stream.outcome == "failed":
                tally.saved.append(save(model, target + STEP, stream, folder / f"{target}_step_{seed}.py"))
        yield tally


def save(model: RandomModel, target: str, trial: Trial, path: Path) -> Path:
    """Save a model that a target gets wrong, with the command that shows it."""
    wrong = f"A random model that target {target} gets wrong"
    if target.endswith(STEP):
        option = f"--target {target.removesuffix(STEP)}"
        return save_model(model, path, wrong, "python -m tests.on_demand.fuzz.streams", option, trial.why)
    options = f"--fillers --target {target} --on caffe-cpu"
    return save_model(model, path, wrong, "lstmc verify", options, trial.why)
