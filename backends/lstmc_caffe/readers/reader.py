"""What a reader is: a program that reads Caffe nets, as files of Python that run nets in it and where those run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Environment:
    """An environment of Python of a reader's own, made by ``python -m lstmc_caffe.readers install READER``.

    ``python`` is the version of the interpreter, ``3.8``; ``requires`` is what is installed, as pip takes it; ``setup``
    is a file of Python that its interpreter then runs once.
    """

    name: str
    python: str
    requires: tuple[str, ...]
    setup: Path | None = None


@dataclass(frozen=True)
class Stage:
    """One file of Python that is run in one environment: lstmc's own, or one of the reader's.

    ``program`` runs in a worker process, without a module of lstmc. Each function takes ``(args, arrays)``, one
    dictionary of JSON data and one of NumPy arrays, and returns such a pair:

    - ``about``: ``{"version": ...}``, an error where the reader cannot be imported
    - ``convert``, if it has it: ``args["folder"]`` has ``net.prototxt`` and ``net.caffemodel``; it leaves files there
    - ``run``, of the last stage: the net of ``args["folder"]`` on ``arrays``, the inputs' blobs by name; returns the
      blobs that ``args["wanted"]`` names, each with its shape
    """

    program: Path
    environment: Environment | None = None


@dataclass(frozen=True)
class Reader:
    """A program that reads Caffe nets. What a package offers through the entry-point group ``lstmc_caffe.readers``.

    ``target`` is what nets are compiled for where nothing else is asked for. ``tolerance`` is for outputs, relative,
    None where it computes in float32. ``install`` is the command that brings it where it has no environment of its own.
    """

    name: str
    title: str
    target: str
    stages: tuple[Stage, ...]
    tolerance: float | None = None
    install: str = ""

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Those of its stages that are not lstmc's own."""
        return tuple(dict.fromkeys(stage.environment for stage in self.stages if stage.environment is not None))

    @property
    def how_to_install(self) -> str:
        """The command that brings it."""
        return self.install or f"python -m lstmc_caffe.readers install {self.name}"
