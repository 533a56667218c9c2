"""OpenVINO's Model Optimizer of the releases that read Caffe nets: net.xml and net.bin, in float32."""

import os

import numpy as np
import openvino_telemetry

for _name, _type in (("bool", bool), ("int", int), ("float", float), ("object", object)):
    if _name not in vars(np):  # these releases of OpenVINO use it, and newer releases of NumPy lack it
        setattr(np, _name, _type)
for _name in ("start_session", "send_event", "send_error", "end_session", "force_shutdown"):
    setattr(openvino_telemetry.Telemetry, _name, lambda *args, **named: None)  # it would report each net

import openvino.runtime as ov  # noqa: E402
from openvino.runtime.passes import Manager, Serialize  # noqa: E402
from openvino.tools.mo import convert_model  # noqa: E402


def about(args, arrays):
    return {"version": "Model Optimizer " + ov.get_version().split("-")[0]}, {}


def convert(args, arrays):
    """Convert the folder's net into ``net.xml`` and ``net.bin``."""
    base = os.path.join(args["folder"], "net")
    model = convert_model(
        input_model=base + ".caffemodel",
        input_proto=base + ".prototxt",
        framework="caffe",
        output=",".join(args["wanted"]),
        compress_to_fp16=False,
        output_dir=args["folder"],  # where it writes files meanwhile, else in the current folder, under one name
    )
    passes = Manager()
    passes.register_pass(Serialize(base + ".xml", base + ".bin"))
    passes.run_passes(model)
    return {}, {}
