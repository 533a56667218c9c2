"""The readers that lstmc brings, each by an entry point of the group ``lstmc_caffe.readers``, and how any is found."""

from __future__ import annotations

from lstmc.plugins import load_point, malformed, offered, the_one
from lstmc_caffe.readers.reader import PROGRAMS, Environment, Reader, Stage

GROUP = "lstmc_caffe.readers"

OPENCV = Reader(
    name="opencv",
    title="OpenCV 4 DNN",
    target="opencv",
    stages=(Stage(PROGRAMS / "opencv.py"),),
    install="python -m pip install 'lstmc[opencv]'",
)
MNN = Reader(
    name="mnn",
    title="MNN",
    target="mnn",
    stages=(Stage(PROGRAMS / "mnn.py"),),
    install="python -m pip install 'lstmc[mnn]'",
)


def _openvino(name: str, title: str, converter: Environment, runtime: Environment, target: str = "openvino") -> Reader:
    """Model Optimizer of one release, and the runtime of that or another."""
    stages = (Stage(PROGRAMS / "openvino_convert.py", converter), Stage(PROGRAMS / "openvino_run.py", runtime))
    return Reader(name=name, title=title, target=target, stages=stages)


_OPENVINO_2023 = Environment(
    "openvino-2023.3", "3.10", ("openvino-dev[caffe]==2023.3.0", "openvino-telemetry==2023.2.1", "setuptools<80")
)
_OPENVINO_2022 = Environment(
    "openvino-2022.3", "3.8", ("openvino-dev[caffe]==2022.3.0", "openvino-telemetry==2022.3.0", "setuptools<80")
)
_OPENVINO_NEWEST = Environment("openvino-runtime", "3.11", ("openvino>=2025",))
OPENVINO = _openvino("openvino", "OpenVINO", _OPENVINO_2023, _OPENVINO_NEWEST)
OPENVINO_2023 = _openvino("openvino-2023.3", "OpenVINO 2023.3", _OPENVINO_2023, _OPENVINO_2023)
OPENVINO_2022 = _openvino(
    "openvino-2022.3", "OpenVINO 2022.3", _OPENVINO_2022, _OPENVINO_2022, target="openvino-2022.3"
)
RKNN = Reader(
    name="rknn",
    title="RKNN toolkit 2",
    target="rknn",
    stages=(Stage(PROGRAMS / "rknn.py", Environment("rknn", "3.8", ("rknn-toolkit2==2.3.2", "setuptools<80"))),),
    tolerance=1e-2,  # it computes in float16
)
TPU_MLIR = Reader(
    name="tpu-mlir",
    title="TPU-MLIR",
    target="tpu-mlir",
    stages=(
        Stage(
            PROGRAMS / "tpu_mlir.py",
            Environment(
                "tpu-mlir",
                "3.10",
                (
                    *("tpu_mlir==1.30.2", "opencv-python-headless==4.8.0.74", "onnx", "psutil", "flatbuffers"),
                    *("torch==1.12.1", "setuptools<80"),
                ),
                PROGRAMS / "tpu_mlir_setup.py",
            ),
        ),
    ),
)
ACUITY = Reader(
    name="acuity",
    title="Acuity",
    target="acuity",
    stages=(
        Stage(
            PROGRAMS / "acuity.py",
            Environment("acuity", "3.8", ("acuitylite==6.51.0", "torch==2.4.0", "setuptools<80")),
        ),
    ),
)
COREML = Reader(
    name="coreml",
    title="Core ML's converter",
    target="coreml",
    stages=(
        Stage(
            PROGRAMS / "coreml.py",
            Environment(
                "coreml",
                "3.7",
                (
                    *("coremltools==3.4", "onnxmltools==1.11.1", "onnxconverter-common==1.13.0", "onnx==1.13.1"),
                    *("onnxruntime==1.14.1", "protobuf<3.21", "setuptools<68"),
                ),
            ),
        ),
    ),
)
TVM = Reader(
    name="tvm",
    title="TVM relay",
    target="tvm",
    stages=(
        Stage(
            PROGRAMS / "tvm.py",
            Environment("tvm", "3.8", ("hhb-tvm==3.2.3", "tqdm", "tflite", "protobuf<3.21", "setuptools<80")),
        ),
    ),
)
X2PADDLE = Reader(
    name="x2paddle",
    title="x2paddle",
    target="x2paddle",
    stages=(
        Stage(
            PROGRAMS / "x2paddle.py",
            Environment(
                "x2paddle",
                "3.8",
                (
                    *("x2paddle==1.6.0", "paddlepaddle==2.6.2", "protobuf==3.20.3", "six", "requests", "pandas"),
                    *("charset-normalizer==2.1.1", "setuptools<80"),
                ),
            ),
        ),
    ),
)
_NCNN = Environment("ncnn", "3.11", ("ncnn==1.0.20261020",))
NCNN = Reader(
    name="ncnn",
    title="ncnn",
    target="ncnn",
    stages=(Stage(PROGRAMS / "ncnn_convert.py", _NCNN), Stage(PROGRAMS / "ncnn_run.py", _NCNN)),
)


def reader_names() -> tuple[str, ...]:
    """The names of all readers that are offered."""
    return tuple(offered(GROUP))


def load_reader(name: str) -> Reader:
    """A reader by its name. Raises :class:`PluginError` if there is none of that name, or two, or it is none."""
    point = the_one(GROUP, name, "reader")
    found = load_point(point, "reader")
    if not isinstance(found, Reader):
        raise malformed(point, "reader", "a lstmc_caffe.readers.reader.Reader", repr(found))
    if found.name != name:
        raise malformed(point, "reader", f"one of that name, {name}", f"one called {found.name}")
    return found
