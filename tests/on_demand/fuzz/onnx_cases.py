"""``python -m tests.on_demand.fuzz.onnx_cases FOLDER`` (``make onnx-cases``): test cases of recurrent nets.

Each case is a folder in the layout of the onnx package's own (``model.onnx``, ``test_data_set_0``), so that
``onnx.backend.test`` of any runtime can run it. Inputs and outputs are the interpreter's, in float64 and rounded once.
Half of them are the operators LSTM, GRU and RNN with each attribute and operand, in every direction; half are random
models as this backend writes them. All are run in ONNX Runtime and in the package's reference evaluator; printed is a
table of what each computes, by the versions of both.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lstmc.errors import LstmcError
from lstmc.importers import from_onnx
from lstmc.interp import forward
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.verification.conditioning import relative_gap
from lstmc.verification.differential import random_inputs
from lstmc.weights import initial_weights
from lstmc_onnx import OnnxBackend
from tests.importers.imported import imported
from tests.random_models.models import seeded_model

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
COUNTS = {"LSTM": 3, "GRU": 2, "RNN": 1}
FED = ("X", "sequence_lens", "initial_h", "initial_c")
DIRECTIONS = ("forward", "reverse", "bidirectional")
TOLERANCE = 1e-4  # relative to the largest element
Runtime = Callable[[Any, Mapping[str, Array]], list[Array]]


@dataclass(frozen=True)
class Node:
    """One recurrent operator, its operands by name, and what is fed."""

    op: str
    attributes: tuple[tuple[str, Any], ...]
    T: int
    N: int
    D: int
    H: int
    operands: frozenset[str]
    opset: int
    seed: int

    @property
    def told(self) -> dict[str, Any]:
        return dict(self.attributes)

    def arrays(self) -> dict[str, Array]:
        rng = np.random.default_rng(self.seed)
        lanes = 2 if self.told.get("direction") == "bidirectional" else 1
        rows = GATES[self.op] * self.H
        shapes = {
            "X": (self.T, self.N, self.D), "W": (lanes, rows, self.D), "R": (lanes, rows, self.H),
            "B": (lanes, 2 * rows), "initial_h": (lanes, self.N, self.H), "initial_c": (lanes, self.N, self.H),
            "P": (lanes, 3 * self.H),
        }  # fmt: skip
        found = {n: rng.normal(0, 0.7, s).astype(np.float32) for n, s in shapes.items()}
        found["sequence_lens"] = rng.integers(1, self.T + 1, self.N).astype(np.int32)
        return {n: a for n, a in found.items() if n in ("X", "W", "R") or n in self.operands}

    def model(self, arrays: Mapping[str, Array], layout: int = 0) -> Any:
        order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        order = order if self.op == "LSTM" else order[:6]
        outputs = ["Y", "Y_h", "Y_c"][: 3 if self.op == "LSTM" else 2]
        extra = {"layout": layout} if layout else {}
        names = [n if n in arrays else "" for n in order]
        node = helper.make_node(self.op, names, outputs, name="cell", hidden_size=self.H, **self.told, **extra)
        fed = [n for n in FED if n in arrays]
        kind = {"sequence_lens": TensorProto.INT32}
        graph = helper.make_graph(
            [node], "case",
            [helper.make_tensor_value_info(n, kind.get(n, TensorProto.FLOAT), arrays[n].shape) for n in fed],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
            [numpy_helper.from_array(a, n) for n, a in arrays.items() if n not in fed],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def features(op: str) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """What an operator may have beside its weights: a name, attributes and operands."""
    yield from (("defaults", {}, ()), ("bias", {}, ("B",)), ("lengths", {}, ("B", "sequence_lens")))
    yield "initial states", {}, ("B", "initial_h", *(("initial_c",) if op == "LSTM" else ()))
    yield "clip", {"clip": 0.3}, ("B",)
    for name, count in (("Relu", 0), ("Softsign", 0), ("Elu", 1), ("HardSigmoid", 2), ("ScaledTanh", 2)):
        numbers = [("activation_alpha", [0.25])][:count] + [("activation_beta", [0.75])][: count - 1]
        own = {key: value * COUNTS[op] for key, value in numbers}
        yield f"activations: {name}", {"activations": [name] * COUNTS[op], **own}, ("B",)
    if op == "GRU":
        yield "linear_before_reset", {"linear_before_reset": 1}, ("B",)
    if op == "LSTM":
        yield "input_forget", {"input_forget": 1}, ("B",)
        yield "peepholes", {}, ("B", "P")
        yield "peepholes and lengths", {}, ("B", "P", "sequence_lens")


def operators() -> Iterator[tuple[str, str, Any, dict[str, Array], dict[str, Array]]]:
    """Yield the name of each case and of its group, its model, inputs and outputs."""
    for op in GATES:
        for what, attributes, operands in features(op):
            for direction in DIRECTIONS:
                count = 2 if direction == "bidirectional" else 1
                own = {k: v * count if isinstance(v, list) else v for k, v in attributes.items()}
                told = tuple({**own, "direction": direction}.items())
                node = Node(op, told, 4, 2, 3, 3, frozenset(operands), 22, len(what))
                arrays = node.arrays()
                fed, model = {name: arrays[name] for name in FED if name in arrays}, node.model(arrays)
                exact = imported(from_onnx(model).described).interpreted({n: a.astype(float) for n, a in fed.items()})
                yield f"{op} {direction} {what}", what.partition(":")[0], model, fed, exact


def models(count: int, first: int = 0) -> Iterator[tuple[str, str, Any, dict[str, Array], dict[str, Array]]]:
    """Yield the same of random models, in the form that the backend chooses and with ONNX's Scan."""
    backend = OnnxBackend()
    for seed in range(first, first + count):
        for form in (None, "scan"):
            try:
                graph = deploy_graph(seeded_model(seed).graph())
                weights = initial_weights(graph, seed)
                compiled = compile_graph(graph, backend, "onnx", form=form)
                artifact = backend.emit(compiled, weights)
            except LstmcError:  # a loss alone, or what ONNX has no operator for
                continue
            model = onnx.load_from_string(artifact.files[f"{compiled.name}.onnx"])
            names = [value.name for value in model.graph.input]
            inputs = {name: array.astype(np.float32) for name, array in random_inputs(compiled, seed).items()}
            if set(names) != set(inputs):  # one that is drawn
                continue
            outputs = forward(compiled.model, inputs, weights).outputs
            names_of = zip(model.graph.output, compiled.expanded.outputs, strict=True)
            exact = {value.name: outputs[output.name] for value, output in names_of}
            kind = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
            fed = {name: inputs[name].astype(helper.tensor_dtype_to_np_dtype(kind[name])) for name in names}
            yield f"model {seed} {form or 'chosen'}", f"random models, {form or 'chosen form'}", model, fed, exact


def write(folder: Path, name: str, model: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Write a case as the onnx package has its own: inputs and outputs in the order of the graph's."""
    data = folder / ("test_" + re.sub(r"\W+", "_", name).lower()) / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "model.onnx").write_bytes(model.SerializeToString())
    for kind, values, arrays in (("input", model.graph.input, inputs), ("output", model.graph.output, outputs)):
        for number, value in enumerate(values):
            array = np.asarray(arrays[value.name], inputs[value.name].dtype if kind == "input" else np.float32)
            tensor = numpy_helper.from_array(array, value.name)
            (data / f"{kind}_{number}.pb").write_bytes(tensor.SerializeToString())


def in_onnxruntime(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def in_reference(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, dict(inputs)))


RUNTIMES: dict[str, Runtime] = {
    f"ONNX Runtime {onnxruntime.__version__}": in_onnxruntime,
    f"reference of onnx {version('onnx')}": in_reference,
}


def outcome(
    run: Callable[..., list[Array]], model: Any, inputs: Mapping[str, Array], exact: Mapping[str, Array]
) -> str:
    """Return right, wrong or refused, with how far it is off or the first line of the reason."""
    try:
        found = run(model, inputs)
    except Exception as error:  # whatever a runtime raises is a refusal
        return f"refused: {type(error).__name__}: {str(error).strip().splitlines()[0][:150]}"
    for value, array in zip(model.graph.output, found, strict=True):
        if np.shape(array) != exact[value.name].shape:
            return f"wrong: {value.name} has the shape {np.shape(array)}, expected {exact[value.name].shape}"
        if not (gap := relative_gap(array, exact[value.name])) <= TOLERANCE:
            return f"wrong: {value.name} is off by {gap:.1e}"
    return "right"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the cases and outcomes.txt go")
    parser.add_argument("--models", type=int, default=100, help="how many random models (100)")
    given = parser.parse_args()
    rows: dict[str, Counter[tuple[str, str]]] = {}
    lines = []
    for source in (operators(), models(given.models)):
        for name, group, model, inputs, exact in source:
            write(given.folder, name, model, inputs, exact)
            counts = rows.setdefault(group, Counter())
            counts["cases", ""] += 1
            for runtime, run in RUNTIMES.items():
                found = outcome(run, model, inputs, exact)
                counts[runtime, found.partition(":")[0]] += 1
                lines += [] if found == "right" else [f"{name}: {runtime}: {found}"]
    (given.folder / "outcomes.txt").write_text("\n".join(lines) + "\n")
    print(f"| LSTM, GRU and RNN with | cases | {' | '.join(RUNTIMES)} |\n|---|---|{'---|' * len(RUNTIMES)}")
    for group, counts in rows.items():
        cells = [", ".join(f"{n} {what}" for (r, what), n in counts.items() if r == runtime) for runtime in RUNTIMES]
        print(f"| {group} | {counts['cases', '']} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
