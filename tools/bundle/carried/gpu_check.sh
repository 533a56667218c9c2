#!/bin/sh
# Checks lstmc's nets in real Caffe on this machine's GPU: ./gpu_check.sh [PYTHON [-o FILE] [--cells CELL ...]]
# PYTHON is a Python 3.12 with numpy and protobuf, and cuBLAS and cuRAND of CUDA 13 (default: python3.12).
# No network is used, and nothing is written but temporary files, and FILE: the page of what was measured. The last line
# is "N passed, M failed".
here=$(cd "$(dirname "$0")" && pwd) || exit 2
python=${1:-python3.12}
[ $# -eq 0 ] || shift
command -v "$python" >/dev/null || {
  echo "gpu_check.sh: there is no $python: give the path of a Python 3.12, as in ./gpu_check.sh /opt/python3.12/bin/python3"
  exit 2
}
cuda=$("$python" "$here/find_cuda.py") || { echo "$cuda"; exit 2; }
export LSTMC_BUNDLE_PYTHON="$python" LSTMC_BUNDLE_LIBRARIES="$here/lib${cuda:+:$cuda}"
export LSTMC_CAFFE_PYTHON="$here/pycaffe_python.sh"
export LSTMC_CAFFE_PYTHONPATH="$here/python:$here/placeholders:$here/site"
export PYTHONPATH="$here/site" PYTHONDONTWRITEBYTECODE=1
exec "$python" -m tools.gpu_check "$@"
