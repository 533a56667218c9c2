"""lstmc: a step function in Python becomes a small graph, is optimised, unrolled, and written as a net.

This is all that most people need: the language that cells and models are written in, and :func:`compile`,
:func:`train` and :func:`load`, which the ``lstmc`` command calls too. A word is imported when it is first used: a file
of cells needs no importers and no sweeps, and ``lstmc --version`` nothing of this.
"""

from lstmc.on_use import words_on_use
from lstmc.version import __version__ as __version__

__getattr__, __dir__ = words_on_use(__name__)
