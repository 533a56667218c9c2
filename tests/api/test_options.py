"""Keywords of the library's functions, and the options that they become: told twice, they say the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest

import lstmc
from lstmc.api import CompileOptions, RunOptions, TrainingOptions
from lstmc.api.options import options_of
from lstmc.sweeps.sweeping import SweepRun

MORE = {  # keywords that are no field of the options
    lstmc.sweep: {"random", "halving", "goal", "options"},
}
NARROW = {"test_data", "solver", "backend"}  # what workers of a sweep can be sent
SIZES = {"sizes", "dims"}


def keywords_of(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY and name not in SIZES}


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lstmc.compile, [CompileOptions]),
        (lstmc.train, [TrainingOptions, RunOptions]),
        (lstmc.sweep, [TrainingOptions, SweepRun]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_each_keyword_is_an_option_with_its_type_and_default(function: Callable[..., object], kinds: list[Any]) -> None:
    options = {each.name: each for kind in kinds for each in fields(kind)}
    keywords, more = keywords_of(function), MORE.get(function, set())
    assert set(keywords) <= {*options, *more}
    assert set(options) - SIZES <= set(keywords)
    for name in set(keywords) - more - (NARROW if function is lstmc.sweep else set()):
        default = inspect.Parameter.empty if options[name].default is MISSING else options[name].default
        assert str(keywords[name].annotation) == str(options[name].type), name
        assert keywords[name].default == default or callable(default), name


def test_a_call_s_options_are_its_arguments_and_one_mapping_of_sizes() -> None:
    def compiles(model: str, *, target: str | None = None, sizes: Any = None, **dims: int) -> CompileOptions:
        return options_of(CompileOptions, compiles, locals())

    assert compiles("gru") == CompileOptions()
    assert compiles("gru", target="flat", sizes={"N": 2}, T=3) == CompileOptions(target="flat", sizes={"T": 3, "N": 2})
