"""Linking: Caffe into a library, which pycaffe, the program and other programs load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lstmc_caffe.install import record
from lstmc_caffe.install.recipe import Recipe
from lstmc_caffe.install.toolkit import Toolkit

RunCommand = Callable[[Sequence[str], str], str]
"""Runs a command, and says in an error what was being done."""


def link(
    run: RunCommand,
    recipe: Recipe,
    python: str,
    stage: Path,
    binding: Path,
    program: Path,
    common: Sequence[Path],
    toolkit: Toolkit | None = None,
) -> None:
    """Links a library of all Caffe, and pycaffe and the program to it. ``python`` is the interpreter's version, as in
    ``3.13``. With CUDA, NVIDIA's libraries go into ``stage/cuda``, where ``stage/lib/libcaffe.so`` finds them.
    """
    cuda = () if toolkit is None else toolkit.libraries
    if cuda:
        (stage / record.CUDA).mkdir()
    for library in cuda:
        # They are large: the same file under a second name. CUDA's own second library is found by the first.
        (stage / record.CUDA / library.name).hardlink_to(library)
    library = stage / record.LIBRARY
    # What no file defines fails here, not at import. The name is what others will look for, whatever folder it is in;
    # the build's id is how generated layers know it.
    found = [*_rpath("$ORIGIN", *_beside(cuda)), "-Wl,-z,defs", "-Wl,--build-id", f"-Wl,-soname,{library.name}"]
    run(
        [
            *(recipe.compiler, "-Wl,--as-needed", "-shared", *found, *_into(library), *_names(common)),
            *(*_libraries(recipe), *_names(cuda)),
        ],
        "linking libcaffe",
    )
    link_binding(run, recipe, python, stage, binding)
    run(
        [
            *(recipe.compiler, "-Wl,--as-needed", *_rpath("$ORIGIN/../lib", *_beside(cuda))),
            *(*_into(stage / record.PROGRAM), str(program), str(library)),
            *(*_libraries(recipe), *_names(cuda)),  # it counts the GPUs itself
        ],
        "linking caffe",
    )


def link_binding(
    run: RunCommand, recipe: Recipe, python: str, stage: Path, binding: Path, boost: Sequence[str] | None = None
) -> None:
    """Links pycaffe to ``stage/lib/libcaffe.so``; ``boost`` takes the place of the system's Boost.Python."""
    own = _libraries(recipe, python) if boost is None else [*_libraries(recipe), *boost]
    run(
        [
            *(recipe.compiler, "-Wl,--as-needed", "-shared", *_rpath("$ORIGIN/../../lib")),
            *(*_into(stage / record.BINDING), str(binding), str(stage / record.LIBRARY), *own),
        ],
        "linking pycaffe",
    )


def _beside(cuda: Sequence[Path]) -> tuple[str, ...]:
    return ("$ORIGIN/../cuda",) if cuda else ()


def _into(target: Path) -> list[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    return ["-o", str(target)]


def _names(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths]


def _libraries(recipe: Recipe, python: str | None = None) -> list[str]:
    return [f"-l{name}" for name in (recipe.libraries_for_python(python) if python else recipe.libraries)]


def _rpath(*folders: str) -> list[str]:
    # The old kind of tag, which LD_LIBRARY_PATH does not overrule, and which holds for libraries of libraries.
    return ["-Wl,--disable-new-dtags", *(f"-Wl,-rpath,{folder}" for folder in folders)]
