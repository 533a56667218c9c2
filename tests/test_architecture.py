"""The rules that no part may break: who imports whom, what is listed where, how large a file may be."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from functools import cache
from pathlib import Path

import networkx as nx  # noqa: TID251 - for cycles among modules
import pytest

import lstmc
from lstmc.dsl.value import FUNCTIONS
from lstmc.importers.ir.net import MaskedScan
from lstmc.ir import Scan
from lstmc.loops.layer import GeneratedScan
from lstmc.ops import CORE, Op
from lstmc.ops.base import load_dialect, ops_in
from lstmc.verification.native import NativeScan
from lstmc_c.ops import Accumulated, GroupedProduct, LaneProduct, Turns
from lstmc_caffe.legalize.fused import FusedScan
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS

ROOT = Path(__file__).parents[1]
NAMES = ("lstmc_caffe", "lstmc_onnx", "lstmc_c", "lstmc_tflite", "lstmc_torch")
BACKENDS = {name: ROOT / "backends" / name for name in NAMES}
SOURCES = {"lstmc": ROOT / "lstmc", **BACKENDS}

# Each part of a package, a folder or a file, may import what stands on a line above its own, and nothing else of the
# package. "lstmc" itself is lstmc/__init__.py, the language and the API.
ORDER: dict[str, tuple[tuple[str, ...], ...]] = {}
ORDER["lstmc"] = (
    ("types", "version", "text", "on_use"),
    ("source",),
    ("errors",),
    ("plugins",),
    ("process", "ops"),
    ("files", "ir"),
    ("interp", "dsl", "patterns", "drawing"),
    ("passes",),
    ("weights", "prepare", "loops"),
    ("backend",),
    ("data",),
    ("pipeline", "verification", "manifest", "numerics"),
    ("importers", "nets", "runs"),
    ("api",),
    ("report", "sweeps"),
    ("lstmc", "testing"),
    ("cells", "cli"),  # cells need no more than anybody's: the face of the package
    ("__main__",),
)
ORDER["lstmc_caffe"] = (
    ("worker", "proto"),  # of worker no more than where its files are
    ("ops",),
    ("processes", "targets", "legalize"),
    ("install", "rows", "write"),
    ("runtime", "readers"),
    ("train", "source", "layers"),
    ("backend",),
    ("lstmc_caffe",),
)
ORDER["lstmc_onnx"] = (
    ("ops",),
    ("lowerings", "layers"),
    ("artifact",),
    ("runtime",),
    ("backend",),
    ("lstmc_onnx",),
)
ORDER["lstmc_c"] = (
    ("elements", "ops", "rules"),
    ("wav", "plan"),
    ("code",),
    ("numbers",),
    ("artifact",),
    ("backend",),
    ("lstmc_c",),
)
ORDER["lstmc_tflite"] = (
    ("net",),
    ("lowerings",),
    ("numbers",),
    ("runtime",),
    ("examples",),
    ("backend",),
    ("lstmc_tflite",),
)
ORDER["lstmc_torch"] = (
    ("autograd", "program"),
    ("backend", "loop"),
    ("modules",),
    ("trainer",),
    ("ranks",),
    ("lstmc_torch",),
)
RANK = {package: {part: rank for rank, parts in enumerate(order) for part in parts} for package, order in ORDER.items()}
# What is imported from elsewhere, and by whom: a part, a file, or (ending in /) a folder.
THIRD_PARTY = {
    "numpy": ("lstmc/", "lstmc_caffe/", "lstmc_onnx/", "lstmc_c/", "lstmc_tflite/", "lstmc_torch/"),
    "torch": tuple(f"lstmc_torch/{name}.py" for name in ("autograd", "loop", "modules", "trainer", "ranks", "written")),
    "networkx": ("lstmc/ir/graph.py",),
    "typer": ("lstmc/cli/",),
    "rich": ("lstmc/cli/", "lstmc_caffe/install/"),
    "matplotlib": ("lstmc/runs/curves.py", "lstmc/sweeps/drawing.py"),
    "jinja2": ("lstmc/files/templates.py", "lstmc/cli/new.py", "lstmc/report/page.py"),
    "markupsafe": ("lstmc/report/page.py",),
    "google": (
        "lstmc_caffe/readers/programs/tvm.py",
        *("lstmc_caffe/proto/", "lstmc_caffe/train/trainer.py"),
        *("lstmc_caffe/write/net.py", "lstmc_caffe/worker/", "lstmc_caffe/source/source.py"),
    ),
    "pydantic": (
        *(
            "lstmc/files/json_file.py",
            "lstmc/manifest.py",
            "lstmc/numerics/device.py",
            "lstmc/runs/metrics.py",
        ),
        *("lstmc_c/wav.py", "lstmc_caffe/install/record.py", "lstmc_caffe/targets/target.py"),
    ),
    "pydantic_core": ("lstmc/manifest.py",),
    "filelock": ("lstmc_caffe/install/installer.py", "lstmc/files/lock.py", "lstmc/sweeps/task.py"),
    "psutil": ("lstmc/process/", "lstmc_caffe/processes/"),
    # each reader in its own program, which runs in that reader's environment
    **dict.fromkeys(
        (
            *("cv2", "MNN", "ncnn", "openvino", "openvino_telemetry", "paddle", "rknn", "tpu_mlir", "tvm"),
            *("acuitylib", "pymlir", "transform", "utils"),  # the last three are TPU-MLIR's own
            *("coremltools", "onnxmltools", "onnxruntime", "pkg_resources"),
            "x2paddle",
        ),
        ("lstmc_caffe/readers/programs/",),
    ),
    "platformdirs": (
        "lstmc_caffe/readers/executor.py",
        "lstmc_caffe/install/record.py",
        *("lstmc/importers/zoo.py", "lstmc/loops/native.py", "lstmc/nets/tune.py"),
    ),
    "mpi4py": ("lstmc_caffe/worker/",),
    "caffe": ("lstmc_caffe/worker/", "lstmc_caffe/install/smoke_test.py"),
}
LIMIT = 600  # lines of a file of code, where to ask whether it is one thing


def modules() -> dict[str, Path]:
    """Every module of lstmc and its backends by its full name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


# These run in the Python that has Caffe, which may have nothing else.
WORKER_SIDE = [
    name
    for name in MODULES
    if name.startswith(("lstmc_caffe.worker.", "lstmc_caffe.readers.programs."))
    or name == "lstmc_caffe.install.smoke_test"
]


def short(path: Path) -> str:
    """``lstmc/ir/graph.py``, ``lstmc_caffe/backend.py``."""
    return path.relative_to(ROOT).as_posix().removeprefix("backends/")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def import_statements(path: Path, types: bool = False) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """The imports of a file, wherever in it; with ``types`` those too that stand under ``if TYPE_CHECKING:``."""
    found, waiting = [], list[ast.AST](parsed(path).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            waiting += node.orelse
        elif not isinstance(node, ast.expr):
            waiting += ast.iter_child_nodes(node)
    return tuple(found)


@cache
def imports(path: Path, types: bool = False) -> tuple[str, ...]:
    """The full names of all modules that a file imports; with ``types`` those of type checkers too."""
    found: list[str] = []
    for node in import_statements(path, types):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        else:
            assert node.level == 0, f"{short(path)} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append(whole if whole in MODULES else str(node.module))
    return tuple(found)


def package_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def part_of(module: str) -> str:
    """``lstmc.ir.graph`` is in ``ir``; ``lstmc`` is a part of its own."""
    return module.split(".")[1] if "." in module else module


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_one_way(package: str) -> None:
    rank = RANK[package]
    wrong = {
        f"{name} imports {module}, which stands beside or above it"
        for name, path in MODULES.items()
        for module in imports(path)
        if package_of(name) == package_of(module) == package
        and part_of(module) != part_of(name)
        and rank[part_of(module)] >= rank[part_of(name)]
    }
    assert not wrong


@pytest.mark.parametrize("package", ORDER)
def test_every_part_has_its_place(package: str) -> None:
    assert {part_of(name) for name in MODULES if package_of(name) == package} == set(RANK[package])


def test_the_page_of_the_architecture_has_the_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    text = page.partition("Imports go one way:\n")[2].partition("\n\nHere")[0]
    told = [set(re.findall(r"\w+", rank)) for rank in text.split("<")]
    assert told == [set(parts) for parts in ORDER["lstmc"]]


def test_every_import_stands_at_the_top() -> None:
    inside = [
        f"{name} imports in line {node.lineno}, where no order of imports is kept"
        for name in MODULES
        if name not in WORKER_SIDE
        for node in import_statements(MODULES[name])
        if node not in parsed(MODULES[name]).body
    ]
    assert not inside


@pytest.mark.parametrize("package", SOURCES)
def test_the_compiler_knows_no_backend_and_no_backend_another(package: str) -> None:
    others = set(BACKENDS) - {package}
    for name, path in MODULES.items():
        if package_of(name) == package:
            assert not [module for module in imports(path) if package_of(module) in others], name


@pytest.mark.parametrize("types", [False, True], ids=["running", "typing"])
def test_no_modules_import_each_other_in_a_circle(types: bool) -> None:
    graph = nx.DiGraph()
    for name, path in MODULES.items():
        graph.add_edges_from((name, module) for module in imports(path, types) if module in MODULES)
    if types:  # a Value's methods are functions of Values
        graph.remove_edge("lstmc.dsl.value", "lstmc.dsl.vocabulary")
    assert [circle for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


CELLS = [name for name in MODULES if name.startswith("lstmc.cells.")]
WRAPPERS = "lstmc.cells.wrappers"


@pytest.mark.parametrize("name", [name for name in CELLS if name != WRAPPERS])
def test_cells_are_written_in_the_public_language(name: str) -> None:
    assert set(imports(MODULES[name])) <= {"lstmc", "__future__", "collections.abc", "numpy"}
    written = {n.id for n in ast.walk(parsed(MODULES[name])) if isinstance(n, ast.Name)}
    assert not [n for n in written if n.startswith("_") and n != "_"]


def test_wrappers_read_the_arguments_of_cells_too_and_say_what_is_wrong_with_theirs() -> None:
    public = {"lstmc", "__future__", "collections.abc", "inspect", "typing", "lstmc.errors", "lstmc.source"}
    assert set(imports(MODULES[WRAPPERS])) <= public


def test_other_packages_are_imported_only_where_they_belong() -> None:
    known, wrong = {*sys.stdlib_module_names, *SOURCES}, []
    for path in MODULES.values():
        for package in {package_of(module) for module in imports(path)} - known:
            places = THIRD_PARTY.get(package, ())
            if not any(
                short(path) == place or (place[-1] == "/" and short(path).startswith(place)) for place in places
            ):
                wrong.append(f"{short(path)} imports {package}, which is for {', '.join(places) or 'no part'}")
    assert not wrong


@pytest.mark.parametrize("name", WORKER_SIDE)
def test_what_runs_beside_caffe_needs_nothing_of_ours(name: str) -> None:
    assert not {package_of(module) for module in imports(MODULES[name])} & set(SOURCES)


def python_files() -> list[Path]:
    return [
        path
        for folder in ("lstmc", "backends", "tools", "tests", "docs")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def test_files_are_about_one_thing_and_named_for_it() -> None:
    code = (path for path in python_files() if not path.is_relative_to(ROOT / "tests"))
    long = {short(path): n for path in code if (n := len(path.read_text().splitlines())) > LIMIT}
    assert not long, f"ask whether these files are one subject each: {long}"
    vague = ("utils", "util", "helpers", "helper", "misc", "manager", "common")
    assert not [short(path) for path in python_files() if path.stem.removeprefix("test_") in vague]


PARAMETERS = 8  # of a function; what is passed on and on is a dataclass
# The public face, each with the reason why its keywords stand in its signature: there they are documented, offered by
# editors, and checked by type checkers. Each makes one object of them, which is passed on.
FACE = {
    "lstmc.api.compiling.compile": "the keywords of CompileOptions, and sizes by the model's own names",
    "lstmc.api.converting.convert": "those of compile that fit an imported model, and of the import",
    "lstmc.api.training.train": "the keywords of TrainingOptions and RunOptions",
    "lstmc.dsl.scan.scan": "the language: each is an argument of a person's call, and errors name it",
    "lstmc.importers.importer.import_file": "the keywords of ImportOptions, and how the model is streamed",
    "lstmc.sweeps.sweeping.sweep": "those of train that hold for all points, of the search, and of the workers",
}
# Functions whose parameters others have chosen.
CHOSEN_ELSEWHERE = {
    "lstmc.cells.": "the inputs, states and parameters of a cell are those of its paper",
    "lstmc.importers.frontends.torch_layers.": "the arguments of a handler are those of PyTorch's operator",
    "lstmc.importers.frontends.onnx_layers.": "the operands and attributes of a handler are those of ONNX's operator",
    "lstmc.importers.frontends.layers.recur": "what recurrent layers of PyTorch, Keras, ONNX and Caffe have in common",
}


def parameter_count(function: ast.FunctionDef) -> int:
    """The number of a function's parameters, without ``self`` and ``cls``."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    return len(names) + (arguments.vararg is not None) + (arguments.kwarg is not None)


def test_functions_below_the_public_face_have_few_parameters() -> None:
    long = {
        f"{name}.{node.name}": count
        for name, path in MODULES.items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef) and (count := parameter_count(node)) > PARAMETERS
    }
    assert set(long) >= FACE.keys(), "a function that has few parameters needs no exception"
    assert {name for name in long if name not in FACE and not name.startswith((*CHOSEN_ELSEWHERE,))} == set()


@pytest.mark.parametrize("name", [n for n, path in MODULES.items() if path.name == "__init__.py"])
def test_packages_say_what_they_offer(name: str) -> None:
    tree = parsed(MODULES[name])
    taken = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "lstmc.on_use"]
    package = importlib.import_module(name)
    starred = [importlib.import_module(str(node.module)) for node in taken if node.names[0].name == "*"]
    if starred:  # each of its modules lists what it offers, and it offers all
        assert len({offered for module in starred for offered in module.__all__}) == sum(
            len(module.__all__) for module in starred
        )
        return
    if not taken:
        return
    # constants, then classes, then the rest, as ruff sorts them
    assert package.__all__ == sorted(package.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert len(set(package.__all__)) == len(package.__all__)
    for offered in package.__all__:
        assert getattr(package, offered) is not None


def test_a_star_import_gives_the_language_and_no_submodule() -> None:
    words: dict[str, object] = {}
    exec("from lstmc import *", words)
    del words["__builtins__"]
    assert set(words) == set(lstmc.__all__) >= {*FUNCTIONS, "Cell", "Input", "op", "scan", "xavier"}
    assert not [word for word, thing in words.items() if inspect.ismodule(thing)]


@pytest.mark.parametrize("name", ["elementwise", "product", "reduce", "whole_numbers"])
def test_every_function_of_the_language_is_listed(name: str) -> None:
    module = importlib.import_module(f"lstmc.dsl.{name}")
    own = {word for word, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__}
    assert {word for word in own if hasattr(vars(module)[word], "__wrapped__")} == set(module.__all__)  # by @function
    assert set(module.__all__) <= set(FUNCTIONS)
    assert all(inspect.getdoc(getattr(module, word)) for word in module.__all__)


@cache
def everything_imported() -> None:
    importlib.import_module("lstmc_onnx.ops")
    for package in (lstmc, importlib.import_module("lstmc_caffe.ops")):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__") and found.name not in WORKER_SIDE:
                importlib.import_module(found.name)


def concrete_ops() -> set[type[Op]]:
    concrete, waiting = set(), [Op]
    while waiting:
        op = waiting.pop()
        waiting += op.__subclasses__()
        if not inspect.isabstract(op) and op.__module__.split(".")[0] in SOURCES:
            concrete.add(op)
    return concrete


def test_every_op_comes_through_the_door_of_plug_ins() -> None:
    everything_imported()
    installed = {op for name in ("core", "caffe", "host", "onnx", "tflite") for op in load_dialect(name).values()}
    owners = {MaskedScan, Scan, GeneratedScan, FusedScan, NativeScan}  # those own a graph, or are made of one
    owners |= {Accumulated, GroupedProduct, LaneProduct, Turns}  # of a plan in C alone
    imported = {*ops_in("lstmc.importers.ir.ops")}  # of nets that no text of a graph has
    assert concrete_ops() - owners - imported == installed
    assert set(CORE) == set(load_dialect("core").values())
    assert {*CAFFE_OPS, *HOST_OPS} == {*load_dialect("caffe").values(), *load_dialect("host").values()}


@pytest.mark.parametrize("package", ["lstmc.ops", "lstmc_caffe.ops", "lstmc_onnx.ops"])
def test_every_op_can_be_imported_from_its_package(package: str) -> None:
    everything_imported()
    offered = vars(importlib.import_module(package))
    ops = [op for op in concrete_ops() if f"{op.__module__}.".startswith(f"{package}.")]
    assert ops
    assert [op for op in ops if offered.get(op.__name__) is not op] == []


@pytest.mark.parametrize(
    "name",
    [
        *("generate_semantics", "generate_language", "generate_operators"),
        pytest.param("generate_cells", marks=pytest.mark.slow),
    ],
)
def test_a_generated_page_is_current(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.PAGE.read_text() == generate.page(), "run `make docs`"
