"""Nets run in readers: programs written here, which give what they should not, fail, or are not there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from lstmc import compile
from lstmc.errors import BackendError, PluginError
from lstmc_caffe.readers.__main__ import main
from lstmc_caffe.readers.executor import ReaderError, ReaderSession, reader_findings
from lstmc_caffe.readers.known import Environment, Program, Reader, load_reader
from tests.conftest import Install

X = np.arange(6, dtype=np.float32).reshape(2, 3)
WANTED = {"y": (2, 3)}


def reader_of(source: str, folder: Path, **described: object) -> Reader:
    program = folder / "program.py"
    program.write_text(dedent(source))
    return Reader("mine", "My Reader", "flat", (Program(program, **described),))  # type: ignore[arg-type]


def said(source: str, folder: Path) -> str:
    with ReaderSession(reader_of(source, folder)) as session, pytest.raises(ReaderError) as raised:
        session.run(b"net", b"weights", {"x": X}, WANTED)
    return raised.value.message


def test_what_it_gives_is_read_by_name_and_shape(tmp_path: Path) -> None:
    source = """
        def about(args, arrays):
            return {"version": "1.2"}, {}
        def convert(args, arrays):
            open(args["folder"] + "/made", "w").write(open(args["folder"] + "/net.prototxt").read())
            return {}, {}
        def run(args, arrays):
            assert open(args["folder"] + "/made").read() == "net"
            assert open(args["folder"] + "/net.caffemodel").read() == "weights"
            return {}, {"z": arrays["x"], "y": 2 * arrays["x"].reshape(6, 1)}
        """
    with ReaderSession(reader_of(source, tmp_path)) as session:
        assert session.version() == "1.2"
        found = session.run(b"net", b"weights", {"x": X}, WANTED)
    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], 2 * X)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}, {'z': arrays['x']}", "My Reader gives no blob y: found z"),
        (
            "return {}, {'y': arrays['x'][:1]}",
            "My Reader gives y in another shape: expected [2, 3], got [1, 3]",
        ),
        ("raise ValueError('no TanH')", "My Reader does not run the net: ValueError: no TanH"),
        ("import os; os.abort()", "My Reader's process ended (SIGABRT) when asked to run a net"),
    ],
)
def test_what_is_wrong_with_it_is_said(body: str, message: str, tmp_path: Path) -> None:
    assert said(f"def run(args, arrays):\n    {body}", tmp_path) == message


def test_it_is_started_again_after_a_crash(tmp_path: Path) -> None:
    source = """
        import os
        def run(args, arrays):
            if arrays["x"].sum() == 0:
                os.abort()
            return {}, {"y": arrays["x"]}
        """
    with ReaderSession(reader_of(source, tmp_path)) as session:
        with pytest.raises(ReaderError):
            session.run(b"", b"", {"x": 0 * X}, WANTED)
        assert session.run(b"", b"", {"x": X}, WANTED)["y"].sum() == X.sum()


def test_one_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    nowhere = Environment("never-made", "3.8", ("nothing",))
    with ReaderSession(reader_of("", tmp_path, environment=nowhere)) as session, pytest.raises(ReaderError) as raised:
        session.version()
    assert str(raised.value) == ("ReaderError: My Reader is not installed: python -m lstmc_caffe.readers install mine")


def test_a_program_that_it_runs_is_on_the_path_or_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import shutil\ndef about(args, arrays):\n    return {'version': shutil.which('my2mine')}, {}\n"
    reader = reader_of(source, tmp_path, command="my2mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("lstmc_caffe.readers.executor.load_reader", lambda name: reader)
    monkeypatch.setattr("lstmc_caffe.readers.executor.reader_names", lambda: ("mine",))
    message = "My Reader needs my2mine on the path or in ~/.local/bin: docs/readers/index.md says how to build it"
    (finding,) = reader_findings()  # what doctor prints is what a run finds
    assert (finding.found, finding.detail) == (False, message)
    with ReaderSession(reader) as session, pytest.raises(ReaderError) as raised:
        session.version()
    assert raised.value.message == message
    program = tmp_path / ".local/bin/my2mine"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (finding,) = reader_findings()
    assert (finding.found, finding.detail) == (True, f"My Reader {program}")


def test_the_python_of_a_reader_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["python", "mnn"]) == 0
    assert capsys.readouterr().out == f"{sys.executable}\n"


def test_one_that_does_not_import_says_why_and_how_to_install_it(tmp_path: Path) -> None:
    with ReaderSession(reader_of("import no_such_module", tmp_path)) as session, pytest.raises(ReaderError) as raised:
        session.version()
    assert raised.value.message == (
        "My Reader cannot be imported: ModuleNotFoundError: No module named 'no_such_module':"
        " python -m lstmc_caffe.readers install mine"
    )


ENTRY_POINTS = """
    [lstmc_caffe.readers]
    mine = my_reader:READER
    none = my_reader:NONE
    named = my_reader:READER
    """


@pytest.fixture
def brought(install: Install, tmp_path: Path) -> None:
    """A package with three entry points, one of them a reader."""
    program = tmp_path / "program.py"
    program.write_text(
        "def about(args, arrays):\n    return {'version': '7'}, {}\n"
        "import numpy as np\n"
        "def run(args, arrays):\n"
        "    return {}, {name: np.zeros(shape, 'f4') for name, shape in args['wanted'].items()}\n"
    )
    source = f"""
        from pathlib import Path
        from lstmc_caffe.readers.known import Reader, Program
        READER = Reader("mine", "My Reader", "flat", (Program(Path({str(program)!r})),))
        NONE = 3
        """
    install("my_reader", source, ENTRY_POINTS)


@pytest.mark.usefixtures("brought")
def test_a_package_brings_a_reader() -> None:
    assert load_reader("mine").title == "My Reader"
    net = compile("rnn", T=2, N=1, D=3, H=3, target="flat")
    report = net.verify(on=["mine"])
    assert not report  # it gives zeros
    assert [d.name for d in report.reports[0].differences if d.kind == "output" and not d.passed] == ["y", "h_T"]


@pytest.mark.usefixtures("brought")
def test_what_is_no_reader_is_told() -> None:
    for name, wrong in (
        ("none", "expected a lstmc_caffe.readers.known.Reader, found 3"),
        ("named", "expected one of that name, named, found one called mine"),
    ):
        with pytest.raises(PluginError) as raised:
            load_reader(name)
        assert wrong in raised.value.message
    found = {finding.subject: finding for finding in reader_findings()}
    assert (found["mine"].found, found["mine"].detail) == (True, "My Reader 7")
    assert not found["none"].found
    assert found["opencv"].detail.startswith("OpenCV 4 DNN 4.")


def test_a_reader_that_is_not_there_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(reader_of("import no_cv2", tmp_path), name="opencv", title="OpenCV 4 DNN")
    monkeypatch.setattr("lstmc_caffe.readers.known.load_reader", lambda name: missing)
    with pytest.raises(BackendError) as raised:
        compile("rnn", T=2, N=1, D=3, H=3, target="opencv").verify(on=["opencv"])
    assert str(raised.value) == (
        "BackendError: opencv cannot be used here\n"
        "  OpenCV 4 DNN cannot be imported: ModuleNotFoundError: No module named 'no_cv2':"
        " python -m lstmc_caffe.readers install opencv"
    )


@pytest.mark.parametrize("target", ["ncnn", "rknn"])
def test_a_program_says_in_which_python_it_runs(target: str, tmp_path: Path) -> None:
    written = compile("gru", N=1, D=2, H=3, step=True, target=target).example("python")
    ((name, content),) = written.items()
    (tmp_path / name).write_bytes(content)
    blocked = (
        "import sys, runpy; sys.modules |= dict.fromkeys(('ncnn', 'rknn', 'rknnlite'));"
        " runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", blocked, tmp_path / name], input="0 0\n", capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert f"python -m lstmc_caffe.readers python {target} prints lstmc's" in ran.stderr
