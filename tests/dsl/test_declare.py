"""``Input``, ``State`` and ``Param``: what a signature may say, and what it may not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lstmc import Input, Param, State, constant, dims, gaussian, params
from lstmc.dsl.declare import InputDeclaration, ParamDeclaration, StateDeclaration
from lstmc.errors import DslError
from tests.dsl.conftest import UserFile, lines

N, H = dims("N H")


def test_a_declaration_has_its_shape_its_fill_and_its_place() -> None:
    declared = Param(4 * H, np.int64(3), fill=gaussian(0, 0.1), lr_mult=2, decay_mult=np.float32(0))
    assert isinstance(declared, ParamDeclaration)
    assert str(declared.shape) == "(4*H, 3)"
    assert type(declared.shape[1]) is int
    assert (declared.fill, declared.lr_mult, declared.decay_mult) == (gaussian(0, 0.1), 2.0, 0.0)
    assert declared.loc is not None
    assert declared.note("W") == f"W: parameter [4*H, 3], declared at {declared.loc.short}"


def test_what_is_left_out_has_its_default() -> None:
    x, h, W = Input(N, 3), State(N, H, fill=constant(1)), Param(H)
    assert isinstance(x, InputDeclaration)
    assert x.fill is None
    assert isinstance(h, StateDeclaration)
    assert h.fill == constant(1)
    assert (W.fill, W.lr_mult, W.decay_mult) == (constant(0), 1, 1)


SHAPE = "input shape: expected positive integers and dimensions one by one, as in (N, 64), found {}"
FILL = "{} fill: expected a filler such as constant(0) or uniform(-0.1, 0.1), found {}"
MULT = "parameter {}: expected a finite number of at least 0, found {}"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("x=«Input()»", "input needs a shape of at least one axis, found none"),
        ("x=Input(«'N'», D)", SHAPE.format("'N'")),
        ("x=Input(«(N, D)»)", SHAPE.format("(N, D)")),
        ("x=Input(N, «0»)", SHAPE.format("0")),
        ("x=Input(N, «-1»)", SHAPE.format("-1")),
        ("x=Input(N, «2.0»)", SHAPE.format("2.0")),
        ("x=Input(N, «True»)", SHAPE.format("True")),
        ("x=Input(N, «fill='0'»)", FILL.format("input", "str '0'")),
        ("x=State(N, «fill=None or True»)", FILL.format("state", "True")),
        ("x=Param(N, «fill={}»)", FILL.format("parameter", "dict {}")),
        ("x=Param(N, «fill=None»)", FILL.format("parameter", "None")),
        ("x=Param(N, «fill=uniform»)", FILL.format("parameter", "the filler uniform itself: write uniform(...)")),
        ("x=Param(N, «lr_mult=-1»)", MULT.format("lr_mult", "-1")),
        ("x=Param(N, «lr_mult=math.inf»)", MULT.format("lr_mult", "inf")),
        ("x=Param(N, «lr_mult=True»)", MULT.format("lr_mult", "True")),
        ("x=Param(N, «decay_mult=math.nan»)", MULT.format("decay_mult", "nan")),
        ("x=Param(N, «decay_mult='1'»)", MULT.format("decay_mult", "'1'")),
        # the fillers' own
        ("x=Param(N, fill=«uniform(0.1, -0.1)»)", "uniform: expected min <= max, found min 0.1 and max -0.1"),
        ("x=Param(N, fill=uniform(«math.nan», 1))", "uniform: min must be a finite number, found nan"),
        ("x=Param(N, fill=gaussian(0, «-1»))", "gaussian: expected std >= 0, found -1"),
        ("x=Param(N, fill=gaussian(«std=-1»))", "gaussian: expected std >= 0, found -1"),
        ("x=Param(N, fill=constant(«'a'»))", "constant: value must be a finite number, found 'a'"),
        (
            "x=Param(N, fill=xavier(«'fan'»))",
            "xavier: variance_norm must be one of fan_in, fan_out, average, found 'fan'",
        ),
        (
            "x=Param(N, fill=msra(«variance_norm=1»))",
            "msra: variance_norm must be one of fan_in, fan_out, average, found 1",
        ),
    ],
)
def test_what_a_declaration_refuses(user: UserFile, marked: str, message: str) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    argument = marked.replace("«", "").replace("»", "")
    assert user.refused(f"@cell\ndef step({argument}):\n    return x, {{}}\n") == lines(
        f"DslError: {message}",
        f"  user.py:6:{start + 10}",
        f"    def step({argument}):",
        f"    {' ' * (start + 9)}{'^' * (end - start)}",
    )


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            "«x»",
            "argument x is not declared: expected x=Input(...), State(...), Param(...) or a default value that makes"
            " it an option",
        ),
        (
            "h=State(N, H), *, «W»",
            "argument W is not declared: expected W=Input(...), State(...), Param(...) or a default value that makes"
            " it an option",
        ),
        ("*«xs»", "argument xs must be an ordinary named argument, without * or /"),
        ("x=Input(N, D), **«more»", "argument more must be an ordinary named argument, without * or /"),
        ("«x»=Input(N, D), /", "argument x must be an ordinary named argument, without * or /"),
        ("«x»=Input, h=State(N, H)", "argument x has no shape: expected x=Input(...), found Input"),
        ("x=Input(N, D), «W»=Param", "argument W has no shape: expected W=Param(...), found Param"),
    ],
)
@pytest.mark.parametrize("kind", ["cell", "model"])
def test_what_a_signature_refuses(user: UserFile, kind: str, marked: str, message: str) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    arguments = marked.replace("«", "").replace("»", "")
    assert user.refused(f"@{kind}\ndef step({arguments}):\n    return x, {{}}\n") == lines(
        f"DslError: {message}",
        f"  user.py:6:{start + 10} in {kind} 'step'",
        f"    def step({arguments}):",
        f"    {' ' * (start + 9)}{'^' * (end - start)}",
    )


@pytest.mark.parametrize(
    ("argument", "what"),
    [("H=3", "a dimension"), ("N=Param(H)", "a dimension"), ("name='a'", "a bound cell's own name")],
)
def test_an_argument_of_a_cell_must_not_take_a_name_that_binding_uses(user: UserFile, argument: str, what: str) -> None:
    name = argument.partition("=")[0]
    assert user.refused(f"@cell\ndef step(x=Input(N, D), h=State(N, H), {argument}):\n    return x, {{}}\n") == lines(
        f"DslError: argument {name} cannot be bound, because step({name}=...) binds {what}: expected another name",
        "  user.py:6:40 in cell 'step'",
        f"    def step(x=Input(N, D), h=State(N, H), {argument}):",
        f"    {' ' * 39}{'^' * len(name)}",
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "@cell\nclass Step:\n    pass\n",
            "DslError: @cell takes a function written with def, found <class 'user.Step'>\n"
            "  user.py:5:2\n    @cell\n     ^^^^",
        ),
        (
            "step = cell(lambda x=Input(N, D): (x, {}))\n",
            "DslError: @cell takes a function written with def, found a lambda, which has no name\n"
            "  user.py:5:8\n    step = cell(lambda x=Input(N, D): (x, {}))\n"
            "           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            "net = model(3)\n",
            "DslError: @model takes a function written with def, found 3\n"
            "  user.py:5:7\n    net = model(3)\n          ^^^^^^^^",
        ),
        (
            "@cell\ndef step(x=Input(N, D)):\n    yield x, {}\n",
            "DslError: a cell is an ordinary function that returns its results once, found a generator\n"
            "  user.py:6:1 in cell 'step'\n    def step(x=Input(N, D)):\n    ^^^^^^^^",
        ),
        (
            "@cell\nasync def step(x=Input(N, D)):\n    return x, {}\n",
            "DslError: a cell is an ordinary function that returns its results once, found a coroutine\n"
            "  user.py:6:1 in cell 'step'\n    async def step(x=Input(N, D)):\n    ^^^^^^^^^^^^^^",
        ),
        (
            "@model\nasync def net(X=Input(N, D)):\n    yield X\n",
            "DslError: a model is an ordinary function that returns its results once, found an asynchronous generator\n"
            "  user.py:6:1 in model 'net'\n    async def net(X=Input(N, D)):\n    ^^^^^^^^^^^^^",
        ),
    ],
    ids=["class", "lambda", "number", "generator", "coroutine", "asynchronous generator"],
)
def test_only_ordinary_functions_can_be_traced(user: UserFile, code: str, text: str) -> None:
    assert user.refused(code) == text


def test_a_state_has_no_place_in_a_model(user: UserFile) -> None:
    assert user.refused("@model\ndef net(X=Input(T, N), h=State(N, H)):\n    return X\n") == lines(
        "DslError: h is declared as a State: a model has Inputs and Params, states belong to cells",
        "  user.py:6:26 in model 'net'",
        "    def net(X=Input(T, N), h=State(N, H)):",
        "                             ^^^^^^^^^^^",
    )


def test_a_wrapped_function_is_traced_through_its_wrapper(user: UserFile) -> None:
    graph = user.graph(
        """\
        import functools

        def halved(function):
            @functools.wraps(function)
            def wrapper(**arguments):
                y, following = function(**arguments)
                return y * 0.5, following
            return wrapper

        @cell
        @halved
        def step(x=Input(N, D), h=State(N, D)):
            h = h + x
            return h, {"h": h}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(step(), X)
            return y
        """
    )
    assert [str(graph.type(output.ref)) for output in graph.outputs] == ["f32[3,2,5]"]


def test_a_number_is_a_constant_filler() -> None:
    assert [declare(3, fill=0.5).fill for declare in (Input, State, Param)] == [constant(0.5)] * 3
    assert params(2, 3, fill=np.float32(2)).fill == constant(2.0)
    assert State(3, fill=-math.inf).fill == constant(-1e30)
    with pytest.raises(DslError) as caught:
        Param(3, fill=math.nan)
    assert caught.value.message == "a scalar must be a finite float32 number, found nan"
