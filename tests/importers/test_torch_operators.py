"""PyTorch's operators one by one: each that has a handler computes here what it computes in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from operator import getitem
from typing import Any

import pytest
import torch
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)

from lstmc.importers.frontends import torch_complex
from lstmc.importers.frontends.torch_graph import HANDLERS, describe_program
from lstmc.importers.read.torch_program import StoredProgram
from lstmc.ops import Array
from lstmc.ops.frameworks import functions_of
from tests.importers.imported import assert_close, traced
from tests.quick_sample import one_in

DRAW = torch.Generator().manual_seed(0)
KNOWN: list[torch.Tensor] = []


def x(*shape: int) -> torch.Tensor:
    """An input."""
    return torch.randn(shape, generator=DRAW)


def w(*shape: int) -> torch.Tensor:
    """A parameter."""
    return torch.nn.Parameter(torch.randn(shape, generator=DRAW), requires_grad=False)


def positive(*shape: int) -> torch.Tensor:
    return torch.nn.Parameter(w(*shape).abs(), requires_grad=False)


def n(*numbers: int) -> torch.Tensor:
    """Numbers that are known."""
    return known(torch.tensor(numbers))


def known(tensor: torch.Tensor) -> torch.Tensor:
    KNOWN.append(tensor)
    return tensor


def mask(*shape: int) -> torch.Tensor:
    return x(*shape) > 0


def some(*shape: int) -> torch.Tensor:
    """An input of which many elements are equal."""
    return x(*shape).round()


def rnn(kind: str, layers: int = 1, both: bool = False, projected: int = 0, bias: bool = True) -> list[torch.Tensor]:
    """The weights of layers of 3 inputs and 4 units."""
    gates, wide, given = {"lstm": 4, "gru": 3}.get(kind, 1), (projected or 4), []
    for layer in range(layers):
        for _ in range(1 + both):
            given += [w(4 * gates, wide * (1 + both) if layer else 3), w(4 * gates, wide)]
            given += [w(4 * gates), w(4 * gates)] * bias + [w(projected, 4)] * bool(projected)
    return given


X, M = (2, 3, 8), (2, 3, 5, 6)
POSITIVE = ("log", "sqrt", "rsqrt", "log2", "log10", "log1p")
# The arguments of an operator, by its name and overload, at each call.
CALLS: dict[str, list[tuple[Any, ...]]] = {
    **{foreign.name: [(x(*X).abs() if foreign.name in POSITIVE else x(*X),)] for foreign, _ in functions_of("torch")},
    "acosh": [(1 + x(*X).abs(),)],
    "atanh": [(x(*X).tanh(),)],
    "softplus": [(x(*X),), (x(*X), 0.5)],
    "leaky_relu": [(x(*X),), (x(*X), 0.3)],
    "hardtanh": [(x(*X),), (x(*X), -0.5, 0.3)],
    "celu": [(x(*X),), (x(*X), 0.4)],
    "elu": [(x(*X),), (x(*X), 0.4), (x(*X), 0.4, 1.5)],
    "gelu": [(x(*X),), (x(*X), {"approximate": "tanh"})],
    "glu": [(x(*X),), (x(2, 4, 3), 1)],
    "prelu": [(x(2, 3), w(3)), (x(*M), w(3)), (x(*M), w(1))],
    "threshold": [(x(*X), 0.2, 3.0)],
    "pow.Tensor_Scalar": [(x(*X), 2), (x(*X), 3), (x(*X).abs(), 0.5)],
    "pow.Scalar": [(2, x(*X))],
    **{f"{name}.Scalar": [(some(*X), 1)] for name in ("gt", "ge", "lt", "le", "eq", "ne")},
    **{f"{name}.Tensor": [(some(*X), some(*X))] for name in ("gt", "ge", "lt", "le", "eq", "ne")},
    **{f"logical_{name}": [(mask(*X), mask(*X))] for name in ("and", "or", "xor")},
    "logical_not": [(mask(*X),)],
    "where.self": [(mask(*X), x(*X), x(*X)), (mask(3, 1), x(*X), w(8))],
    "where.ScalarSelf": [(mask(*X), 2.0, x(*X))],
    "where.ScalarOther": [(mask(*X), x(*X), 2.0)],
    "where.Scalar": [(mask(*X), 3.0, 2.0)],
    "masked_fill.Scalar": [(x(*X), mask(3, 1), 2.0)],
    "masked_fill.Tensor": [(x(*X), mask(3, 1), known(torch.tensor(2.0)))],
    **{name: [(x(*X), x(3, 1))] for name in ("maximum", "minimum", "max.other", "min.other")},
    "clamp": [(x(*X), -0.5, 0.3), (x(*X), 0.1), (x(*X), None, 0.1), (x(*X), 0.5, -0.5)],
    "clamp.Tensor": [(x(*X), x(3, 1), x(8)), (x(*X), None, x(8))],
    "clamp_min": [(x(*X), 0.2)],
    "clamp_max": [(x(*X), 0.2)],
    **{f"{name}.Tensor": [(x(*X), x(3, 1)), (x(*X), w(8))] for name in ("add", "sub", "mul", "div")},
    **{f"{name}.Scalar": [(x(*X), 3)] for name in ("add", "sub", "mul", "div")},
    "add.Tensor": [(x(*X), x(8), {"alpha": 2}), (x(*X), w(8)), (x(*X), 3, {"alpha": 2})],
    "sub.Tensor": [(x(*X), x(8), {"alpha": 2}), (w(8), x(*X))],
    "add.Scalar": [(x(*X), 3), (x(*X), 3, 2)],
    "sub.Scalar": [(x(*X), 3), (x(*X), 3, 2)],
    "rsub.Scalar": [(x(*X), 3), (x(*X), 3, 2)],
    "div.Tensor_mode": [(4 * x(*X), w(8), {"rounding_mode": mode}) for mode in ("floor", "trunc", None)],
    "transpose.int": [(x(*M), 1, -1), (w(2, 3), 0, 1)],
    "mT": [(x(*X),)],
    "t": [(x(3, 4),), (w(3, 4),), (x(4),)],
    "numpy_T": [(x(3, 4),), (x(4),), (x(2, 3, 4),), (w(2, 3, 4),)],
    "permute": [(x(*M), (2, 0, -1, 1))],
    "movedim.int": [(x(*M), 0, 2), (x(*M), -1, 1)],
    **{name: [(x(*M), (6, -1, 5))] for name in ("view", "reshape", "_unsafe_view")},
    "flatten.using_ints": [(x(*M),), (x(*M), 1), (x(*M), 1, 2)],
    "unflatten.int": [(x(2, 12, 3), 1, (-1, 4)), (x(2, 12), -1, (3, 4))],
    "unsqueeze": [(x(*X), 1), (x(*X), -1)],
    "squeeze.dim": [(x(2, 1, 3, 1), 1), (x(2, 1, 3, 1), 0)],
    "squeeze.dims": [(x(2, 1, 3, 1), (1, 2, -1))],
    "squeeze": [(x(2, 1, 3, 1),)],
    "slice.Tensor": [(x(5, 3), 0, 1), (x(5, 3), 0, -3, -1), (x(3, 5), 1, 0, 5, 2), (x(5, 3),)],
    "narrow": [(x(*X), 2, 3, 4)],
    "flip": [(x(*X), (0, 2))],
    "chunk": [(x(7, 2), 3), (x(2, 8), 3, 1)],
    "split.Tensor": [(x(7, 2), 3), (x(2, 8), 3, 1)],
    "split_with_sizes": [(x(7, 2), (3, 4)), (x(2, 8), (1, 5, 2), -1)],
    "unbind.int": [(x(3, 2),), (x(2, 3), 1)],
    "cat": [([x(2, 3), x(2, 3)[:0], w(1, 3)],), ([x(2, 3), x(2, 1)], -1)],
    "stack": [([x(2, 3), x(2, 3)],), ([x(2, 3), w(2, 3)], -1)],
    "expand": [(x(3, 1), (2, -1, 4)), (w(3, 1), (3, 4)), (x(1, 2), (3, 2))],
    "expand_as": [(x(3, 1), x(2, 3, 4))],
    "repeat": [(x(3, 2), (2, 1, 3)), (x(1, 2), (4, 2))],
    "tile": [(x(3, 2), (2,)), (x(3, 2), (2, 1, 3))],
    "repeat_interleave.self_int": [(x(3, 2), 2), (x(3, 2), 2, 1), (x(3, 2), 3, 0)],
    "upsample_nearest1d.vec": [(x(*X), None, (2.0,)), (x(*X), (24,), None), (x(*X), (11,), None)],
    "upsample_nearest2d.vec": [(x(*M), None, (2.0, 3.0)), (x(*M), (15, 12), None)],
    "index.Tensor": [
        (x(*X), (None, n(2, 0))), (x(*X), (n(1, 0, 0),)), (x(*X), (None, None, n(3, -1))),
        (x(*X), (known(torch.tensor([[0], [1]])), n(2, 1))), (x(*X), (None, torch.tensor([2, -1]))),
        (x(*X), (n(0, 1), torch.tensor([2, -1]))), (x(*X), (n(1, 0), None, n(3, 4))),
        (x(*X), (None, known(torch.tensor([True, False, True])))),
    ],
    "index_select": [(x(*X), 1, n(2, 0)), (x(*X), -1, n(3,)), (x(*X), 1, torch.tensor([2, 0, 0]))],
    "roll": [(x(*X), (1,), (1,)), (x(*X), (2, -3), (0, 2))],
    "unfold": [(x(9), 0, 4, 3), (x(*X), 2, 3, 2), (x(7, 2), 0, 2, 1), (x(2, 7, 3), -2, 3, 4)],
    "pixel_shuffle": [(x(2, 8, 3, 5), 2)],
    "cumsum": [(x(*X), 1), (x(*X), -1)],
    **{name: [(x(*X),), (x(*X), 1), (x(*X), -1, True)] for name in ("argmax", "argmin")},
    "topk": [(x(*X), 1), (x(*X), 1, 1), (x(*X), 1, 1, False), (x(*X), 3), (x(*X), 2, 1, False)],
    "sort": [(x(*X),), (x(*X), 1, True)],
    "median.dim": [(x(*X), 1), (x(*X), 2, True)],
    "kthvalue": [(x(*X), 2), (x(*X), 3, 2, True)],
    **{name: [(x(*X), 1), (x(5), 0)] for name in ("cumprod", "logcumsumexp", "cummax", "cummin")},
    "gather": [
        (x(*X), 1, torch.randint(0, 3, (2, 4, 8))), (x(*X), 2, torch.randint(0, 8, (2, 1, 3))),
        (x(*X), 1, known(torch.randint(0, 3, (2, 1, 8)))), (x(5), 0, torch.tensor([3, 1])),
    ],
    **{
        f"scatter.{kind}": [(x(*X), 1, torch.tensor([[[0], [2]]] * 2).expand(2, 2, 8).contiguous(), source)]
        for kind, source in (("value", 2.0), ("src", x(2, 2, 8)))
    },
    "scatter_add": [
        (x(*X), 1, torch.randint(0, 3, (2, 4, 8)), x(2, 4, 8)),
        (x(*X), -1, known(torch.zeros(2, 3, 1, dtype=int)), x(2, 3, 1)),
    ],
    "index_put": [
        (x(*X), [mask(*X)], known(torch.tensor(0.5))), (x(*X), [None, n(2, 0)], x(2, 8)),
        (x(*X), [None, n(1, 1)], x(2, 2, 8), True),
        (x(*X), [mask(2, 3)], known(torch.tensor(2.0))), (x(*X), [n(1, 1)], known(torch.tensor(2.0))),
    ],
    "im2col": [(x(*M), (2, 3), (1, 1), (0, 1), (2, 1)), (x(*M), (2, 2), (2, 1), (1, 0), (1, 2))],
    "col2im": [
        (x(2, 12, 20), (5, 6), (2, 2), (1, 1), (0, 0), (1, 1)),
        (x(2, 6, 6), (5, 7), (3, 2), (1, 1), (1, 0), (2, 3)),
    ],
    "upsample_linear1d.vec": [(x(*X), (12,), False, None), (x(*X), None, True, (1.5,)), (x(*X), (5,), True, None)],
    "upsample_bilinear2d.vec": [(x(*M), (8, 9), False, None), (x(*M), None, False, (2.0, 0.5))],
    "any": [(mask(*X),), (x(*X),)],
    "any.dim": [(mask(*X), 1), (some(*X), -1, True)],
    "any.dims": [(some(*X), (0, 2), True)],
    "prod": [(x(2, 3),)],
    "prod.dim_int": [(x(*X), 1), (x(*X), -1, True)],
    **{f"{name}.Scalar": [(x(*X), 0.7), (x(*X), -1.5)] for name in ("remainder", "fmod")},
    **{f"{name}.Tensor": [(x(*X), 1 + x(*X).abs())] for name in ("remainder", "fmod")},
    "bitwise_not": [(mask(*X),)],
    **{f"bitwise_{name}.Tensor": [(mask(*X), mask(*X))] for name in ("and", "or", "xor")},
    "hypot": [(x(*X), x(*X))],
    "rrelu_with_noise_functional": [(x(*X), known(torch.zeros(X)), 0.1, 0.3, False)],
    **{f"{name}": [((2, 3),)] for name in ("zeros", "ones")},
    "full": [((2, 3), 1.5)],
    **{f"{name}.dim": [(x(*X), 1), (x(*X), -1, True)] for name in ("max", "min")},
    **{name: [(x(*X),), (x(*X), (0, 2)), (x(*X), (-1,), True)] for name in ("amax", "amin")},
    **{name: [(x(*X),)] for name in ("max", "min", "mean", "sum")},
    **{name: [(x(*X),), (x(*X), False)] for name in ("var", "std")},
    **{f"{name}.dim": [(x(*X), (1,)), (x(*X), (0, 2), False, True)] for name in ("var", "std")},
    **{
        f"{name}.correction": [(x(*X),), (x(*X), (1,)), (x(*X), (-1,), {"correction": 0, "keepdim": True})]
        for name in ("var", "std", "var_mean")
    },
    "logsumexp": [(40 * x(*X), (1,)), (x(*X), (0, -1), True)],
    **{
        name: [(x(*X), (1,)), (x(*X), (0, -1), True), (x(*X), None), (x(*X), 0)]
        for name in ("mean.dim", "sum.dim_IntList")
    },
    "linalg_vector_norm": [(x(*X),), (x(*X), 1, (1,)), (x(*X), 2, (0, -1), True)],
    **{name: [(x(*X), 1), (x(*X), -1)] for name in ("softmax.int", "log_softmax.int")},
    "pad": [
        (x(*X), (1, 2)), (x(*X), (1, 2, 0, 3)), (x(*X), (2, 1), "reflect"), (x(*X), (0, 2), "replicate"),
        (x(*X), (-1, 2, 1, -2)), (x(*X), (1, 0), "constant", 2.5),
    ],
    "constant_pad_nd": [(x(*X), (1, 2)), (x(*X), (1, 2, 0, 3), 0)],
    **{name: [(x(*X),)] for name in ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "detach_")},
    **{f"{name}_like": [(x(*X),)] for name in ("zeros", "ones")},
    "full_like": [(x(*X), 3.0)],
    **{f"new_{name}": [(x(*X), (2, 5))] for name in ("zeros", "ones")},
    "new_full": [(x(*X), (2, 5), 3.0)],
    "arange": [(5,)],
    "arange.start": [(2, 5)],
    "arange.start_step": [(2, 9), (2, 9, 3)],
    "_to_copy": [(x(*X), {"dtype": torch.float64}), (x(*X),)],
    "to.dtype": [(x(*X), torch.float64)],
    "to.device": [(x(*X), "cpu", torch.float64)],
    "linear": [(x(*X), w(4, 8)), (x(3, 8), w(4, 8), w(4)), (x(3, 8), x(4, 8), x(4)), (x(3, 8), x(4, 8))],
    "matmul": [(x(*X), x(2, 8, 4)), (x(*X), w(8, 4)), (w(4, 3), x(*X)), (x(8), x(8, 2)), (x(*X), x(8)), (x(8), x(8))],
    "mm": [(x(2, 3), x(3, 4))],
    "bmm": [(x(*X), x(2, 8, 4))],
    "mv": [(x(2, 3), x(3)), (x(2, 3), w(3)), (w(2, 3), x(3))],
    "dot": [(x(3), x(3))],
    "einsum": [
        ("nab, nbc->nac", [x(*X), x(2, 8, 4)]), ("ab,ab", [x(3, 4), w(3, 4)]),
        ("ij,jk,kl->il", [x(2, 3), x(3, 4), x(4, 5)]),
        ("nab,nc->nb", [x(*X), x(2, 5)]), ("abc,abd->cd", [x(*X), x(2, 3, 4)]), ("ab,cb->ca", [x(1, 3), x(2, 3)]),
        ("ba,bc", [x(3, 4), x(1, 2)]),
    ],
    "scaled_dot_product_attention": [
        (x(2, 4, 3, 4), x(2, 2, 5, 4), x(2, 2, 5, 6), {"enable_gqa": True}),
        (x(2, 3, 4), x(2, 5, 4), x(2, 5, 6), mask(2, 3, 5)),
        (x(2, 3, 4), x(2, 5, 4), x(2, 5, 6)), (x(2, 3, 4), x(2, 3, 4), x(2, 3, 4), None, 0.0, True),
        (x(2, 3, 4), x(2, 5, 4), x(2, 5, 6), {"scale": 0.3}),
        (x(2, 3, 4), x(2, 5, 4), x(2, 5, 6), known(torch.tensor([[True, False, True, True, False]]))),
    ],
    "addmm": [(w(4), x(2, 3), w(3, 4)), (x(4), x(2, 3), x(3, 4)), (w(4), x(2, 3), w(3, 4), {"beta": 2, "alpha": 3})],
    "embedding": [(w(5, 3), torch.tensor([[1, 4], [0, 2]]))],
    "conv1d": [
        (x(2, 3, 8), known(torch.ones(2, 3, 4) / 4)),  # a moving average
        (x(*X), w(4, 3, 3)), (x(*X), w(6, 1, 2), w(6), (2,), (1,), (1,), 3), (x(*X), w(4, 3, 3), None, [1], [2], [2]),
        (x(3, 8), w(4, 3, 3)),
    ],
    "conv1d.padding": [
        (x(*X), w(4, 3, 4), w(4), [1], "same"), (x(*X), w(4, 3, 3), None, [2], "valid"),
        (x(*X), w(4, 3, 3), None, [1], "same", [2]),
    ],
    "conv2d": [
        (x(*M), w(4, 3, 3, 2)), (x(*M), w(6, 1, 2, 3), w(6), (2, 1), (1, 2), (1, 2), 3),
        (x(*M), w(4, 3, 3, 3), None, (1,), (1,)),
        (x(3, 5, 6), w(4, 3, 3, 2)),
    ],
    "conv2d.padding": [
        (x(*M), w(4, 3, 3, 2), w(4), (1, 1), "same"), (x(*M), w(4, 3, 2, 2), None, (2, 1), "valid", (1, 2)),
    ],
    "conv_transpose1d": [
        (x(*X), w(3, 4, 3)), (x(*X), w(3, 2, 4), w(2), (3,), (2,), (1,), 1, (2,)),
        (x(2, 4, 5), w(4, 3, 2), w(6), [2], [0], [0], 2),
    ],
    "conv_transpose2d.input": [
        (x(*M), w(3, 4, 3, 2)), (x(*M), w(3, 2, 4, 3), w(2), (3, 2), (1, 3), (1, 0), 1, (1, 2)),
        (x(2, 4, 3, 3), w(4, 3, 2, 2), w(6), [2], [0], [0], 2),
    ],
    "_weight_norm": [(w(4, 3, 2), w(4, 1, 1)), (w(4, 3), w(1, 3), 1)],
    "_weight_norm_interface": [(w(4, 3, 2), w(4, 1, 1)), (w(3, 4), w(1, 4), 1)],
    "group_norm": [(x(2, 6, 3), 2), (x(2, 6, 3, 4), 3, w(6), w(6), 0.1)],
    "instance_norm": [
        (x(*X), w(3), w(3), None, None, True, 0.1, 0.1, False),
        (x(*X), None, None, w(3), positive(3), False, 0.1, 0.1, False)
    ],
    "rms_norm": [(x(*X), (8,)), (x(*X), (3, 8), w(3, 8), 0.1)],
    "batch_norm": [
        (x(*X), w(3), w(3), w(3), positive(3), False, 0.1, 0.1, False),
        (x(*M), None, None, w(3), positive(3), False, 0.1, 0.1, False),
    ],
    "_native_batch_norm_legit_no_training": [(x(*X), w(3), w(3), w(3), positive(3), 0.1, 0.1)],
    "layer_norm": [(x(*X), (8,)), (x(*X), (3, 8), w(3, 8), w(3, 8), 0.1)],
    "max_pool1d": [(x(*X), (3,)), (x(*X), (3,), (2,), (1,)), (x(*X), (3,), (2,), (1,), (1,), True), (x(3, 8), 2)],
    "max_pool2d": [(x(*M), (3, 2)), (x(*M), (3,), (2,), (1,)), (x(*M), (2, 3), (2, 1), (1, 0), 1, True)],
    "avg_pool1d": [
        (x(*X), (3,)), (x(*X), (3,), (2,), (1,)), (x(*X), (3,), (2,), (1,), True), (x(*X), (3,), (2,),
        (1,), False, False),
    ],
    "avg_pool2d": [(x(*M), (3, 2)), (x(*M), (3,), (2,), (1,)), (x(*M), (2, 3), (2, 1), (1, 0), True, False)],
    "adaptive_avg_pool1d": [(x(*X), (3,)), (x(*X), (8,))],
    "adaptive_avg_pool2d": [(x(*M), (2, 4)), (x(*M), (3, 3))],
    "adaptive_max_pool1d": [(x(*X), (3,))],
    "adaptive_max_pool2d": [(x(*M), (2, 4))],
    "dropout": [(x(*X), 0.3, False), (x(*X), 0.0, True)],
    "feature_dropout": [(x(*X), 0.3, False)],
    "lstm.input": [
        (x(5, 2, 3), [known(torch.zeros(1, 2, 4))] * 2, rnn("lstm"), True, 1, 0.0, False, False, False),
        (x(2, 5, 3), [x(4, 2, 4), w(4, 2, 4)], rnn("lstm", 2, True, bias=False), False, 2, 0.5, False, True, True),
        (x(5, 2, 3), [x(2, 2, 2), x(2, 2, 4)], rnn("lstm", 1, True, 2), True, 1, 0.0, False, True, False),
    ],
    **{
        f"{kind}.input": [
            (x(5, 2, 3), x(1, 2, 4), rnn(kind), True, 1, 0.0, False, False, False),
            (x(2, 5, 3), w(4, 2, 4), rnn(kind, 2, True, bias=False), False, 2, 0.5, False, True, True),
        ]
        for kind in ("gru", "rnn_tanh", "rnn_relu")
    },
    "lstm_cell": [
        (x(2, 3), [x(2, 4), x(2, 4)], *rnn("lstm")),
        (x(2, 3), [x(2, 4), known(torch.zeros(2, 4))], *rnn("lstm", bias=False)),
    ],
    **{
        f"{kind}_cell": [(x(2, 3), x(2, 4), *rnn(kind)), (x(2, 3), x(2, 4), *rnn(kind, bias=False))]
        for kind in ("gru", "rnn_tanh", "rnn_relu")
    },
    "select.int": [(x(*X), 1, 2), (x(*X), -1, -2)],
    "copy": [(x(*X), x(8)), (x(*X), n(3))],
    "select_scatter": [(x(*X), x(2, 8), 1, 2), (x(*X), x(2, 3), -1, -2)],
    "slice_scatter": [
        (x(*X), x(2, 3, 3), 2, 1, 7, 2), (x(*X), x(2, 3, 0), 2, 4, 4),
        (x(*X), x(2, 3, 2), 2, 3, 5), (x(*X), x(2, 2, 8), 1, 1), (x(*X), x(1, 3, 8), 0, None, 1), (x(*X), x(*X)),
    ],
}  # fmt: skip


# What these hold is not defined, or nothing.
UNDEFINED = (
    "empty.memory_format", "empty_like", "new_empty", "_assert_tensor_metadata",
    "_native_batch_norm_legit_functional",  # refused
)  # fmt: skip
# Operators of which only the first result is read.
FIRST = ("aten::cumm", "aten::rrelu", "aten::adaptive_max", "aten::_weight_norm_interface", "aten::_native_batch_norm")


def overload(name: str) -> Any:
    packet, _, kind = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), kind or "default")


class Call:
    """A program of one call: its inputs, and its results in PyTorch."""

    def __init__(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.graph, self.specs = torch.fx.Graph(), list[InputSpec]()
        self.stored, self.inputs = dict[str, torch.Tensor](), dict[str, Array]()
        call = self.graph.call_function(
            target, *torch.fx.node.map_aggregate((tuple(args), dict(kwargs)), self.placeholder)
        )
        call.meta["val"] = found = target(*args, **kwargs)
        results, nodes = [found], [call]
        if not isinstance(found, torch.Tensor):
            results = [*found][: 1 if target.name().startswith(FIRST) else None]
            nodes = [self.graph.call_function(getitem, (call, place)) for place in range(len(results))]
        self.results = {"Y" if len(results) == 1 else f"Y_{at}": one.numpy() for at, one in enumerate(results)}
        self.graph.output(tuple(nodes))
        self.outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=node.name), None) for node in nodes]

    def placeholder(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        node = self.graph.placeholder(f"a{len(self.specs)}")
        node.meta["val"] = value
        kind = InputKind.PARAMETER if isinstance(value, torch.nn.Parameter) else InputKind.CONSTANT_TENSOR
        if kind == InputKind.CONSTANT_TENSOR and not any(value is one for one in KNOWN):
            kind, self.inputs[node.name] = InputKind.USER_INPUT, value.numpy().astype(float)
        else:
            self.stored[node.name] = value
        target = None if kind == InputKind.USER_INPUT else node.name
        self.specs.append(InputSpec(kind, TensorArgument(name=node.name), target))
        return node

    def program(self) -> StoredProgram:
        return StoredProgram(torch, "m", self.graph, ExportGraphSignature(self.specs, self.outputs), self.stored, {})


def test_every_operator_is_in_the_table_and_takes_its_arguments() -> None:
    defined = set()
    for name, handler in HANDLERS.items():
        if name in torch_complex.HANDLERS:
            continue  # complex results: test_torch_programs.py
        library, packet, kind = [*name.split("."), "", ""][:3]
        if library == "aten" and kind in getattr(torch.ops.aten, packet).overloads():  # the table has more
            defined.add(packet if kind == "default" else f"{packet}.{kind}")
            arguments = overload(f"{packet}.{kind}")._schema.arguments
            named = {one.name: None for one in arguments if one.kwarg_only}
            signature(handler).bind(None, *[None] * (len(arguments) - len(named)), **named)
    assert defined == {*CALLS, *UNDEFINED}


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("name", one_in(3, CALLS))
def test_an_operator(name: str) -> None:
    for given in CALLS[name]:
        args, kwargs = (given[:-1], given[-1]) if isinstance(given[-1], dict) else (given, {})
        call = Call(overload(name), args, kwargs)
        made = traced(describe_program(torch, call.program(), name))
        assert_close(made.interpreted(call.inputs), call.results)
