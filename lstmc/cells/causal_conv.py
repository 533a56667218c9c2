"""A convolution over time that sees no future frame: its state is the past."""

from lstmc import Input, Param, State, Value, cell, concat, constant, dims, linear, xavier

N, D, H, K = dims("N D H K")


@cell
def causal_conv(
    x: Value = Input(N, D),
    past: Value = State(N, (K - 1) * D),
    *,
    W: Value = Param(H, K * D, fill=xavier()),
    b: Value = Param(H, fill=constant(0)),
) -> tuple[Value, dict[str, Value]]:
    """y[t] = W (x[t - K + 1], ..., x[t]) + b: a causal convolution of width K, one product of the last K frames.

    van den Oord et al. 2016, arXiv:1609.03499, section 2.1. The state ``past`` has the last K - 1 frames, the oldest
    first. W is that of PyTorch's Conv1d, ``weight.transpose(1, 2).reshape(H, K * D)``.
    """
    window = concat(past, x, axis=1)
    return linear(window, W, b), {"past": window[:, x.shape[1] :]}
