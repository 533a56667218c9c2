"""What a target does not have, by layers with blobs of fixed numbers: golden text, the same meaning, real Caffe."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import lstmc
from lstmc.ops import Array, Values
from lstmc.passes import PassResult
from lstmc.testing import assert_same_meaning
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.layout import FixedBlobs, replaced_later
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees
from tests.backends.lstmc_caffe.rows.graphs import graph_of
from tests.backends.lstmc_caffe.rows.test_readers import built

NO_POWER = "tests/backends/lstmc_caffe/targets/files/no_power.toml"
X = "%x: f32[2,3] = caffe.Input()\n"


def fixed(name: str, shape: tuple[int, ...], number: float) -> str:
    return fixed_matrix(name, np.full(shape, number))


def fixed_matrix(name: str, array: Array) -> str:
    values = Values.of(array)
    sizes = ",".join(map(str, array.shape))
    fill = f"values({array.shape}, {values.data!r})"
    return f"%{name}: f32[{sizes}] = param(fill={fill}, lr_mult=0.0, decay_mult=0.0)\n"


@pytest.mark.parametrize("target", ["mnn", "ncnn", "rknn", "x2paddle"])
def test_an_average_that_a_target_does_not_take_is_a_product(target: str) -> None:
    """Caffe counts zeros around; in ncnn channels are beside each other, in MNN a Power is before the product."""

    @lstmc.model
    def net(X: lstmc.Value = lstmc.Input(2, 3, 4, 5)) -> dict[str, lstmc.Value]:
        return {"y": lstmc.ave_pool(X, 2, pad=1)}

    compiled = lstmc.compile(net, target=target)
    assert b'type: "InnerProduct"' in compiled.files["net.prototxt"]
    assert compiled.verify(["interpreter"]).passed


@pytest.mark.parametrize(
    ("target", "op", "size", "replaced"),
    [
        ("rknn", caffe.AvePooling((3, 3), (2, 2)), (2, 3, 16, 32), True),
        ("rknn", caffe.AvePooling((3, 3), (2, 2)), (1, 1, 18, 32), False),
        ("ncnn", caffe.AvePooling((3, 3), pad=(1, 1)), (1, 2, 16, 8), True),
        ("ncnn", caffe.AvePooling((3, 3), pad=(1, 1)), (1, 3, 16, 8), False),  # of one row, with all channels
    ],
)
def test_a_product_in_place_of_an_average_has_so_many_weights_at_most(
    target: str, op: caffe.AvePooling, size: tuple[int, ...], replaced: bool
) -> None:
    assert replaced_later(op, load_target(target), [TensorType(size)]) == replaced


CASES = {
    "a Power by a Scale, numbers once": (
        NO_POWER,
        """%y: f32[2,3] = caffe.Power(%x, scale=-1.0)
        %w: f32[2,3] = caffe.Power(%y, scale=-1.0, shift=1.0)
        %z: f32[2,3] = caffe.Eltwise(%y, %w)""",
        fixed("y/scale", (3,), -1.0)
        + "%y: f32[2,3] = caffe.Scale(%x, %y/scale, learned=True)\n"
        + fixed("w/shift", (3,), 1.0)
        + """%w: f32[2,3] = caffe.ScaleBias(%y, %y/scale, %w/shift)
        %z: f32[2,3] = caffe.Eltwise(%y, %w)""",
        {"power_to_scale": 2},
    ),
    "a whole power by products": (
        NO_POWER,
        "%z: f32[2,3] = caffe.Power(%x, power=6.0)",
        """%z/3/2: f32[2,3] = caffe.Eltwise(%x, %x, operation='PROD')
        %z/3: f32[2,3] = caffe.Eltwise(%z/3/2, %x, operation='PROD')
        %z: f32[2,3] = caffe.Eltwise(%z/3, %z/3, operation='PROD')""",
        {"power_to_product": 3},
    ),
    "a power by LRN": (
        "tpu-mlir",
        "%z: f32[2,3] = caffe.Power(%x, power=-1.0, scale=-1.0, shift=4.0)",
        fixed("z/scale", (3,), -1.0)
        + fixed("z/shift", (3,), 4.0)
        + """%z/inner: f32[2,3] = caffe.ScaleBias(%x, %z/scale, %z/shift)
        %z/image: f32[2,1,1,3] = caffe.Reshape(%z/inner, shape=(2, 1, 1, 3))
        %z/lrn: f32[2,1,1,3] = caffe.LRN(%z/image, beta=1.0, k=0.0)
        %z: f32[2,3] = caffe.Reshape(%z/lrn, shape=(2, 3))""",
        {"power_to_scale": 1, "power_to_lrn": 1},
    ),
    "an even power below 0 by LRN": (
        "acuity",
        "%z: f32[2,3] = caffe.Power(%x, power=-2.0)",
        """%z/2: f32[2,3] = caffe.Eltwise(%x, %x, operation='PROD')
        %z/image: f32[2,1,1,3] = caffe.Reshape(%z/2, shape=(2, 1, 1, 3))
        %z/lrn: f32[2,1,1,3] = caffe.LRN(%z/image, beta=1.0, k=0.0)
        %z: f32[2,3] = caffe.Reshape(%z/lrn, shape=(2, 3))""",
        {"power_to_product": 1, "power_to_lrn": 1},
    ),
    "a root and a product": (
        "acuity",
        """%s: f32[2,3] = caffe.Eltwise(%x, %x, operation='PROD')
        %z: f32[2,3] = caffe.Power(%s, power=1.5)""",
        f"""%s: f32[2,3] = caffe.Eltwise(%x, %x, operation='PROD')
        %z/0.5/image: f32[2,1,1,3] = caffe.Reshape(%s, shape=(2, 1, 1, 3))
        %z/0.5/lrn: f32[2,1,1,3] = caffe.LRN(%z/0.5/image, beta=0.25, k={2.0**-126})
        %z/0.5: f32[2,3] = caffe.Reshape(%z/0.5/lrn, shape=(2, 3))
        %z: f32[2,3] = caffe.Eltwise(%z/0.5, %s, operation='PROD')""",
        {"power_to_product": 1, "power_to_lrn": 1},
    ),
    "a power where Power has none": (
        "x2paddle",
        "%z: f32[2,3] = caffe.Power(%x, power=-1.0, scale=2.0, shift=1.0)",
        """%z/inner: f32[2,3] = caffe.Power(%x, scale=2.0, shift=1.0)
        %z/image: f32[2,1,1,3] = caffe.Reshape(%z/inner, shape=(2, 1, 1, 3))
        %z/lrn: f32[2,1,1,3] = caffe.LRN(%z/image, beta=1.0, k=0.0)
        %z: f32[2,3] = caffe.Reshape(%z/lrn, shape=(2, 3))""",
        {"power_to_lrn": 1},
    ),
    "rounding": (
        NO_POWER,
        "%z: f32[2,3] = caffe.RoundingPower(%x)",
        fixed("z/scale", (3,), 1.0)
        + fixed("z/shift", (3,), 1.5 * 2**23)
        + """%z/shifted: f32[2,3] = caffe.RoundingScale(%x, %z/scale, %z/shift)
        %z: f32[2,3] = caffe.ReLU(%z/shifted)""",
        {"power_to_scale": 1},
    ),
    "a bias of zeros": (
        "x2paddle",
        """%V: f32[4,3] = param()
        %z: f32[2,4] = caffe.InnerProduct(%x, %V, num_output=4)""",
        "%V: f32[4,3] = param()\n"
        + fixed("z/zeros", (4,), 0.0)
        + "%z: f32[2,4] = caffe.InnerProduct(%x, %V, %z/zeros, num_output=4, bias=True)",
        {"bias": 1},
    ),
    "a Scale by a product": (
        "tvm",
        """%p: f32[3] = param()
        %z: f32[2,3] = caffe.Scale(%x, %p, learned=True)""",
        "%p: f32[3] = param()\n"
        + fixed("z/zeros", (3, 3), 0.0)
        + """%z/value: f32[2,3] = caffe.InnerProduct(%x, %z/zeros, %p, num_output=3, bias=True)
        %z: f32[2,3] = caffe.Eltwise(%x, %z/value, operation='PROD')""",
        {"scale_to_product": 1},
    ),
    "an average by a product with its windows": (
        "rknn",
        """%i: f32[1,1,2,3] = caffe.Reshape(%x, shape=(1, 1, 2, 3))
        %z: f32[1,1,1,2] = caffe.AvePooling(%i, size=(2, 2), stride=(2, 2))""",
        """%i: f32[1,1,2,3] = caffe.Reshape(%x, shape=(1, 1, 2, 3))
        %z/elements: f32[1,6] = caffe.Reshape(%i, shape=(1, 6))\n"""
        + fixed_matrix("z/windows", np.array([[0.25, 0.25, 0, 0.25, 0.25, 0], [0, 0, 0.5, 0, 0, 0.5]]))
        + fixed("z/zeros", (2,), 0.0)
        + """%z/means: f32[1,2] = caffe.InnerProduct(%z/elements, %z/windows, %z/zeros, num_output=2, bias=True)
        %z: f32[1,1,1,2] = caffe.Reshape(%z/means, shape=(1, 1, 1, 2))""",
        {"mean_to_product": 1},
    ),
    "a Bias on images by a Scale of ones": (
        "tpu-mlir",
        """%p: f32[3] = param()
        %i: f32[2,3,1,1] = caffe.Reshape(%x, shape=(2, 3, 1, 1))
        %z: f32[2,3,1,1] = caffe.Bias(%i, %p, learned=True)""",
        """%p: f32[3] = param()
        %i: f32[2,3,1,1] = caffe.Reshape(%x, shape=(2, 3, 1, 1))\n"""
        + fixed("z/ones", (3,), 1.0)
        + "%z: f32[2,3,1,1] = caffe.ScaleBias(%i, %z/ones, %p)",
        {"bias_to_scale": 1},
    ),
    "a square of a blob and a copy of it: RKNN ended with a KeyError where a Reshape reads d * d": (
        "rknn",
        "%z: f32[2,3] = caffe.Eltwise(%x, %x, operation='PROD')",
        f"""%z/copy_1: f32[2,3] = caffe.Power(%x, shift={2.0**-126})
        %z: f32[2,3] = caffe.Eltwise(%x, %z/copy_1, operation='PROD')""",
        {"copy": 1},
    ),
    "what two Concats join, reshaped: RKNN joined another blob in its place": (
        "rknn",
        """%r: f32[1,6] = caffe.Reshape(%x, shape=(1, 6))
        %p: f32[1,6] = caffe.Power(%r, scale=2.0)
        %c: f32[2,6] = caffe.Concat(%r, %p, axis=0)
        %d: f32[3,6] = caffe.Concat(%r, %p, %r, axis=0)
        %z: f32[5,6] = caffe.Concat(%c, %d, axis=0)""",
        f"""%r: f32[1,6] = caffe.Reshape(%x, shape=(1, 6))
        %p: f32[1,6] = caffe.Power(%r, scale=2.0)
        %c/copy_0: f32[1,6] = caffe.Power(%r, shift={2.0**-126})
        %c: f32[2,6] = caffe.Concat(%c/copy_0, %p, axis=0)
        %d/copy_0: f32[1,6] = caffe.Power(%r, shift={2.0**-126})
        %d/copy_2: f32[1,6] = caffe.Power(%r, shift={2.0**-126})
        %d: f32[3,6] = caffe.Concat(%d/copy_0, %p, %d/copy_2, axis=0)
        %z: f32[5,6] = caffe.Concat(%c, %d, axis=0)""",
        {"copy": 3},
    ),
    "one number of a Slice, joined with itself in rows and read elsewhere too": (
        "rknn",
        """%a, %b: f32[2,1], f32[2,2] = caffe.Slice(%x, axis=1, sizes=(1, 2))
        %p, %q: f32[1,1], f32[1,1] = caffe.Slice(%a, axis=0, sizes=(1, 1))
        %e: f32[2,1] = caffe.Concat(%p, %p, axis=0)
        %z: f32[3,1] = caffe.Concat(%e, %p, axis=0)""",
        f"""%a, %b: f32[2,1], f32[2,2] = caffe.Slice(%x, axis=1, sizes=(1, 2))
        %p, %q: f32[1,1], f32[1,1] = caffe.Slice(%a, axis=0, sizes=(1, 1))
        %e/copy_0: f32[1,1] = caffe.Power(%p, shift={2.0**-126})
        %e/zeros: f32[1,1] = caffe.Power(%e/copy_0, scale=0.0)
        %e/wide: f32[1,2] = caffe.Concat(%e/copy_0, %e/zeros, axis=1)\n"""
        + fixed("e/both", (2, 2), 1.0)
        + fixed("e/zeros_2", (2,), 0.0)
        + f"""%e/repeated: f32[1,2] = caffe.InnerProduct(%e/wide, %e/both, %e/zeros_2, num_output=2, bias=True)
        %e: f32[2,1] = caffe.Reshape(%e/repeated, shape=(2, 1))
        %z/copy_1: f32[1,1] = caffe.Power(%p, shift={2.0**-126})
        %z: f32[3,1] = caffe.Concat(%e, %z/copy_1, axis=0)""",
        {"copy": 2, "join_to_product": 1},
    ),
    "what a Concat joins of a Slice that is read elsewhere too: RKNN joined another blob in its place": (
        "rknn",
        """%a, %b: f32[1,3], f32[1,3] = caffe.Slice(%x, axis=0, sizes=(1, 1))
        %y: f32[1,3] = caffe.Power(%a, scale=2.0)
        %z: f32[3,3] = caffe.Concat(%b, %a, %y, axis=0)""",
        f"""%a, %b: f32[1,3], f32[1,3] = caffe.Slice(%x, axis=0, sizes=(1, 1))
        %y: f32[1,3] = caffe.Power(%a, scale=2.0)
        %z/copy_1: f32[1,3] = caffe.Power(%a, shift={2.0**-126})
        %z: f32[3,3] = caffe.Concat(%b, %z/copy_1, %y, axis=0)""",
        {"copy": 1},
    ),
    "a Concat of columns with themselves by a product": (
        "rknn",
        "%z: f32[2,6] = caffe.Concat(%x, %x, axis=1)",
        fixed_matrix("z/ones", np.tile(np.eye(3), (2, 1)))
        + fixed("z/zeros", (6,), 0.0)
        + "%z: f32[2,6] = caffe.InnerProduct(%x, %z/ones, %z/zeros, num_output=6, bias=True)",
        {"join_to_product": 1},
    ),
    "a column by a product of it and zeros with ones: of ones and zeros RKNN takes another column": (
        "rknn",
        """%c: f32[6,1] = caffe.Reshape(%x, shape=(6, 1))
        %z: f32[6,2] = caffe.Concat(%c, %c, axis=1)""",
        """%c: f32[6,1] = caffe.Reshape(%x, shape=(6, 1))
        %z/zeros: f32[6,1] = caffe.Power(%c, scale=0.0)
        %z/wide: f32[6,2] = caffe.Concat(%c, %z/zeros, axis=1)\n"""
        + fixed("z/both", (2, 2), 1.0)
        + fixed("z/zeros_2", (2,), 0.0)
        + """%z: f32[6,2] = caffe.InnerProduct(%z/wide, %z/both, %z/zeros_2, num_output=2, bias=True)""",
        {"join_to_product": 1},
    ),
    "a Concat of rows with themselves by a product of all of them": (
        "rknn",
        "%z: f32[4,3] = caffe.Concat(%x, %x, axis=0)",
        fixed_matrix("z/ones", np.tile(np.eye(6), (2, 1)))
        + "%z/row: f32[1,6] = caffe.Reshape(%x, shape=(1, 6))\n"
        + fixed("z/zeros", (12,), 0.0)
        + """%z/repeated: f32[1,12] = caffe.InnerProduct(%z/row, %z/ones, %z/zeros, num_output=12, bias=True)
        %z: f32[4,3] = caffe.Reshape(%z/repeated, shape=(4, 3))""",
        {"join_to_product": 1},
    ),
}


@pytest.mark.parametrize(("target", "before", "after", "counts"), CASES.values(), ids=CASES)
def test_what_is_written(target: str, before: str, after: str, counts: dict[str, int]) -> None:
    graph, pass_ = graph_of(X + before), FixedBlobs(load_target(target))
    outcome = pass_.run(graph)
    assert outcome.graph == graph_of(X + after)
    assert (outcome.modified, outcome.counts) == (True, counts)
    assert_same_meaning(graph, outcome.graph)
    assert pass_.run(outcome.graph) == PassResult(outcome.graph, False, {})


@pytest.mark.parametrize("target", [NO_POWER, "acuity", "rknn", "tpu-mlir", "x2paddle"])
def test_any_power_means_the_same(target: str) -> None:
    for power, scale, shift in product((-2.0, -1.0, 1.0, 2.0, 3.0), (-1.5, 1.0, 2.0), (0.0, 0.5, 1.0)):
        graph = graph_of(X + f"%z: f32[2,3] = caffe.Power(%x, power={power}, scale={scale}, shift={shift})")
        outcome = FixedBlobs(load_target(target)).run(graph)
        assert outcome.modified or outcome.graph == graph
        assert_same_meaning(graph, outcome.graph)


def test_nothing_is_written_anew_where_the_target_has_it() -> None:
    graph = graph_of(X + "%z: f32[2,3] = caffe.Power(%x, scale=-1.0)")
    assert FixedBlobs(load_target("flat")).run(graph) == PassResult(graph, False)


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("name", "target"),
    [
        *(("gru", NO_POWER), ("masked", NO_POWER), ("lstm_peephole", "tvm"), ("stacked", "x2paddle")),
        *(("delta_net", "tpu-mlir"), ("slstm", "acuity")),  # powers by LRN
    ],
)
def test_real_caffe_agrees(caffe: Runner, name: str, target: str) -> None:
    assert_caffe_agrees(caffe, built(name, target)[0])


def test_one_number_is_joined_with_itself() -> None:
    graph = graph_of("%x: f32[1,1] = caffe.Input()\n%z: f32[1,2] = caffe.Concat(%x, %x, axis=1)")
    assert FixedBlobs(load_target("rknn")).run(graph) == PassResult(graph, False)
