"""Linking: a Caffe for the CPU into pycaffe and the program, one with CUDA into a library that both load."""

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
) -> None:
    """Links for the CPU: every object is in both files. ``python`` is the interpreter's version, as in ``3.13``."""
    flags = [recipe.compiler, "-Wl,--as-needed"]
    shared = _names(common)
    run(
        [*flags, "-shared", *_into(stage / record.BINDING), str(binding), *shared, *_libraries(recipe, python)],
        "linking pycaffe",
    )
    run([*flags, *_into(stage / record.PROGRAM), str(program), *shared, *_libraries(recipe)], "linking caffe")


def link_with_cuda(
    run: RunCommand,
    recipe: Recipe,
    toolkit: Toolkit,
    python: str,
    stage: Path,
    binding: Path,
    program: Path,
    common: Sequence[Path],
) -> None:
    """Links with CUDA: NVIDIA's libraries into ``stage/cuda``, where ``stage/lib/libcaffe.so`` finds them."""
    (stage / record.CUDA).mkdir()
    for library in toolkit.libraries:
        # They are large: the same file under a second name. CUDA's own second library is found by the first.
        (stage / record.CUDA / library.name).hardlink_to(library)
    library = stage / record.LIBRARY
    # What no file defines fails here, not at import. The name is what others will look for, whatever folder it is in.
    found = [*_rpath("$ORIGIN", "$ORIGIN/../cuda"), "-Wl,-z,defs", f"-Wl,-soname,{library.name}"]
    run(
        [
            *(recipe.compiler, "-Wl,--as-needed", "-shared", *found, *_into(library), *_names(common)),
            *(*_libraries(recipe), *_names(toolkit.libraries)),
        ],
        "linking libcaffe",
    )
    link_binding(run, recipe, python, stage, binding)
    run(
        [
            *(recipe.compiler, "-Wl,--as-needed", *_rpath("$ORIGIN/../lib", "$ORIGIN/../cuda")),
            *(*_into(stage / record.PROGRAM), str(program), str(library)),
            *(*_libraries(recipe), *_names(toolkit.libraries)),  # it counts the GPUs itself
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
