"""The error of every library cell in low precision, predicted and in the reader itself: ``make numbers``.

    python -m tests.on_demand.benchmarks.numbers_error [--steps 1000] [--cells gru lstm] onnxruntime-a8w8 ncnn-int8

Weights are drawn by each cell's own fillers, with noise of 0.1 where those are constant. Inputs are AR(1) processes
with a factor of 0.9; ranges are measured on another stream of the same length. Rows are kept in ``out/numbers``, and
docs/numbers-measured.md is written from all that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lstmc
from lstmc.backend import load_cell
from lstmc.errors import LstmcError
from lstmc.files.templates import text_templates
from lstmc.numerics import effects
from lstmc.numerics.device import read_device
from lstmc.ops import Array
from lstmc.plugins import library_names
from lstmc.weights import parameters
from tests.cells.scanned import RANGES, SIZES

KEPT = Path("out/numbers")
PAGE = Path("docs/numbers-measured.md")
LARGER = 8  # times the sizes of D and H that other tests take
LIMIT = 1.2
# What is known of a cell that is not run, or whose error is not predicted within LIMIT.
CAUSES = {
    ("indrnn", "openvino-int8"): "not known: half of the predicted error comes from a factor for each channel",
    ("lmu", "rknn-int8"): "not known: if each step starts from the same states, 75 % of the state's elements equal"
    " the simulated elements, and 92 % if the product of the state with the fixed matrix is not rounded",
}
# Weights with which a cell stays finite for 1000 steps, where its fillers' do not keep it so.
STABLE: dict[str, dict[str, Callable[[Array], Array]]] = {
    "ltc": {"tau": lambda drawn: np.minimum(drawn, 0.9)},  # 1 / tau + tanh(...) > 0: it decays
    "ttt_linear": {"theta_K": lambda drawn: 0.25 * drawn},  # a step of descent that is too long grows: eta |k|^2 < 1
}


def stream(shape: tuple[int, ...], steps: int, rng: np.random.Generator) -> Array:
    """A process [steps, ...] that remembers: x' = 0.9 x + noise, of deviation 1."""
    x, state = np.zeros((steps, *shape)), rng.standard_normal(shape)
    for t in range(steps):
        state = 0.9 * state + np.sqrt(1 - 0.81) * rng.standard_normal(shape)
        x[t] = state
    return x


def net_of(name: str, target: str | None, form: str | None) -> lstmc.Net:
    """A cell's net with typical weights."""
    sizes = {dim: size * (LARGER if dim in "DH" else 1) for dim, size in SIZES.items() if dim in load_cell(name).dims}
    options = {"T": 1, "N": 1, **sizes, "target": target, "form": form, "step": form is not None}
    net = lstmc.compile(name, **options)  # type: ignore[arg-type]
    ops = parameters(net.compiled.model)
    rng = np.random.default_rng(5)
    noisy = {
        key: array + 0.1 * rng.standard_normal(array.shape) if np.ptp(array) == 0 and not ops[key].fixed else array
        for key, array in sorted(net.weights.items())
    }
    noisy |= {f"{name}/{key}": stable(noisy[f"{name}/{key}"]) for key, stable in STABLE.get(name, {}).items()}
    return lstmc.compile(name, weights=noisy, **options)  # type: ignore[arg-type]


def row_of(name: str, numbers: str, steps: int) -> dict[str, Any]:
    """The errors of a cell's output in a reader's numbers, or why there are none."""
    device = read_device(numbers)
    assert device.quantiser is not None, "numbers of a reader's quantiser"
    start = time.process_time()
    try:
        net = net_of(name, device.target, device.form)
        cell = load_cell(name)
        shapes = {key: shape for key, shape in net.inputs.items() if key in cell.inputs}
        data, calibration = (
            {
                key: RANGES.get(name, {}).get(key, np.asarray)(stream(shape[1:], steps, np.random.default_rng(seed)))
                for key, shape in shapes.items()
            }
            for seed in (2, 1)
        )
        report = net.verify_numbers(numbers, data, calibration=calibration, reader=device.quantiser.name)
    except LstmcError as error:
        return {"cell": name, "why": error.message}
    first = report.reader[0]
    seconds = time.process_time() - start
    return {
        "cell": name, "real": first.error.mean, "predicted": first.predicted, "size": first.error.size,
        "ratio": first.ratio, "steps": steps, "seconds": seconds,
    }  # fmt: skip


def page() -> None:
    """Write the page from the rows that are kept."""
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))}
    cells = sorted({row["cell"] for rows in kept.values() for row in rows})
    table = {name: {row["cell"]: row for row in rows} for name, rows in kept.items()}
    within = {
        name: [sum(1 / LIMIT <= r["ratio"] <= LIMIT for r in rows if "ratio" in r), sum("ratio" in r for r in rows)]
        for name, rows in kept.items()
    }
    steps = {name: max((row.get("steps", 0) for row in rows), default=0) for name, rows in kept.items()}
    template = text_templates("tests", "on_demand/benchmarks").get_template("numbers-measured.md.j2")
    PAGE.write_text(template.render(cells=cells, table=table, within=within, steps=steps, limit=LIMIT, causes=CAUSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", help="devices with a quantiser; none: only write the page")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--cells", nargs="*", default=sorted(library_names()))
    options = parser.parse_args()
    effects.CAUSE_STEPS = 0  # no search for causes
    KEPT.mkdir(parents=True, exist_ok=True)
    for numbers in options.numbers:
        file = KEPT / f"{numbers}.json"
        rows = {row["cell"]: row for row in (json.loads(file.read_text()) if file.exists() else [])}
        for name in options.cells:
            rows[name] = row_of(name, numbers, options.steps)
            print(numbers, *rows[name].values(), flush=True, file=sys.stderr)
            file.write_text(json.dumps([rows[name] for name in sorted(rows)], indent=1))
    page()


if __name__ == "__main__":
    main()
