"""A character language model of two LSTM layers, on the language reference that Python carries (pydoc_data.topics).

    python docs/examples/char_lm.py out/chars            # train.npz, test.npz, and the n-gram's score
    lstmc train docs/examples/char_lm.py:char_lm -D T=50 -D N=32 --data out/chars/train.npz --test-data out/chars/test.npz -o out/chars/run
    lstmc compile docs/examples/char_lm.py:char_lm -D N=1 --step --weights out/chars/run/weights.npz -o out/chars/step
    python docs/examples/char_lm.py out/chars/step/char_lm.prototxt "The "     # writes text by the trained net

Truncated back-propagation: the text is cut into N streams that are read T characters at a time; states are carried
from batch to batch, and ``cont`` is 0 where a topic begins.
"""

import sys
from collections import Counter, defaultdict
from math import log2
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

import lstmc
from lstmc import Input, Param, Solver, dims, dropout, embed, linear, model, scan, softmax, softmax_loss, uniform, xavier
from lstmc.cells import lstm

T, N = dims("T N")
STEPS, STREAMS = 50, 32
OTHER = "\N{REPLACEMENT CHARACTER}"
SYMBOLS = "\n" + "".join(map(chr, range(32, 127))) + OTHER
WIDTH, HIDDEN = 48, 192


@model(
    solver=Solver(
        type="Adam", base_lr=0.004, lr_policy="step", gamma=0.5, stepsize=1000, max_iter=4000, clip_gradients=5,
        test_interval=500, snapshot=500,
    )
)
def char_lm(
    ids=Input(T, N), cont=Input(T, N), following=Input(T, N),
    E=Param(len(SYMBOLS), WIDTH, fill=uniform(-0.1, 0.1)),
    W=Param(len(SYMBOLS), HIDDEN, fill=xavier()), b=Param(len(SYMBOLS)),
):
    below, _ = scan(lstm(H=HIDDEN, name="layer1"), embed(ids, E), cont=cont, carry=True)
    above, _ = scan(lstm(H=HIDDEN, name="layer2"), dropout(below, 0.1), cont=cont, carry=True)
    scores = linear(dropout(above, 0.1), W, b)
    return {"prob": softmax(scores), "loss": softmax_loss(scores, following)}


def read_topics() -> tuple[list[str], list[str]]:
    """The topics to train on, and every tenth one to test on."""
    known = set(SYMBOLS)
    texts = ["".join(c if c in known else OTHER for c in topics[name]) for name in sorted(topics)]
    return [t for i, t in enumerate(texts) if i % 10], texts[::10]


def batches(texts: list[str]) -> dict[str, np.ndarray]:
    """The texts as N streams, T characters a batch: ids, the character that follows, and 0 where a text begins."""
    number = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    ids = np.array([number[c] for text in texts for c in text], np.float32)
    starts = np.concatenate([[i == 0 for i in range(len(text))] for text in texts])
    length = (len(ids) - 1) // (STREAMS * STEPS) * STEPS

    def cut(values: np.ndarray) -> np.ndarray:
        streams = values[: STREAMS * length].reshape(STREAMS, length)
        return streams.T.reshape(-1, STEPS, STREAMS).astype(np.float32)

    return {"ids": cut(ids), "cont": cut(1 - starts), "following": cut(np.roll(ids, -1))}


def ngram_bits(train: list[str], test: list[str], order: int = 3) -> float:
    """Bits per character of an n-gram model that sees ``order`` characters back, smoothed as by Witten and Bell 1991:
    what a context of n has not seen enough of, the context of n - 1 tells."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in train:
        for i, c in enumerate(text):
            for n in range(min(i, order) + 1):
                counts[text[i - n : i]][c] += 1
    bits = total = 0.0
    for text in test:
        for i, c in enumerate(text):
            p = 1 / len(SYMBOLS)
            for n in range(min(i, order) + 1):
                seen = counts.get(text[i - n : i])
                if seen is not None:
                    p = (seen[c] + len(seen) * p) / (seen.total() + len(seen))
            bits, total = bits - log2(p), total + 1
    return bits / total


def written(step: lstmc.Stream, prime: str, length: int, temperature: float = 0.6, seed: int = 0) -> str:
    """``prime`` and ``length`` more characters: each is drawn from the net's probabilities, and fed back."""
    rng, text = np.random.default_rng(seed), prime
    for i in range(len(prime) + length - 1):
        p = step(ids=np.full((1, 1), SYMBOLS.index(text[i])), cont=np.ones((1, 1)))["prob"].ravel().astype(float)
        if i + 1 == len(text):
            sharper = (p / p.max()) ** (1 / temperature)
            text += rng.choice(list(SYMBOLS), p=sharper / sharper.sum())
    return text


if __name__ == "__main__":
    if sys.argv[1].endswith(".prototxt"):
        with lstmc.load(sys.argv[1]).stream() as step:
            print(written(step, sys.argv[2], 420))
        sys.exit()
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    train, test = read_topics()
    np.savez(folder / "train.npz", **batches(train))
    np.savez(folder / "test.npz", **batches(test))
    print(f"{sum(map(len, train)):,} characters to train on, {sum(map(len, test)):,} to test on")
    print(f"an n-gram model that sees 3 characters back: {ngram_bits(train, test):.3f} bits per character")
