"""Runtimes that read Caffe nets: their description, and the runtimes of lstmc and of plug-ins, by entry point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmc.plugins import entry_points_of, load_point, malformed, only_entry_point

PROGRAMS = Path(__file__).parent / "programs"
GROUP = "lstmc_caffe.readers"


@dataclass(frozen=True)
class Environment:
    """A separate Python environment of a reader, made by ``python -m lstmc_caffe.readers install READER``. ``python``
    is the version of the interpreter, ``3.8``; ``requires`` are requirements for pip; ``setup`` is a file of Python
    that its interpreter then runs once."""

    name: str
    python: str
    requires: tuple[str, ...]
    setup: Path | None = None


@dataclass(frozen=True)
class Program:
    """One file of Python that is run in one environment: lstmc's own, or one of the reader's.
    ``file`` is run in a worker process, without a module of lstmc. Each function takes ``(args, arrays)``, one
    dictionary of JSON data and one of NumPy arrays, and returns such a pair. ``about`` gives ``{"version": ...}``, an
    error where the reader cannot be imported. ``convert``, optional, makes files of ``net.prototxt`` and
    ``net.caffemodel`` in ``args["folder"]``. ``run``, of the last program, runs the net of ``args["folder"]`` on
    ``arrays``, the inputs' blobs by name, and returns the blobs that ``args["wanted"]`` names, each with its shape."""

    file: Path
    environment: Environment | None = None
    command: str = ""  # a program that it runs, which no package brings


@dataclass(frozen=True)
class Reader:
    """A program that reads Caffe nets; packages register theirs by the entry-point group ``lstmc_caffe.readers``.
    ``target`` is the default target of its nets; ``tolerance`` the relative one of outputs, None if it computes in
    float32. A reader in lstmc's own environment has ``extra``, the extra of lstmc that installs it, or ``install``, a
    command."""

    name: str
    title: str
    target: str
    programs: tuple[Program, ...]
    tolerance: float | None = None
    extra: str = ""
    install: str = ""

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The environments of its programs other than lstmc's own."""
        return tuple(dict.fromkeys(program.environment for program in self.programs if program.environment is not None))

    @property
    def install_command(self) -> str:
        if self.extra:
            return f"python -m pip install 'lstmc[{self.extra}]'"
        return self.install or f"python -m lstmc_caffe.readers install {self.name}"


OPENCV = Reader(
    name="opencv", title="OpenCV 4 DNN", target="opencv", programs=(Program(PROGRAMS / "opencv.py"),), extra="opencv"
)
MNN = Reader(name="mnn", title="MNN", target="mnn", programs=(Program(PROGRAMS / "mnn.py"),), extra="mnn")


def _openvino(name: str, title: str, converter: Environment, runtime: Environment, target: str = "openvino") -> Reader:
    """Return OpenVINO with the Model Optimizer of one release, and the runtime of this or another release."""
    programs = (Program(PROGRAMS / "openvino_convert.py", converter), Program(PROGRAMS / "openvino_run.py", runtime))
    return Reader(name=name, title=title, target=target, programs=programs)


_OPENVINO_2023 = Environment(
    "openvino-2023.3", "3.10", ("openvino-dev[caffe]==2023.3.0", "openvino-telemetry==2023.2.1", "setuptools<80")
)
_OPENVINO_2022 = Environment(
    "openvino-2022.3", "3.8", ("openvino-dev[caffe]==2022.3.0", "openvino-telemetry==2022.3.0", "setuptools<80")
)
_NEWEST = Environment("openvino-runtime", "3.11", ("openvino>=2025",))
OPENVINO = _openvino("openvino", "OpenVINO", _OPENVINO_2023, _NEWEST)
OPENVINO_2023 = _openvino("openvino-2023.3", "OpenVINO 2023.3", _OPENVINO_2023, _OPENVINO_2023)
OPENVINO_2022 = _openvino(
    "openvino-2022.3", "OpenVINO 2022.3", _OPENVINO_2022, _OPENVINO_2022, target="openvino-2022.3"
)


def _own(
    name: str, title: str, python: str, requires: str, *, setup: Path | None = None, command: str = "", **more: Any
) -> Reader:
    """Return a reader with one program in one environment. Program, environment and target have the reader's name."""
    environment = Environment(name, python, tuple(requires.split()), setup)
    return Reader(
        name, title, name, (Program(PROGRAMS / f"{name.replace('-', '_')}.py", environment, command),), **more
    )


# RKNN computes in float16.
RKNN = _own("rknn", "RKNN toolkit 2", "3.8", "rknn-toolkit2==2.3.2 setuptools<80", tolerance=1e-2)
TPU_MLIR = _own(
    *("tpu-mlir", "TPU-MLIR", "3.10"),
    "tpu_mlir==1.30.2 opencv-python-headless==4.8.0.74 onnx psutil flatbuffers torch==1.12.1 setuptools<80",
    setup=PROGRAMS / "tpu_mlir_setup.py",
)
ACUITY = _own("acuity", "Acuity", "3.8", "acuitylite==6.51.0 torch==2.4.0 setuptools<80")
COREML = _own(
    *("coreml", "Core ML's converter", "3.7"),
    "coremltools==3.4 onnxmltools==1.11.1 onnxconverter-common==1.13.0 onnx==1.13.1 onnxruntime==1.14.1"
    " protobuf<3.21 setuptools<68",
)
TVM = _own("tvm", "TVM relay", "3.8", "hhb-tvm==3.2.3 tqdm tflite protobuf<3.21 setuptools<80")
X2PADDLE = _own(
    *("x2paddle", "x2paddle", "3.8"),
    "x2paddle==1.6.0 paddlepaddle==2.6.2 protobuf==3.20.3 six requests pandas charset-normalizer==2.1.1 setuptools<80",
)
NCNN = _own("ncnn", "ncnn", "3.11", "ncnn==1.0.20261020", command="caffe2ncnn")


def reader_names() -> tuple[str, ...]:
    return tuple(entry_points_of(GROUP))


def load_reader(name: str) -> Reader:
    """Return a reader by its name. Raises PluginError if no package or several have it, or if it is no such reader."""
    point = only_entry_point(GROUP, name, "reader")
    reader = load_point(point, "reader")
    if not isinstance(reader, Reader):
        raise malformed(point, "reader", "a lstmc_caffe.readers.known.Reader", repr(reader))
    if reader.name != name:
        raise malformed(point, "reader", f"one of that name, {name}", f"one called {reader.name}")
    return reader
