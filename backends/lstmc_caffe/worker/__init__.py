"""What runs in the process that has Caffe: on any Python from 2.7 on, and without a module of lstmc.

lstmc never imports these files; it starts them, or sends them to the worker, by their paths.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent
PROBE = _FOLDER / "probe.py"
TIMING = _FOLDER / "timing.py"
TRAINING = _FOLDER / "training.py"
WORKER = _FOLDER / "worker.py"

__all__ = ["PROBE", "TIMING", "TRAINING", "WORKER"]
