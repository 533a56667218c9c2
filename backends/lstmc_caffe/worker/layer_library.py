"""Libraries of generated layers, opened where Caffe runs: by worker.py, and by people in their own pycaffe. It runs on
any Python from 2.7 on and needs nothing but caffe, so the file may be copied to where lstmc is not."""

import ctypes
import io
import os
import re
import struct

BUILD_MARK = re.compile(b"lstmc layers for Caffe of build ([0-9a-f]+)\0")
# a function of Caffe's that is in one file alone: caffe::Caffe::Get()
IN_CAFFE = "_ZN5caffe5Caffe3GetEv"
NOLOAD = 4  # RTLD_NOLOAD of Linux


class _DlInfo(ctypes.Structure):
    """Dl_info of dladdr."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def load_layers(path):
    # type: (str) -> None
    """Register the layers of a library ``NAME.layers.so`` in this process's Caffe. Raises OSError if the file cannot be
    read, and ValueError, before it is opened, for a file that is no such library or is for another Caffe."""
    import caffe

    with io.open(path, "rb") as library:
        mark = BUILD_MARK.search(library.read())
    if mark is None:
        raise ValueError("%s: expected a library of generated layers, as lstmc writes NAME.layers.so" % path)
    file = caffe_file(caffe._caffe.__file__)
    build, expected = build_id(file), mark.group(1).decode()
    if build != expected:
        raise ValueError(
            "%s: made for the Caffe of build %s, found %s of build %s: make it for this one, by"
            " python -m lstmc_caffe.layers" % (path, expected, file, build or "unknown")
        )
    # Python opens pycaffe with local symbols; the library needs them global
    ctypes.CDLL(caffe._caffe.__file__, ctypes.RTLD_GLOBAL | NOLOAD)
    ctypes.CDLL(os.path.abspath(path), ctypes.RTLD_GLOBAL)


def caffe_file(binding):
    # type: (str) -> str
    """Return the file with Caffe's own code: libcaffe.so, or pycaffe's module ``binding`` if that contains it."""
    symbol = getattr(ctypes.CDLL(binding, NOLOAD), IN_CAFFE)
    dladdr, info = ctypes.CDLL(None).dladdr, _DlInfo()
    dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(_DlInfo)]
    dladdr(ctypes.cast(symbol, ctypes.c_void_p), ctypes.byref(info))
    return os.path.realpath(os.fsdecode(info.file) if hasattr(os, "fsdecode") else info.file)


def build_id(path):
    # type: (str) -> str
    """Return the linker's build id of a file (ELF's note NT_GNU_BUILD_ID); empty without one."""
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
                note = re.search(b"\x04\0\0\0(....)\x03\0\0\0GNU\0", notes, re.DOTALL)
                if note:
                    (size,) = struct.unpack("<I", note.group(1))
                    return "".join("%02x" % byte for byte in bytearray(notes[note.end() :][:size]))
    return ""
