"""The steps of a build, with a compiler and a protoc that only pretend."""

from __future__ import annotations

import hashlib
import io
import shlex
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lstmc_caffe.install.build import Order, build
from lstmc_caffe.install.downloads import Toolkit
from lstmc_caffe.install.recipe import CPU, LIBRARIES, cuda_recipe
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import InstallError, Interpreter

FILES = {
    "src/caffe/net.cpp": "net",
    "src/caffe/layers/lstm_layer.cpp": "lstm layer",
    "src/caffe/proto/caffe.proto": "proto",
    "python/caffe/__init__.py": "",
    "python/caffe/_caffe.cpp": "binding",
    "python/caffe/proto/__init__.py": "",
    "tools/caffe.cpp": "program",
    "include/caffe/layer.hpp": "layer",
    "LICENSE": "licence",
}

# Both append what they do to the file LOG. The compiler copies its source and refuses one that begins with "bad".
PROTOC = """
folders = dict(a.split("=") for a in arguments if a.startswith("--") and "=" in a)
if folders:
    (Path(folders["--cpp_out"]) / "caffe.pb.cc").write_text("messages")
    (Path(folders["--cpp_out"]) / "caffe.pb.h").write_text("messages")
    if "--python_out" in folders:
        (Path(folders["--python_out"]) / "caffe_pb2.py").write_text("messages")
"""
COMPILER = """
if "-c" in arguments:
    content = Path(arguments[arguments.index("-c") + 1]).read_text()
    if content.startswith("bad"):
        sys.exit("error: " + content)
    Path(arguments[-1]).write_text(content)
elif "-o" in arguments:
    made = arguments[arguments.index("-o") + 1]
    objects = [a for a in arguments if a.endswith((".o", "/libcaffe.so")) and a != made]
    libraries = [a for a in arguments if a.startswith("-l")]
    Path(made).write_text(" + ".join(sorted(Path(o).read_text() for o in objects)) + " " + " ".join(libraries))
"""


class Workshop:
    """A folder with a fake source archive and fake tools."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.output = io.StringIO()
        self.files = dict(FILES)
        self.recipe = replace(
            CPU,
            flags=("-O2",),
            file_flags=(),
            libraries=("glog",),
            compiler=self._tool("compiler", COMPILER),
            protoc=self._tool("protoc", PROTOC),
        )

    def _tool(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\narguments = sys.argv[1:]\n"
            f"with open({str(self.log)!r}, 'a') as log:\n    log.write({name!r} + ' ' + ' '.join(arguments) + '\\n')\n"
            + text
        )
        path.chmod(0o755)
        return str(path)

    def order(self) -> Order:
        archive = self.folder / "source.tar"
        with tarfile.open(archive, "w") as tar:
            for name, text in self.files.items():
                member = tarfile.TarInfo(f"caffe/{name}")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        recipe = replace(self.recipe, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
        work = self.folder / "work"
        return Order(
            recipe,
            Interpreter(Path(sys.executable), "3.13", ("/include/python",)),
            work,
            work / "stage",
            self.folder / "downloads",
            jobs=2,
            report=Report(Console(file=self.output)),
            sdist=archive,
        )

    def cuda(self) -> Order:
        """The order of a build with CUDA, whose nvcc is one more of these tools."""
        self.files["src/caffe/layers/lstm_layer.cu"] = "lstm kernels"
        recipe = cuda_recipe(("sm_90",))
        self.recipe = replace(
            self.recipe,
            architectures=recipe.architectures,
            gpu_flags=("-gencode=sm_90",),
            file_flags=(("src/caffe/net.cpp", ("-include", "lstmc/cuda_device_properties.h")),),
            added=recipe.added,
        )
        libraries = tuple(self.folder / name for name in LIBRARIES)
        for library in libraries:
            library.write_text("of NVIDIA")
        headers = self.folder / "headers"
        headers.mkdir()
        (headers / "cublas_v2.h").write_text("products")
        own = Toolkit(Path(self._tool("nvcc", COMPILER)), (str(headers),), libraries)
        return replace(self.order(), toolkit=own)

    def commands(self) -> list[list[str]]:
        """What was run, and forgets it."""
        lines = [shlex.split(line) for line in self.log.read_text().splitlines()]
        self.log.unlink()
        return lines

    def compiled(self) -> list[str]:
        """The source files that were compiled, and forgets them."""
        return sorted(line[line.index("-c") + 1] for line in self.commands() if "-c" in line)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


CAFFE = "lstm layer + messages + net -lglog"  # its library, as the tools here write it


def test_build(workshop: Workshop) -> None:
    order = workshop.order()
    build(order)
    files = {p.relative_to(order.stage).as_posix(): p.read_text() for p in order.stage.rglob("*") if p.is_file()}
    assert files == {
        "LICENSE": "licence",
        "caffe.proto": "proto",
        "bin/caffe": f"{CAFFE} + program -lglog",
        "include/caffe/layer.hpp": "layer",
        "include/caffe/proto/caffe.pb.h": "messages",
        "python/caffe/__init__.py": "",
        "lib/libcaffe.so": CAFFE,
        "python/caffe/_caffe.so": f"binding + {CAFFE} -lglog -lboost_python313",
        "python/caffe/proto/__init__.py": "",
        "python/caffe/proto/caffe_pb2.py": "messages",
    }
    assert workshop.compiled() == [
        "generated/caffe/proto/caffe.pb.cc",
        "python/caffe/_caffe.cpp",
        "src/caffe/layers/lstm_layer.cpp",
        "src/caffe/net.cpp",
        "tools/caffe.cpp",
    ]


def test_build_with_cuda(workshop: Workshop) -> None:
    order = workshop.cuda()
    build(order)
    files = {p.relative_to(order.stage).as_posix(): p.read_text() for p in order.stage.rglob("*") if p.is_file()}
    library = files["lib/libcaffe.so"]
    assert library.startswith("// Six of this Caffe's layers declare")
    assert library.endswith(" + lstm kernels + lstm layer + messages + net -lglog")
    assert files["bin/caffe"] == f"{library} + program -lglog"
    assert files["python/caffe/_caffe.so"] == f"{library} + binding -lglog -lboost_python313"
    assert {name: text for name, text in files.items() if name.startswith("cuda/")} == {
        "cuda/include/cublas_v2.h": "products",
        **{f"cuda/{name}": "of NVIDIA" for name in LIBRARIES},
    }


def test_the_commands_of_a_build_with_cuda(workshop: Workshop) -> None:
    order = workshop.cuda()
    build(order)
    commands = workshop.commands()
    compiled = {command[command.index("-c") + 1]: command for command in commands if "-c" in command}
    folders = ["-Igenerated", "-Iinclude", "-Isrc", "-I/include/python", f"-I{workshop.folder}/headers"]
    assert compiled["src/caffe/layers/lstm_layer.cu"][:-2] == (
        ["nvcc", "-ccbin", order.recipe.compiler, "-gencode=sm_90", *folders, "-c", "src/caffe/layers/lstm_layer.cu"]
    )
    forced = ["-include", "lstmc/cuda_device_properties.h"]
    assert compiled["src/caffe/net.cpp"][:-2] == ["compiler", "-O2", *forced, *folders, "-c", "src/caffe/net.cpp"]
    assert compiled["lstmc/cuda_layers_on_cpu.cpp"][0] == "compiler"
    library, binding, program = (command for command in commands if "-c" not in command and "-o" in command)
    rpath = ["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN", "-Wl,-rpath,$ORIGIN/../cuda"]
    assert library[1:6] == ["-Wl,--as-needed", "-shared", *rpath]
    assert library[-4:] == [str(workshop.folder / name) for name in LIBRARIES]
    assert {"-Wl,-z,defs", "-Wl,-soname,libcaffe.so"} <= set(library)
    assert "-Wl,-rpath,$ORIGIN/../../lib" in binding
    assert {"-Wl,-rpath,$ORIGIN/../lib", "-Wl,-rpath,$ORIGIN/../cuda"} <= set(program)
    assert program[-4:] == library[-4:]


def test_progress_is_plain_lines_where_there_is_no_terminal(workshop: Workshop) -> None:
    build(workshop.order())
    assert workshop.output.getvalue().splitlines() == [
        "fetching brocolli-caffe==9.0.2, which holds the source of BVLC Caffe",
        "compiling Caffe (2 at a time): 5 to do",
        *(f"compiling Caffe (2 at a time): {n} of 5" for n in range(1, 6)),
        "linking",
    ]


def test_a_failing_compile_names_the_command_and_a_second_run_goes_on(workshop: Workshop) -> None:
    workshop.files["src/caffe/net.cpp"] = "bad net"
    order = replace(workshop.order(), jobs=1)
    with pytest.raises(InstallError) as caught:
        build(order)
    text = str(caught.value)
    assert text.startswith(
        "InstallError: compiling src/caffe/net.cpp failed (exit code 1)\n"
        f"  command: {order.recipe.compiler} -O2 -Igenerated -Iinclude -Isrc -I/include/python -c src/caffe/net.cpp -o "
    )
    assert text.endswith(f"  run in: {order.work / 'source'}\n  its last lines:\n    error: bad net")
    first = workshop.compiled()
    with pytest.raises(InstallError):
        build(order)
    again = workshop.compiled()
    assert "src/caffe/net.cpp" in first
    assert "src/caffe/net.cpp" in again
    assert set(first) & set(again) == {"src/caffe/net.cpp"}
    assert f"going on: {len(first) - 1} of 5 files are already compiled" in workshop.output.getvalue()


def test_other_flags_compile_again_only_what_they_touch(workshop: Workshop) -> None:
    build(workshop.order())
    workshop.compiled()
    workshop.recipe = replace(workshop.recipe, file_flags=(("src/caffe/net.cpp", ("-O3",)),))
    build(workshop.order())
    assert workshop.compiled() == ["src/caffe/net.cpp"]


def test_progress_is_a_bar_on_a_terminal() -> None:
    output = io.StringIO()
    report = Report(Console(file=output, force_terminal=True, width=100))
    with report.busy("installing"):
        pass
    with report.counted("compiling", 3) as advance:
        for _ in range(3):
            advance()
    assert "installing" in output.getvalue()
    assert "3/3" in output.getvalue()
