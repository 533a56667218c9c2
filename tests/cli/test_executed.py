"""SECURITY.md's table: which commands execute which files. Each file is planted with code that leaves a mark."""

from __future__ import annotations

import io
import json
import marshal
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from lstmc.files.arrays import npz_bytes
from lstmc.process.commands import pip
from lstmc_caffe.install.system import describe
from lstmc_caffe.processes.ranks import missing_for_mpi
from lstmc_tflite.examples import runs_in_arena
from tests.cli.conftest import LSTMC, MODEL
from tests.on_demand.fuzz.formats import CORPUS

ROOT = Path(__file__).parents[2]
SIZES = ("-D", "T=2", "-D", "N=1")
CELL = ("--cell", "rnn", *SIZES, "-D", "D=3", "-D", "H=4")
X = np.zeros((2, 1, 3), np.float32)


def python(ran: Path) -> str:
    """Python that leaves the mark."""
    return f"open({str(ran)!r}, 'w').close()\n"


def c(ran: Path) -> str:
    """C that leaves the mark when it is loaded."""
    body = f'FILE *f = fopen({json.dumps(str(ran))}, "w"); if (f) fclose(f);'
    return f"\n#include <stdio.h>\n__attribute__((constructor)) static void planted(void) {{ {body} }}\n"


class Opens:
    """An object whose pickle leaves the mark when it is loaded."""

    def __init__(self, ran: Path) -> None:
        self.ran = str(ran)

    def __reduce__(self) -> Any:
        return open, (self.ran, "w")


def lambda_layer(ran: Path) -> dict[str, Any]:
    """The configuration of a model of Keras with a function as bytecode."""
    code = marshal.dumps(compile(python(ran), "planted", "exec")).hex()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    layers = [
        {"class_name": "InputLayer", "module": "keras.layers", "config": {"name": "x", "batch_shape": [None, 3, 3]}},
        {"class_name": "Lambda", "module": "os", "config": {"name": "f", "function": function}},
    ]
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "net", "layers": layers}}


def zipped(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def model(ran: Path, lstmc: LSTMC) -> None:
    Path("net.py").write_text(MODEL + python(ran))
    np.savez("x.npz", X=X)


def compiled(lstmc: LSTMC, backend: str) -> None:
    """A net of one step, and its inputs."""
    assert lstmc("compile", "--cell", "gru", *SIZES, "-D", "D=3", "-D", "H=4", "--step", "--backend", backend).code == 0
    about = json.loads(next(Path().glob("gru*.manifest.json")).read_text())
    arrays = {name: np.zeros(entry["shape"], np.float32) for name, entry in about["inputs"].items()}
    Path("x.npz").write_bytes(npz_bytes(arrays))


def module(ran: Path, lstmc: LSTMC) -> None:
    compiled(lstmc, "torch")
    Path("gru_torch.py").write_text(Path("gru_torch.py").read_text() + python(ran))


def source(ran: Path, lstmc: LSTMC) -> None:
    compiled(lstmc, "c")
    Path("gru.c").write_text(Path("gru.c").read_text() + c(ran))


def layers(ran: Path, lstmc: LSTMC) -> None:
    np.savez("x.npz", x=X)
    assert lstmc("compile", *CELL, "--target", "caffe-fused").code == 0
    Path("rnn.layers.cpp").write_text(Path("rnn.layers.cpp").read_text() + c(ran))


def net(ran: Path, lstmc: LSTMC) -> None:
    """Nets whose text is Python as well, and that a manifest calls nets of a backend that executes them."""
    np.savez("x.npz", x=X)
    assert lstmc("compile", *CELL, "--target", "flat").code == 0
    manifest = json.loads(Path("rnn.manifest.json").read_text())
    weights = Path("rnn.caffemodel").read_bytes()
    for name in ("net.prototxt", "net.onnx", "c.prototxt"):
        Path(name).write_text(f'name: "net"\n{python(ran)}')
    for stem, backend in (("net", "torch"), ("c", "c")):
        Path(f"{stem}.manifest.json").write_text(json.dumps({**manifest, "backend": backend}))
        for suffix in (".pt", ".caffemodel", ".bin"):
            Path(f"{stem}{suffix}").write_bytes(weights)
        Path(f"{stem}.c").write_text(c(ran))
        Path(f"{stem}.h").write_text(c(ran))
    Path("planted.py").write_text(python(ran))
    with Path("rnn.prototxt").open("a") as file:
        file.write('layer { name: "p" type: "Python" python_param { module: "planted" layer: "L" } }\n')
    Path("rnn.py").write_text(python(ran))


def trained(ran: Path, lstmc: LSTMC) -> None:
    """Models of other frameworks with code in them: pickles, bytecode, names of modules."""
    planted = pickle.dumps({"w": Opens(ran)})
    zipped(Path("m.pt"), {"archive/data.pkl": planted, "archive/version": b"3\n", "archive/byteorder": b"little"})
    Path("old.pt").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + planted)
    with zipfile.ZipFile(CORPUS / "program.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.endswith(".pt") for name in members)
    zipped(Path("m.pt2"), {name: planted if name.endswith(".pt") else own for name, own in members.items()})
    with zipfile.ZipFile(CORPUS / "gru.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    zipped(Path("m.keras"), {**members, "config.json": json.dumps(lambda_layer(ran)).encode()})
    shutil.copy(CORPUS / "gru.h5", "m.h5")
    with h5py.File("m.h5", "a") as file:
        file.attrs["model_config"] = json.dumps(lambda_layer(ran))
    Path("m.json").write_text(json.dumps(lambda_layer(ran)))
    shutil.copy(CORPUS / "tagger.onnx", "m.onnx")
    Path("m.py").write_text(python(ran))


def arrays(ran: Path, lstmc: LSTMC) -> None:
    """Data with Python objects in them, and settings whose texts are Python."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Opens(ran)], object), allow_pickle=True)
    zipped(Path("x.npz"), {"x.npy": content.getvalue(), "X.npy": content.getvalue()})
    with h5py.File("x.h5", "w") as file:
        file["x"] = np.frombuffer(pickle.dumps(Opens(ran)), np.uint8)
    call = f"open({str(ran)!r}, 'w')"
    Path("r.json").write_text(f"__import__('builtins').{call}")
    Path("t.toml").write_text(f'base = "flat"\nsummary = "{{{{ {call} }}}}"\n')
    Path("d.toml").write_text(f'base = "rknn-int8"\nabout = "{{{{ {call} }}}}"\n')
    assert lstmc("compile", *CELL, "--target", "flat").code == 0
    about = json.loads(Path("rnn.manifest.json").read_text())
    about["inputs"]["x"]["fill"] = call
    Path("rnn.manifest.json").write_text(json.dumps(about))


def run_folder(ran: Path, lstmc: LSTMC) -> None:
    Path("net.py").write_text(MODEL + python(ran))
    Path("run").mkdir(exist_ok=True)
    facts = {"command": "lstmc train net.py", "model": "net.py:net", "sizes": {"T": 2, "N": 1}, "target": "flat"}
    facts |= {"backend": "caffe: CPU", "settings": {"max_iter": 3}, "options": {}, "files": []}
    Path("run/command.json").write_text(json.dumps(facts))
    line = {"kind": "train", "iteration": 1, "loss": 0.5, "rate": 0.1, "seconds": 1}
    Path("run/metrics.jsonl").write_text(json.dumps(line) + "\n")
    for name in ("run/weights.npz", "run/planted.py"):
        Path(name).write_text(python(ran))


RUN = ("--inputs", "x.npz")
# By what a row of the page calls the files: what plants them, and the commands by their first word.
Commands = Mapping[str, tuple[tuple[str, ...], ...]]
ROWS: Mapping[str, tuple[Callable[[Path, LSTMC], None], Commands]] = {
    "a model's file": (
        model,
        {
            "compile": (("net.py", *SIZES),),
            "verify": (("net.py", *SIZES, "--on", "interpreter"),),
            "numbers": (("ranges", "net.py", "--data", "x.npz"),),
            "train": (("net.py", *SIZES, "--data", "x.npz", "-o", "r"),),
            "sweep": (("net.py", *SIZES, "--data", "x.npz", "-o", "s", "--grid", "seed=1,2"),),
            "show": (("net.py", *SIZES),),
            "report": (("net.py", *SIZES),),
            "run": (("net.py", *RUN),),
            "convert": (("net.py",),),
            "inspect": (("net.py",),),
        },
    ),
    "a module of PyTorch": (
        module,
        {
            "run": (("gru_torch.py", *RUN), ("gru_torch.py", "--save-weights", "w.npz")),
            "verify": ((*CELL, "--weights", "gru_torch.pt", "--on", "interpreter"),),
            "convert": (("gru_torch.py",), ("gru_torch.pt",)),
        },
    ),
    "C": (
        source,
        {
            "run": (("gru.c", *RUN),),
            "verify": (("gru.c",),),
            "convert": (("gru.c",),),
        },
    ),
    "generated layers": (layers, {"run": (("rnn.prototxt", *RUN),), "verify": (("rnn.prototxt",),)}),
    "nets": (
        net,
        {
            "run": (
                *((name, *RUN) for name in ("rnn.prototxt", "net.prototxt", "net.onnx", "c.prototxt")),
                ("c.prototxt", *RUN, "--backend", "c"),
                ("net.prototxt", *RUN, "--backend", "torch"),
                ("rnn.py", *RUN),
                *((name, "--save-weights", "w.npz") for name in ("net.prototxt", "rnn.prototxt")),
            ),
            "verify": (("rnn.prototxt",), ("net.prototxt",), ("net.onnx",), ("c.prototxt", "--all")),
            "compile": ((*CELL, "--weights", "net.caffemodel"), (*CELL, "--weights", "net.pt")),
            "convert": (("rnn.prototxt", "--weights", "rnn.caffemodel"), ("net.prototxt",)),
            "report": (("net.prototxt",),),
        },
    ),
    "trained models": (
        trained,
        {
            "convert": (
                *((name, "--no-compile") for name in ("m.pt", "old.pt", "m.pt2", "m.keras", "m.h5", "m.onnx")),
                ("m.h5", "--config", "m.json"),
                ("m.onnx", "-D", "T=3", "--backend", "onnx"),
            ),
            "inspect": tuple((name,) for name in ("m.pt", "old.pt", "m.pt2", "m.keras", "m.h5", "m.onnx")),
            "compile": tuple((*CELL, "--weights", name) for name in ("m.pt", "m.h5", "m.onnx")),
            "run": tuple((name, *RUN) for name in ("m.pt", "m.keras", "m.onnx")),
            "verify": (("m.onnx",),),
        },
    ),
    "data and settings": (
        arrays,
        {
            "run": (("rnn.prototxt", "--inputs", "x.npz"), ("rnn.prototxt", "--inputs", "x.h5")),
            "compile": (
                (*CELL, "--weights", "x.npz"),
                (*CELL, "--target", "t.toml"),
                (*CELL, "--backend", "c", "-O", "numbers=c-a8w8", "-O", "ranges=r.json"),
            ),
            "numbers": (("ranges", *CELL, "--data", "x.npz"), ("ranges", *CELL, "--data", "x.h5")),
            "verify": ((*CELL, "--numbers", "d.toml", "--data", "x.npz"),),
        },
    ),
    "the folder of a run": (
        run_folder,
        {"report": (("run", "-o", "run.html"),), "run": (("run", *RUN),), "compile": ((*CELL, "--weights", "run"),)},
    ),
}


def page() -> dict[str, tuple[set[str], set[str]]]:
    """The table of SECURITY.md: by a row's name, the commands that execute the files, and those that read them."""
    rows = re.findall(r"^\| \*\*(.+?)\*\*.* \|(.*)\|(.*)\|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    return {row[0]: (set(re.findall(r"`(\w+)`", row[1])), set(re.findall(r"`(\w+)`", row[2]))) for row in rows}


def test_the_page_has_every_row() -> None:
    assert page().keys() == ROWS.keys()


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_only_what_the_page_says_is_executed(row: str, lstmc: LSTMC, caffe: object, tmp_path: Path) -> None:
    executing, reading = page()[row]
    plant, commands = ROWS[row]
    assert executing | reading == commands.keys()
    found = set()
    for command, each in commands.items():
        ran = tmp_path / f"ran-by-{command}"  # new code for each: a library is opened once in a process
        plant(ran, lstmc)
        ran.unlink(missing_ok=True)  # of planting: the net's own files may have been run
        for arguments in each:
            ended = lstmc(command, *arguments)
            assert "Traceback" not in ended.err, (command, arguments, ended.err)
        if ran.exists():
            found.add(command)
    assert found == executing


def test_no_file_beside_a_trained_model_is_imported(tmp_path: Path) -> None:
    """An archive that is unpacked into the current folder, where modules of these names could be looked for."""
    ran = tmp_path / "RAN"
    names = ("tensorflow", "jax", "pydot", "_winapi", "torchvision", "onnxscript", "pandas", "PIL", "sitecustomize")
    for name in names:
        (tmp_path / f"{name}.py").write_text(python(ran))
    shutil.copy(CORPUS / "gru.keras", tmp_path)
    command = [sys.executable, "-P", "-m", "lstmc", "convert", "gru.keras", "-o", ".", "-D", "N=1", "--target", "flat"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [*command, "--on", "interpreter"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert not ran.exists()


PROGRAMS: Mapping[str, Callable[[Any], object]] = {
    "numpy": lambda location: describe(sys.executable),
    "mpi4py": missing_for_mpi,
    "pip": lambda location: pip("--version"),
    "tflite_micro": lambda location: runs_in_arena(b"", 1),
    "_tools": lambda location: subprocess.run([sys.executable, "-c", mnn_converter()], capture_output=True),
}


def mnn_converter() -> str:
    """The program that a reader's process starts to convert a net for MNN."""
    text = (ROOT / "backends/lstmc_caffe/readers/programs/mnn.py").read_text()
    found = re.search(r'^CONVERT = "(.*)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("module", PROGRAMS)
def test_no_program_imports_a_file_of_the_current_folder(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tmp_path / "RAN"
    Path(f"{module}.py").write_text(python(ran))
    PROGRAMS[module](SimpleNamespace(python=sys.executable, environment=lambda: dict(os.environ)))
    assert not ran.exists()
