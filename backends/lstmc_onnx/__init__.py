"""ONNX from lstmc: models for inference, and ONNX Runtime to run them."""

from lstmc_onnx.backend import OnnxBackend

__all__ = ["OnnxBackend"]
