"""The steps: pycaffe for Python 3.12 beside the library that is built already, what it needs, and the archive."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lstmc.files.output import write_files
from lstmc_caffe import install
from lstmc_caffe.install.build import Order, compile_binding, link_binding, prepare_python, unpack
from lstmc_caffe.install.downloads import fetch_source, prepare_toolkit
from lstmc_caffe.install.recipe import EMULATED_LIBRARIES, cuda_recipe
from lstmc_caffe.install.record import CUDA, LIBRARY, Installed, caffe_folder
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import InstallError, run
from tools.bundle import boost_python, libraries, packages, python312
from tools.emulated_cuda.toolkit import emulated_toolkit

CARRIED = Path(__file__).with_name("carried")
SMOKE_TEST = Path(install.__file__).with_name("smoke_test.py")
GPU_CHECK = Path(__file__).parents[1] / "gpu_check"
RUNTIME = "libcudart.so.13"  # small, and beside cuBLAS and cuRAND it need not be there
LIMIT = 60 * 2**20


@dataclass(frozen=True)
class Plan:
    """What is bundled, and with what: the build with CUDA, a Python 3.12, and how many compilers run at a time."""

    installed: Installed
    python: Path
    target: Path
    jobs: int
    report: Report


def make(plan: Plan) -> Path:
    """Writes the archive; gives its path. Raises InstallError where a step fails or it is larger than LIMIT."""
    project = packages.project_folder()
    plan.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=caffe_folder()) as name:
        work = Path(name)
        python = python312.prepare(plan.python, work / "environment")
        stage = work / "stage/lstmc-gpu"
        _add_caffe(plan, python, work, stage)
        plan.report.step("adding lstmc and what it needs")
        packages.install_into(stage / "site", packages.build_wheel(project, python.executable, work), python.executable)
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(GPU_CHECK, stage / "site/tools/gpu_check", ignore=without)
        shutil.copytree(CARRIED, stage, dirs_exist_ok=True, ignore=without)
        shutil.copy(project / "docs/gpu.md", stage / "README.md")
        _try(plan, python, stage)
        plan.report.step("compressing")
        return pack(stage, plan.target)


def _add_caffe(plan: Plan, python: python312.Python312, work: Path, stage: Path) -> None:
    """``python/``, ``lib/`` and ``licences/``."""
    report, built = plan.report, plan.installed.pythonpath.parent
    recipe = cuda_recipe(plan.installed.architectures)
    order = Order(recipe, python.interpreter, work, stage, caffe_folder() / "downloads", plan.jobs, report)
    toolkit = emulated_toolkit(work, report) if recipe.emulation else prepare_toolkit(recipe, work, report)
    order = replace(order, toolkit=toolkit)
    unpack(order, fetch_source(recipe, order.downloads))
    prepare_python(order)
    report.step("fetching and compiling Boost.Python")
    (work / "boost").mkdir()
    archive = boost_python.fetch(boost_python.source_package(), work / "boost")
    sources = boost_python.unpack(archive, work / "boost")
    boost = boost_python.compile_sources(sources, python.interpreter.includes, work / "boost/objects", plan.jobs)
    report.step("compiling pycaffe")
    binding = compile_binding(order)
    (stage / "lib").mkdir()
    run(["strip", "--strip-unneeded", "-o", str(stage / LIBRARY), str(built / LIBRARY)], "stripping libcaffe")
    link_binding(order, binding, list(map(str, boost)))
    of_cuda = {name: built / CUDA / name for name in (EMULATED_LIBRARIES if recipe.emulation else (RUNTIME,))}
    of_debian = {name: path for name, path in libraries.needed(built / LIBRARY).items() if name not in of_cuda}
    libraries.copy({**of_debian, **of_cuda}, stage / "lib")
    (stage / "licences").mkdir()
    libraries.copy_licences(of_debian.values(), stage / "licences")
    shutil.copy(work / "boost" / boost_python.LICENCE, stage / "licences/boost.txt")
    for licence in (work / "cuda-libraries").glob("nvidia_cuda_runtime-*.dist-info/licenses/*"):
        shutil.copy(licence, stage / "licences/nvidia-cuda-runtime.txt")
    (stage / "LICENSE").rename(stage / "licences/caffe.txt")
    newest = libraries.check_glibc([*(stage / "lib").iterdir(), *(stage / "python/caffe").glob("*.so")])
    gpus = "an emulated device" if recipe.emulation else f"GPUs {', '.join(recipe.architectures)} and later"
    report.step(f"it needs glibc {newest}, for {gpus}")


def _try(plan: Plan, python: python312.Python312, stage: Path) -> None:
    """Whether the new pycaffe computes in its Python, with the libraries of the bundle."""
    path = ":".join(str(stage / name) for name in ("python", "placeholders", "site"))
    folders = f"{stage / 'lib'}:{plan.installed.pythonpath.parent / CUDA}"
    env = {"PYTHONPATH": path, "LD_LIBRARY_PATH": folders, "PYTHONDONTWRITEBYTECODE": "1", "GLOG_minloglevel": "1"}
    run([str(python.executable), str(SMOKE_TEST)], "trying the bundle's pycaffe", env=env)


def pack(stage: Path, target: Path) -> Path:
    """``target``, written aside first. Names, order and times depend on what is in it alone."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as tar:
        for path in sorted(stage.rglob("*")):
            tar.add(path, path.relative_to(stage.parent).as_posix(), recursive=False, filter=_anonymous)
    size = content.tell()
    if size > LIMIT:
        raise InstallError(f"the bundle has {size / 2**20:.1f} MiB: expected at most {LIMIT // 2**20}")
    write_files(target.parent, {target.name: content.getvalue()})
    return target


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member
