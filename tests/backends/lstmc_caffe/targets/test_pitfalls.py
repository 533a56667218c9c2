"""What readers are known to get wrong is told of the nets that have it, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest

import lstmc
from lstmc.backend import Warned
from lstmc_caffe.targets.lint import lint_text
from lstmc_caffe.targets.target import OWN, load_target

SIZES = {"T": 3, "N": 1, "D": 3, "H": 2}
OPENVINO = (
    "warning peephole (OpenVINO 2022.3.0 on the CPU): peepholes over several steps are computed wrongly (0.04 to 0.3"
    " off) and nothing is said: for this release compile for target openvino-2022.3"
)
MINE = """
name = "mine"
summary = "s"
base = "flat"
[sources]
manual = "the program's manual, page 3"
[[warning]]
name = "squared"
version = "1.2"
path = ["TanH", "Eltwise"]
text = "it forgets the factor"
source = "manual"
"""
NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 3 } } }
layer { name: "t" type: "TanH" bottom: "x" top: "t" }
layer { name: "a" type: "Eltwise" bottom: "x" bottom: "x" top: "a" eltwise_param { operation: PROD } }
layer { name: "b" type: "Eltwise" bottom: "a" bottom: "t" top: "b" eltwise_param { operation: PROD } }
layer { name: "c" type: "Eltwise" bottom: "b" bottom: "a" top: "c" eltwise_param { operation: PROD } }
layer { name: "d" type: "Eltwise" bottom: "t" bottom: "c" top: "d" eltwise_param { operation: PROD } }
"""


def notes(cell: str, target: str, *, step: bool = False) -> tuple[str, ...]:
    return lstmc.compile(cell, target=target, step=step, **SIZES).artifact.notes


def test_peepholes_over_several_steps_are_told_for_openvino() -> None:
    assert notes("lstm_peephole", "openvino") == (OPENVINO,)


@pytest.mark.parametrize(
    ("cell", "target", "step"),
    [
        ("lstm_peephole", "openvino", True),
        ("lstm_peephole", "openvino-2022.3", False),  # whose nets were run there, and were right
        ("lstm_peephole", "flat", False),
        ("gru_reset_after", "openvino", False),  # has a Scale, and was right in 2022.3
        ("lstm", "openvino", False),
    ],
)
def test_what_is_computed_rightly_is_not_told(cell: str, target: str, step: bool) -> None:
    assert notes(cell, target, step=step) == ()


def test_the_linter_says_at_which_layers(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    report = lint_text(NET, load_target(str(tmp_path / "mine.toml")))
    assert report.violations == ()
    assert report.warnings == (
        Warned("squared", ("b", "d"), "it forgets the factor", "1.2", "the program's manual, page 3"),
    )
    assert str(report.warnings[0]) == "warning squared (1.2): it forgets the factor"


def test_a_target_has_the_warnings_of_its_base_but_those_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    other = MINE.replace('"flat"', '"./mine.toml"').replace('"mine"', '"other"')
    (tmp_path / "other.toml").write_text(other.replace('path = ["TanH", "Eltwise"]', 'path = ["ReLU"]'))
    above = MINE.replace('"flat"', '"./mine.toml"').replace('"mine"', '"above"').replace('"squared"', '"cubed"')
    (tmp_path / "above.toml").write_text(above)
    assert [p.path for p in load_target(str(tmp_path / "other.toml")).warning] == [("ReLU",)]
    assert [p.name for p in load_target(str(tmp_path / "above.toml")).warning] == ["squared", "cubed"]


def test_every_warning_says_the_version_and_the_source() -> None:
    told = [pitfall for name in OWN for pitfall in load_target(name).warning]
    assert told
    assert [pitfall for pitfall in told if not all((pitfall.text, pitfall.version, pitfall.source))] == []
