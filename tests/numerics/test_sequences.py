"""Many sequences through nets of one: the same numbers as from a net of any number of sequences."""

from __future__ import annotations

import numpy as np
import pytest

import lstmc
from lstmc.api.low_precision import StreamedModel
from lstmc.cells import gru
from lstmc.errors import DataError
from lstmc.numerics.device import read_device
from lstmc.numerics.effects import NumbersReport

T, MANY, D, H = 6, 5, 3, 4


def scanned(n: lstmc.Dim | int, length: int = 2) -> lstmc.Net:
    steps = lstmc.dims("T")

    @lstmc.model
    def net(x=lstmc.Input(steps, n, D), bias=lstmc.Input(n, D), keep=lstmc.Input(steps, n)):  # type: ignore[no-untyped-def]
        return {"y": lstmc.scan(gru(H=H), (x + bias) * keep.reshape(steps, n, 1))[0]}

    return lstmc.compile(net, T=length, target="flat", seed=3, sizes={} if isinstance(n, int) else {"N": 1})


def data(rng: np.random.Generator, many: int = MANY) -> dict[str, np.ndarray]:
    shapes = {"x": (T, many, D), "bias": (many, D), "keep": (T, many)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def numbers(net: lstmc.Net, arrays: dict[str, np.ndarray]) -> NumbersReport:
    model = StreamedModel.from_data(net.source, net.backend, net.options, net.weights, arrays)
    return model.numbers(read_device("int8"))


def test_a_net_of_one_sequence_has_the_ranges_and_errors_of_a_net_of_many() -> None:
    arrays, one, many = data(np.random.default_rng(1)), scanned(1), scanned(lstmc.dims("N"))
    found, wanted = one.ranges(arrays), many.ranges(arrays)
    assert (found.sequences, found.steps) == (MANY, T)
    for each in wanted:
        ours = found[each.name]
        assert (ours.least, ours.greatest) == pytest.approx((each.least, each.greatest), rel=1e-5, abs=1e-6), each.name
        assert ours.mean == pytest.approx(each.mean, abs=1e-5)
    assert found["gru/h_in"].zero == 1 / T  # each sequence begins at zero
    error, other = (numbers(net, arrays).outputs[0] for net in (one, many))
    assert error.mean == pytest.approx(other.mean, rel=0.05)


def test_a_model_that_is_one_step_takes_many_sequences() -> None:
    @lstmc.model(states={"h": "h_next"})
    def step(x=lstmc.Input(1, D), h=lstmc.Input(1, D), *, W=lstmc.Param(D, D, fill=np.eye(D))):  # type: ignore[no-untyped-def]
        h_next = lstmc.tanh(lstmc.linear(x, W) + h)
        return {"y": 2 * h_next, "h_next": h_next}

    net = lstmc.compile(step, target="flat", seed=1)
    x = data(np.random.default_rng(2))["x"]
    found, apart = net.ranges({"x": x}), [net.ranges({"x": x[:, [n]]}) for n in range(MANY)]
    assert (found.sequences, found.steps) == (MANY, T)
    assert found["y"].least == min(each["y"].least for each in apart)
    assert found["y"].greatest == max(each["y"].greatest for each in apart)
    assert found["h"].zero == 1 / T


def test_one_array_may_be_the_same_for_all_sequences_but_features_are_no_sequences() -> None:
    arrays, net = data(np.random.default_rng(1)), scanned(1, T)
    assert net.ranges(arrays | {"bias": arrays["bias"][:1]}).sequences == MANY
    with pytest.raises(DataError, match="does not fit") as error:
        net.ranges(arrays | {"bias": arrays["bias"][:3]})
    assert "different numbers of sequences: x has 5, bias has 3, keep has 5" in str(error.value)

    @lstmc.model
    def narrow(x=lstmc.Input(lstmc.dims("T"), 1, 1)):  # type: ignore[no-untyped-def]
        return {"y": lstmc.scan(gru(H=H), x)[0]}

    with pytest.raises(DataError, match="does not fit"):
        lstmc.compile(narrow, T=2, target="flat").ranges({"x": np.zeros((T, 1, D))})


def test_an_input_that_the_cell_does_not_read_is_streamed_too() -> None:
    n = lstmc.dims("N")

    @lstmc.cell
    def deaf(x=lstmc.Input(n, D), h=lstmc.State(n, D)):  # type: ignore[no-untyped-def]
        h = lstmc.tanh(0.5 * h)
        return h, {"h": h}

    net = lstmc.compile(deaf, T=T, N=MANY, target="caffe")
    x = data(np.random.default_rng(2))["x"]
    assert net.ranges({"x": x})["x"].greatest == x.max()
    assert numbers(net, {"x": x}).steps == T
    step = lstmc.compile(deaf, N=MANY, step=True, target="caffe")
    assert step.inputs["x"] == (1, MANY, D)


def test_of_several_sequences_it_is_asked_which_axis_is_time() -> None:
    """Arrays [N, T, ...] and [T, N, ...] of a net of one sequence are told apart by its number of steps alone."""

    def net(steps: int) -> lstmc.Net:
        @lstmc.model
        def net(x=lstmc.Input(lstmc.dims("T"), 1, D)):  # type: ignore[no-untyped-def]
            return {"y": lstmc.scan(gru(H=H), x)[0]}

        return lstmc.compile(net, T=steps, target="flat", seed=3)

    x = data(np.random.default_rng(1))["x"]
    for steps, array, remedy in (
        (2, x, "say the number of steps by T=6"),
        (T, x.swapaxes(0, 1), "transpose an array [N, T, ...]"),
        (T, x[:, [0] * T], "leave a sequence out"),
    ):
        with pytest.raises(DataError, match=r"it may be \[N, T, \.\.\.\]") as error:
            net(steps).ranges({"x": array})
        assert remedy in str(error.value)
    found = net(T).ranges({"x": x})
    assert (found.steps, found.sequences) == (T, MANY)
    assert net(2).ranges({"x": x[:, :1]}).steps == T
