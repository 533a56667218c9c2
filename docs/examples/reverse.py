"""An encoder and a decoder that reverse strings of digits; the decoder reads its own last output (PR 2033's wish).

    python docs/examples/reverse.py data out/reverse     # train.npz, test.npz
    lstmc train docs/examples/reverse.py:reverse -D N=64 --data out/reverse/train.npz --test-data out/reverse/test.npz -o out/reverse/run
    python docs/examples/reverse.py score out/reverse    # strings of the test data that come out right in every digit

The encoder's last states are the decoder's first ones, and gradients flow through them. What the decoder reads at
each step is the embedding of what it said before: of its probabilities, so that gradients flow there too.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from lstmc import (
    Input, Param, Solver, State, accuracy, cell, dims, embed, linear, model, scan, softmax, softmax_loss, uniform,
    xavier,
)
from lstmc.cells import lstm

LENGTH, DIGITS, WIDTH, HIDDEN = 8, 10, 16, 128
STRINGS = 64  # a batch
N, H, K, E = dims("N H K E")

inner = lstm(name="decoder", H=HIDDEN)


@cell
def speaking(
    h=State(N, H), c=State(N, H), said=State(N, K), *,
    read=Param(E, K, fill=uniform(-0.1, 0.1)), W=Param(K, H, fill=xavier()), b=Param(K),
):
    """One digit: from the states and what was said before."""
    h, states = inner(linear(said, read), h=h, c=c)
    scores = linear(h, W, b)
    return scores, {**states, "said": softmax(scores)}


@model(
    solver=Solver(
        type="Adam", base_lr=0.003, lr_policy="step", gamma=0.3, stepsize=3000, max_iter=8000, clip_gradients=1,
        test_interval=1000, snapshot=2000,
    )
)
def reverse(
    digits=Input(LENGTH, N), reversed_digits=Input(LENGTH, N),
    table=Param(DIGITS, WIDTH, fill=uniform(-0.1, 0.1)),
):
    _, encoded = scan(lstm(name="encoder", H=HIDDEN), embed(digits, table))
    scores, _ = scan(speaking(N=N, H=HIDDEN, K=DIGITS, E=WIDTH), length=LENGTH, init=encoded)
    return {
        "prob": softmax(scores),
        "loss": softmax_loss(scores, reversed_digits),
        "accuracy": accuracy(scores, reversed_digits),
    }


def write_data(folder: Path) -> None:
    """Random strings, time first; no test string is among those to train on."""
    rng = np.random.default_rng(0)
    strings = np.unique(rng.integers(0, 10, (42_000, LENGTH)), axis=0)
    rng.shuffle(strings)
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (("test", strings[:1_920]), ("train", strings[1_920:])):
        digits = some.T.astype(np.float32)
        np.savez(folder / f"{name}.npz", digits=digits, reversed_digits=digits[::-1])


def score(folder: Path) -> None:
    """Run the trained net on the test strings, batch by batch, and count those without a wrong digit."""
    test = np.load(folder / "test.npz")
    right = total = 0
    for start in range(0, test["digits"].shape[1], STRINGS):
        some = slice(start, start + STRINGS)
        np.savez(folder / "batch.npz", digits=test["digits"][:, some])
        run = ["lstmc", "run", folder / "run" / "reverse.prototxt", "--inputs", folder / "batch.npz"]
        subprocess.run([*run, "-o", folder / "said.npz"], check=True, stdout=subprocess.DEVNULL)
        said = np.load(folder / "said.npz")["prob"].argmax(axis=-1)
        right += int((said == test["reversed_digits"][:, some]).all(axis=0).sum())
        total += said.shape[1]
    print(f"{right} of {total} unseen strings reversed without a mistake: {100 * right / total:.2f} %")


if __name__ == "__main__":
    {"data": write_data, "score": score}[sys.argv[1]](Path(sys.argv[2]))
