"""Prints the folders of CUDA's libraries as the dynamic loader wants them; says what is missing where something is.

Run by the Python that is to use them.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
import sys

WANTED = (
    ("libcublas.so.13", "nvidia-cublas==13.*"),
    ("libcublasLt.so.13", "nvidia-cublas==13.*"),
    ("libcurand.so.10", "nvidia-curand==10.4.*"),
)
CARRIED = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "lib", WANTED[0][0]
)  # by an emulated device's bundle
PACKAGES = (("numpy", "numpy"), ("google.protobuf", "protobuf"))


def folder_of(name: str) -> str | None:
    """Where a library of this name is: beside the packages, "" where the loader finds it by itself, or None."""
    for entry in sys.path:
        for found in sorted(glob.glob(os.path.join(entry, "nvidia", "*", "lib", name))):
            return os.path.dirname(found)
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return ""


def has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # there is not even the package around it
        return False


def main() -> int:
    if sys.version_info[:2] != (3, 12):
        print(f"{sys.executable} is Python {sys.version.split()[0]}: expected 3.12, which pycaffe is built for here")
        return 2
    missing = [f"{module}: pip install {package}" for module, package in PACKAGES if not has(module)]
    folders = []
    for name, package in () if os.path.exists(CARRIED) else WANTED:
        folder = folder_of(name)
        if folder is None:
            missing.append(f"{name}: pip install '{package}'")
        elif folder and folder not in folders:
            folders.append(folder)
    if missing:
        print("\n".join([f"{sys.executable} lacks:", *(f"  {line}" for line in missing)]))
        return 2
    print(":".join(folders))
    return 0


sys.exit(main())
