#!/bin/sh
# What the Dockerfile runs: lstmc in an environment of its own, and real Caffe. Debian and Ubuntu; in a clone, as root.
# LSTMC_VENV is where the environment goes, LSTMC_PYTHON the Python that it is made of.
set -eu
venv=${LSTMC_VENV:-/opt/lstmc}
python=${LSTMC_PYTHON:-python3}
command -v "$python" >/dev/null && "$python" -c 'import ensurepip, venv' 2>/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$python" "$python-venv" ca-certificates
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "lstmc needs Python 3.11 or newer, found $("$python" --version). Name one: LSTMC_PYTHON=python3.11 $0" >&2
  exit 2
}
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check '.[draw,hdf5,plot]'
"$venv/bin/python" -m lstmc_caffe.install
