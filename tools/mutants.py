"""Mutants of the compiler: one operator or number changed, and whether a test fails then.

    python -m tools.mutants --count 60 --seed 1

Each mutant is tried in a clone of the last commit: by the tests of its folder, then by all that need no Caffe and are
not slow.
Prints the survivors, as ``file:line old => new``, and exits with 1 if there are any. The mutants in
``tools/equal_mutants.txt`` are not tried: they change no result.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EQUAL = ROOT / "tools" / "equal_mutants.txt"
FOLDERS = {  # of sources, and of the tests that are tried first
    "lstmc/passes": "tests/passes",
    "lstmc/patterns": "tests/patterns",
    "backends/lstmc_caffe/legalize": "tests/backends/lstmc_caffe/legalize",
    "backends/lstmc_caffe/rows": "tests/backends/lstmc_caffe/rows",
}
QUICK = "not caffe and not gpu and not slow and not network and not ranks and not exhaustive"
SECONDS = 900  # of one set of tests; a mutant that is slower hangs, and so is killed
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
    """One changed expression of a file; ``start`` and ``end`` are offsets in its source, ``text`` is its line."""

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str
    text: str

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
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    raw, lines = source.encode(), source.splitlines()

    def offset(line: int, column: int) -> int:
        return len(raw[: starts[line - 1] + column].decode())

    for node in _expressions(ast.parse(source)):
        for changed in _changed(node):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
            yield Mutant(
                path,
                node.lineno,
                start,
                end,
                source[start:end],
                f"({ast.unparse(changed)})",
                lines[node.lineno - 1].strip(),
            )


def _expressions(tree: ast.AST) -> Iterator[ast.expr]:
    """Return the expressions that are computed: no annotations, no type aliases of a module."""
    for name, value in ast.iter_fields(tree):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            if isinstance(tree, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
                continue
            if isinstance(child, ast.expr):
                yield child
            yield from _expressions(child)


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    changed = deepcopy(node)
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


def all_mutants(root: Path, folders: Sequence[str]) -> list[Mutant]:
    found: list[Mutant] = []
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        found += mutants(path.relative_to(root).as_posix(), path.read_text())
    return found


def killed(clone: Path, mutant: Mutant, tests: Sequence[Sequence[str]]) -> bool:
    """Return whether one of the sets of tests fails, with the mutant in place of the expression."""
    path = clone / mutant.path
    source = path.read_text()
    path.write_text(mutant.applied(source))
    try:
        return any(not passes(clone, each) for each in tests)
    finally:
        path.write_text(source)


def passes(clone: Path, tests: Sequence[str]) -> bool:
    """Return whether the tests of a clone pass, there in place of those that are installed."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", "-m", QUICK, "--hypothesis-profile=quick"]
    path = {"PYTHONPATH": os.pathsep.join([str(clone), str(clone / "backends")]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *tests]
    try:
        ended = subprocess.run(command, cwd=clone, env={**os.environ, **path}, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="how many mutants are tried (60)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--near", action="store_true", help="by the tests of the folder alone")
    parser.add_argument(
        "folders", nargs="*", default=list(FOLDERS), help="folders of sources, of " + ", ".join(FOLDERS)
    )
    given = parser.parse_args()
    equal = set(EQUAL.read_text().splitlines())
    with tempfile.TemporaryDirectory(prefix="lstmc-mutants-") as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "-q", "--local", ROOT, clone], check=True)
        known = [mutant for mutant in all_mutants(clone, given.folders) if mutant.key not in equal]
        chosen = random.Random(given.seed).sample(known, min(given.count, len(known)))
        for near in {FOLDERS[folder] for folder in given.folders}:
            if not passes(clone, [near]):
                sys.exit(f"the tests in {near} fail without a mutant")
        survivors = []
        for number, mutant in enumerate(chosen, 1):
            near = next(tests for folder, tests in FOLDERS.items() if mutant.path.startswith(folder))
            if not killed(clone, mutant, [[near]] if given.near else [[near], ["tests"]]):
                survivors.append(mutant)
                print(mutant, flush=True)
            print(f"{number} of {len(chosen)}, {len(survivors)} survived", file=sys.stderr, flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed, of {len(known)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
