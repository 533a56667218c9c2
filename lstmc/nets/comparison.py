"""Compare the files of a written net with those that its model compiles to: layers, settings, weights, lines of code.

A backend with :meth:`~lstmc.backend.Backend.parts` names layers and weights; other files are compared line by line, or
as bytes. Nothing of a file is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile, zip_longest
from pathlib import Path, PurePath
from textwrap import shorten

import numpy as np

from lstmc.backend import Artifact, Backend, Compiled, Part, Parts
from lstmc.errors import BackendError
from lstmc.files.json_file import NotExpected
from lstmc.files.reading import read_file
from lstmc.manifest import Manifest, parse_manifest
from lstmc.ops import Array, Precomputed
from lstmc.verification.report import LEAST_TOLERANCE, Difference, Report
from lstmc.version import __version__

MANIFEST = ".manifest.json"
AGAINST = "the files that its model is compiled to"
MOST_REMARKS = 10
NOT_COMPARED = ("lstmc", "source")  # fields that may differ: the version that wrote it, and the file
SHOWN = 60  # the most characters of a shown value
OTHERWISE = (
    "inputs, outputs or states differ: give the sizes, the outputs and the other options that the net was compiled with"
)


def check_files(net: Path, backend: Backend, compiled: Compiled, weights: Mapping[str, Array]) -> Report:
    """Compare the files of a written net with those that ``backend`` writes for a compiled model with these weights.
    ``net`` is the net's main file; its NAME may differ. ``report.found`` has the files. Raises :class:`BackendError`
    for a file of another kind, and for a file that cannot be read."""
    artifact = backend.emit(compiled, weights)
    found = _files_beside(net, artifact, compiled.name)
    manifest = _manifest(found)
    if manifest is not None and manifest.source != compiled.source:  # the files name the model's path
        artifact = backend.emit(replace(compiled, source=manifest.source), weights)
    differences, remarks = list[Difference](), list[str]()
    for file, content in artifact.files.items():
        for difference, texts in _compare_file(backend, file, content, found.get(file), _computed(artifact)):
            differences.append(difference)
            remarks += texts
    if any(d.kind == "manifest" and not d.passed and d.name.split()[0] in PLACES for d in differences):
        remarks.insert(0, OTHERWISE)
    if remarks and manifest is not None and manifest.lstmc != __version__:
        remarks.insert(0, f"written by lstmc {manifest.lstmc}; lstmc {__version__} may write other layers and code")
    more = [f"and {len(remarks) - MOST_REMARKS} more"] if len(remarks) > MOST_REMARKS else []
    return Report(net.name, tuple(differences), remarks=(*remarks[:MOST_REMARKS], *more), against=AGAINST, found=found)


PLACES = ("inputs", "outputs", "states")


def _files_beside(net: Path, artifact: Artifact, name: str) -> dict[str, bytes]:
    """Return the existing files of a written net called ``name``, by their names in ``artifact``."""
    own = PurePath(artifact.net)
    suffix = own.name.removeprefix(name)
    if not net.name.endswith(suffix) or len(net.absolute().parts) <= len(own.parts):
        raise BackendError(f"{net}: expected the net's own file, NAME{suffix}, as {own}")
    base, stem, found = net.absolute().parents[len(own.parts) - 1], net.name.removesuffix(suffix), dict[str, bytes]()
    for each in map(PurePath, artifact.files):
        path = base / each.with_name(stem + each.name.removeprefix(name) if each.name.startswith(name) else each.name)
        try:
            found[str(each)] = read_file(path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or each == own:
                raise BackendError(f"{path}: cannot be read: {error.strerror}") from None
    return found


def _manifest(files: Mapping[str, bytes]) -> Manifest | None:
    """Return the manifest among some files; None if there is none, or it cannot be read."""
    try:
        return next((parse_manifest(content) for file, content in files.items() if file.endswith(MANIFEST)), None)
    except NotExpected:
        return None


def _computed(artifact: Artifact) -> frozenset[str]:
    """Return the blobs of weights that are computed from parameters, so that their rounding may differ."""
    manifest = _manifest(artifact.files)
    if manifest is None:
        return frozenset()
    graph = manifest.weights
    sources = {o.name: graph.needed([o.ref]) for o in graph.outputs}
    return frozenset(
        name for name, nodes in sources.items() if any(isinstance(graph.node(n).op, Precomputed) for n in nodes)
    )


def _compare_file(
    backend: Backend, file: str, expected: bytes, found: bytes | None, computed: frozenset[str]
) -> Iterator[tuple[Difference, list[str]]]:
    """Yield the difference of each part of a file, and a line for each field of the part that differs."""
    if found is None:
        yield Difference("file", file, 1, 1.0, 1.0, 0.0), [f"{file}: no such file beside the net"]
        return
    try:
        one, other = parts_of(backend, file, expected), parts_of(backend, file, found)
    except BackendError as error:
        yield Difference("file", file, 1, 1.0, 1.0, 0.0), [f"{file}: {error.message}"]
        return
    for part in dict.fromkeys((*one, *other)):
        kind, name = part
        tolerance = LEAST_TOLERANCE if kind == "weight" and name in computed else 0.0
        if part not in one or part not in other:
            where = "not in the file" if part in one else "not in the model"
            yield Difference(kind, name, 1, 1.0, 1.0, tolerance), [f"{file}: {kind} {name} is {where}"]
            continue
        yield _compare_part(file, part, one[part], other[part], tolerance)


def _compare_part(
    file: str, part: Part, expected: Mapping[str, str | Array], found: Mapping[str, str | Array], tolerance: float
) -> tuple[Difference, list[str]]:
    """Return the difference of one part of a file, and a line for each field that differs beyond ``tolerance``."""
    kind, name = part
    lines, absolute, relative = list[str](), 0.0, 0.0
    for field in dict.fromkeys((*expected, *found)):
        gap, share, text = _gap(expected.get(field), found.get(field))
        absolute, relative = max(absolute, gap), max(relative, share)
        if share > tolerance:
            lines.append(f"{file}: {kind} {name}{f', {field}' if field else ''}: {text}")
    return Difference(kind, name, len(expected), absolute, relative, tolerance), lines


def _gap(expected: str | Array | None, found: str | Array | None) -> tuple[float, float, str]:
    """Return the absolute and the relative difference of two values (of texts 0 or 1), and the difference in words."""
    if (
        isinstance(expected, np.ndarray)
        and isinstance(found, np.ndarray)
        and (expected.shape, expected.dtype) == (found.shape, found.dtype)
    ):
        if expected.tobytes() == found.tobytes():
            return 0.0, 0.0, ""
        one, other = (np.asarray(array, np.float64) for array in (expected, found))
        with np.errstate(invalid="ignore"):
            gaps = np.nan_to_num(np.abs(one - other), nan=np.inf)
        count, most = int((expected != found).sum()), float(gaps.max())
        share = most / (float(np.nan_to_num(np.abs(one), nan=0, posinf=0).max()) or 1.0)
        text = f"{count} of {one.size} numbers differ, by {most:.3g} at the most"
        return most, max(share, np.finfo(float).tiny), text
    if isinstance(expected, str) and isinstance(found, str):
        if expected == found:
            return 0.0, 0.0, ""
        if "\n" in expected + found:
            return 1.0, 1.0, _line_text(expected, found)
    return 1.0, 1.0, f"expected {_shown(expected)}, found {_shown(found)}"


def _shown(value: str | Array | None) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return "nothing" if value is None else shorten(value, SHOWN, placeholder=" ...") or "''"


def _line_text(expected: str, found: str) -> str:
    """Return the first line that differs in two texts, and the function or array that contains it."""
    within = ""
    for number, (one, other) in enumerate(zip_longest(expected.splitlines(), found.splitlines()), 1):
        if one != other:
            inside = f", in {shorten(within, SHOWN, placeholder=' ...')}" if within else ""
            # of long lines, the part with the difference
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one or "", other or "", strict=False)))
            cut = max(0, same - SHOWN // 2) if max(len(one or ""), len(other or "")) > SHOWN else 0
            one, other = (f"... {text[cut:]}" if text and cut else text for text in (one, other))
            return f"line {number}{inside}: expected {_shown(one)}, found {_shown(other)}"
        if one and one[0] not in " \t{}/*#":
            within = one.rstrip(" {")
    return "ends of lines differ"


def parts_of(backend: Backend, file: str, content: bytes) -> Parts:
    """Return the named parts of a net's file. Raises :class:`BackendError` for a damaged file."""
    parts = backend.parts(file, content)
    if parts is not None:
        return parts
    if file.endswith(MANIFEST):
        return _manifest_parts(content)
    try:
        return {("code", file): {"": content.decode()}}
    except UnicodeDecodeError:
        return {("bytes", file): {"": np.frombuffer(content, np.uint8)}}


def _manifest_parts(content: bytes) -> Parts:
    """Return the compared entries of a manifest as parts. Raises BackendError if it is no manifest."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise BackendError("expected a manifest, found no JSON object")
    parts: dict[Part, dict[str, str | Array]] = {}
    for key, value in manifest.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for name, entry in entries if key not in NOT_COMPARED else ():
            fields = entry.items() if isinstance(entry, dict) else [("", entry)]
            texts = {f: each if isinstance(each, str) else json.dumps(each) for f, each in fields}
            parts["manifest", f"{key} {name}".rstrip()] = dict(texts)
    return parts
