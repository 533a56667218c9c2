"""The seam between the compiler and what it compiles for: what a backend offers, and how one is found."""

from lstmc.backend.compiled import Artifact, Compiled, Execution, Finding, Layer, LintReport, Violation
from lstmc.backend.discover import BACKENDS, CELLS, find_backends, find_cells, load_backend, load_cell, target_of
from lstmc.backend.protocols import (
    Backend,
    Diagnoses,
    Executes,
    Executor,
    Lints,
    ListsLayers,
    ReadsWeights,
    Runs,
    Settings,
    Steps,
    Trains,
    Tunes,
    require,
)

__all__ = [
    "BACKENDS",
    "CELLS",
    "Artifact",
    "Backend",
    "Compiled",
    "Diagnoses",
    "Executes",
    "Execution",
    "Executor",
    "Finding",
    "Layer",
    "LintReport",
    "Lints",
    "ListsLayers",
    "ReadsWeights",
    "Runs",
    "Settings",
    "Steps",
    "Trains",
    "Tunes",
    "Violation",
    "find_backends",
    "find_cells",
    "load_backend",
    "load_cell",
    "require",
    "target_of",
]
