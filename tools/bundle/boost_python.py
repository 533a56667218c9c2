"""Boost.Python for another Python than Debian's: from Debian's own source package of the Boost that is installed."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lstmc_caffe.install.system import InstallError, run

BINARY = "libboost-python1.*-dev"
LICENCE = "boost/LICENSE_1_0.txt"
_SOURCES = re.compile(r"boost/libs/python/src/(?!numpy/).*\.cpp")
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-w", "-DBOOST_PYTHON_SOURCE", "-DBOOST_PYTHON_STATIC_LIB")


def source_package() -> str:
    """Name and version of the source package that the installed Boost.Python comes from, as apt-get writes it."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${source:Package}=${source:Version}\\n", BINARY]
    listed = run(query, "asking for the installed Boost.Python")
    found = [line.split()[1] for line in listed.splitlines() if line.startswith("installed ")]
    if not found:
        raise InstallError("Boost.Python is not installed: expected libboost-python-dev")
    return found[-1]


def fetch(package: str, folder: Path, sources: Path = Path("/etc/apt/sources.list.d")) -> Path:
    """The source package's archive, fetched by apt-get from where the machine's binary packages come from.

    Its own lists of source packages are kept in ``folder``: the system's are not changed. Raises InstallError.
    """
    parts, lists = folder / "sources", folder / "lists"
    (lists / "partial").mkdir(parents=True)
    parts.mkdir()
    for path in sorted(sources.glob("*.sources")):
        text = path.read_text(encoding="utf-8")
        (parts / path.name).write_text(re.sub(r"(?m)^Types:.*$", "Types: deb-src", text), encoding="utf-8")
    options = [
        *("-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={parts}"),
        *("-o", f"Dir::State::Lists={lists}", "-o", "APT::Sandbox::User=root", "-qq"),
    ]
    run(["apt-get", *options, "update"], "listing source packages", cwd=folder)
    run(["apt-get", *options, "source", "--download-only", package], f"fetching the source of {package}", cwd=folder)
    archives = list(folder.glob("*.orig.tar.*"))
    if len(archives) != 1:
        raise InstallError(f"expected one source archive of {package} in {folder}, found {len(archives)}")
    return archives[0]


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Boost.Python's sources and Boost's licence; gives the former. The headers are the installed Boost's."""
    with tarfile.open(archive) as tar:
        wanted = [m for m in tar if m.isfile() and (m.name == LICENCE or _SOURCES.fullmatch(m.name))]
        tar.extractall(folder, members=wanted, filter="data")
    sources = sorted((folder / "boost/libs/python/src").rglob("*.cpp"))
    if not sources:
        raise InstallError(f"{archive.name} holds no sources of Boost.Python")
    return sources


def compile_sources(sources: Sequence[Path], includes: Sequence[str], folder: Path, jobs: int) -> list[Path]:
    """Compiles against the headers of another Python; gives the object files. Raises InstallError."""
    folder.mkdir()
    objects = [folder / f"{number:02}-{path.stem}.o" for number, path in enumerate(sources)]

    def one(path: Path, target: Path) -> None:
        flags = [*_FLAGS, *(f"-I{include}" for include in includes)]
        run(["g++", *flags, "-c", str(path), "-o", str(target)], f"compiling Boost.Python's {path.name}")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, sources, objects))
    return objects
