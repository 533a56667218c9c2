"""The libraries of a net's generated layers, for the Caffe that is used."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc_caffe.library.build import library
from lstmc_caffe.run.locate import locate
from lstmc_caffe.write.generated import read_sources

LIBRARY_SUFFIX = ".layers.so"


def libraries(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """``NAME.layers.so`` for each ``NAME.layers.cpp`` of these files.

    Raises :class:`BackendError` where there is no Caffe, no compiler, or no header, with what to install.
    """
    return {
        f"{name}{LIBRARY_SUFFIX}": library(source, locate()).read_bytes()
        for name, source in read_sources(files).items()
    }
