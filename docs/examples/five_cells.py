"""Five cells since the LSTM, on two tasks that want a long memory: digits seen pixel by pixel, and adding.

    python docs/examples/five_cells.py data out/five     # digits and adding, to train and to test on (scikit-learn)
    python docs/examples/five_cells.py train out/five    # ten runs of `lstmc train`, one after another
    python docs/examples/five_cells.py plot out/five     # five_cells.png and the table

Digits: an image of 8 x 8 is a sequence of 64 pixels, and the class is asked for after the last one. Adding: 100 numbers,
of which two are marked; their sum (Hochreiter and Schmidhuber 1997, section 5.4). All nets are built alike: the inputs are
widened to 32, two layers of the cell follow, each with a residual connection, and the last output is read. Ten models:
``min_gru_digits``, ``min_gru_adds``, and so on.
"""

import json
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np

from lstmc import (
    Input, Model, Param, Solver, accuracy, dims, euclidean_loss, linear, mean, model, scan, softmax, softmax_loss,
    uniform, xavier,
)
from lstmc.cells import lmu, lstm_layernorm, mamba, min_gru, slstm
from lstmc.cells.wrappers import residual
from lstmc.weights import parameters

WIDTH, DIGITS = 32, 10
LENGTHS = {"digits": 64, "adds": 100}
SOLVERS = {
    task: Solver(
        type="Adam", base_lr=0.005, lr_policy="step", gamma=0.3, stepsize=steps // 3, max_iter=steps, clip_gradients=1,
        test_interval=100,
    )
    for task, steps in (("digits", 1500), ("adds", 2500))
}
T, N = dims("T N")
# Each cell with its sizes: its output has WIDTH elements, as its input has. A gate of min_gru sees the input alone, so
# it starts where the cell remembers 2 to 55 steps; the other cells start as they come.
CELLS = {
    "min_gru": (min_gru, {"H": WIDTH, "b": uniform(-4, 0)}),
    "slstm": (slstm, {"H": WIDTH}),
    "mamba": (mamba, {"E": WIDTH, "S": 8, "R": 2, "K": 4}),
    "lstm_layernorm": (lstm_layernorm, {"H": WIDTH}),
    "lmu": (lmu, {"H": WIDTH, "M": 16}),
}


def read_by(name, task, X, W_in, b_in):
    """The last output of two layers of a cell, [N, WIDTH]."""
    cell, sizes = CELLS[name]
    options = {"theta": float(LENGTHS[task])} if name == "lmu" else {}
    y = linear(X, W_in, b_in)
    for layer in ("low", "high"):
        y, _ = scan(residual(cell)(name=layer, **sizes, **options), y)
    return y[-1]


def classifier(name: str) -> Model:
    def digits(
        X=Input(T, N, 1), label=Input(N),
        W_in=Param(WIDTH, 1, fill=xavier()), b_in=Param(WIDTH), W=Param(DIGITS, WIDTH, fill=xavier()), b=Param(DIGITS),
    ):
        scores = linear(read_by(name, "digits", X, W_in, b_in), W, b)
        return {"prob": softmax(scores), "loss": softmax_loss(scores, label), "accuracy": accuracy(scores, label)}

    digits.__name__ = f"{name}_digits"
    return model(solver=SOLVERS["digits"])(digits)


def adder(name: str) -> Model:
    def adds(
        X=Input(T, N, 2), total=Input(N, 1),
        W_in=Param(WIDTH, 2, fill=xavier()), b_in=Param(WIDTH), W=Param(1, WIDTH, fill=xavier()), b=Param(1),
    ):
        y = linear(read_by(name, "adds", X, W_in, b_in), W, b)
        error = y - total
        return {"sum": y, "loss": euclidean_loss(y, total), "squared_error": mean(error * error)}

    adds.__name__ = f"{name}_adds"
    return model(solver=SOLVERS["adds"])(adds)


min_gru_digits, min_gru_adds = classifier("min_gru"), adder("min_gru")
slstm_digits, slstm_adds = classifier("slstm"), adder("slstm")
mamba_digits, mamba_adds = classifier("mamba"), adder("mamba")
lstm_layernorm_digits, lstm_layernorm_adds = classifier("lstm_layernorm"), adder("lstm_layernorm")
lmu_digits, lmu_adds = classifier("lmu"), adder("lmu")


def digits_data() -> dict[str, dict[str, np.ndarray]]:
    """1437 digits to train on and 360 to test, drawn once; pixels from 0 to 1, row after row."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pixels = (digits.data[order] / 16).T[:, :, None].astype(np.float32)
    labels = digits.target[order].astype(np.float32)
    cut = 1437
    return {
        "train": {"X": pixels[:, :cut], "label": labels[:cut]},
        "test": {"X": pixels[:, cut:], "label": labels[cut:]},
    }


def adding_data(count: int, seed: int) -> dict[str, np.ndarray]:
    """Numbers from 0 to 1 beside marks: one mark in each half of the sequence."""
    rng = np.random.default_rng(seed)
    steps = LENGTHS["adds"]
    numbers, marks, each = rng.uniform(0, 1, (steps, count)), np.zeros((steps, count)), np.arange(count)
    marks[rng.integers(0, steps // 2, count), each] = 1
    marks[rng.integers(steps // 2, steps, count), each] = 1
    total = (numbers * marks).sum(axis=0)[:, None]
    return {"X": np.stack([numbers, marks], axis=-1).astype(np.float32), "total": total.astype(np.float32)}


def write_data(folder: Path) -> None:
    sets = {"digits": digits_data(), "adds": {"train": adding_data(20_000, 1), "test": adding_data(1_000, 2)}}
    folder.mkdir(parents=True, exist_ok=True)
    for task, parts in sets.items():
        for part, arrays in parts.items():
            np.savez(folder / f"{task}_{part}.npz", **arrays)


def train(folder: Path) -> None:
    for task, steps in LENGTHS.items():
        for name in CELLS:
            data = ["--data", folder / f"{task}_train.npz", "--test-data", folder / f"{task}_test.npz"]
            source = f"{__file__}:{name}_{task}"
            command = ["lstmc", "train", source, "-D", f"T={steps}", "-D", "N=40", *data, "-o", folder / f"{name}_{task}"]
            subprocess.run(command, check=True)


SCORES = {"digits": "accuracy", "adds": "squared_error"}


def tests_of(run: Path) -> tuple[list[int], list[float]]:
    """The iterations of a run's tests, and their scores, from what `lstmc train` wrote down."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    tests = [line for line in lines if line["kind"] == "test"]
    score = SCORES[run.name.rpartition("_")[2]]
    return [line["iteration"] for line in tests], [line["scores"][score] for line in tests]


def plot(folder: Path) -> None:
    """Both tasks' scores while the nets train, as five_cells.png; the table of the last ones, in Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    print("| cell | weights | digits: accuracy | adding: squared error | adding: updates until the error is below 0.01 |\n|---|---|---|---|---|")
    for name in CELLS:
        digits, adds = (tests_of(folder / f"{name}_{task}") for task in LENGTHS)
        left.plot(*digits)
        right.plot(*adds, label=name)
        solved = next((str(iteration) for iteration, error in zip(*adds) if error < 0.01), "-")
        net = globals()[f"{name}_digits"].graph(T=LENGTHS["digits"], N=1)
        weights = sum(prod(op.shape) for op in parameters(net).values() if not op.fixed)
        print(f"| `{name}` | {weights:,} | {digits[1][-1]:.1%} | {adds[1][-1]:.5f} | {solved} |")
    left.set(title="Digits, pixel by pixel, T = 64", xlabel="iteration", ylabel="accuracy, unseen digits", ylim=(0, 1))
    right.axhline(1 / 6, color="gray", linestyle=":", label="always 1")
    right.axhline(0.01, color="gray", linestyle="--", label="solved: 0.01")
    right.set(title="Adding, T = 100", xlabel="iteration", ylabel="mean squared error, unseen data", yscale="log")
    figure.legend(loc="outside lower center", ncols=7)
    figure.savefig(folder / "five_cells.png", dpi=110)


if __name__ == "__main__":
    {"data": write_data, "train": train, "plot": plot}[sys.argv[1]](Path(sys.argv[2]))
