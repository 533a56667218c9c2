"""lstmc itself and the packages it needs, unpacked into one folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from lstmc_caffe.install.command import run
from lstmc_caffe.install.errors import InstallError

_SOURCES = ("lstmc", "backends", "pyproject.toml", "README.md", "LICENSE")
_GIVEN = ("numpy", "numpy.libs", "numpy-*", "google", "protobuf-*", "bin")
"""What the machine has, or nobody needs there."""


def project_folder() -> Path:
    """The checkout that this file is in. Raises InstallError where it is an installed package's."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / "pyproject.toml").is_file():
        raise InstallError(f"the bundle is made in a checkout of lstmc: there is no pyproject.toml in {folder}")
    return folder


def build_wheel(project: Path, python: Path, folder: Path) -> Path:
    """The project's wheel, from a copy, so that nothing an earlier build left behind gets in."""
    copy = folder / "project"
    for name in _SOURCES:
        source = project / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, copy / name)
    wheels = folder / "wheels"
    options = ["-q", "--disable-pip-version-check", "--no-deps", "--wheel-dir", str(wheels)]
    run([str(python), "-m", "pip", "wheel", *options, str(copy)], "building lstmc's wheel")
    (wheel,) = wheels.glob("lstmc-*.whl")
    return wheel


def install_into(folder: Path, wheel: Path, python: Path) -> None:
    """Unpacks the wheel and what it needs, and six for pycaffe, but not NumPy and protobuf."""
    options = ["-q", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:", "--target", str(folder)]
    run([str(python), "-m", "pip", "install", *options, str(wheel), "six"], "fetching the packages that lstmc needs")
    for pattern in _GIVEN:
        for path in folder.glob(pattern):
            shutil.rmtree(path)
