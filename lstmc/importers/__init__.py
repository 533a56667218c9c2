"""Trained models of other frameworks, brought in as models in the public language."""

from lstmc.importers.checks import TOLERANCE, check_net, check_source, prove_net
from lstmc.importers.importer import ImportedModel, from_onnx, from_torch, import_file
from lstmc.importers.inspection import Inspection, inspect
from lstmc.importers.refusal import Refusal, RefusedError, SourceError
from lstmc.importers.sources import SourceCheck

__all__ = [
    "TOLERANCE",
    "ImportedModel",
    "Inspection",
    "Refusal",
    "RefusedError",
    "SourceCheck",
    "SourceError",
    "check_net",
    "check_source",
    "from_onnx",
    "from_torch",
    "import_file",
    "inspect",
    "prove_net",
]
