"""The quasi-recurrent network, with a window of two steps."""

from collections.abc import Callable

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, sigmoid, split, tanh, xavier

N, D, H = dims("N D H")


@cell
def qrnn(
    x: Value = Input(N, D),
    before: Value = State(N, D),
    c: Value = State(N, H),
    *,
    W: Value = Param(3 * H, D, fill=xavier()),
    V: Value = Param(3 * H, D, fill=xavier()),
    b: Value = Param(3 * H, fill=constant(0)),
    gate: Callable[[Value], Value] = sigmoid,
    activation: Callable[[Value], Value] = tanh,
) -> tuple[Value, dict[str, Value]]:
    """A convolution over two steps makes value and gates, and the state is pooled: c' = f c + (1 - f) z; h = o c'.

    Bradbury et al. 2016, arXiv:1611.01576, equations (1), (2) and (4), fo-pooling. The state ``before`` is the last
    step's x. Rows in the order z, f, o; W is for this step, V for the one before.
    """
    z, f, o = split(linear(x, W, b) + linear(before, V), 3)
    f = gate(f)
    c = f * c + (1 - f) * activation(z)
    return gate(o) * c, {"before": x, "c": c}
