"""What ``scan`` refuses: the caret is under the argument that is wrong."""

from __future__ import annotations

import pytest

from tests.dsl.conftest import RNN, UserFile, lines

CODE = (
    RNN
    + """
@cell
def two(x=Input(N, D), z=Input(N, D), h=State(N, D), c=State(N, D)):
    h = h + x + z
    return h, {"h": h, "c": c}

@model
def net(X=Input(T, N, D), Z=Input(7, N, D), S=Input(N), V=Input(N, 4), Q=Input(T, N, 4)):
    y, last = CALL
    return y
"""
)
TWO = ("x: input [N, D], declared at user.py:11", "z: input [N, D], declared at user.py:11")
UNBOUND = "DslError: scan takes a cell with its sizes: write scan(rnn(H=...), ...), found rnn without any"
START = ": a state without init starts at its fill, or at zero"
ARRAY = "a NumPy array (write const(it), or declare it as an Input or a Param)"
OF_RNN = ("h of cell 'rnn': state [N, H], declared at user.py:6",)


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        # the cell
        (
            "scan(«rnn», X)",
            UNBOUND,
            (),
        ),
        ("scan(«3», X)", "DslError: scan takes a cell with its sizes, such as lstm(H=64), found int 3", ()),
        ("scan(«bound=None», xs=X)", "DslError: scan takes a cell with its sizes, such as lstm(H=64), found None", ()),
        # the sequences
        ("scan(rnn(H=4), «3»)", "DslError: the sequence for x must be a Value, found int 3", ()),
        (
            "scan(rnn(H=4), «None»)",
            "DslError: rnn takes a sequence here, for x: found none",
            ("x: input [N, D], declared at user.py:6",),
        ),
        ("scan(rnn(H=4), «xs=np.ones(3)»)", f"DslError: the sequence for x must be a Value, found {ARRAY}", ()),
        (
            "scan(rnn(H=4), X, «length=T»)",
            "DslError: length is for a scan without a sequence: here the sequence has the number of steps",
            (),
        ),
        # masks and what is carried
        ("scan(rnn(H=4), X, «cont=1»)", "DslError: cont must be a Value, found int 1: it takes a Value [T, N]", ()),
        (
            "scan(rnn(H=4), X, «lengths=[1, 2]»)",
            "DslError: lengths must be a Value, found list [1, 2]: it takes a Value [N]",
            (),
        ),
        (
            "scan(rnn(H=4), X, «cont=S»)",
            "ShapeError: cont must be [T, N], here [3, 2]: found f32[2]",
            ("given S: input [N], declared at user.py:16",),
        ),
        (
            "scan(rnn(H=4), X, «lengths=V»)",
            "ShapeError: lengths must be [N], here [2]: found f32[2,4]",
            ("given V: input [N, 4], declared at user.py:16",),
        ),
        ("scan(rnn(H=4), X, «carry=1»)", "DslError: carry must be True or False, found int 1", ()),
        (
            "scan(rnn(H=4), X, init=V, «carry=True»)",
            "DslError: carry sets the initial value of every state, and init that of h: expected one of them",
            (),
        ),
        (
            "scan(rnn(H=4), X, reverse=True, «carry=True»)",
            "DslError: carry starts where the batch before ended, but a reversed scan ends at the first step: expected"
            " only one of carry and reverse",
            (),
        ),
        ("scan(two(), «X»)", "DslError: two takes 2 sequences here, for x, z: found 1", TWO),
        ("scan(two(), «(X, X, X)»)", "DslError: two takes 2 sequences here, for x, z: found 3", TWO),
        ("scan(two(), «{'x': X}»)", "DslError: two takes 2 sequences here, for x, z: found x", TWO),
        ("scan(two(), «{'x': X, 'y': X}»)", "DslError: two takes 2 sequences here, for x, z: found x, y", TWO),
        ("scan(two(), «{}»)", "DslError: two takes 2 sequences here, for x, z: found none", TWO),
        ("scan(two(), «(X, X)», static={'z': X})", "DslError: two takes a sequence here, for x: found 2", TWO),
        (
            "scan(two(), «(X, Z)»)",
            "ShapeError: the sequences for two must have the same number of steps: x has 3, z has 7",
            (
                "x is X: input [T, N, D], declared at user.py:16",
                "z is Z: input [7, N, D], declared at user.py:16",
            ),
        ),
        (
            "scan(rnn(H=4), «V»)",
            "ShapeError: input x must be a sequence of [N, D], time first, found f32[2,4]",
            ("x of cell 'rnn': input [N, D], declared at user.py:6", "given V: input [N, 4], declared at user.py:16"),
        ),
        # static inputs
        ("scan(two(), X, «static=V»)", "DslError: static takes a dict of inputs by name, of x, z, found a Value", ()),
        ("scan(two(), X, «static={'s': V}»)", "DslError: static names inputs of two, of x, z, found 's'", ()),
        (
            "scan(two(), X, «static={'h': V}»)",
            "DslError: static names inputs of two, of x, z, found 'h': h is a state: give its initial value by init",
            (),
        ),
        ("scan(two(), X, «static={'z': 0}»)", "DslError: static z must be a Value, found int 0", ()),
        (
            "scan(two(), «X», static={'x': X, 'z': X})",
            "DslError: cell 'two' takes no sequence, because static gives every input of it: expected"
            " scan(two(...), length=T), found xs",
            (),
        ),
        (
            "scan(two(), X, «static={'z': S}»)",
            "ShapeError: input z must be [N, D], found f32[2]",
            ("z of cell 'two': input [N, D], declared at user.py:11", "given S: input [N], declared at user.py:16"),
        ),
        (
            "scan(two(), X, «static={'z': V}»)",
            "DimError: dimension D is 5 (from x, which is f32[3,2,5]) and 4 (from z, which is f32[2,4])",
            (
                "x of cell 'two': input [N, D], declared at user.py:11",
                "given X: input [T, N, D], declared at user.py:16",
                "z of cell 'two': input [N, D], declared at user.py:11",
                "given V: input [N, 4], declared at user.py:16",
            ),
        ),
        # initial states
        ("scan(rnn(H=4), X, «init={'c': V}»)", "DslError: init names states of rnn, of h, found 'c'", ()),
        (
            "scan(rnn(H=4), X, «init=0»)",
            f"DslError: init takes a Value or a dict of states by name, of h, found int 0{START}",
            (),
        ),
        (
            "scan(two(), (X, X), «init=V»)",
            f"DslError: init takes a dict of states by name, of h, c, found a Value{START}",
            (),
        ),
        ("scan(rnn(H=4), X, «init={'h': 0}»)", f"DslError: the initial h must be a Value, found int 0{START}", ()),
        (
            "scan(rnn(H=4), X, «init=S»)",
            "DimError: dimension H is 4 (bound by rnn(H=4) at user.py:17) and 2 (from the initial h, which is f32[2])",
            (*OF_RNN, "given S: input [N], declared at user.py:16"),
        ),
        (
            "scan(rnn(H=3), X, «init=V»)",
            "DimError: dimension H is 3 (bound by rnn(H=3) at user.py:17) and 4 (from h, which is f32[2,4])",
            (*OF_RNN, "given V: input [N, 4], declared at user.py:16"),
        ),
        (
            "scan(rnn(H=4), X, «init=Q»)",
            "DimError: dimension N is 2 (from x, which is f32[3,2,5]) and 3 (from h, which is f32[3,2,4] flattened to"
            " f32[3,8])",
            (
                "x of cell 'rnn': input [N, D], declared at user.py:6",
                "given X: input [T, N, D], declared at user.py:16",
                *OF_RNN,
                "given Q: input [T, N, 4], declared at user.py:16",
            ),
        ),
        (
            "scan(rnn(H=4), X, «init={**dict(h=2*V), 'g': V}»)",
            "DslError: init names states of rnn, of h, found 'g'",
            (),
        ),
        # the rest
        ("scan(rnn(H=4), X, «reverse=1»)", "DslError: reverse must be True or False, found int 1", ()),
        (
            "scan(rnn(H=4), X, «name=''»)",
            "DslError: the name of a scan must be a letter or _, then letters, digits and any of _ . / -, found ''",
            (),
        ),
        (
            "«scan(*[rnn(H=4), 3])»",
            "DslError: the sequence for x must be a Value, found int 3",
            (),
        ),
    ],
)
def test_what_scan_refuses(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    call = marked.replace("«", "").replace("»", "")
    assert user.refused(CODE.replace("CALL", call)) == lines(
        message,
        f"  user.py:17:{start + 15} in model 'net'",
        f"    y, last = {call}",
        f"    {' ' * (start + 10)}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )


def test_a_cell_without_inputs_takes_no_sequence(user: UserFile) -> None:
    code = """\
        @cell
        def free(h=State(N, H)):
            return h, {"h": h}

        @model
        def net(h0=Input(N, 4)):
            y, last = scan(free(), [], init=h0)
            return y
        """
    assert user.refused(code) == lines(
        "DslError: cell 'free' takes no sequence, because it has no input: expected scan(free(...), length=T),"
        " found xs",
        "  user.py:11:28 in model 'net'",
        "    y, last = scan(free(), [], init=h0)",
        "                           ^^",
    )


def test_scan_cannot_stand_in_a_cell(user: UserFile) -> None:
    code = (
        RNN
        + """
@cell
def outer(x=Input(N, D), h=State(N, 4)):
    y, s = scan(rnn(H=4), reshape(x, 1, N, D))
    return y, {"h": s["h"]}

@model
def net(X=Input(T, N, D)):
    y, last = scan(outer(), X)
    return y
"""
    )
    assert user.refused(code) == lines(
        "DslError: scan cannot be called in a cell: a cell is one step. Call rnn(...)(x, h=h) here, or scan in the"
        " model",
        "  user.py:12:12 in cell 'outer'",
        "    y, s = scan(rnn(H=4), reshape(x, 1, N, D))",
        "           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "  cell 'outer' is scanned at user.py:17",
    )


def test_an_error_in_a_helper_function_is_at_the_helpers_line(user: UserFile) -> None:
    code = (
        "def squash(z):\n    return np.tanh(z)\n\n"
        + RNN.replace("tanh(", "squash(", 1)
        + "\n@model\ndef net(X=Input(T, N, D)):\n    y, last = scan(rnn(H=4), X)\n    return y\n"
    )
    assert user.refused(code) == lines(
        "DslError: NumPy's tanh cannot take a Value: write tanh(x)",
        "  user.py:6:12",
        "    return np.tanh(z)",
        "           ^^^^^^^^^^",
        "  cell 'rnn' is scanned at user.py:15",
    )
