"""``lstmc draw``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=9", "-D", "N=2")


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ((), ["t = 8", "more steps", "InnerProduct"], ["step, 9 steps"]),
        (("--frames", "8"), ["t = 4"], ["more steps"]),
        (("--rolled",), ["step, 9 steps", "linear 2 x"], ["InnerProduct", "t = 0"]),
        (("--after", "legalize"), ["step, the other 8 steps", "InnerProduct"], ["t = 0"]),
        (("--target", "flat"), ["t = 8", "Feed"], []),
        (("--target", "caffe-fused"), ["step, 9 steps"], ["t = 1"]),
        (("--backend", "onnx"), ["RNN "], ["t = 1"]),
        (("--step",), ["InnerProduct"], ["t = 1"]),
    ],
)
def test_draw_writes_what_was_asked_for(
    lstmc: LSTMC, model_file: Path, options: tuple[str, ...], there: list[str], absent: list[str]
) -> None:
    ended = lstmc("draw", str(model_file), *SIZES, *options, "-o", "net.svg")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("net.svg: ")
    text = Path("net.svg").read_text()
    assert [word for word in there if word not in text] == []
    assert [word for word in absent if word in text] == []


def test_rolled_and_after_are_not_both_possible(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("draw", str(model_file), *SIZES, "--rolled", "--after", "cse")
    assert (ended.code, ended.err) == (2, "DrawingError: expected --rolled or --after PASS, found both\n")
