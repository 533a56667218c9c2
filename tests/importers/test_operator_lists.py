"""``lstmc inspect --for``: published lists of operators, each held against its program where it can be had."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated
from onnx import TensorProto, helper

import lstmc
from lstmc.errors import BackendError
from lstmc.importers import SourceError
from lstmc.importers.inspection import operator_lists
from lstmc_tflite.net import read_net
from lstmc_tflite.numbers import Numbers
from lstmc_tflite.runtime import NPUS, Micro, vela_report
from tests.backends.lstmc_tflite.streams import CELLS, WITHOUT_BOUND, Stream
from tests.importers.one_frame_nets import CASES
from tests.importers.test_inspect import inspected
from tests.quick_sample import one_in

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter
TFLITE = {name: code for name, code in vars(schema_py_generated.BuiltinOperator).items() if name[0] != "_"}
U85 = "Ethos-U85 alone"
OF_HUGE_NUMBERS = {"clockwork": 1, "phased_lstm": 2}  # products by 1e29, left to the CPU though the list has MUL


def test_operators_that_a_runtime_does_not_take(tmp_path: Path) -> None:
    found = inspected(CASES["gru"].model(), tmp_path, runtimes=["rknn", "tidl", "webgpu"])
    left = {(one.runtime, one.operator): one.why for one in found.left}
    assert left["rknn", "GRU"] == "listed with the limit: batch size 1"
    assert "CPU" in left["webgpu", "GRU"]
    assert "Arm core" in left["tidl", "GRU"]
    assert ("rknn", "Add") not in left
    both = inspected(CASES["gru"].model(), tmp_path, runtimes=["rknn", "vela"])
    assert [one for one in both.left if one.runtime == "rknn"] == [one for one in found.left if one.runtime == "rknn"]
    (whole,) = (one for one in both.left if one.runtime == "vela")
    assert whole.why.endswith("is for TFLite: convert the file for backend tflite, and inspect that net")
    with pytest.raises(SourceError, match="the lists are esp-dl"):
        inspected(CASES["gru"].model(), tmp_path, runtimes=["nothing-like-it"])


def test_each_list_names_its_source_and_known_operators() -> None:
    known = {"ONNX": {schema.name for schema in onnx.defs.get_all_schemas_with_history()}, "TFLite": {*TFLITE}}
    for name, entries in operator_lists().items():
        assert entries["source"].startswith("https://"), name
        assert entries.keys() >= {"title", "published", "read", "others"}, name
        assert known[entries.get("format", "ONNX")] >= set(entries["operators"]) >= set(entries["limits"]), name


def test_opencvs_list_is_what_opencv_reads() -> None:
    """Each operator of ONNX is given to its importer alone: it makes a layer, or says that it cannot."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    unknown = set()
    schemas = [onnx.defs.get_schema(s.name) for s in onnx.defs.get_all_schemas() if not s.domain and not s.deprecated]
    for schema in schemas:
        node = helper.make_node(schema.name, ["x"] * max(1, schema.min_input), ["y"])
        graph = helper.make_graph([node], "one", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        try:
            cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
        except cv2.error as error:  # of the layer that it knows: of its operands
            if "Can't create layer" in str(error):
                unknown.add(schema.name)
    assert {schema.name for schema in schemas} - {*operator_lists()["opencv"]["operators"]} == unknown


def test_opencv_refuses_a_state_of_a_gru_that_is_an_input(tmp_path: Path) -> None:
    model = CASES["gru"].model()
    with pytest.raises(cv2.error, match="not found in const blobs"):
        cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    assert ("GRU", 1) in [(one.operator, one.count) for one in inspected(model, tmp_path, runtimes=["opencv"]).left]


def test_velas_list_is_its_own_report(tmp_path: Path) -> None:
    program = [sys.executable, "-P", "-m", "ethosu.vela", "--supported-ops-report"]
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
    _, *parts = re.split(r"^## ", (tmp_path / "SUPPORTED_OPS.md").read_text(), flags=re.MULTILINE)
    tables = [part for part in parts if "TFLite Summary Table\n" in part]
    u55, u85 = ({*re.findall(r"^\| ([A-Z][A-Z0-9_]+) \|", table, re.MULTILINE)} for table in tables)
    vela = operator_lists()["vela"]
    assert {*vela["operators"]} == u55 | u85
    assert {name for name, limit in vela["limits"].items() if limit == U85} == u85 - u55


def test_tflite_micros_list_is_what_it_has_kernels_for(capfd: pytest.CaptureFixture[str]) -> None:
    """Each operator is looked up in front of one that TFLite Micro does not have, so no kernel runs."""
    lacking = set()
    for name, code in TFLITE.items():
        with pytest.raises((BackendError, AttributeError)):  # of VAR_HANDLE's options, once its kernel is found
            Micro(two_operators(code, TFLITE["HASHTABLE"]))
        if f"'{name}'" in capfd.readouterr().err:
            lacking.add(name)
    assert {*operator_lists()["tflm"]["operators"]} == {*TFLITE} - lacking - {"CUSTOM"}


def two_operators(*codes: int) -> bytes:
    """A file of TFLite with these operators, one after the other."""
    s = schema_py_generated
    model, graph = s.ModelT(), s.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [s.BufferT()], []
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [0], [1], []
    for place, code in enumerate(codes):
        entry, operator, tensor = s.OperatorCodeT(), s.OperatorT(), s.TensorT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
        operator.opcodeIndex, operator.inputs, operator.outputs = place, [0], [1]
        tensor.name, tensor.shape = f"t{place}", [4]
        model.operatorCodes.append(entry)
        graph.operators.append(operator)
        graph.tensors.append(tensor)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("cell", one_in(28, [cell for cell in CELLS if cell not in WITHOUT_BOUND], tested=7))
def test_lists_say_of_a_net_what_its_programs_say(cell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each library cell in eight bits, with the operators left in floats that no target of a device has."""
    with np.errstate(all="ignore"):
        limits = Stream(cell, batch=1).limits()
    content = Stream(cell, batch=1, numbers=Numbers.of("a8w8", limits), target="tflite").content
    (tmp_path / "net.tflite").write_bytes(content)
    left = lstmc.inspect(tmp_path / "net.tflite", runtimes=["vela", "tflm"]).left
    refused = {name: Counter[str]() for name in ("vela", "tflm")}
    for one in left:
        if not one.why.startswith("listed") or one.why.endswith(U85):
            refused[one.runtime][one.operator] += one.count
    codes = {operator.outputs[0].name: operator.code for operator in read_net(content).operators}
    on_cpu = Counter(codes[name] for name in vela_report(content, NPUS[0]).on_cpu)
    assert on_cpu == refused["vela"] + Counter(MUL=OF_HUGE_NUMBERS.get(cell, 0))
    try:
        Micro(content)
    except BackendError:
        refuses = re.search(r"Node (\w+)|builtin opcode '(\w+)'", capfd.readouterr().err)
        assert refuses
        assert {*refuses.groups()} & {one.operator for one in left if one.runtime == "tflm"}
    else:
        assert not refused["tflm"]
