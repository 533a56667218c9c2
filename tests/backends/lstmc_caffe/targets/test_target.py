"""Targets as data: every file loads, and what does not is refused."""

from __future__ import annotations

import pytest

from lstmc.errors import BackendError
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.targets.target import parse_target, targets

GOOD = {"name": "t", "summary": "s", "sources": {"a": "https://example.org"}}


def test_every_rule_has_a_reason_and_a_source() -> None:
    for target in targets().values():
        assert target.layers_reason
        assert target.layers_source
        for rule in target.rules:
            assert rule.reason, (target.name, rule)
            assert rule.source, (target.name, rule)


def test_the_default_is_caffe() -> None:
    assert list(targets()) == ["caffe", "flat", "noslice", "caffe-native"]


@pytest.mark.caffe
def test_every_layer_type_is_caffes(caffe: Runner) -> None:
    # what the installer's Caffe is built without: OpenCV's and Python's layers, and two of BVLC's last additions
    have = {*caffe.info.layer_types, "ImageData", "WindowData", "Python", "Clip", "Swish"}
    for target in targets().values():
        assert set(target.layers) <= have, target.name


def test_what_legalisation_asks() -> None:
    table = targets()
    assert [t.rows_only for t in table.values()] == [False, True, True, False]
    assert [t.allows("Slice") for t in table.values()] == [True, True, False, True]
    assert [t.allows("Bias") for t in table.values()] == [True, False, False, True]
    assert [t.allows_value("Concat", "concat_param.axis", 0) for t in table.values()] == [True, True, False, True]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (
            {"colour": "red"},
            "BackendError: x.toml: expected keys of layers, name, outputs_unread, reader, rule, sharers_carry_blobs,"
            " sources, summary, found colour",
        ),
        (
            {"rule": [{"layer": "Slice", "reason": "r", "source": "b", "forbidden": True}]},
            "BackendError: x.toml: expected sources of a, found b",
        ),
        (
            {"rule": [{"layer": "Slice", "reason": "r", "source": "a", "one_of": [1]}]},
            "BackendError: x.toml: a rule for Slice needs one check of one_of, at_most, absent, forbidden, bottoms,"
            " bottoms_at_most, steps_at_most, axes, in_place, every_size_given, the first three with a field,"
            " found one_of",
        ),
        (
            {"rule": [{"layer": "Slice", "reason": "r", "source": "a"}]},
            "BackendError: x.toml: a rule for Slice needs one check of one_of, at_most, absent, forbidden, bottoms,"
            " bottoms_at_most, steps_at_most, axes, in_place, every_size_given, the first three with a field,"
            " found none",
        ),
    ],
)
def test_what_is_no_target(data: dict[str, object], error: str) -> None:
    with pytest.raises(BackendError) as raised:
        parse_target(GOOD | data, "x.toml")
    assert str(raised.value) == error
