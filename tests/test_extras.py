"""What only some uses need is no part of the base install: the rest works without, and says which extra brings it."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from lstmc.errors import DrawingError, TrainingError
from lstmc.ops import Array
from lstmc.runs.metrics import draw
from lstmc_caffe.train.net import write_batches_hdf5
from tests.cli.conftest import LSTMC, lstmc
from tests.cli.test_train import interpreter
from tests.sweeps.test_sweep import GRID, Here, here, swept

__all__ = ["here", "interpreter", "lstmc"]  # fixtures

HIDDEN = ("h5py", "matplotlib", "distributed", "dask", "yaml", "onnx", "onnxruntime", "torch", "tensorboardX", "svglib")
SIZES = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
ROW = '{"kind": "train", "iteration": 1, "loss": 2.0, "rate": 0.1, "seconds": 0.1}\n'


class _Hider:
    """Finds nothing where a hidden package is looked for, as in an environment without it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as if no extra were installed."""
    drawing = ("lstmc.runs.curves", "lstmc.sweeps.drawing")
    for name in [name for name in sys.modules if name.partition(".")[0] in HIDDEN or name in drawing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Hider, *sys.meta_path])


def missing(module: str, what: str, extra: str) -> str:
    return (
        f"{what} is needed for this and cannot be imported (No module named {module!r}):"
        f" python -m pip install 'lstmc[{extra}]'"
    )


def test_the_base_install_compiles_shows_draws_and_verifies(base: None, lstmc: LSTMC, tmp_path: Path) -> None:
    for command in (
        ("compile", "--cell", "gru", *SIZES, "-o", "out"),
        ("show", "--cell", "gru", *SIZES),
        ("show", "--cell", "gru", *SIZES, "--unrolled", "-o", "gru.svg"),
        ("verify", "--cell", "gru", *SIZES, "--on", "interpreter"),
        ("new", "model", "mine"),
        ("verify", "out/gru.prototxt"),
        ("targets",),
    ):
        ended = lstmc(*command)
        assert (ended.code, ended.err) == (0, ""), command
    assert (tmp_path / "gru.svg").read_text().startswith("<?xml")


def a_net(lstmc: LSTMC) -> None:
    assert lstmc("compile", "--cell", "gru", *SIZES, "-o", "out").code == 0


def hdf5(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n")  # that it is HDF5 is seen before h5py is asked for


def a_run(folder: Path) -> None:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(ROW)
    told = {
        "command": "lstmc train",
        "settings": {},
        "model": "m.py:m",
        "sizes": {},
        "target": "caffe",
        "backend": "caffe",
    }
    (folder / "command.json").write_text(json.dumps(told))


def test_hdf5_inputs_say_what_is_missing(base: None, lstmc: LSTMC, tmp_path: Path) -> None:
    a_net(lstmc)
    hdf5(tmp_path / "x.h5")
    ended = lstmc("run", "out/gru.prototxt", "--inputs", "x.h5", "-o", "y.npz")
    assert (ended.code, ended.err) == (2, f"DataError: {missing('h5py', 'h5py', 'hdf5')}\n")


def test_a_bulk_run_says_what_is_missing_before_anything_is_run(base: None, lstmc: LSTMC, tmp_path: Path) -> None:
    a_net(lstmc)
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 3, 3), np.float32))
    ended = lstmc("run", "out/gru.prototxt", "--inputs", "x.npz", "-o", "y.h5")
    assert (ended.code, ended.err) == (2, f"DataError: {missing('h5py', 'h5py', 'hdf5')}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.npz"]


def test_a_file_of_keras_says_what_is_missing(base: None, lstmc: LSTMC, tmp_path: Path) -> None:
    hdf5(tmp_path / "model.h5")
    ended = lstmc("convert", "--no-compile", "model.h5", "-o", "model.py")
    assert (ended.code, ended.err) == (2, f"SourceError: {missing('h5py', 'h5py', 'keras')}\n")


def test_curves_say_what_is_missing(base: None, lstmc: LSTMC, tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    ended = lstmc("report", "run", "-o", "curves.png")
    assert (ended.code, ended.err) == (2, f"DrawingError: {missing('matplotlib', 'matplotlib', 'plot')}\n")
    ended = lstmc("report", "run", "-o", "run.html")
    assert (ended.code, ended.err) == (2, f"DrawingError: {missing('matplotlib', 'matplotlib', 'plot')}\n")


def test_the_curve_of_a_run_says_what_is_missing(base: None, tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    with pytest.raises(DrawingError) as raised:
        draw(tmp_path / "run")
    assert raised.value.message == missing("matplotlib", "matplotlib", "plot")


def test_a_sweep_says_what_is_missing_before_anything_is_trained(base: None, lstmc: LSTMC, here: Here) -> None:
    ended = swept(lstmc, *GRID)
    assert (ended.code, ended.err) == (2, f"SweepError: {missing('matplotlib', 'matplotlib', 'sweep')}\n")
    assert here.jobs == []


class _Ones:
    per_epoch, fingerprint = 2, "ones"

    def batch(self, iteration: int) -> dict[str, Array]:
        return {"x": np.ones((2, 3), np.float32)}


def test_training_data_say_what_is_missing(base: None, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as raised:
        write_batches_hdf5(_Ones(), tmp_path / "train.h5")
    assert raised.value.message == missing("h5py", "h5py", "hdf5")
    assert not (tmp_path / "train.h5").exists()
