"""lstmc: a step function in Python becomes a small graph, is optimised, unrolled, and written as a net.

It exports the names that most users need: the language of cells and models, and :func:`compile`, :func:`train` and
:func:`load`, which the ``lstmc`` command calls too. A name is imported when it is first used: a file of cells imports
no importers and no sweeps, and ``lstmc --version`` imports none of it.
"""

from lstmc.on_use import words_on_use
from lstmc.version import __version__ as __version__

__getattr__, __dir__ = words_on_use(__name__)
