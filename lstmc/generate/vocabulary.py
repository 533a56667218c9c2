"""The symbols that a language model reads and writes, in the order of their ids."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from lstmc.errors import Argument, DataError
from lstmc.files.json_file import NotExpected, parsed, read_bounded

START = "\n"


def _symbol(text: str) -> str:
    if not text:
        raise ValueError("a symbol")
    return text


Symbol = Annotated[str, AfterValidator(_symbol)]


@dataclass(frozen=True)
class Vocabulary:
    """Symbols by id. ``source`` is the file they are from."""

    symbols: tuple[str, ...]
    source: str

    @property
    def start(self) -> list[int]:
        """What a text without a beginning is begun after: the end of a line, or the first symbol if there is none."""
        return [self.symbols.index(START) if START in self.symbols else 0]

    def ids(self, text: str) -> list[int]:
        """A text as ids; of several symbols that fit, the longest is taken. Raises :class:`DataError` for others."""
        numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        longest_first = sorted(map(re.escape, self.symbols), key=len, reverse=True)
        pattern = re.compile("|".join(longest_first), re.DOTALL)
        if unknown := dict.fromkeys(pattern.sub("", text)):
            listed = ", ".join(map(repr, unknown))
            argument = Argument("prime")
            raise DataError(
                f"{argument} has {listed}, which are not among the {len(self.symbols)} symbols of {self.source}",
                arguments=(argument,),
            )
        return [numbers[symbol] for symbol in pattern.findall(text)]


def read_vocabulary(path: Path) -> Vocabulary:
    """Symbols from a JSON list (``.json``), or the characters of any other UTF-8 file, line ends included.

    Raises :class:`DataError` for a file that is not there or no such thing, and for symbols that are there twice.
    """
    try:
        content = read_bounded(path)  # not as text, which would make one of the two kinds of line ends
        symbols = tuple(parsed(content, list[Symbol]) if path.suffix == ".json" else content.decode())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected the symbols as UTF-8 text, found something else") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except NotExpected as wrong:
        raise DataError(f"{path}: {wrong}") from None
    if not symbols:
        raise DataError(f"{path}: expected the symbols in the order of their ids, found none")
    if twice := [symbol for symbol, count in Counter(symbols).items() if count > 1]:
        raise DataError(f"{path}: each symbol has one id, found more than once: {', '.join(map(repr, twice))}")
    return Vocabulary(symbols, str(path))
