"""``narrow``: what a target has no layer for is refused with the reason that its file gives."""

from __future__ import annotations

import pytest

from lstmc.errors import BackendError
from lstmc_caffe.targets.target import Target
from tests.backends.lstmc_caffe.rows.graphs import graph_of
from tests.backends.lstmc_caffe.rows.test_narrow import FLAT, NOSLICE, narrowed

# What targets of matrices have no layer for, and the layer that is named. flat has images, and cuts and adds for a sum.
WITHOUT_LAYERS = {
    "embed": ("%z: f32[2,3,4] = embed(%m, %V)", "Embed"),
    "conv": ("%z: f32[2,3,4] = conv(%x, %W)", "Convolution"),
    "max_pool": ("%z: f32[2,2,3] = max_pool(%x, size=(2, 2))", "Pooling"),
    "ave_pool": ("%z: f32[2,2,3] = ave_pool(%x, size=(2, 2))", "Pooling"),
    "sum": ("%z: f32[2,3] = sum(%x, axis=2)", "Reduction"),
    "softmax_loss": ("%z: f32[] = softmax_loss(%x, %m, axis=2)", "SoftmaxWithLoss"),
    "sigmoid_cross_entropy_loss": ("%z: f32[] = sigmoid_cross_entropy_loss(%x, %u)", "SigmoidCrossEntropyLoss"),
    "euclidean_loss": ("%z: f32[] = euclidean_loss(%x, %u)", "EuclideanLoss"),
    "accuracy": ("%z: f32[] = accuracy(%x, %m, axis=2)", "Accuracy"),
}


OF_FLAT = ("conv", "max_pool", "ave_pool", "sum")
REFUSED = [(op, FLAT) for op in WITHOUT_LAYERS if op not in OF_FLAT] + [(op, NOSLICE) for op in WITHOUT_LAYERS]


@pytest.mark.parametrize(("op", "target"), REFUSED, ids=lambda each: each if isinstance(each, str) else each.name)
def test_a_type_that_a_target_lacks_is_refused_with_its_reason(op: str, target: Target) -> None:
    lines, layer = WITHOUT_LAYERS[op]
    leaves = {"x": "f32[2,3,4] = input()", "u": "f32[2,3,4] = input()", "m": "f32[2,3] = input(values=integers(0, 3))"}
    leaves |= {"V": "f32[5,4] = param()", "W": "f32[2,2,1,1] = param()"}
    with pytest.raises(BackendError) as caught:
        narrowed(graph_of(f"{lines}  # net.py:1:0-1:9", leaves=leaves), target)
    (rule,) = [rule for rule in target.restrictions_on(layer) if rule.forbidden]
    message, place, *notes = str(caught.value).splitlines()
    assert message.startswith(f"BackendError: target {target.name} has no {layer} layer, which %")
    assert place == "  net.py:1:1"
    assert notes == [f"  {rule.reason}", f"  documented in: {rule.source}"]


@pytest.mark.parametrize(
    ("lines", "target", "error"),
    [
        (
            "%z: f32[2,3,4] = softmax(%x, axis=1)",
            NOSLICE,
            "target noslice has no Slice layer, which %z needs",
        ),
        (
            "%y, %z: f32[2,3,1], f32[2,3,3] = split(%x, axis=2, sizes=(1, 3))",
            NOSLICE,
            "target noslice has no Slice layer, which %y needs",
        ),
        (
            "%z: f32[4,3,4] = concat(%x, %u, axis=0)",
            NOSLICE,
            "target noslice has no such Concat layer: axis is 0, expected axis 1, which %z needs",
        ),
    ],
)
def test_what_no_layer_can_do_is_refused(lines: str, target: Target, error: str) -> None:
    with pytest.raises(BackendError) as caught:
        narrowed(graph_of(lines), target)
    assert caught.value.message == error
    assert caught.value.notes[0] in {rule.reason for rule in target.rule}
