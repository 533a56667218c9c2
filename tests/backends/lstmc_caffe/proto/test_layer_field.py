"""A field of LayerParameter that a package makes known is written and read; what it clashes with is named."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from lstmc.errors import BackendError
from lstmc_caffe.proto import net
from lstmc_caffe.proto.net import MESSAGES, NetParameter, layer_field

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
