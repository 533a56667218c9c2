"""A written net over files that are larger than memory, and over folders of files, in batches."""

from lstmc.bulk.batches import SUFFIXES, NetUse
from lstmc.bulk.run_files import Finished, run_bulk

__all__ = ["SUFFIXES", "Finished", "NetUse", "run_bulk"]
