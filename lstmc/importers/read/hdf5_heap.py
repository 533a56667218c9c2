"""Texts of varying length in HDF5 files: looked through before h5py does, which never ends with some damaged ones."""

from __future__ import annotations

import mmap
import struct

SIGNATURE = b"GCOL\x01\0\0\0"  # of a collection, with its version
HEAD = 16  # bytes: of a collection, and of an object in one


def check_heaps(content: bytes | mmap.mmap) -> None:
    """Raise ValueError unless the objects of each global heap collection follow each other to its end.

    After "HDF5 File Format Specification", III.E Global Heap, with lengths of 8 bytes, as h5py writes them. An object
    numbered 0 is the space that is left; where that says to be of no size, libhdf5 reads it for ever.
    """
    start = content.find(SIGNATURE)
    while start >= 0:
        size = int.from_bytes(content[start + 8 : start + HEAD], "little")
        at, end = start + HEAD, start + size
        while at + HEAD <= min(end, len(content)):
            number, _, _, length = struct.unpack_from("<HHIQ", content, at)
            taken = length if number == 0 else HEAD + -(-length // 8) * 8
            if taken < HEAD or at + taken > end:
                raise ValueError(f"the global heap at byte {start} is damaged")
            at += taken
        start = content.find(SIGNATURE, start + len(SIGNATURE))
