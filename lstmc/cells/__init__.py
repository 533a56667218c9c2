"""The library cells, written in the public DSL only; found through the entry-point group ``lstmc.cells``."""

from lstmc.cells.antisymmetric import antisymmetric
from lstmc.cells.attention_lstm import attention_lstm
from lstmc.cells.bahdanau import bahdanau
from lstmc.cells.causal_conv import causal_conv
from lstmc.cells.cfc import cfc
from lstmc.cells.clockwork import clockwork
from lstmc.cells.conv_gru import conv_gru
from lstmc.cells.conv_lstm import conv_lstm
from lstmc.cells.delta_net import delta_net
from lstmc.cells.gru import gru, gru_reset_after
from lstmc.cells.gru_d import gru_d
from lstmc.cells.indrnn import indrnn
from lstmc.cells.janet import janet
from lstmc.cells.lmu import lmu
from lstmc.cells.lru import lru
from lstmc.cells.lstm import lstm
from lstmc.cells.lstm_cifg import lstm_cifg
from lstmc.cells.lstm_layernorm import lstm_layernorm
from lstmc.cells.lstm_multiplicative import lstm_multiplicative
from lstmc.cells.lstm_peephole import lstm_peephole
from lstmc.cells.lstm_projected import lstm_projected
from lstmc.cells.ltc import ltc
from lstmc.cells.luong import luong
from lstmc.cells.mamba import mamba
from lstmc.cells.mgu import mgu
from lstmc.cells.min_gru import min_gru
from lstmc.cells.min_lstm import min_lstm
from lstmc.cells.mlstm import mlstm
from lstmc.cells.ntm import ntm
from lstmc.cells.phased_lstm import phased_lstm
from lstmc.cells.pointer import pointer
from lstmc.cells.qrnn import qrnn
from lstmc.cells.rhn import rhn
from lstmc.cells.rnn import rnn
from lstmc.cells.slstm import slstm
from lstmc.cells.sru import sru
from lstmc.cells.ugrnn import ugrnn

__all__ = [
    "antisymmetric",
    "attention_lstm",
    "bahdanau",
    "causal_conv",
    "cfc",
    "clockwork",
    "conv_gru",
    "conv_lstm",
    "delta_net",
    "gru",
    "gru_d",
    "gru_reset_after",
    "indrnn",
    "janet",
    "lmu",
    "lru",
    "lstm",
    "lstm_cifg",
    "lstm_layernorm",
    "lstm_multiplicative",
    "lstm_peephole",
    "lstm_projected",
    "ltc",
    "luong",
    "mamba",
    "mgu",
    "min_gru",
    "min_lstm",
    "mlstm",
    "ntm",
    "phased_lstm",
    "pointer",
    "qrnn",
    "rhn",
    "rnn",
    "slstm",
    "sru",
    "ugrnn",
]
