"""What the packages say of themselves, and that nothing that they need at run time is left out of them."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import lstmc

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ARRAYS, NETS = ("matplotlib", "h5py", "svglib", "tensorboardX"), ("torch", "onnx", "onnxruntime", "ai_edge_litert")
HEAVY = (*ARRAYS, *NETS, "distributed")


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packaged = {name for name in archive.namelist() if ".dist-info/" not in name}
    backends = ("lstmc_caffe", "lstmc_onnx", "lstmc_c", "lstmc_tflite", "lstmc_torch")
    roots = {"lstmc": ROOT, **dict.fromkeys(backends, ROOT / "backends")}
    files = {
        path.relative_to(root).as_posix()
        for package, root in roots.items()
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert packaged == files


def test_an_editable_install_is_folders_on_the_path_which_editors_follow(tmp_path: Path) -> None:
    build = f"import hatchling.build; print(hatchling.build.build_editable({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path_file,) = (name for name in archive.namelist() if ".dist-info/" not in name)
        assert archive.read(path_file).decode().split("\n") == [str(ROOT), str(ROOT / "backends")]


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == PROJECT["project"]["version"]  # type: ignore[index]
    assert lstmc.__version__ == PROJECT["project"]["version"]


def test_every_python_that_the_classifiers_name_is_allowed() -> None:
    named = [text.rpartition(" :: ")[2] for text in PROJECT["project"]["classifiers"] if ":: Python :: 3." in text]
    assert named == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_the_start_page_lists_every_extra_for_users() -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    table = page.partition("| extra | for |")[2].partition("\n\n")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    for_developers = {"test", "check", "package", "site", "browser", "proofs", "zoo"}
    assert named == set(PROJECT["project"]["optional-dependencies"]) - for_developers


@pytest.mark.slow
def test_what_only_some_commands_need_is_not_imported() -> None:
    everything = (
        "import lstmc_caffe.backend, lstmc_onnx.backend, lstmc_c.backend, lstmc_tflite.backend;"
        " from lstmc.cli import Commands; [*Commands().values()]"
    )
    assert imported(everything, HEAVY) == []


@pytest.mark.parametrize(
    "statement", ["import lstmc", "import lstmc.cli.listing", "import lstmc; lstmc.errors.LstmcError"]
)
def test_what_is_small_starts_without_the_compiler(statement: str) -> None:
    assert imported(statement, ("numpy", "networkx", "pydantic", "jinja2", "lstmc.dsl", "lstmc.ops")) == []


def test_the_list_of_commands_is_printed_without_the_compiler() -> None:
    help_of = "with redirect_stdout(StringIO()): app(['--help'], standalone_mode=False)"
    statement = f"from contextlib import redirect_stdout; from io import StringIO; from lstmc.cli import app\n{help_of}"
    assert imported(statement, ("numpy", "networkx", "pydantic", "lstmc.dsl", "lstmc.ops", "lstmc.cli.train")) == []


def imported(statement: str, names: tuple[str, ...]) -> list[str]:
    """Those of the modules that a new Python has imported after a statement."""
    text = f"import sys\n{statement}\nprint(*(name for name in {names!r} if name in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return ended.stdout.split()


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^()]*)\)", page)


def test_links_and_pictures_of_the_readme_lead_to_files_from_an_index_too() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = runpy.run_path(str(ROOT / "hatch_build.py"))["page"]
    shown = links(page(readme, "https://example.org/lstmc"))
    files = [re.sub(r"^https://example\.org/lstmc/(blob|raw)/HEAD/", "", link).partition("#")[0] for link in shown]
    assert len(files) == len(links(readme)) > 30
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert "](https://example.org/lstmc/raw/HEAD/docs/pictures/lstm_demo.svg)" in page(
        readme, "https://example.org/lstmc"
    )


@pytest.mark.parametrize(("version", "found"), [((3, 10, 12), "3.10.12"), ((3, 9, 2, "final", 0), "3.9.2")])
def test_an_older_python_is_told_what_to_do_before_anything_else(
    version: tuple[object, ...], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "hatch_build.py"))
    assert ended.value.code == (
        f"lstmc needs Python 3.11 or newer, found {found}. Ubuntu 22.04 has one beside its own:"
        " apt-get install python3.11 python3.11-venv, then python3.11 -m venv .venv"
    )


OLD = """#!/bin/sh
case "$*" in
  --version) echo "Python 3.10.12" ;;
  *version_info*) exit 1 ;;
esac
"""


def test_the_image_says_which_python_it_needs(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text(OLD)
    old.chmod(0o755)
    script = ROOT / "docker" / "setup.sh"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LSTMC_VENV": str(tmp_path / "env")}
    ended = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"lstmc needs Python 3.11 or newer, found Python 3.10.12. Name one: LSTMC_PYTHON=python3.11 {script}\n",
    )
    assert list(tmp_path.iterdir()) == [old]


def test_without_an_address_of_the_repository_an_index_shows_paths() -> None:
    page = runpy.run_path(str(ROOT / "hatch_build.py"))["page"]
    code = "code:\n\n    a\n\n\n    b\n\n"
    readme = f"{code}![a picture](docs/x.svg)\n\nsee [training](docs/training.md#data), [LICENSE](LICENSE)\n"
    assert page(readme, None) == f"{code}see training (`docs/training.md`), LICENSE\n"
    assert links(page((ROOT / "README.md").read_text(encoding="utf-8"), None)) == []


def test_the_steps_of_the_dockerfile_are_the_scripts_that_are_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    scripts = re.findall(r"\./(docker/\S+\.sh)", text)
    assert scripts == ["docker/setup.sh", "docker/smoke.sh"]
    for script in scripts:
        subprocess.run(["sh", "-n", ROOT / script], check=True)
        assert (ROOT / script).stat().st_mode & 0o111


def test_tests_stop_where_another_package_adds_to_lstmc(tmp_path: Path) -> None:
    metadata = tmp_path / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lstmc.cells]\nmine = mine:cell\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "tests/test_numerals.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert "installed beside it: mine." in ended.stderr


def test_the_search_of_the_site_leaves_out_what_is_for_developers() -> None:
    on_page = runpy.run_path(str(ROOT / "docs" / "site_version.py"))["on_page_markdown"]

    def search(source: str) -> object:
        page = SimpleNamespace(file=SimpleNamespace(src_uri=source), meta={})
        assert on_page("text", page=page, config=None, files=None) == "text"
        return page.meta.get("search")

    decision = next((ROOT / "docs" / "decisions").glob("0023*")).relative_to(ROOT / "docs")
    assert [search(source) for source in (str(decision), "fuzzing.md")] == [{"exclude": True}] * 2
    assert [search(source) for source in ("c.md", "tutorials/streaming.md")] == [{"boost": 4}] * 2
    assert search("language.md") is None
