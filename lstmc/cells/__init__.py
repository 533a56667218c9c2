"""The library cells, written in the public DSL only; found through the entry-point group ``lstmc.cells``."""

from typing import TYPE_CHECKING

# the modules of these have the names of cells, which the package would have for them
from lstmc.cells.gru import gru, gru_blocks, gru_reset_after, janet, mgu, para_gru, ugrnn
from lstmc.cells.lstm import (
    lstm,
    lstm_blocks,
    lstm_cifg,
    lstm_layernorm,
    lstm_multiplicative,
    lstm_peephole,
    lstm_projected,
    mlstm,
    mlstm_heads,
    slstm,
    slstm_heads,
)
from lstmc.plugins import words_of

if TYPE_CHECKING:
    from lstmc.cells.attention import aaren, attention_lstm, bahdanau, luong, ntm, pointer
    from lstmc.cells.continuous_time import cfc, clockwork, gru_d, ltc, phased_lstm
    from lstmc.cells.convolution import causal_conv, conv_gru, conv_lstm
    from lstmc.cells.fast_weights import delta_net, gated_delta_net, gla, retnet, rwkv6, rwkv7, titans, ttt_linear
    from lstmc.cells.input_gated import hgrn2, min_gru, min_lstm, qrnn, rg_lru, sru
    from lstmc.cells.plain import antisymmetric, indrnn, rhn, rnn
    from lstmc.cells.state_space import linoss, lmu, lru, mamba, mamba2, s5
else:
    __getattr__, __dir__ = words_of(
        __name__,
        {
            "lstmc.cells.attention": ("aaren", "attention_lstm", "bahdanau", "luong", "ntm", "pointer"),
            "lstmc.cells.continuous_time": ("cfc", "clockwork", "gru_d", "ltc", "phased_lstm"),
            "lstmc.cells.convolution": ("causal_conv", "conv_gru", "conv_lstm"),
            "lstmc.cells.fast_weights": (
                "delta_net",
                "gated_delta_net",
                "gla",
                "retnet",
                "rwkv6",
                "rwkv7",
                "titans",
                "ttt_linear",
            ),
            "lstmc.cells.input_gated": ("hgrn2", "min_gru", "min_lstm", "qrnn", "rg_lru", "sru"),
            "lstmc.cells.plain": ("antisymmetric", "indrnn", "rhn", "rnn"),
            "lstmc.cells.state_space": ("linoss", "lmu", "lru", "mamba", "mamba2", "s5"),
        },
    )

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
