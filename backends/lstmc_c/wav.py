"""A program in C that streams a WAV file through a net whose input is the spectrum of a frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, with_config

from lstmc.backend import Artifact, Compiled
from lstmc.errors import Argument, BackendError
from lstmc.files.json_file import NotExpected, parse_json
from lstmc.files.templates import text_templates
from lstmc.manifest import Place, parse_manifest
from lstmc.text import whole
from lstmc.version import __version__
from lstmc_c.elements import identifier

LANGUAGE = "wav"
SETTINGS = "wav:rate=16000,frame=512,hop=256"
_TEMPLATES = text_templates("lstmc_c", ".")
_TEMPLATES.filters["product"] = prod


def _overlapping(stft: Stft) -> Stft:
    """Return frames that can overlap and add up. Raises ValueError for an odd number of samples, or too large a hop."""
    if stft.frame % 2 or not 1 <= stft.hop <= stft.frame // 2:
        raise ValueError("a frame of an even number of samples, and a hop of 1 to half of it")
    return stft


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Stft:
    """The frames of a sound: ``frame`` samples, ``hop`` samples apart, under a window that is applied again to the
    output. ``input`` is what the net is fed of the ``frame / 2 + 1`` FFT bins of a frame: real and imaginary parts,
    magnitudes, or logarithms of powers. ``output`` is what the net returns: new bins, or gains of the bins."""

    rate: Annotated[int, Field(ge=1, lt=2**30)]
    frame: Annotated[int, Field(ge=4, le=2**16)]
    hop: int
    window: Literal["rectangle", "hann", "sqrt-hann"] = "sqrt-hann"
    input: Literal["complex", "magnitude", "log10-power"] = "complex"
    output: Literal["complex", "gain"] = "complex"

    @classmethod
    def of(cls, language: str) -> Stft:
        """Return the frames of a text as in SETTINGS. Raises :class:`BackendError` if a setting is missing or wrong."""
        argument = Argument("language", LANGUAGE)
        pairs = [text.partition("=") for text in language.partition(":")[2].split(",") if text]
        values = {name: text if (number := whole(text)) is None else number for name, _, text in pairs}
        if not values:
            raise BackendError(
                f"{argument}: the net does not say how it is fed by sound: expected its frames, as in"
                f" {Argument('language', SETTINGS)}"
            )
        if len(values) < len(pairs):
            raise BackendError(f"{argument}: expected each setting once, found {language.partition(':')[2]}")
        try:
            return parse_json(json.dumps(values).encode(), Annotated[cls, AfterValidator(_overlapping)])  # type: ignore[arg-type]
        except NotExpected as wrong:
            raise BackendError(f"{argument}: {wrong}") from None

    def strides(self, place: Place, kind: str) -> tuple[int, int] | None:
        """Return the distances of two bins and of a bin's two parts in an array, None if it has another shape."""
        wanted = sorted((self.frame // 2 + 1, *([2] if kind == "complex" else [])))
        if sorted(size for size in place.shape if size != 1) != wanted:
            return None
        apart = {size: prod(place.shape[axis + 1 :]) for axis, size in enumerate(place.shape)}
        return apart[self.frame // 2 + 1], apart.get(2, 0)


def program(compiled: Compiled, artifact: Artifact, language: str) -> dict[str, bytes]:
    """Return the program by file name. Raises :class:`BackendError` for unknown settings and for a net without bins."""
    stft = Stft.of(language)
    manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
    states = manifest.states or {}
    before, after = ({getattr(state, end) for state in states.values()} for end in ("input", "output"))
    inputs = {name: entry.place for name, entry in manifest.inputs.items() if name not in before and entry.in_net}
    outputs = {name: place for name, place in manifest.outputs.items() if name not in after}
    read, fed = _only(stft, "input", inputs)
    written, given = _only(stft, "output", outputs)
    if len(inputs) > 1:
        raise BackendError(f"a program for sound: expected one input, found {', '.join(inputs)}")
    if asked := [name for name, state in states.items() if isinstance(state.initial, str)]:
        raise BackendError(f"a program for sound: expected states that begin as numbers, found {', '.join(asked)}")
    arrays = {name: "output" if name == written else f"other_{number}" for number, name in enumerate(outputs)}
    text = _TEMPLATES.get_template("wav.c.j2").render(
        file=compiled.name, name=identifier(compiled.name), version=__version__, stft=stft, states=bool(states),
        fed=fed, given=given, delay=compiled.delays.get(written, 0),
        arrays={"input": inputs[read], **{array: outputs[name] for name, array in arrays.items()}},
    )  # fmt: skip
    return {f"{compiled.name}_wav.c": text.encode()}


def _only(stft: Stft, kind: Literal["input", "output"], places: Mapping[str, Place]) -> tuple[str, tuple[int, int]]:
    """Return the only input or output with a frame's bins, and its strides. Raises BackendError for none or several."""
    format = getattr(stft, kind)
    found = {name: strides for name, place in places.items() if (strides := stft.strides(place, format))}
    if len(found) != 1:
        listed = ", ".join(f"{name} {list(place.shape)}" for name, place in places.items())
        raise BackendError(
            f"a program for sound: expected one {kind} with {stft.frame // 2 + 1} bins of"
            f" {2 if format == 'complex' else 1} ({kind}={format}), found {listed or 'none'}"
        )
    return next(iter(found.items()))
