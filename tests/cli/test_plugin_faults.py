"""A plug-in that does not import, clashes or is malformed is named, with what to do; everything else goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from lstmc.api.installed import findings
from lstmc.backend import Finding, find_backends, find_cells, load_backend, load_cell, plugin_faults
from lstmc.dsl import CellModel
from lstmc.errors import BackendError, PluginError
from lstmc.ir import parse_graph
from lstmc.ops.base import load_dialect
from lstmc.pipeline import compile_graph
from lstmc.plugins import recorded_targets
from lstmc_caffe.legalize.rules import rules
from lstmc_caffe.targets.target import target_faults
from tests.cli.conftest import LSTMC
from tests.conftest import Install

OPS = """
from dataclasses import dataclass
from lstmc.ops import Op, Pointwise, Tanh

@dataclass(frozen=True)
class Cube(Pointwise):
    "y = x ** 3."
    name = "DIALECT.cube"
    def f(self, x):
        return x ** 3
    def df(self, y, x):
        return 3 * x ** 2
"""


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PluginError) as caught:
        call()
    return caught.value.message


def compiled_in_caffe(cell: str) -> int:
    return len(compile_graph(CellModel(load_cell(cell)).graph(T=2, N=2, D=3, H=4), load_backend("caffe")).expanded)


def dialect(install: Install, name: str, source: str, value: str = "") -> Callable[[], object]:
    install(name, OPS.replace("DIALECT", name) + dedent(source), f"[lstmc.dialects]\n{name} = {value or name}\n")
    return lambda: load_dialect(name)


MENDED = "Fix {0}, or uninstall it"


def test_a_dialect_is_found_and_its_ops_are_read(install: Install) -> None:
    dialect(install, "shop_a", "")()
    (x, y) = parse_graph("graph g {\n  %x: f32[2] = input()\n  %y: f32[2] = shop_a.cube(%x)\n  return y=%y\n}\n")
    assert (x.op.name, y.op.name) == ("input", "shop_a.cube")


@pytest.mark.parametrize(
    ("name", "source", "value", "fault"),
    [
        ("shop_b", "import no_such", "", " does not load: ModuleNotFoundError: No module named 'no_such'."),
        ("shop_c", "", "shop_c:Cube", ": expected the name of a module that ops are defined in, found CLASS."),
        (
            "shop_d",
            'Cube.name = "cube"',
            "",
            ": expected ops whose names begin with shop_d., found Cube called cube.",
        ),
        (
            "shop_e",
            """
            @dataclass(frozen=True)
            class Half(Op):
                name = "shop_e.half"
                operands = ("x",)
                def infer(self, x):
                    return (x,)
            """,
            "",
            ": expected that Half defines eval, sample, vjp, found none of that name.",
        ),
        (
            "shop_f",
            """
            class Loud(Tanh):
                name = "shop_f.loud"
            """,
            "",
            ": expected @dataclass(frozen=True) above class Loud, found none.",
        ),
        (
            "shop_g",
            """
            @dataclass(frozen=True)
            class Again(Tanh):
                name = "shop_g.cube"
            """,
            "",
            ": expected one op called shop_g.cube, found Again, Cube.",
        ),
    ],
)
def test_a_dialect_that_is_not_whole(install: Install, name: str, source: str, value: str, fault: str) -> None:
    load = dialect(install, name, source, value)
    said = refused(load)
    value = value or name
    expected = f"dialect {name} of {name} ({value}){fault} {MENDED.format(name)}"
    assert said == expected.replace("CLASS", f"<class '{name}.Cube'>")
    # everything else goes on: the core's text, a model that is compiled, the list of what is wrong
    assert len(list(parse_graph("graph g {\n  %x: f32[2] = input()\n  return x=%x\n}\n"))) == 1
    assert compiled_in_caffe("rnn") > 0
    assert list(plugin_faults()) == [Finding(f"dialect {name}", False, said, faulty=True)]


def test_a_dialect_that_two_packages_offer(install: Install) -> None:
    for name in ("shop_h", "shop_i"):
        install(name, OPS.replace("DIALECT", "shop"), f"[lstmc.dialects]\nshop = {name}\n")
    expected = "dialect shop is offered by shop_i (shop_i) and by shop_h (shop_h): uninstall all but one of them"
    assert refused(lambda: load_dialect("shop")) == expected
    assert compiled_in_caffe("rnn") > 0


RULES = """
from lstmc.ops import Tanh
from lstmc_caffe.legalize.rules import layer_rules
"""


@pytest.mark.parametrize(
    ("name", "source", "value", "fault"),
    [
        ("rules_a", "1 / 0", "", " does not load: ZeroDivisionError: division by zero."),
        ("rules_b", "", "", ": expected a table RULES from ops to rules in the module, found None."),
        ("rules_c", "RULES = []", "", ": expected a table RULES from ops to rules in the module, found []."),
        (
            "rules_d",
            "RULES = {'tanh': print}",
            "",
            ": expected a class of ops and a function in each entry of RULES, found 'tanh': <built-in function print>.",
        ),
        (
            "rules_e",
            "RULES = {Tanh: print}",
            "",
            ": expected ops that have no rule yet, found tanh: see lstmc (lstmc_caffe.legalize.layers).",
        ),
        ("rules_f", "", "rules_f:Tanh", ": expected the name of a module with a table RULES, found CLASS."),
    ],
)
def test_rules_that_are_none(install: Install, name: str, source: str, value: str, fault: str) -> None:
    value = value or name
    install(name, RULES + source, f"[lstmc_caffe.rules]\n{name} = {value}\n")
    expected = f"rules {name} of {name} ({value}){fault} {MENDED.format(name)}"
    expected = expected.replace("CLASS", "<class 'lstmc.ops.pointwise.Tanh'>")
    assert dict(rules().faults) == {f"{name} of {name}": expected}
    assert compiled_in_caffe("rnn") > 0


def test_an_op_without_a_rule_says_which_rules_are_missing(install: Install) -> None:
    dialect(install, "shop_j", "")()
    install("rules_j", "import no_such_j", "[lstmc_caffe.rules]\nrules_j = rules_j\n")
    graph = parse_graph("graph g {\n  %x: f32[2,3] = input()\n  %y: f32[2,3] = shop_j.cube(%x)\n  return y=%y\n}\n")
    with pytest.raises(BackendError) as caught:
        compile_graph(graph, load_backend("caffe"))
    assert str(caught.value).splitlines()[:2] == [
        "BackendError: Caffe has no layer for shop_j.cube: a package can bring a rule by an entry point in"
        " lstmc_caffe.rules (see docs/packages.md); lstmc doctor -v lists what packages add",
        "  rules rules_j of rules_j (rules_j) does not load: ModuleNotFoundError: No module named 'no_such_j'."
        " Fix rules_j, or uninstall it",
    ]


@pytest.mark.parametrize(
    ("number", "leaf", "body", "problem"),
    [
        (1, "input()", "1 / 0", "failed on shop_k1.cube (ZeroDivisionError: division by zero)"),
        (
            2,
            "input()",
            "return b.add(caffe.PowerLayer(3.0), *args)[0]",
            "must return a tuple of the values that stand for the results of shop_k2.cube, f32[2,3]: found"
            " Ref(node='power', out=0)",
        ),
        (
            3,
            "input()",
            "return b.add(caffe.SliceLayer(0, (1, 1)), *args)",
            "must return a tuple of the values that stand for the results of shop_k3.cube, f32[2,3]: found"
            " f32[1,3], f32[1,3]",
        ),
        (
            4,
            "param()",
            "return b.add(caffe.PowerLayer(3.0), *args)",
            "makes a layer Power that reads %x, a parameter, which no layer writes: expected values, as"
            " lstmc_caffe.legalize.blobs.as_value and layer_of make them",
        ),
    ],
)
def test_a_rule_that_is_wrong_is_named(install: Install, number: int, leaf: str, body: str, problem: str) -> None:
    op, rules_k = f"shop_k{number}", f"rules_k{number}"
    dialect(install, op, "")()
    source = (
        f"from {op} import Cube\nfrom lstmc_caffe import ops as caffe\n"
        f"def cube_to_layer(b, node, args):\n    {body}\nRULES = {{Cube: cube_to_layer}}\n"
    )
    install(rules_k, source, f"[lstmc_caffe.rules]\n{rules_k} = {rules_k}\n")
    graph = parse_graph(
        f"graph g {{\n  %x: f32[2,3] = {leaf}\n  %z: f32[2,3] = input()\n  %y: f32[2,3] = {op}.cube(%x)\n"
        "  return y=%y, z=%z\n}\n"
    )
    with pytest.raises(BackendError) as caught:
        compile_graph(graph, load_backend("caffe"))
    assert caught.value.message == f"rule cube_to_layer of {rules_k} {problem}"


def test_targets_are_listed_from_a_record_where_no_package_adds_to_them(install: Install, lstmc: LSTMC) -> None:
    """``make docs`` writes the record: to import all backends takes longer than to list their targets."""
    loaded = {name: dict(load_backend(name).targets) for name in find_backends()}
    assert recorded_targets() == loaded
    assert list(recorded_targets() or ()) == list(loaded)
    before = json.loads(lstmc("targets", "--json").out)["targets"]
    install("targets_g", "PATH = 'no/such.toml'", "[lstmc_caffe.targets]\nmine = targets_g:PATH\n")
    assert recorded_targets() is None
    after = json.loads(lstmc("targets", "--json").out)["targets"]
    assert [each for each in after if each["target"] != "mine"] == before
    assert len(after) == len(before) + 1


def test_targets_that_cannot_be_used(install: Install) -> None:
    for name in ("targets_a", "targets_b"):
        install(name, "PATH = 'x.toml'", f"[lstmc_caffe.targets]\nboth = {name}:PATH\n")
    install("targets_c", "PATH = 3", "[lstmc_caffe.targets]\nthree = targets_c:PATH\n")
    install("targets_d", "PATH = 'no/such.toml'", "[lstmc_caffe.targets]\nabsent = targets_d:PATH\n")
    install("targets_e", "PATH = ''", "[lstmc_caffe.targets]\nflat = targets_e:PATH\n")
    install("targets_f", "1 / 0", "[lstmc_caffe.targets]\nbroken = targets_f:PATH\n")
    assert dict(target_faults()) == {
        "absent": "target absent of targets_d (no/such.toml): no such file",
        "both": "target both is offered by targets_b (targets_b:PATH) and by targets_a (targets_a:PATH):"
        " uninstall all but one of them",
        "broken": "target broken of targets_f (targets_f:PATH) does not load: ZeroDivisionError: division by zero."
        " Fix targets_f, or uninstall it",
        "flat": "target flat of targets_e (targets_e:PATH) is not used: lstmc has one of that name. Give it another",
        "three": "target three of targets_c (targets_c:PATH): expected the path of a TOML file, or a resource, found 3."
        " Fix targets_c, or uninstall it",
    }
    assert compiled_in_caffe("rnn") > 0


def test_doctor_lists_what_sound_packages_add(install: Install) -> None:
    install(
        "shop_m", "", "[lstmc.cells]\nelman = shop_m:elman\ncube = shop_m:cube\n[lstmc_onnx.lowerings]\nm = shop_m\n"
    )
    (finding,) = [each for each in findings() if each.subject == "shop_m"]
    assert (finding.found, finding.detail) == (True, "adds lstmc.cells: cube, elman; lstmc_onnx.lowerings: m")
    assert not [each for each in findings() if each.subject == "lstmc" and each.detail.startswith("adds")]


def test_a_pass_beside_one_of_no_list_is_no_sound_one_of_the_listing(install: Install, lstmc: LSTMC) -> None:
    source = (
        "from lstmc.passes import Dead, Insertion\n\nclass Mine(Dead):\n    name = 'mine'\n\n"
        "MINE = Insertion(Mine(), after='simplfy')\n"
    )
    install("passes_a", source, "[lstmc.passes]\nmine = passes_a:MINE\n")
    listed = json.loads(lstmc("targets", "--json").out)
    assert [row["what_it_does"] for row in listed["passes"]] == [
        "pass mine of passes_a (passes_a:MINE): expected a position in the pass list of some target, found"
        " after simplfy: did you mean simplify?. Fix passes_a, or uninstall it"
    ]


@pytest.mark.slow
def test_the_other_cells_are_listed(install: Install, lstmc: LSTMC) -> None:
    install("cells_a", "lstm = None", "[lstmc.cells]\nlstm = cells_a:lstm\n")
    install("cells_b", "import no_such_b", "[lstmc.cells]\nbroken = cells_b:broken\n")
    install("cells_c", "plain = 3", "[lstmc.cells]\nplain = cells_c:plain\n")
    assert {"lstm", "broken", "plain", "gru"} <= set(find_cells())
    clash = (
        "cell lstm is offered by cells_a (cells_a:lstm) and by lstmc (lstmc.cells.lstm:lstm):"
        " uninstall all but one of them"
    )
    assert refused(lambda: load_cell("lstm")) == clash
    assert {finding.subject: finding.detail for finding in plugin_faults()} == {
        "cell broken": "cell broken of cells_b (cells_b:broken) does not load: ModuleNotFoundError: No module named"
        " 'no_such_b'. Fix cells_b, or uninstall it",
        "cell lstm": clash,
        "cell plain": "cell plain of cells_c (cells_c:plain): expected a function made with @cell, found 3."
        " Fix cells_c, or uninstall it",
    }
    for command in ("cells", "doctor"):
        listing = lstmc(command)
        assert listing.code == (command == "doctor")
        said = " ".join(listing.out.replace("│", " ").split())
        for word in ("cells_a", "cells_b", "cells_c"):
            assert word in said
    assert "gru_reset_after" in lstmc("cells").out
    ended = lstmc("compile", "--cell", "gru", "-D", "T=2", "-D", "N=2", "-D", "D=3", "-D", "H=4", "-o", "out")
    assert (ended.code, ended.err) == (0, "")
    assert Path("out/gru.prototxt").exists()
