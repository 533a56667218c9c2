"""Running pip, and saying why it failed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence

from lstmc_caffe.install.errors import InstallError


def pip(*arguments: str) -> tuple[int, str]:
    """Runs this interpreter's pip; gives its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout


def wrong_hash(output: str) -> str | None:
    """The sha256 of the file that pip refused for it, where that is why it failed."""
    wrong = re.search(r"DO NOT MATCH THE HASHES.*Got\s+([0-9a-f]{64})", output, re.DOTALL)
    return wrong and wrong.group(1)


def failure(message: str, output: str, notes: Sequence[str]) -> InstallError:
    """The error for a pip that failed and printed ``output``; ``notes`` come after what it says."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [f"pip's last line: {lines[-1] if lines else '(it printed nothing)'}"]
    # Without a network that line only says that there is no such package; the reason is in a warning before it.
    broken = re.findall(r"after connection broken by '(.*)': /", output)
    found += [f"its connection:  {reason}" for reason in broken[-1:]]
    return InstallError(message, notes=[*found, *notes])
