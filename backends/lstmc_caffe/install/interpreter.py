"""The Python that pycaffe is built for: the distribution's own, because its Boost.Python is built for that one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmc_caffe.install.system import run
from lstmc_caffe.install.errors import InstallError

_ASK = """
import json, os, sys, sysconfig
import numpy
print(json.dumps({
    "executable": os.path.realpath(sys.executable),
    "version": "%d.%d" % sys.version_info[:2],
    "includes": [sysconfig.get_paths()["include"], numpy.get_include()],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter and what compiling against it needs.

    ``executable`` is the path with all links followed, so that it stays this very version; ``version`` is as in
    ``3.13``; ``includes`` are the header folders of Python and NumPy.
    """

    executable: Path
    version: str
    includes: tuple[str, ...]


def describe(executable: str) -> Interpreter:
    """Asks the interpreter at ``executable`` about itself. Raises InstallError when it or its NumPy does not run."""
    # -E and -s: a user's PYTHONPATH or ~/.local must not bring in another NumPy than the distribution's.
    answer = run([executable, "-E", "-s", "-c", _ASK], f"asking {executable} for its version and NumPy")
    try:
        fields: dict[str, Any] = json.loads(answer.splitlines()[-1])
        return Interpreter(Path(fields["executable"]), fields["version"], tuple(fields["includes"]))
    except (ValueError, KeyError, IndexError) as error:
        raise InstallError(f"{executable} should describe itself as JSON; it printed {answer!r}") from error
