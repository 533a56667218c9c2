"""The shared libraries that a file needs of this system, and what they in turn need of the next one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lstmc_caffe.install.system import InstallError, run

LEFT_OUT = re.compile(
    # glibc's own, and the compiler's, which NumPy needs too, and which must not be older than the system's
    r"ld-linux-x86-64|lib(c|m|mvec|dl|pthread|rt|util|resolv|anl|nsl|stdc\+\+|gcc_s)\.so"
    # NVIDIA's large ones, which are to be there
    r"|lib(cublas|cublasLt|curand)\.so"
)
GLIBC = (2, 39)
"""The oldest glibc that the bundle is for."""


def needed(file: Path) -> dict[str, Path]:
    """What the dynamic loader finds for ``file``, and for what that needs: names to files, without LEFT_OUT."""
    found = {}
    for line in run(["ldd", str(file)], f"looking up the libraries of {file.name}").splitlines():
        name, arrow, place = line.strip().partition(" => ")
        if not arrow or LEFT_OUT.match(name):
            continue
        if place.startswith("not found"):
            raise InstallError(f"{file.name} needs {name}, which is not found")
        found[name] = Path(place.rsplit(" (", 1)[0])
    return found


def copy(libraries: dict[str, Path], folder: Path) -> None:
    """Puts them into ``folder`` under the names by which they are looked for."""
    for name, path in libraries.items():
        shutil.copy(path, folder / name)  # what a link points to


def copy_licences(libraries: Iterable[Path], folder: Path) -> None:
    """Puts the copyright files of their Debian packages into ``folder``."""
    for path in libraries:
        listed = run(["dpkg-query", "--search", str(path.resolve())], f"asking whose {path.name} is")
        package = listed.partition(":")[0]
        source = Path("/usr/share/doc") / package / "copyright"
        if not source.is_file():
            raise InstallError(f"{package}, which {path.name} is from, has no {source}")
        shutil.copy(source, folder / f"{package}.txt")


def check_glibc(files: Sequence[Path]) -> str:
    """The newest version of glibc that any of ``files`` needs. Raises InstallError when it is newer than GLIBC."""
    newest, whose = (0, 0), Path()
    for file in files:
        versions = run(["readelf", "--version-info", "--wide", str(file)], f"reading the versions of {file.name}")
        for match in re.finditer(r"\bGLIBC_(\d+)\.(\d+)", versions):
            version = int(match[1]), int(match[2])
            if version > newest:
                newest, whose = version, file
    text = ".".join(map(str, newest))
    if newest > GLIBC:
        raise InstallError(f"{whose.name} needs glibc {text}: expected at most {'.'.join(map(str, GLIBC))}")
    return text
