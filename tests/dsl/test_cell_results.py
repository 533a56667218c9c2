"""What a step may return, and what is said at its ``return`` when it returns something else."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.dsl.conftest import UserFile, lines

CELL = """\
@cell
def rnn(x=Input(N, D), h=State(N, H), c=State(N, H), *, W=Param(H, D)):
{body}

@model
def net(X=Input(T, N, D)):
    y, last = scan(rnn(H=4), X)
    return y
"""
FORM = 'a cell returns its output and its next states: expected `return y, {"h": ..., "c": ...}`, found '
STATES = ("h: state [N, H], declared at user.py:6", "c: state [N, H], declared at user.py:6")
NEXT = 'expected the next states {"h": ..., "c": ...}, found '
OUTPUT = "a step's output must be a Value, a tuple or dict of Values, or None, found "
NAME = "the name of a step's output must be a letter or _, then letters, digits and any of _ . / -, found "


@pytest.mark.parametrize(
    ("returned", "message", "notes"),
    [
        ("h", f"DslError: {FORM}one Value", ()),
        ("h, c", f"DslError: {FORM}a tuple of 2: Value, Value", ()),
        ("h, h, c", f"DslError: {FORM}a tuple of 3: Value, Value, Value", ()),
        ("()", f"DslError: {FORM}an empty tuple", ()),
        ("[h, {}]", f"DslError: {FORM}list [<Value %h_prev: f32[2,4]>, {{}}]", ()),
        ("None", f"DslError: {FORM}None", ()),
        ('h, {"h": h}', f"DslError: state c is never returned: {NEXT}{{'h'}}", STATES[1:]),
        ("h, {}", f"DslError: state h is never returned: {NEXT}{{}}", STATES),
        (
            'h, {"h": h, "c": c, "m": h}',
            f"DslError: 'm' is returned but is no state: {NEXT}{{'h', 'c', 'm'}}",
            STATES,
        ),
        ('h, {"h": h, "c": 0}', "DslError: the next c must be a Value, found int 0", ()),
        (
            'h, {"h": h, "c": x}',
            "ShapeError: state c is f32[2,4], its next value is f32[2,5]",
            (STATES[1], "next c is x: input [N, D], declared at user.py:6"),
        ),
        (
            'h, {"h": linear(x, W, axis=1) * 1, "c": concat(c, c)}',
            "ShapeError: state c is f32[2,4], its next value is f32[2,8]",
            (STATES[1], "next c is concat(c, c): f32[2,8], made at user.py:7"),
        ),
        ('3, {"h": h, "c": c}', f"DslError: {OUTPUT}int 3", ()),
        ('(h, 3), {"h": h, "c": c}', f"DslError: {OUTPUT}int 3 in it", ()),
        ('{"a": None}, {"h": h, "c": c}', f"DslError: {OUTPUT}None in it", ()),
        ('{1: h}, {"h": h, "c": c}', f"DslError: {NAME}1", ()),
        ('{"a b": h}, {"h": h, "c": c}', f"DslError: {NAME}'a b'", ()),
        ('{"": h}, {"h": h, "c": c}', f"DslError: {NAME}''", ()),
    ],
)
def test_what_a_step_must_not_return(user: UserFile, returned: str, message: str, notes: tuple[str, ...]) -> None:
    assert user.refused(CELL.format(body=f"    return {returned}")) == lines(
        message,
        "  user.py:7:5 in cell 'rnn'",
        f"    return {returned}",
        f"    {'^' * (7 + len(returned))}",
        *(f"  {note}" for note in notes),
        "  cell 'rnn' is scanned at user.py:11",
    )


@pytest.mark.parametrize(
    ("body", "last"),
    [
        ("pass", 11),
        ("if x.shape[0] > 1:\n    return h\nreturn c", 13),
        ("def helper():\n    return h\nhelper()", 13),
    ],
    ids=["no return", "two returns", "the return of another function"],
)
def test_without_one_return_the_def_is_marked(user: UserFile, body: str, last: int) -> None:
    found = "one Value" if body.startswith("if") else "None"
    assert user.refused(CELL.format(body=indent(body, "    "))) == lines(
        f"DslError: {FORM}{found}",
        "  user.py:6:1 in cell 'rnn'",
        "    def rnn(x=Input(N, D), h=State(N, H), c=State(N, H), *, W=Param(H, D)):",
        "    ^^^^^^^",
        f"  cell 'rnn' is scanned at user.py:{last}",
    )


def test_a_cell_without_states_returns_an_empty_dict(user: UserFile) -> None:
    code = """\
        @cell
        def score(x=Input(N, D), *, W=Param(1, D)):
            return {returned}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(score(), X)
            assert last == {{}}
            return y
        """
    assert str(user.graph(code.format(returned="linear(x, W), {}")).outputs[0].name) == "y"
    assert user.refused(code.format(returned="linear(x, W)")) == lines(
        "DslError: a cell returns its output and its next states: expected `return y, {}`, found one Value",
        "  user2.py:7:5 in cell 'score'",
        "    return linear(x, W)",
        "    ^^^^^^^^^^^^^^^^^^^",
        "  cell 'score' is scanned at user2.py:11",
    )
