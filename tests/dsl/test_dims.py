"""Dimensions: arithmetic, and finding sizes from what cells and models are given."""

from __future__ import annotations

import pytest

from lstmc import Input, dims, model
from lstmc.dsl.dims import DimExpr
from lstmc.errors import DslError
from lstmc.ops import Param
from tests.dsl.conftest import RNN, UserFile, leaves, lines

D, H = dims("D H")


@pytest.mark.parametrize(
    ("size", "text", "number"),
    [
        (4 * H, "4*H", 24),
        (H * 4, "H*4", 24),
        (H // 2, "H//2", 3),
        (13 // H, "13//H", 2),
        (2 * H + 1, "2*H + 1", 13),
        (1 + H, "1 + H", 7),
        (H - 2, "H - 2", 4),
        (10 - H, "10 - H", 4),
        (2 * (H + 1), "2*(H + 1)", 14),
        ((H + D) // 2, "(H + D)//2", 4),
        (H * D, "H*D", 18),
        (D * (H // 2), "D*(H//2)", 9),
        (D * H // 2, "D*H//2", 9),
        (H - (D - 1), "H - (D - 1)", 4),
        (H - D - 1, "H - D - 1", 2),
        (H - 2 * D, "H - 2*D", 0),
    ],
)
def test_arithmetic_reads_as_written_and_means_what_python_means(size: DimExpr, text: str, number: int) -> None:
    assert (str(size), repr(size), size.value({"H": 6, "D": 3})) == (text, text, number)


def test_dims_gives_one_dimension_for_one_name_and_takes_commas() -> None:
    assert str(dims("batch")) == "batch"
    assert [str(dim) for dim in dims("T, N,D")] == ["T", "N", "D"]


def test_a_dimension_equals_itself_only_and_can_be_a_key() -> None:
    assert H == H
    assert {H: 1}[H] == 1
    with pytest.raises(DslError):
        assert H == D


MODEL = "@model\ndef net(X=Input(T, N, 20)):\n    y, last = scan(rnn(), X, init=Z)\n    return y\n"


@pytest.mark.parametrize(
    ("declared", "given", "H"),
    [
        ("4*H", 20, 5),
        ("H*4", 20, 5),
        ("2*H + 1", 21, 10),
        ("1 + H", 20, 19),
        ("H - 3", 20, 23),
        ("30 - H", 20, 10),
        ("3*(H + 2)", 21, 5),
        ("3*(H + 2) - 1", 20, 5),
        ("N*H", 20, 10),
    ],
)
def test_a_size_is_solved_for_its_one_unknown(user: UserFile, declared: str, given: int, H: int) -> None:
    graph = user.graph(
        f"""\
        @cell
        def grow(x=Input(N, {declared}), h=State(N, H), *, b=Param(H)):
            h = h + b
            return h, {{"h": h}}

        @model
        def net(X=Input(T, N, {given})):
            y, last = scan(grow(), X)
            return y
        """
    )
    assert leaves(graph, Param) == {"grow/b": (H,)}


def test_sizes_come_from_sequences_static_inputs_and_initial_states(user: UserFile) -> None:
    graph = user.graph(
        """\
        @cell
        def mix(x=Input(N, D), s=Input(K), h=State(N, H), *, W=Param(H, D), V=Param(H, K)):
            h = tanh(linear(x, W) + linear(s, V) + h)
            return h, {"h": h}

        @model
        def net(X=Input(T, N, 5), S=Input(7), h0=Input(N, 4)):
            y, last = scan(mix(), X, static={"s": S}, init=h0)
            return y
        """
    )
    assert leaves(graph, Param) == {"mix/W": (4, 5), "mix/V": (4, 7)}


@pytest.mark.parametrize(
    ("declared", "bind", "message"),
    [
        ("4*H", "", "4*H cannot be 5 (from x, which is f32[3,2,5]) for any whole H"),
        (
            "H//2",
            "",
            "H//2 is 5 (from x, which is f32[3,2,5]), which does not determine H: give H a size where the cell is"
            " bound",
        ),
        (
            "H + K",
            "",
            "H + K is 5 (from x, which is f32[3,2,5]), which does not determine H and K: give H a size where the cell"
            " is bound",
        ),
        ("10 - H", "H=4", "10 - H is 6 (H is 4, bound by grow(H=4) at user.py:12), found 5 (from x, which is"
         " f32[3,2,5])"),
        ("7", "", "expected 7, found 5 (from x, which is f32[3,2,5])"),
        ("H + 5", "", "dimension H must be at least 1, found 0 (from x, which is f32[3,2,5])"),
        ("8//(H - 4)", "H=4", "8//(H - 4) divides by zero (H is 4, bound by grow(H=4) at user.py:12)"),
    ],
)  # fmt: skip
def test_a_size_that_does_not_fit_says_what_was_found_where(
    user: UserFile, declared: str, bind: str, message: str
) -> None:
    code = f"""\
        @cell
        def grow(x=Input(N, {declared}), h=State(N, H)):
            h = h + 1
            return h, {{"h": h}}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(grow({bind}), X)
            return y
        """
    before = f"y, last = scan(grow({bind}), "
    assert user.refused(code) == lines(
        f"DimError: {message}",
        f"  user.py:12:{len(before) + 5} in model 'net'",
        f"    {before}X)",
        f"    {' ' * len(before)}^",
        f"  x of cell 'grow': input [N, {declared}], declared at user.py:6",
        "  given X: input [T, N, D], declared at user.py:11",
    )


def test_two_sizes_for_one_dimension_are_both_named_with_where_they_come_from(user: UserFile) -> None:
    code = RNN + (
        "\n@model\ndef net(X=Input(T, N, D), h0=Input(7, 4)):\n    y, last = scan(rnn(H=4), X, init=h0)\n    return y\n"
    )
    assert user.refused(code) == lines(
        "DimError: dimension N is 2 (from x, which is f32[3,2,5]) and 7 (from h, which is f32[7,4])",
        "  user.py:12:33 in model 'net'",
        "    y, last = scan(rnn(H=4), X, init=h0)",
        "                                ^^^^^^^",
        "  x of cell 'rnn': input [N, D], declared at user.py:6",
        "  given X: input [T, N, D], declared at user.py:11",
        "  h of cell 'rnn': state [N, H], declared at user.py:6",
        "  given h0: input [7, 4], declared at user.py:11",
    )


def test_a_bound_size_that_the_input_contradicts_names_the_binding(user: UserFile) -> None:
    code = RNN + "\n@model\ndef net(X=Input(T, N, D)):\n    y, last = scan(rnn(H=4, D=7), X)\n    return y\n"
    assert user.refused(code) == lines(
        "DimError: dimension D is 7 (bound by rnn(D=7) at user.py:12) and 5 (from x, which is f32[3,2,5])",
        "  user.py:12:35 in model 'net'",
        "    y, last = scan(rnn(H=4, D=7), X)",
        "                                  ^",
        "  x of cell 'rnn': input [N, D], declared at user.py:6",
        "  given X: input [T, N, D], declared at user.py:11",
    )


def test_an_unbound_dimension_is_reported_where_the_cell_is_bound(user: UserFile) -> None:
    code = (
        RNN + "\nencoder = rnn()\n\n@model\ndef net(X=Input(T, N, D)):\n    y, last = scan(encoder, X)\n    return y\n"
    )
    assert user.refused(code) == lines(
        "DimError: dimension H of state h [N, H] is not bound: write rnn(H=SIZE)",
        "  user.py:10:11",
        "    encoder = rnn()",
        "              ^^^^^",
        "  h: state [N, H], declared at user.py:6",
    )


def test_a_dimension_of_a_parameter_alone_must_be_bound_too(user: UserFile) -> None:
    code = """\
        @cell
        def deep(x=Input(N, D), *, W=Param(H, D)):
            return linear(x, W), {}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(deep(), X)
            return y
        """
    assert user.refused(code) == lines(
        "DimError: dimension H of parameter W [H, D] is not bound: write deep(H=SIZE)",
        "  user.py:11:20 in model 'net'",
        "    y, last = scan(deep(), X)",
        "                   ^^^^^^",
        "  W: parameter [H, D], declared at user.py:6",
    )


def test_a_dimension_bound_to_another_takes_its_size_from_the_model(user: UserFile) -> None:
    code = RNN + "\n@model\ndef net(X=Input(T, N, D)):\n    y, last = scan(rnn(H=2*K), X)\n    return y\n"
    assert leaves(user.graph(code, K=4), Param) == {"rnn/W": (8, 5), "rnn/U": (8, 8)}
    assert user.refused(code) == lines(
        "DimError: dimension K of rnn(H=2*K) has no size: model 'net' has T, N, D. Write rnn(H=SIZE), or give the"
        " model's K a size with K=SIZE",
        "  user2.py:12:24 in model 'net'",
        "    y, last = scan(rnn(H=2*K), X)",
        "                       ^^^^^",
    )


def test_a_declared_size_below_one_names_what_makes_it_so(user: UserFile) -> None:
    code = """\
        @cell
        def deep(x=Input(N, D), *, W=Param(H - 4, D)):
            return linear(x, W), {}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(deep(H=4), X)
            return y
        """
    assert user.refused(code) == lines(
        "DimError: H - 4 of parameter W [H - 4, D] must be at least 1, found 0 (H is 4, bound by deep(H=4) at"
        " user.py:11)",
        "  user.py:11:20 in model 'net'",
        "    y, last = scan(deep(H=4), X)",
        "                   ^^^^^^^^^",
        "  W: parameter [H - 4, D], declared at user.py:6",
    )


WHOLE = (
    "dimension {0} takes part in + - * and // only. Half of it in a shape is {0}//2; where Python needs the number,"
    " take it from a Value, as in x.shape[-1] ** 0.5"
)
NO_NUMBER = (
    "dimension {} has no number here: it is a name until the model is compiled. Use it in shapes; where Python needs"
    " the number, take it from a Value, as in x.shape[-1]"
)
COMBINES = (
    "a dimension combines with integers and dimensions, found {}. Where Python needs the number of a dimension,"
    " take it from a Value, as in x.shape[-1]"
)


@pytest.mark.parametrize(
    ("statement", "marked", "message"),
    [
        ("for t in range(T): pass", "range(T)", NO_NUMBER.format("T")),
        ("if H: pass", "H", NO_NUMBER.format("H")),
        ("if H == 4: pass", "H == 4", NO_NUMBER.format("H")),
        ("if 4 != H: pass", "4 != H", NO_NUMBER.format("H")),
        ("if H > 4: pass", "H > 4", NO_NUMBER.format("H")),
        ("scale = float(4*D)", "float(4*D)", NO_NUMBER.format("4*D")),
        ("sizes = [0] * H", "[0] * H", COMBINES.format("[0]")),
        ("half = H / 2", "H / 2", WHOLE.format("H")),
        ("rest = H % 2", "H % 2", WHOLE.format("H")),
        ("z = X / D**0.5", "D**0.5", WHOLE.format("D")),
        ("half = 0.5 * H", "0.5 * H", COMBINES.format("0.5")),
        ("grown = H + True", "H + True", COMBINES.format("True")),
        ("none = H // 0", "H // 0", "a dimension can be divided by a positive number, found H//0"),
        ("z = H * X", "H * X", COMBINES.format("<Value %X: f32[3,2,5]>")),
        ("A = dims('')", "dims('')", "dims takes names, as in dims(\"T N D H\"), found ''"),
        ("A = dims('4H')", "dims('4H')", "dims takes names, as in dims(\"T N D H\"), found '4H'"),
        ("A = dims('A if')", "dims('A if')", "dims takes names, as in dims(\"T N D H\"), found 'A if'"),
        ("A = dims(3)", "dims(3)", 'dims takes names, as in dims("T N D H"), found 3'),
        ("A, B = dims('A A')", "dims('A A')", "dims takes each name once, found 'A A'"),
    ],
)
def test_a_dimension_used_as_something_else(user: UserFile, statement: str, marked: str, message: str) -> None:
    at = statement.index(marked)
    assert user.refused(f"@model\ndef net(X=Input(T, N, D)):\n    {statement}\n    return X\n") == lines(
        f"DslError: {message}",
        f"  user.py:7:{at + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * at}{'^' * len(marked)}",
    )


def test_a_dimension_may_have_a_default_size() -> None:
    T, N = dims("T=50 N")

    @model
    def net(x=Input(T, N, 3)):  # type: ignore[no-untyped-def]
        return {"y": x * 2}

    assert net.graph(N=2).node("x").types[0].shape == (50, 2, 3)
    assert net.graph(N=2, T=7).node("x").types[0].shape == (7, 2, 3)
    assert dims("T=1").default == 1
    with pytest.raises(DslError, match="the default of a dimension is a positive integer"):
        dims("T=0")
