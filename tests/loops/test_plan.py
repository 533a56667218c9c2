"""The plan of a generated layer as text, its rows, and what is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from lstmc import (
    Input,
    Param,
    State,
    cell,
    conv,
    dims,
    linear,
    max_pool,
    model,
    outer,
    reshape,
    scan,
    sigmoid,
    split,
    sum,
    tanh,
)
from lstmc.dsl import CellModel, Model
from lstmc.errors import BackendError
from lstmc.ir import Graph, Scan
from lstmc.loops.code import (
    BARRIER_SECONDS,
    GPUS,
    LAUNCH_SECONDS,
    StepCost,
    gpu_text,
    layer_code,
    persistent,
    step_cost,
)
from lstmc.loops.index import Index
from lstmc.loops.layer import memory_text, plan_text
from lstmc.loops.loop_code import ELEMENT
from lstmc.loops.memory import Loop, Outer, Place, Product, Task
from lstmc.loops.plan import plan_of
from lstmc.loops.rows import rows_of
from lstmc.ops import Power, Work
from lstmc.pipeline import compile_graph
from lstmc.plugins import library_names
from lstmc_caffe import CaffeBackend
from lstmc_caffe.legalize.fused import FusedScan
from tests.cells import scanned
from tests.loops.small_scans import FIRST_PIECES, residual, square, two_products
from tests.quick_sample import one_in

BACKEND = CaffeBackend()
T, N, D, H = dims("T N D H")


@cell
def plain(x=Input(N, D), h=State(N, H), *, W=Param(H, D), U=Param(H, H), p=Param(H)):
    h = tanh(linear(x, W) + linear(h, U) + p * h)
    return h, {"h": h}


@model
def net(X=Input(T, N, 3)):
    return {"y": scan(plain(H=2), X)[0]}


@model
def backwards(X=Input(T, N, 3)):
    return {"y": scan(plain(H=2), X, reverse=True)[0]}


PLAN = """\
layer plain: N and T are what its bottoms have
  forward, each step: 1 product, 1 loop
  backward, each step: 1 product, 2 loops
  bottom  x [T, N, 3]
  weight  plain_W [2, 3]
  weight  plain_U [2, 2]
  weight  plain_p [2]
  top     y [T, N, 2]
  top     last_h_prev [N, 2]
  buffer  h_prev_kept [T+1, N, 2]: kept for backward
  buffer  d_h_prev_before [N, 2]: from step to step of backward
  buffer  d_h_prev_after [N, 2]: from step to step of backward
  buffer  linear_W [T, N, 2]: all of forward
  buffer  plain_W_panels [96]: all of forward
  buffer  linear_U [N, 2]: a step of forward
  buffer  plain_U_panels [64]: all of forward
  buffer  d_h_3 [T, N, 2]: all of backward
  buffer  d_linear_U_2 [N, 2]: a step of backward
  buffer  plain_U_panels_2 [64]: all of backward
  buffer  d_mul_p_2 [N, 2]: a step of backward
  buffer  plain_W_panels_2 [64]: all of backward
  forward, once for all steps, before:
    product linear_W [T * N, 2] = x [T * N, 3] plain_W [2, 3]^T
  forward, each step:
    product linear_U [N, 2] = h_prev_kept [N, 2] plain_U [2, 2]^T
    loop over [N, 2]
      add_W_U = add(linear_W, linear_U)
      mul_p = mul(plain/p, h_prev)
      add_W_p = add(add_W_U, mul_p)
      h = tanh(add_W_p) -> y, h_prev_kept
  backward, each step:
    loop over [N, 2]
      d_y_2 = add(d_y, d_h_prev)
      d_h = mul(h, h)
      d_h_2 = affine(d_h)
      d_h_3 = mul(d_y_2, d_h_2) -> d_h_3
      d_mul_p = mul(d_h_3, h_prev) -> +d_plain_p
      d_mul_p_2 = mul(d_h_3, plain/p) -> d_mul_p_2
    product d_linear_U_2 [N, 2] = d_h_3 [N, 2] plain_U [2, 2]
    loop over [N, 2]
      d_mul_p_3 = add(d_mul_p_2, d_linear_U_3) -> d_h_prev_after
  backward, once for all steps, after:
    product d_x [T * N, 3] = d_h_3 [T * N, 2] plain_W [2, 3]
  backward, gradients of weights, once for all steps:
    product d_plain_W [2, 3] += d_h_3 [T * N, 2]^T x [T * N, 3]
    product d_plain_U [2, 2] += d_h_3 [T * N, 2]^T h_prev_kept [T * N, 2]
"""


def fused(graph: Graph) -> list[FusedScan]:
    compiled = compile_graph(graph, BACKEND, "caffe-fused")
    return [node.op for node in compiled.expanded if isinstance(node.op, FusedScan)]


@cell
def fading(v=Input(N, D), k=Input(N, H), f=Input(N, 1), C=State(N, D, H)):
    C = tanh(f)[..., None] * C + outer(sigmoid(f) * v, k)
    return sum(C, axis=-1), {"C": C}


def test_what_a_loop_reads_first_is_computed_there() -> None:
    """A state times a factor is not written before the other summand is there: no memory of a step is as large."""
    (op,) = fused(CellModel(fading).graph(T=4, N=3, D=5, H=7))
    plan = plan_of(op, op.initial)
    places = [place for work in plan.forward for place, _ in work.pointers.values()]
    assert {place.array.name for place in places if place.array.size == 35} == {"last_C_prev"}


def test_the_plan_of_a_cell() -> None:
    (op,) = fused(net.graph(T=4, N=3))
    assert op.initial == (0.0,)
    plan = plan_of(op, op.initial)
    assert plan_text(plan) == PLAN
    assert memory_text(plan, 4, 3) == "  buffers at T = 4, N = 3: 1,584 bytes, of which 120 are kept for backward\n"
    few, many = (step_cost(plan, plan.forward, rows) for rows in (3, 65))
    # a product, and a loop of linear_W, linear_U, p, h_prev, y and h; linear_W, h_prev_kept and y are [T, N, 2]
    works = (
        Work(3 * 4, 4 * 6, 4 * (6 + 4 + 6 + 5 * 6 + 2), 2),
        Work(65 * 4, 4 * 130, 4 * (130 + 4 + 130 + 5 * 130 + 2), 2),
    )
    assert few == StepCost(works[0], 4 * 3 * 6, 3, persistent(plan, plan.forward))
    assert many == StepCost(works[1], 4 * 3 * 130, 65, None)
    assert (few.launches_on(GPUS[-1]), many.launches_on(GPUS[-1])) == (0, 2)
    assert many.seconds(GPUS[-1]) == 2 * LAUNCH_SECONDS
    assert gpu_text(plan, 4, 3).splitlines()[1] == (
        "    forward: 0 launches (one kernel has all steps, a block for each row), 192 bytes read and written,"
        " 72 of this step alone, 48 FLOP"
    )
    code = layer_code(plan)
    assert code.type == op.type_name
    assert code.type.startswith("Fused_plain_")
    for text in (code.cpp, code.cu):
        assert text.startswith(f"namespace {code.type} {{\n")
        assert "// layer plain: N and T are what its bottoms have" in text


@pytest.mark.parametrize("made", [net, residual, two_products, square], ids=lambda made: made.name)
def test_a_product_for_a_bottom_alone_is_computed_where_its_gradient_is_wanted(made: Model) -> None:
    (op,) = fused(made.graph(T=4, N=2))
    plan = plan_of(op, op.initial)
    after = [work for work in plan.backward if isinstance(work, Product) and work.when == "after"]
    bottoms = [work.y.array.number for work in after if work.y.array.kind == "bottom_diff"]
    guarded = re.findall(r"if \(call->wanted\[(\d+)\]\)", layer_code(plan).cpp)
    assert [int(number) for number in guarded] == bottoms


def test_large_weights_are_packed_for_more_rows_than_small_ones() -> None:
    """As docs/decisions/0024 has measured it."""
    (op,) = fused(net.graph(T=4, N=3))
    plan = plan_of(op, op.initial)
    (forward, back) = (next(w for w in works if isinstance(w, Product)) for works in (plan.forward, plan.backward))
    sizes = ((2, 3), (512, 512), (513, 512))
    assert [replace(forward, outs=outs, ins=ins).enough for outs, ins in sizes] == [32, 32, 96]
    assert [replace(back, outs=outs, ins=ins).enough for outs, ins in sizes] == [48, 48, 48]


def test_blocks_that_share_the_weights_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", 3)
    (op,) = fused(net.graph(T=4, N=3))
    plan = plan_of(op, op.initial)
    cost = step_cost(plan, plan.forward, 3)
    assert cost.kernel is not None
    # a warp for each of 2 columns of each row; 64 threads, and one column of 2 weights in each of 3 blocks
    assert (cost.kernel.threads, cost.kernel.width, cost.kernel.blocks(GPUS[-1], 3)) == (64, 64, 3)
    assert cost.kernel.block_weights(3) == 2
    assert cost.seconds(GPUS[-1]) == 2 * BARRIER_SECONDS
    assert cost.kernel.blocks(replace(GPUS[-1], shared=4 * (64 + 2)), 3) == 3
    too_small = replace(GPUS[-1], shared=4 * (64 + 2) - 1)
    assert (cost.kernel.blocks(too_small, 3), cost.launches_on(too_small)) == (0, 2)
    monkeypatch.setattr("lstmc.loops.code.GPUS", (too_small,))
    first, *_, last = gpu_text(plan, 4, 3).splitlines()[1:]
    assert first.startswith("    forward: 0 launches (one kernel has all steps, all blocks share the weights), 192")
    assert last.startswith("    H100 SXM: forward 4 us (weights do not fit: 2 launches), backward ")


def test_limits_of_a_kernel_that_has_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    (op,) = fused(net.graph(T=4, N=3))
    plan = plan_of(op, op.initial)
    for rows, fits in ((64, True), (65, False)):
        fixed = replace(plan, rows=replace(plan.rows, fixed=True, batch=rows))
        assert (persistent(fixed, plan.forward) is not None) == fits
        assert (step_cost(plan, plan.forward, rows).kernel is not None) == fits
    for weights, grid in ((4, False), (3, True)):  # U has 4
        monkeypatch.setattr("lstmc.loops.code.PERSISTENT_WEIGHTS", weights)
        kernel = persistent(plan, plan.forward)
        assert kernel is not None
        assert kernel.grid == grid


def test_the_code_is_the_same_for_every_length_and_batch() -> None:
    ((one,), (other,)) = (fused(net.graph(T=steps, N=rows)) for steps, rows in ((4, 3), (9, 5)))
    assert one.type_name == other.type_name
    (turned,) = fused(backwards.graph(T=4, N=3))
    assert turned.type_name != one.type_name


@cell
def mixing(x=Input(N, D), h=State(N, D)):
    """The rows of a batch trade places: no row is alone."""
    h = tanh(x + reshape(reshape(h, 6), 2, 3) + reshape(reshape(h, 3, 2), 2, 3))
    return h, {"h": h}


@model
def mixed(X=Input(T, 2, 3)):
    return {"y": scan(mixing(), X)[0]}


def test_rows_that_depend_on_each_other_are_one_row() -> None:
    scans = [node.op for node in mixed.graph(T=2) if isinstance(node.op, Scan)]
    assert [(rows_of(op).fixed, rows_of(op).batch) for op in scans] == [(True, 2)]
    assert [rows_of(op).fixed for op in fused(net.graph(T=2, N=2))] == [False]


@pytest.mark.parametrize("made", FIRST_PIECES, ids=lambda made: made.name)
def test_a_first_piece_is_written_without_what_follows_it(made: Model) -> None:
    (op,) = fused(made.graph(T=2, N=3))
    plan = plan_of(op, op.initial)
    (y,) = plan.outputs
    written = 0
    for work in plan.forward:
        if isinstance(work, Loop):
            written += sum(work.size for place, writes in work.pointers.values() if writes and place.array == y)
        elif isinstance(work, Product) and work.y.array == y:
            written += work.lead * work.outs
    assert written == y.size


def test_what_is_added_twice_to_a_gradient_is_written_twice() -> None:
    (op,) = fused(square.graph(T=2, N=3))
    plan = plan_of(op, op.initial)
    assert "d_mul_shifted = mul(d_h_3, shifted) -> +d_of_square_p, +d_of_square_p\n" in plan_text(plan)
    assert (
        len([line for work in plan.backward if isinstance(work, Loop) for line in work.lines if "+=" in str(line)]) == 2
    )


@pytest.mark.parametrize("made", [residual, two_products, square], ids=lambda made: made.name)
def test_every_step_writes_the_gradient_of_each_state(made: Model) -> None:
    (op,) = fused(made.graph(T=4, N=2))
    plan = plan_of(op, op.initial)
    written = {place.array for work in plan.backward for place in places_written(work)}
    assert {state.gradient[1] for state in plan.states} <= written


def places_written(work: Task) -> list[Place]:
    if isinstance(work, Loop):
        return [place for place, writes in work.pointers.values() if writes]
    return [work.y]


def test_every_buffer_is_read() -> None:
    (op,) = fused(two_products.graph(T=2, N=3))
    text = plan_text(plan_of(op, op.initial))
    assert "  buffer  d_linear_Q_2 [T, N, 5]: all of backward\n" in text
    assert "nothing reads it" not in text


@cell
def most(x=Input(N, 1, 4, 4), h=State(N, 1, 4, 4)):
    h = tanh(x + max_pool(h, 3, stride=1, pad=1))
    return h, {"h": h}


@pytest.mark.parametrize("exponent", [-5.0, -4.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 2.5])
def test_a_small_whole_power_is_a_product_and_that_of_a_half_a_root(exponent: float) -> None:
    text = ELEMENT[Power](Power(exponent), "x").replace("0f", "0").replace("5f", "5").replace("std::", "math.")
    assert eval(text, {"math": math, "x": 1.7}) == pytest.approx(1.7**exponent, rel=1e-14)
    assert ("pow" in text) == (abs(exponent) in (2.5, 5.0))


def test_what_has_no_code_is_refused() -> None:
    @model
    def refused(X=Input(T, N, 1, 4, 4)):
        return {"y": scan(most(), X)[0]}

    with pytest.raises(BackendError) as caught:
        compile_graph(refused.graph(T=2, N=2), BACKEND, "caffe-fused")
    assert (
        caught.value.message == "the scan most cannot be one generated layer: there is no code for max_pool in a loop"
    )
    assert caught.value.notes == ("target caffe writes it as layers of stock Caffe",)


@cell
def images(x=Input(N, 5, 9, 12), h=State(N, 5, 9, 12), *, U=Param(5, 5, 3, 3)):
    h = tanh(x + conv(h, U, pad=1))
    return h, {"h": h}


def test_a_convolution_of_a_state_of_too_many_elements_is_refused_with_the_limit() -> None:
    @model
    def refused(X=Input(T, N, 5, 9, 12)):
        return {"y": scan(images(), X)[0]}

    with pytest.raises(BackendError) as caught:
        compile_graph(refused.graph(T=2, N=2), BACKEND, "caffe-fused")
    assert caught.value.message == (
        "the scan images cannot be one generated layer: there is no code for conv in a loop, and as a product its"
        " matrix would have 291,600 elements: expected at most 65,536; use smaller images or fewer channels"
    )
    assert caught.value.notes == ("target caffe writes it as layers of stock Caffe",)


@pytest.mark.parametrize("squared", [False, True])
def test_a_matrix_that_is_computed_in_the_loop_is_refused_with_the_way_out(squared: bool) -> None:
    @cell
    def remembering(x=Input(N, D), h=State(N, D), M=State(D, D)):
        h = tanh(x + linear(h, M * M if squared else M))
        return h, {"h": h, "M": 0.5 * M}

    @model
    def refused(X=Input(T, N, 3)):
        return {"y": scan(remembering(), X)[0]}

    with pytest.raises(BackendError) as caught:
        compile_graph(refused.graph(T=2, N=2), BACKEND, "caffe-fused")
    assert caught.value.message == (
        "the scan remembering cannot be one generated layer: there is no code for a product with a matrix that is"
        " computed in the loop"
    )
    assert caught.value.notes == ("write matmul(x, W.T), which takes such a matrix",)


@cell
def showing(x=Input(N, H), c=State(N, H), *, W=Param(2 * H, H)):
    """A piece of the product with x is an output, and x is read beside the product."""
    value, gate = split(linear(x, W), 2)
    c = sigmoid(gate) * c + value
    return {"y": c + x, "value": value}, {"c": c}


@model
def shown(X=Input(T, N, 3)):
    results, _ = scan(showing(), X)
    return results


def test_products_of_inputs_and_of_their_gradients_are_one_for_all_steps_whatever_else_reads_them() -> None:
    (op,) = fused(shown.graph(T=4, N=3))
    plan = plan_of(op, op.initial)
    assert [work.when for work in (*plan.forward, *plan.backward) if isinstance(work, Product)] == ["before", "after"]


# bounds -------------------------------------------------------------------------------------------------------------

Lengths = tuple[int, int]  # T and N


def element(index: Index, j: int) -> int:
    parts = (d.stride * ((j if d.of is None else element(d.of, j)) // d.divisor % d.size) for d in index.digits)
    return index.offset + sum(parts)


@cache
def ends(index: Index, count: int) -> tuple[int, int]:
    """The first and the last element of an array's row that a loop uses."""
    found = [element(index, j) for j in range(count)]
    return min(found), max(found)


def inside(place: Place, rows: int, stride: int, offsets: tuple[int, int], lengths: Lengths) -> bool:
    """Whether all of these elements of each row are in the array, at the first and at the last step."""
    array, (T, N) = place.array, lengths
    step = (N if array.rows else 1) * array.size if array.time or array.window else 0
    return all(
        0 <= (t + place.shift) * step + row * stride + place.offset + offset < array.floats(T, N)
        for t, row, offset in product((0, T - 1), (0, rows - 1), offsets)
    )


def all_inside(work: Task | Outer, lengths: Lengths) -> bool:
    """Whether each address of what ``layer.j2`` and its loops use is inside, computed for some T and N."""
    if isinstance(work, Loop):
        places = [(work.pointers[pointer][0], index) for pointer, index in work.elements_by_count()]
        rows = [lengths[1] if place.array.rows else 1 for place, _ in places]
        return all(
            inside(place, count, place.array.size, ends(index, work.count), lengths)
            for count, (place, index) in zip(rows, places, strict=True)
        )
    if isinstance(work, Product):
        operands, whole = [(work.x, work.ins), (work.y, work.outs)], [(work.w, work.outs * work.ins)]
        whole += [(Place(work.panels), -(-work.outs // 32) * 32 * work.ins), *([(work.b, work.outs)] if work.b else [])]
    else:
        operands, whole = [(work.ct, work.outs), *([(work.x, work.ins)] if work.x else [])], []
        whole += [(work.into, work.outs * work.ins)]
    return all(
        inside(p, lengths[1] * work.lead, p.array.size if work.lead == 1 else width, (0, width - 1), lengths)
        for p, width in operands
    ) and all(inside(place, 1, 0, (0, size - 1), lengths) for place, size in whole)


def damaged(work: Task | Outer) -> Iterator[Task | Outer]:
    """The work with one place, index or size wrong."""

    def moved(place: Place) -> Iterator[Place]:
        yield from (place.moved(1), place.moved(-1), replace(place, shift=place.shift + 1))
        yield replace(place, array=replace(place.array, size=place.array.size - 1))

    if isinstance(work, Loop):
        for name, (place, written) in work.pointers.items():
            yield from (replace(work, pointers=work.pointers | {name: (other, written)}) for other in moved(place))
        for at, (pointer, index) in enumerate(work.elements):
            if index is not None:
                yield replace(work, elements=[*work.elements[:at], (pointer, index + 1), *work.elements[at + 1 :]])
        return
    for name in ("x", "y", "w", "b", "ct", "into"):
        place = getattr(work, name, None)
        yield from (replace(work, **{name: other}) for other in (moved(place) if place else ()))  # type: ignore[arg-type]
    yield from (replace(work, **{name: getattr(work, name) + 1}) for name in ("outs", "ins", "lead"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", one_in(28, sorted(library_names()), 7))
def test_all_work_of_a_plan_is_inside_its_arrays_and_what_is_not_is_found(name: str) -> None:
    found = 0
    for op in fused(scanned.cell_graph(name, (3, 2), states=False)):
        plan = plan_of(op, op.initial)
        lengths = plan.chunk or 3, 1 if plan.rows.fixed else 2
        for work in (*plan.forward, *plan.again, *plan.backward, *plan.outers):
            assert work.inside
            assert all_inside(work, lengths), work
            for wrong in damaged(work):
                found += not wrong.inside
                assert not wrong.inside or all_inside(wrong, lengths), wrong
    assert found > 20
