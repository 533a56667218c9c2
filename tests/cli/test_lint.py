"""``lstmc verify`` of a net file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lstmc_caffe.targets.target import OWN
from lstmc_tflite.backend import targets
from tests.cli.conftest import LSTMC

NET = """\
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 3 } } }
layer { name: "t" type: "TanH" bottom: "x" top: "t" }
layer { name: "b" type: "Bias" bottom: "t" top: "b" }
"""


@pytest.mark.parametrize("command", ["verify", "convert"])
def test_a_text_that_is_nested_too_deep(lstmc: LSTMC, command: str) -> None:
    Path("deep.prototxt").write_text("layer { " * 50_000)
    ended = lstmc(command, "deep.prototxt", *(["-o", "out"] if command == "convert" else []))
    assert ended.code == 2
    assert ended.err.endswith("expected the text of a Caffe net, found something else: it is nested too deep\n")


def test_a_clean_net_exits_with_0(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET)
    ended = lstmc("verify", "net.prototxt")
    assert (ended.code, ended.out, ended.err) == (0, "net.prototxt: 3 layers, target caffe: clean\n", "")


def test_findings_exit_with_1(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET)
    ended = lstmc("verify", "net.prototxt", "--target", "flat")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        "OpenCV cannot create it: add Scale of ones\n"
        "    documented in: run here: OpenCV 4.14 cannot create the layer\n"
        "    b (Bias): found layer type Bias; expected a supported layer type\n"
        "net.prototxt: 3 layers, target flat: 1 finding\n"
    )


def test_a_warning_is_no_finding(lstmc: LSTMC) -> None:
    sizes = ("-D", "T=3", "-D", "N=1", "-D", "D=3", "-D", "H=2")
    warning = (
        "warning peephole (OpenVINO 2022.3.0 on the CPU): peepholes over several steps are computed wrongly (0.04 to"
        " 0.3 off) and nothing is said: for this release compile for target openvino-2022.3\n"
    )
    ended = lstmc("compile", "--cell", "lstm_peephole", *sizes, "--target", "openvino")
    assert (ended.code, ended.err, ended.out.endswith(f"\n{warning}")) == (0, "", True)
    ended = lstmc("verify", "lstm_peephole.prototxt", "--target", "openvino")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        f"{warning}"
        "    documented in: run here: Model Optimizer and OpenVINO 2022.3.0, 2023.3.0 and 2026.4.1, on the CPU\n"
        "    lstm_peephole/t001/mul_p_o, and 3 more\n"
        "lstm_peephole.prototxt: 49 layers, target openvino: 1 warning\n"
        "checked against the target's rules only; weights were not compared:"
        " `lstmc verify MODEL --net lstm_peephole.prototxt` does, with the options that the net was compiled with\n"
    )
    ended = lstmc("verify", "lstm_peephole.prototxt", "--target", "openvino", "--json")
    assert [entry["name"] for entry in json.loads(ended.out)["warnings"]] == ["peephole"]


def test_what_is_not_known_is_said(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text('input: "data" layer { name: "p" type: "Power" bottom: "data" top: "p" }')
    ended = lstmc("verify", "net.prototxt", "--target", "flat")
    assert ended.code == 0
    assert ended.out == (
        "not checked, as shapes could not be found:\n"
        "    p: the shape of its bottom data is not known\n"
        "net.prototxt: 1 layer, target flat: clean\n"
    )


def test_a_bottom_that_no_layer_writes_is_a_finding(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET.replace('bottom: "x"', 'bottom: "xx"').replace('"t" type', '"xs" type'))
    ended = lstmc("verify", "net.prototxt")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        "no program can load the net\n"
        "    documented in: Net::AppendBottom of Caffe: Unknown bottom blob\n"
        "    xs (TanH): found bottom xx; expected a blob of a layer before it: did you mean x?\n"
        "net.prototxt: 3 layers, target caffe: 1 finding\n"
    )


def test_a_misspelt_field_is_a_finding_and_one_of_another_caffe_is_none(lstmc: LSTMC) -> None:
    """Fields of Caffe that the table of messages does not have, and those of layers of other versions, are none."""
    Path("net.prototxt").write_text(
        """nam: "n"  # name: "n"
input: 'data'
input_shape { dim: [6, 3] }
state { phase: TEST }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 1 engine: CAFFE
  kernel_size: 1 weight_filler: < value: -1.5e-3 varianc_norm: AVERAGE > } }
layer { name: "b" type: "Sigmoid" bottom: "a" top: "b" sigmoid_param { engine: CAFFE } }
layer { name: "c" type: "ReLU6" bottom: "b" top: "c" relu6_param { threshold: 6 } }
layer { name: "d" type: "LSTM" botom: "c" top: "d" recurent_param {
  num_output: 24 } }
layer { name: "e" type: "InnerProduct" bottom: "d" top: "e" inner_product_param { num_outputs: 24 } }
"""
    )
    ended = lstmc("verify", "net.prototxt", "--target", "caffe", "--json")
    findings = {finding["found"]: finding["expected"] for finding in json.loads(ended.out)["findings"]}
    assert ended.code == 1
    assert findings.pop("layer type ReLU6").startswith("one of AbsVal")
    assert findings == {
        "field nam on line 1": "a field of NetParameter: did you mean name?",
        "field varianc_norm on line 6": "a field of FillerParameter: did you mean variance_norm?",
        "field botom on line 9": "a field of LayerParameter: did you mean bottom?",
        "field recurent_param on line 9": "a field of LayerParameter: did you mean recurrent_param?",
        "field num_outputs on line 11": "a field of InnerProductParameter: did you mean num_output?",
    }


def test_what_is_no_net_exits_with_2(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text("")
    ended = lstmc("verify", "net.prototxt")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "BackendError: net.prototxt: expected the text of a Caffe net, found no layer\n"
    ended = lstmc("verify", "other.prototxt")
    assert (ended.code, ended.err) == (2, "ModelFileError: no such file: other.prototxt\n")
    ended = lstmc("verify", "net.prototxt", "--target", "roof")
    assert ended.code == 2
    assert ended.err == (
        f"PluginError: backend caffe has no target roof: found {', '.join(OWN)}; of other backends c, onnx,"
        f" {', '.join(targets())}, torch\n"
    )


def test_every_target_says_whether_it_takes_the_net(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET)
    ended = lstmc("verify", "net.prototxt", "--all", "--json")
    assert (ended.code, ended.err) == (0, "")
    rows = {row["target"]: row for row in json.loads(ended.out)["targets"]}
    assert list(rows) == list(OWN)
    assert [name for name, row in rows.items() if row["findings"] == 0] == ["caffe", "caffe-native", "caffe-fused"]
    assert rows["opencv"]["what_stops_it"] == ["Bias: OpenCV cannot create it: add Scale of ones"]
    assert rows["ncnn"]["findings"] == 3
    assert rows["ncnn"]["what_stops_it"][0].startswith("Input: it has no batch axis, and of several rows")
    shown = lstmc("verify", "net.prototxt", "--all").out.splitlines()
    assert max(map(len, shown)) <= 80
    assert next(line for line in shown if line.startswith("opencv ")).split() == ["opencv", "1", "Bias"]
    verbose = lstmc("verify", "net.prototxt", "--all", "-v").out
    assert "opencv: 1\n    Bias: OpenCV cannot create it: add Scale of ones\n" in verbose


def test_a_net_that_no_target_takes_exits_with_1(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET + 'layer { name: "n" type: "Mine" bottom: "b" top: "n" }')
    assert lstmc("verify", "net.prototxt", "--all").code == 1
    ended = lstmc("verify", "net.prototxt", "--all", "--target", "flat")
    assert (ended.code, ended.err) == (2, "BackendError: --all is for every target: found --target too\n")


def test_a_net_does_not_steer_the_terminal(lstmc: LSTMC) -> None:
    Path("net.prototxt").write_text(NET.replace('type: "Bias"', 'type: "\\033[31m"'))
    for more in ((), ("--all",)):
        ended = (
            lstmc("verify", "net.prototxt", "--target", "flat") if not more else lstmc("verify", "net.prototxt", *more)
        )
        assert "\x1b" not in ended.out + ended.err
        assert "\\x1b[31m" in ended.out
