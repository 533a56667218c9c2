"""All errors for users: what was expected, what was found, the user's line with a caret, further places, and remedies.
A remedy is a :class:`Mend`, because Python and the command line phrase it differently. So is an :class:`Argument`,
which is an option on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """An argument of a library function in the text of an error, inserted as ``{argument}``: a mark.
    :func:`worded` replaces the mark by Python's ``test_split=0.5``, or ``test_split=`` without a value; the command
    line by its option. ``text`` is for another notation in Python, such as the size of a dimension, ``T=3``."""

    name: str
    value: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"\ufdd0{self.name}\ufdd1{self.value}\ufdd1{self.text}\ufdd2"

    def in_python(self) -> str:
        return self.text or f"{self.name}={self.value}"


def worded(text: str, word: Callable[[Argument], str] = Argument.in_python) -> str:
    """Return a text in which ``word`` replaces the marks of arguments."""
    return _ARGUMENT.sub(lambda match: word(Argument(*match.groups())), text)


def size_argument(name: str) -> Argument:
    """Return the argument for a missing size of a dimension: ``T=SIZE``."""
    return Argument("sizes", f"{name}=SIZE", f"{name}=SIZE")


def sizes_argument(sizes: Mapping[str, int]) -> Argument:
    """Return the sizes of dimensions as an argument: ``T=20, N=1``, or ``-D T=20 -D N=1`` on the command line."""
    each = [f"{name}={size}" for name, size in sizes.items()]
    return Argument("sizes", " ".join(each), ", ".join(each))


class LstmcError(Exception):
    """The root of all errors raised on purpose. ``str(error)`` is the whole text for the user.
    ``loc`` is the place in the user's file, ``scope`` the cell or model that contains it, ``notes`` further lines,
    ``mends`` remedies. ``marked`` and ``marked_notes`` are texts with marks of arguments, for use in another error."""

    def __init__(
        self, message: str, *, loc: SrcLoc | None = None, scope: str | None = None, notes: Sequence[str] = (),
        mends: Sequence[Mend] = (),
    ) -> None:  # fmt: skip
        super().__init__(worded(message))  # what repr shows
        self.marked = message
        self.loc = loc
        self.scope = scope
        self.marked_notes = tuple(notes)
        self.mends = tuple(mends)

    @property
    def message(self) -> str:
        """The message, with arguments in Python's notation."""
        return worded(self.marked)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes, with arguments in Python's notation."""
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


@contextmanager
def errors_at(loc: SrcLoc | None, scope: str | None = None) -> Iterator[None]:
    """Give an error of the block this location and scope, unless it has them."""
    try:
        yield
    except LstmcError as error:
        raise error.located(loc, scope) from None


class DslError(LstmcError):
    """Code in a cell or model that the language does not support."""


class ShapeError(DslError):
    """Shapes that do not fit together."""


class DimError(DslError):
    """A dimension that is unbound, unknown or bound to two sizes."""


class ModelFileError(LstmcError):
    """A model file that does not exist, cannot be imported, or lacks the requested model."""


class ParseError(LstmcError):
    """Text that is not a graph."""


class VerifyError(LstmcError):
    """A graph that is not well formed, or not legal at its stage: always a bug of a pass or a backend."""


class PassError(LstmcError):
    """A pass that failed; it names the pass and the passes before it."""


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
    """A picture that cannot be drawn, because Graphviz is missing or failed."""


class StartError(LstmcError):
    """First files that cannot be written: an unknown kind, a bad name, or a file that exists."""


class InterpreterError(LstmcError):
    """Inputs or weights that are missing in the interpreter, or have another shape."""


class TrainingError(LstmcError):
    """A training run that cannot start, cannot resume, or had to stop."""


class SweepError(LstmcError):
    """A sweep, or another job of many parts, that cannot start or continue."""
