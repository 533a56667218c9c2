"""What the values of a step are called: by what the names of all steps have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

from lstmc.importers.describe.net import NetBuilder
from lstmc.importers.settle.common_step import CommonStep, Values

Words = tuple[str, ...]


def names_of_step(common: CommonStep) -> tuple[str, dict[Values, str]]:
    """A name for the whole, and one for each value: ``lstm``, and ``h`` of ``lstm_t000_h``, ``lstm_t001_h``, ...

    A step from zeros, which lacks some of them, has no say.
    """
    results = [values for part in common.parts for values in part.results]
    first = any("" in state for state in common.states)
    words = {values: common_words(values[first:]) for values in common.known}
    words |= {values: common_words([values[0].rpartition("/")[2]]) for values in common.params}
    stem = _most_begin([words[values] for values in results])
    named = NetBuilder("names", "")
    found: dict[Values, str] = {}
    hints = {values: "_".join(_without(words[values], stem)) for values in words}
    states = {state: hints[values] for state, values in common.following().items()}
    inputs = {
        **{values: _short(hints[values], "x") for values in common.sequences},
        **{state: _short(states[state], "h") for state in common.states},
        **{values: _short(hints[values], "s") for values in common.static},
    }
    for values, hint in (inputs | {values: hints[values] for values in (*common.params, *results)}).items():
        found[values] = named.fresh(hint)
    return "_".join(stem) or "rolled", found


def common_words(names: Iterable[str]) -> Words:
    """The words that all names begin with, and those that they end with; a number at the end is none."""
    split = [name.replace("/", "_").split("_") for name in names]
    begin = _beginning(split)
    ends = [list(reversed(words[len(begin) :])) for words in split]
    words = [*begin, *reversed(_beginning(ends))]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return tuple(words)


def _beginning(names: Sequence[Sequence[str]]) -> Words:
    """The words that all begin with."""
    columns = zip(*names, strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len({*column}) == 1, columns))


def _most_begin(names: Sequence[Words]) -> Words:
    """The words that nine of ten begin with."""
    stem: Words = ()
    while True:
        longer = Counter(words[: len(stem) + 1] for words in names if len(words) > len(stem))
        found, count = max(longer.items(), key=lambda item: item[1], default=(stem, 0))
        if 10 * count < 9 * len(names):
            return stem
        stem = found


def _without(words: Words, stem: Words) -> Words:
    return (words[len(stem) :] or words[-1:]) if words[: len(stem)] == stem else words


def _short(hint: str, otherwise: str) -> str:
    """A hint that is one word, else a letter."""
    return hint if hint and "_" not in hint else otherwise
