"""Every error that a user can meet, and how it is shown.

An error says what was expected, what was found, and where: the message, then the user's own line with a caret,
then the other places it speaks of, then what can be done about it. That last part is a :class:`Mend`, as how it is
done depends on who is asked; so does how an :class:`Argument` is written: the command line has options.
"""

from __future__ import annotations

import re
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


# an argument in a text: Unicode keeps these characters for such use, and no text of a person has them
_ARGUMENT = re.compile("\ufdd0([^\ufdd1]*)\ufdd1([^\ufdd1]*)\ufdd1([^\ufdd2]*)\ufdd2")


@dataclass(frozen=True)
class Argument:
    """An argument of a function of the library, where an error speaks of it: put into the text with ``{argument}``.

    There it is a mark, which :func:`worded` replaces by Python's ``test_split=0.5``, or ``test_split=`` without a
    value, and the command line by its option. ``text`` is for an argument that Python writes otherwise, as the size of
    a dimension, ``T=3``.
    """

    name: str
    value: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"\ufdd0{self.name}\ufdd1{self.value}\ufdd1{self.text}\ufdd2"

    def in_python(self) -> str:
        """Return the argument as a call has it."""
        return self.text or f"{self.name}={self.value}"


def worded(text: str, word: Callable[[Argument], str] = Argument.in_python) -> str:
    """Return a text with its arguments as ``word`` writes them."""
    return _ARGUMENT.sub(lambda match: word(Argument(*match.groups())), text)


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
    what can be done. ``marked`` and ``marked_notes`` are for another error: their arguments are still marks.
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
        super().__init__(worded(message))  # what repr shows
        self.marked = message
        self.loc = loc
        self.scope = scope
        self.marked_notes = tuple(notes)
        self.mends = tuple(mends)

    @property
    def message(self) -> str:
        """The message, with its arguments as Python has them."""
        return worded(self.marked)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes, with their arguments as Python has them."""
        return tuple(map(worded, self.marked_notes))

    def located(
        self, loc: SrcLoc | None = None, scope: str | None = None, notes: Sequence[str] = (), mends: Sequence[Mend] = ()
    ) -> Self:
        """Return this error with a location and a scope, unless it has them, and with further notes and mends."""
        self.loc = self.loc or loc
        self.scope = self.scope or scope
        self.marked_notes = (*self.marked_notes, *notes)
        self.mends = (*self.mends, *mends)
        return self

    def __str__(self) -> str:
        return self.text()

    def text(
        self, words: Mapping[Mend, str] | None = None, word: Callable[[Argument], str] = Argument.in_python
    ) -> str:
        """Return the whole text, with a program's own ``words`` for remedies, and its own ``word`` for arguments."""
        lines = [f"{type(self).__name__}: {worded(self.marked, word)}"]
        if self.loc is not None:
            lines.append(f"  {self.loc}" + (f" in {self.scope}" if self.scope else ""))
            lines += [f"    {text}" for text in self.loc.excerpt() or ()]
        lines += [f"  {worded(note, word)}" for note in self.marked_notes[:MOST_NOTES]]
        lines += [f"  and {further} more"] if (further := len(self.marked_notes) - MOST_NOTES) > 0 else []
        lines += [f"  {mend.value if words is None else words.get(mend, mend.value)}" for mend in self.mends]
        return plain("\n".join(lines))


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
