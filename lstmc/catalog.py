"""The list of library cells: a group, a year and a title for each of lstmc's own. To read it imports no cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lstmc.plugins import offered

CELLS = "lstmc.cells"  # the group of entry points


class Entry(NamedTuple):
    """A line of the list of cells: the year of the publication, and what the cell is, in a few words."""

    year: int
    title: str


# Each cell of lstmc stands here once; those of other packages are a group of their own.
GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "plain": {
        "rnn": Entry(1990, "Elman's network, the plain RNN"),
        "indrnn": Entry(2018, "IndRNN: each unit sees its own past only"),
        "antisymmetric": Entry(2019, "AntisymmetricRNN: stable by its matrix W - W^T"),
        "rhn": Entry(2016, "recurrent highway network: several layers a step"),
    },
    "LSTM": {
        "lstm": Entry(1997, "LSTM, with the forget gate of 2000"),
        "lstm_peephole": Entry(2002, "LSTM whose gates see the cell's state"),
        "lstm_projected": Entry(2014, "LSTM with projected output (proj_size of PyTorch)"),
        "lstm_cifg": Entry(2015, "LSTM with coupled input and forget gates"),
        "lstm_layernorm": Entry(2016, "LSTM with layer normalization"),
        "lstm_multiplicative": Entry(2016, "multiplicative LSTM"),
        "slstm": Entry(2024, "xLSTM's sLSTM: exponential gates"),
        "mlstm": Entry(2024, "xLSTM's mLSTM: matrix memory"),
    },
    "GRU and similar": {
        "gru": Entry(2014, "GRU of the paper; PyTorch, Keras: gru_reset_after"),
        "gru_reset_after": Entry(2014, "GRU of PyTorch, Keras and cuDNN"),
        "mgu": Entry(2016, "minimal gated unit: a GRU with one gate"),
        "ugrnn": Entry(2016, "update-gate RNN"),
        "janet": Entry(2018, "JANET: an LSTM with only a forget gate"),
    },
    "gates that see only the input": {
        "sru": Entry(2018, "simple recurrent unit"),
        "qrnn": Entry(2016, "quasi-recurrent network: convolution over 2 steps"),
        "min_gru": Entry(2024, "minGRU"),
        "min_lstm": Entry(2024, "minLSTM"),
    },
    "state spaces": {
        "lru": Entry(2023, "linear recurrent unit, with a complex state"),
        "lmu": Entry(2019, "Legendre memory unit"),
        "mamba": Entry(2023, "Mamba: a selective state space"),
    },
    "clocks, continuous and missing time": {
        "cfc": Entry(2022, "closed-form continuous-time network (CfC)"),
        "ltc": Entry(2021, "liquid time-constant network"),
        "gru_d": Entry(2016, "GRU-D, for missing values"),
        "clockwork": Entry(2014, "clockwork RNN: modules with periods of their own"),
        "phased_lstm": Entry(2016, "LSTM with a periodic time gate"),
    },
    "convolutions": {
        "causal_conv": Entry(2016, "causal convolution over time, its past as a state"),
        "conv_lstm": Entry(2015, "ConvLSTM"),
        "conv_gru": Entry(2015, "ConvGRU"),
    },
    "attention and memory": {
        "attention_lstm": Entry(2015, "LSTM with attention over the places of a frame"),
        "bahdanau": Entry(2014, "GRU decoder with additive attention"),
        "luong": Entry(2015, "LSTM decoder with multiplicative attention"),
        "pointer": Entry(2015, "pointer network"),
        "delta_net": Entry(2021, "DeltaNet: a memory written by the delta rule"),
        "ntm": Entry(2014, "neural Turing machine"),
    },
}
ELSEWHERE = "of other packages"


def group_of(name: str) -> str:
    """The group that a cell is listed in."""
    return next((group for group, names in GROUPS.items() if name in names), ELSEWHERE)


def entry_of(name: str) -> Entry | None:
    """Return the line that a cell of lstmc has in the list; None for a cell of another package."""
    return next((names[name] for names in GROUPS.values() if name in names), None)


def library_names() -> Iterator[str]:
    """All installed cells, group by group."""
    installed = offered(CELLS)
    order = [*GROUPS, ELSEWHERE]
    own = [name for names in GROUPS.values() for name in names]
    key = {name: (order.index(group_of(name)), own.index(name) if name in own else 0, name) for name in installed}
    yield from sorted(installed, key=lambda name: key[name])
