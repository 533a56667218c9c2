"""Devices, pipes, folders and files of a terabyte in the place of every file that a command reads: an error at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from lstmc.cli import Commands
from lstmc.files.arrays import npz_bytes
from tests.cli.conftest import LSTMC, MODEL
from tests.cli.test_executed import CELL, SIZES
from tests.on_demand.fuzz.formats import CORPUS

pytestmark = pytest.mark.posix
LOSS = (
    MODEL.replace("scan, tanh", "scan, euclidean_loss, tanh")
    .replace('return {"Y": y, "h_T": last["h"]}', 'return {"Y": y, "loss": euclidean_loss(last["h"], label)}')
    .replace("X=Input(T, N, 3)", "X=Input(T, N, 3), label=Input(N, 4)")
)
TRAIN = ("loss.py", *SIZES, "--data", "xy.npz")
# For each option or argument that names a file to read: the rest of a command, with BAD in the file's place.
READ: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("compile", "file"): ("BAD.py",),
    ("compile", "weights"): (*CELL, "--weights", "BAD.npz"),
    ("compile", "data"): ("loss.py", *SIZES, "--data", "BAD.npz", "--batch", "N"),
    ("compile", "test_data"): (*TRAIN, "--test-data", "BAD.npz"),
    ("compile", "numbers"): (*CELL, "--numbers", "BAD.toml"),
    ("compile", "target"): (*CELL, "--target", "BAD.toml"),
    ("compile", "choices"): (*CELL, "--backend", "c", "-O", "numbers=c-a8w8", "-O", "ranges=BAD.json"),
    ("convert", "source"): ("BAD.onnx", "-o", "c"),
    ("convert", "config"): ("gru.h5", "--config", "BAD.json", "-o", "c"),
    ("convert", "weights"): ("net.prototxt", "-o", "c", "--weights", "BAD.caffemodel"),
    ("inspect", "source"): ("BAD.onnx",),
    ("inspect", "config"): ("gru.h5", "--config", "BAD.json"),
    ("inspect", "weights"): ("net.prototxt", "--weights", "BAD.caffemodel"),
    ("verify", "file"): ("BAD.prototxt",),
    ("verify", "net"): (*CELL, "--net", "BAD.prototxt"),
    ("verify", "weights"): (*CELL, "--weights", "BAD.caffemodel", "--on", "interpreter"),
    ("verify", "inputs"): (*CELL, "--inputs", "BAD.h5", "--on", "interpreter"),
    ("verify", "numbers"): (*CELL, "--numbers", "BAD.toml", "--data", "x.npz"),
    ("verify", "data"): (*CELL, "--numbers", "int8", "--data", "BAD.npz"),
    ("verify", "calibration"): (*CELL, "--numbers", "int8", "--data", "x.npz", "--calibration", "BAD.npz"),
    **{
        (f"numbers {name}", option): ({"file": ("BAD.py",)}.get(option, CELL) + more + also)
        for name, also in (("ranges", ()), ("calibrate", ("--quantiser", "mnn")), ("golden", ()))
        for option, more in (
            ("file", ("--data", "x.npz")),
            ("weights", ("--data", "x.npz", "--weights", "BAD.npz")),
            ("data", ("--data", "BAD.npz")),
        )
    },
    ("train", "file"): ("BAD.py", "--data", "x.npz", "-o", "r"),
    ("train", "data"): ("loss.py", *SIZES, "--data", "BAD.npz", "-o", "r"),
    ("train", "test_data"): (*TRAIN, "--test-data", "BAD.npz", "-o", "r"),
    ("train", "weights"): (*TRAIN, "--weights", "BAD.npz", "-o", "r"),
    ("sweep", "file"): ("BAD.py", "--data", "x.npz", "--grid", "seed=1,2", "-o", "s"),
    ("sweep", "data"): ("loss.py", *SIZES, "--data", "BAD.npz", "--grid", "seed=1,2", "-o", "s"),
    ("sweep", "space"): (*TRAIN, "--space", "BAD.toml", "-o", "s"),
    ("sweep", "test_data"): (*TRAIN, "--test-data", "BAD.npz", "--grid", "seed=1,2", "-o", "s"),
    ("run", "net"): ("BAD.prototxt", "--inputs", "x.npz"),
    ("run", "inputs"): ("net.prototxt", "--inputs", "BAD.npz"),
    ("run", "weights"): ("net.prototxt", "--inputs", "step.npz", "--weights", "BAD.caffemodel"),
    ("show", "file"): ("BAD.py",),
    ("report", "files"): ("BAD.py",),
    ("report", "run"): (*CELL, "--run", "BAD.run"),
    ("report", "data"): (*CELL, "--data", "BAD.npz", "--on", "interpreter"),
    ("report", "weights"): (*CELL, "--weights", "BAD.npz"),
}
WRITTEN = {"to", "folder", "save_weights", "dump_dir"}  # these are outputs
NO_FILES = {"on", "runtimes"}
# Where another message is right: a folder of inputs, the largest size of a configuration.
OTHERWISE = {
    ("folder", "run", "inputs"): "-o FOLDER",
    **{("terabyte", command, "config"): "bytes" for command in ("convert", "inspect")},
}
KINDS: Mapping[str, Callable[[Path], object]] = {
    "device": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "terabyte": lambda path: (path.touch(), os.truncate(path, 2**40)),
}


def options(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every argument and option whose name in the help says that it is a file, with its command."""
    for own, inner in getattr(command, "commands", {}).items():
        yield from options(inner, f"{name} {own}")
    for param in command.params:
        if any(word in (param.metavar or "") for word in ("FILE", "DATA", "NET", "RUN")):
            yield name, param.name


def test_every_file_that_a_command_reads_is_here() -> None:
    every = {pair for name in Commands() for pair in options(Commands()[name], name)}
    missing = {pair for pair in every if pair[1] not in WRITTEN | NO_FILES} - READ.keys()
    assert not missing


@pytest.fixture
def alarm() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        pytest.fail("nothing within 20 seconds")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_an_end_is_refused(lstmc: LSTMC, kind: str, alarm: None) -> None:
    Path("loss.py").write_text(LOSS)
    zeros = np.zeros((2, 1, 3), np.float32)
    np.savez("x.npz", x=zeros)
    np.savez("xy.npz", X=zeros, label=np.zeros((1, 4)))
    Path("step.npz").write_bytes(npz_bytes({"x": zeros[:1], "rnn/h_in": np.zeros((1, 4))}))
    Path("gru.h5").write_bytes((CORPUS / "gru.h5").read_bytes())
    assert lstmc("compile", *CELL, "--target", "flat", "--step").code == 0
    for path in [*Path().glob("rnn.*")]:
        path.rename(path.name.replace("rnn", "net"))
    for name in {word.rpartition("=")[2] for words in READ.values() for word in words if "BAD" in word}:
        KINDS[kind](Path(name))
    problems: dict[tuple[str, str], str] = {}
    for (command, option), words in READ.items():
        signal.alarm(20)
        ended = lstmc(*command.split(), *words)
        if (
            ended.code != 2
            or "Traceback" in ended.err
            or OTHERWISE.get((kind, command, option), "BAD") not in ended.err
        ):
            problems[command, option] = f"{ended.code}: {ended.err}"
    assert not problems, "\n".join(f"{' '.join(key)}: {text}" for key, text in problems.items())
