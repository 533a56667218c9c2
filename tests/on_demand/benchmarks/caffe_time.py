"""Compiled nets in real Caffe against the post's NetSpec net, Caffe's own LSTM layer and the bare matrix products.

    make bench            writes out/bench.json and prints tables
    ... --quick           two rows, few rounds: under a minute
    ... --smallest        one row of two steps, one round

One BLAS thread, and CPU time, so that what else runs does not count; all nets of a row are loaded in one process and
take turns, so that every figure is a ratio of minima from one run. Where PyTorch and ONNX Runtime are installed their
LSTMs run in this process, one thread, after the others; the columns that compare with them take what a net needs alone,
one pass after the other, as theirs do. So do the columns to the peak: the time to what the products would take at the
rate of one core, which is measured too; for steps of one row, those to the bandwidth: the time to what reading the
recurrent weights in each step would take from the cache that has them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lstmc import Input, Value, model, scan
from lstmc.backend import Artifact, load_cell
from lstmc.errors import LstmcError
from lstmc.ir import Graph
from lstmc.manifest import parse_manifest
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.write.artifact import layers_source
from tests.on_demand.benchmarks.fma_peak import flops_per_second, lstm_flops, lstm_weight_seconds
from tests.on_demand.benchmarks.setting import QUICK, SMALLEST
from tools.gpu_check.cases import sequence_of

Size = tuple[int, ...]
Compiled = tuple[str, list[str], str | None]
NETS = Path(__file__).with_name("caffe_nets.py")
SMALL = ((2, 1, 4, 4),) if SMALLEST else ((20, 10, 128, 256), (300, 1, 32, 64))
ROWS = ((3, 10, 1024, 500), SMALL[0], (100, 1, 64, 128), (50, 32, 256, 512), SMALL[-1], (1000, 1, 32, 64))
LOADS = ((1000, 1, 32, 64), (10000, 1, 32, 64))
SECONDS_A_ROW = 12.0
TARGETS = ("caffe", "flat", "noslice", "caffe-native", "caffe-fused")  # those of readers have nets like flat's


def two_lstms(size: Size) -> Graph:
    """An LSTM on an LSTM."""
    steps, batch, width, units = size
    lower, upper = load_cell("lstm")(H=units), load_cell("lstm")(H=units)

    @model
    def net(x: Value = Input(steps, batch, width)) -> dict[str, Value]:
        return {"y": scan(upper, scan(lower, x)[0])[0]}

    return net.graph()


KINDS: dict[str, tuple[Callable[[Size], Graph], dict[str, str], tuple[Size, ...]]] = {
    # what is compiled; what it is held against, by the functions of caffe_nets.py; the sizes
    "LSTM": (lambda size: sequence_of("lstm", size), {"NetSpec": "unrolled_by_hand", "LSTM layer": "native"}, ROWS),
    "two LSTMs": (two_lstms, {"LSTM layers": "native_two"}, SMALL),
    "GRU": (lambda size: sequence_of("gru", size), {}, SMALL),
}


def compiled_nets(graph: Graph, targets: Iterable[str] = TARGETS) -> dict[str, Compiled]:
    """For each of the targets that can express a model: its prototxt, the blobs of its output, and its own layers."""
    backend = CaffeBackend()
    weights = initial_weights(graph)
    found = {}
    for target in targets:
        try:
            compiled = compile_graph(graph, backend, target)
            artifact = backend.emit(compiled, weights)
        except LstmcError:
            continue  # caffe-native has no GRU
        text = artifact.files[f"{graph.name}.prototxt"].decode()
        found[f"lstmc {target}"] = (text, blobs_of_y(graph, artifact), layers_source(compiled.expanded))
    return found


def blobs_of_y(graph: Graph, artifact: Artifact) -> list[str]:
    """The blobs of the output ``y``: one, or one a step."""
    return parse_manifest(artifact.files[f"{graph.name}.manifest.json"]).output_blobs


def measure_row(caffe: Runner, kind: str, size: Size, rounds: int, loads: int) -> dict[str, Any]:
    """One row's figures: for each net its minima."""
    make, others, _ = KINDS[kind]
    compiled = compiled_nets(make(size))
    nets = others | {name: text for name, (text, _, _) in compiled.items()}
    outputs = {name: ["H"] for name in others} | {name: blobs for name, (_, blobs, _) in compiled.items()}
    for _, _, source in compiled.values():
        caffe.open_layers(source)
    alone = [name for name in compiled if kind == "LSTM"]
    args = {"size": size, "nets": nets, "outputs": outputs, "rounds": rounds, "loads": loads, "alone": alone}
    found = caffe.call(NETS, "measure", args, timeout=600).value
    return {
        name: {key: min(times) if isinstance(times, list) else times for key, times in figures.items()}
        for name, figures in found.items()
    }


def torch_seconds(size: Size, rounds: int) -> dict[str, float]:
    """PyTorch's own LSTM on the CPU, one thread."""
    import torch  # noqa: PLC0415 (an optional rival)

    torch.set_num_threads(1)
    steps, batch, width, units = size
    lstm, x, given = torch.nn.LSTM(width, units), torch.randn(steps, batch, width), torch.ones(steps, batch, units)
    best = {"forward": float("inf"), "both": float("inf")}
    for _ in range(rounds):
        start = time.process_time()
        with torch.no_grad():
            lstm(x)
        middle = time.process_time()
        lstm(x)[0].backward(given)
        best["forward"] = min(best["forward"], middle - start)
        best["both"] = min(best["both"], time.process_time() - middle)
    return best


def onnx_seconds(size: Size, rounds: int) -> float:
    """ONNX Runtime's LSTM on the CPU, one thread, forward."""
    import onnx  # noqa: PLC0415 (an optional rival)
    import onnxruntime  # noqa: PLC0415

    steps, batch, width, units = size
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 4 * units, width), "R": (1, 4 * units, units), "B": (1, 8 * units)}
    weights = [
        onnx.numpy_helper.from_array(rng.uniform(-0.05, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    node = onnx.helper.make_node("LSTM", ["X", *shapes], ["Y"], hidden_size=units)
    place = onnx.helper.make_tensor_value_info
    x, y = (place(n, onnx.TensorProto.FLOAT, s) for n, s in (("X", size[:3]), ("Y", (steps, 1, batch, units))))
    graph = onnx.helper.make_graph([node], "lstm", [x], [y], weights)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = {"X": rng.normal(size=size[:3]).astype(np.float32)}
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        session.run(None, fed)
        best = min(best, time.process_time() - start)
    return best


def _ratio(seconds: float | None, base: float | None) -> str:
    return "-" if seconds is None or base is None else f"{seconds / base:.2f}"


def table_of(rows: dict[str, dict[str, Any]]) -> Table:
    """Ratios: to the bare products (of an LSTM), to Caffe's own layer, to PyTorch and ONNX Runtime, which have rows of
    their own; to the time of an LSTM's products at the peak; load to the NetSpec net's.
    """
    table = Table(title="in real Caffe: forward, forward and backward (minima of interleaved rounds)")
    for column in (
        "T,N,D,H",
        "net",
        "layers",
        "fwd/gemms",
        "both/gemms",
        "fwd/layer",
        "both/layer",
        "both/torch",
        "fwd/torch",
        "fwd/onnx",
        "fwd/peak",
        "both/peak",
        "fwd/bandwidth",
        "both/bandwidth",
        "load",
    ):
        table.add_column(column, justify="left" if column in ("T,N,D,H", "net") else "right")
    for size, nets in rows.items():
        native = nets.get("LSTM layer") or nets.get("LSTM layers")
        by_hand, torch, onnx = nets.get("NetSpec"), nets.get("torch"), nets.get("onnx")
        gemms = nets["gemms"] if native is nets.get("LSTM layer") and native else None
        for name, f in nets.items():
            if name in ("gemms", "peak", "bandwidth"):
                continue
            cells = [_ratio(f.get(key), base and base[key]) for base in (gemms, native) for key in ("forward", "both")]
            # of nets that were measured alone, and of the two themselves
            own = {key: f.get(f"{key} alone", f.get(key) if name in ("torch", "onnx") else None) for key in f}
            peak, bandwidth = nets.get("peak"), nets.get("bandwidth")
            for base, key in (
                (torch, "both"), (torch, "forward"), (onnx, "forward"), (peak, "forward"), (peak, "both"),
                (bandwidth, "forward"), (bandwidth, "both"),
            ):  # fmt: skip
                cells.append(_ratio(own.get(key), base and base.get(key)))
            load = f.get("load")
            cells.append(f"{load:.2f} s" if load and not by_hand else _ratio(load, by_hand and by_hand["load"]))
            table.add_row(size, name, str(f.get("layers", "-")), *cells)
        table.add_section()
    return table


def load_table(caffe: Runner) -> Table:
    """Seconds to load long nets, each once, and how they grow."""
    table = Table(title="load (seconds; NetSpec's net is flat, and takes minutes at the larger size)")
    for column in ("T", "net", "seconds", "to T=1000"):
        table.add_column(column, justify="left" if column == "net" else "right")
    first: dict[str, float] = {}
    for size in LOADS:
        graph = sequence_of("lstm", size)
        ours = compiled_nets(graph, ["caffe", "caffe-fused"])
        nets = {"LSTM layer": "native"} | {name: text for name, (text, _, _) in ours.items()}
        outputs = {"LSTM layer": ["H"]} | {name: blobs for name, (_, blobs, _) in ours.items()}
        for _, _, source in ours.values():
            caffe.open_layers(source)
        args = {"size": size, "nets": nets, "outputs": outputs, "rounds": 0, "loads": 3}
        found = caffe.call(NETS, "measure", args, timeout=600).value
        for name in nets:
            seconds = min(found[name]["load"])
            first.setdefault(name, seconds)
            table.add_row(str(size[0]), name, f"{seconds:.2f}", f"{seconds / first[name]:.1f}")
    return table


def main(to: Path = Path("out/bench.json")) -> None:
    """Measure every row, print the tables, write the figures."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    rows: dict[str, dict[str, Any]] = {}
    console = Console(width=190)
    with Runner() as caffe:
        for kind, (_, _, sizes) in KINDS.items():
            for size in (SMALL if kind == "LSTM" else ()) if QUICK else sizes:
                once = measure_row(caffe, kind, size, 1, 1)
                seconds = sum(f["forward"] + f["both"] for f in once.values())
                rounds = 1 if SMALLEST else max(3, min(100, int((5 if QUICK else SECONDS_A_ROW) / seconds)))
                row = measure_row(caffe, kind, size, rounds, 3)
                if kind == "LSTM" and importlib.util.find_spec("torch"):
                    row["torch"] = torch_seconds(size, rounds)
                if kind == "LSTM" and importlib.util.find_spec("onnxruntime"):
                    row["onnx"] = {"forward": onnx_seconds(size, rounds)}
                if kind == "LSTM":
                    peak = flops_per_second()
                    row["peak"] = {key: flops / peak for key, flops in lstm_flops(size).items()} | {"flops/s": peak}
                    if size[1] == 1:
                        row["bandwidth"] = dict(lstm_weight_seconds(size))
                rows[f"{kind} {','.join(map(str, size))}"] = row
        console.print(table_of(rows))
        if not QUICK:
            console.print(load_table(caffe))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
