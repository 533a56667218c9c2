"""Running written nets in ONNX Runtime, and reading what is in them."""
