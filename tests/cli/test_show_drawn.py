"""``lstmc show -o``: a graph as a diagram."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=9", "-D", "N=2")


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        (("--unrolled",), ["t = 8", "more steps", "InnerProduct"], ["step, 9 steps"]),
        (("--unrolled", "--frames", "8"), ["t = 4"], ["more steps"]),
        (("--rolled",), ["step, 9 steps", "linear 2 x"], ["InnerProduct", "t = 0"]),
        ((), ["step, 9 steps", "linear 2 x"], ["InnerProduct", "t = 0"]),
        (("--after", "legalize"), ["step, the other 8 steps", "InnerProduct"], ["t = 0"]),
        (("--unrolled", "--target", "flat"), ["t = 8", "Feed"], []),
        (("--unrolled", "--target", "caffe-fused"), ["step, 9 steps"], ["t = 1"]),
        (("--unrolled", "--backend", "onnx"), ["RNN "], ["t = 1"]),
        (("--unrolled", "--step"), ["InnerProduct"], ["t = 1"]),
    ],
)
def test_draw_writes_what_was_asked_for(
    lstmc: LSTMC, model_file: Path, options: tuple[str, ...], there: list[str], absent: list[str]
) -> None:
    ended = lstmc("show", str(model_file), *SIZES, *options, "-o", "net.svg")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("net.svg: ")
    text = Path("net.svg").read_text()
    assert [word for word in there if word not in text] == []
    assert [word for word in absent if word in text] == []


def test_rolled_and_after_are_not_both_possible(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("show", str(model_file), *SIZES, "--rolled", "--after", "cse")
    assert (ended.code, ended.err) == (2, "DrawingError: expected --rolled or --after PASS, found both\n")


@pytest.mark.parametrize("option", ["--python", "--passes", "--costs"])
def test_a_diagram_is_no_text(lstmc: LSTMC, model_file: Path, option: str) -> None:
    ended = lstmc("show", str(model_file), *SIZES, option, "-o", "net.svg")
    assert (ended.code, ended.err) == (2, f"DrawingError: -o writes a diagram: found {option} too\n")


def test_every_step_is_drawn(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("show", "--unrolled", "-o", "model.svg", str(model_file), *SIZES)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("model.svg: ")
    assert "t = 8" in Path("model.svg").read_text()
    lstmc("show", "--unrolled", "-o", "model.svg", str(model_file), *SIZES, "--rolled")  # the later word holds
    assert "step, 9 steps" in Path("model.svg").read_text()
