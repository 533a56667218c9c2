"""Targets as data: every file loads, one is built on another, and what does not load is refused."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lstmc.errors import BackendError
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.target import BASES, OWN, Summaries, Target, load_target, parse_with_base
from lstmc_caffe.targets.target import CHECKS as RULE_CHECKS
from tests.backends.lstmc_caffe.in_worker import layer_types

TABLE = {name: load_target(name) for name in OWN}


def test_every_restriction_has_a_reason_and_a_source() -> None:
    for target in TABLE.values():
        assert target.layers.reason
        assert target.layers.source
        for rule in target.rule:
            assert rule.reason, (target.name, rule)
            assert rule.source, (target.name, rule)


def test_the_default_is_caffe() -> None:
    assert list(Summaries())[:5] == ["caffe", "flat", "noslice", "caffe-native", "caffe-fused"]
    assert Summaries()["flat"] == load_target("flat").summary


@pytest.mark.caffe
def test_every_layer_type_is_caffes(caffe: Runner) -> None:
    # what the installer's Caffe is built without: OpenCV's and Python's layers, and two of BVLC's last additions
    have = {*layer_types(caffe), "ImageData", "WindowData", "Python", "Clip", "Swish"}
    have |= {"Fused_*"}  # what lstmc generates itself
    for target in TABLE.values():
        assert set(target.layers.types) <= have, target.name


def test_what_the_compiler_asks() -> None:
    table = [TABLE[name] for name in BASES]
    assert [t.layout for t in table] == ["blobs", "rows", "rows", "blobs", "blobs"]
    assert [t.time for t in table] == ["slice", "slice", "steps", "slice", "slice"]
    assert [t.scans for t in table] == ["unrolled", "unrolled", "unrolled", "layers", "fused"]
    assert [t.trained for t in table] == [True, False, False, True, True]
    assert [t.in_place for t in table] == [True, False, False, True, True]
    assert [t.allows("Slice") for t in table] == [True, True, False, True, True]
    assert [t.allows("Bias") for t in table] == [True, False, False, True, True]
    assert [t.bottoms_at_most for t in table] == [None, 1000, 1000, 1000, None]


GOOD = """\
name = "mine"
summary = "what my program reads"
base = "flat"

[sources]
manual = "the program's manual, page 3"
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_says_what_is_different_from_its_base(tmp_path: Path) -> None:
    target = load_target(
        written(
            tmp_path,
            GOOD
            + """
[layers]
add = ["BNLL"]

[[rule]]
layer = "Power"
forbidden = true
reason = "there is none"
source = "manual, mnn"

[[rule]]
layer = "Eltwise"
bottoms = 3
reason = "it takes three"
source = "manual"

[[rule]]
layer = "Eltwise"
field = "eltwise_param.coeff"
absent = false
""",
        )
    )
    flat = load_target("flat")
    assert target.layers.types == (*flat.layers.types, "BNLL")
    assert target.layers.reason == flat.layers.reason
    assert (target.allows("BNLL"), target.allows("Power"), flat.allows("Power")) == (True, False, True)
    assert target.reason_against("Power") == (
        "there is none",
        "documented in: the program's manual, page 3; alibaba/MNN tools/converter/source/caffe",
    )
    assert [rule.bottoms for rule in target.restrictions_on("Eltwise") if rule.bottoms] == [3]
    assert not [rule for rule in target.restrictions_on("Eltwise") if rule.field]
    same = {"layout", "time", "scans", "trained", "outputs_unread", "sharers_carry_blobs"}
    assert [getattr(target, name) for name in same] == [getattr(flat, name) for name in same]
    assert target.reader == ()
    assert same < {field.name for field in fields(Target)}


def test_a_base_may_be_a_file_beside_it(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "below.toml")
    text = GOOD.replace('base = "flat"', 'base = "./below.toml"\ntime = "steps"').replace('"mine"', '"above"')
    assert load_target(written(tmp_path, text)).time == "steps"


def test_what_readers_load_is_a_list_of_its_own_with_the_files_own_rules(tmp_path: Path) -> None:
    """Of the base's rules those stay that say why a type is not loaded."""
    text = (
        GOOD
        + """
[reads]
types = ["Dropout", "InnerProduct", "LRN", "Split"]
reason = "it does not load it"
source = "manual"

[[rule]]
layer = "LRN"
field = "lrn_param.alpha"
present = true
reason = "it takes another default"
source = "manual"
"""
    )
    target = load_target(written(tmp_path, text))
    assert (target.lists("Dropout"), target.allows("Split")) == (False, False)
    reads = target.reads
    assert reads is not None
    assert reads.layers.types == ("Dropout", "InnerProduct", "LRN", "Split")
    assert [rule.field for rule in reads.rule if not rule.forbidden] == ["lrn_param.alpha"]
    assert reads.allows("Split")
    assert reads.reason_against("Tile") == ("it does not load it", "documented in: the program's manual, page 3")
    assert reads.reason_against("Bias") == load_target("flat").reason_against("Bias")
    above = GOOD.replace('base = "flat"', 'base = "./mine.toml"').replace('"mine"', '"above"')
    assert load_target(written(tmp_path, above, "above.toml")).reads is None


RULE = {"layer": "Slice", "reason": "r", "source": "a"}
WARNING = {"name": "w", "path": ["Slice"], "text": "t", "version": "1", "source": "a"}


def test_every_check_and_key_is_documented() -> None:
    text = (Path(__file__).parents[4] / "docs" / "targets.md").read_text()
    keys = [field.name for field in fields(Target)]
    assert [key for key in (*RULE_CHECKS, *keys) if not re.search(rf"(`\[*|^ *\[*){key}\b", text, re.M)] == []


CHECKS = (
    "one_of, at_most, absent, all_equal, present, forbidden, bottoms, bottoms_at_most, steps_at_most, axes, in_place,"
    " every_size_given, rows_at_most, not_after, unshared, columns_at_least, bottoms_differ, no_windows, the first five"
    " with a field"
)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"colour": "red"}, 'x.toml: colour: expected no such key, found "red"'),
        ({"name": 3}, "x.toml: name: expected a valid string, found 3"),
        ({"layout": "columns"}, """x.toml: layout: expected 'blobs' or 'rows', found "columns\""""),
        ({"time": True}, "x.toml: time: expected 'slice' or 'steps', found true"),
        ({"trained": "yes"}, 'x.toml: trained: expected a valid boolean, found "yes"'),
        ({"base": 1}, "x.toml: base: expected the name or the path of a target, found 1"),
        (
            {"base": "roof"},
            f"there is no target roof: expected {', '.join(OWN)}, or the path of a TOML file",
        ),
        ({"layers": ["Slice"]}, 'x.toml: layers: expected an object, found ["Slice"]'),
        (
            {"layers": {"types": "Slice"}},
            'x.toml: layers.types: expected an array of one layer type or more, found "Slice"',
        ),
        ({"layers": {"types": ["Slice"]}}, "x.toml: layers.reason: expected a text, found null"),
        (
            {"reader": [{"named": "x"}]},
            'x.toml: reader[0]: expected an object with a value for name, found {"named": "x"}',
        ),
        ({"reader": [{"name": "x", "nota": ""}]}, 'x.toml: reader[0].nota: expected no such key, found ""'),
        (
            {"price": {"launch": -1, "byte": 0, "flop": 0}},
            'x.toml: price: expected seconds of 0 or more, found {"launch": -1, "byte": 0, "flop": 0}',
        ),
        ({"rule": {"layer": "Slice"}}, 'x.toml: rule: expected a valid array, found {"layer": "Slice"}'),
        (
            {"rule": [RULE | {"source": "a, b", "forbidden": True}]},
            'x.toml: rule[0].source: expected names of [sources], which are a, found "a, b"',
        ),
        ({"rule": [RULE | {"one_of": [1]}]}, f"x.toml: rule[0]: expected one check of {CHECKS}, found one_of"),
        (
            {"warning": [WARNING | {"source": "b"}]},
            'x.toml: warning[0].source: expected names of [sources], which are a, found "b"',
        ),
        (
            {"warning": [WARNING | {"path": []}]},
            "x.toml: warning[0].path: expected an array of one layer type or more, found []",
        ),
        (
            {"warning": [{"name": "w"}]},
            'x.toml: warning[0]: expected an object with a value for path, found {"name": "w"}',
        ),
        (
            {"reads": {"types": ["Slice"], "reason": "r", "source": "b"}},
            'x.toml: reads.source: expected names of [sources], which are a, found "b"',
        ),
        (
            {"reads": {"types": [], "reason": "r", "source": "a"}},
            "x.toml: reads.types: expected an array of one layer type or more, found []",
        ),
        ({"rule": [RULE]}, f"x.toml: rule[0]: expected one check of {CHECKS}, found none"),
        (
            {"rule": [RULE | {"bottoms": 1, "forbidden": True}]},
            f"x.toml: rule[0]: expected one check of {CHECKS}, found forbidden, bottoms",
        ),
        ({"rule": [RULE | {"bottoms": "two"}]}, 'x.toml: rule[0].bottoms: expected a valid integer, found "two"'),
        ({"rule": [RULE | {"axes": []}]}, "x.toml: rule[0].axes: expected an array of one value or more, found []"),
        (
            {"rule": [RULE | {"field": "inner_product_param.axis", "one_of": [[1]]}]},
            "x.toml: rule[0].one_of: expected true, false, a number or a text, found [[1]]",
        ),
        (
            {"rule": [RULE | {"field": "slice_param.axes", "one_of": [1]}]},
            "x.toml: rule[0].field: expected a field of LayerParameter, such as inner_product_param.axis,"
            ' found "slice_param.axes"',
        ),
    ],
)
def test_what_is_no_target(data: dict[str, Any], error: str) -> None:
    with pytest.raises(BackendError) as raised:
        parse_with_base({"name": "t", "summary": "s", "sources": {"a": "https://example.org"}} | data, "x.toml", Path())
    assert str(raised.value) == f"BackendError: {error}"


def test_what_is_no_file_of_a_target(tmp_path: Path) -> None:
    circle = written(tmp_path, GOOD.replace('"flat"', '"./mine.toml"'))
    for path, error in (
        (str(tmp_path / "none.toml"), "{}: no such file"),
        (str(tmp_path) + "/", "{}: cannot be read: Is a directory"),
        (
            written(tmp_path, "name = ", "half.toml"),
            "{}: expected a target as TOML: Invalid value (at end of document)",
        ),
        (circle, f"{circle}: base: targets are built on each other in a circle: {circle}"),
    ):
        with pytest.raises(BackendError) as raised:
            load_target(path)
        assert raised.value.message == error.format(path.removesuffix("/"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(BackendError, match="expected a target as TOML, found a file that is not UTF-8"):
        load_target(str(tmp_path / "latin.toml"))
    (tmp_path / "deep.toml").write_text("name = " + "[" * 100_000)
    with pytest.raises(BackendError, match="expected a target as TOML, found it nested too deep"):
        load_target(str(tmp_path / "deep.toml"))
