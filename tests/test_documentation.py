"""Every name that the documentation mentions exists: files, modules, functions, commands, options, make targets.

Names in prose cannot be told from words, so a name is what stands in a code span or a code block.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import keyword
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from lstmc.cli import app
from lstmc_caffe import CaffeBackend
from lstmc_caffe.legalize.rules import rules

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
SOURCES = [path for folder in ("lstmc", "backends", "tools", "tests", "docs") for path in (ROOT / folder).rglob("*.py")]
SENTENCE = re.compile(r"\b(a|an|are|be|but|cannot|has|is|it|must|no|not|of|the|to|which|without)\b \w")
FOLDERS = ("lstmc/", "backends/", "tests/", "docs/", "tools/", "lstmc_caffe/", "goldens/", ".ci/")

# What belongs to others, or is made up by an example: page by page nothing more is mentioned.
OTHERS = {
    *(
        "Backward_cpu",
        "Backward_gpu",
        "Forward_gpu",
        "libcudart",
        "math_functions",
        "on_gradients_ready",
        "syncedmem",
    ),  # Caffe
    *("__device__", "__syncthreads"),  # CUDA
    *("CUDA_VISIBLE_DEVICES", "clockRate", "cudaDeviceProp", "deviceOverlap", "kernelExecTimeoutEnabled"),
    *("cublasSgemm", "cudaLaunchKernelEx", "sm_86", "sm_89"),
    *("cblas_sgemm", "cblas_sgemv"),  # BLAS
    *("__ARM_FEATURE_SIMD32", "arm_acle.h"),  # C for Arm
    *("scatter", "spectral_norm", "view_as_complex"),  # PyTorch
    *("KillWait", "scancel", "srun"),  # Slurm
    "null",  # JSON
    *("Tensor_DimensionType_Caffe", "mnnconvert", "resizeSession", "resizeTensor"),  # MNN
    *("GRU_X_MOST", "GRU_X_SCALE", "__ARM_FEATURE_SIMD32", "arm_acle.h"),  # of a net in C
    *("NAME.h", "NAME_block", "NAME_open", "NAME_reset", "NAME_state", "NAME_step", "NAME_work"),  # nets in C
    *("NAME_dequantize_y", "NAME_quantize_x"),
    "--supported-ops-report",  # of Vela
    "bn_scale",  # of an imported model
    "NAME_torch.py",  # a net of PyTorch
    *("DropDoubleRelu", "NAME_stream.py"),  # made up by an example; what compile --example writes
    *("--find-links", "area", "cells.py", "defs", "exact", "git", "ruff"),
}


# but operators of ONNX, PyTorch and Keras, which tests/test_architecture.py holds to the importers' tables, and inputs
# and outputs of published nets
@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("docs/operators.md", "docs/zoo.md")])
def test_every_name_exists(page: str) -> None:
    wrong = list(unknown((ROOT / page).read_text()))
    assert not wrong, f"{page} mentions what does not exist: {wrong}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert not [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    inside = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    assert sorted(menu) == sorted(page for page in inside if not page.startswith("decisions/"))


def test_the_table_of_readers_targets_has_each_and_what_it_is_built_on() -> None:
    files = (ROOT / "backends/lstmc_caffe/targets").glob("*.toml")
    told = [tomllib.loads(path.read_text()) for path in files]
    bases = {target["name"]: target["base"] for target in told if target.get("base") not in (None, "caffe")}
    del bases["noslice"]  # which other readers' targets are built on, as flat
    rows = re.findall(r"^\| (`.*?`) \| (`.*?`) \|", (ROOT / "docs/targets.md").read_text(), re.M)
    written = {
        name: base
        for names, of in rows
        for name, base in zip(re.findall("`(.*?)`", names), re.findall("`(.*?)`", of), strict=False)
    }
    assert {name: written.get(name) for name in bases} == bases


def test_every_decision_has_a_number_of_its_own_and_begins_with_it() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == [*range(1, len(pages) + 1)]
    for number, page in enumerate(pages, 1):
        assert page.read_text().startswith(f"# {number}. "), page.name


def test_nothing_is_excused_that_no_page_mentions() -> None:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    assert not [name for name in OTHERS if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def test_what_does_not_exist_is_found() -> None:
    text = """
`lstmc/nowhere.py` and `lstmc/ir/text.py`, `nowhere.py`, `lstmc.pipeline.nothing`, `NoSuchPass`, `--no-such-option`,
`make nothing`, ``lstmc show --nothing``, `scan(x)`, `hoist nosuchpass`, `what is not said of the nothing`

    lstmc compile x.py --step --stepp    # and a comment
    python -m lstmc_caffe.nothing
    lstmc numbers extrude w.npz

```python
from lstmc import Input, nothing
```
"""
    found = """
        --no-such-option --nothing NoSuchPass nosuchpass lstmc/nowhere.py nowhere.py
        lstmc.nothing lstmc.pipeline.nothing
    """
    lines = {"lstmc compile --stepp", "lstmc show --nothing", "lstmc numbers extrude", "make nothing"}
    assert set(unknown(text)) == {*found.split(), *lines, "python -m lstmc_caffe.nothing"}


def unknown(text: str) -> Iterator[str]:
    """The code spans and lines of code blocks, with what in them does not exist."""
    blocks, prose = taken_apart(text)
    own = own_names(text)
    for language, block in blocks:
        if language == "python":
            yield from unknown_in_python(block)
        for line in block.splitlines():
            yield from unknown_in_command(line)
    for _, span in re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", prose, re.S):
        span = " ".join(span.split())
        yield from unknown_in_command(span)
        if "…" not in span and not SENTENCE.search(span) and not (" " in span and span in texts()):
            yield from (name for name in unknown_in_span(span) if name not in own)


def own_names(text: str) -> set[str]:
    """What a page writes itself: the files that its blocks are, and what they define."""
    found = set()
    for title, block in re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', text, re.M | re.S):
        defined = (getattr(node, "name", None) for node in ast.walk(ast.parse(block)))
        found |= {title, *filter(None, defined)}
    return found


def taken_apart(text: str) -> tuple[list[tuple[str, str]], str]:
    """Code blocks, fenced by their language or indented, and the rest."""
    blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.M | re.S)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    indented = re.findall(r"(?:\n\n)((?:    .*\n+)+)", prose)
    prose = re.sub(r"(\n\n)(?:    .*\n+)+", r"\1", prose)
    return [*blocks, *(("", block) for block in indented)], prose


def unknown_in_python(block: str) -> Iterator[str]:
    code = doctest.script_from_examples(block) if block.startswith(">>>") else block
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("lstmc", "lstmc_caffe", "tests"):
            named = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*"]
            yield from (name for name in named if not resolves(name))


def unknown_in_command(line: str) -> Iterator[str]:
    """Of a shell line: the command of lstmc and its options, the target of make, the module of python -m."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    match words:
        case ["lstmc", option] if option.startswith("--"):
            yield from (f"lstmc {option}" for _ in [0] if option not in own_options())
        case ["lstmc", command, *rest] if re.fullmatch(r"[a-z-]+", command):
            found = commands().get(command)
            if found is None:
                yield f"lstmc {command}"
            elif isinstance(found, dict):
                yield from (f"lstmc {command} {rest[0]}" for _ in [0] if rest and rest[0] not in found)
                found = found.get(rest[0], set()) if rest else set()
                yield from (w for w in rest if w.startswith("--") and w.split("=")[0] not in found)
            else:
                yield from (f"lstmc {command} {w}" for w in rest if w.startswith("--") and w.split("=")[0] not in found)
        case ["make", *rest]:
            yield from (f"make {w}" for w in rest if re.fullmatch(r"[a-z-]+", w) and w not in make_targets())
        case ["python" | "python3", "-m", module, *_] if module.split(".")[0] in (
            "lstmc",
            "lstmc_caffe",
            "tests",
            "tools",
        ):
            if not resolves(module):
                yield f"python -m {module}"


def unknown_in_span(span: str) -> Iterator[str]:
    for word in re.split(r"[\s,]+", span):
        name = re.sub(r"\(.*|[.:;]$", "", word)
        if word in OTHERS or name in OTHERS:
            continue
        if re.fullmatch(r"--[a-z][a-z-]+", word):
            if word not in options():
                yield word
        elif "/" in name and name.startswith(FOLDERS):
            if not exists(name):
                yield name
        elif re.fullmatch(r"[\w*-]+\.(py|toml|j2|md|h|sh|lir)", name):
            if not any(file for folder in FOLDERS for file in (ROOT / folder).rglob(name)) and not any(ROOT.glob(name)):
                yield name
        elif re.fullmatch(r"(lstmc|lstmc_caffe|tests|tools)(\.\w+)+", name):
            if not resolves(name) and name not in entry_points():
                yield name
        elif re.fullmatch(r"[A-Za-z_]\w{2,}", name) and name not in known():
            yield name


@cache
def texts() -> str:
    """All sources, in which the texts of errors are."""
    return "\n".join(path.read_text() for path in SOURCES if path != Path(__file__))


def exists(name: str) -> bool:
    name = re.sub(r"^lstmc_caffe/", "backends/lstmc_caffe/", name)
    pattern = re.sub(r"NAME|PASS\d?|TARGET|\bNN\b", "*", name.rstrip("/"))
    return any(ROOT.glob(pattern))


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@cache
def entry_points() -> set[str]:
    return {*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]}


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


@cache
def commands() -> dict[str, object]:
    """The options of each command of lstmc; of a group, the same by its commands."""

    def of(command: object) -> object:
        inner = getattr(command, "commands", None)
        if inner is not None:
            return {name: of(one) for name, one in inner.items()}
        return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
            "--help"
        }

    return of(typer.main.get_command(app))


@cache
def own_options() -> set[str]:
    """The options of lstmc itself, which stand before a command."""
    own = typer.main.get_command(app).params
    return {option for parameter in own for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@cache
def options() -> set[str]:
    """Every option of lstmc, of its programs, of make's tools and of what the tests are run by."""
    found = set(re.findall(r"\"(--[a-z][a-z-]+)", texts())) | own_options()
    for one in commands().values():
        found |= {option for each in (one.values() if isinstance(one, dict) else [one]) for option in each}
    return found


@cache
def known() -> set[str]:
    """Every identifier of the sources, every string that is one, and what Caffe, targets, cells, rules, folders say."""
    found: set[str] = {*CaffeBackend.targets, *dir(builtins), *keyword.kwlist, *commands(), *make_targets()}
    found.update(rule.__name__ for rule in rules().trained.values())
    for path in SOURCES:
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "value")]
            strings = [name for name in names if isinstance(name, str)]
            found.update(name for name in strings if re.fullmatch(r"\w+", name))
            found.update(word for name in strings if re.match(r"--?\w", name) for word in re.findall(r"[A-Z]+", name))
    caffes = [ROOT / "backends/lstmc_caffe/proto" / name for name in ("net.py", "messages.txt")]
    for path in (*(ROOT / "backends").rglob("*.toml"), *caffes, ROOT / "pyproject.toml"):
        found.update(re.findall(r"\w+", path.read_text()))
    found.update(path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_dir())
    return found
