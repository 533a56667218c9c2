"""A field of LayerParameter that a package makes known is written and read; what it clashes with is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from google.protobuf import text_format

from lstmc.backend import load_backend
from lstmc.errors import BackendError
from lstmc.ir import parse_graph
from lstmc.ops import Draw, Sample, Tanh, sample_type
from lstmc.pipeline import compile_graph
from lstmc.testing import check_op
from lstmc.types import TensorType
from lstmc.verification.differential import check
from lstmc_caffe.ops import CaffeOp, layer_ops, read_layer
from lstmc_caffe.processes.process import CaffeAborted
from lstmc_caffe.proto import net
from lstmc_caffe.proto.net import MESSAGES, LayerParameter, NetParameter, layer_field, net_from_text
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.lint import lint_text, listed_layers
from lstmc_caffe.targets.target import load_target
from tests.conftest import Install

MVN = ("mvn_param", 120, "MVNParameter")
FIELDS = (("normalize_variance", 1, "bool=true"), ("across_channels", 2, "bool=false"))


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "MESSAGES", dict(MESSAGES))


def test_a_new_field_is_written_and_read() -> None:
    older = NetParameter()
    older.layer.add(name="a", type="ReLU")
    layer_field(*MVN, FIELDS)
    made = NetParameter()
    made.layer.add(name="b", type="MVN").mvn_param.across_channels = True
    text = text_format.MessageToString(made)
    assert text == 'layer {\n  name: "b"\n  type: "MVN"\n  mvn_param {\n    across_channels: true\n  }\n}\n'
    assert text_format.Parse(text, NetParameter()) == made
    assert made.layer[0].mvn_param.normalize_variance
    assert older.layer[0].name == "a"


def test_the_same_field_twice_is_one() -> None:
    layer_field(*MVN, FIELDS)
    count = len(net.MESSAGES["LayerParameter"])
    layer_field(*MVN, FIELDS)
    assert len(net.MESSAGES["LayerParameter"]) == count


THRESHOLD = """
from dataclasses import dataclass
from lstmc.ops import Array, Pointwise
from lstmc_caffe.ops import CaffeOp
from lstmc_caffe.proto.net import layer_field

layer_field("threshold_param", 128, "ThresholdParameter", (("threshold", 1, "float=0"),))


@dataclass(frozen=True)
class Threshold(CaffeOp, Pointwise):
    "1 where x is above the threshold."
    name = "DIALECT.Threshold"
    layer_type = "Threshold"
    settings = {"threshold": "threshold_param.threshold"}
    threshold: float = 0.0

    def f(self, x):
        return (x > self.threshold).astype(x.dtype)

    def df(self, y, x):
        return 0.0
"""
TARGET = """
name = "few"
base = "flat"
summary = "A reader with a threshold of its own."

[sources]
own = "our reader"

[layers]
add = ["Threshold"]
reason = "it has this layer too"

[[rule]]
layer = "Threshold"
field = "threshold_param.threshold"
at_most = 1
reason = "it is a byte"
source = "own"
"""


def test_a_field_of_a_package_is_read_from_the_first_net_on(install: Install) -> None:
    install("thresholds", THRESHOLD.replace("DIALECT", "thresholds"), "[lstmc.dialects]\nthresholds = thresholds\n")
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "a" type: "Threshold" bottom: "x" top: "a" threshold_param { threshold: 0.5 } }\n'
        'layer { name: "b" type: "Threshold" bottom: "a" top: "b" threshold_param { threshold: 2 } }\n'
    )
    report = lint_text(text, load_target("caffe"))
    assert (report.violations, report.unknown, report.layers) == ((), (), 3)
    assert [layer.shapes for layer in listed_layers(text.encode())] == [((2, 3),)] * 3


def test_a_rule_of_a_target_may_name_a_field_of_a_package(install: Install, tmp_path: Path) -> None:
    install("bounded", THRESHOLD.replace("DIALECT", "bounded"), "[lstmc.dialects]\nbounded = bounded\n")
    (tmp_path / "few.toml").write_text(TARGET)
    target = load_target(str(tmp_path / "few.toml"))
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "a" type: "Threshold" bottom: "x" top: "a" threshold_param { threshold: 2 } }\n'
    )
    found = [(violation.layer, violation.found) for violation in lint_text(text, target).violations]
    assert found == [("a", "threshold is 2.0")]


ABOVE = """
from lstmc.ops import Pointwise
from lstmc_caffe.legalize.rules import layer_rules

@dataclass(frozen=True)
class Above(Pointwise):
    "1 where x is above 0.5."
    name = "DIALECT.above"
    undifferentiated = UNDIFFERENTIATED
    threshold: float = 0.5

    def f(self, x):
        return (x > self.threshold).astype(x.dtype)

    def df(self, y, x):
        return 0.0

    def vjp(self, cts, outs, x):
        return (None,)

@dataclass(frozen=True)
class Layer(CaffeOp, Above):
    "Threshold."
    name = "DIALECT.Layer"
    layer_type = "Threshold"
    settings = {"threshold": "threshold_param.threshold"}

RULES = layer_rules(Layer)
"""


@pytest.mark.parametrize(
    ("name", "undifferentiated", "outputs"),
    [("ends_a", "(0,)", "y=%y, z=%z"), ("ends_b", "(0,)", "y=%y"), ("ends_c", "()", "y=%y, z=%z")],
)
def test_a_layer_without_backward_says_that_no_gradient_is_asked_of_what_it_reads(
    install: Install, caffe: Runner, name: str, undifferentiated: str, outputs: str
) -> None:
    source = THRESHOLD.partition("@dataclass")[0] + ABOVE.replace("UNDIFFERENTIATED", undifferentiated)
    points = f"[lstmc.dialects]\n{name} = {name}\n[lstmc_caffe.rules]\n{name} = {name}\n"
    install(name, source.replace("DIALECT", name), points)
    graph = parse_graph(
        "graph g {\n  %x: f32[2,3] = input()\n  %a: f32[2,3] = tanh(%x)\n"
        f"  %y: f32[2,3] = {name}.above(%a)\n  %u: f32[2,3] = input()\n  %z: f32[2,3] = tanh(%u)\n"
        f"  return {outputs}\n}}\n"
    )
    backend = load_backend("caffe")
    compiled = compile_graph(graph, backend)
    artifact = backend.emit(compiled, {})
    if undifferentiated == "()":
        with pytest.raises(CaffeAborted) as caught:
            check(compiled, artifact, {}, CaffeExecutor(caffe, "cpu"), 1)
        assert "a layer has no Backward in Caffe: write undifferentiated = (0,) in the class of its op" in str(
            caught.value
        )
    else:
        assert check(compiled, artifact, {}, CaffeExecutor(caffe, "cpu"), 1).passed


FROZEN = """
from dataclasses import dataclass
import numpy as np
from lstmc.ops import Op, Sample, sample_type
from lstmc_caffe.legalize.rules import layer_rules
from lstmc_caffe.ops import CaffeOp

@dataclass(frozen=True)
class Frozen(Op):
    "|x|, through which no gradient flows."
    name = "frozen.frozen"
    operands = ("x",)
    stops_gradient = True

    def infer(self, x):
        return (x,)

    def eval(self, x):
        return (np.abs(x),)

    def vjp(self, cts, outs, x):
        return (None,)

    @classmethod
    def sample(cls, draw):
        return Sample(cls(), (sample_type(draw),))

@dataclass(frozen=True)
class Layer(CaffeOp, Frozen):
    "AbsVal, which has a gradient in Caffe."
    name = "frozen.Layer"
    layer_type = "AbsVal"

RULES = layer_rules(Layer)
"""


@pytest.mark.caffe
def test_a_layer_of_an_op_that_stops_gradients_stops_them_in_caffe(install: Install, caffe: Runner) -> None:
    install("frozen", FROZEN, "[lstmc.dialects]\nfrozen = frozen\n[lstmc_caffe.rules]\nfrozen = frozen\n")
    graph = parse_graph(
        "graph g {\n  %x: f32[2,3] = input()\n  %a: f32[2,3] = tanh(%x)\n"
        "  %y: f32[2,3] = frozen.frozen(%a)\n  %z: f32[2,3] = mul(%y, %a)\n  return z=%z\n}\n"
    )
    compiled = compile_graph(graph, load_backend("caffe"))
    artifact = load_backend("caffe").emit(compiled, {})
    assert check(compiled, artifact, {}, CaffeExecutor(caffe, "cpu"), 1).passed
    (layer,) = [layer for layer in net_from_text(artifact.files["g.prototxt"].decode()).layer if layer.type == "AbsVal"]
    assert list(layer.propagate_down) == [False]
    types = (TensorType((2, 3)),)
    read = read_layer(layer, types, layer_ops())
    assert read is not None
    assert read.name == "frozen.Layer"


@dataclass(frozen=True)
class OfNoField(CaffeOp, Tanh):
    """A layer whose field nobody declared."""

    name = "testing_example.OfNoField"
    layer_type = "Threshold"
    settings: ClassVar[Mapping[str, str]] = {"slope": "treshold_param.slope"}
    slope: float = 1.0


@dataclass(frozen=True)
class OfNoInnerField(OfNoField):
    """A layer whose message has no such field."""

    name = "testing_example.OfNoInnerField"
    settings: ClassVar[Mapping[str, str]] = {"slope": "relu_param.slope"}


@dataclass(frozen=True)
class Unwritten(OfNoField):
    """A layer that leaves an attribute out."""

    name = "testing_example.Unwritten"
    settings: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(2.0), (sample_type(draw),))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            OfNoField,
            r"OfNoField: settings has treshold_param.slope, but LayerParameter has no field treshold_param \(known are"
            r" [a-z_, ]+_param\): declare it by lstmc_caffe.proto.net.layer_field, above the class"
            r" \(docs/write-an-op.md\)",
        ),
        (
            OfNoInnerField,
            r"OfNoInnerField: settings has relu_param.slope, but ReLUParameter has no field slope \(known are"
            r" negative_slope\): declare it by .*",
        ),
    ],
)
def test_an_undeclared_field_is_named_with_what_to_do(kind: type[CaffeOp], text: str) -> None:
    with pytest.raises(BackendError) as caught:
        kind().write(LayerParameter(type="Threshold"))
    assert re.fullmatch(text, caught.value.message)
    with pytest.raises(BackendError):
        kind.read(LayerParameter(type="Threshold"), (TensorType((2,)),))
    with pytest.raises(AssertionError, match=rf"{kind.__name__} raises BackendError: .*: settings has"):
        check_op(kind, samples=1)


def test_an_attribute_that_no_field_has_is_named_by_the_contract() -> None:
    with pytest.raises(
        AssertionError, match=r"its layer is read as Unwritten.*each attribute needs a field in settings"
    ):
        check_op(Unwritten, samples=1)


@pytest.mark.parametrize(
    ("field", "fields", "text"),
    [
        (
            ("elu_param", 120, "MVNParameter"),
            FIELDS,
            "LayerParameter has field elu_param = 140 of ELUParameter, found elu_param = 120 of MVNParameter",
        ),
        (
            ("mvn_param", 140, "MVNParameter"),
            FIELDS,
            "LayerParameter has field elu_param = 140 of ELUParameter, found mvn_param = 140 of MVNParameter",
        ),
        (
            ("mvn_param", 120, "ELUParameter"),
            FIELDS,
            "ELUParameter has fields (('alpha', 1, 'float=1'),), found (('normalize_variance', 1, 'bool=true'),"
            " ('across_channels', 2, 'bool=false'))",
        ),
    ],
)
def test_a_field_that_is_something_else_is_refused(
    field: tuple[str, int, str], fields: tuple[tuple[str, int, str], ...], text: str
) -> None:
    with pytest.raises(BackendError) as caught:
        layer_field(*field, fields)
    assert caught.value.message == text
