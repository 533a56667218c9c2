"""Steps of a description that do the same, each after the one before: what may be a recurrence that was written out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lstmc.importers.describe.images import Conv
from lstmc.importers.describe.net import Net, Step
from lstmc.importers.describe.ops import Linear
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.rolled import Rolled

ROUNDS = 3  # so far back steps are told apart by what made their operands, where they have no weights
Label = Hashable


@dataclass(frozen=True)
class Chain:
    """Steps by number, and the weight of a product that all of them have, if there is one."""

    numbers: tuple[int, ...]
    weight: str | None


class Dependence:
    """What of a net's steps depends on what: ``before[n]`` has the steps that n depends on, itself too, as bits."""

    def __init__(self, net: Net) -> None:
        self.made: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.before: list[int] = []
        for number, step in enumerate(net.steps):
            bits = 1 << number
            for name in dict.fromkeys(step.inputs):
                self.readers.setdefault(name, []).append(number)
                if name in self.made:
                    bits |= self.before[self.made[name]]
            self.before.append(bits)
            self.made.update(dict.fromkeys(step.outputs, number))

    def on(self, value: str, steps: int) -> bool:
        """Whether a value depends on any of these steps."""
        return value in self.made and bool(self.before[self.made[value]] & steps)


def chains(net: Net, dependence: Dependence) -> list[Chain]:
    """Products with a weight first, then what else has parameters, then what has none; the longest of each first."""
    with_weights = [number for number, step in enumerate(net.steps) if any(name in net.params for name in step.inputs)]
    labels = _labels(net)
    found = [chain for chain in _ordered(with_weights, labels, dependence) if len(chain) > 1]
    products = [chain for chain in found if isinstance(net.steps[chain[0]].op, Linear | Conv)]
    made = [Chain(chain, net.steps[chain[0]].inputs[1]) for chain in products]
    made += [Chain(chain, None) for chain in found if chain not in products]
    plain = [number for number, step in enumerate(net.steps) if number not in {*with_weights}]
    for _ in range(ROUNDS):
        made += [Chain(chain, None) for chain in _ordered(plain, labels, dependence) if len(chain) > 2]
        labels = [
            (label, *(labels[dependence.made[name]] if name in dependence.made else None for name in step.inputs))
            for label, step in zip(labels, net.steps, strict=True)
        ]
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        labels = [numbers[label] for label in labels]
    return list(dict.fromkeys(made))


def _labels(net: Net) -> list[Label]:
    """What each step does, and with which parameters; a constant may be a state's first value."""
    weights = {name for name, weight in net.params.items() if weight.sources}

    def label(number: int, step: Step) -> Label:
        if isinstance(step.op, Recur | Rolled):
            return number
        return step.op, *(name if name in weights else net.shapes[name] for name in step.inputs)

    return [label(number, step) for number, step in enumerate(net.steps)]


def _ordered(numbers: Sequence[int], labels: Sequence[Label], dependence: Dependence) -> list[tuple[int, ...]]:
    """Steps of one label, each depending on the one before; those that do not, as in two layers, are other chains."""
    found: dict[Label, list[list[int]]] = {}
    for number in numbers:
        alike = found.setdefault(labels[number], [])
        own = next((chain for chain in alike if dependence.before[number] >> chain[-1] & 1), None)
        if own is None:
            alike.append([number])
        else:
            own.append(number)
    return sorted((tuple(chain) for alike in found.values() for chain in alike), key=lambda chain: -len(chain))
