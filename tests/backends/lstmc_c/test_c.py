"""Nets in C: each computes its model, under gcc's warnings and sanitizers, in the memory that its header states."""

from __future__ import annotations

import ctypes
import doctest
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    cell,
    concat,
    constant,
    conv,
    dims,
    embed,
    full,
    full_like,
    integers,
    linear,
    matmul,
    model,
    scan,
    softmax,
    softmax_loss,
    step_index,
    tanh,
    uniform,
)
from lstmc.errors import BackendError, PassError
from lstmc.interp import forward
from lstmc.ir import Builder, Graph, Output, Scan
from lstmc.ops import Add, Array, Conv, Precomputed
from lstmc.ops import Input as InputOp
from lstmc.ops import Param as ParamOp
from lstmc.pipeline import compile_graph
from lstmc.plugins import CELLS as GROUP
from lstmc.plugins import entry_points_of
from lstmc.prepare import deploy_graph
from lstmc.testing import SeededDraw, operands_of
from lstmc.verification.conditioning import relative_gap
from lstmc.weights import random_weights
from lstmc_c import CBackend
from lstmc_c.artifact import functions
from lstmc_c.code import OPS
from lstmc_c.numbers import LARGE, Numbers
from tests.cells.scanned import STARTS, cell_graph, drawn, with_all_ops
from tests.on_demand.fuzz.c_models import (
    SANITIZERS,
    WARNINGS,
    Machine,
    Net,
    WholeBackend,
    build,
    inside_a_step,
    run,
    tried,
    wrong,
)

CELLS = [name for name, (point, *_) in entry_points_of(GROUP).items() if point.value.startswith("lstmc.cells.")]
T, N, D, H = dims("T N D H")
SANITIZED = Machine(("gcc", *SANITIZERS, "-O0"))
PAGE = Path(__file__).parents[3] / "docs" / "c.md"


def cell_net(name: str, numbers: str = "float32") -> Net:
    graph = cell_graph(name, (3, 2))
    values = drawn(name, graph)
    compiled = compile_graph(graph, CBackend())
    assert compiled.states is not None
    states = {}
    for pair in compiled.states:
        state = pair.name.rpartition("/")[2]
        fed = values.inputs.get(f"{state}_0", np.zeros(compiled.model.node(pair.before).types[0].shape))
        states[pair.before] = STARTS.get((name, state), lambda same: same)(fed)
    first = {node: array[:1] for node, array in values.inputs.items() if not node.endswith("_0")}
    return Net.of(compiled, values.weights, name, given={**first, **states}, numbers=numbers)


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param([*dict.fromkeys((*CELLS[::2], *with_all_ops(CELLS)))], id="half", marks=pytest.mark.slow),
        pytest.param(CELLS, id="all", marks=pytest.mark.exhaustive),
    ],
)
def test_cells_compute_three_steps_in_c(cells: list[str], tmp_path: Path) -> None:
    """In ``make test`` half of them, which have all ops of cells."""
    nets = [cell_net(name) for name in cells]
    assert len(nets) >= len(CELLS) / 2
    build(tmp_path, nets, SANITIZED)
    expected = {net.compiled.name: dict(net.arrays.inputs) for net in nets}
    for t in range(3):
        run(tmp_path, nets, SANITIZED)
        for net in nets:
            inputs = expected[net.compiled.name]
            outputs = forward(net.compiled.model, inputs, net.weights).outputs
            manifest = net.manifest
            found = {name: place.read(net.results) for name, place in manifest.outputs.items()}
            gaps = {name: relative_gap(found[name], outputs[name]) for name in outputs}
            assert max(gaps.values()) < 1e-5, (net.compiled.name, t, gaps)
            assert manifest.states is not None
            sequences = drawn(net.compiled.name, cell_graph(net.compiled.name, (3, 2))).inputs if t < 2 else {}
            following = {name: array[t + 1 : t + 2] for name, array in sequences.items() if not name.endswith("_0")}
            inputs.update(following)
            net.arrays.inputs.update(following)  # type: ignore[attr-defined]
            for state in manifest.states.values():
                inputs[state.input] = outputs[state.output]
                net.arrays.inputs[state.input] = found[state.output]  # type: ignore[index]


NO_INTEGERS = {
    "c-a16w8": dict.fromkeys(("clockwork", "phased_lstm"), "round has steps"),
    "c-a8w8": dict.fromkeys(("clockwork", "phased_lstm"), "is too large for integers of 31 bits"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("numbers", NO_INTEGERS)
def test_every_cell_in_integers_is_the_interpreter_s_to_the_bit(numbers: str, tmp_path: Path) -> None:
    """In ``make test`` some cells, which have every kernel."""
    check_integers(numbers, CELLS, tmp_path)


@pytest.mark.parametrize(
    ("numbers", "cells"),
    [("c-a16w8", ["lstm", "slstm", "delta_net", "ntm"]), ("c-a8w8", ["gru", "conv_gru", "lmu", "pointer"])],
)
def test_cells_in_integers_are_the_interpreter_s_to_the_bit(numbers: str, cells: list[str], tmp_path: Path) -> None:
    check_integers(numbers, cells, tmp_path)


# what arm_acle.h declares on an Arm processor with instructions for pairs of int16
PAIRS = """#pragma once
typedef int32_t int16x2_t, int8x4_t;
static inline int16x2_t __sxtb16(int8x4_t x) {
  const uint32_t low = (uint32_t)(int8_t)x & 0xffffu, high = (uint32_t)(int8_t)(x >> 16) << 16;
  return (int16x2_t)(low | high);
}
static inline int32_t __smlad(int16x2_t x, int16x2_t y, int32_t sum) {
  return sum + (int16_t)x * (int16_t)y + (int16_t)(x >> 16) * (int16_t)(y >> 16);
}
"""


@pytest.mark.parametrize("numbers", NO_INTEGERS)
def test_products_of_pairs_are_the_interpreter_s_to_the_bit(numbers: str, tmp_path: Path) -> None:
    """Rows and columns of which some are left over, and inputs of int8."""

    @model
    def products(X=Input(T, N, 11), *, W=Param(10, 11), U=Param(7, 10), V=Param(4, 7), b=Param(10)):
        return {"y": linear(linear(linear(X, W, b), U), V), "z": linear(X, W)}

    (tmp_path / "arm_acle.h").write_text(PAIRS)
    machine = Machine(("gcc", *SANITIZERS, "-O1", "-D__ARM_FEATURE_SIMD32", f"-I{tmp_path}"))
    graph = products.graph(T=1, N=3)
    nets = [Net.of(compile_graph(graph, WholeBackend()), random_weights(graph), "products", numbers=numbers)]
    nets.append(cell_net("gru", numbers))
    build(tmp_path, nets, machine)
    run(tmp_path, nets, machine)
    assert not [difference for net in nets for difference in wrong(net)]
    assert all("__smlad" in net.artifact.files[f"{net.compiled.name}.c"].decode() for net in nets)
    (tmp_path / "arm_acle.h").write_text(PAIRS.replace("sum + (int16_t)x", "sum - (int16_t)x"))
    build(tmp_path, nets, machine)
    run(tmp_path, nets, machine)
    assert all(wrong(net) for net in nets)  # so these are what ran


def check_integers(numbers: str, cells: list[str], folder: Path) -> None:
    nets = []
    for name in cells:
        reason = NO_INTEGERS[numbers].get(name)
        if reason is None:
            nets.append(cell_net(name, numbers))
        else:
            with pytest.raises(BackendError, match=reason):
                cell_net(name, numbers)
    build(folder, nets, SANITIZED)
    run(folder, nets, SANITIZED)
    for net in nets:
        assert not wrong(net), net.compiled.name
        found = net.run(net.compiled, net.artifact, net.arrays)
        assert found.tolerance == 0
        assert found.rounding is not None
        outputs = [found.values[net.compiled.expanded.value_name(o.ref)] for o in net.compiled.expanded.outputs]
        assert any(np.unique(output).size > 2 for output in outputs), net.compiled.name


def ops_graph(weights: bool) -> tuple[Graph, dict[str, Array]]:
    """A graph with several samples of each op. What follows an op's first operand is an input, or one of the
    ``weights``."""
    b, inputs, outputs = Builder("ops_of_weights" if weights else "ops_of_inputs"), dict[str, Array](), []
    for kind in OPS:
        for seed in range(3 if kind.operands and kind is not Precomputed else 0):
            sample = kind.sample(SeededDraw(seed))
            domains = sample.op.domains(*sample.operands)
            refs = []
            for i, (type_, array) in enumerate(zip(sample.operands, operands_of(sample, seed), strict=True)):
                name = f"{kind.name}_{seed}_{i}"
                if weights and i > 0:
                    refs += b.add(ParamOp(type_.shape), names=(name,))
                else:
                    refs += b.add(InputOp(type_.shape, None, domains[i]), names=(name,))
                    inputs[name] = array
            results = b.add(sample.op, *refs, names=(f"{kind.name}_{seed}",))
            outputs += [(f"{kind.name}_{seed}_y{i}", ref) for i, ref in enumerate(results)]
    return b.finish(outputs), inputs


@pytest.mark.slow
def test_every_op_computes_in_c_what_it_means(tmp_path: Path) -> None:
    nets = []
    for weights in (False, True):
        graph, inputs = ops_graph(weights)
        nets.append(Net.of(compile_graph(graph, CBackend()), random_weights(graph), graph.name, given=inputs))
    build(tmp_path, nets, SANITIZED)
    run(tmp_path, nets, SANITIZED)
    for net in nets:
        outputs = forward(net.compiled.model, net.arrays.inputs, net.weights).outputs
        for name, place in net.manifest.outputs.items():
            assert relative_gap(place.read(net.results), outputs[name]) < 1e-5, (net.compiled.name, name)
        assert len(outputs) > 2 * len(OPS)


@pytest.mark.parametrize("copies", [1, 5])
@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(["gru", "lstm_peephole", "ntm"], id="three"),
        pytest.param(CELLS, id="all", marks=pytest.mark.exhaustive),
    ],
)
def test_scans_inside_a_step_are_loops(cells: list[str], copies: int, tmp_path: Path) -> None:
    """Five copies of a small cell, of which some run backwards, are four lanes of one loop and a loop."""
    nets = []
    for name in cells:
        graph = cell_graph(name, (4, 2))
        values = drawn(name, graph)
        of_copies = [("", 1.0), *((f"_copy{copy}", 0.9**copy) for copy in range(1, copies))]
        given = {f"{each}{end}": value for each, value in values.inputs.items() for end, _ in of_copies}
        weights = {f"{each}{end}": by * value for each, value in values.weights.items() for end, by in of_copies}
        compiled = compile_graph(inside_a_step(graph, copies), WholeBackend())
        net = Net.of(compiled, weights, name, given=given)
        loops = len(re.findall(r"turn(?:_\d+)? < 4", net.artifact.files[f"{name}.c"].decode()))
        assert loops == 1 if copies == 1 else loops in (2, 5), (name, loops)
        nets.append(net)
    for machine in (SANITIZED, Machine(("gcc", "-O1", "-U__SSE__"))):
        build(tmp_path, nets, machine)
        run(tmp_path, nets, machine)
        for net in nets:
            assert not wrong(net), net.compiled.name
    joined = [name for net in nets for name, text in net.artifact.files.items() if b"product_of_lanes" in text]
    assert bool(joined) == (copies == 5)


@pytest.mark.parametrize("processor", ["x86-64-v3", "x86-64-v4"])
def test_elements_of_lanes_are_not_put_into_vectors_one_by_one(processor: str, tmp_path: Path) -> None:
    """Six copies are four lanes and two: the product has a copy for each, and its inner loop compares no number."""
    graph = inside_a_step(cell_graph("gru", (4, 2)), 6)
    net = Net.of(compile_graph(graph, WholeBackend()), random_weights(graph, 1), "six")
    for name, content in net.artifact.files.items():
        (tmp_path / name).write_bytes(content)
    flags = ("-O2", f"-march={processor}", "-fno-inline", "-S", "-o-")
    source = (tmp_path / "six.c").read_text()
    (tmp_path / "alone.c").write_text(source.replace("always_inline", "noinline"))
    whole, alone = (
        subprocess.run(["gcc", *flags, file], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for file in ("six.c", "alone.c")
    )
    assert "product_of_lanes" not in whole
    (text,) = re.findall(r"^product_of_lanes[\w.]*:\n(.*?)\.cfi_endproc", alone, re.MULTILINE | re.DOTALL)
    assert "fmadd" in text
    assert not re.findall("vinsertps|vunpcklps", text)


@cell
def with_constants(x=Input(N, D), g=Input(N, H), h=State(N, H), *, W=Param(H, D), p=Param(H)):
    h = tanh(linear(x, W) + h + g)
    return {"h": h, "half": full_like(h, 0.5), "p": full_like(h, 0.0) + p, "g": g * 1.0}, {"h": h}


@pytest.mark.parametrize("values", [(0.25,), (0.25, 0.25), (0.25, 0.75), (0.25, None)], ids=str)
def test_a_loop_inside_a_step_reads_and_gives_constants(values: tuple[float | None, ...], tmp_path: Path) -> None:
    """Scans of which some results are the same in each turn, and which read a number or a parameter as ``g``."""

    @model(states={"s": "s_next"})
    def constants(x=Input(5, 1, 2), s=Input(1, 3), q=Param(1, 3)):
        outputs = {}
        for at, value in enumerate(values):
            g = q * 2.0 if value is None else full((1, 3), value)
            y, last = scan(with_constants(H=3), x, static={"g": g}, init={"h": s}, reverse=at == 1)
            outputs |= {f"{name}_{at}": each for name, each in y.items()}
        return outputs | {"s_next": last["h"]}

    graph = deploy_graph(constants.graph())
    net = Net.of(compile_graph(graph, CBackend()), random_weights(graph, 1), "constants")
    build(tmp_path, [net])
    run(tmp_path, [net])
    assert len(re.findall(r"turn(?:_\d+)? < 5", net.artifact.files["constants.c"].decode())) == 1
    assert not wrong(net)


@pytest.mark.slow
def test_random_models_compute_in_c_what_they_mean(pytestconfig: pytest.Config) -> None:
    seed = int(pytestconfig.option.hypothesis_seed)
    outcomes, failures = tried(range(seed, seed + 12), SANITIZED)
    assert not failures
    assert outcomes["one step"] + outcomes["all steps"] >= 9, outcomes


def test_a_sum_that_repeats_a_product() -> None:
    @model
    def repeats(x=Input(2, 3), *, W=Param(1, 3)):
        return linear(x, W) + x

    assert lstmc.compile(repeats, backend="c").verify(on=["c-cpu"])


@pytest.mark.parametrize(("groups", "wide"), [((4, 6, 2), 6), ((4, 6, 1), 6), ((3, 48, 1), 36)])
def test_a_sum_over_elements_that_need_divisions(groups: tuple[int, int, int], wide: int) -> None:
    """Pieces of a transposed array: the first value of each sum was written with the counter of the inner loop."""

    @model
    def grouped(x=Input(1, 4, wide), *, W=Param(*groups, fill=uniform(-1, 1))):
        turned = lstmc.transpose(tanh(x), (0, 2, 1))
        y = lstmc.sum(lstmc.reshape(turned, *groups[:2], 1) * W, axis=1)
        return {"y": y, "z": tanh(lstmc.sum(lstmc.reshape(turned, *groups[:2]), axis=1))}

    assert lstmc.compile(grouped, backend="c").verify(on=["c-cpu"])


@pytest.mark.parametrize("outs", [3, 18, 40])
@pytest.mark.parametrize(
    ("form", "matrices"),
    [
        ("nbgi,gio->nbgo", "gio"),
        ("nbgi,goi->nbgo", "goi"),
        ("nbgi,io->nbgo", "io"),
        ("sum", "gio"),
        ("ngbi,gio->ngbo", ""),
    ],
)
def test_a_linear_layer_of_groups_is_a_product_of_each(form: str, matrices: str, outs: int) -> None:
    """However it is written; not where groups are before rows, whose matrices are no neighbours."""
    sizes = {"g": 4, "i": 6, "o": outs}

    @model
    def grouped(x=Input(1, 4, 4, 6), *, W=Param(*(sizes[axis] for axis in matrices or "gio"), fill=uniform(-1, 1))):
        x = tanh(x)
        if form == "sum":
            x = lstmc.transpose(x, (0, 1, 3, 2))
            return lstmc.sum(lstmc.reshape(x, 1, 4, 4, 6, 1) * W, axis=3)
        return lstmc.einsum(form, x, W)

    net = lstmc.compile(grouped, backend="c")
    assert (": grouped_linear" in net.files["grouped.c"].decode()) == bool(matrices)
    assert net.verify(on=["c-cpu"])


@pytest.mark.parametrize(("rows", "ins", "outs"), [(7, 2, 5), (35, 8, 3)])
def test_products_of_few_sums_are_compiled_without_a_warning(rows: int, ins: int, outs: int, tmp_path: Path) -> None:
    """gcc said that a sum of 8 read outside of the matrix, which had fewer."""

    @model
    def few(x=Input(rows, 1, ins), *, W=Param(1, outs, ins, fill=uniform(-1, 1))):
        return lstmc.einsum("ngi,goi->ngo", x, W)

    assert compiled_object(tmp_path, lstmc.compile(few, backend="c"), "-O3").exists()
    assert compiled_object(tmp_path, lstmc.compile(few, backend="c"), "-O3", "-march=native").exists()


def test_a_value_that_is_read_whole_and_by_one_of_its_elements() -> None:
    """It was computed in the loop of its reader, which read the element before it was there."""

    @model
    def differences(x=Input(1, 4)):
        v = tanh(x)
        _, last = lstmc.split(v, [3, 1], axis=1)
        return v - last

    assert lstmc.compile(differences, backend="c").verify(on=["c-cpu"])


@pytest.mark.parametrize("name", ["double", "état"])
def test_a_net_whose_name_is_none_in_c_includes_its_header(name: str) -> None:
    def named(x=Input(2, 3), *, W=Param(4, 3)):  # type: ignore[no-untyped-def]
        return linear(x, W)

    named.__name__ = name
    net = lstmc.compile(model(named), backend="c")
    assert f'#include "{name}.h"' in net.artifact.files[f"{name}.c"].decode()
    assert net.verify(on=["c-cpu"])


def test_a_state_that_nothing_uses(tmp_path: Path) -> None:
    @cell
    def idle(x=Input(N, D), h=State(N, 2)):
        return tanh(x), {"h": h}

    @model
    def unread(X=Input(T, N, 3)):
        return scan(idle(), X)[0]

    net = lstmc.compile(unread, backend="c", T=2, N=1)
    assert net.verify(on=["c-cpu"])
    compiled_object(tmp_path, net)


@cell
def leaky(x=Input(N, D), h=State(N, H, fill=constant(1)), *, W=Param(H, D), U=Param(H, H), b=Param(H)):
    h = tanh(linear(x, W, b) + linear(h, U)) + 0.5 * h
    return h, {"h": h}


@model
def int_state(X=Input(T, N, 3), first=Input(N, 4)):
    """Names that are words of C, or of what is generated; a state that starts at ones, and one at an input."""
    y, _ = scan(leaky(H=4, name="double"), X)
    z, _ = scan(leaky(H=4, name="memory"), y, init={"h": first})
    return {"state": z, "float": y}


@pytest.fixture(scope="module")
def net() -> lstmc.Net:
    return lstmc.compile("gru", backend="c", N=2, D=3, H=20, seed=3)


def compiled_object(folder: Path, net: lstmc.Net, *flags: str) -> Path:
    net.save(folder)
    name = net.compiled.name
    subprocess.run(["gcc", *WARNINGS, "-O2", *flags, "-c", f"{name}.c"], cwd=folder, check=True)
    return folder / f"{name}.o"


def symbol_sizes(path: Path) -> list[tuple[str, int]]:
    """The kind of memory and the bytes of each symbol of an object file."""
    listed = subprocess.run(["nm", "-S", path], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [(kind, int(size, 16)) for _, size, kind, _ in (row for row in rows if len(row) == 4)]


def test_a_net_of_a_cell_is_one_step_without_being_asked_for(net: lstmc.Net) -> None:
    assert list(net.files) == ["gru.c", "gru.h", "gru.manifest.json"]
    assert net.inputs == {"x": (1, 2, 3), "gru/h_in": (2, 20)}
    assert net.verify(on=["c-cpu"])
    x = np.linspace(-1, 1, 30).reshape(5, 1, 2, 3)
    with net.stream() as here, net.stream(on="interpreter") as meant:
        for each in x:
            np.testing.assert_allclose(here(x=each)["y"], meant(x=each)["y"], rtol=1e-5, atol=1e-6)


def test_the_memory_is_what_the_header_states(net: lstmc.Net, tmp_path: Path) -> None:
    header = net.files["gru.h"].decode()
    state, work, weights = map(int, re.findall(r"(\d+) bytes", header))
    path = compiled_object(tmp_path, net)
    (tmp_path / "ram.c").write_text('#include "gru.h"\ngru_state state;\ngru_work work;\n')
    subprocess.run(["gcc", "-c", "ram.c"], cwd=tmp_path, check=True)
    sizes = {file.name: symbol_sizes(file) for file in (path, tmp_path / "ram.o")}
    assert sorted(size for _, size in sizes["ram.o"]) == sorted([state, work])
    assert sum(size for kind, size in sizes["gru.o"] if kind == "r") == weights
    assert not [size for kind, size in sizes["gru.o"] if kind in "bBdD"], "variables that are no constants"
    assert state == 4 * 2 * 20


def test_large_constants_begin_at_cache_lines_where_there_are_vectors(net: lstmc.Net, tmp_path: Path) -> None:
    listed = subprocess.run(["nm", "-S", compiled_object(tmp_path, net)], capture_output=True, text=True, check=True)
    found = [line.split() for line in listed.stdout.splitlines() if "gru_W" in line]
    large = [int(address, 16) for address, size, *_ in found if int(size, 16) >= LARGE]
    assert large
    assert "__SSE__" not in predefined() or not any(address % 64 for address in large)


def predefined() -> str:
    """The macros that gcc has on this machine."""
    return subprocess.run(
        ["gcc", "-dM", "-E", "-x", "c", "-"], input="", capture_output=True, text=True, check=True
    ).stdout


def test_a_net_needs_no_library(net: lstmc.Net, tmp_path: Path) -> None:
    path = compiled_object(tmp_path, net, "-ffreestanding", "-fno-builtin")
    listed = subprocess.run(["nm", "-u", path], capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) <= {"U", "_GLOBAL_OFFSET_TABLE_"}


def test_blocks_and_first_values_of_states(tmp_path: Path) -> None:
    net = lstmc.compile(int_state, backend="c", T=4, N=1)
    net.save(tmp_path)
    assert net.verify(on=["c-cpu"])
    header = net.files["int_state.h"].decode()
    assert "Then set memory_h: where it starts is no number." in header
    (tmp_path / "main.cpp").write_text(
        """
        #include "int_state.h"
        #include <cstdio>
        int main() {
          static int_state_state a, b;
          int_state_work work;
          float x[12], one[2][4][4], all[2][4][4];
          for (int i = 0; i < 12; ++i) x[i] = 0.1f * (float)i;
          int_state_reset(&a);
          int_state_reset(&b);
          for (int t = 0; t < 4; ++t) int_state_step(&a, &work, x + 3 * t, one[0][t], one[1][t]);
          int_state_block(&b, &work, 4, x, all[0][0], all[1][0]);
          for (int i = 0; i < 32; ++i) if ((&one[0][0][0])[i] != (&all[0][0][0])[i]) return 1;
          std::printf("%.9g", (double)a.memory_h[0]);
        }
        """
    )
    subprocess.run(["gcc", *WARNINGS, "-c", "int_state.c"], cwd=tmp_path, check=True)
    subprocess.run(["g++", "main.cpp", "int_state.o", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    with net.stream(on="interpreter") as step:
        step.start({"memory/h": np.zeros((1, 4))})
        for t in range(4):
            y = step(X=np.arange(3 * t, 3 * t + 3).reshape(1, 1, 3) * 0.1)
    assert float(printed) == pytest.approx(y["state"].ravel()[0], abs=1e-5)


@pytest.mark.parametrize("weights", ["source", "file"])
@pytest.mark.parametrize("numbers", ["float32", "c-fp16-weights", "c-int8-weights"])
def test_weights_in_other_numbers_and_in_a_file(numbers: str, weights: str, tmp_path: Path) -> None:
    """A table, a convolution and products; the numbers agree with the interpreter's, and move outputs as stated."""

    @model
    def words(
        X=Input(T, N, values=integers(0, 4)),
        image=Input(N, 2, 4, 4),
        *,
        table=Param(5, 3),
        K=Param(3, 2, 2, 2),
        W=Param(33, 27),
    ):
        y, _ = scan(leaky(H=40), embed(X, table))
        return {"y": y, "features": linear(conv(image, K), W)}

    backend = CBackend().with_options({"numbers": numbers, "weights": weights})
    shapes = {name: array.shape for name, array in lstmc.compile(words, backend="c", T=2, N=1).weights.items()}
    rng = np.random.default_rng(2)
    weights_by_name = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    net = lstmc.compile(words, backend=backend, T=2, N=1, weights=weights_by_name)
    verification = net.verify(on=["c-cpu"])
    assert verification, verification
    moved = {each.name: each for each in verification.reports[0].differences if each.kind == "numbers"}
    assert moved.keys() == (set() if numbers == "float32" else {"y", "features", "leaky/h_out"})
    assert all(1e-5 < each.relative < each.tolerance for each in moved.values())
    header = net.files["words.h"].decode()
    stated = int(re.findall(r"flash: (\d+) bytes", header)[0])
    element = {"float32": 4, "c-fp16-weights": 2, "c-int8-weights": 1}[numbers]
    matrices = [5 * 3, 3 * 2 * 2 * 2, 40 * 3, 40 * 40, 33 * 27]
    scales = 4 * (5 + 3 + 40 + 40 + 33) if element == 1 else 0
    arrays = element * sum(matrices) + scales + 4 * 40
    if weights == "source":
        assert stated == arrays
    else:
        assert stated == arrays + -arrays % 4 + 8 == len(net.files["words.bin"])
    path = compiled_object(tmp_path, net)
    constants = sum(size for kind, size in symbol_sizes(path) if kind == "r")
    places = 4 * 2 * 2 * 2  # which the convolution reads
    assert constants == (arrays if weights == "source" else 0) + places


@pytest.mark.parametrize("numbers", ["float32", "c-fp16-weights", "c-int8-weights"])
def test_what_depends_on_no_input_is_a_constant_of_the_net(numbers: str) -> None:
    """A product of constants is exact, in the interpreter and in C, whatever the numbers of matrices are."""

    @model
    def constants(x=Input(2, 3), *, W=Param(4, 3), V=Param(5, 4), U=Param(1, 3)):
        of_numbers = linear(tanh(linear(tanh(full((2, 3), 0.3)), W)), V)  # of numbers and weights
        with_computed = matmul(x, tanh(x).reshape(3, 2)) + linear(x, full((2, 3), 0.1234567))
        return {
            "of_numbers": of_numbers + 0.0 * x[:, :1],
            "with_computed": with_computed,
            "alone": of_numbers + 1.0,
            "added": linear(x, W) + linear(tanh(full((2, 3), 0.3)), W),
            "shifted": tanh(x[:, :1]) + linear(tanh(full((2, 3), 0.3)), U),
        }

    net = lstmc.compile(constants, backend=CBackend(Numbers.of(numbers)))
    assert net.verify(on=["c-cpu"])
    names = re.findall(r"\w+", net.files["constants.c"].decode())
    assert "W" in names
    assert not {"V", "U"} & {*names}  # their products are stored


LAYOUTS = {
    "arduino": [
        "gru/library.properties",
        "gru/src/gru.bin",
        "gru/src/gru.c",
        "gru/src/gru.h",
        "gru/src/gru.manifest.json",
    ],
    "esp-idf": ["gru/CMakeLists.txt", "gru/gru.bin", "gru/gru.c", "gru/gru.h", "gru/gru.manifest.json"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_folders_of_a_layout_build_and_run(layout: str, tmp_path: Path) -> None:
    backend = CBackend().with_options({"layout": layout, "weights": "file"})
    net = lstmc.compile("gru", backend=backend, N=1, D=3, H=4)
    net.save(tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == LAYOUTS[layout]
    assert net.verify(on=["c-cpu"])
    arrays = {"x": np.ones((1, 1, 3)), "gru/h_in": np.ones((1, 4))}
    found = lstmc.load(tmp_path / net.artifact.net).run(arrays)["y"]
    np.testing.assert_allclose(found, net.run(arrays, on="interpreter")["y"], rtol=1e-5)
    if layout == "arduino":
        properties = dict(line.split("=", 1) for line in (tmp_path / "gru/library.properties").read_text().splitlines())
        required = {
            "name",
            "version",
            "author",
            "maintainer",
            "sentence",
            "paragraph",
            "category",
            "url",
            "architectures",
        }
        assert required <= properties.keys()
        assert (tmp_path / "gru/src" / properties["includes"]).is_file()
        assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])
    else:
        called = re.findall(r'"(.+?)"', (tmp_path / "gru/CMakeLists.txt").read_text())
        assert [(tmp_path / "gru" / name).exists() for name in called] == [True, True]
    with pytest.raises(BackendError, match="layout=zephyr: expected files, arduino, esp-idf"):
        backend.with_options({"layout": "zephyr"})


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, Array], lstmc.Net, Path]:
    """Data, a net in float32, and its ranges in a file."""
    data = {"x": np.random.default_rng(0).normal(size=(60, 3, 3))}
    net = lstmc.compile("lstm", backend="c", N=1, D=3, H=7, seed=1)
    path = Path(tempfile.mkdtemp()) / "ranges.json"
    path.write_text(json.dumps(net.ranges(data).as_json()))
    return data, net, path


@pytest.mark.parametrize(("numbers", "most"), [("c-a16w8", 1e-2), ("c-a8w8", 1e-1)])
def test_a_net_in_integers_streams(
    numbers: str, most: float, measured: tuple[dict[str, Array], lstmc.Net, Path], tmp_path: Path
) -> None:
    data, net, ranges = measured
    backend = CBackend().with_options({"numbers": numbers, "ranges": str(ranges), "weights": "file"})
    integers = lstmc.compile("lstm", backend=backend, N=1, D=3, H=7, weights=dict(net.weights))
    errors = []
    with net.stream() as exact, integers.stream() as step:
        for x in data["x"]:
            errors.append(abs(step(x=x[None, :1])["y"] - exact(x=x[None, :1])["y"]).max())
    assert 1e-5 < max(errors) < most
    header = integers.files["lstm.h"].decode()
    stated = [int(size) for size in re.findall(r"(\d+) bytes", header)][:3]
    compiled_object(tmp_path, integers)
    (tmp_path / "ram.c").write_text('#include "lstm.h"\nlstm_state state;\nlstm_work work;\nlstm_weights weights;\n')
    subprocess.run(["gcc", "-c", "ram.c"], cwd=tmp_path, check=True)
    assert sorted(stated) == sorted(size for _, size in symbol_sizes(tmp_path / "ram.o"))
    assert stated[0] == 2 * 2 * 7


@cell
def unit(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H)):
    h = tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}


@model(states={"s": "s_next"})
def bands(x=Input(5, 1, 3), s=Input(1, 4)):
    y, last = scan(unit(H=4), x, init={"h": s})
    return {"y": y, "s_next": last["h"]}


def test_of_loops_in_loops_the_inner_ones_are_loops(tmp_path: Path) -> None:
    """Two equal scans in the body of a scan, which are lanes of one loop."""
    inside = next(node.op for node in deploy_graph(bands.graph()) if isinstance(node.op, Scan))
    outer, whole, arguments, given = Builder("outer"), Builder("nested"), [], []
    for node in inside.body.body_args():
        op, name = node.op, node.name.replace("/", "_")
        is_x, shape = op.role == "x", node.types[0].shape
        arguments += outer.add(replace(op, shape=(3, *shape) if is_x else shape), names=(f"{name}_of_outer",))
        fed = ParamOp(shape) if op.role == "weight" else InputOp((4, 3, *shape) if is_x else shape)
        given += whole.add(fed, names=(f"{name}_fed",))
    (y, h), (z, g) = (outer.add(replace(inside, length=3, reverse=reverse), *arguments) for reverse in (False, True))
    (y,), (h,) = outer.add(Add(), y, z), outer.add(Add(), h, g)
    body = outer.finish([Output("y", y), Output("h_of_outer", h)])
    y, h = whole.add(Scan(body, 4, inside=True), *given)
    graph = whole.finish([Output("y", y), Output("h", h)])
    net = Net.of(compile_graph(graph, WholeBackend()), random_weights(graph, 1), "nested")
    assert "product_of_lanes" in net.artifact.files["nested.c"].decode()
    build(tmp_path, [net])
    run(tmp_path, [net])
    assert not wrong(net)


def test_a_scan_inside_a_step_in_integers_has_the_ranges_of_each_turn(tmp_path: Path) -> None:
    net = lstmc.compile(bands, backend="c", seed=1)
    path = tmp_path / "ranges.json"
    ranges = net.ranges({"x": np.random.default_rng(0).normal(size=(30, 5, 1, 3))})
    path.write_text(json.dumps(ranges.as_json()))
    assert {f"unit/t{turn:03}/linear_U" for turn in range(5)} <= {each.name for each in ranges}
    backend = CBackend().with_options({"numbers": "c-a8w8", "ranges": str(path)})
    integers = lstmc.compile(bands, backend=backend, weights=dict(net.weights))
    assert net.verify(on=["c-cpu"])
    assert integers.verify(on=["c-cpu"])
    assert "turn < 5" in net.files["bands.c"].decode()
    assert "turn < 5" not in integers.files["bands.c"].decode()


def test_integers_need_the_ranges_of_the_net(
    measured: tuple[dict[str, Array], lstmc.Net, Path], tmp_path: Path
) -> None:
    _, _, ranges = measured
    with pytest.raises(BackendError, match="numbers=c-a8w8: integers need the range of each value: ranges=FILE"):
        CBackend().with_options({"numbers": "c-a8w8"})
    backend = CBackend().with_options({"numbers": "c-a8w8", "ranges": str(ranges)})
    with pytest.raises(BackendError, match="no range of gru/h_in was measured: expected the ranges of this very net"):
        lstmc.compile("gru", backend=backend, N=1, D=3, H=7)
    caffe = lstmc.compile("gru_reset_after", step=True, N=1, D=3, H=7)
    numbers = Numbers.of("c-a8w8", caffe.ranges({"x": np.ones((4, 1, 3))}))
    with pytest.raises(BackendError, match=r"no range of gru_reset_after/t000/.* expected the ranges of this very net"):
        lstmc.compile("gru_reset_after", backend=CBackend(numbers), N=1, D=3, H=7)
    (tmp_path / "other.json").write_text('{"values": [{"name": "x"}]}')
    with pytest.raises(BackendError, match=r"other\.json: no ranges of values: values\[0\]: expected an object"):
        CBackend().with_options({"numbers": "c-a8w8", "ranges": str(tmp_path / "other.json")})


def test_parts_of_a_join_and_constants_have_scales_of_their_own() -> None:
    @cell
    def counted(x=Input(N, 3), h=State(N, 3)):
        h = tanh(x) * 0.01 + h
        return concat([h, x * (3.0 - step_index())], axis=1), {"h": h}

    @model
    def joined(X=Input(T, N, 3)):
        return scan(counted(), X)[0]

    data = {"X": np.random.default_rng(0).normal(size=(4, 2, 3))}
    ranges = lstmc.compile(joined, backend="c", T=4, N=1).ranges(data)
    assert ranges["counted/t000/h"].magnitude < 0.1
    for numbers in ("c-a8w8", "c-a16w8"):
        net = lstmc.compile(joined, backend=CBackend(Numbers.of(numbers, ranges)), T=4, N=1)
        assert net.verify(on=["c-cpu"])

    @model
    def constant_output(X=Input(1, 3), *, b=Param(3)):
        return {"y": X + b, "b": b}

    with pytest.raises(BackendError, match="output b depends on no input: a step in integers has no such output"):
        lstmc.compile(constant_output, backend=CBackend(Numbers.of("c-a8w8", {"X": (-1, 1), "y": (-1, 1)})))


def test_softmax_in_integers_is_near_softmax(tmp_path: Path) -> None:
    """Along the last axis and another one; of values that are far from each other too."""

    @model
    def both(x=Input(3, 40)):
        return {"last": softmax(x, axis=1), "first": softmax(x * 0.1, axis=0)}

    x = np.random.default_rng(1).normal(size=(3, 40)) * [[0.1], [1.0], [9.0]]
    exact = lstmc.compile(both, backend="c").run(x=x)
    values = {"x": x, "affine_x": x * 0.1, **exact}
    limits = {name: (float(array.min()), float(array.max())) for name, array in values.items()}
    for numbers, most in (("c-a16w8", 2e-4), ("c-a8w8", 0.05)):
        net = lstmc.compile(both, backend=CBackend(Numbers.of(numbers, limits)))
        assert net.verify(on=["c-cpu"])
        found = net.run(x=x, on="c-cpu")
        for name, array in exact.items():
            assert relative_gap(found[name], array) < most, (numbers, name)


def test_a_state_in_integers_that_becomes_a_parameter_is_refused() -> None:
    @cell
    def forgetting(x=Input(1, D), h=State(1, D), *, b=Param(1, D, fill=constant(0.5))):
        return x + h, {"h": b}

    exact = lstmc.compile(forgetting, backend="c", D=3, outputs=["y"])
    numbers = Numbers.of("c-a16w8", exact.ranges({"x": np.ones((4, 1, 3))}))
    with pytest.raises(BackendError, match=r"output .* depends on no input"):
        lstmc.compile(forgetting, backend=CBackend(numbers), D=3, outputs=["y"])


def test_sums_that_32_bits_do_not_hold_are_refused() -> None:
    @model
    def wide(X=Input(1, 600), *, W=Param(2, 600)):
        return {"y": linear(X, W)}

    limits = {"X": (-1.0, 1.0), "y": (-600.0, 600.0)}
    weights = {"W": np.ones((2, 600), np.float32)}
    assert lstmc.compile(wide, backend=CBackend(Numbers.of("c-a8w8", limits)), weights=weights).verify(on=["c-cpu"])
    with pytest.raises(BackendError, match="the sums of y may need 33 bits, and have 32"):
        lstmc.compile(wide, backend=CBackend(Numbers.of("c-a16w8", limits)), weights=weights)


def test_a_file_of_weights_is_checked(tmp_path: Path) -> None:
    backend = CBackend(weights_in_file=True)
    one, other, wider = (
        lstmc.compile("gru", backend=backend, N=1, D=3, H=width, seed=seed) for seed, width in ((1, 4), (2, 4), (1, 5))
    )
    for name, net in (("one", one), ("other", other), ("wider", wider)):
        net.save(tmp_path / name)
    assert one.files["gru.c"] == other.files["gru.c"]
    assert one.files["gru.bin"] != other.files["gru.bin"]
    arrays = {"x": np.ones((1, 1, 3)), "gru/h_in": np.ones((1, 4))}
    meant = other.run(arrays, on="interpreter")["y"]
    given = lstmc.load(tmp_path / "one" / "gru.c", weights=tmp_path / "other" / "gru.bin").run(arrays)["y"]
    np.testing.assert_allclose(given, meant, rtol=1e-5)
    damaged = bytearray(one.files["gru.bin"])
    damaged[40] ^= 1
    (tmp_path / "damaged.bin").write_bytes(damaged)
    (tmp_path / "short.bin").write_bytes(one.files["gru.bin"][:-4])
    for path in (tmp_path / "damaged.bin", tmp_path / "short.bin", tmp_path / "wider" / "gru.bin"):
        with pytest.raises(BackendError, match=r"not the weights of gru\.c"):
            lstmc.load(tmp_path / "one" / "gru.c", weights=path).run(arrays)
    with pytest.raises(BackendError, match="weights=flash: expected source or file"):
        backend.with_options({"weights": "flash"})
    with pytest.raises(BackendError, match="numbers=fp16: expected arithmetic in integers"):
        backend.with_options({"numbers": "fp16"})


def test_the_same_model_gives_the_same_bytes(net: lstmc.Net) -> None:
    again = lstmc.compile("gru", backend="c", N=2, D=3, H=20, seed=3)
    assert again.files == net.files


FUNCTIONS = {
    "exp_": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh_": np.tanh,
    "expm1_": np.expm1,
    "log_": np.log,
    "softplus": lambda x: np.logaddexp(x, 0),
    "sqrt_": np.sqrt,
}


def test_functions_are_as_precise_as_they_say(tmp_path: Path) -> None:
    loop = "for (size_t i = 0; i < n; ++i)"
    calls = {name: f"{name}(x[i])" for name in FUNCTIONS} | {"sin": "sine(x[i], 0)", "cos": "sine(x[i], 1)"}
    wrappers = [f"void all_{n}(const float *x, float *y, size_t n) {{ {loop} y[i] = {c}; }}" for n, c in calls.items()]
    source = "\n".join(["#include <stddef.h>", "#include <stdint.h>", *functions().values(), *wrappers])
    (tmp_path / "all.c").write_text(source)
    subprocess.run(["gcc", "-std=c99", "-O2", "-shared", "-fPIC", "all.c", "-o", "all.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "all.so"))
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    common = np.concatenate([rng.normal(size=200_000), 20 * rng.normal(size=200_000)]).astype(np.float32)

    def computed(name: str, x: Array) -> Array:
        y = np.empty_like(x)
        library[f"all_{name}"](x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), len(x))
        return y.astype(np.float64)

    x = np.concatenate([bits, common, np.float32([0, -0.0, np.finfo(np.float32).max, np.inf, -np.inf, np.nan])])
    with np.errstate(all="ignore"):
        for name, meaning in FUNCTIONS.items():
            stated = re.search(r"error (\S+?)[,;\n]", functions()[name])
            assert stated is not None
            y, exact = computed(name, x), meaning(x.astype(np.float64))
            rounded = exact.astype(np.float32)
            assert np.array_equal(np.isnan(y), np.isnan(exact)), name
            assert np.array_equal(np.isinf(y), np.isinf(rounded)), name
            ordinary = np.isfinite(rounded) & (abs(exact) > 2e-38)
            assert np.max(abs(y - exact)[ordinary] / abs(exact)[ordinary]) <= float(stated[1]), name
        assert np.array_equal(computed("tanh_", x[abs(x) > 8.11]), np.sign(x[abs(x) > 8.11]))
        angles = x[abs(x) < 1e6]
        for name in ("sin", "cos"):
            assert np.max(abs(computed(name, angles) - getattr(np, name)(angles.astype(np.float64)))) <= 1e-7


def test_a_model_of_no_step_is_refused_with_its_reason(net: lstmc.Net, tmp_path: Path) -> None:
    @model
    def backwards(X=Input(T, N, 3)):
        return scan(leaky(H=4), X, reverse=True)[0]

    with pytest.raises(PassError, match="leaky runs backwards, so its first step needs the last input"):
        lstmc.compile(backwards, backend="c", T=3, N=1)

    @model
    def trained(X=Input(N, 3), label=Input(N)):
        return {"loss": softmax_loss(X, label)}

    with pytest.raises(BackendError, match="softmax_loss is for training, and C nets are not trained"):
        lstmc.compile(trained, backend="c", phase="train", N=1)
    net.save(tmp_path)
    with pytest.raises(BackendError, match="a net in C has its weights in its source"):
        lstmc.load(tmp_path / "gru.c", weights=tmp_path / "gru.h").run(
            {"x": np.zeros((1, 2, 3)), "gru/h_in": np.zeros((2, 20))}
        )


def test_the_page_s_examples_give_what_they_show() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.REPORT_NDIFF)
    assert found.attempted > 3
    assert found.failed == 0


def test_the_page_s_python_runs_by_cffi(tmp_path: Path) -> None:
    net = lstmc.compile("gru", backend="c", outputs=["y"], N=1, D=32, H=64)
    net.save(tmp_path)
    (block,) = re.findall(r"```python\n(import re.*?)```", PAGE.read_text(), re.DOTALL)
    values = "print(*y)\n"
    again = "x[:] = np.arange(32) / 32\n" + block.splitlines()[-1] + "\n"
    printed = subprocess.run(
        [sys.executable, "-c", block + values + again + values],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with net.stream(on="interpreter") as step:
        meant = [step(x=x.reshape(1, 1, 32))["y"].ravel() for x in (np.zeros(32), np.arange(32) / 32)]
    np.testing.assert_allclose([list(map(float, line.split())) for line in printed.splitlines()], meant, atol=1e-5)


# images, channels, groups, outputs, rows, columns; kernel, stride, padding, dilation
CONVOLUTIONS = [
    (1, 3, 1, 5, 1, 33, (1, 1), (1, 1), (0, 0), (1, 1)),  # products of pixels, not a multiple of 16
    (1, 4, 2, 6, 2, 16, (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 3, 1, 4, 3, 7, (3, 3), (1, 1), (1, 1), (1, 1)),  # fewer than 16 columns
    (1, 2, 1, 9, 3, 50, (2, 5), (1, 2), (0, 2), (1, 1)),
    (1, 6, 3, 6, 7, 40, (3, 3), (1, 1), (2, 3), (2, 3)),
    (1, 5, 5, 5, 4, 37, (3, 3), (1, 2), (2, 1), (2, 1)),  # each channel by itself
    (2, 3, 3, 3, 1, 5, (1, 3), (1, 1), (0, 1), (1, 1)),
    (1, 9, 1, 67, 1, 4, (1, 3), (1, 1), (0, 1), (1, 1)),  # few pixels and many channels, which are vectors
    (1, 6, 3, 60, 1, 23, (1, 3), (1, 1), (0, 1), (1, 1)),  # groups that begin within a panel of 32
    (1, 8, 2, 96, 1, 1, (1, 1), (1, 1), (0, 0), (1, 1)),
    (1, 4, 1, 34, 2, 17, (1, 1), (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("flags", [(), ("-march=native",), ("-U__SSE__",)], ids=["vectors", "widest vectors", "plain"])
def test_convolutions_of_every_form(flags: tuple[str, ...], tmp_path: Path) -> None:
    nets = []
    for at, (n, c, group, outs, rows, columns, kernel, *how) in enumerate(CONVOLUTIONS):
        b = Builder(f"convolution_{at}")
        x, w = (
            b.add(InputOp((n, c, rows, columns)), names=("x",)),
            b.add(ParamOp((outs, c // group, *kernel)), names=("w",)),
        )
        bias = b.add(ParamOp((outs,)), names=("b",)) if at % 2 else ()
        stride, pad, dilation = how
        (y,) = b.add(Conv(stride, pad, dilation, group), *x, *w, *bias, names=("y",))
        graph = b.finish([("y", y)])
        nets.append(Net.of(compile_graph(graph, CBackend()), random_weights(graph), graph.name))
    machine = Machine(("gcc", *SANITIZERS, "-O1", *flags))
    build(tmp_path, nets, machine)
    run(tmp_path, nets, machine)
    for net in nets:
        assert "convolve" in net.artifact.files[f"{net.compiled.name}.c"].decode()
        (y,) = forward(net.compiled.model, net.arrays.inputs, net.weights).outputs.values()
        assert relative_gap(net.manifest.outputs["y"].read(net.results), y) < 1e-5, net.compiled.name
