"""Cells of the library, and one of docs/write-a-cell.md, as people write them in PyTorch, for comparisons of time.

As a program (``DEVICE CELL T N D H``) it prints JSON: the version of PyTorch, the least seconds of a forward and
backward pass of each way, and why others have none. The device is that of PyTorch: cuda, or cpu to try the program.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

State = list[Tensor]
Step = Callable[[Tensor, State, list[Tensor]], State]
Run = Callable[[Tensor, State, list[Tensor]], Tensor]  # the outputs of all steps
Size = tuple[int, int, int, int]  # T, N, D, H
ROUNDS = 30
TURN = 0.02  # seconds


def gru(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``gru``: p is W_x, b, W_h, U."""
    x_z, x_r, x_n = functional.linear(x, p[0], p[1]).chunk(3, dim=1)
    h_z, h_r = functional.linear(s[0], p[2]).chunk(2, dim=1)
    z, r = torch.sigmoid(x_z + h_z), torch.sigmoid(x_r + h_r)
    n = torch.tanh(x_n + functional.linear(r * s[0], p[3]))
    return [n + z * (s[0] - n)]


def gru_reset_after(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``gru_reset_after``: p is W_x, b_x, W_h, b_h."""
    x_r, x_z, x_n = functional.linear(x, p[0], p[1]).chunk(3, dim=1)
    h_r, h_z, h_n = functional.linear(s[0], p[2], p[3]).chunk(3, dim=1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return [n + z * (s[0] - n)]


def lstm_peephole(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``lstm_peephole``: p is W_x, b, W_h, p_i, p_f, p_o."""
    i, f, o, g = (functional.linear(x, p[0], p[1]) + functional.linear(s[0], p[2])).chunk(4, dim=1)
    c = torch.sigmoid(f + s[1] * p[4]) * s[1] + torch.sigmoid(i + s[1] * p[3]) * torch.tanh(g)
    return [torch.sigmoid(o + c * p[5]) * torch.tanh(c), c]


def lstm_layernorm(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``lstm_layernorm``: p is W_x, gain_x, W_h, gain_h, b, gain_c, b_c."""
    of_x, of_h = functional.linear(x, p[0]), functional.linear(s[0], p[2])
    gates = functional.layer_norm(of_x, of_x.shape[1:], p[1]) + functional.layer_norm(of_h, of_h.shape[1:], p[3])
    i, f, o, g = (gates + p[4]).chunk(4, dim=1)
    c = torch.sigmoid(f) * s[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(functional.layer_norm(c, c.shape[1:], p[5], p[6])), c]


def elman(x: Tensor, s: State, p: list[Tensor]) -> State:
    """The first cell of docs/write-a-cell.md: p is W, U, b."""
    return [torch.tanh(functional.linear(x, p[0], p[2]) + functional.linear(s[0], p[1]))]


def lstm(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``lstm``: p is W_x, b, W_h."""
    i, f, o, g = (functional.linear(x, p[0], p[1]) + functional.linear(s[0], p[2])).chunk(4, dim=1)
    c = torch.sigmoid(f) * s[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def mamba(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``mamba``: p is W_in, w, b, W_r, W_dt, b_dt, W_B, W_C, A_log, skip, W_out; s is the output, then the states."""
    u, z = functional.linear(x, p[0]).chunk(2, dim=1)
    seen = torch.cat([s[1], u[:, None]], dim=1)
    u = functional.silu((seen * p[1]).sum(1) + p[2])
    dt = functional.softplus(functional.linear(functional.linear(u, p[3]), p[4], p[5]))
    written = functional.linear(u, p[6])[:, :, None] * (dt * u)[:, None]
    state = torch.exp(dt[:, None] * -torch.exp(p[8])) * s[2] + written
    y = (functional.linear(u, p[7])[:, :, None] * state).sum(1) + p[9] * u
    return [functional.linear(functional.silu(z) * y, p[10]), seen[:, 1:], state]


def delta_net(x: Tensor, s: State, p: list[Tensor]) -> State:
    """``delta_net``: p is W_q, W_k, W_v, w_beta, b_beta; s is the output, then the state."""
    q, k = functional.silu(functional.linear(x, p[0])), functional.silu(functional.linear(x, p[1]))
    q = q * torch.rsqrt((q * q).sum(1, keepdim=True) + 1e-6)
    k = k * torch.rsqrt((k * k).sum(1, keepdim=True) + 1e-6)
    beta = torch.sigmoid(functional.linear(x, p[3], p[4]))
    v = beta * (functional.linear(x, p[2]) - torch.bmm(s[1], k[:, :, None])[:, :, 0])
    memory = s[1] + v[:, :, None] * k[:, None]
    return [torch.bmm(memory, q[:, :, None])[:, :, 0], memory]


Shapes = tuple[tuple[int, ...], ...]
STATES, KERNEL, RANK = 16, 4, 4  # of mamba: states of a channel, steps of its convolution, the rank of its steps
KEYS = 64  # of delta_net at most: Caffe keeps a few matrices [N, H, KEYS] of each step, 30 GB if KEYS were H = 512


def shapes(name: str, d: int, h: int) -> tuple[Shapes, Shapes]:
    """Return the shapes of the states of a row, and of the parameters, with D features and H units or channels."""
    one, two = ((h,),), ((h,), (h,))
    k = min(h, KEYS)
    return {
        "lstm": (two, ((4 * h, d), (4 * h,), (4 * h, h))),
        "gru": (one, ((3 * h, d), (3 * h,), (2 * h, h), (h, h))),
        "gru_reset_after": (one, ((3 * h, d), (3 * h,), (3 * h, h), (3 * h,))),
        "lstm_peephole": (two, ((4 * h, d), (4 * h,), (4 * h, h), (h,), (h,), (h,))),
        "lstm_layernorm": (two, ((4 * h, d), (4 * h,), (4 * h, h), (4 * h,), (4 * h,), (h,), (h,))),
        "elman": (one, ((h, d), (h, h), (h,))),
        "mamba": (
            ((d,), (KERNEL - 1, h), (STATES, h)),
            (
                *((2 * h, d), (KERNEL, h), (h,), (RANK, h), (h, RANK), (h,)),
                *((STATES, h), (STATES, h), (STATES, h), (h,), (d, h)),
            ),
        ),
        "delta_net": (((h,), (h, k)), ((k, d), (k, d), (h, d), (1, d), (1,))),
    }[name]


CELLS: dict[str, Step] = {
    step.__name__: step for step in (lstm, gru, gru_reset_after, lstm_peephole, lstm_layernorm, elman, mamba, delta_net)
}


def over_time(step: Step, xs: Tensor, states: State, params: list[Tensor]) -> Tensor:
    """The first state of every step."""
    found = []
    for x in xs.unbind():
        states = step(x, states, params)
        found.append(states[0])
    return torch.stack(found)


def ways(name: str) -> Iterator[tuple[str, Run]]:
    """Yield the ways to run a cell over time: eager, scripted, compiled (a step: all steps take minutes), and PyTorch's
    own layer, ``nn``, which is cuDNN's on a GPU."""
    step = CELLS[name]
    yield "eager", lambda xs, states, params: over_time(step, xs, states, params)
    scripted = torch.jit.script(step)
    yield "script", lambda xs, states, params: over_time(scripted, xs, states, params)
    compiled: Any = torch.compile(step)
    yield "compile", lambda xs, states, params: over_time(compiled, xs, states, params)
    if name == "gru_reset_after":
        yield "nn", _own_gru
    if name == "lstm":
        yield "nn", _OwnLstm()


def _own_gru(xs: Tensor, states: State, params: list[Tensor]) -> Tensor:
    gru = torch.gru(xs, states[0][None], [params[0], params[2], params[1], params[3]], True, 1, 0.0, True, False, False)
    return gru[0]


class _OwnLstm:
    """``torch.lstm``, whose gates have another order: with weights of its own, equal to those of the first call."""

    def __init__(self) -> None:
        self._weights: list[Tensor] = []

    def __call__(self, xs: Tensor, states: State, params: list[Tensor]) -> Tensor:
        if not self._weights:
            W_x, b, W_h = (torch.cat([i, f, g, o]) for i, f, o, g in (p.detach().chunk(4) for p in params))
            self._weights = [w.requires_grad_() for w in (W_x, W_h, b, torch.zeros_like(b))]
        first = (states[0][None], states[1][None])
        y: Tensor = torch.lstm(xs, first, self._weights, True, 1, 0.0, True, False, False)[0]
        return y


def operands(name: str, size: Size, device: str) -> tuple[Tensor, State, list[Tensor]]:
    """Return random inputs, the first states and random parameters of a cell."""
    torch.manual_seed(0)
    steps, batch, width, units = size
    of_states, of_params = shapes(name, width, units)
    params = [(0.1 * torch.randn(shape, device=device)).requires_grad_() for shape in of_params]
    states = [torch.zeros(batch, *shape, device=device) for shape in of_states]
    return torch.randn(steps, batch, width, device=device), states, params


def minima(
    runs: Mapping[str, Run], given: tuple[Tensor, State, list[Tensor]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the least seconds of a forward and backward pass of each way, in turns; gradients are those of all
    parameters.

    In a turn a way makes passes for ``TURN`` seconds, as a training would: a single pass after those of others would
    find none of its code in the caches.
    """
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for way, run in runs.items():
            start, passes = clock(), 0
            while (seconds := clock() - start) < TURN:
                run(*given).sum().backward()
                passes += 1
            best[way] = min(best[way], seconds / passes)
    return best


def compared(
    runs: Mapping[str, Run], given: tuple[Tensor, State, list[Tensor]]
) -> tuple[dict[str, Run], dict[str, str]]:
    """Return the ways that run, compiled by then, and why the others do not. Raises AssertionError where two differ."""
    first, able, reasons = None, dict[str, Run](), dict[str, str]()
    for way, run in runs.items():
        try:
            y = run(*given)
            y.sum().backward()
        except Exception as error:  # whatever the compiler of a way says
            reasons[way] = str(error).strip().partition("\n")[0] or type(error).__name__
            continue
        first = y.detach() if first is None else first
        torch.testing.assert_close(y.detach(), first, rtol=1e-3, atol=1e-4)
        able[way] = run
    return able, reasons


def main(device: str, name: str, *size: str) -> None:
    """Measure one cell and print what was found."""
    if device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"reason": f"PyTorch {torch.__version__} has no GPU here"}))
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32, as Caffe computes

    def clock() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    steps, batch, width, units = map(int, size)
    given = operands(name, (steps, batch, width, units), device)
    able, reasons = compared(dict(ways(name)), given)
    found = {"version": torch.__version__, "seconds": minima(able, given, ROUNDS, clock), "reasons": reasons}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
