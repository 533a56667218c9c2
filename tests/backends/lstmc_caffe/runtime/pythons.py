"""Interpreters that are shell scripts, and caffe packages of a few lines."""

from __future__ import annotations

from pathlib import Path

GOOD = 'echo "noise from a module"; echo \'{"version": "1.0.0", "file": "caffe/__init__.py"}\''
ABORTING = 'ulimit -c 0; echo "F1124 22:57:01.123456  4242 common.cpp:70] %s" >&2; kill -ABRT $$'
NO_CAFFE = """echo '{"reason": "import caffe fails: ImportError: No module named caffe"}'"""


def script(path: Path, body: str) -> Path:
    """An executable that stands for a Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def caffe_package(folder: Path, source: str) -> Path:
    (folder / "caffe").mkdir(parents=True)
    (folder / "caffe" / "__init__.py").write_text(source)
    return folder
