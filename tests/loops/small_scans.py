"""Small scans for what generated layers easily get wrong: the first piece of a value, a value that is added twice, and
a number of rows that no bottom has."""

from __future__ import annotations

from lstmc import (
    Input,
    Param,
    State,
    argmax,
    cell,
    concat,
    dims,
    einsum,
    floor,
    linear,
    max,
    model,
    one_hot,
    relu,
    scan,
    softmax,
    split,
    sum,
    tanh,
    xavier,
)

T, N = dims("T N")


@cell
def of_elements(x=Input(N, 1), u=Input(N, 5), h=State(N, 2), *, U=Param(2, 2, fill=xavier())):
    """A row times a number: a split of that is not done to both."""
    h = linear(h, U)
    first, _ = split(x * h, 2)
    return concat(first, u), {"h": h}


@cell
def of_product(x=Input(N, 1), u=Input(N, 2), h=State(N, 2), *, U=Param(4, 2, fill=xavier())):
    """The output has as many elements as the product."""
    first, second = split(linear(h, U), 2)
    return concat(first, u), {"h": second + x}


@cell
def of_concat(x=Input(N, 1), u=Input(N, 2), h=State(N, 2), *, U=Param(2, 2, fill=xavier())):
    """The piece ends within an operand of the concat."""
    h = tanh(linear(h, U))
    first, _ = split(concat(x, h), [2, 1])
    return concat(first, u), {"h": h}


@model
def piece_of_elements(X=Input(T, N, 1), u=Input(N, 5), h0=Input(N, 2)):
    return {"y": scan(of_elements(), X, init={"h": h0}, static={"u": u})[0]}


@model
def piece_of_product(X=Input(T, N, 1), u=Input(N, 2), h0=Input(N, 2)):
    return {"y": scan(of_product(), X, init={"h": h0}, static={"u": u})[0]}


@model
def piece_of_concat(X=Input(T, N, 1), u=Input(N, 2), h0=Input(N, 2)):
    return {"y": scan(of_concat(), X, init={"h": h0}, static={"u": u})[0]}


@cell
def of_square(x=Input(N, 3), h=State(N, 3), *, p=Param(3, fill=xavier())):
    """The gradient of p is the sum of two equal products."""
    shifted = h + p
    h = tanh(shifted * shifted + x)
    return h, {"h": h}


@model
def square(X=Input(T, N, 3)):
    return {"y": scan(of_square(), X)[0]}


@cell
def of_gate(g=Input(1), h=State(N, 4)):
    """What it reads is one number a step: only the state says how many rows there are."""
    h = tanh(h + 1) * g
    return h, {"h": h}


@model
def gate(G=Input(T, 1), X=Input(T, N, 4)):
    return X * scan(of_gate(N=3), G)[0]


@cell
def of_two_products(s=Input(N, 5), h=State(N, 3), *, P=Param(5, 3, fill=xavier()), Q=Param(3, 5, fill=xavier())):
    """The gradient of s is what the second product gives back, and an operand of the gradient of P."""
    h = tanh(linear(linear(h, P) + s, Q))
    return h, {"h": h}


@model
def two_products(s=Input(N, 5)):
    return {"y": scan(of_two_products(), length=T, static={"s": s})[0]}


@cell
def of_memory(x=Input(N, 3), h=State(N, 3), *, X=Param(5, 3, fill=xavier())):
    """A matrix is read as it is and transposed, each twice: its gradient is a sum and a transposed sum."""
    h = h + x
    for _ in range(2):
        h = softmax(linear(h, X)) @ X
    return h, {"h": h}


@model
def memory(X=Input(T, N, 3)):
    return {"y": scan(of_memory(), X)[0]}


@cell
def of_words(
    volatile=Input(N, 3), p0=Input(N, 3), packed=Input(N, 3), NULL=State(N, 3), *,
    CHECK=Param(3, fill=xavier()), outer=Param(3, 3, fill=xavier()),
):  # fmt: skip
    """Its values are called as C++ has words, as headers have macros, and as a layer and its functions are."""
    register = CHECK * NULL + volatile + linear(packed, outer)
    begin = softmax(register) * p0
    return begin, {"NULL": begin}


@model
def words(X=Input(T, N, 3), Y=Input(T, N, 3)):
    return {"y": scan(of_words(), [X, Y, X])[0]}


@cell
def of_pooling(x=Input(N, 3), h=State(N, 4), *, W=Param(4, 3, fill=xavier())):
    """A product with rows that all rows of the state share."""
    return h, {"h": h * tanh(sum(linear(x, W), axis=0)) + 1}


@model
def pooling(X=Input(T, N, 3), h0=Input(N, 4)):
    return {"y": scan(of_pooling(), X, init={"h": h0})[0]}


@cell
def of_contraction(x=Input(N, 2), h=State(N, 4), *, U=Param(3, 4, fill=xavier())):
    """The rows of x are contracted with the units of the state, of which there are as many as rows."""
    y = linear(h, U)
    return tanh(einsum("ab,bt->ta", y, x)), {"h": tanh(concat(y, y[:, :1], axis=1))}


@model
def contraction(X=Input(T, N, 2), h0=Input(N, 4)):
    return {"y": scan(of_contraction(), X, init={"h": h0})[0]}


FIRST_PIECES = (piece_of_elements, piece_of_product, piece_of_concat)


@cell
def of_new_state(x=Input(N, 3), y=State(N, 3), z=State(N, 3), *, U=Param(3, 3, fill=xavier())):
    """A product with what a state becomes, which is not zero at the first step."""
    z = 0.5 * z + x
    y = 0.5 * y + linear(z, U)
    return y, {"y": y, "z": z}


@model
def new_state(X=Input(T, N, 3)):
    y, _ = scan(of_new_state(), X)
    z, _ = scan(of_new_state(), X, reverse=True)
    return {"y": y, "z": z}


@cell
def of_both_states(x=Input(N, 3), h=State(N, 3), a=State(N, 3), *, U=Param(3, 3, fill=xavier())):
    """The gradients of a state that begins as zeros and of one that is fed are one product."""
    z = tanh(linear(h + a, U) + x)
    return z, {"h": z, "a": z * x}


@model
def both_states(X=Input(T, N, 3), h0=Input(N, 3), a0=Input(N, 3)):
    y, _ = scan(of_both_states(), X, init={"a": a0})
    z, _ = scan(of_both_states(), X, init={"h": h0}, reverse=True)
    return {"y": y, "z": z}


@cell
def of_residual(x=Input(N, 3), h=State(N, 2), *, W=Param(2, 3, fill=xavier()), U=Param(2, 2, fill=xavier())):
    """The gradient of the state is the product that the gradient of W has as an operand, of all steps."""
    h = tanh(linear(h + linear(x, W), U))
    return h, {"h": h}


@model
def residual(X=Input(T, N, 3)):
    return {"y": scan(of_residual(), X)[0]}


@cell
def of_largest(x=Input(N, 4), h=State(N, 2, 4), *, U=Param(4, 4, fill=xavier())):
    """Maxima along both axes, some of elements that are equal; the place of one; and integers."""
    rows = relu(h)
    said = one_hot(argmax(linear(x, U)), 4)
    h = tanh(x[:, None, :] + rows + max(rows, axis=2)[:, :, None]) + max(h, axis=1)[:, None, :] * said[:, None, :]
    return floor(3 * h), {"h": h}


@model
def largest(X=Input(T, N, 4)):
    return {"y": scan(of_largest(), X)[1]["h"], "whole": scan(of_largest(), X, reverse=True)[0]}


@cell
def of_biases(
    x=Input(N, 3), u=Input(3), h=State(N, 3), b=State(3), *, W=Param(3, 3, fill=xavier()), U=Param(3, 3, fill=xavier())
):
    """Biases that are other ones at each step: fed, a state, and computed."""
    h = tanh(linear(x, W, u) + linear(h, U, b) + linear(x, U, u * b))
    return h, {"h": h, "b": 0.5 * b + u}


@model
def biases(X=Input(T, N, 3), u=Input(T, 3)):
    return {"y": scan(of_biases(), [X, u])[0]}


@cell
def of_one_bias(
    x=Input(N, 3), h=State(N, 3), *,
    W=Param(3, 3, fill=xavier()), U=Param(3, 3, fill=xavier()), b=Param(3, fill=xavier()),
):  # fmt: skip
    """Two products with the same bias: its gradient is the sum of two sums of rows."""
    h = tanh(linear(x, W, b)) + tanh(linear(h, U, b))
    return h, {"h": h}


@model
def one_bias(X=Input(T, N, 3)):
    return {"y": scan(of_one_bias(), X)[0]}
