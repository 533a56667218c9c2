"""Scans that are ONNX's own recurrent layers: found by what they compute, their weights put in ONNX's order."""
