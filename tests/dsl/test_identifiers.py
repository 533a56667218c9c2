"""Names that Python has in another form: a micro sign is the letter mu in code, and so it is in a text."""

from __future__ import annotations

from typing import Any

import pytest

from lstmc import dims
from lstmc.cli.options import parse_sizes
from lstmc.errors import DslError
from lstmc.ops import Param

MICRO, MU = "\u00b5", "\u03bc"
SOURCE = f"""
from lstmc import Input, Param, State, cell, dims, model, scan, tanh

N = dims("{MICRO}")

@cell
def inner(x=Input(N, 2), {MICRO}=State(N, 2), *, \ufb01=Param(2)):
    {MICRO} = tanh(x * \ufb01 + {MICRO})
    return {MICRO}, {{"{MICRO}": {MICRO}}}

@cell
def outer(x=Input(N, 2), {MICRO}_in=Input(N, 2), {MICRO}=State(N, 2)):
    y, states = inner()(x, {MICRO}={MICRO})
    return y + {MICRO}_in, {{"{MICRO}": states["{MICRO}"]}}

@model
def net(X=Input(3, N, 2), {MICRO}_0=Input(N, 2)):
    y, last = scan(outer(), {{"x": X}}, static={{"{MICRO}_in": {MICRO}_0}}, init={{"{MICRO}": {MICRO}_0}})
    return {{"y": y, "last": last["{MICRO}"]}}
"""


def test_a_text_names_what_code_names() -> None:
    found: dict[str, Any] = {}
    exec(SOURCE, found)
    graph = found["net"].graph(**{MU: 4})  # as Python passes it where the micro sign is written
    assert [node.name for node in graph if isinstance(node.op, Param)] == ["inner/fi"]
    assert graph.type(graph.outputs[1].ref).shape == (4, 2)
    assert parse_sizes([f"{MICRO}=4"]) == {MU: 4}


def test_one_name_in_two_forms_is_one_name() -> None:
    with pytest.raises(DslError) as caught:
        dims(f"{MICRO} {MU}")
    assert caught.value.message == f"dims takes each name once, found {f'{MICRO} {MU}'!r}"
