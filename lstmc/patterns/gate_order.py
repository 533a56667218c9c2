"""In which order programs pack the gates of a cell into one matrix, in one table for all who read or write them.

An LSTM's gates are i, f, o, and g (the new content, called c or j elsewhere); a GRU's z, r, and n (called h elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping

LSTM_ORDERS: Mapping[str, str] = {
    "caffe": "ifog",  # lstm_layer.cpp, lstm_unit_layer.cpp
    "onnx": "iofg",  # operator LSTM: W [iofc]
    "pytorch": "ifgo",  # torch.nn.LSTM: weight_ih_l0 is (W_ii|W_if|W_ig|W_io)
    "keras": "ifgo",  # keras.layers.LSTM: kernel_i, kernel_f, kernel_c, kernel_o
    "tensorflow": "igfo",  # tf.compat.v1.nn.rnn_cell.BasicLSTMCell: i, j, f, o
}
GRU_ORDERS: Mapping[str, str] = {
    "onnx": "zrn",  # operator GRU: W [zrh]
    "pytorch": "rzn",  # torch.nn.GRU: weight_ih_l0 is (W_ir|W_iz|W_in)
    "keras": "zrn",  # keras.layers.GRU: z, r, h
}


def moved(order: str, wanted: str) -> tuple[int, ...]:
    """Which part of what is packed in ``order`` is each part of what is packed as ``wanted``.

    >>> moved("ifgo", "ifog")
    (0, 1, 3, 2)
    """
    if sorted(order) != sorted(wanted):
        raise ValueError(f"expected the gates {wanted} in some order, found {order}")
    return tuple(order.index(gate) for gate in wanted)
