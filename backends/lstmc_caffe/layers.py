"""``python -m lstmc_caffe.layers NAME.layers.cpp -o NAME.layers.so`` compiles generated layers for your own pycaffe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import BackendError, LstmcError
from lstmc.files.output import write_files
from lstmc.text import plain
from lstmc_caffe.install.layer_compiler import library
from lstmc_caffe.install.record import installed_emulated, installed_with_cuda
from lstmc_caffe.processes.process import INSTALL_CUDA, CaffeLocation
from lstmc_caffe.runtime.locate import locate, locate_for_gpu
from lstmc_caffe.write.artifact import stored_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile for the Caffe that lstmc uses, and return the exit code: 0, or 2 for an error."""
    parser = argparse.ArgumentParser(
        prog="python -m lstmc_caffe.layers",
        description="Compiles the generated layers of a net into a library for the Caffe that lstmc uses.",
    )
    parser.add_argument("source", type=Path, metavar="NAME.layers.cpp", help="as lstmc compile wrote it")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.so", help="the library to write")
    parser.add_argument("--gpu", action="store_true", help="for the Caffe with CUDA, with NAME.layers.cu beside it")
    options = parser.parse_args(arguments)
    try:
        compiled = library(stored_source(options.source), _with_cuda() if options.gpu else locate())
        write_files(options.output.parent, {options.output.name: compiled.read_bytes()})
    except LstmcError as error:
        print(plain(str(error)), file=sys.stderr)
        return 2
    print(f"wrote {options.output}")
    return 0


def _with_cuda() -> CaffeLocation:
    """Return the Caffe that lstmc built with CUDA or for an emulated GPU; raise BackendError if another one is used."""
    location = locate_for_gpu()
    if location.origin == "installed" and (installed_with_cuda() or installed_emulated()):
        return location
    raise BackendError("--gpu: expected the Caffe that lstmc builds with CUDA, found another", notes=(INSTALL_CUDA,))


if __name__ == "__main__":
    sys.exit(main())
