"""Every error that a user can meet, and how it is shown.

An error says what was expected, what was found, and where: the message, then the user's own line with a caret,
then the other places it speaks of, then what can be done about it. That last part is a :class:`Mend`, as how it is
done depends on who is asked; so does how an :class:`Argument` is written: the command line has options.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

from lstmc.source import SrcLoc
from lstmc.text import plain

MOST_NOTES = 50  # that an error shows


class Mend(Enum):
    """A remedy of an error, in words that hold for Python and the command line."""

    ONE_STEP = "compile the model as a net of one step"
    OTHER_FOLDER = "give another folder"
    OVERWRITE = "begin again in this folder, which keeps its earlier files"
    RESUME = "resume the run"
    START = "start a run instead of resuming one"


_SPOKEN_OF: deque[tuple[str, Argument]] = deque(maxlen=1000)  # the last that were put into a text, with their texts


@dataclass(frozen=True)
class Argument:
    """An argument of a function of the library, where an error speaks of it: put into the text with ``{argument}``.

    Its text is Python's, ``test_split=0.5``, or ``test_split=`` without a value; the command line says its own option
    instead, as an error finds the arguments of which its text speaks. ``text`` is for what is not written so, as the
    size of a dimension, ``T=3``.
    """

    name: str
    value: str = ""
    text: str = ""

    def __str__(self) -> str:
        text = self.text or f"{self.name}={self.value}"
        _SPOKEN_OF.append((text, self))
        return text


def size_argument(name: str) -> Argument:
    """Return the size of a dimension that is still to be given: ``T=SIZE``."""
    return Argument("sizes", f"{name}=SIZE", f"{name}=SIZE")


def sizes_argument(sizes: Mapping[str, int]) -> Argument:
    """Return the sizes of dimensions as an argument: ``T=20, N=1``, or ``-D T=20 -D N=1`` on the command line."""
    each = [f"{name}={size}" for name, size in sizes.items()]
    return Argument("sizes", " ".join(each), ", ".join(each))


class LstmcError(Exception):
    """The root of all errors raised on purpose. ``str(error)`` is the whole text a person should see.

    ``loc`` is the place in the user's file, ``scope`` the cell or model it is in, ``notes`` further lines, ``mends``
    what can be done. ``arguments`` are those that the message and the notes speak of, by their texts.
    """

    def __init__(
        self,
        message: str,
        *,
        loc: SrcLoc | None = None,
        scope: str | None = None,
        notes: Sequence[str] = (),
        mends: Sequence[Mend] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.loc = loc
        self.scope = scope
        self.notes = tuple(notes)
        self.mends = tuple(mends)
        self.arguments = _spoken_of(message, *notes)

    def located(
        self, loc: SrcLoc | None = None, scope: str | None = None, notes: Sequence[str] = (), mends: Sequence[Mend] = ()
    ) -> Self:
        """Return this error with a location and a scope, unless it has them, and with further notes and mends."""
        self.loc = self.loc or loc
        self.scope = self.scope or scope
        self.notes = (*self.notes, *notes)
        self.arguments |= _spoken_of(*notes)
        self.mends = (*self.mends, *mends)
        return self

    def __str__(self) -> str:
        return self.text()

    def text(self, words: Mapping[Mend, str] | None = None, word: Callable[[Argument], str] = str) -> str:
        """Return the whole text, with a program's own ``words`` for remedies, and its own ``word`` for arguments."""
        lines = [f"{type(self).__name__}: {self._worded(self.message, word)}"]
        if self.loc is not None:
            lines.append(f"  {self.loc}" + (f" in {self.scope}" if self.scope else ""))
            lines += [f"    {text}" for text in self.loc.excerpt() or ()]
        lines += [f"  {self._worded(note, word)}" for note in self.notes[:MOST_NOTES]]
        lines += [f"  and {len(self.notes) - MOST_NOTES} more"] if len(self.notes) > MOST_NOTES else []
        lines += [f"  {mend.value if words is None else words.get(mend, mend.value)}" for mend in self.mends]
        return plain("\n".join(lines))

    def _worded(self, text: str, word: Callable[[Argument], str]) -> str:
        words = {argument: word(self.arguments[argument]) for argument in self.arguments}
        if not words:
            return text
        longest_first = sorted(map(re.escape, words), key=len, reverse=True)
        # not what is part of a longer word, nor in a call, as lstm(H=SIZE) is one in the user's file
        return re.sub(rf"(?<![\w(])({'|'.join(longest_first)})", lambda match: words[match.group()], text)


def _spoken_of(*texts: str) -> dict[str, Argument]:
    return {argument: found for argument, found in _SPOKEN_OF.copy() if any(argument in text for text in texts)}


class DslError(LstmcError):
    """Code in a cell or model that the language does not support."""


class ShapeError(DslError):
    """Shapes that do not fit together."""


class DimError(DslError):
    """A dimension that is unbound, unknown or bound to two sizes."""


class ModelFileError(LstmcError):
    """A model file that does not exist, does not import or does not hold the model asked for."""


class ParseError(LstmcError):
    """Text that is not a graph."""


class VerifyError(LstmcError):
    """A graph that is not well formed, or not legal at its stage: always a bug of a pass or a backend."""


class PassError(LstmcError):
    """A pass that failed; names the pass and those that ran before it."""


class PluginError(LstmcError):
    """A cell or backend that cannot be found or loaded, or whose name two packages have."""


class BackendError(LstmcError):
    """Something the backend cannot express, or cannot do on this machine."""


class WeightsError(LstmcError):
    """Weights that are missing, extra, of another shape, or not finite."""


class DataError(LstmcError):
    """Data that cannot be read, or that do not fit a model's inputs."""


class OutputError(LstmcError):
    """A folder or file that cannot be written."""


class DrawingError(LstmcError):
    """A picture that cannot be drawn: no Graphviz, or one that failed."""


class StartError(LstmcError):
    """First files that cannot be written: an unknown kind, a bad name, or a file that exists."""


class InterpreterError(LstmcError):
    """Inputs or weights that are missing in the interpreter, or have another shape."""


class TrainingError(LstmcError):
    """A training run that cannot start, cannot go on from where it was, or had to stop."""


class SweepError(LstmcError):
    """A sweep, or another job of many parts, that cannot start or cannot go on."""
