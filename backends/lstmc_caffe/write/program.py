"""Programs that run a net of one step on a stream, in a runtime that reads the net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmc.backend import Artifact, Compiled
from lstmc.errors import Argument, BackendError, Mend
from lstmc.files.templates import text_templates
from lstmc.manifest import Manifest, Place, State, parse_manifest
from lstmc.text import late, quoted
from lstmc.version import __version__
from lstmc_caffe.targets.target import OWN, load_target
from lstmc_caffe.write.artifact import SUFFIX

_TEMPLATES = text_templates("lstmc_caffe", "write")
# the programs that a target may name
TITLES = {"caffe": "Caffe", "opencv": "OpenCV 4", "mnn": "MNN", "ncnn": "ncnn", "rknn": "RKNN"}
SUFFIXES = {"cpp": ".cpp", "python": ".py"}
NO_C = "OpenCV 4's DNN module, Caffe and MNN have interfaces for C++ and Python, and none for C"
_TEMPLATES.filters.update(late=late, quoted=quoted)


def stream_program(compiled: Compiled, artifact: Artifact, language: str) -> dict[str, bytes]:
    """Return the program ``NAME_stream.py`` or ``NAME_stream.cpp``, by file name: it reads and writes a line of numbers
    for each step, and runs the net in the runtime that the target's file names. Raises BackendError for an unknown
    ``language``, a target whose runtime has no interface for this language, and a net of all steps."""
    target, argument = load_target(compiled.target), Argument("language", language)
    if language not in SUFFIXES:
        raise BackendError(f"{argument}: expected {' or '.join(SUFFIXES)}", notes=(NO_C,) if language == "c" else ())
    if target.program is None:
        named = ", ".join(name for name in OWN if load_target(name).program is not None)
        raise BackendError(f"{argument}: target {target.name} has no example program: expected one of {named}")
    if target.program not in ("caffe", "opencv") and language == "cpp":
        raise BackendError(f"{argument}: for {TITLES[target.program]} there is python alone")
    manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
    if manifest.states is None:
        raise BackendError(f"{argument}: expected a net of one step, found one of all steps", mends=[Mend.ONE_STEP])
    program = f"{compiled.name}_stream"
    file = f"{program}{SUFFIXES[language]}"
    text = _TEMPLATES.get_template(f"{target.program}{SUFFIXES[language]}.j2").render(
        _context(manifest, manifest.states),
        name=compiled.name,
        title=TITLES[target.program],
        version=__version__,
        source=quoted(compiled.source, "comment"),
        target=target.name,
        file=file,
        program=program,
        comment="//" if language == "cpp" else "#",
        library=f"{compiled.name}{SUFFIX}" in artifact.files,
    )
    return {file: text.encode()}


@dataclass(frozen=True)
class NamedPlace(Place):
    """A value of the model and its blobs in the net, as the templates write it."""

    name: str = ""

    @property
    def cpp(self) -> str:
        blobs = ", ".join(quoted(blob or "", "c") for blob in self.blobs)
        late = f", {self.delay}" if self.delay else ""
        return f"{{{quoted(self.name, 'c')}, {{{blobs}}}, {{{', '.join(map(str, self.part_shape))}}}{late}}}"


@dataclass(frozen=True)
class NamedState:
    """A state: the place where it is fed, and the place where its next value is read."""

    name: str
    before: NamedPlace
    after: NamedPlace
    initial: float | list[Any] | str

    @property
    def words(self) -> str:
        """The initial value in words, if it is not a number or an array."""
        return quoted(self.initial, "comment") if isinstance(self.initial, str) else ""

    @property
    def first(self) -> float | list[Any] | None:
        return None if isinstance(self.initial, str) else np.asarray(self.initial, float).tolist()

    @property
    def cpp_first(self) -> str:
        """The elements of an initializer of C++: none if a file has them, one for all elements, or each element."""
        return ", ".join(f"{each!r}f" for each in np.ravel([] if self.first is None else self.first).tolist())


def _context(manifest: Manifest, states: Mapping[str, State]) -> dict[str, Any]:
    """Return the templates' variables; outputs and inputs that are states are in ``states`` alone."""
    fed = {n: entry.place for n, entry in manifest.inputs.items() if entry.place.names and not entry.filled}
    inputs = {name: NamedPlace(**vars(place), name=name) for name, place in fed.items()}
    outputs = {name: NamedPlace(**vars(place), name=name) for name, place in manifest.outputs.items()}
    read = {name: state for name, state in states.items() if state.input in inputs}
    pairs = [NamedState(name, inputs[s.input], outputs[s.output], s.initial) for name, s in read.items()]
    state_inputs = {state.input for state in states.values()}
    state_outputs = {state.output for state in states.values()}
    outside = [place for name, place in outputs.items() if name not in state_outputs]
    return {
        "inputs": [place for name, place in inputs.items() if name not in state_inputs],
        "outputs": outside,
        "latest": max((place.delay for place in outside), default=0),
        "states": pairs,
        "given": [state for state in pairs if state.first is None],
    }
