"""The code in the process with Caffe: for any Python from 2.7 on, and without modules of lstmc. lstmc starts these
files, or sends them to the worker, by their paths. It imports only ``layer_library.py``."""

from pathlib import Path

_FOLDER = Path(__file__).parent
PROBE = _FOLDER / "probe.py"
RANK = _FOLDER / "rank.py"
TRAINING = _FOLDER / "training.py"
WORKER = _FOLDER / "worker.py"

__all__ = ["PROBE", "RANK", "TRAINING", "WORKER"]
