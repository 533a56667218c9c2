"""Processes that tests look for, which may end while they are looked at."""

from __future__ import annotations

import re

import psutil


def family_with(pid: int, word: str) -> list[psutil.Process]:
    """The processes started from one, at any depth, in whose command line there is a word."""
    return [process for process in psutil.Process(pid).children(recursive=True) if word in _command(process)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it ended, or nobody has waited for it yet
        return ""


def without_progress(err: str) -> str:
    """Standard error without the lines that are printed where a computation takes longer than some seconds."""
    return re.sub(r"^computing .*, \d+ %.*\n", "", err, flags=re.MULTILINE)
