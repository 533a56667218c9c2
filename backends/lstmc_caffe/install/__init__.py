"""Builds real Caffe, pycaffe and the ``caffe`` program, into the user's cache folder: for the CPU, or with CUDA.

``python -m lstmc_caffe.install`` does it, and ``installer.install()`` from Python; ``record.installed()`` finds an
installed build.
"""
