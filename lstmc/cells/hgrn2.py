"""A gated linear recurrence whose state an outer product widens: what a key forgets is what it takes in."""

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    constant,
    dims,
    einsum,
    linear,
    merge_heads,
    outer,
    sigmoid,
    split_heads,
    xavier,
)

N, D, G, K, V = dims("N D G K V")


@cell
def hgrn2(
    x: Value = Input(N, D),
    h: Value = State(N, G, V, K),
    *,
    W_g: Value = Param(G * K, D, fill=xavier()),
    b_g: Value = Param(G * K, fill=constant(0)),
    W_i: Value = Param(G * V, D, fill=xavier()),
    b_i: Value = Param(G * V, fill=constant(0)),
    W_o: Value = Param(G * K, D, fill=xavier()),
    b_o: Value = Param(G * K, fill=constant(0)),
    lower: float = 0,
) -> tuple[Value, dict[str, Value]]:
    """h' = h diag(f) + i (1 - f)^T;  y = h' o, with the forget gate f = lower + (1 - lower) sigmoid(W_g x + b_g).

    Qin et al. 2024, arXiv:2404.07904, section 3.2, equation (3): G heads of K gates and V values each. ``lower`` is the
    least share that is kept, which grows from layer to layer. i is W_i x + b_i, and o = sigmoid(W_o x + b_o).
    """
    f = lower + (1 - lower) * sigmoid(linear(x, W_g, b_g))
    i, o = split_heads(linear(x, W_i, b_i), G), split_heads(sigmoid(linear(x, W_o, b_o)), G)
    h = h * split_heads(f, G)[..., None, :] + outer(i, split_heads(1 - f, G))
    return merge_heads(einsum("ngvk,ngk->ngv", h, o)), {"h": h}
