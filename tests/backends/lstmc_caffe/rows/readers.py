"""Other programs that read Caffe nets, as functions from written files and inputs to the model's outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.backend import Artifact, Compiled

Floats = np.ndarray[Any, np.dtype[np.float32]]


def write(compiled: Compiled, artifact: Artifact, folder: Path) -> dict[str, Any]:
    """The artifact's files in a folder; its manifest."""
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    manifest: dict[str, Any] = json.loads(artifact.files[f"{compiled.name}.manifest.json"])
    return manifest


def fed(manifest: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Floats]:
    """The blobs to feed, as the manifest tells to make them of the inputs."""
    blobs: dict[str, Floats] = {}
    for name, place in manifest["inputs"].items():
        if name not in inputs:
            continue
        array = np.asarray(inputs[name], np.float32)
        shape = place.get("blob_shape", place["shape"])
        if place["blob"] is not None:
            blobs[place["blob"]] = array.reshape(shape)
        for t, blob in enumerate(place.get("blobs", ())):
            if blob is not None:  # nothing reads this step
                blobs[blob] = array[t].reshape(shape)
    return blobs


def read(manifest: Mapping[str, Any], blobs: Mapping[str, Any]) -> dict[str, Floats]:
    """The outputs, as the manifest tells to make them of blobs."""
    found = {}
    for name, place in manifest["outputs"].items():
        names = [place["blob"]] if place["blob"] is not None else place["blobs"]
        found[name] = np.concatenate([np.asarray(blobs[n]).ravel() for n in names]).reshape(place["shape"])
    return found


def wanted_blobs(manifest: Mapping[str, Any]) -> list[str]:
    """The blobs that the outputs are made of."""
    places = manifest["outputs"].values()
    return [n for place in places for n in ([place["blob"]] if place["blob"] is not None else place["blobs"])]


def opencv(compiled: Compiled, artifact: Artifact, inputs: Mapping[str, Any], folder: Path) -> dict[str, Floats]:
    """OpenCV 4's DNN module, from the very files."""
    import cv2  # noqa: PLC0415

    manifest = write(compiled, artifact, folder)
    base = str(folder / compiled.name)
    net = cv2.dnn.readNetFromCaffe(f"{base}.prototxt", f"{base}.caffemodel")
    for blob, array in fed(manifest, inputs).items():
        net.setInput(array, blob)
    # a blob goes by its layer's name there, which is its own: outputs are no second tops
    return read(manifest, {blob: net.forward(blob).copy() for blob in wanted_blobs(manifest)})


_MNN = """
import sys, numpy, MNN
folder, model = sys.argv[1:]
given, shapes = dict(numpy.load(folder + "/in.npz")), dict(numpy.load(folder + "/shapes.npz"))
net = MNN.Interpreter(model)
session = net.createSession()
for name, array in given.items():
    net.resizeTensor(net.getSessionInput(session, name), array.shape)
net.resizeSession(session)
caffe = MNN.Tensor_DimensionType_Caffe
for name, array in given.items():
    host = MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, caffe)
    net.getSessionInput(session, name).copyFrom(host)
net.runSession(session)
found = {}
for name in shapes:
    tensor = net.getSessionOutput(session, name)
    host = MNN.Tensor(tensor.getShape(), MNN.Halide_Type_Float, numpy.zeros(tensor.getShape(), "f4"), caffe)
    tensor.copyToHostTensor(host)
    found[name] = numpy.array(host.getData(), "f4")
numpy.savez(folder + "/out.npz", **found)
"""


def mnn(compiled: Compiled, artifact: Artifact, inputs: Mapping[str, Any], folder: Path) -> dict[str, Floats]:
    """MNN: its converter on the files, then its runtime, in processes of their own as a crash ends them."""
    manifest = write(compiled, artifact, folder)
    base = str(folder / compiled.name)
    convert = [str(Path(sys.executable).with_name("mnnconvert")), "-f", "CAFFE", "--bizCode", "lstmc"]
    files = ["--modelFile", f"{base}.caffemodel", "--prototxt", f"{base}.prototxt", "--MNNModel", f"{base}.mnn"]
    said = subprocess.run([*convert, *files], capture_output=True, text=True, check=False)
    assert Path(f"{base}.mnn").is_file(), said.stdout + said.stderr
    np.savez(folder / "in.npz", **fed(manifest, inputs))
    np.savez(folder / "shapes.npz", **{blob: np.zeros(1) for blob in wanted_blobs(manifest)})
    ran = subprocess.run(
        [sys.executable, "-c", _MNN, str(folder), f"{base}.mnn"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return read(manifest, dict(np.load(folder / "out.npz")))
