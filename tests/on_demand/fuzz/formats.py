"""A valid file of each format that is read, and how it is read: by the functions that the commands call."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np

import lstmc
from lstmc.cells import gru
from lstmc.data import batch_axes, dataset_for
from lstmc.files.arrays import npz_bytes, read_arrays
from lstmc.importers.importer import import_file
from lstmc.manifest import read_manifest
from lstmc.nets import tune
from lstmc.nets.session import LoadedOnce, NetFiles, Stream, checked_inputs
from lstmc.report import run_facts
from lstmc.runs.folder import HASH, RunIdentity, _digest, _own_digest, run_folder
from lstmc.runs.metrics import Metrics, read_metrics
from lstmc.sweeps.sweeping import Definition, sweep_folder
from lstmc.sweeps.trials import Outcome, outcome_file, read_outcome
from lstmc.weights import read_weights
from lstmc_caffe.install import record
from lstmc_caffe.proto.net import RawState
from lstmc_caffe.runtime.executor import _check_layers
from lstmc_caffe.targets.lint import lint_text, listed_layers
from lstmc_caffe.targets.target import load_target
from lstmc_caffe.train.trainer import TrainingState, last_state, save_state
from lstmc_caffe.write.net import read_blobs
from lstmc_caffe.write.net import read_weights as trained_weights
from tests.backends.lstmc_caffe.source.old_nets import VIDEO, caffemodel

DEFINITION = Definition({"model": "net.py", "seed": 0}, {"net.py": "0" * 64}, {"seed=0": {"seed": "0"}}, None, "loss")
IDENTITY = RunIdentity.from_net(b"net", "data", {"max_iter": 3})
CORPUS = Path(__file__).parent / "corpus"  # files that other programs wrote
TFLITE = Path(__file__).parents[2] / "importers" / "tflite"
TARGET = Path(lstmc.__file__).parents[1] / "backends" / "lstmc_caffe" / "targets" / "flat.toml"


@dataclass(frozen=True)
class Format:
    """A kind of file: what a valid one is called and holds, and what reads it. ``read`` gets the folder it is in."""

    name: str
    content: bytes
    read: Callable[[Path], None]


@cache
def net() -> lstmc.Net:
    return lstmc.compile("gru", T=3, N=2, D=4, H=5)


@cache
def step() -> lstmc.Net:
    return lstmc.compile("gru", T=3, N=1, D=4, H=5, step=True)


@lstmc.model
def fits(X=lstmc.Input(3, *lstmc.dims("N D")), y=lstmc.Input(*lstmc.dims("N D"))):  # type: ignore[no-untyped-def]
    found, last = lstmc.scan(gru(H=4), X)
    return {"found": found, "loss": lstmc.euclidean_loss(last["h"], y)}


def formats(folder: Path) -> dict[str, Format]:
    """All formats by name; ``folder`` is for what must be written once."""
    written = net().files
    snapshots = folder / "snapshots"
    for iteration in (2, 4):
        save_state(snapshots, _state(iteration))
    arrays = {"x": np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)}
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=arrays["x"], chunks=(1, 2, 4), compression="gzip")
        file["group/more"] = np.arange(3)
    run = json.dumps({"net": IDENTITY.net, "data": IDENTITY.data, "settings": dict(IDENTITY.settings)}, indent=1)
    metrics = "".join(
        f'{{"kind": "train", "iteration": {i}, "loss": 0.5, "rate": 0.1, "seconds": {i}}}\n' for i in range(6)
    )
    tuned = json.dumps({"a" * 64: {"rule": 1e-3, "native": 2e-3}}, indent=1)
    installed = {"key": "k", "source": "caffe 1.0", "python_version": "3.11", "python": "/usr/bin/python3"}
    installed |= {"built": "2026-01-01T00:00:00Z", "architectures": []}
    command = {"command": "lstmc train net.py", "model": "net.py:net", "sizes": {"T": 3}, "target": "caffe"}
    command |= {"backend": "caffe: CPU", "settings": {"max_iter": 3}, "options": {}, "files": ["net.prototxt"]}
    found = [
        Format("x.npz", npz_bytes(arrays | {"other": np.arange(3)}), _arrays),
        Format("x.h5", (folder / "x.h5").read_bytes(), _arrays),
        Format("weights.npz", npz_bytes(net().weights), _weights),
        Format("gru.manifest.json", written["gru.manifest.json"], _manifest),
        Format("step.manifest.json", step().files["gru.manifest.json"], _step_manifest),
        Format("gru.caffemodel", written["gru.caffemodel"], _caffemodel),
        Format("gru.prototxt", written["gru.prototxt"], _prototxt),
        Format("snapshot.json", (snapshots / "000004" / "snapshot.json").read_bytes(), _snapshot),
        Format("carried.npz", (snapshots / "000004" / "carried.npz").read_bytes(), _snapshot),
        Format("run.json", run.encode(), _run),
        Format("metrics.jsonl", metrics.encode(), _metrics),
        Format("command.json", json.dumps(command, indent=2).encode(), _command),
        Format("sweep.json", json.dumps(asdict(DEFINITION), indent=1).encode(), _sweep),
        *(Format(name, content, _outcome) for name, content in outcome_file(Outcome(4, 4, {"loss": 0.5})).items()),
        Format("flat.toml", TARGET.read_bytes(), _target),
        Format("tuned.json", tuned.encode(), _tuned),
        Format("install.json", json.dumps(installed, indent=2).encode(), _install),
        Format("weights.safetensors", _safetensors(), _imported),
        Format("native.prototxt", VIDEO.encode(), _caffe_source),
        Format("native.caffemodel", caffemodel(), _caffe_source),
        *(Format(path.name, path.read_bytes(), _imported) for path in sorted(CORPUS.iterdir()) if path.suffix != ".py"),
        *(
            Format(path.name, path.read_bytes(), _imported)
            for path in sorted(TFLITE.glob("*.tflite"))
            if "while" not in path.name
        ),
    ]
    return {one.name: one for one in found}


def _state(iteration: int) -> TrainingState:
    blobs = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) + iteration}
    solver = RawState(iter=iteration, current_step=1)
    solver.history.add(data=np.ones(6, "<f4").tobytes()).shape.dim.extend((2, 3))
    carried = {"lstm/h": np.full((2, 3), iteration, np.float32)}
    layers = (("first", "InnerProduct", ("w",)),)
    return TrainingState(iteration, blobs, carried, (0.5, 0.25), IDENTITY, solver.SerializeToString(), layers)


def _only(folder: Path) -> Path:
    (path,) = (path for path in folder.iterdir() if path.is_file())
    return path


def _arrays(folder: Path) -> None:
    arrays = read_arrays(_only(folder))
    (folder / "of").mkdir()
    for name, content in net().files.items():
        (folder / "of" / name).write_bytes(content)
    manifest = read_manifest(folder / "of" / "gru.manifest.json")
    files = NetFiles(folder / "gru.prototxt", folder / "gru.caffemodel", manifest)
    try:
        found = checked_inputs(files, arrays)
    except lstmc.errors.DataError:
        found = checked_inputs(files, {name: array for name, array in arrays.items() if name == "x"})
    assert found["x"].shape == (3, 2, 4)
    assert np.isfinite(found["x"]).all()
    graph = fits.graph(N=2, D=4)
    dataset_for(graph, batch_axes(fits), {"X": arrays["x"], "y": np.zeros((2, 4))}, "x")


def _weights(folder: Path) -> None:
    found = read_weights(_only(folder), net().graph)
    assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in net().weights.items()}


def _manifest(folder: Path) -> None:
    path = _only(folder)
    manifest = read_manifest(path)
    (folder / "of").mkdir()
    weights = folder / "of" / "gru.caffemodel"
    weights.write_bytes(net().files["gru.caffemodel"])
    trained_weights(weights, path)
    shapes = {n: entry.place.shape for n, entry in manifest.inputs.items() if not entry.filled}
    if sum(np.prod(shape) for shape in shapes.values()) < 10**6:
        checked_inputs(NetFiles(path, weights, manifest), {n: np.zeros(shape) for n, shape in shapes.items()})


def _step_manifest(folder: Path) -> None:
    path = _only(folder)

    def load() -> None:
        raise AssertionError("loaded")

    manifest = read_manifest(path)
    if all(np.prod(entry.place.shape) < 10**6 for entry in manifest.inputs.values()):
        Stream(LoadedOnce(NetFiles(path, path, manifest), load)).start({})  # type: ignore[arg-type]


def _caffemodel(folder: Path) -> None:
    path = _only(folder)
    (folder / "of").mkdir()
    (folder / "of" / "m.json").write_bytes(net().files["gru.manifest.json"])
    read_blobs(path, read_manifest(folder / "of" / "m.json").blobs)


def _prototxt(folder: Path) -> None:
    path = _only(folder)
    _check_layers(path)
    text = path.read_bytes().decode(errors="replace")
    lint_text(text, load_target("flat"))
    listed_layers(path.read_bytes())


def _snapshot(folder: Path) -> None:
    """A damaged file of the newest snapshot: that or the one before it is what is gone on from."""
    path = _only(folder)
    for iteration in (2, 4):
        save_state(folder / "s", _state(iteration))
    damaged = folder / "s" / "000004"
    (damaged / path.name).write_bytes(path.read_bytes())
    found = last_state(folder / "s")
    assert found is not None
    assert found[1].iteration in (2, 4)
    assert found[1].carried["lstm/h"][0, 0] == found[1].iteration
    try:  # the same as if it had been written so, with hashes that are right
        about = json.loads((damaged / "snapshot.json").read_bytes())
        content = path.read_bytes()
        if path.name in about["files"]:
            about["files"][path.name] = {"size": len(content), HASH: _digest(content)}
        own = {key: value for key, value in about.items() if key != HASH}
        (damaged / "snapshot.json").write_text(json.dumps({**own, HASH: _own_digest(own)}))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return
    found = last_state(folder / "s")
    assert found is not None
    assert found[1].iteration in (2, 4)


def _run(folder: Path) -> None:
    with run_folder(folder, IDENTITY, resume=True):
        pass


def _command(folder: Path) -> None:
    """What a run's record says goes into its report; the files that it names move away if the run is overwritten."""
    (folder / "metrics.jsonl").write_text('{"kind": "train", "iteration": 1, "loss": 0.5, "rate": 0.1, "seconds": 1}\n')
    (folder.parent / "mine").write_text("not the run's")
    with suppress(lstmc.errors.LstmcError):
        run_facts(folder)
    (folder / "run.json").write_text("{}")
    with run_folder(folder, IDENTITY, resume=False, overwrite=True):
        assert (folder.parent / "mine").read_text() == "not the run's"
    assert {path.name for path in folder.iterdir()} == {".lock", "previous", "run.json"}


def _sweep(folder: Path) -> None:
    with sweep_folder(folder, DEFINITION) as points:
        assert points.parent == folder


def _outcome(folder: Path) -> None:
    found = read_outcome(folder, 4)
    if found is not None:
        assert found.budget >= 0 <= found.iteration
        assert all(isinstance(score, float) for score in found.scores.values())


def _metrics(folder: Path) -> None:
    records = read_metrics(folder / "metrics.jsonl")
    assert len(records) <= 1000
    metrics = Metrics(folder, resume=True)
    metrics.train(3, 0.5, 0.1, 1.0)
    metrics.close()
    assert all(record["iteration"] <= 3 for record in read_metrics(folder / "metrics.jsonl"))


def _target(folder: Path) -> None:
    target = load_target(str(_only(folder)))
    lint_text(net().files["gru.prototxt"].decode(), target)


def _tuned(folder: Path) -> None:
    for seconds in tune._read(_only(folder)).values():
        assert all(isinstance(number, float) for number in seconds.values())


def _install(folder: Path) -> None:
    place = folder / "caffe" / "build"
    place.mkdir(parents=True)
    (place / "install.json").write_bytes(_only(folder).read_bytes())
    assert record.installed(folder) is None
    record.refusals(folder)
    record.installed_with_cuda(folder)


def _safetensors() -> bytes:
    arrays = {
        "weight_ih_l0": np.ones((16, 3), "<f4"),
        "weight_hh_l0": np.ones((16, 4), "<f4"),
        "bias_ih_l0": np.ones(16, "<f4"),
        "bias_hh_l0": np.ones(16, "<f4"),
    }
    header, at = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())


def _caffe_source(folder: Path) -> None:
    """Either of the two files damaged, the other one whole; what is imported is written, and put back into the net."""
    given = _only(folder)
    net, weights = folder / "of" / "old.prototxt", folder / "of" / "old.caffemodel"
    net.parent.mkdir()
    net.write_bytes(given.read_bytes() if given.suffix == ".prototxt" else VIDEO.encode())
    weights.write_bytes(given.read_bytes() if given.suffix == ".caffemodel" else caffemodel())
    import_file(net, weights=weights).files()


def _imported(folder: Path) -> None:
    path = _only(folder)
    import_file(path, recurrent_only=path.suffix == ".pt").files()
