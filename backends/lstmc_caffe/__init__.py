"""Caffe from lstmc: nets of stock layers, and real Caffe in a process of its own to run them."""

from lstmc_caffe.backend import CaffeBackend

__all__ = ["CaffeBackend"]
