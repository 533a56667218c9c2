"""``python -m tests.on_demand.fuzz.numbers onnxruntime-a8w8 --models 100``: random cells in low precision.

A cell of a few values and two states is drawn by its seed, with its weights and streams; ranges are measured on another
stream. The net is quantised and run by the reader's own programs. Printed are the real error and the predicted one as a
multiple of it; at the end the number of cells within :data:`LIMIT`, and the seeds of the rest.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lstmc
from lstmc.errors import LstmcError
from lstmc.numerics import effects
from lstmc.numerics.device import read_device
from lstmc.ops import Array

LIMIT = 1.2
SIZE, STEPS = 6, 100
LEAST = 1e-5  # of an error relative to the output: below, float32 itself rounds as much
IMPORTS = "import numpy as np\n\nfrom lstmc import *\n\nN = dims('N')\n"
UNARY = (
    "sigmoid", "tanh", "relu", "softmax", "softmax", "silu", "rms_norm", "layer_norm", "abs", "softplus", "gelu",
    "exp_", "log_softmax", "leaky_relu", "elu", "hard_sigmoid", "square", "minus", "scaled", "cumsum", "max_", "sum_",
    "swap",
    "product", "product", "product",
)  # fmt: skip
TEXTS = {
    "exp_": "exp(-abs({x}))", "minus": "1 - {x}", "scaled": "0.5 * {x} + 0.25",
    "cumsum": "linear({x}, const(np.tril(np.ones((6, 6)))))",
    "max_": "{x} - max({x}, axis=-1, keepdims=True)", "sum_": "{x} * sum({x}, axis=-1, keepdims=True)",
    "swap": "concat({x}[:, 3:], {x}[:, :3], axis=1)", "leaky_relu": "leaky_relu({x}, 0.1)",
}  # fmt: skip
BINARY = (
    "{x} + {y}",
    "{x} - {y}",
    "{x} * {y}",
    "sigmoid({x}) * {y}",
    "maximum({x}, {y})",
    "{y} + sigmoid({x}) * (h - {y})",
)


@dataclass(frozen=True)
class Case:
    """A cell: the seed of its weights and streams, and its source."""

    seed: int
    source: str


def drawn(seed: int) -> Case:
    """Return the cell of a seed."""
    rng = random.Random(seed)
    values, lines, matrices = ["x", "h", "c"], [], []

    def name(expression: str) -> str:
        lines.append(f"    v{len(lines)} = {expression}")
        values.append(f"v{len(lines) - 1}")
        return values[-1]

    def product(x: str) -> str:
        matrices.append(f"W{len(matrices)}")
        return f"linear({x}, {matrices[-1]})"

    name(f"{product('x')} + {product('h')}")
    for _ in range(rng.randint(1, 7)):
        x, y = (rng.choice(values[-3:] if rng.random() < 0.7 else values) for _ in "xy")
        if rng.random() < 0.3:
            name(rng.choice(BINARY).format(x=x, y=y))
            continue
        kind = rng.choice(UNARY)
        name(product(x) if kind == "product" else TEXTS.get(kind, f"{kind}({{x}})").format(x=x))
    factor = rng.choice((0.5, 0.9, 0.98))
    y = rng.choice((values[-1], product(values[-1])))
    weights = ", ".join(f"{w}=Param(6, 6, fill=gaussian(0, 0.5))" for w in matrices)
    head = f"@cell\ndef drawn(x=Input(N, 6), h=State(N, 6), c=State(N, 6), *, {weights}):\n"
    body = [
        *lines,
        f"    h = tanh({rng.choice(values[3:])} + 0.5 * v0)",
        f"    c = {factor} * c + {1 - factor:.2g} * tanh({rng.choice(values[3:])})",
        f"    return {y}, {{'h': h, 'c': c}}",
    ]
    return Case(seed, IMPORTS + "\n\n" + head + "\n".join(body) + "\n")


def streams(seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the data of a seed, and those for calibration."""
    rng = np.random.default_rng(seed)
    first, second = ({"x": rng.standard_normal((STEPS, 2, SIZE)).astype(np.float32)} for _ in range(2))
    return first, second


def measured(case: Case, numbers: str, folder: Path) -> tuple[float, float, float]:
    """Return the real error of a cell's output, the predicted one, and the size of the output.

    Raises :class:`LstmcError` where the target or the reader refuses the cell.
    """
    device = read_device(numbers)
    assert device.quantiser is not None, "numbers of a reader's quantiser"
    file = folder / f"case{case.seed}.py"
    file.write_text(case.source)
    backend = "onnx" if device.target == "onnx" else None
    net = lstmc.compile(
        f"{file}:drawn",
        T=2,
        N=1,
        seed=case.seed,
        target=None if backend else device.target,
        backend=backend,
        form=device.form,
    )
    data, calibration = streams(case.seed)
    report = net.verify_numbers(numbers, data, calibration=calibration, reader=device.quantiser.name)
    first = report.reader[0]
    return first.error.mean, first.predicted, first.error.size


def judge(real: float, predicted: float, size: float) -> str:
    """Return ``within``, ``off``, or ``exact`` where both errors are below what float32 rounds."""
    if max(real, predicted) <= LEAST * size:
        return "exact"
    return "within" if real and 1 / LIMIT <= predicted / real <= LIMIT else "off"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", help="a device with a quantiser, as onnxruntime-a8w8")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first cell")
    parser.add_argument("--show", action="store_true", help="the source of each cell")
    options = parser.parse_args(arguments)
    effects.CAUSE_STEPS = 0  # no search for causes
    counts: Counter[str] = Counter()
    off = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seed, options.seed + options.models):
            case = drawn(seed)
            if options.show:
                print(case.source)
            try:
                real, predicted, size = measured(case, options.numbers, Path(folder))
            except LstmcError as error:
                counts["refused"] += 1
                print(seed, "refused", error.message.splitlines()[0], flush=True)
                continue
            outcome = judge(real, predicted, size)
            counts[outcome] += 1
            off += [seed] if outcome == "off" else []
            print(
                f"{seed} {outcome} real {real:.2g} predicted / real {predicted / (real or 1):.2f} size {size:.2g}",
                flush=True,
            )
    print(options.numbers, dict(counts), "off:", *off)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
