"""A random model that fails, made smaller: fewer steps, outputs and lines, as long as it fails alike."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.random_models.models import RandomModel

SECONDS = 90.0  # for one model
LINE = re.compile(r"    ((\w+)(?:, (\w+))?) = (.*)")  # of a cell or a model
RETURNED = re.compile(r"    return (?:\{(.*)\}|(.*))")  # of a model
NAME = re.compile(r"\b[a-zA-Z]\w*\b(?:\[[^]]*\])?(?![\w(=])")
PARAM = re.compile(r"(?:, )?(\w+)=Param\((?:[^()]|\([^()]*\))*\)")


def smaller(model: RandomModel, fails: Callable[[RandomModel], bool], seconds: float = SECONDS) -> RandomModel:
    """Return the smallest model that ``fails`` still accepts and the time allows."""
    until = time.monotonic() + seconds
    tried = {model}
    candidates = _candidates(model)
    while (candidate := next(candidates, None)) is not None and time.monotonic() < until:
        if candidate not in tried:
            tried.add(candidate)
            if _is_a_model(candidate) and fails(candidate):
                model, candidates = candidate, _candidates(candidate)
    return model


def _is_a_model(model: RandomModel) -> bool:
    try:
        model.graph()
    except Exception:  # a name that nothing declares, shapes that do not fit
        return False
    return True


def _candidates(model: RandomModel) -> Iterator[RandomModel]:
    lines = model.source.splitlines()
    returned = RETURNED.fullmatch(lines[-1])
    assert returned is not None
    as_dict = returned[1] is not None
    items = (returned[1] if as_dict else returned[2]).split(", ")
    for item in items if len(items) > 1 else ():
        yield _with(model, [*lines[:-1], f"    return {{{item}}}" if as_dict else f"    return {item}"])
    for steps in range(1, model.T):
        yield replace(model, T=steps)
    if model.N > 1:
        yield replace(model, N=1)
    for i in reversed(range(len(lines))):
        line = LINE.fullmatch(lines[i])
        if line is not None:
            for name in dict.fromkeys(NAME.findall(line[4])) if line[3] is None else ():
                if name != line[4]:
                    yield _with(model, [*lines[:i], f"    {line[1]} = {name}", *lines[i + 1 :]])
            yield _with(model, lines[:i] + lines[i + 1 :])


def _with(model: RandomModel, lines: list[str]) -> RandomModel:
    """The model of these lines, without those whose values nothing reads, and parameters that nothing reads."""
    functions = re.split(r"(?m)^(?=@)", "\n".join(lines) + "\n")
    return replace(model, source="".join(map(_live, functions)))


def _live(function: str) -> str:
    lines = function.splitlines(keepends=True)
    for i in reversed(range(len(lines))):
        line = LINE.match(lines[i])
        if line is not None and not re.search(rf"\b({line[2]}|{line[3]})\b", "".join(lines[i + 1 :])):
            del lines[i]
    text = "".join(lines)
    return PARAM.sub(lambda param: param[0] if len(re.findall(rf"\b{param[1]}\b", text)) > 1 else "", text)
