"""Which step of which scan a value is of is a field that every pass keeps, whatever the scan is called."""

from __future__ import annotations

import json

import pytest

from lstmc import Input, Param, linear, model, scan, uniform
from lstmc.cells import gru, lstm
from lstmc.dsl import Model
from lstmc.ir import Step
from lstmc.passes import step_pattern
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

BACKEND = CaffeBackend()
STEPS = 3


@model
def net(X=Input(STEPS, 2, 4), W=Param(2, 4, fill=uniform(-1, 1))):
    y, last = scan(lstm(H=4, name="a"), X, name="enc/t1")
    z, _ = scan(gru(H=4, name="b"), y, name="t000/t")
    return {"y": y, "z": z, "w": linear(last["h"], W)}


@model
def deep(X=Input(STEPS, 2, 4)):
    y, _ = scan(lstm(H=4, name="a"), X, name="enc/t1")
    return {"y": y}


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize(("of", "target"), [(net, "caffe"), (net, "flat"), (net, "noslice"), (deep, "caffe")])
def test_every_value_that_is_called_after_a_step_says_so(of: Model, target: str, step: bool) -> None:
    compiled = compile_graph(of.graph(), BACKEND, target, step=step)
    called = {
        (step_pattern(scan) % t): Step(title, t) for title, scan in compiled.scans.items() for t in range(scan.length)
    }
    found = 0
    for node in compiled.expanded:
        for out, name in enumerate(node.names):
            wanted = next((s for prefix, s in called.items() if name.startswith(prefix)), None)
            assert node.of_step(out) == wanted, name
            found += wanted is not None
    assert found >= len(called)


def test_banners_and_manifest_name_the_scan_as_it_is_called() -> None:
    graph = net.graph()
    files = BACKEND.emit(compile_graph(graph, BACKEND), initial_weights(graph)).files
    banners = [line for line in files["net.prototxt"].decode().splitlines() if ", step " in line]
    assert [line.strip("# -") for line in banners] == [
        *(f"enc/t1, step {t}" for t in range(STEPS)),
        *(f"t000/t, step {t}" for t in range(STEPS)),
    ]
    scans = json.loads(files["net.manifest.json"])["scans"]
    assert scans["enc/t1"] == {
        "steps": 3,
        "reverse": False,
        "blobs": {"h": "enc/t1/t%03d/h", "c": "enc/t1/t%03d/c"},
    }
    assert scans["t000/t"]["blobs"] == {"h": "t000/t/t%03d/h"}


@pytest.mark.caffe
def test_its_steps_are_one_line_of_what_is_compared_with_real_caffe(caffe: Runner) -> None:
    report = assert_caffe_agrees(caffe, compiled(net))
    named = {d.name: d.count for d in report.differences if d.kind == "blob"}
    assert (named["enc/t1/t*/h"], named["enc/t1/t*/c"], named["t000/t/t*/h"]) == (STEPS, STEPS, STEPS)
