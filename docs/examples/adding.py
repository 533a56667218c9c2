"""The adding problem (Hochreiter and Schmidhuber 1997, section 5.4): 100 numbers, of which two are marked; their sum.

    python docs/examples/adding.py data out/adding       # train.npz, test.npz
    lstmc train docs/examples/adding.py:lstm_adds -D N=50 --data out/adding/train.npz --test-data out/adding/test.npz -o out/adding/lstm
    lstmc train docs/examples/adding.py:rnn_adds  -D N=50 --data out/adding/train.npz --test-data out/adding/test.npz -o out/adding/rnn
    python docs/examples/adding.py plot out/adding       # adding.png: both errors while they train

A net that says 1 each time has a mean squared error of 0.167: the variance of a sum of two numbers from 0 to 1.
"""

import json
import sys
from pathlib import Path

import numpy as np

from lstmc import Input, Param, Solver, dims, euclidean_loss, linear, mean, model, scan, xavier
from lstmc.cells import lstm, rnn

T, HIDDEN = 100, 64
N = dims("N")
SOLVER = Solver(
    type="Adam", base_lr=0.005, lr_policy="step", gamma=0.3, stepsize=2000, max_iter=5000, clip_gradients=1,
    test_interval=250, snapshot=1000,
)


def judged(last, total, W, b):
    y = linear(last, W, b)
    error = y - total
    return {"sum": y, "loss": euclidean_loss(y, total), "squared_error": mean(error * error)}


@model(solver=SOLVER)
def lstm_adds(X=Input(T, N, 2), total=Input(N, 1), W=Param(1, HIDDEN, fill=xavier()), b=Param(1)):
    _, last = scan(lstm(H=HIDDEN), X)
    return judged(last["h"], total, W, b)


@model(solver=SOLVER)
def rnn_adds(X=Input(T, N, 2), total=Input(N, 1), W=Param(1, HIDDEN, fill=xavier()), b=Param(1)):
    _, last = scan(rnn(H=HIDDEN), X)
    return judged(last["h"], total, W, b)


def problems(count: int, seed: int) -> dict[str, np.ndarray]:
    """Numbers from 0 to 1 beside marks: one mark in each half of the sequence."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(0, 1, (T, count))
    marks = np.zeros((T, count))
    each = np.arange(count)
    marks[rng.integers(0, T // 2, count), each] = 1
    marks[rng.integers(T // 2, T, count), each] = 1
    total = (numbers * marks).sum(axis=0)[:, None]
    return {"X": np.stack([numbers, marks], axis=-1).astype(np.float32), "total": total.astype(np.float32)}


def write_data(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", **problems(20_000, seed=1))
    np.savez(folder / "test.npz", **problems(1_000, seed=2))


def plot(folder: Path) -> None:
    """The test errors of both runs over their iterations, from what `lstmc train` wrote down."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.5))
    for name, title in (("rnn", "plain RNN"), ("lstm", "LSTM")):
        lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
        tests = [line for line in lines if line["kind"] == "test"]
        errors = [line["scores"]["squared_error"] for line in tests]
        axis.plot([line["iteration"] for line in tests], errors, label=title)
    axis.axhline(1 / 6, color="gray", linestyle=":", label="always 1")
    axis.axhline(0.01, color="gray", linestyle="--", label="solved: 0.01")
    axis.set(yscale="log", xlabel="iteration", ylabel="mean squared error, unseen data", title=f"Adding, T = {T}")
    axis.legend()
    figure.tight_layout()
    figure.savefig(folder / "adding.png", dpi=110)


if __name__ == "__main__":
    {"data": write_data, "plot": plot}[sys.argv[1]](Path(sys.argv[2]))
