"""The mutants of a source, and whether tests kill them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutants import GROUPS, QUICK, ROOT, Judge, all_mutants, equal_mutants, mutants, reach

SOURCE = '''\
"""Not a mutant: 1 < 2."""
SIZES: tuple[int, ...] = (1, 2)


def largest(é: list[int], least: int = 0) -> int | None:
    if not é and least is None:
        return None
    return é[0] + 1 if é[0] > least else 3
'''


def test_mutants_of_a_source() -> None:
    found = list(mutants("m.py", SOURCE))
    assert [str(mutant) for mutant in found] == [
        "m.py:5 0 => (1)",
        "m.py:6 not é and least is None => (not é or least is None)",
        "m.py:6 not é => (é)",
        "m.py:6 least is None => (least is not None)",
        "m.py:8 é[0] > least => (é[0] >= least)",
        "m.py:8 0 => (1)",
        "m.py:8 é[0] + 1 => (é[0] - 1)",
        "m.py:8 0 => (1)",
        "m.py:8 1 => (2)",
        "m.py:8 3 => (4)",
    ]
    for mutant in found:
        changed = mutant.applied(SOURCE)
        compile(changed, "m.py", "exec")
        assert changed != SOURCE
        assert changed.count("\n") == SOURCE.count("\n")


C_SOURCE = """\
// not a < mutant
__builtin_prefetch(x + 1);
#define TWO 2
template <typename T> inline void add(int n, T* x) {
    for (int i = 0; i < n{{ 1 < 2 }}; ++i) x[i] += "1 + 1"[0] - 3;
}
"""


def test_mutants_of_a_header() -> None:
    found = list(mutants("m.h", C_SOURCE))
    assert [str(mutant) for mutant in found] == [
        "m.h:5 0 => 1",
        "m.h:5 < => <=",
        "m.h:5 += => -=",
        "m.h:5 - => +",
        "m.h:5 3 => 4",
    ]
    assert found[1].applied(C_SOURCE) == C_SOURCE.replace("i < n", "i <= n")


CONFTEST = "from hypothesis import settings\nsettings.register_profile('quick')\n"
TEST = """
from m import largest

def test_far():
    assert largest([4], 5) == 3

def test_one():
    assert largest([4]) == 5
"""


@pytest.mark.slow
def test_what_tests_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.mutants.PRELOADED", ["pytest"])
    clone = tmp_path / "clone"
    (clone / "lstmc").mkdir(parents=True)
    (clone / "backends").mkdir()
    shutil.copytree(ROOT / "tools", clone / "tools")
    (clone / "lstmc" / "m.py").write_text(SOURCE, encoding="utf-8")
    (clone / "conftest.py").write_text(CONFTEST + "import sys; sys.path.append('lstmc')\n", encoding="utf-8")
    (clone / "test_m.py").write_text(TEST, encoding="utf-8")
    reached = reach(clone, tmp_path / "reached", ["test_m.py"], QUICK)
    found = {mutant.new: mutant for mutant in mutants("lstmc/m.py", SOURCE)}
    judge = Judge(clone, ["test_m.py"], reached)
    assert {*judge.tests(found["(é[0] - 1)"])} == {"test_m.py::test_far", "test_m.py::test_one"}
    assert judge.killed(found["(é[0] - 1)"])
    assert not judge.killed(found["(least is not None)"])
    assert (clone / "lstmc" / "m.py").read_text(encoding="utf-8") == SOURCE


@pytest.mark.posix
def test_a_user_s_own_limit_of_cpu_is_kept() -> None:
    code = "from resource import *; from tools.mutants import limit_cpu; setrlimit(RLIMIT_CPU, (50, 50)); "
    code += "limit_cpu(60); print(getrlimit(RLIMIT_CPU))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "(50, 50)\n", ended.stderr


def test_every_group_has_mutants_and_tests_and_equal_mutants_are_of_expressions_that_there_are() -> None:
    found = {group: all_mutants(ROOT, [group]) for group in GROUPS}
    assert not [group for group, of_group in found.items() if len(of_group) <= 30]
    assert not [test for group in GROUPS.values() for test in group.tests if not (ROOT / test).exists()]
    assert equal_mutants() <= {mutant.key for of_group in found.values() for mutant in of_group}
