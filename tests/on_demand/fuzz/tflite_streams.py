"""``python -m tests.on_demand.fuzz.tflite_streams a8w8 --models 300 --steps 200``: streams of carried steps in TFLite.

Random models, or with ``--cells`` every library cell, in LiteRT by its kernels and in TFLite Micro: in integers each
integer is the interpreter's; in float32 a net is no further from the interpreter in float64 than what float32 itself
does there. ``--smallest`` makes each model that fails smaller, and prints it.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lstmc.errors import LstmcError
from lstmc_tflite.numbers import FLOAT32, Numbers
from tests.backends.lstmc_tflite.streams import CELLS, KERNELS, CarriedSteps, RandomStream, Stream
from tests.on_demand.fuzz.smaller import smaller
from tests.on_demand.fuzz.trial import generic
from tests.random_models.models import RandomModel, seeded_model

CLOSE, TIMES = 4e-6, 10  # of float32: a difference from float64, and times that of the interpreter's own float32
RUN = ("xnnpack", "litert-reference", "tflm")
TARGETS = {"xnnpack": "tflite", "litert-reference": "tflite", "tflm": "tflite-micro"}


@dataclass(frozen=True)
class Case:
    """A library cell or a random model."""

    title: str
    make: Callable[[Numbers, str], CarriedSteps]
    model: RandomModel | None = None

    def outcomes(self, numbers: str, steps: int) -> Iterator[tuple[str, str]]:
        """Yield what became of a stream in each set of kernels, and what is wrong there."""
        try:
            stream = self.make(FLOAT32, TARGETS[RUN[0]])
            if stream.compiled.states is None:
                yield "no steps", ""
                return
            if numbers != "float32":
                with np.errstate(all="ignore"):
                    limits = stream.limits()
                if not np.isfinite([*limits.values()]).all():
                    yield "not finite", ""
                    return
            for kernels in RUN:
                if numbers != "float32":
                    stream = self.make(Numbers.of(numbers, limits), TARGETS[kernels])
                with np.errstate(all="ignore"):
                    yield compared(stream, kernels, steps)
        except LstmcError as error:
            yield f"refused: {generic(error.message)}", ""
        except Exception:
            yield "traceback", traceback.format_exc()

    def smallest(self, numbers: str, steps: int) -> RandomModel:
        """Return the smallest model that fails too."""
        assert self.model is not None

        def fails(model: RandomModel) -> bool:
            return any(wrong for _, wrong in of_model(model).outcomes(numbers, steps))

        return smaller(self.model, fails)


def of_model(model: RandomModel, title: str = "") -> Case:
    return Case(title, lambda numbers, target: RandomStream(model, numbers, target), model)


def random(seed: int) -> Case:
    return of_model(seeded_model(seed, wide=seed % 2 == 1), f"seed {seed}")


def cell(name: str) -> Case:
    return Case(name, lambda numbers, target: Stream(name, batch=1, numbers=numbers, target=target))


def compared(stream: CarriedSteps, kernels: str, steps: int) -> tuple[str, str]:
    net = KERNELS[kernels](stream.content)
    if stream.numbers.device is not None:
        wrong = stream.wrong(net, kernels, steps)
        return f"{kernels}: run", f"{wrong} integers of {kernels}" if wrong else ""
    gaps, done = stream.gaps({kernels: net}, steps)
    wrong_by = f"{gaps} in {done} steps" if gaps[kernels] > max(CLOSE, TIMES * gaps["float32"]) else ""
    return f"{kernels}: {'run' if done == steps else 'ended where float32 loses the stream'}", wrong_by


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="+", help="float32, a8w8, a16w8, a8w8-s16, or a device as tflm-a8w8")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first model")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cells", nargs="*", help="library cells in place of models, by default all")
    parser.add_argument("--smallest", action="store_true", help="print each model that fails made smaller")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.models)
    cases = [random(seed) for seed in seeds] if given.cells is None else [cell(n) for n in given.cells or CELLS]
    failed = False
    for numbers in given.numbers:
        outcomes = Counter[str]()
        for case in cases:
            for outcome, wrong in case.outcomes(numbers, given.steps):
                outcomes[outcome] += 1
                if wrong:
                    failed = True
                    print(f"{case.title} in {numbers}: {wrong}", flush=True)
                    if given.smallest and case.model is not None:
                        print(case.smallest(numbers, given.steps), flush=True)
                        break
        print(numbers, *(f"{count} {outcome}" for outcome, count in outcomes.most_common()), sep="\n  ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
