"""A pytest plug-in that hides what only POSIX systems have: ``pytest -p tests.without_posix`` is a run as if elsewhere.

What needs no Caffe must pass so: ``make portable`` runs all of it, and ``tests/test_portable.py`` a few files of it.
"""

from __future__ import annotations

import builtins
import signal
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

HIDDEN = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD")


def hide() -> None:
    """Modules are hidden from lstmc, as other packages have their own ways elsewhere; signals from everybody.

    Before lstmc is imported for the first time: plug-ins come before any test file.
    """
    assert "lstmc" not in sys.modules
    original = builtins.__import__

    def hiding(name: str, globals: Mapping[str, Any] | None = None, *more: Any, **named: Any) -> Any:
        importer = str((globals or {}).get("__name__", ""))
        if name in HIDDEN and importer.partition(".")[0] in ("lstmc", "lstmc_caffe", "__main__"):
            raise ModuleNotFoundError(f"No module named {name!r}: hidden by tests/without_posix.py", name=name)
        return original(name, globals, *more, **named)

    builtins.__import__ = hiding  # type: ignore[assignment]
    kept = {member.name: member.value for member in signal.Signals if member.name not in SIGNALS}
    signal.Signals = IntEnum("Signals", kept)  # type: ignore[misc,assignment]
    for name in SIGNALS:
        delattr(signal, name)


hide()
