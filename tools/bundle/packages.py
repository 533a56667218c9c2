"""lstmc itself and the packages it needs, unpacked into one folder."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

from lstmc_caffe.install.system import InstallError, run

_SOURCES = ("lstmc", "backends", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
NEEDED = ("networkx", "jinja2", "platformdirs", "filelock", "psutil", "pydantic")
"""Of what lstmc requires, the packages that the check imports; NumPy and protobuf are there."""
_THEIRS = ("markupsafe", "six")  # Jinja's own, and pycaffe's
_WITH_THEIRS = ("pydantic",)  # those of NEEDED that want exact versions of packages of their own


def project_folder() -> Path:
    """The checkout that this file is in. Raises InstallError where it is an installed package's."""
    folder = Path(__file__).resolve().parents[2]
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


def requirements(wheel: Path) -> dict[str, str]:
    """What the wheel says of the versions of NEEDED, by name, as pip reads it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    stated = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    named = {re.split(r"[<>=!~ ;\[]", text)[0]: text for text in stated}
    return {name: text for name, text in named.items() if name in NEEDED}


def install_into(folder: Path, wheel: Path, python: Path) -> None:
    """Unpacks the wheel and what its check imports, and six for pycaffe."""
    needed = requirements(wheel)
    alone = [text for name, text in needed.items() if name not in _WITH_THEIRS]
    whole = [text for name, text in needed.items() if name in _WITH_THEIRS]
    options = ["-q", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:", "--target", str(folder)]
    for packages in (["--no-deps", str(wheel), *alone, *_THEIRS], whole):
        if packages:
            run(
                [str(python), "-m", "pip", "install", *options, *packages],
                "fetching the packages that lstmc needs",
            )
    shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts that name a Python of this machine
