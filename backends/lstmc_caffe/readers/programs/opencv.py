"""OpenCV 4's DNN module. OpenCV names a blob after the layer that writes it."""

import os

import cv2


def about(args, arrays):
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise RuntimeError("OpenCV %s reads no Caffe nets: 'opencv-python-headless<5' does" % cv2.__version__)
    return {"version": cv2.__version__}, {}


def run(args, arrays):
    """Return the wanted blobs of the folder's net on ``arrays``."""
    cv2.setNumThreads(1)
    base = os.path.join(args["folder"], "net")
    net = cv2.dnn.readNetFromCaffe(base + ".prototxt", base + ".caffemodel")
    for name, array in arrays.items():
        net.setInput(array, name)
    return {}, {name: net.forward(name).copy() for name in args["wanted"]}
