"""How an error is shown: the message, the user's line with a caret, the other places."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from lstmc import errors
from lstmc.cli.console import MENDS
from lstmc.errors import (
    Argument,
    DataError,
    DimError,
    DslError,
    LstmcError,
    Mend,
    ShapeError,
    TrainingError,
    size_argument,
)
from lstmc.source import SrcLoc


@pytest.fixture
def loc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SrcLoc:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("\n    h = tanh(x + y)\n")
    return SrcLoc("net.py", 2, 13, 2, 18)


def test_an_error_is_its_kind_and_its_message() -> None:
    assert str(ShapeError("x is [2], y is [3]")) == "ShapeError: x is [2], y is [3]"


def test_then_the_place_with_a_caret_and_the_notes(loc: SrcLoc) -> None:
    error = ShapeError("x is [2], y is [3]", loc=loc, scope="cell 'rnn'", notes=("x: declared at net.py:1", "y: too"))
    assert str(error) == (
        "ShapeError: x is [2], y is [3]\n"
        "  net.py:2:14 in cell 'rnn'\n"
        "    h = tanh(x + y)\n"
        "             ^^^^^\n"
        "  x: declared at net.py:1\n"
        "  y: too"
    )


def test_a_place_that_cannot_be_read_is_named_only() -> None:
    error = DslError("no", loc=SrcLoc("<stdin>", 2, 13, 2, 18))
    assert str(error) == "DslError: no\n  <stdin>:2:14"


def test_a_place_is_added_where_there_is_none_and_kept_where_there_is(loc: SrcLoc) -> None:
    other = SrcLoc("other.py", 1, 0, 1, 1)
    error = DimError("no", notes=["first"]).located(loc, notes=["second"]).located(other, "cell 'a'").located(scope="b")
    assert (error.loc, error.scope, error.notes) == (loc, "cell 'a'", ("first", "second"))
    assert isinstance(error, DimError)


def test_what_can_be_done_comes_last_in_the_words_of_whoever_shows_it() -> None:
    error = TrainingError("run has a run already", mends=[Mend.RESUME]).located(notes=["it"], mends=[Mend.OTHER_FOLDER])
    assert str(error) == "TrainingError: run has a run already\n  it\n  resume the run\n  give another folder"
    assert error.text({Mend.RESUME: "run --on"}) == (
        "TrainingError: run has a run already\n  it\n  run --on\n  give another folder"
    )


def test_the_command_line_has_an_option_for_all_that_can_be_done() -> None:
    assert set(MENDS) == set(Mend)
    assert not [mend for mend in Mend if " -" in mend.value or mend.value.startswith("-")]


def test_every_error_is_of_one_root_and_says_what_it_is_for() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, LstmcError)
        assert kind.__doc__
        assert kind("message").message == "message"


def test_what_a_user_writes_wrong_is_a_dsl_error() -> None:
    assert issubclass(ShapeError, DslError)
    assert issubclass(DimError, DslError)


def test_arguments_are_python_s_unless_they_are_worded_otherwise() -> None:
    split, data, size = Argument("test_split", "0.5"), Argument("data"), size_argument("N")
    error = DimError(
        f"{split} makes 1 and 1 examples of {data}test.npz",
        notes=[f"make N smaller with {size}, or write lstm(N=SIZE), not test_data=x"],
    )
    assert str(error) == (
        "DimError: test_split=0.5 makes 1 and 1 examples of data=test.npz\n"
        "  make N smaller with N=SIZE, or write lstm(N=SIZE), not test_data=x"
    )
    assert error.text(word=lambda argument: f"<{argument.name}>") == (
        "DimError: <test_split> makes 1 and 1 examples of <data>test.npz\n"
        "  make N smaller with <sizes>, or write lstm(N=SIZE), not test_data=x"
    )


def test_another_error_and_another_process_keep_the_arguments() -> None:
    inner = DataError(f"{Argument('test_split', '0.5')} is too small", notes=[f"({Argument('data')})"])
    outer = pickle.loads(pickle.dumps(LstmcError(f"net.py: {inner.marked}", notes=inner.marked_notes)))
    assert (outer.message, outer.notes) == ("net.py: test_split=0.5 is too small", ("(data=)",))
    assert outer.text(word=lambda argument: f"--{argument.name}") == (
        "LstmcError: net.py: --test_split is too small\n  (--data)"
    )


def test_what_python_shows_of_an_error_has_no_marks() -> None:
    error = pickle.loads(pickle.dumps(DataError(f"give {Argument('target', 'c')}")))
    assert error.args == ("give target=c",)
    assert error.text(word=lambda argument: f"--{argument.name}") == "DataError: give --target"
