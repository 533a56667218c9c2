"""Packed weights are kept from pass to pass in phase TEST, for as long as the weights are what they were."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc.loops.memory import CPU, functions
from lstmc.loops.native import FLAGS
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.write.artifact import layers_source

CHANGED = Path(__file__).with_name("changed_weights.py")


@pytest.mark.caffe
@pytest.mark.slow
def test_weights_that_were_written_to_are_packed_again(caffe: Runner, tmp_path: Path) -> None:
    net = lstmc.compile("lstm", T=9, N=5, D=17, H=40, target="caffe-fused")
    net.save(tmp_path)
    caffe.open_layers(layers_source(net.compiled.expanded))
    x = np.random.default_rng(0).normal(size=(9, 5, 17)).astype(np.float32)
    args = {"net": str(tmp_path / "lstm.prototxt"), "weights": str(tmp_path / "lstm.caffemodel"), "layer": "y"}
    found = caffe.call(CHANGED, "run", args, {"x": x})
    assert len(found.value) == 2 * 8
    for name, kept, fresh in zip(found.value, found.arrays["kept"], found.arrays["fresh"], strict=True):
        np.testing.assert_array_equal(kept, fresh, err_msg=name)
    assert np.diff(found.arrays["fresh"][:5], axis=0).any(axis=(1, 2, 3)).all()  # each of these changes can be seen


PROBE = """
{functions}
extern "C" int lanes() {{ return LANES; }}
extern "C" void pack_or_keep(unsigned long* seen, int outs, int ins, const float* w, float* into) {{
  packed(seen, outs, ins, w, true, into);
}}
"""


def test_panels_are_kept_where_the_weights_are_the_same(tmp_path: Path) -> None:
    text = PROBE.format(functions=functions(CPU))
    (tmp_path / "probe.cpp").write_text(text)
    command = ["g++", *FLAGS, "-O1", "-shared", "probe.cpp", "-lopenblas", "-o", "probe.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    probe = ctypes.CDLL(str(tmp_path / "probe.so"))
    outs, ins = 64, 37
    memory = np.random.default_rng(0).normal(size=outs * ins + 256).astype(np.float32)
    w = memory[: outs * ins].reshape(outs, ins)
    panels, seen = np.zeros(outs * ins, np.float32), ctypes.c_ulong(0)

    def is_packed(hashed: object) -> bool:
        panels[...] = 7
        floats = ctypes.POINTER(ctypes.c_float)
        probe.pack_or_keep(hashed, outs, ins, w.ctypes.data_as(floats), panels.ctypes.data_as(floats))
        return bool((panels != 7).all())

    assert is_packed(ctypes.byref(seen))
    assert is_packed(ctypes.byref(seen)) == (probe.lanes() < 16)  # kept, but where a hash takes as long as packing
    memory[outs * ins :] += 1  # what stands behind the weights does not count
    assert is_packed(ctypes.byref(seen)) == (probe.lanes() < 16)
    assert is_packed(None)
    for at in range(w.size):  # every word counts, those beyond the last whole block too
        w.flat[at] = -w.flat[at]
        assert is_packed(ctypes.byref(seen)), at
