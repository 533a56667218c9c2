"""Caffe from lstmc: nets of stock layers, and real Caffe in a process of its own to run them."""

from lstmc.on_use import words_on_use
from lstmc_caffe.backend import CaffeBackend as CaffeBackend

__getattr__, __dir__ = words_on_use(__name__)
