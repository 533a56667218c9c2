"""A random model that fails, made smaller: fewer steps, outputs and lines, as long as it fails alike."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from lstmc.testing.random_models import RandomModel

SECONDS = 90.0  # for one model
LINE = re.compile(r"(    \w+) = (.*)")  # of a cell or a model
RETURNED = re.compile(r"    return \{(.*)\}|    return (.*)")
NAME = re.compile(r"\b[a-zA-Z]\w*\b(?:\[[^]]*\])?(?![\w(=])")


def smaller(model: RandomModel, fails: Callable[[RandomModel], bool], seconds: float = SECONDS) -> RandomModel:
    """Return the smallest model that ``fails`` still accepts and the time allows."""
    until = time.monotonic() + seconds
    tried = {model}
    while time.monotonic() < until:
        for candidate in _candidates(model):
            if time.monotonic() >= until:
                return model
            if candidate not in tried:
                tried.add(candidate)
                if _is_a_model(candidate) and fails(candidate):
                    model = candidate
                    break
        else:
            return model
    return model


def _is_a_model(model: RandomModel) -> bool:
    try:
        model.graph()
    except Exception:  # a name that nothing declares, shapes that do not fit
        return False
    return True


def _candidates(model: RandomModel) -> Iterator[RandomModel]:
    lines = model.source.splitlines()
    last = len(lines) - 1
    returned = RETURNED.fullmatch(lines[last])
    if returned is not None and returned[1]:
        for item in returned[1].split(", ") if returned[1].count(", ") else ():
            yield _with(model, lines, last, f"    return {{{item}}}")
    elif returned is not None and ", " in returned[2]:
        for item in returned[2].split(", "):
            yield _with(model, lines, last, f"    return {item}")
    for steps in range(1, model.T):
        yield replace(model, T=steps)
    if model.N > 1:
        yield replace(model, N=1)
    for i in reversed(range(len(lines))):
        if LINE.fullmatch(lines[i]) or re.match(r"    \w+, \w+ = ", lines[i]):
            yield _with(model, lines, i, None)
    for i in reversed(range(len(lines))):
        line = LINE.fullmatch(lines[i])
        if line is not None:
            for name in dict.fromkeys(NAME.findall(line[2])):
                if name != line[2]:
                    yield _with(model, lines, i, f"{line[1]} = {name}")


def _with(model: RandomModel, lines: list[str], at: int, line: str | None) -> RandomModel:
    changed = [*lines[:at], *([] if line is None else [line]), *lines[at + 1 :]]
    return replace(model, source="\n".join(changed) + "\n")
