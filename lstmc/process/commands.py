"""Other programs, run without input: any command, and this interpreter's pip with the reasons for its failures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def call(command: Sequence[str], *, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command without input, with ``variables`` added to its environment. Its ``stdout`` has stderr too."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def pip(*arguments: str) -> tuple[int, str]:
    """Run this interpreter's pip; return its exit code and its output."""
    process = call([sys.executable, "-P", "-m", "pip", *arguments])
    return process.returncode, process.stdout


def wrong_hash(output: str) -> str | None:
    """Return the SHA-256 of the file that pip refused because of a wrong hash; None if pip has refused none."""
    wrong = re.search(r"DO NOT MATCH THE HASHES.*Got\s+([0-9a-f]{64})", output, re.DOTALL)
    return wrong and wrong.group(1)


def pip_causes(output: str) -> list[str]:
    """Return the causes that the output of a failed pip names, as notes of an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [f"pip's last line: {lines[-1] if lines else '(it printed nothing)'}"]
    # Without a network the last line only says that there is no such package; the reason is in a warning before it.
    broken = re.findall(r"after connection broken by '(.*)': /", output)
    return causes + [f"its connection:  {reason}" for reason in broken[-1:]]
