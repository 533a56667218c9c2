"""The manifest: the data that a program needs to feed, read and train a written net, as JSON beside it.

Any backend writes one with :func:`describe`; what runs or reads its nets needs no more than the file.
"""

from lstmc.manifest.describe import describe, manifest_states, step_blobs
from lstmc.manifest.manifest import (
    FORMAT,
    InputPlace,
    Manifest,
    Parameter,
    Place,
    ScanBlobs,
    State,
    Stored,
    manifest_path,
    parse_manifest,
    read_manifest,
)

__all__ = [
    "FORMAT",
    "InputPlace",
    "Manifest",
    "Parameter",
    "Place",
    "ScanBlobs",
    "State",
    "Stored",
    "describe",
    "manifest_path",
    "manifest_states",
    "parse_manifest",
    "read_manifest",
    "step_blobs",
]
