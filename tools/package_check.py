"""That the packages install and work in empty environments: ``python -m tools.package_check PYTHON...``.

Builds the sdist, and the wheel from the sdist, then for each Python installs the wheel into an environment of its own
and runs the command line there, outside of this repository: first as it comes, then with the extra ``draw``. What
an index shows is checked too. Needs a package index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES = ("-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")
BASE = (
    ("compile", "--cell", "gru", *SIZES, "-o", "out"),
    ("show", "--cell", "gru", *SIZES),
    ("verify", "--cell", "lstm", *SIZES, "--on", "interpreter"),
    ("new", "plugin", "mine"),
    ("verify", "out/gru.prototxt"),
)
DRAWN = (
    ("show", "--cell", "lstm", *SIZES, "--unrolled", "-o", "net.pdf"),
    ("report", "--cell", "gru", *SIZES, "--on", "interpreter", "-o", "net.html"),
)
HEAVY = ("h5py", "matplotlib")  # of extras


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints. Raises SystemExit with all of it where it fails."""
    words = [str(word) for word in command]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(words, cwd=cwd, env=bare, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def named_paths() -> set[str]:
    """The files and folders of this repository that README.md has links to."""
    links = re.findall(r"\]\(([^():#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    return {link.rstrip("/") for link in links}


def contents(sdist: Path) -> set[str]:
    """The files of an sdist and their folders, by their paths in it."""
    with tarfile.open(sdist) as archive:
        files = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    return {path.as_posix() for file in files for path in (file, *file.parents)}


def built(folder: Path) -> Path:
    """The wheel, which ``build`` makes from the sdist that it makes first."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=folder)
    lacking = named_paths() - contents(sdist)
    if lacking:
        raise SystemExit(f"{sdist.name} lacks what README.md names: {', '.join(sorted(lacking))}")
    print(f"{sdist.name} {sdist.stat().st_size:,} bytes, {wheel.name} {wheel.stat().st_size:,} bytes")
    return wheel


def check(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel for one Python, and run every command. Raises SystemExit where what extras bring came too."""
    run(python, "-m", "venv", folder / "env", cwd=folder)
    inside = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    version = run(inside / "python", "--version", cwd=folder).strip()
    for extra, commands in (("", BASE), ("[draw]", DRAWN)):
        run(inside / "python", "-m", "pip", "install", "-q", f"lstmc{extra} @ {wheel.as_uri()}", cwd=folder)
        for command in commands:
            run(inside / "lstmc", *command, cwd=folder)
        found = [name for name in HEAVY if list((folder / "env").rglob(f"site-packages/{name}"))]
        if found:
            raise SystemExit(f"lstmc{extra} brought {', '.join(found)}, which is for other extras")
        print(f"{version}: lstmc{extra} installed, {len(commands)} commands work")


def main(pythons: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        wheel = built(Path(name))
        for number, python in enumerate(pythons or [sys.executable]):
            folder = Path(name, str(number))
            folder.mkdir()
            check(python, wheel, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
