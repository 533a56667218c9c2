"""Mutants of the compiler: one operator or number changed, and whether a test fails then.

    python -m tools.mutants --count 60 --seed 1 lstmc/passes headers

In a clone of the last commit the tests run once, and what lines each of them reaches is recorded (``--keep FOLDER``
keeps that for further runs). Each mutant is then tried by the tests that reach its line, the nearest first; one of a
header or a template by the tests of its group.
Prints the survivors, as ``file:line old => new``, and exits with 1 if there are any. The mutants in
``tools/equal_mutants.txt`` are not tried: they change no result.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.reached import Reached

ROOT = Path(__file__).parents[1]
EQUAL = ROOT / "tools" / "equal_mutants.txt"


@dataclass(frozen=True)
class Group:
    """Sources that are changed, as patterns of paths, and the tests that are near them."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS = {
    "lstmc/passes": Group(("lstmc/passes/*.py",), ("tests/passes",)),
    "lstmc/patterns": Group(("lstmc/patterns/*.py",), ("tests/patterns",)),
    "lstmc/dsl": Group(("lstmc/dsl/*.py",), ("tests/dsl",)),
    "lstmc/importers": Group(("lstmc/importers/**/*.py",), ("tests/importers",)),
    "lstmc/loops": Group(("lstmc/loops/*.py",), ("tests/loops",)),
    "legalize": Group(("backends/lstmc_caffe/legalize/*.py",), ("tests/backends/lstmc_caffe/legalize",)),
    "rows": Group(("backends/lstmc_caffe/rows/*.py",), ("tests/backends/lstmc_caffe/rows",)),
    "headers": Group(
        (
            *(f"lstmc/loops/{name}.h" for name in ("elements", "low_precision", "panels", "products", "vectors", "w*")),
            *(f"lstmc/loops/{name}" for name in ("cpu.j2", "layer.j2", "layers.j2", "native.cpp")),
        ),
        (
            *(f"tests/loops/test_{name}.py" for name in ("products", "low_precision", "native", "large_states")),
            "tests/backends/lstmc_caffe/install/test_layer_compiler.py",
            "tests/backends/lstmc_caffe/fused",
        ),
    ),
    "hosts of loops": Group(
        (
            "lstmc/loops/layer.h",
            "backends/lstmc_caffe/install/caffe_layer.cpp",
            "backends/lstmc_torch/operator.cpp.j2",
        ),
        ("tests/backends/lstmc_caffe/fused", "tests/backends/lstmc_torch/test_modules.py"),
    ),
    "headers of C": Group(("backends/lstmc_c/*.h", "backends/lstmc_c/*.c.j2"), ("tests/backends/lstmc_c",)),
    "headers of CUDA": Group(
        ("lstmc/loops/gpu.j2", "lstmc/loops/gpu_functions.h"),
        (
            "tests/loops/test_native_gpu.py",
            "tests/on_demand/fuzz/test_sanitized.py",
            "tests/backends/lstmc_caffe/runtime/test_gpu.py",
        ),
    ),
}
TESTS = "not network and not ranks and not exhaustive and not cuda and not walk and not faults"
QUICK = f"{TESTS} and not caffe and not gpu and not slow"
COMPILED = TESTS.replace("not cuda and not walk and ", "")  # of headers also those of make gpu and make walk
SECONDS = 60.0  # of tests that try one mutant, as they took before
FIRST = 4.0  # of those in the nearest file, which run before others are collected
HANGS = 30.0  # seconds of CPU more than three times those, and ten times as many at all: what takes longer is killed
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


@dataclass(frozen=True)
class Mutant:
    """One changed expression of a file: ``start`` and ``end`` are offsets in its source, ``text`` is its line, and
    ``lines`` are those of its statement."""

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str
    text: str
    lines: range = range(0)

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {' '.join(self.old.split())} => {self.new}"

    @property
    def key(self) -> str:
        """What the list of equal mutants has: the line's text, since its number changes."""
        return f"{self.path} {' '.join(self.old.split())} => {self.new} in {self.text}"

    def applied(self, source: str) -> str:
        return source[: self.start] + self.new + source[self.end :]


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Return every mutant of a file: another comparison or operator, a condition without its not, a number plus 1."""
    yield from _of_python(path, source) if path.endswith(".py") else _of_text(path, source)


def _of_python(path: str, source: str) -> Iterator[Mutant]:
    lines = source.encode().splitlines(keepends=True)
    starts = [*itertools.accumulate((len(line.decode()) for line in lines), initial=0)]

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1][:column].decode())

    for node, statement in _expressions(ast.parse(source)):
        for changed in _changed(node):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
            text = lines[node.lineno - 1].decode().strip()
            new = f"({ast.unparse(changed)})"
            yield Mutant(path, node.lineno, start, end, source[start:end], new, text, statement)


def _expressions(tree: ast.AST, statement: range = range(0)) -> Iterator[tuple[ast.expr, range]]:
    """Return the expressions that are computed, no annotations, type aliases of a module nor ``strict=``, with the
    lines of their statement: of a function's defaults those of its body."""
    for name, value in ast.iter_fields(tree):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            if isinstance(tree, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":  # of zip: an assertion
                continue
            lines = statement
            if isinstance(child, ast.stmt):
                function = isinstance(child, ast.FunctionDef) and child.body[0].lineno > child.lineno
                body = getattr(child, "body", None)
                first = child.body[0].lineno if function else child.lineno  # type: ignore[attr-defined]
                last = child.end_lineno if function or not body else body[0].lineno - 1
                lines = range(first, max(first, last or first) + 1)
            if isinstance(child, ast.expr):
                yield child, lines
            yield from _expressions(child, lines)


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    changed = copy(node)
    match changed:
        case ast.Compare(ops=[op]) if type(op) in OPERATORS:
            changed.ops = [OPERATORS[type(op)]()]  # type: ignore[list-item]
            yield changed
        case ast.BoolOp(op=op):
            changed.op = OPERATORS[type(op)]()  # type: ignore[assignment]
            yield changed
        case ast.BinOp(op=op, left=left) if type(op) in OPERATORS and not isinstance(left, ast.Tuple | ast.JoinedStr):
            changed.op = OPERATORS[type(op)]()  # type: ignore[assignment]
            yield changed
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)


# In C++ binary operators have spaces around them, which templates and pointers have not.
C_OPERATORS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-", "-": "+",
    "*": "+", "+=": "-=", "-=": "+=",
}  # fmt: skip
C_TOKENS = re.compile(
    r"(?P<skip>//[^\n]*|__builtin_prefetch[^\n]*"
    r"|/\*.*?\*/|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|\"(?:\\.|[^\"\n])*\"|^[ \t]*#[^\n]*)"
    r"|(?<= )(?P<operator>" + "|".join(map(re.escape, sorted(C_OPERATORS, key=len, reverse=True))) + r")(?= )"
    r"|(?P<number>(?<![\w.\[])\d+(?![\w.]))",
    re.DOTALL | re.MULTILINE,
)


def _of_text(path: str, source: str) -> Iterator[Mutant]:
    """Return the mutants of C++, also in a template: comments, directives, prefetches, which compute nothing, and what
    Jinja fills in stay as they are."""
    for token in C_TOKENS.finditer(source):
        if token["skip"] is None:
            line = source.count("\n", 0, token.start())
            new = C_OPERATORS[token["operator"]] if token["operator"] else str(int(token["number"]) + 1)
            text = source.splitlines()[line].strip()
            yield Mutant(path, line + 1, token.start(), token.end(), token[0], new, text)


def all_mutants(root: Path, groups: Sequence[str]) -> list[Mutant]:
    paths = {path for group in groups for pattern in GROUPS[group].sources for path in root.glob(pattern)}
    return [
        mutant
        for path in sorted(paths)
        for mutant in mutants(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    ]


def equal_mutants() -> set[str]:
    """Return the keys of the list of equal mutants; its other lines, with ``#``, are reasons."""
    return {line for line in EQUAL.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}


class Judge:
    """The tests of a clone: what of them a mutant fails."""

    def __init__(self, clone: Path, near: Sequence[str], reached: Reached, marks: str = QUICK) -> None:
        self.clone, self.near, self.reached, self.marks = clone, near, reached, marks
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that try a mutant: those that reach it, near ones first and quick ones first, for a time."""
        if not mutant.path.endswith(".py"):
            return list(self.near)
        found = self.reached.tests(self.clone / mutant.path, mutant.lines)
        own = f"test_{Path(mutant.path).stem}.py"
        seconds = self.reached.seconds

        def order(test: str) -> tuple[bool, bool, float]:
            return own not in test, not test.startswith(tuple(self.near)), seconds[test]

        chosen, total = [], 0.0
        for test in sorted(found, key=order):
            total += seconds[test]
            if total <= SECONDS:
                chosen.append(test)
        return chosen or list(self.near)

    def killed(self, mutant: Mutant) -> bool:
        """Return whether a test fails with the mutant in place of the expression."""
        path = self.clone / mutant.path
        source, times = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(mutant.applied(source), encoding="utf-8")
        try:
            tests, marks = self.tests(mutant), self.marks if mutant.path.endswith(".py") else COMPILED
            return not self.passes(self.stages(tests), HANGS + 3 * self.seconds(tests), marks)
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # so that its bytecode is that of the source

    def stages(self, tests: Sequence[str]) -> list[list[str]]:
        """Return the quick tests of the nearest file, which most mutants fail, and the others: collected if need be."""
        near = [test for test in tests if test.partition("::")[0] == tests[0].partition("::")[0]]
        first = [test for place, test in enumerate(near, 1) if self.seconds(near[:place]) <= FIRST]
        others = [test for test in tests if test not in first]
        return [stage for stage in (first, others) if stage]

    def seconds(self, tests: Sequence[str]) -> float:
        """Return how long the tests took before; of a header's, which are files, the most."""
        return sum(self.reached.seconds.get(test, 10 * SECONDS) for test in tests)

    def passes(self, stages: Sequence[Sequence[str]], seconds: float, marks: str) -> bool:
        """Return whether tests pass in the clone within some seconds of CPU. Raises where pytest did not run."""
        process = self.context.Process(target=_run, args=(self.clone, stages, marks, int(seconds)))
        process.start()
        process.join(10 * seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)  # and what it has started
        process.join()
        assert process.exitcode is not None
        assert process.exitcode < 0 or process.exitcode in PASSED | FAILED, "pytest did not run"
        return process.exitcode in PASSED


PRELOADED = ["numpy", "networkx", "torch", "onnx", "scipy.special", "jinja2", "google.protobuf.text_format", "pytest"]
OPTIONS = ["-q", "-p", "no:cacheprovider", "-n", "0", "--hypothesis-profile=quick", "--hypothesis-seed=1"]


RAN = 10  # is added to the exit status of pytest: that of a process which fails by itself is 1 too
PASSED = {RAN + pytest.ExitCode.OK}
FAILED = {
    RAN + each for each in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
}


def limit_cpu(seconds: int) -> None:
    """End this process after some seconds of CPU, or earlier where its user has fewer."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard == resource.RLIM_INFINITY else min(seconds, hard), hard))


def _run(clone: Path, stages: Sequence[Sequence[str]], marks: str, seconds: int) -> None:
    """Run tests of a clone, one stage after another, in this process, which ends with the last exit status."""
    os.setsid()
    limit_cpu(seconds)
    os.chdir(clone)
    sys.path[:0] = packages = [str(clone), str(clone / "backends")]
    os.environ |= {"PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    status: int = pytest.ExitCode.OK
    while stages and status == pytest.ExitCode.OK:
        tests, *stages = stages
        status = pytest.main([*OPTIONS, "-x", *tests, "-m", marks])
    sys.exit(RAN + int(status))


def reach(clone: Path, file: Path, tests: Sequence[str], marks: str) -> Reached:
    """Run the tests in the clone once, and record in a file what they reach; exits where one fails."""
    sources = [clone / "lstmc", *(clone / "backends").iterdir()]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(clone), str(clone / "backends")]),
        "LSTMC_REACHED": str(file),
        "LSTMC_SOURCES": os.pathsep.join(map(str, sources)),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-p", "tools.reached", "-m", marks, *tests]
    if subprocess.run(command, cwd=clone, env=env, check=False).returncode:
        file.unlink(missing_ok=True)
        sys.exit("tests fail without a mutant")
    return Reached(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="how many mutants of each group are tried (60)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--near", action="store_true", help="by the tests of their groups alone")
    parser.add_argument("--slow", action="store_true", help="also by the tests of make test that make quick leaves out")
    parser.add_argument("--keep", type=Path, help="where the clone and what its tests reach stay for further runs")
    parser.add_argument("groups", nargs="*", default=list(GROUPS), help=f"some of {', '.join(GROUPS)} (all)")
    given = parser.parse_args()
    equal = equal_mutants()
    near = [test for group in given.groups for test in GROUPS[group].tests]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="lstmc-mutants-") as folder:
        kept = (given.keep or Path(folder)).resolve()
        clone, file = kept / "clone", kept / "reached"
        if not clone.exists():
            subprocess.run(["git", "clone", "-q", "--local", ROOT, clone], check=True)
        marks = TESTS if given.slow else QUICK
        reached = Reached(file) if file.exists() else reach(clone, file, near if given.near else ["tests"], marks)
        for group in given.groups:
            judge = Judge(clone, GROUPS[group].tests, reached, marks)
            known = [mutant for mutant in all_mutants(clone, [group]) if mutant.key not in equal]
            chosen = random.Random(given.seed).sample(known, min(given.count, len(known)))
            killed = 0
            for mutant in chosen:
                if judge.killed(mutant):
                    killed += 1
                else:
                    print(mutant, flush=True)
            print(f"{group}: {killed} of {len(chosen)} mutants killed, of {len(known)}", flush=True)
            survivors += len(chosen) - killed
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
