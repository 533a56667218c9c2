"""OpenVINO's runtime on the CPU, in float32."""

import os

try:
    from openvino import Core, get_version
except ImportError:  # before 2023
    from openvino.runtime import Core, get_version

F32 = {"INFERENCE_PRECISION_HINT": "f32"}  # else it computes in bfloat16 where the processor has it


def about(args, arrays):
    return {"version": "OpenVINO " + get_version().split("-")[0]}, {}


def run(args, arrays):
    """Return the wanted outputs of the folder's ``net.xml`` on ``arrays``."""
    core = Core()
    compiled = core.compile_model(core.read_model(os.path.join(args["folder"], "net.xml")), "CPU", F32)
    # an input also has the names of layers that only pass it on
    inputs = {name: arrays[name] for port in compiled.inputs for name in port.get_names() if name in arrays}
    results = compiled.create_infer_request().infer(inputs)
    outputs = {name: array for port, array in results.items() for name in port.get_names()}
    return {}, {name: outputs[name] for name in args["wanted"] if name in outputs}
