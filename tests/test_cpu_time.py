"""What tests cost is told, with the processes that they started, from the workers of a run too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """\
import subprocess, sys, time

def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def test_dear():
    subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.4: pass"], check=True)
    busy(0.2)

def test_cheap():
    busy(0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_dearest_come_first(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_two.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.cpu_time", "-n", workers],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    total, file, dear, cheap = re.findall(r"^ *([\d.]+) (?:CPU seconds in 2 tests|test_two\S*)", done.stdout, re.M)
    assert float(total) >= float(file) >= float(dear) >= 0.5, "the other process is in it"
    assert float(cheap) >= 0.08
    assert done.stdout.index("::test_dear") < done.stdout.index("::test_cheap")
