"""VeriSilicon's Acuity: its loader of Caffe nets, and its inference in float32."""

import os
from importlib.metadata import version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before it imports TensorFlow, which logs facts about this machine

from acuitylib.interface.importer import CaffeLoader  # noqa: E402
from acuitylib.interface.inference import Inference  # noqa: E402


def about(args, arrays):
    return {"version": "Acuity " + version("acuitylite")}, {}


def run(args, arrays):
    """Return the outputs of the folder's net on ``arrays``."""
    base = os.path.join(args["folder"], "net")
    net = CaffeLoader(model=base + ".prototxt", weights=base + ".caffemodel").load()
    session = Inference(net)
    session.build_session()
    _, outputs = session.run_session({layer.name: arrays[layer.name] for layer in net.get_input_layers()})
    # each output is a layer `output` of its own, which has the name of the layer that it reads
    names = [layer.input_layers[0].name for layer in net.get_output_layers()]
    return {}, dict(zip(names, outputs))
