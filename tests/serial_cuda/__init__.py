"""Generated CUDA as a program for the CPU without any threads: what it computes can be checked where no GPU is."""

from __future__ import annotations

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent
_CONTENT = hashlib.sha256((_FOLDER / "cuda_runtime.h").read_bytes()).hexdigest()

# For the sanitizer of threads: what are threads of a launch on a GPU are then spread over some of the host.
PARALLEL = ("-DCUDA_HOST_THREADS=3",)
# With these g++ compiles NAME.layers.cu, as if its layers were those for the CPU. The last tells libraries apart that
# are remembered by how they were compiled.
FLAGS = (f"-I{_FOLDER}", "-Dlstmc_gpu_layers=lstmc_layers", f"-DSERIAL_CUDA_{_CONTENT}")
