"""Live modules of PyTorch as exported programs, packed sequences included."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from lstmc.importers.refusal import SourceError
from lstmc.text import brief


def exported(torch: Any, module: Any, examples: Sequence[Any], name: str) -> Any:
    """Return the program of torch.export for a module in evaluation mode. Raises :class:`SourceError` if it fails."""
    if any(isinstance(one, torch.nn.utils.rnn.PackedSequence) for one in examples):
        raise SourceError(
            f"{name}: torch.export takes no packed sequence as an argument",
            notes=["give it the padded sequence and the lengths, and call pack_padded_sequence in its forward"],
        )
    training = module.training
    try:
        with warnings.catch_warnings(), _packed_sequences(torch):
            warnings.simplefilter("ignore")  # warnings of PyTorch's recurrent layers during an export
            return torch.export.export(module.eval(), tuple(examples), strict=False)  # the default from PyTorch 2.7 on
    except Exception as error:  # the module's code may raise any class
        raise SourceError(
            f"{name}: torch.export cannot take it on these arguments: {type(error).__name__}: {brief(error)}",
            notes=["call the module on them first; replace branches on their values by one branch"],
        ) from error
    finally:
        module.train(training)


# The code of the next two functions runs with the globals of torch.nn.utils.rnn, which have these names.
torch: Any = None
PackedSequence: Any = None


def _pack_padded(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
    """Replace ``pack_padded_sequence`` during an export: pack all steps of all sequences, and keep the lengths."""
    lengths = torch.as_tensor(lengths)
    data = torch.ops.lstmc.pack(input, batch_first)
    steps = torch.arange(input.shape[1 if batch_first else 0])
    batch_sizes = (lengths > steps[:, None]).sum(1)
    batch_sizes.lengths = lengths
    return PackedSequence(data, batch_sizes, None, None)


def _pad_packed(
    sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> Any:
    """Replace ``pad_packed_sequence`` during an export: return the padded sequence and the lengths."""
    lengths, axis = sequence.batch_sizes.lengths, 1 if batch_first else 0
    padded = torch.ops.lstmc.pad(sequence.data, lengths, padding_value, batch_first)
    missing = 0 if total_length is None else total_length - padded.shape[axis]
    if missing > 0:
        shape = [missing if place == axis else size for place, size in enumerate(padded.shape)]
        padded = torch.cat([padded, torch.full(shape, padding_value, dtype=padded.dtype)], axis)
    return padded if missing >= 0 else padded.narrow(axis, 0, total_length), lengths


def _forward_packed(torch: Any, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a recurrent layer's ``forward`` that also takes packed sequences; ``plain`` is the layer's own."""

    def forward(self: Any, x: Any, hx: Any = None) -> Any:
        """Return outputs and last states; a packed sequence goes to ``lstmc.recurrent``, by default from zeros."""
        if not isinstance(x, torch.nn.utils.rnn.PackedSequence):
            return plain(self, x, hx)
        lengths, lstm = x.batch_sizes.lengths, self.mode == "LSTM"
        lanes = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: 1 + lstm]
        zeros = [torch.zeros(lanes, len(lengths), size, dtype=x.data.dtype) for size in sizes]
        states = zeros if hx is None else [*hx] if lstm else [hx]
        weights = [weight for lane in self.all_weights for weight in lane]
        settings = self.bias, self.num_layers, self.dropout, self.bidirectional
        y, *last = torch.ops.lstmc.recurrent(self.mode.lower(), x.data, lengths, states, weights, *settings)
        return x._replace(data=y), tuple(last) if lstm else last[0]

    return forward


@cache
def _packed_operators(torch: Any) -> list[Any]:
    """Define and return operators of packed sequences: data are rows of all steps [T N, ...], also past the ends."""
    rnn, define = torch.nn.utils.rnn, torch.library.custom_op

    def pack(x: Any, batch_first: bool) -> Any:
        return (x.transpose(0, 1) if batch_first else x).flatten(0, 1).clone()

    def pad(data: Any, lengths: Any, value: float, batch_first: bool) -> Any:
        """Return packed data as the padded sequence, with ``value`` past the end of each row."""
        x = data.unflatten(0, (-1, len(lengths)))
        there = lengths > torch.arange(len(x))[:, None]
        x = torch.where(there.reshape(*there.shape, *(1,) * (x.dim() - 2)), x, value)
        return (x.transpose(0, 1) if batch_first else x).contiguous()

    def recurrent(mode: str, data: Any, lengths: Any, states: Any, weights: Any, *settings: Any) -> list[Any]:
        """Return PyTorch's outputs and last states; a sequence of length 0 keeps its first states."""
        bias, count, _, both = settings
        x = data.unflatten(0, (-1, len(lengths)))
        some = lengths.clamp(min=1)  # PyTorch has no empty sequences
        packed = rnn.pack_padded_sequence(x, some, enforce_sorted=False)
        first = [state[:, packed.sorted_indices] for state in states]
        run, given = getattr(torch._VF, mode), first if len(first) > 1 else first[0]
        y, *last = run(packed.data, packed.batch_sizes, given, weights, bias, count, 0.0, False, both)
        y, _ = rnn.pad_packed_sequence(packed._replace(data=y), total_length=len(x))
        pairs = zip(last, states, strict=True)
        kept = [torch.where(lengths[:, None] > 0, end[:, packed.unsorted_indices], start) for end, start in pairs]
        return [y.flatten(0, 1), *kept]

    def like(mode: str, data: Any, lengths: Any, states: Any, *settings: Any) -> list[Any]:
        wide = states[0].shape[2] * (2 if settings[-1] else 1)
        return [data.new_empty(len(data), wide), *map(torch.empty_like, states)]

    setting = "bool bias, int count, float dropout, bool both"
    schemas = {
        pack: "(Tensor x, bool batch_first) -> Tensor",
        pad: "(Tensor data, Tensor lengths, float value, bool batch_first) -> Tensor",
        recurrent: f"(str mode, Tensor data, Tensor lengths, Tensor[] states, Tensor[] weights, {setting}) -> Tensor[]",
    }
    operators = [
        define(f"lstmc::{real.__name__}", real, mutates_args=(), schema=schema) for real, schema in schemas.items()
    ]
    for operator, real in zip(operators, schemas, strict=True):
        operator.register_fake(like if real is recurrent else real)
    return operators  # PyTorch drops the definitions with these objects


@contextmanager
def _packed_sequences(torch: Any) -> Iterator[None]:
    """Make PyTorch pack sequences for torch.export, as all steps and lengths; this changes PyTorch for all threads."""
    _packed_operators(torch)
    rnn, layers = torch.nn.utils.rnn, (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN)
    functions = {rnn.pack_padded_sequence: _pack_padded, rnn.pad_packed_sequence: _pad_packed}
    changes = [
        # a decorated function has variables, so its code cannot be replaced: it stays
        *((real, "__code__", own.__code__) for real, own in functions.items() if not real.__code__.co_freevars),
        *((layer, "forward", _forward_packed(torch, layer.forward)) for layer in layers),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for change in changes:
            setattr(*change)
        yield
    finally:
        for own in before:
            setattr(*own)
