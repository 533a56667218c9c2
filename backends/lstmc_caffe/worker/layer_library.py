"""Libraries of generated layers, opened where Caffe runs: by worker.py, and by people in their own pycaffe.

It runs on any Python from 2.7 on and needs nothing but caffe, so the file may be copied to where lstmc is not.
"""

import ctypes
import io
import os
import re
import struct

MADE_FOR = re.compile(b"lstmc layers for Caffe of build ([0-9a-f]+)\0")
# a function of Caffe's that is in one file alone: caffe::Caffe::Get()
IN_CAFFE = "_ZN5caffe5Caffe3GetEv"
NOLOAD = 4  # RTLD_NOLOAD of Linux


class _Found(ctypes.Structure):
    """Dl_info of dladdr."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def load_layers(path):
    # type: (str) -> None
    """Have this process's Caffe know the layers of a library: ``NAME.layers.so``, as lstmc made it.

    Raises OSError where the file cannot be read, and ValueError for one that is no such library, or that was made
    for another build of Caffe: it is not opened then.
    """
    import caffe

    with io.open(path, "rb") as library:
        made_for = MADE_FOR.search(library.read())
    if made_for is None:
        raise ValueError("%s: expected a library of generated layers, as lstmc writes NAME.layers.so" % path)
    found = caffe_file(caffe._caffe.__file__)
    build, wanted = build_id(found), made_for.group(1).decode()
    if build != wanted:
        raise ValueError(
            "%s: made for the Caffe of build %s, found %s of build %s: make it for this one, by"
            " python -m lstmc_caffe.layers" % (path, wanted, found, build or "unknown")
        )
    # what the library asks for is in what Python has opened for itself alone
    ctypes.CDLL(caffe._caffe.__file__, ctypes.RTLD_GLOBAL | NOLOAD)
    ctypes.CDLL(os.path.abspath(path), ctypes.RTLD_GLOBAL)


def caffe_file(binding):
    # type: (str) -> str
    """The file that holds Caffe's own code: libcaffe.so, or pycaffe's module ``binding`` where that has all of it."""
    inside = getattr(ctypes.CDLL(binding, NOLOAD), IN_CAFFE)
    dladdr, found = ctypes.CDLL(None).dladdr, _Found()
    dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Found)]
    dladdr(ctypes.cast(inside, ctypes.c_void_p), ctypes.byref(found))
    return os.path.realpath(os.fsdecode(found.file) if hasattr(os, "fsdecode") else found.file)


def build_id(path):
    # type: (str) -> str
    """What the linker wrote into a file to tell it from any other (ELF's note NT_GNU_BUILD_ID); empty without one."""
    with io.open(path, "rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":  # 64 bits, the lower byte first
            return ""
        (start,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        file.seek(start)
        table = file.read(size * count)
        for at in range(0, size * count, size):
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", table, at)
            if kind == 4:  # PT_NOTE
                file.seek(offset)
                notes = file.read(length)
                found = re.search(b"\x04\0\0\0(....)\x03\0\0\0GNU\0", notes, re.DOTALL)
                if found:
                    return "".join("%02x" % byte for byte in bytearray(notes[found.end() :][: _number(found.group(1))]))
    return ""


def _number(four):
    # type: (bytes) -> int
    return int(struct.unpack("<I", four)[0])
