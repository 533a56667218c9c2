"""Build Caffe from the unpacked source: protoc, parallel compilation, headers, and linking of library and pycaffe."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lstmc_caffe.install import downloads, record
from lstmc_caffe.install.downloads import Toolkit
from lstmc_caffe.install.recipe import ADDED, Recipe
from lstmc_caffe.install.system import Interpreter, run

if TYPE_CHECKING:
    from lstmc_caffe.install.report import Report

INCLUDE = Path("include")
_MESSAGE_HEADERS = Path("caffe/proto/caffe.pb.h")

_PROTO = "src/caffe/proto/caffe.proto"
_BINDING = "python/caffe/_caffe.cpp"
_PROGRAM = "tools/caffe.cpp"
_MESSAGES = "generated/caffe/proto/caffe.pb.cc"


@dataclass(frozen=True)
class Order:
    """One build: its recipe, its interpreter and its folders. ``work`` has source and objects, from which the next
    build continues if this build is killed; ``stage`` gets ``python/caffe`` and ``bin/caffe``. ``jobs`` compilers run
    at a time. ``toolkit`` is CUDA's; with None the build looks for it if the recipe has architectures."""

    recipe: Recipe
    interpreter: Interpreter
    work: Path
    stage: Path
    downloads: Path
    jobs: int
    report: Report
    sdist: Path | None = None
    toolkit: Toolkit | None = None


def build(order: Order) -> None:
    """Build Caffe: write its library, the caffe package and the program into ``order.stage``. Raises InstallError with
    the failing command and its last lines if a step fails, and OSError if the disk is full."""
    order.report.step(f"fetching {order.recipe.source}, which holds the source of BVLC Caffe")
    archive = downloads.fetch_source(order.recipe, order.downloads, order.sdist)
    if order.recipe.architectures and order.toolkit is None:
        order = replace(order, toolkit=downloads.prepare_toolkit(order.recipe, order.work, order.report))
    unpack(order, archive)
    shutil.rmtree(order.stage, ignore_errors=True)
    prepare_python(order)
    _link(order, _compile_all(order))
    source, kept = order.work / "source", order.stage / INCLUDE  # headers for generated layers
    shutil.copytree(source / "include/caffe", kept / "caffe")
    (kept / _MESSAGE_HEADERS).parent.mkdir(exist_ok=True)
    shutil.copy(source / "generated" / _MESSAGE_HEADERS, kept / _MESSAGE_HEADERS)
    if order.toolkit is not None:
        downloads.keep_toolkit(order.toolkit, order.work, order.stage)


def unpack(order: Order, archive: Path) -> None:
    """Unpack Caffe's source into ``order.work/source``, and add the recipe's own files."""
    source = order.work / "source"
    downloads.unpack_source(archive, source)
    for name, content in order.recipe.added_content.items():
        (source / ADDED).mkdir(exist_ok=True)
        (source / ADDED / name).write_bytes(content)


def prepare_python(order: Order) -> None:
    """Write the caffe package without its compiled module, and Caffe's messages, into ``order.stage``."""
    source = order.work / "source"
    shutil.copytree(source / "python/caffe", order.stage / "python/caffe", ignore=shutil.ignore_patterns("*.cpp"))
    for name in ("LICENSE", _PROTO):
        shutil.copy(source / name, order.stage)
    generated = source / "generated/caffe/proto"
    generated.mkdir(parents=True)
    outputs = [f"--cpp_out={generated}", f"--python_out={order.stage / 'python/caffe/proto'}"]
    command = [order.recipe.protoc, f"--proto_path={Path(_PROTO).parent}", *outputs, _PROTO]
    run_step(order, command, "generating Caffe's messages")


def compile_binding(order: Order) -> Path:
    """Compile pycaffe's own file alone, the only one that depends on the interpreter; return its object file."""
    target = order.work / "binding.o"
    _compile(order, _BINDING, target)
    return target


def run_step(order: Order, command: Sequence[str], what: str) -> str:
    """Run a command in the source folder and return its output. Raises InstallError as :func:`system.run` does."""
    # Compilers write temporary files: on the disk that was checked for space. The system's own directories come
    # first, because a protoc of another version (conda's, say) makes code that does not fit the system's headers.
    temporary = order.work / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(["/usr/bin", "/bin", os.environ.get("PATH", "")])
    return run(command, what, cwd=order.work / "source", env={"TMPDIR": str(temporary), "PATH": path, "LC_ALL": "C"})


def _sources(order: Order) -> list[str]:
    """Return every file to compile, relative to the source folder; the largest is first, as it takes longest."""
    root = order.work / "source"
    patterns = ("*.cpp", "*.cu") if order.recipe.architectures else ("*.cpp",)
    folders = [root / folder for folder in ("src/caffe", ADDED)]
    paths = [path for folder in folders for pattern in patterns for path in folder.rglob(pattern)]
    sources = [*(path.relative_to(root).as_posix() for path in paths), _MESSAGES, _BINDING, _PROGRAM]
    return sorted(sources, key=lambda path: (-(root / path).stat().st_size, path))


def _compile_command(order: Order, path: str) -> list[str]:
    """Return the command that compiles one file, without its output: g++, or nvcc for a ``.cu`` file."""
    own, folders = [order.recipe.compiler], ["generated", "include", "src", *order.interpreter.includes]
    if order.toolkit is not None:
        folders += order.toolkit.includes
        if path.endswith(".cu"):
            own = [str(order.toolkit.nvcc), "-ccbin", order.recipe.compiler]
    return [*own, *order.recipe.flags_for(path), *(f"-I{folder}" for folder in folders), "-c", path]


def _compile_all(order: Order) -> dict[str, Path]:
    """Compile every source file that has no object file yet; return the object file of each."""
    programs = [order.recipe.compiler, order.recipe.protoc]
    programs += [str(order.toolkit.nvcc)] if order.toolkit is not None else []
    tools = [run_step(order, [program, "--version"], f"asking {program} for its version") for program in programs]
    objects = {path: _object(order, path, tools) for path in _sources(order)}
    todo = [path for path, target in objects.items() if not target.exists()]
    if len(todo) < len(objects):
        order.report.step(f"going on: {len(objects) - len(todo)} of {len(objects)} files are already compiled")
    if not todo:
        return objects
    (order.work / "objects").mkdir(parents=True, exist_ok=True)
    counted = order.report.counted(f"compiling Caffe ({order.jobs} at a time)", len(todo))
    with ThreadPoolExecutor(order.jobs) as pool, counted as advance:
        try:
            for future in as_completed([pool.submit(_compile, order, path, objects[path]) for path in todo]):
                future.result()
                advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return objects


def _object(order: Order, path: str, tools: Sequence[str]) -> Path:
    """Return the object file of a source file. Its name has a hash of all inputs, so an existing file is up to date."""
    content = (order.work / "source" / path).read_bytes()
    inputs = [order.recipe.sha256, *tools, *_compile_command(order, path)]
    digest = hashlib.sha256("\0".join(inputs).encode() + content).hexdigest()
    return order.work / "objects" / f"{Path(path).stem}-{digest[:16]}.o"


def _compile(order: Order, path: str, target: Path) -> None:
    # Renamed when whole, so that a killed compiler leaves no half object under the final name. By the process id,
    # the file is not that of a compiler that outlived its killed parent.
    unfinished = target.with_suffix(f".{os.getpid()}.partial")
    run_step(order, [*_compile_command(order, path), "-o", str(unfinished)], f"compiling {path}")
    unfinished.rename(target)


def _link(order: Order, objects: dict[str, Path]) -> None:
    """Link a library of all Caffe, then pycaffe and the program against it. CUDA's libraries go into ``stage/cuda``."""
    order.report.step("linking")
    cuda = () if order.toolkit is None else order.toolkit.libraries
    if cuda:
        (order.stage / record.CUDA).mkdir()
    for each in cuda:
        # hard links, because the files are large
        (order.stage / record.CUDA / each.name).hardlink_to(each)
    beside = ("$ORIGIN/../cuda",) if cuda else ()
    libraries = [*(f"-l{name}" for name in order.recipe.libraries), *map(str, cuda)]
    common = [str(target) for path, target in sorted(objects.items()) if path not in (_BINDING, _PROGRAM)]
    library = order.stage / record.LIBRARY
    # A symbol that no file defines fails here, not at import. Other files look for the library by its soname, whatever
    # its folder; generated layers recognise the library by its build id.
    flags = [*_rpath("$ORIGIN", *beside), "-Wl,-z,defs", "-Wl,--build-id", f"-Wl,-soname,{library.name}"]
    _link_file(order, library, "libcaffe", ["-shared", *flags], [*common, *libraries])
    link_binding(order, objects[_BINDING])
    # the program counts the GPUs itself
    inputs = [str(objects[_PROGRAM]), str(library), *libraries]
    _link_file(order, order.stage / record.PROGRAM, "caffe", _rpath("$ORIGIN/../lib", *beside), inputs)


def link_binding(order: Order, binding: Path, boost: Sequence[str] | None = None) -> None:
    """Link pycaffe to ``stage/lib/libcaffe.so``; ``boost`` replaces the system's Boost.Python."""
    recipe = order.recipe
    names = recipe.libraries_for_python(order.interpreter.version) if boost is None else recipe.libraries
    inputs = [str(binding), str(order.stage / record.LIBRARY), *(f"-l{name}" for name in names), *(boost or ())]
    _link_file(order, order.stage / record.BINDING, "pycaffe", ["-shared", *_rpath("$ORIGIN/../../lib")], inputs)


def _link_file(order: Order, target: Path, title: str, flags: Sequence[str], inputs: Sequence[str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    run_step(order, [order.recipe.compiler, "-Wl,--as-needed", *flags, "-o", str(target), *inputs], f"linking {title}")


def _rpath(*folders: str) -> list[str]:
    # The old kind of tag, which LD_LIBRARY_PATH does not overrule, and which holds for libraries of libraries.
    return ["-Wl,--disable-new-dtags", *(f"-Wl,-rpath,{folder}" for folder in folders)]
