"""Builds real Caffe, pycaffe and the ``caffe`` program, into the user's cache folder: for the CPU, or with CUDA.
``python -m lstmc_caffe.install`` or ``installer.install()`` does it; ``record.installed()`` finds the build."""
