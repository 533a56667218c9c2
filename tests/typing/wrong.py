"""What a type checker must find wrong: each line that ends in ``# wrong``, and no other."""

import lstmc
from lstmc import Input, Param, State, Value, cell, dims, model, scan
from lstmc.cells import gru

T, N, D, H = dims("T N D H")


@cell
def misspelt(x=Input(N, D), h=State(N, D), *, W=Param(D, D)):
    a = x.reluu()  # wrong
    b = x.told  # wrong
    c = x.mean(dim=0)  # wrong
    d = x.softmax(axis="last")  # wrong
    h = h + a + b + c + d
    return h, {"h": h}


@cell  # wrong
def without_states(x: Value = Input(N, D)) -> Value:
    return x


@model
def net(X=Input(T, N, D)):
    _y, last = scan(gru, X)  # wrong
    scan(gru(H=4), X, revers=True)  # wrong
    z, last = scan(gru(H=4), X)
    return {"y": z, "h": last.h}  # wrong


lstmc.compile(net, targt="flat")  # wrong
lstmc.compile(net, target=3)  # wrong
lstmc.compile(net, T=3).save(1)  # wrong
N + 1.5  # wrong
