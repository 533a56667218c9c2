"""Reductions: what they are in NumPy and PyTorch, and the whole text of what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

import lstmc
from lstmc.interp import backward, forward
from tests.dsl.conftest import UserFile, lines
from tests.dsl.test_functions import computed


@pytest.mark.parametrize("axis", [None, 0, -1, 1, (0, 2), [-1, 0], (1,), ()])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var"])
def test_a_reduction_is_numpys(name: str, axis: Any, keepdims: bool) -> None:
    found, (x,) = computed(lambda x: getattr(lstmc, name)(x, axis=axis, keepdims=keepdims) * 1, (3, 4, 2))
    numpys = getattr(np, name)(x, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    np.testing.assert_allclose(found, numpys, rtol=1e-12, atol=1e-15)


def test_max_and_min_of_what_is_no_value_are_pythons() -> None:
    assert (lstmc.max(3, 5), lstmc.min([3, 5]), lstmc.max([], default=2), lstmc.min(3, -5, key=abs)) == (5, 3, 2, 3)


@pytest.mark.parametrize("eps", [1e-5, 0.25])
def test_layer_norm_is_pytorchs(eps: float) -> None:
    found, (x, gain, bias) = computed(lambda x, g, b: lstmc.layer_norm(x, g, b, eps=eps), (3, 4, 5), (5,), (5,))
    wanted = torch.nn.functional.layer_norm(
        *(torch.from_numpy(a) for a in (x,)), (5,), *map(torch.from_numpy, (gain, bias)), eps
    )
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-10)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_layer_norm_is_along_any_axis(axis: int) -> None:
    def normalized(x: Any, gain: Any, mean: Callable[..., Any]) -> Any:
        away = x - mean(x, axis, keepdims=True)
        shape = [1, 1, 1]
        shape[axis] = 4
        return away * (mean(away * away, axis, keepdims=True) + 1e-5) ** -0.5 * gain.reshape(shape)

    found, (x, gain) = computed(lambda x, gain: lstmc.layer_norm(x, gain, axis=axis), (4, 4, 4), (4,))
    np.testing.assert_allclose(found, normalized(x, gain, np.mean), rtol=1e-12)


def test_norms_of_roots_are_pytorchs() -> None:
    found, (x, gain) = computed(lambda x, g: lstmc.rms_norm(x, g, eps=1e-3), (3, 4, 5), (5,))
    wanted = torch.nn.functional.rms_norm(torch.from_numpy(x), (5,), torch.from_numpy(gain), 1e-3).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    found, (x,) = computed(lambda x: lstmc.l2_norm(x, axis=1, eps=1e-12), (3, 4, 5))
    wanted = torch.nn.functional.normalize(torch.from_numpy(x), dim=1).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_log_softmax_is_scipys_of_scores_far_apart_too_with_its_gradient(axis: int) -> None:
    @lstmc.model
    def net(x: Any = lstmc.Input(4, 3, 5)) -> Any:
        return {"y": lstmc.log_softmax(x, axis)}

    x = np.random.default_rng(0).uniform(-200, 200, (4, 3, 5)).astype(np.float32)
    run = forward(net.graph(), {"x": x}, dtype=np.float32)
    np.testing.assert_allclose(run.outputs["y"], special.log_softmax(x.astype(float), axis), rtol=1e-6, atol=1e-6)
    ct = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    wanted = ct - special.softmax(x.astype(float), axis) * ct.sum(axis, keepdims=True)
    np.testing.assert_allclose(backward(run, {"y": ct}).inputs["x"], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 3])
def test_group_norm_is_pytorchs(groups: int) -> None:
    found, (x, gain, bias) = computed(lambda x, g, b: lstmc.group_norm(x, groups, g, b), (4, 6), (6,), (6,))
    wanted = torch.nn.functional.group_norm(
        *(torch.from_numpy(a) for a in (x,)), groups, *map(torch.from_numpy, (gain, bias))
    )
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-12)


def test_heads_are_parts_of_the_last_axis() -> None:
    found, (x,) = computed(lambda x: lstmc.split_heads(x, 3), (2, 6))
    np.testing.assert_array_equal(found, x.reshape(2, 3, 2))
    found, (x,) = computed(lstmc.merge_heads, (2, 3, 2))
    np.testing.assert_array_equal(found, x.reshape(2, 6))


X = "x is X: input [T, N, D], declared at user.py:6"


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        (
            "z = var(X, «axis=3»)",
            "ShapeError: var: axis must be an integer from -3 to 2, found 3: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = mean(X, «'a'»)",
            "ShapeError: mean: axis must be an integer from -3 to 2, found 'a': x is f32[3,2,5]",
            (X,),
        ),
        ("z = sum(X, «axis=(0, -3)»)", "ShapeError: sum: an axis is named once, found (0, -3): x is f32[3,2,5]", ()),
        (
            "z = «max(X, 0)»",
            "DslError: max takes one Value and an axis, or several Values, found a Value, int 0: along an axis it"
            " is max(x, axis=0), of two it is maximum(a, b)",
            (),
        ),
        (
            "z = «min(X, key=abs)»",
            "DslError: min takes one Value and an axis, or several Values, found a Value, key=: along an axis it is"
            " min(x, axis=0), of two it is minimum(a, b)",
            (),
        ),
        ("z = layer_norm(X, «3»)", "DslError: layer_norm takes Values, found int 3", ()),
        ("z = layer_norm(X, None, «3»)", "DslError: layer_norm takes Values, found int 3", ()),
        ("z = rms_norm(X, «eps=0»)", "DslError: rms_norm: eps must be greater than 0, found 0", ()),
        ("z = group_norm(X, 5, «3»)", "DslError: group_norm takes Values, found int 3", ()),
        (
            "z = «split_heads(X, 2)»",
            "ShapeError: split_heads: the last axis of x must have a multiple of heads = 2 elements: x is f32[3,2,5]",
            (X,),
        ),
        ("z = layer_norm(X, «eps=0»)", "DslError: layer_norm: eps must be greater than 0, found 0", ()),
        (
            "z = «layer_norm(X, X[0, 0], axis=1)»",
            "ShapeError: layer_norm: gain must have the 2 elements of axis 1 of x: gain is f32[5], x is f32[3,2,5]",
            ("gain is X[0, 0]: f32[5], made at user.py:7", X),
        ),
    ],
)
def test_what_is_refused_and_where(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    code = f"@model\ndef net(X=Input(T, N, D)):\n    {statement}\n    return {{'z': z}}\n"
    assert user.refused(code) == lines(
        message,
        f"  user.py:7:{start + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )
