"""The Graphviz program: where it is, and running it.

``graphviz-pure`` comes with ``pip install 'lstmc[draw]'``; a ``dot`` of the system's does as well. Both read the same
language, https://graphviz.org/doc/info/lang.html.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig

from lstmc.errors import DrawingError

PROGRAMS = ("graphviz-pure", "dot")
INSTALL = "pip install 'lstmc[draw]', or the Graphviz of your system"


def graphviz(text: str, layout: str, form: str, *options: str) -> bytes:
    """What Graphviz makes of a graph in its language: ``layout`` is ``dot`` or ``neato``, ``form`` is ``plain``,
    ``svg``, ``png``, ... Raises :class:`DrawingError` where there is no Graphviz, and where it fails."""
    command = [program(), f"-K{layout}", f"-T{form}", *options]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise DrawingError(f"{command[0]} could not draw: {said[-1]}")
    return done.stdout


def program() -> str:
    """The path of the first of :data:`PROGRAMS` that is there: of this Python's environment, then on ``PATH``.

    Raises :class:`DrawingError` where there is none.
    """
    for name in PROGRAMS:
        found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
        if found is not None:
            return found
    raise DrawingError(f"drawing needs Graphviz: expected {' or '.join(PROGRAMS)}, found neither", notes=[INSTALL])
