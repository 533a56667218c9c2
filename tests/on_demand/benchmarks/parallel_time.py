"""Linear recurrences unrolled, by chunks and by doubling, in Caffe, OpenCV and ONNX Runtime: ``make bench``.

    python -m tests.on_demand.benchmarks.parallel_time [--quick | --smallest]

min_gru with 64 units for one sequence; CPU time in Caffe and OpenCV, minima. ``auto`` says which form the target takes.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import lstmc
from lstmc.passes import Time
from lstmc_caffe.runtime.runner import Runner
from lstmc_onnx.runtime import least_seconds, load
from tests.on_demand.benchmarks import setting
from tests.on_demand.benchmarks.caffe_time import NETS, blobs_of_y

SIZES = {"N": 1, "D": 64, "H": 64}
STEPS = 8 if setting.SMALLEST else 1000
UNROLLED: Time = "unrolled"
FORMS: tuple[Time, ...] = (UNROLLED, "chunks", "doubling", "auto")


def compiled(form: Time, steps: int, **options: Any) -> lstmc.Net:
    return lstmc.compile("min_gru", time=form, outputs=["y"], sizes={**SIZES, "T": steps}, **options)


def in_caffe(caffe: Runner, steps: int, rounds: int) -> None:
    nets = {form: compiled(form, steps, target="caffe") for form in FORMS}
    args = {
        "size": (steps, 1, 64, 64),
        "nets": {form: net.prototxt for form, net in nets.items()},
        "outputs": {form: blobs_of_y(net.compiled.model, net.artifact) for form, net in nets.items()},
        "rounds": rounds,
        "loads": 3,
    }
    found = caffe.call(NETS, "measure", args, timeout=600).value
    unrolled = {what: min(found[UNROLLED][what]) for what in ("load", "forward", "both")}
    for form, net in nets.items():
        least = {what: min(found[form][what]) for what in unrolled}
        figures = ", ".join(f"{what} {least[what] * 1e3:.2f} ms ({least[what] / unrolled[what]:.2f})" for what in least)
        print(f"  Caffe, T={steps}: {form:9} {net.artifact.layers:5} layers, {figures}")


def in_opencv(form: Time, steps: int) -> None:
    import cv2  # noqa: PLC0415 (an optional reader)

    cv2.setNumThreads(1)
    net = compiled(form, steps, target="opencv")
    with tempfile.TemporaryDirectory() as folder:
        net.save(folder)
        files = [str(next(Path(folder).glob(f"*.{suffix}"))) for suffix in ("prototxt", "caffemodel")]
        start = time.process_time()
        loaded = cv2.dnn.readNetFromCaffe(*files)
        read = time.process_time() - start
    loaded.setInput(np.random.default_rng(0).normal(size=(steps, 64)).astype(np.float32))
    seconds = []
    for _ in range(6):
        start = time.process_time()
        loaded.forward()
        seconds.append(time.process_time() - start)
    first, later = seconds[0] * 1e3, min(seconds[1:]) * 1e3
    print(
        f"  OpenCV, T={steps}: {form:9} {net.artifact.layers:5} layers, load {read * 1e3:.1f} ms,"
        f" first forward {first:.1f} ms, later ones {later:.1f} ms"
    )


def in_onnx(steps: int) -> None:
    nets = {form: compiled(form, steps, backend="onnx") for form in FORMS[1:]}
    nets |= {"scan": lstmc.compile("min_gru", backend="onnx", form="scan", outputs=["y"], sizes={**SIZES, "T": steps})}
    fed = {"x": np.random.default_rng(0).normal(size=(steps, 1, 64)).astype(np.float32)}
    least = least_seconds({f: (load(net.files[net.artifact.net], threads=1), fed) for f, net in nets.items()})
    for form, seconds in least.items():
        print(f"  ONNX Runtime, T={steps}: {form:9} {seconds * 1e3:.2f} ms, {seconds / least['scan']:.2f} of scan")


def main() -> None:
    print("min_gru, a linear recurrence, in parallel in time (in brackets: to unrolled)")
    with Runner() as caffe:
        in_caffe(caffe, STEPS, setting.rounds(60, quick=5))
    if importlib.util.find_spec("cv2"):
        for steps, forms in ((STEPS, FORMS), (5 * STEPS, FORMS[1:])):
            for form in forms:
                in_opencv(form, steps)
    in_onnx(STEPS)


if __name__ == "__main__":
    main()
