"""How each of the core's ops is written in ONNX's operators."""
