"""ONNX's operators: each of the onnx package's own cases is refused, or its outputs are right."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from lstmc.importers import ImportedModel, RefusedError, from_onnx
from lstmc.importers.frontends.onnx_graph import HANDLERS
from tests.importers.imported import assert_close, traced

pytestmark = pytest.mark.slow  # 6 s for the cases themselves
FIRST_OUTPUT = ("LayerNormalization", "Dropout", "MaxPool")  # of those that a net in use has
# What is another thing here: a quantized output has its scale and is not rounded, a training net's dropout is drawn by
# Caffe, and constants that are not finite
OTHERS = ("test_dynamicquantizelinear", "test_quantizelinear", "test_training_dropout", "test_mod_float_edge_cases")


@cache
def cases(*modules: str) -> dict[str, Any]:
    """The onnx package's own cases of one node, by name: those of some of its modules, or of all, which takes 6 s.

    A module makes its cases as it is imported: a second collection has those of the first.
    """
    package = import_module("onnx.backend.test.case.node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own NumPy
        for module in modules:
            import_module(f"{package.__name__}.{module}")
        found = package._NodeTestCases if modules else package.collect_testcases(None)
    return {case.name: case for case in found if len(case.model.graph.node) == 1}


@cache
def by_operator() -> dict[str, list[Any]]:
    """The cases that have one input of floats, those first, and no axis without elements."""
    found = defaultdict(list)
    for name, case in cases().items():
        operator, inputs = case.model.graph.node[0].op_type, case.data_sets[0][0]
        of_floats = bool(inputs) and isinstance(inputs[0], np.ndarray) and inputs[0].dtype == np.float32
        arrays = [array for arrays in case.data_sets[0] for array in arrays]
        known = operator in HANDLERS and not name.startswith(OTHERS)
        if known and of_floats and all(np.size(array) for array in arrays):
            found[operator].append(case)
    return found


def operator_of(case: Any) -> str:
    return str(case.model.graph.node[0].op_type)


def source_of(case: Any) -> ImportedModel:
    """Read a case; the first input is the net's, the others are constants."""
    model, inputs = onnx.ModelProto(), case.data_sets[0][0]
    model.CopyFrom(case.model)
    if operator_of(case) in FIRST_OUTPUT:
        (node,) = model.graph.node
        del node.output[1:], model.graph.output[1:]
    others = [declared.name for declared in model.graph.input][1:]
    return from_onnx(model, values=dict(zip(others, inputs[1:], strict=True)))


def right_or_refused(case: Any) -> str:
    """Return "right" or "refused"."""
    inputs, outputs = case.data_sets[0]
    try:
        source = source_of(case)
    except RefusedError:
        return "refused"
    made = traced(source.described)
    names = [declared.name for declared in case.model.graph.output][: 1 if operator_of(case) in FIRST_OUTPUT else None]
    wanted = dict(zip(names, outputs, strict=False))
    fed = {name: inputs[0].astype(float) for name in made.net.inputs}  # none, for the shape of x
    assert_close(made.interpreted(fed), wanted, 5e-4)  # some are written in four decimals
    return "right"


def test_every_case_is_right_or_refused() -> None:
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for operator, each in by_operator().items():
        for case in each:
            try:
                outcomes[operator][right_or_refused(case)] += 1
            except Exception as error:
                error.add_note(case.name)
                raise
    assert len(outcomes) > 60
    assert all(counts["right"] for counts in outcomes.values())


def test_a_sum_of_nothing_is_refused() -> None:
    x, y = (helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", [], ["y"])], "g", [x], [y])
    with pytest.raises(RefusedError, match=r"node 0 \(Add\): "):
        from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
