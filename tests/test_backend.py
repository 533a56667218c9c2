"""Backends and library cells are found by entry point; what is wrong with a plug-in is said in full."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lstmc_plugin_example.backend import TextBackend

import lstmc
from lstmc.api import targets
from lstmc.backend import (
    find_backends,
    find_cells,
    load_backend,
    load_cell,
    offers,
    target_of,
)
from lstmc.dsl import Cell
from lstmc.errors import BackendError, LstmcError, PluginError
from lstmc_caffe import CaffeBackend
from tests.conftest import Install


def refused(call: Callable[[], object], error: type[LstmcError] = PluginError) -> str:
    with pytest.raises(error) as caught:
        call()
    return caught.value.message


def test_installed_backends_and_cells_are_found() -> None:
    assert isinstance(load_backend("caffe"), CaffeBackend)
    assert "caffe" in find_backends()
    assert {"gru", "gru_reset_after", "lstm", "lstm_peephole", "rnn"} <= set(find_cells())
    assert list(find_cells()) == sorted(find_cells())
    for name in ("gru", "lstm"):
        cell = load_cell(name)
        assert isinstance(cell, Cell)
        assert cell.name == name


def test_a_plug_in_is_found_beside_the_rest(install: Install) -> None:
    install(
        "mine_plugin",
        """
        from lstmc import Input, State, cell
        from lstmc.backend import Backend
        from lstmc.ops import CORE

        class Nowhere(Backend):
            name = "nowhere"
            summary = "writes nothing"
            targets = {"nowhere": "nobody"}
            ops = CORE

            def passes(self, target):
                return ()

            def emit(self, compiled, weights):
                raise NotImplementedError

        @cell
        def tiny(x=Input(2), h=State(2)):
            return x, {"h": x}
        """,
        """
        [lstmc.backends]
        nowhere = mine_plugin:Nowhere

        [lstmc.cells]
        tiny = mine_plugin:tiny
        """,
    )
    assert load_backend("nowhere").name == "nowhere"
    assert load_cell("tiny").name == "tiny"
    assert isinstance(load_backend("caffe"), CaffeBackend)


def test_a_name_that_nothing_has() -> None:
    backends, cells = ", ".join(sorted(find_backends())), ", ".join(find_cells())
    assert refused(lambda: load_backend("jax")) == f"unknown backend 'jax': available {backends}"
    assert refused(lambda: load_cell("x")) == f"unknown cell 'x': available {cells}"
    assert refused(lambda: load_backend("coffee")) == "unknown backend 'coffee': did you mean caffe?"
    assert refused(lambda: load_cell("lsmt")) == "unknown cell 'lsmt': did you mean lstm?"


def test_a_name_taken_twice(install: Install) -> None:
    install("clash_plugin", "lstm = caffe = None", "[lstmc.cells]\nlstm = clash_plugin:lstm\n")
    expected = (
        "cell lstm is offered by clash_plugin (clash_plugin:lstm) and by lstmc (lstmc.cells.lstm:lstm):"
        " uninstall all but one of them"
    )
    assert "lstm" in find_cells()
    assert refused(lambda: load_cell("lstm")) == expected
    assert load_cell("rnn").name == "rnn"
    assert isinstance(load_backend("caffe"), CaffeBackend)  # another group


def test_the_same_entry_point_seen_twice_is_no_clash(install: Install) -> None:
    install("again_plugin", "", "[lstmc.cells]\nlstm = lstmc.cells.lstm:lstm\n")
    assert load_cell("lstm").name == "lstm"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("made = 1", "AttributeError: module 'broken_plugin' has no attribute 'Made'"),
        ("Made = None", "TypeError: 'NoneType' object is not callable"),
        ("def Made():\n    raise OSError('no licence')", "OSError: no licence"),
    ],
)
def test_a_backend_that_does_not_load(
    install: Install, monkeypatch: pytest.MonkeyPatch, source: str, text: str
) -> None:
    install("broken_plugin", source, "[lstmc.backends]\nbroken = broken_plugin:Made\n")
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)  # the one of the case before
    assert refused(lambda: load_backend("broken")) == (
        f"backend broken of broken_plugin (broken_plugin:Made) does not load: {text}."
        " Fix broken_plugin, or uninstall it"
    )
    assert isinstance(load_backend("caffe"), CaffeBackend)  # the others still do


def test_a_backend_that_is_not_whole(install: Install) -> None:
    source = """
        from lstmc.backend import Backend

        class Half(Backend):
            name, summary, targets = "half", "", {}

            def passes(self, target):
                return ()

        class Whole(Half):
            def emit(self, compiled, weights):
                raise NotImplementedError
        """
    install("half_plugin", source, "[lstmc.backends]\nhalf = half_plugin:Half\nwhole = half_plugin:Whole\n")
    said = refused(lambda: load_backend("half"))
    assert said.startswith("backend half of half_plugin (half_plugin:Half) does not load: TypeError: Can't instantiate")
    assert "emit" in said
    assert refused(lambda: load_backend("whole")) == (
        "backend whole of half_plugin (half_plugin:Whole): expected ops to be a tuple of classes of ops,"
        " lstmc.ops.Input among them, found None. Fix half_plugin, or uninstall it"
    )


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (
            'targets = ("text",)',
            "targets to be a dict from each target's name to its purpose, the default first, found ('text',)",
        ),
        ("ops = ()", "ops to be a tuple of classes of ops, lstmc.ops.Input among them, found ()"),
        ("ops = frozenset()", "ops to be a tuple of classes of ops, lstmc.ops.Input among them, found frozenset()"),
        ("summary = None", "summary to be a text, found None"),
    ],
)
def test_a_member_of_another_type(install: Install, member: str, expected: str) -> None:
    source = f"from lstmc_plugin_example.backend import TextBackend\nclass Odd(TextBackend):\n    {member}\n"
    module = f"odd_{member.split(maxsplit=1)[0]}_{len(member)}"
    install(module, source, f"[lstmc.backends]\nodd = {module}:Odd\n")
    fault = f"backend odd of {module} ({module}:Odd): expected {expected}. Fix {module}, or uninstall it"
    assert refused(lambda: load_backend("odd")) == fault
    listed = list(targets())
    assert [target.fault for target in listed if target.backend == "odd"] == [fault]
    assert "flat" in [target.name for target in listed]  # all else keeps working


NET = Path("net")
REFUSED: dict[str, Callable[[Any], object]] = {
    "does not check nets: it has no lint": lambda b: b.lint(NET, "text"),
    "does not list layers: it has no layers": lambda b: b.layers(b""),
    "does not measure forms of a net: it has no forms, seconds, build": lambda b: b.seconds({}),
    "does not write programs that run its nets: it has no example": lambda b: b.example(None, None, "c"),
    "does not run nets in other programs: it has no readers, reader": lambda b: b.reader("opencv"),
    "does not have its nets quantised by other programs: it has no interpreter": lambda b: b.interpreter("mnn"),
    "does not train: it has no training_targets, settings, train, build": lambda b: b.settings(None, ()),
    "does not write what trains a net without lstmc: it has no emit_training": lambda b: b.emit_training(
        None, None, None
    ),
    "does not train by several processes: it has no ranks": lambda b: b.ranks(2, False),
    "does not run nets: it has no opened": lambda b: b.opened(NET, None, False),
    "does not read weights back: it has no weights_suffix, read_weights": lambda b: b.read_weights(NET, NET),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_backend_need_not_do_is_an_error_that_names_what_it_lacks(text: str) -> None:
    assert refused(lambda: REFUSED[text](TextBackend()), BackendError) == f"backend text {text}"


def test_an_error_names_no_member_that_the_backend_has() -> None:
    said = "backend torch does not measure forms of a net: it has no forms, seconds"
    assert refused(lambda: lstmc.compile("rnn", T=2, N=1, D=3, H=3, target="torch", tuned=True), BackendError) == said


def test_what_a_backend_need_not_say_has_a_value() -> None:
    least = TextBackend()
    net = lstmc.compile("rnn", T=2, N=1, D=3, H=3, backend=least)
    assert (least.options, least.one_step, least.readers, least.training_targets) == ({}, False, (), ())
    assert least.with_options({}) is least
    assert (least.forms("text"), least.executors(), least.explain(net.graph), least.built(net.files)) == (
        {},
        (),
        "",
        {},
    )
    assert (least.price("text"), least.parts("net", b""), least.open_dims(net.compiled)) == (None, None, ())
    (finding,) = least.doctor()
    assert (finding.subject, finding.found, finding.detail) == ("backend text", True, least.summary)
    assert not offers(least, "ranks")
    assert offers(CaffeBackend(), "ranks")


def test_a_backend_that_is_no_subclass(install: Install) -> None:
    install("loose_plugin", "class Loose:\n    name = 'loose'\n", "[lstmc.backends]\nloose = loose_plugin:Loose\n")
    said = refused(lambda: load_backend("loose"))
    assert said.startswith(
        "backend loose of loose_plugin (loose_plugin:Loose): expected a subclass of lstmc.backend.Backend, found"
    )
    with pytest.raises(
        PluginError, match=r"^PluginError: expected a backend's name or a subclass of lstmc.backend.Backend"
    ):
        lstmc.compile("rnn", T=2, N=1, D=3, H=3, backend=object())  # type: ignore[arg-type]


def test_a_cell_that_is_no_cell(install: Install) -> None:
    install("plain_plugin", "plain = 3", "[lstmc.cells]\nplain = plain_plugin:plain\n")
    assert refused(lambda: load_cell("plain")) == (
        "cell plain of plain_plugin (plain_plugin:plain): expected a function made with @cell, found 3."
        " Fix plain_plugin, or uninstall it"
    )


def test_the_first_target_is_the_default() -> None:
    backend = CaffeBackend()
    assert target_of(backend, None) == "caffe"
    assert target_of(backend, "caffe") == "caffe"
    others = ", ".join(target for name in find_backends() if name != "caffe" for target in load_backend(name).targets)
    expected = f"backend caffe has no target tpu: found {', '.join(backend.targets)}; of other backends {others}"
    assert refused(lambda: target_of(backend, "tpu")) == expected
    assert {"c", "onnx", "torch"} <= {*others.split(", ")}
