#!/bin/sh
# That lstmc and its Caffe work: a net is compiled, held against the interpreter in real Caffe, drawn, and run.
set -eu
export PATH="${LSTMC_VENV:-/opt/lstmc}/bin:$PATH"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
sizes="-D T=5 -D N=2 -D D=3 -D H=4"
lstmc compile --cell gru $sizes -o out
lstmc verify --cell gru $sizes --on caffe-cpu
lstmc show --cell gru $sizes -o net.png
python -c 'import numpy as np; np.savez("x.npz", x=np.ones((5, 2, 3), np.float32))'
lstmc run out/gru.prototxt --inputs x.npz -o y.npz
test -s net.png -a -s y.npz
echo "smoke test passed"
