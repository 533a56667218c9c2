"""Core ML: coremltools' converter of Caffe nets. Core ML needs macOS: onnxmltools and ONNX Runtime run the result."""

import os

import coremltools
import onnxmltools
import onnxruntime
from pkg_resources import get_distribution


def about(args, arrays):
    versions = tuple(get_distribution(name).version for name in ("coremltools", "onnxmltools"))
    return {"version": "coremltools %s, run by onnxmltools %s" % versions}, {}


def convert(args, arrays):
    base = os.path.join(args["folder"], "net")
    coremltools.converters.caffe.convert((base + ".caffemodel", base + ".prototxt")).save(base + ".mlmodel")
    return {}, {}


def run(args, arrays):
    """Convert the folder's Core ML model into ONNX. Return no facts, and its outputs on ``arrays`` in ONNX Runtime."""
    spec = coremltools.utils.load_spec(os.path.join(args["folder"], "net.mlmodel"))
    model = onnxmltools.convert_coreml(spec, "net", custom_shape_calculators={"concat": _joined})
    for port in model.graph.input:  # declared as [N, D, 1, 1] for an input that only an InnerProduct reads
        del port.type.tensor_type.shape.dim[2:]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return {}, dict(zip(names, session.run(names, arrays)))


def _joined(operator):
    """Set the shape of the output of a Concat of [N, C], for which onnxmltools requires four axes."""
    shapes = [variable.type.shape for variable in operator.inputs]
    operator.outputs[0].type.shape = [shapes[0][0], sum(shape[1] for shape in shapes)]
