"""Targets from their TOML files: those of this package, of plug-in packages, and any file by its path."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lstmc.errors import BackendError, PluginError
from lstmc.files.reading import read_file, reading
from lstmc.plugins import distribution, entry_points_of, load_point, malformed, only_entry_point, origin
from lstmc.text import did_you_mean
from lstmc_caffe.targets.target import Target, parse

# targets/NAME.toml: those that others are built on, the default first; and those of one reader each, called after it
BASES = ("caffe", "flat", "noslice", "caffe-native", "caffe-fused")
OWN = (
    *BASES,
    *("opencv", "mnn", "openvino", "openvino-2022.3", "rknn", "tpu-mlir", "acuity", "ncnn", "tvm", "x2paddle"),
    *("coreml", "tensorrt", "ascend"),
)
GROUP = "lstmc_caffe.targets"  # entry points of other packages: a target's name -> its TOML file, as path or resource


def load_target(name: str, folder: Path = Path(), above: tuple[str, ...] = ()) -> Target:
    """Return a target by its name, or from a TOML file by its path, which has a path separator or ends in ``.toml``.

    The path is relative to ``folder``; ``above`` are the files that are built on it, by ``base``.
    Raises :class:`BackendError` for a file that is no target, saying which key, what was expected and what was found.
    """
    if is_path(name):
        return _read(folder / name, str(folder / name), above)
    return _by_name(name, above)


@dataclass(frozen=True)
class Summaries(Mapping[str, str]):
    """The summary of each known target, in order; a path gives the summary of its TOML file.

    With ``trained``, of those whose nets are trained. A plug-in's target that does not load stays among all, with the
    reason for a summary.
    """

    trained: bool = False

    def __getitem__(self, name: str) -> str:
        if not is_path(name) and name not in _names():
            raise KeyError(name)
        try:
            target = load_target(name)
        except (PluginError, BackendError) as error:
            if is_path(name):
                raise
            if self.trained:
                raise KeyError(name) from None
            return f"cannot be used: {error.message}"
        if self.trained and not target.trained:
            raise KeyError(name)
        return target.summary

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in _names() if not self.trained or name in self])

    def __len__(self) -> int:
        return len(list(iter(self)))


def is_path(name: str) -> bool:
    """Return whether the name of a target is the path of its file."""
    return "/" in name or "\\" in name or name.endswith(".toml")


def _names() -> tuple[str, ...]:
    return (*OWN, *(name for name in entry_points_of(GROUP) if name not in OWN))


def target_faults() -> Iterator[tuple[str, str]]:
    """Yield each target of a package that cannot be used, with the reason."""
    for name, points in entry_points_of(GROUP).items():
        if name in OWN:
            others = " and ".join(map(origin, points))
            yield name, f"target {name} of {others} is not used: lstmc has one of that name. Give it another"
            continue
        try:
            load_target(name)
        except (PluginError, BackendError) as error:
            yield name, error.message


@cache
def _by_name(name: str, above: tuple[str, ...]) -> Target:
    if name in OWN:
        return _read(files(__package__).joinpath(f"{name}.toml"), f"targets/{name}.toml", above)
    if name in entry_points_of(GROUP):
        return _of_plug_in(only_entry_point(GROUP, name, "target"), above)
    near = did_you_mean(name, _names()) or f": expected {', '.join(_names())}, or the path of a TOML file"
    raise BackendError(f"there is no target {name}{near}")


def _of_plug_in(point: EntryPoint, above: tuple[str, ...]) -> Target:
    place = load_point(point, "target")
    if not isinstance(place, str | Traversable):
        raise malformed(point, "target", "the path of a TOML file, or a resource", repr(place))
    brought = f"target {point.name} of {distribution(point)}"
    parsed = _read(Path(place) if isinstance(place, str) else place, f"{brought} ({place})", above)
    if parsed.name != point.name:
        raise PluginError(f"{brought} ({place}): name: expected {point.name}, found {parsed.name}")
    return parsed


def _read(file: Path | Traversable, where: str, above: tuple[str, ...]) -> Target:
    if where in above:
        raise BackendError(f"{where}: base: targets are built on each other in a circle: {' on '.join(above)}")
    try:
        with reading(where, BackendError):
            content = read_file(file) if isinstance(file, Path) else file.read_bytes()
        data = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise BackendError(f"{where}: expected a target as TOML, found a file that is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BackendError(f"{where}: expected a target as TOML: {error}") from None
    except RecursionError:
        raise BackendError(f"{where}: expected a target as TOML, found it nested too deep") from None
    return parse_with_base(data, where, file.parent if isinstance(file, Path) else Path(), above)


def parse_with_base(data: Mapping[str, Any], where: str, folder: Path, above: tuple[str, ...] = ()) -> Target:
    """Return a target, with its base merged in; paths of bases are relative to ``folder``."""
    base = data.get("base")
    if base is None:
        return parse(data, where)
    if not isinstance(base, str):
        raise BackendError(f"{where}: base: expected the name or the path of a target, found {base!r}")
    return parse(data, where, load_target(base, folder, (*above, where)))
