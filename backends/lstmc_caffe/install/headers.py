"""Caffe's headers beside a build of it: what a layer of one's own is compiled with."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lstmc_caffe.install import source
from lstmc_caffe.install.system import run
from lstmc_caffe.install.recipe import CPU, Recipe

INCLUDE = Path("include")
_MESSAGES = Path("caffe/proto/caffe.pb.h")


def keep_headers(unpacked: Path, generated: Path, target: Path) -> None:
    """Copies Caffe's headers, and that of its messages, from the source of a build into ``target``."""
    shutil.copytree(unpacked / "include/caffe", target / "caffe")
    (target / _MESSAGES).parent.mkdir(exist_ok=True)
    shutil.copy(generated / _MESSAGES, target / _MESSAGES)


def headers(build: Path, recipe: Recipe = CPU) -> Path:
    """The folder of the headers of an installed build. One of a version that kept none gets them now, in seconds.

    They are those of the source that it was built from, which the installer has kept, or fetches. Raises InstallError
    as the installer does.
    """
    target = build / INCLUDE
    if (target / _MESSAGES).is_file():
        return target
    archive = source.fetch(recipe, build.parent / "downloads")
    with tempfile.TemporaryDirectory(prefix=".headers-", dir=build.parent) as folder:
        work = Path(folder)
        source.unpack(archive, work / "source")
        (work / "generated/caffe/proto").mkdir(parents=True)
        proto = work / "source/src/caffe/proto"
        arguments = [f"--proto_path={proto}", f"--cpp_out={work / 'generated/caffe/proto'}", str(proto / "caffe.proto")]
        run([recipe.protoc, *arguments], "generating Caffe's messages")
        keep_headers(work / "source", work / "generated", work / "include")
        if not target.exists():  # another process may have been faster
            (work / "include").rename(target)
    return target
