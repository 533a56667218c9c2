"""What the operators of native code are given: other types, layouts, shapes; and gradients that have gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lstmc
import lstmc_torch
import lstmc_torch.loop
from lstmc import Input, Param, State, cell, dims, linear, model, scan, tanh, xavier
from lstmc.cells import gru
from lstmc.errors import DataError, DimError
from lstmc_torch.loop import loop, loop_backward

pytestmark = pytest.mark.caffe  # g++ is there where Caffe is
torch.set_num_threads(1)  # others wait in loops, which costs most on a busy machine
T, N = dims("T N")
SIZES = {"D": 3, "H": 4}
SMALL = {"rtol": 1e-5, "atol": 1e-6}
TYPES = [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.float64]
TYPE_NAMES = [str(kind).partition(".")[2] for kind in TYPES]


@cell
def averaging(x=Input(N, 3), h=State(N, 3)):
    h = 0.5 * h + tanh(x)
    return h, {"h": h}


@model
def averaged(C=Input(T, N), X=Input(T, N, 3)):
    """No parameter says in which type it is computed, and the first input is a mask."""
    y, last = scan(averaging(), X, cont=C)
    return {"y": y, "h": last["h"]}


@model
def carrying(X=Input(T, N, 3)):
    return {"y": scan(gru(H=4), X, carry=True)[0]}


@pytest.mark.parametrize("kind", TYPES, ids=TYPE_NAMES)
@pytest.mark.parametrize("native", [True, False])
def test_masks_of_every_type_in_a_model_without_parameters(kind: torch.dtype, native: bool) -> None:
    mask, x = torch.rand(50, 20) > 0.3, torch.randn(50, 20, 3)
    net = lstmc_torch.module(averaged, native=native)
    found, wanted = net(mask.to(kind), x), net(mask.float(), x)
    for name, value in found.items():
        assert value.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
        torch.testing.assert_close(value.float(), wanted[name], **SMALL)
    if not kind.is_floating_point:
        whole = net(C=mask.to(kind), X=torch.ones(50, 20, 3, dtype=torch.int64))
        torch.testing.assert_close(whole["y"], net(C=mask.float(), X=torch.ones(50, 20, 3))["y"])


@pytest.mark.parametrize("kind", TYPES, ids=TYPE_NAMES)
def test_the_operators_convert_every_type_and_their_gradients_come_back_in_it(kind: torch.dtype) -> None:
    net = lstmc_torch.module("gru", seed=0, **SIZES)
    (name,) = (word for word in net.spec.program.text.split("'") if word.startswith("Fused_"))
    x, weights = (2 * torch.randn(5, 2, 3)).to(kind), list(net.parameters())
    wanted, found = (loop(name, 5, 2, [each], weights) for each in (x.float(), x))
    for one, other in zip(found[:-1], wanted[:-1], strict=True):
        assert torch.equal(one, other)
    given = [torch.ones_like(top).to(kind) for top in found[:-1]]
    back = loop_backward(name, [5, 2], [x], weights, found, given, [True])
    other = loop_backward(name, [5, 2], [x.float()], weights, wanted, [g.float() for g in given], [True])
    assert all(torch.equal(one, two) for one, two in zip(back, other, strict=True))
    if kind.is_floating_point:
        x.requires_grad_()
        tops = lstmc_torch.loop.run(name, 5, 2, [x], weights, lambda *operands: ())
        assert torch.autograd.grad(tops[0].sum(), x)[0].dtype == kind


def negated(x: torch.Tensor) -> torch.Tensor:
    return torch.complex(torch.zeros_like(x), -x).conj().imag  # a view that holds -x


def every_second(x: torch.Tensor) -> torch.Tensor:
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan)
    wide[..., ::2] = x
    return wide[..., ::2]


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "negated": negated,
    "every second": every_second,
    "turned": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "expanded": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_read_as_their_numbers(view: str) -> None:
    net = lstmc_torch.module("gru", seed=0, **SIZES)
    x = VIEWS[view](torch.randn(4, 2, 3))
    assert x.is_neg() == (view == "negated")
    torch.testing.assert_close(net(x)["y"], net(torch.stack(list(x.clone())))["y"])
    given = VIEWS[view](torch.randn(4, 2, 4))
    plain = x.clone().contiguous().requires_grad_()
    (found,) = torch.autograd.grad(net(plain)["y"], plain, given)
    (wanted,) = torch.autograd.grad(net(plain)["y"], plain, given.clone().contiguous())
    torch.testing.assert_close(found, wanted)


def test_what_the_operators_refuse() -> None:
    net = lstmc_torch.module("gru", seed=0, **SIZES)
    (name,) = (word for word in net.spec.program.text.split("'") if word.startswith("Fused_"))
    x, weights = torch.randn(5, 2, 3), [p.detach() for p in net.parameters()]
    huge = torch.zeros(1, 1, 3).expand(2**16, 2**16, 3)
    for bottom, said in (
        (torch.zeros(5, 2, 4), "must be of shapes"),
        (torch.zeros(5), "must have .* axes"),
        (x.to_sparse(), "dense tensors"),
        (x.to(torch.complex64), "real numbers"),
        (huge, "at most 2147483647, found 65536 \\* 65536"),
    ):
        with pytest.raises(DataError, match=said):
            loop(name, 5, 2, [bottom], weights)
    for bad in (weights[:-1], [*weights[:-1], weights[0]]):
        with pytest.raises(DataError, match=r"the weights of Fused_gru.* must be of shapes"):
            loop(name, 5, 2, [x], bad)
    results = loop(name, 5, 2, [x], weights)
    for wrong in (results[:-1], [*results[:-1], results[-1][1:]]):
        with pytest.raises(DataError, match="the results of"):
            loop_backward(name, [5, 2], [x], weights, wrong, results[:-1], [True])
    with pytest.raises(DataError, match="the gradients of"):
        loop_backward(name, [5, 2], [x], weights, results, [r[:1] for r in results[:-1]], [True])
    with pytest.raises(DataError, match="has 1 inputs, found 0 in needed"):
        loop_backward(name, [5, 2], [x], weights, results, results[:-1], [])


@pytest.mark.parametrize("native", [True, False])
def test_carried_states_follow_the_type_and_the_mode_of_the_net(native: bool) -> None:
    net = lstmc_torch.module(carrying, native=native, seed=0, N=2)
    x = torch.randn(6, 2, 3)
    wanted = net(x)["y"]
    net.reset()
    parts = [net.double()(x[:2])["y"].float(), net.float()(x[2:4])["y"], net.double()(x[4:])["y"].float()]
    torch.testing.assert_close(torch.cat(parts), wanted, **SMALL)
    net.float().reset()
    with torch.inference_mode():
        net(x[:2])
    later = net(x[2:])["y"]
    torch.testing.assert_close(later, wanted[2:])
    later.sum().backward()
    net.reset()


def test_a_carried_state_of_another_batch_is_refused() -> None:
    net = lstmc_torch.module(carrying, seed=0)
    net(torch.zeros(2, 3, 3))
    with pytest.raises(DataError) as refused:
        net(torch.zeros(2, 5, 3))
    (note,) = refused.value.notes
    assert note.endswith("must be [N, 4], found [3, 4], carried from the last call: reset() lets it begin anew")
    net.reset()
    net(torch.zeros(2, 5, 3))


def penalised(net: Any, x: torch.Tensor, *others: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of a loss with a penalty on its gradient."""
    x = x.clone().requires_grad_()
    loss = net(x, *others)["y"].square().sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    total = loss + 10 * (gradient.norm() - 1) ** 2
    return list(torch.autograd.grad(total, [x, *net.parameters()], allow_unused=True, materialize_grads=True))


@model
def started(X=Input(T, N, 3), V=Param(4, 3, fill=xavier())):
    """Its first state is computed from its input, which the loop has too."""
    return {"y": scan(gru(H=4), X, init={"h": tanh(linear(lstmc.mean(X, 0), V))})[0]}


@pytest.mark.parametrize("of", ["gru", started], ids=str)
def test_a_gradient_penalty_is_that_of_the_steps(of: Any) -> None:
    sizes: dict[str, Any] = SIZES if of == "gru" else {"T": 5}
    native = lstmc_torch.module(of, seed=1, **sizes)
    plain = lstmc_torch.module(of, native=False, weights=native.lstmc_weights(), **sizes)
    x = torch.randn(5, 2, 3)
    for one, other in zip(penalised(native, x), penalised(plain, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_torch_compile_makes_no_gradients_of_gradients_in_silence() -> None:
    net = lstmc_torch.module("gru", seed=1, **SIZES)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=r"create_graph|double backward"):
        penalised(compiled, torch.randn(5, 2, 3))


@model
def swapped(X=Input(T, N, 3), H=Input(N, 4), C=Input(T, N)):
    y, last = scan(gru(H=4), X, init={"h": H}, cont=C)
    return {"y": y, "h": last["h"], "C": 2 * C}


@pytest.mark.parametrize("sizes", [{}, {"N": 4}, {"T": 4}, {"T": 4, "N": 4}], ids=str)
def test_the_batch_comes_first_also_where_sizes_are_given(sizes: dict[str, int]) -> None:
    time_first = lstmc_torch.module(swapped, seed=0, **sizes)
    other = lstmc_torch.module(swapped, batch_first=True, weights=time_first.lstmc_weights(), **sizes)
    x, h, c = torch.randn(4, 4, 3), torch.randn(4, 4), (torch.rand(4, 4) > 0.5).float()
    wanted, found = time_first(x, h, c), other(x.transpose(0, 1), h, c.T)
    torch.testing.assert_close(found["y"], wanted["y"].transpose(0, 1))
    torch.testing.assert_close(found["C"], wanted["C"].T)
    torch.testing.assert_close(found["h"], wanted["h"])


def test_the_batch_cannot_come_first_where_no_input_has_both_axes() -> None:
    @model
    def told(X=Input(T, 2, 3)):
        return {"y": scan(gru(H=4), X)[0]}

    @model
    def one_size(X=Input(T, N, 3), V=Input(T, 4, 3)):
        return {"y": scan(gru(H=4), X + V)[0]}

    with pytest.raises(DimError) as refused:
        lstmc_torch.module(told, batch_first=True)
    assert refused.value.message.endswith("told has no input [T, N, ...]")
    with pytest.raises(DimError, match="one_size are known at the sizes given alone"):
        lstmc_torch.module(one_size, batch_first=True, N=4)
    assert lstmc_torch.module(one_size, N=4)(X=torch.ones(2, 4, 3), V=torch.ones(2, 4, 3))["y"].shape == (2, 4, 4)
