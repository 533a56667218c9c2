"""``lstmc lint``."""

from __future__ import annotations

from pathlib import Path

from lstmc_caffe.targets.load import OWN
from tests.cli.conftest import LSTMC

NET = """\
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 3 } } }
layer { name: "t" type: "TanH" bottom: "x" top: "t" }
layer { name: "b" type: "Bias" bottom: "t" top: "b" }
"""


def test_a_clean_net_exits_with_0(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET)
    ended = lstmc("lint", "net.prototxt")
    assert (ended.code, ended.out, ended.err) == (0, "net.prototxt: 3 layers, target caffe: clean\n", "")


def test_findings_exit_with_1(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET)
    ended = lstmc("lint", "net.prototxt", "--target", "flat")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        "OpenCV cannot create it: add Scale of ones\n"
        "    documented in: run here: OpenCV 4.14 cannot create the layer\n"
        "    b (Bias): found the type is Bias; expected no layer of this type\n"
        "net.prototxt: 3 layers, target flat: 1 finding\n"
    )


def test_what_is_not_known_is_said(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text('layer { name: "p" type: "Power" bottom: "data" top: "p" }')
    ended = lstmc("lint", "net.prototxt", "--target", "flat")
    assert ended.code == 0
    assert ended.out == (
        "not checked, as shapes could not be found:\n"
        "    p: the shape of its bottom data is not known\n"
        "net.prototxt: 1 layers, target flat: clean\n"
    )


def test_what_is_no_net_exits_with_2(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text("")
    ended = lstmc("lint", "net.prototxt")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "BackendError: net.prototxt: expected the text of a Caffe net, found no layer\n"
    ended = lstmc("lint", "other.prototxt")
    assert (ended.code, ended.err) == (2, "ModelFileError: no such file: other.prototxt\n")
    ended = lstmc("lint", "net.prototxt", "--target", "roof")
    assert ended.code == 2
    assert ended.err == (f"PluginError: backend caffe has no target roof: found {', '.join(OWN)}\n")
