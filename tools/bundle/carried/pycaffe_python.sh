#!/bin/sh
# The Python that has pycaffe, as gpu_check.sh starts it: with the bundle's libraries before the system's own, as two of
# one name cannot be loaded. Other programs that run beside it (nvidia-smi, PyTorch) keep theirs.
export LD_LIBRARY_PATH="$LSTMC_BUNDLE_LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$LSTMC_BUNDLE_PYTHON" "$@"
