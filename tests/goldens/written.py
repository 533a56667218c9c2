"""What is written, frozen: SHA-256 of all files of each library cell on each target and in each form, and of imports.

``make frozen`` writes ``written.txt`` anew: a change that says it writes the same bytes changes no line of it. A line
has a case and the hash of its files with their names, or of the text of its refusal. Weights are drawn and computed in
float64 and rounded once, so the hashes are those of each processor. The imports are the onnx package's own cases of
one node: their ``model.py`` and the arrays of ``weights.npz``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from io import BytesIO
from os import sched_getaffinity
from pathlib import Path

import numpy as np

import lstmc
from lstmc.backend import load_backend, load_cell
from lstmc.errors import LstmcError
from lstmc.plugins import library_names
from tests.cells.scanned import SIZES
from tests.importers.test_onnx_operators import by_operator, source_of

WRITTEN = Path(__file__).with_suffix(".txt")
SHORT = 12  # digits of a hash

FORMS: dict[str, dict[str, object]] = {
    **{target: {"target": target} for target in load_backend("caffe").targets},
    "caffe train": {"target": "caffe", "phase": "train"},
    **{f"{target} step": {"target": target, "step": True} for target in ("caffe", "flat", "noslice", "onnx")},
    **{name: {"backend": name} for name in ("c", "onnx", "tflite", "torch")},
    **{f"onnx {form}": {"backend": "onnx", "form": form} for form in ("lstm-op", "scan", "unrolled")},
}


def digest(parts: Mapping[str, bytes]) -> str:
    """One hash of named contents."""
    whole = sha256()
    for name in sorted(parts):
        whole.update(f"{name} {len(parts[name])}\n".encode() + parts[name])
    return whole.hexdigest()[:SHORT]


def cell_line(form: str, name: str) -> str:
    """The line of a library cell in a form: its files over three steps, of a batch of two."""
    dims = {dim: size for dim, size in SIZES.items() if dim in load_cell(name).dims}
    try:
        net = lstmc.compile(name, sizes={**dims, "T": 3, "N": 2}, **FORMS[form])  # type: ignore[arg-type]
    except LstmcError as error:
        return f"{form}: {name} refused {digest({'': str(error).encode()})}"
    version = lstmc.__version__.encode()
    return f"{form}: {name} {digest({file: text.replace(version, b'') for file, text in net.files.items()})}"


def cell_lines(form: str) -> list[str]:
    return [cell_line(form, name) for name in sorted(library_names())]


def import_lines(each: int = 1) -> list[str]:
    """The lines of the onnx package's cases of one node, each read with its first input as the net's input. Or of each
    operator the first of every ``each``."""
    found = []
    for operator, cases in sorted(by_operator().items()):
        for case in cases[::each]:
            try:
                files = source_of(case).files()
            except LstmcError as error:
                parts = {"refused": str(error).encode()}
            else:
                arrays = np.load(BytesIO(files["weights.npz"])) if "weights.npz" in files else {}
                parts = {name: array.dtype.str.encode() + array.tobytes() for name, array in arrays.items()}
                parts["model.py"] = files["model.py"]
            found.append(f"import: {operator} {case.name} {digest(parts)}")
    return found


def main() -> None:
    with ProcessPoolExecutor(len(sched_getaffinity(0))) as pool:
        imports = pool.submit(import_lines)
        lines = [line for of_form in pool.map(cell_lines, FORMS) for line in of_form]
        WRITTEN.write_text("".join(f"{line}\n" for line in [*lines, *imports.result()]))


if __name__ == "__main__":
    main()
