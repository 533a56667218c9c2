"""A target from a plain file, as a user writes it: compiled, verified, linted and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC

FILES = Path(__file__).parents[1] / "backends" / "lstmc_caffe" / "targets" / "files"
GRU = ("--cell", "gru", "-D", "T=2", "-D", "N=2", "-D", "D=3", "-D", "H=2")


@pytest.mark.parametrize("file", ["pairs.toml", "few.toml"])
def test_a_file_is_compiled_linted_and_shown(lstmc: LSTMC, file: str) -> None:
    target = ("--target", str(FILES / file))
    assert lstmc("compile", *GRU, *target, "-o", "out").code == 0
    ended = lstmc("verify", "out/gru.prototxt", *target)
    assert (ended.code, ended.out.splitlines()[-2].endswith("clean")) == (0, True)
    assert "caffe.Eltwise" in lstmc("show", *GRU, *target, "--after", "narrow").out


def test_what_is_no_target_is_refused_by_its_file_and_key(lstmc: LSTMC) -> None:
    Path("mine.toml").write_text('name = "mine"\nsummary = "s"\nbase = "flat"\nlayout = "columns"\n')
    ended = lstmc("compile", *GRU, "--target", "./mine.toml", "-o", "out")
    assert (ended.code, ended.err) == (
        2,
        "BackendError: mine.toml: layout: expected 'blobs' or 'rows', found \"columns\"\n",
    )


def test_a_rule_for_a_layer_that_is_not_there(lstmc: LSTMC) -> None:
    rule = 'forbidden = true\nreason = "r"\nsource = "s"\n'
    text = 'name = "mine"\nbase = "flat"\n[sources]\ns = "mine"\n[[rule]]\nlayer = "Powr"\n' + rule
    Path("mine.toml").write_text(text)
    ended = lstmc("compile", *GRU, "--target", "./mine.toml", "-o", "out")
    problem = "BackendError: mine.toml: rule[0].layer: unknown type Powr: did you mean Power?"
    assert (ended.code, ended.err) == (2, f"{problem} One of a reader: [layers] add\n")
    added = text.replace("[[rule]]", '[layers]\nadd = ["Powr"]\n[[rule]]')
    Path("mine.toml").write_text(added)  # it needs no summary: that is its base's
    assert lstmc("compile", *GRU, "--target", "./mine.toml", "-o", "out").code == 0


@pytest.mark.caffe
@pytest.mark.parametrize("file", ["few.toml", "no_power.toml"])
def test_a_net_for_a_file_is_verified_in_real_caffe(lstmc: LSTMC, caffe: object, file: str) -> None:
    ended = lstmc("verify", *GRU, "--target", str(FILES / file), "--on", "caffe-cpu")
    assert (ended.code, ended.err) == (0, "")
    assert "caffe-cpu (" in ended.out
