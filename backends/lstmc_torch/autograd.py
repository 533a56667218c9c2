"""Loops of native code as functions of autograd. Written programs that build their own operators contain this text
too."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Steps = Callable[..., Tensor | tuple[Tensor, ...]]  # of bottoms and weights, one after the other: the tops


def ready(tensor: Tensor) -> Tensor:
    """Return a tensor as native code reads it: float32, contiguous, with the sign applied."""
    if tensor.dtype is torch.float32 and tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    return tensor.to(torch.float32).resolve_neg().contiguous()


class NativeLoop(torch.autograd.Function):
    """A loop by ``operators``, which have the signatures of ``torch.ops.lstmc``, and its gradients.

    Gradients that have gradients themselves, as with create_graph=True, are computed by ``steps``: in PyTorch.
    """

    @staticmethod
    def forward(
        ctx: Any, operators: Any, kind: str, sizes: tuple[int, int], count: int, steps: Steps, *operands: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the loop, and save its operands and results for the backward pass. Return all results but the last, which
        only the backward pass reads."""
        results = operators.loop(kind, *sizes, operands[:count], operands[count:])
        ctx.operators, ctx.kind, ctx.sizes, ctx.counts, ctx.steps = (
            operators,
            kind,
            sizes,
            (count, len(operands)),
            steps,
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands, *results)
        return tuple(results[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        """Return the gradient of each argument of ``forward``, None where none is needed. A gradient that is None on
        entry counts as zeros."""
        (count, end), saved, needed = ctx.counts, ctx.saved_tensors, ctx.needs_input_grad[5:]
        if torch.is_grad_enabled():
            return (None,) * 5 + gradients_by_steps(ctx.steps, saved[:end], gradients, needed)
        given = [torch.zeros_like(top) if g is None else g for top, g in zip(saved[end:-1], gradients, strict=True)]
        computed = ctx.operators.loop_backward(
            ctx.kind, ctx.sizes, saved[:count], saved[count:end], saved[end:], given, needed[:count]
        )
        return (None,) * 5 + tuple(g if need else None for g, need in zip(computed, needed, strict=True))


def gradients_by_steps(
    steps: Steps, operands: Sequence[Tensor], gradients: Sequence[Tensor | None], needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of those operands that need one, as functions of all operands and ``gradients``."""
    own = [operand.view_as(operand) for operand in operands]  # as one may be computed from another one
    with torch.autocast(own[0].device.type, enabled=False):
        tops = steps(*own)
    tops = (tops,) if isinstance(tops, Tensor) else tops
    roots = [(top, g) for top, g in zip(tops, gradients, strict=True) if g is not None and top.requires_grad]
    if not roots:
        return (None,) * len(own)
    wanted = [operand for operand, need in zip(own, needed, strict=True) if need]
    listed, given = zip(*roots, strict=True)
    found = iter(torch.autograd.grad(listed, wanted, given, create_graph=True, allow_unused=True))
    return tuple(next(found) if need else None for need in needed)


def run_native(
    operators: Any, kind: str, steps: int, rows: int, bottoms: list[Tensor], weights: list[Tensor], plain: Steps
) -> tuple[Tensor, ...]:
    """Return the tops of the loop ``kind``, which ``plain`` computes in PyTorch. ``steps`` and ``rows`` are T and N, if
    no bottom has these axes."""
    operands = map(ready, (*bottoms, *weights))
    tops: tuple[Tensor, ...] = NativeLoop.apply(operators, kind, (steps, rows), len(bottoms), plain, *operands)
    return tops
