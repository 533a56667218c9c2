"""worker.py and what else runs there: they stay readable by Python 2.7, and the worker's pipe stays clean."""

from __future__ import annotations

import ast
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstmc_caffe.processes import process
from lstmc_caffe.processes.process import CaffeRequestError
from lstmc_caffe.runtime.runner import WORKER, Runner
from lstmc_caffe.worker import PROBE, TRAINING

# What Python 2.7 cannot parse.
NEWER = (
    ast.AnnAssign,
    ast.AsyncFor,
    ast.AsyncFunctionDef,
    ast.AsyncWith,
    ast.Await,
    ast.JoinedStr,
    ast.Match,
    ast.NamedExpr,
    ast.Nonlocal,
    ast.Starred,
    ast.TryStar,
    ast.YieldFrom,
)

FUNCTIONS = """
import os, sys, numpy

def echo(args, arrays):
    return args, arrays

def shout(args, arrays):
    print("print")
    sys.stdout.write("sys.stdout " * 1000)
    sys.stdout.flush()
    os.write(1, b"descriptor 1" * 1000)
    os.system("echo a child; cat")
    sys.stderr.write("x" * args["to_stderr"])
    return [sys.stdin.read(), os.environ["GLOG_minloglevel"]], {}

def fail(args, arrays):
    raise ValueError("no luck")

def leave(args, arrays):
    sys.exit(3)

def bare(args, arrays):
    return 5

def odd(args, arrays):
    return None, {"c": numpy.zeros(2, "c8")}

def unserializable(args, arrays):
    return object(), {}

def modules(args, arrays):
    return [name for name in ("locate", "runner", "protocol", "net") if _importable(name)], {}

def _importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("functions") / "functions.py"
    path.write_text(FUNCTIONS)
    return path


def newer_syntax(source: str) -> list[str]:
    """The constructs in a source that Python 2.7 has not, as LINE NAME."""
    tree = ast.parse(source)
    in_calls = {arg for node in ast.walk(tree) if isinstance(node, ast.Call) for arg in node.args}
    found = []
    for node in ast.walk(tree):
        newer = isinstance(node, NEWER) and node not in in_calls
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.args, node.args.vararg, node.args.kwarg]
            annotated = node.returns or any(arg and arg.annotation for arg in every)
            newer = bool(annotated or node.args.kwonlyargs or node.args.posonlyargs)
        if isinstance(node, ast.Raise):
            newer = node.cause is not None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
            newer = not node.args
        if isinstance(node, ast.Call) and sum(isinstance(arg, ast.Starred) for arg in node.args) > 1:
            newer = True
        if isinstance(node, ast.ClassDef):
            newer = bool(node.keywords)
        if newer:
            found.append(f"{getattr(node, 'lineno', 0)} {type(node).__name__}")
    return found


BESIDE = ("layer_library.py",)
ON_CAFFES_PYTHON = [WORKER, *(WORKER.with_name(name) for name in BESIDE), PROBE, TRAINING]


@pytest.mark.parametrize("path", ON_CAFFES_PYTHON, ids=lambda path: path.name)
def test_it_is_python_2_7(path: Path) -> None:
    assert newer_syntax(path.read_text(encoding="ascii")) == []


@pytest.mark.parametrize(
    "source",
    [
        "f'{x}'",
        "x: int = 1",
        "def f(a, *, b): pass",
        "def f(a: int): pass",
        "def f() -> int: pass",
        "def f():\n def g():\n  nonlocal x",
        "raise A from b",
        "class A(metaclass=B): pass",
        "super().f()",
        "[*a, *b]",
        "(x := 1)",
        "async def f(): pass",
    ],
)
def test_the_test_for_it_finds_newer_syntax(source: str) -> None:
    assert newer_syntax(source) != []


@pytest.mark.parametrize("path", ON_CAFFES_PYTHON, ids=lambda path: path.name)
def test_it_imports_nothing_of_lstmc(path: Path) -> None:
    tree = ast.parse(path.read_text())
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert plain <= set(sys.stdlib_module_names) | {"numpy", "caffe"}
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert froms <= {"caffe.proto", "google.protobuf", "mpi4py"}


def test_it_ends_when_its_stdin_closes_also_within_a_frame() -> None:
    for start in (b"", struct.pack(">I", 100)[:2]):
        ended = subprocess.run([sys.executable, WORKER], input=start, capture_output=True, timeout=20)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_request_that_does_not_exist_is_an_error_frame() -> None:
    frames = b"".join(process.encode({"request": "dance"}, {}))
    ended = subprocess.run([sys.executable, WORKER], input=frames, capture_output=True, timeout=20, check=True)
    reply = json.loads(ended.stdout[4:])
    assert (reply["kind"], reply["type"]) == ("error", "AttributeError")
    assert "on_dance" in reply["message"]


@pytest.mark.caffe
class TestCall:
    def test_arrays_come_back_as_they_went(self, caffe: Runner, functions: Path) -> None:
        arrays = {
            "float32": np.array([0.1, -0.0, np.inf, np.nan, 1e-45], "f4"),
            "float64": np.array(np.pi),
            "int32": np.arange(6, dtype="i4").reshape(2, 3).T,
            "int64": np.array([2**62]),
            "uint8": np.zeros((0, 3), "u1"),
            "bool": np.array([[True], [False]]),
        }
        args = {"text": "é", "list": [1, 2.5, None, True], "nested": {"a": {}}}
        result = caffe.call(functions, "echo", args, arrays)
        assert result.value == args
        assert list(result.arrays) == list(arrays)
        for name, array in arrays.items():
            back = result.arrays[name]
            assert (back.dtype, back.shape) == (array.dtype, array.shape)
            assert back.tobytes() == array.tobytes()

    def test_a_hundred_megabytes(self, caffe: Runner, functions: Path) -> None:
        big = np.arange(25_000_000, dtype="f4")
        assert np.array_equal(caffe.call(functions, "echo", None, {"big": big}).arrays["big"], big)

    def test_a_file_is_run_once_by_each_worker(self, caffe: Runner, tmp_path: Path) -> None:
        path = tmp_path / "counting.py"
        path.write_text("count = [0]\ndef counted(args, arrays):\n    count[0] += 1\n    return count[0], {}\n")
        assert [caffe.call(path, "counted").value for _ in range(3)] == [1, 2, 3]
        with Runner(caffe.location) as another:
            assert another.call(path, "counted").value == 1

    def test_a_file_that_failed_is_run_again(self, caffe: Runner, tmp_path: Path) -> None:
        path = tmp_path / "mended.py"
        path.write_text("def f(args, arrays):\n    return 1, {}\nraise ValueError('broken')")
        with pytest.raises(CaffeRequestError, match="ValueError: broken"):
            caffe.call(path, "f")
        path.write_text("def f(args, arrays):\n    return 2, {}\n")
        assert caffe.call(path, "f").value == 2

    def test_what_is_printed_does_not_reach_the_pipe(self, caffe: Runner, functions: Path) -> None:
        # More on stderr than a pipe holds: the worker must not wait for someone to read it.
        said = caffe.call(functions, "shout", {"to_stderr": 1_000_000})
        assert said.value == ["", "2"]
        assert caffe.call(functions, "echo", 1).value == 1

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("fail", "ValueError: no luck"),
            ("leave", "SystemExit: 3"),
            ("absent", "functions.py has no function absent"),
            ("bare", "bare: expected (JSON data, {name: array}), found 5"),
            ("unserializable", "TypeError: Object of type object is not JSON serializable"),
        ],
    )
    def test_exceptions_are_replies(self, caffe: Runner, functions: Path, name: str, message: str) -> None:
        pid = caffe.pid
        with pytest.raises(CaffeRequestError) as caught:
            caffe.call(functions, name)
        assert str(caught.value) == f"CaffeRequestError: cannot call {name} of functions.py: {message}"
        assert caffe.call(functions, "echo", "still there").value == "still there"
        assert caffe.pid == pid

    def test_an_array_of_another_type(self, caffe: Runner, functions: Path) -> None:
        with pytest.raises(CaffeRequestError, match=r"array 'c': expected a dtype of .*, found complex64"):
            caffe.call(functions, "odd")

    def test_the_traceback_is_kept(self, caffe: Runner, functions: Path) -> None:
        with pytest.raises(CaffeRequestError) as caught:
            caffe.call(functions, "fail")
        assert caught.value.kind == "ValueError"
        assert f'File "{functions}", line' in caught.value.traceback
        assert caught.value.__notes__[0].startswith("In the worker:\nTraceback")

    def test_a_file_that_is_not_there(self, caffe: Runner, tmp_path: Path) -> None:
        with pytest.raises(CaffeRequestError, match=r"cannot call f of absent\.py: .*No such file"):
            caffe.call(tmp_path / "absent.py", "f")

    def test_lstmcs_own_modules_are_not_in_its_path(self, caffe: Runner, functions: Path) -> None:
        assert caffe.call(functions, "modules").value == []
