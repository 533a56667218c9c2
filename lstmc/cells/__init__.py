"""The library cells, written in the public DSL only; found through the entry-point group ``lstmc.cells``."""

from lstmc.cells.gru import gru as gru  # before its module, which has its name
from lstmc.cells.lstm import lstm as lstm
from lstmc.on_use import words_on_use

__getattr__, __dir__ = words_on_use(__name__)
