"""Run nets in other runtimes: their Python environments, made by uv in the user's cache folder; sessions in worker
processes; the differential check; doctor."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from importlib.metadata import distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from lstmc.backend import Artifact, Compiled, Execution, Executor, Finding, RunArrays
from lstmc.errors import Argument, BackendError, PluginError
from lstmc.files.output import check_private, private_folder
from lstmc.manifest import parse_manifest
from lstmc.ops import Array
from lstmc.text import nearest_or_all
from lstmc.verification.differential import forward_only
from lstmc.verification.report import VALUE_TOLERANCE
from lstmc_caffe.ops.inputs import host_values, read_blobs
from lstmc_caffe.processes.process import CaffeError, Reply, WorkerProcess
from lstmc_caffe.readers.known import Environment, Program, Reader, load_reader, reader_names
from lstmc_caffe.targets.target import load_target
from lstmc_caffe.worker import WORKER

if TYPE_CHECKING:
    from lstmc_caffe.install.report import Report

RECORD = "environment.json"
Shape = tuple[int, ...]
SECONDS = 900.0  # for one net and the start of its reader: RKNN takes 300 for 350 layers on a busy machine
# Variables that would lead a reader's Python to the packages of lstmc's own environment.
UNSET = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def readers_folder() -> Path:
    return platformdirs.user_cache_path("lstmc") / "readers"


def interpreter(environment: Environment | None) -> Path | None:
    """Return the Python of an environment, or None if it is not installed. Without an environment: lstmc's own."""
    if environment is None:
        return Path(sys.executable)
    folder = readers_folder() / environment.name
    check_private(folder / RECORD)
    try:
        is_current = (folder / RECORD).read_text(encoding="utf-8") == _record(environment)
    except OSError:
        return None
    return folder / "bin" / "python" if is_current else None


def make(reader: Reader, report: Report) -> None:
    """Make the environments of a reader that are missing, and install its extra of lstmc into lstmc's environment.
    Raises BackendError with the failed command."""
    for environment in reader.environments:
        if interpreter(environment) is None:
            with report.busy(f"installing {', '.join(environment.requires)} for {reader.title}"):
                _make(environment)
    if missing := _missing(reader.extra):
        with report.busy(f"installing {', '.join(missing)} for {reader.title}"):
            command = ("uv", "pip", "install", "--quiet", "--python", sys.executable, *missing)
            _run_command(f"the extra {reader.extra} cannot be installed", *command)


def _missing(extra: str) -> list[str]:
    """Return the requirements of an extra of lstmc that are not installed here."""
    parts = [each.partition(";") for each in requires("lstmc") or ()]
    required = [each.strip() for each, _, marker in parts if re.fullmatch(rf""" *extra *== *['"]{extra}['"]""", marker)]
    installed = {_canonical(dist.name) for dist in distributions()}
    return [each for each in required if _canonical(re.split(r"[^\w.-]", each)[0]) not in installed]


def _canonical(name: str) -> str:
    """Return the normalised name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _make(environment: Environment) -> None:
    """Make an environment anew by uv: its Python, its packages, and its setup file. Then write its record."""
    folder = private_folder(readers_folder()) / environment.name
    shutil.rmtree(folder, ignore_errors=True)
    failed = f"environment {environment.name} cannot be made"
    _run_command(failed, "uv", "venv", "--quiet", "--python", str(_matching_python(environment)), str(folder))
    python = folder / "bin" / "python"
    _run_command(failed, "uv", "pip", "install", "--quiet", "--python", str(python), *environment.requires)
    if environment.setup is not None:
        # -I: modules in the folder of this file have the names of packages
        _run_command(failed, str(python), "-I", str(environment.setup))
    (folder / RECORD).write_text(_record(environment), encoding="utf-8")


def _record(environment: Environment) -> str:
    setup = environment.setup.read_text(encoding="utf-8") if environment.setup is not None else ""
    return json.dumps({**asdict(environment), "setup": setup}) + "\n"


def _matching_python(environment: Environment) -> Path:
    """Return an interpreter of the environment's version: on the path, or of pyenv or uv."""
    version = environment.python
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = (pyenv / "versions", platformdirs.user_data_path("uv") / "python")
    found = (path for folder in folders for path in sorted(folder.glob(f"*{version}.*/bin/python{version}")))
    for path in (shutil.which(f"python{version}"), *found):
        if path is not None:
            ran = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if ran.returncode == 0 and ran.stdout.startswith(f"Python {version}."):
                return Path(path)
    raise BackendError(
        f"environment {environment.name} needs Python {version}, and there is none on the path:"
        f" uv python install {version}, or pyenv install {version}"
    )


def _run_command(failed: str, *command: str) -> None:
    """Run a command. If it fails, raise BackendError with ``failed`` and the command's last lines."""
    program = shutil.which(command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise BackendError(f"{command[0]} is needed for this: python -m pip install 'lstmc[readers]'")
    ran = subprocess.run([program, *command[1:]], capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode != 0:
        lines = [line.strip() for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
        raise BackendError(f"{failed}: {' '.join(command[:3])} failed", notes=lines[-6:])


class ReaderError(BackendError):
    """A reader that is not installed, or rejects or fails to run a net; the message quotes the reader."""


class ReaderSession(AbstractContextManager["ReaderSession"]):
    """A reader's processes, which start with the first net. Use the session in a ``with``, or close it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._processes: dict[Program, WorkerProcess] = {}

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End its processes; the next net starts them again."""
        for process in self._processes.values():
            process.end()
        self._processes.clear()

    def version(self) -> str:
        """Return the version that the reader reports. Raises ReaderError, with its install command, if missing."""
        check_commands(self.reader)
        try:
            replies = [self._call(program, "about", {}, {})[0]["value"]["version"] for program in self.reader.programs]
        except ReaderError as error:
            raise ReaderError(f"{error.marked}: {self.reader.install_command}", notes=error.marked_notes) from None
        return " + ".join(dict.fromkeys(replies))

    def run(
        self, prototxt: bytes, caffemodel: bytes, blobs: Mapping[str, Array], outputs: Mapping[str, Shape]
    ) -> dict[str, Array]:
        """Run one forward pass on ``blobs``; return the blobs ``outputs`` by name, in these shapes. Raises ReaderError
        with the reader's message if it rejects the net, or returns other blobs."""
        with tempfile.TemporaryDirectory(prefix="lstmc-", ignore_cleanup_errors=True) as folder:
            Path(folder, "net.prototxt").write_bytes(prototxt)
            Path(folder, "net.caffemodel").write_bytes(caffemodel)
            return self._run(folder, blobs, outputs)

    def _run(self, folder: str, blobs: Mapping[str, Array], outputs: Mapping[str, Shape]) -> dict[str, Array]:
        """Convert the net in ``folder`` if a program converts, then run it. Return ``outputs`` in their shapes."""
        args = {"folder": folder, "wanted": {name: list(shape) for name, shape in outputs.items()}}
        inputs = {name: np.asarray(array, np.float32) for name, array in blobs.items()}
        for program in self.reader.programs:
            if "def convert(" in program.file.read_text(encoding="utf-8"):
                shapes = {name: list(array.shape) for name, array in inputs.items()}
                self._call(program, "convert", {**args, "inputs": shapes}, {})
        values = self._call(self.reader.programs[-1], "run", args, inputs)[1].get("arrays", {})
        for name, shape in outputs.items():
            if name not in values:
                raise ReaderError(f"{self.reader.title} gives no blob {name}{nearest_or_all(name, values)}")
            if values[name].size != np.prod(shape, dtype=int):
                shapes_differ = f"expected {list(shape)}, got {list(values[name].shape)}"
                raise ReaderError(f"{self.reader.title} gives {name} in another shape: {shapes_differ}")
        return {name: np.asarray(values[name], np.float32).reshape(shape) for name, shape in outputs.items()}

    def _call(self, program: Program, function: str, args: Mapping[str, Any], arrays: Mapping[str, Array]) -> Reply:
        """Call a function in a program's process. Raise ReaderError with the reader's message if it fails."""
        request = {"request": "call", "path": str(program.file), "function": function, "args": args}
        process = self._started(program)
        try:
            return process.ask(f"{function} a net", request, {"arrays": arrays}, SECONDS)
        except CaffeError as error:
            if getattr(error, "traceback", None) is None:  # the process has ended
                self._processes.pop(program).end()
            raise ReaderError(_own_words(error, self.reader.title, function), notes=error.marked_notes) from None
        except BaseException:
            self._processes.pop(program).end()  # Ctrl-C: half a frame may be in the pipe
            raise

    def _started(self, program: Program) -> WorkerProcess:
        """Return the process of a program, started if it does not run."""
        if program not in self._processes:
            python = interpreter(program.environment)
            if python is None:
                raise ReaderError(f"{self.reader.title} is not installed")
            command = [str(python), "-u", str(WORKER), str(os.getpid())]
            self._processes[program] = WorkerProcess(command, environment_of(python), self.reader.title)
        return self._processes[program]


def environment_of(python: Path) -> dict[str, str]:
    """Return the environment variables to start an interpreter of a reader with."""
    path = f"{python.parent}{os.pathsep}{_command_path()}"
    return {**{name: value for name, value in os.environ.items() if name not in UNSET}, "PATH": path}


def reader_python(reader: Reader) -> tuple[Path, dict[str, str]]:
    """Return the interpreter in which a reader's nets run, and its environment variables. Raises ReaderError for a
    reader that is not installed, with the command that installs it."""
    python = interpreter(reader.programs[-1].environment)
    if python is None:
        raise ReaderError(f"{reader.title} is not installed: {reader.install_command}")
    check_commands(reader)
    return python, environment_of(python)


def _command_path() -> str:
    """Return the path on which programs of readers are looked for: the user's, and the folder that a login adds."""
    return f"{os.environ.get('PATH', '')}{os.pathsep}{Path.home() / '.local' / 'bin'}"


def check_commands(reader: Reader) -> None:
    """Raise :class:`ReaderError` if a program that a reader runs is missing."""
    for program in reader.programs:
        if program.command and shutil.which(program.command, path=_command_path()) is None:
            raise ReaderError(
                f"{reader.title} needs {program.command} on the path or in ~/.local/bin: docs/readers/index.md says how"
                " to build it"
            )


def _own_words(error: CaffeError, title: str, function: str) -> str:
    """Return an error's message in the form ``OpenCV 4 DNN does not run the net: error: ...``."""
    message = error.message.removeprefix(f"cannot {function} a net: ")
    if message == error.message:
        return message
    doing = {"about": "cannot be imported"}.get(function, f"does not {function} the net")
    return f"{title} {doing}: {message}"


class ReaderExecutor(Executor):
    """A reader on the CPU. Its processes live from net to net, until it is closed."""

    def __init__(self, reader: Reader) -> None:
        self.name, self.target = reader.name, reader.target
        self._session = ReaderSession(reader)

    def unavailable(self) -> str | None:
        """Return why the reader cannot be used here, with the command that installs it, or None."""
        try:
            self._session.version()
        except ReaderError as error:
            return "\n".join((error.message, *error.notes))
        return None

    def run(self, compiled: Compiled, artifact: Artifact, arrays: RunArrays) -> Execution:
        """Return one forward pass of the artifact's own prototxt and caffemodel. The outputs' blobs are read by name.
        Raises ReaderError with the reader's message if the reader rejects the net."""
        graph = compiled.expanded
        manifest, fed = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"]), arrays.fed(compiled.model)
        inputs = {name: fed[name] for name, entry in manifest.inputs.items() if not entry.filled}
        refs = [ref for output in graph.outputs for ref in read_blobs(graph, output.ref)]
        outputs = {graph.value_name(ref): graph.type(ref).shape for ref in refs}
        prototxt, caffemodel = (artifact.files[f"{compiled.name}.{suffix}"] for suffix in ("prototxt", "caffemodel"))
        try:
            blobs: dict[str, Array] = dict(self._session.run(prototxt, caffemodel, manifest.fed(inputs), outputs))
        except ReaderError as error:
            if compiled.target == self.target:
                raise
            own = Argument("target", self.target)
            note = f"the net is for target {compiled.target}; the target for this program is {own}"
            raise ReaderError(error.marked, notes=[*error.marked_notes, note]) from None
        return forward_only(
            compiled,
            arrays,
            inputs | blobs | host_values(graph, blobs),
            "the runtime exposes outputs only",
            "the runtime",
            tolerance=self._session.reader.tolerance or VALUE_TOLERANCE,  # functions may be approximations
            dtype=np.float16 if load_target(self.target).float16 else np.float32,
            files=artifact.run_files,
        )

    def close(self) -> None:
        self._session.close()


def reader_findings() -> Iterator[Finding]:
    """Yield a finding for each runtime. All runtimes are optional, so the command to install one is not a fix."""
    for name in reader_names():
        yield _finding(name)


def _finding(name: str) -> Finding:
    """Return whether a runtime is installed, and its version or how to install it."""
    finding = partial(Finding, name, group="runtimes")
    try:
        reader = load_reader(name)
        if any(interpreter(own) is None for own in reader.environments):
            return finding(False, f"{reader.title} is not installed: {reader.install_command}")
        check_commands(reader)
        if reader.environments:  # these runtimes start slowly: take the version that was installed
            packages = [requirement for own in reader.environments for requirement in own.requires]
            detail = f"{reader.title}, an environment of {', '.join(packages)}"
            return finding(True, detail, version=packages[0].partition("==")[2])
        with ReaderSession(reader) as session:
            version = session.version()
            return finding(True, f"{reader.title} {version}", version=version)
    except PluginError as error:
        return finding(False, error.message, faulty=True)
    except ReaderError as error:
        return finding(False, error.message)
