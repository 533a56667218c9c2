"""The library cells, written in the public DSL only; found through the entry-point group ``lstmc.cells``."""

from lstmc.cells.aaren import aaren
from lstmc.cells.antisymmetric import antisymmetric
from lstmc.cells.attention_lstm import attention_lstm
from lstmc.cells.bahdanau import bahdanau
from lstmc.cells.causal_conv import causal_conv
from lstmc.cells.cfc import cfc
from lstmc.cells.clockwork import clockwork
from lstmc.cells.conv_gru import conv_gru
from lstmc.cells.conv_lstm import conv_lstm
from lstmc.cells.delta_net import delta_net
from lstmc.cells.gated_delta_net import gated_delta_net
from lstmc.cells.gla import gla
from lstmc.cells.gru import gru, gru_reset_after
from lstmc.cells.gru_blocks import gru_blocks
from lstmc.cells.gru_d import gru_d
from lstmc.cells.hgrn2 import hgrn2
from lstmc.cells.indrnn import indrnn
from lstmc.cells.janet import janet
from lstmc.cells.linoss import linoss
from lstmc.cells.lmu import lmu
from lstmc.cells.lru import lru
from lstmc.cells.lstm import lstm
from lstmc.cells.lstm_blocks import lstm_blocks
from lstmc.cells.lstm_cifg import lstm_cifg
from lstmc.cells.lstm_layernorm import lstm_layernorm
from lstmc.cells.lstm_multiplicative import lstm_multiplicative
from lstmc.cells.lstm_peephole import lstm_peephole
from lstmc.cells.lstm_projected import lstm_projected
from lstmc.cells.ltc import ltc
from lstmc.cells.luong import luong
from lstmc.cells.mamba import mamba
from lstmc.cells.mamba2 import mamba2
from lstmc.cells.mgu import mgu
from lstmc.cells.min_gru import min_gru
from lstmc.cells.min_lstm import min_lstm
from lstmc.cells.mlstm import mlstm
from lstmc.cells.mlstm_heads import mlstm_heads
from lstmc.cells.ntm import ntm
from lstmc.cells.para_gru import para_gru
from lstmc.cells.phased_lstm import phased_lstm
from lstmc.cells.pointer import pointer
from lstmc.cells.qrnn import qrnn
from lstmc.cells.retnet import retnet
from lstmc.cells.rg_lru import rg_lru
from lstmc.cells.rhn import rhn
from lstmc.cells.rnn import rnn
from lstmc.cells.rwkv6 import rwkv6
from lstmc.cells.rwkv7 import rwkv7
from lstmc.cells.s5 import s5
from lstmc.cells.slstm import slstm
from lstmc.cells.slstm_heads import slstm_heads
from lstmc.cells.sru import sru
from lstmc.cells.titans import titans
from lstmc.cells.ttt_linear import ttt_linear
from lstmc.cells.ugrnn import ugrnn

__all__ = [
    "aaren",
    "antisymmetric",
    "attention_lstm",
    "bahdanau",
    "causal_conv",
    "cfc",
    "clockwork",
    "conv_gru",
    "conv_lstm",
    "delta_net",
    "gated_delta_net",
    "gla",
    "gru",
    "gru_blocks",
    "gru_d",
    "gru_reset_after",
    "hgrn2",
    "indrnn",
    "janet",
    "linoss",
    "lmu",
    "lru",
    "lstm",
    "lstm_blocks",
    "lstm_cifg",
    "lstm_layernorm",
    "lstm_multiplicative",
    "lstm_peephole",
    "lstm_projected",
    "ltc",
    "luong",
    "mamba",
    "mamba2",
    "mgu",
    "min_gru",
    "min_lstm",
    "mlstm",
    "mlstm_heads",
    "ntm",
    "para_gru",
    "phased_lstm",
    "pointer",
    "qrnn",
    "retnet",
    "rg_lru",
    "rhn",
    "rnn",
    "rwkv6",
    "rwkv7",
    "s5",
    "slstm",
    "slstm_heads",
    "sru",
    "titans",
    "ttt_linear",
    "ugrnn",
]
