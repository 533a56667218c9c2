#!/bin/sh
# What the Dockerfile runs: lstmc in an environment of its own, and real Caffe. Debian and Ubuntu; in a clone, as root.
# LSTMC_VENV is where the environment goes.
set -eu
venv=${LSTMC_VENV:-/opt/lstmc}
command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates
}
python3 -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check '.[draw,hdf5,plot]'
"$venv/bin/python" -m lstmc_caffe.install
