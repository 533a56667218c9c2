"""Names, paths and labels in everything that is written: what comes out is parsed, compiled or run."""

from __future__ import annotations

import ast
import html.parser
import random
import re
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import text_format

import lstmc
from lstmc.api.compiling import model_graph
from lstmc.api.options import CompileOptions
from lstmc.drawing.drawing import Drawing, graphviz, layout_text
from lstmc.dsl.printer import print_python
from lstmc.report.page import net_page
from lstmc.text import quoted
from lstmc_caffe.proto.net import NetParameter

PARTS = (
    *('"""', "'''", '"', "'", "\\", "\\\n", "\n", "\r", "\u2028", "*/", "/*", "//", "#"),
    *("??/", "??'", "??=", "?", "*", "/"),
    *(
        "{{",
        "}}",
        "{%",
        "%}",
        "<script>",
        "</script>",
        "<!--",
        "&lt;",
        "&",
        "<",
        ">",
        "]]>",
        "\x00",
        "\x1b[0m",
        "\t",
        " ",
    ),
    *(
        "é",
        "\U00020000",
        "\u202e",
        "\ufeff",
        "\ud800",
        "\udcff",
        "0",
        "7",
        "a",
        "u",
        "x41",
        "\\n",
        "\\N{BULLET}",
        "}",
        ";",
    ),
)
DRAWS = 300


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.option.hypothesis_seed)


def texts(seed: int) -> Iterator[str]:
    """Texts of pieces that end, continue or escape something in one of the languages; each piece alone first."""
    rng = random.Random(seed)
    yield from PARTS
    for _ in range(DRAWS):
        yield "".join(rng.choices(PARTS, k=rng.randint(1, 8)))


def encodable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def test_comments_of_python_and_its_strings(seed: int) -> None:
    for text in texts(seed):
        words = quoted(text, "comment")
        tree = ast.parse(f'"""{words}."""\nx = 1  # {words}\n"""\n{words}\n"""\ny = {quoted(text, "python")}\n')
        kinds = [type(statement).__name__ for statement in tree.body]
        assert kinds == ["Expr", "Assign", "Expr", "Assign"], text
        assert ast.literal_eval(tree.body[3].value) == text  # type: ignore[attr-defined]


def test_comments_of_c_and_its_strings(seed: int, tmp_path: Path) -> None:
    """Compiled with trigraphs, where ??/ is a backslash, and each string compared with the bytes of UTF-8."""
    drawn = [text for text in texts(seed) if "\x00" not in text]
    lines = ["#include <string.h>", "int main(void) { int wrong = 0;"]
    for number, text in enumerate(drawn):
        content = ", ".join(str(byte) for byte in [*text.encode("utf-8", "replace"), 0])
        words = quoted(text, "comment")
        lines += [
            f"/* {words} */ // {words}",
            f"static const unsigned char bytes_{number}[] = {{ {content} }}; // {words}",
            f"wrong += strcmp({quoted(text, 'c')}, (const char *)bytes_{number}) != 0; /* {words}*/",
        ]
    lines += [f"return wrong != 0 || {len(drawn)} == 0; }}"]
    for name, compiler, standard in (("a.c", "gcc", "-std=c99"), ("a.cpp", "g++", "-std=c++11")):
        (tmp_path / name).write_text("\n".join(lines))
        command = [compiler, standard, "-trigraphs", "-Wall", "-Wextra", "-Werror", "-O0", name, "-o", "a"]
        subprocess.run(command, cwd=tmp_path, check=True)
        subprocess.run([tmp_path / "a"], check=True)


def test_comments_of_prototxt_and_its_strings(seed: int) -> None:
    for text in filter(encodable, texts(seed)):
        words = quoted(text, "comment")
        read = text_format.Parse(f"# {words}\nname: {quoted(text, 'prototxt')}  # {words}\n", NetParameter())
        assert read.name == text


def test_strings_of_dot(seed: int) -> None:
    drawn = [*filter(encodable, texts(seed))]
    dot = "digraph {\n" + "\n".join(f"n{n} [tooltip={quoted(text, 'dot')}];" for n, text in enumerate(drawn)) + "\n}"
    names = re.findall(r"^node n(\d+) ", graphviz(dot, "dot", "plain").decode(), re.MULTILINE)
    assert sorted(map(int, names)) == [*range(len(drawn))]


# A folder's name that is code in some language where it is not quoted, and what it would be there.
FOLDERS = (
    'a""";PLANTED();"""b',
    "a\nPLANTED()\nb",
    "a\\",
    "PLANTED??",
    '"><script>PLANTED()</script>',
    "{{ PLANTED() }}{% PLANTED %}",
    '" ]; PLANTED -> b; "',
    "a\u2028PLANTED()\x1b]0;é\U00020000",
)
NAMES = """\
from lstmc import Input, Param, State, cell, linear, model, scan, softmax, tanh


@cell
def étape(x=Input(1, 3), h=State(1, 4), *, W=Param(4, 3), U=Param(4, 4)):
    h = tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}


@model
def net(X=Input(3, 1, 3), 𠀀=Input(3, 1, 3), *, V=Param(4, 4, name="éé/")):
    y, last = scan(étape(), X + 𠀀, name="SCAN/éé")
    return {"é/": softmax(linear(y, V)), "𠀀𠀀": last["h"]}
"""
WRITTEN = (
    {"target": "flat"},
    {"target": "caffe-fused"},
    {"backend": "torch"},
    {"backend": "onnx"},
    {"backend": "c"},
    {"backend": "c", "step": True},
    *({"target": name, "step": True} for name in ("caffe", "opencv", "mnn", "ncnn", "rknn")),
)


class Tags(html.parser.HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        assert "planted" not in tag
        assert "PLANTED" not in str([name for name, _ in attributes])  # type: ignore[attr-defined]
        self.in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False


def check_written(name: str, content: bytes, folder: Path) -> None:
    """Parse or compile a file; nothing that a path or a name says may be code of it."""
    if name.endswith(".py"):
        tree = ast.parse(content)
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and "PLANTED" in node.id]
    elif name.endswith((".c", ".h", ".cpp", ".cu")):
        path = folder / f"checked{Path(name).suffix}"
        path.write_bytes(content)  # without its comments, and without its strings, there is nothing of the path
        command = ["g++", "-fpreprocessed", "-dD", "-E", "-P", "-trigraphs", "-x", "c++", str(path)]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "PLANTED" not in re.sub(r'"(\\.|[^"\\])*"', "", code), name
        assert len(code) > len(content) // 20, "nearly all of it is a comment"
    elif name.endswith(".prototxt"):
        assert text_format.Parse(content.decode(), NetParameter(), allow_unknown_extension=True).layer
    elif name.endswith(".dot"):
        assert b"PLANTED" not in b"".join(re.findall(rb"^node (\S+)", graphviz(content.decode(), "dot", "plain"), re.M))
    elif name.endswith(".html"):
        assert not any(
            "PLANTED()" in script and '"PLANTED()' not in script for script in Tags(content.decode()).scripts
        )


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_path_and_names_are_no_code_of_what_is_written(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / folder.replace("/", "\u2215")
    place.mkdir()
    (place / "m.py").write_text(NAMES)
    files: dict[str, bytes] = {}
    for options in WRITTEN:
        net = lstmc.compile(place / "m.py", **options)  # type: ignore[arg-type]
        files |= net.files
        if options.get("step") and "target" in options:
            files |= net.example("python")
            if options["target"] in ("caffe", "opencv"):
                files |= net.example("cpp")
    net = lstmc.compile(place / "m.py", target="flat")
    graph = model_graph(place / "m.py", CompileOptions(phase="all"))
    files["net.dot"] = layout_text(Drawing.from_graph(graph).picture).encode()
    files["net.html"] = net_page(net, net.verify(["interpreter"])).encode()
    files["shown.py"] = print_python(graph).encode()
    suffixes = {Path(name).suffix for name in files}
    assert suffixes >= {".py", ".c", ".h", ".cpp", ".cu", ".prototxt", ".dot", ".html"}
    for name, content in files.items():
        check_written(name, content, tmp_path)
    module = types.ModuleType("net_torch")
    module.PLANTED = lambda *_: pytest.fail("a part of the path is run")  # type: ignore[attr-defined]
    module.__dict__["__file__"] = str(tmp_path / "net_torch.py")
    exec(compile(files["net_torch.py"], "net_torch.py", "exec"), vars(module))
    assert set(vars(module)["Net"]().state_dict()) == {"étape/W", "étape/U", "éé/"}
