"""TFLite from lstmc: nets of one step for LiteRT, TFLite Micro and the compilers of NPUs."""

from lstmc_tflite.backend import TfliteBackend

__all__ = ["TfliteBackend"]
