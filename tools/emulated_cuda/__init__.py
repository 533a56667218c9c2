"""``python -m tools.emulated_cuda``: Caffe with CUDA for a device that the CPU emulates, for tests without a GPU.

The other files here take the place of CUDA's nvcc, headers and libraries (docs/gpu.md).
"""
