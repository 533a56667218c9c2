"""The ranges of values: equal to NumPy's on the same stream, however it is cut, and after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmc
from lstmc.api.low_precision import StreamedModel
from lstmc.errors import DataError
from lstmc.numerics import sequences
from lstmc.numerics.ranges import Ranges
from lstmc.report import net_page

T, N, D, H = 31, 5, 3, 4


def gru(target: str = "flat") -> lstmc.Net:
    return lstmc.compile("gru", T=2, N=1, D=D, H=H, seed=3, target=target)


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((T, N, D)).astype(np.float32)}


def streamed(net: lstmc.Net, data: object) -> StreamedModel:
    return StreamedModel.from_data(net.source, net.backend, net.options, net.weights, data)  # type: ignore[arg-type]


def test_figures_are_those_of_the_stream(data: dict[str, np.ndarray]) -> None:
    net = gru()
    whole = lstmc.compile("gru", T=T, N=N, D=D, H=H, weights=net.weights)
    h = whole.run(x=data["x"], on="interpreter")["y"]
    ranges = net.ranges(data)
    found = ranges["gru/t000/h"]
    assert (ranges.sequences, ranges.steps, found.kind, found.not_finite) == (N, T, "state", 0)
    assert [found.least, found.mean, found.greatest] == pytest.approx([h.min(), h.mean(), h.max()], rel=1e-5)
    for place, at in found.percentiles.items():
        assert at == pytest.approx(np.percentile(h, place, method="inverted_cdf"), rel=0.005)
    change = np.abs(np.diff(h, axis=0, prepend=0))
    assert ranges["gru/h change"].greatest == pytest.approx(change.max(), rel=1e-5)
    assert ranges["gru/h_in"].zero == 1 / T
    assert len(found.over_time) == T
    assert found.over_time[9] == pytest.approx((h[9].min(), h[9].mean(), h[9].max()), rel=1e-4)
    assert ranges["gru/W_x"].greatest == pytest.approx(net.weights["gru/W_x"].max(), rel=1e-6)


def test_saturation_is_the_share_near_an_asymptote(data: dict[str, np.ndarray]) -> None:
    net = gru()
    weights = {name: 20 * array for name, array in net.weights.items()}
    ranges = lstmc.compile("gru", T=2, N=1, D=D, H=H, weights=weights, target="flat").ranges(data)
    whole = lstmc.compile("gru", T=T, N=N, D=D, H=H, weights=weights, target="flat")
    n = np.stack([whole_value(whole, data, f"gru/t{t:03d}/n") for t in range(T)])
    assert ranges["gru/t000/n"].saturated == pytest.approx(np.mean(np.abs(n) > 0.98), abs=0.01)
    pieces = [ranges[f"gru/t000/{name}"].saturated for name in ("z", "r")]
    assert ranges["gru/t000/z_r"].saturated == pytest.approx(np.mean(pieces))
    assert ranges["gru/t000/add_x_n_U"].saturated is None


def whole_value(net: lstmc.Net, data: dict[str, np.ndarray], name: str) -> np.ndarray:
    return lstmc.interp.forward(net.compiled.expanded, data, net.weights).by_name()[name]


@pytest.mark.parametrize("target", ["noslice", "rknn", "onnx", "caffe"])
def test_every_target_has_ranges(data: dict[str, np.ndarray], target: str) -> None:
    one, other = (gru(which).ranges(data) for which in ("flat", target))
    (found,) = [each for each in other if each.kind == "state"]
    assert found.greatest == pytest.approx(one["gru/t000/h"].greatest, rel=1e-5)


def same(one: Ranges, other: Ranges) -> None:
    assert [each.name for each in one] == [each.name for each in other]
    for a, b in zip(one, other, strict=True):
        assert (a.least, a.greatest) == pytest.approx((b.least, b.greatest), rel=1e-4, abs=1e-6)
        assert a.percentiles == pytest.approx(b.percentiles, rel=0.01, abs=1e-6)
        assert a.mean == pytest.approx(b.mean, rel=1e-4, abs=1e-6)
        assert np.allclose(a.over_time, b.over_time, rtol=1e-4, atol=1e-6)


def test_parts_add_up(data: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = gru().ranges(data)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = data["x"]
    monkeypatch.setattr(sequences, "WIDTH", 2)
    monkeypatch.setattr(sequences, "MOST_BYTES", 4 * 2 * D * 7)  # seven steps of two sequences
    same(once, gru().ranges(tmp_path / "d.h5"))


def test_an_interrupted_measurement_goes_on(
    data: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, snapshot = gru().ranges(data), tmp_path / "snapshot"
    monkeypatch.setattr(sequences, "WIDTH", 2)

    def after(asked: int) -> Callable[[], bool]:
        calls = iter(range(1000))
        return lambda: next(calls) > asked

    for asked in (1, 0, 1):  # asked every 16 steps
        assert streamed(gru(), data).ranges(snapshot, after(asked)) is None
        assert snapshot.exists()
    same(once, gru().ranges(data, snapshot=snapshot))
    assert not snapshot.exists()


def test_the_snapshot_of_other_data_is_refused(data: dict[str, np.ndarray], tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    assert streamed(gru(), data).ranges(snapshot, lambda: True) is None
    with pytest.raises(DataError) as caught:
        gru().ranges({"x": data["x"] + 1}, snapshot=snapshot)
    assert str(caught.value) == (
        f"DataError: {snapshot}: the snapshot of another measurement: expected one of this net and these data\n"
        "  remove it to measure from the beginning"
    )


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.zeros((3, 2, 9))}, "wrong shape: x must be [T=3, sequences, D=3], found [3, 2, 9]"),
        ({"x": np.zeros((3, 3))}, "wrong shape: x must be [T=2, sequences, D=3], found [3, 3]"),
        ({"X": np.zeros((3, 2, 3))}, "extra: X [3, 2, 3]: did you mean x?"),
        (
            {"x": np.full((3, 2, 3), np.nan)},
            "not finite: x has 6 of 6 elements NaN or infinite, the first at [0, 0, 0]",
        ),
    ],
)
def test_data_that_do_not_fit(arrays: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(DataError) as caught:
        lstmc.compile("gru", T=2, N=1, D=D, H=H).ranges(arrays)
    assert told in str(caught.value)


def test_the_command(lstmc: Callable[..., object], data: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **data)  # type: ignore[arg-type]
    ended = lstmc(
        "numbers",
        "ranges",
        "--cell",
        "gru",
        "-D",
        "H=4",
        "--data",
        "x.npz",
        "--target",
        "rknn",
        "-o",
        "r.json",
        "--json",
    )
    assert ended.code == 0, ended.err  # type: ignore[attr-defined]
    told = json.loads(ended.out)  # type: ignore[attr-defined]
    written = json.loads((tmp_path / "r.json").read_text())
    assert (told["steps"], written["steps"], written["sequences"]) == (T, T, N)
    assert [row["value"] for row in told["ranges"]] == [each["name"] for each in written["values"]]
    assert [row["kind"] for row in told["ranges"]].count("state") == 1


def test_the_report_has_a_strip_for_each_value(data: dict[str, np.ndarray]) -> None:
    net = gru()
    ranges = net.ranges(data)
    page = net_page(net, ranges=ranges)
    strips = len([each for each in ranges if each.over_time])
    assert [page.count(f'class="{each}"') for each in ("strip", "outline", "zero", "mean")] == [strips] * 4
    assert '<a href="#ranges">Ranges</a>' in page


def test_what_is_not_finite_is_counted_and_the_rest_keeps_its_range(data: dict[str, np.ndarray]) -> None:
    @lstmc.model
    def far(x=lstmc.Input(*lstmc.dims("T N"), D)):  # type: ignore[no-untyped-def]
        far = lstmc.exp(2 * x) - lstmc.exp(x)  # inf - inf of large elements
        return {"y": far, "h": lstmc.scan(lstmc.cells.gru(H=H), x)[0]}

    x = np.where(np.arange(N)[:, None] < 2, np.float32(1000), data["x"])
    net = lstmc.compile(far, T=2, N=1, target="flat")
    ranges = net.ranges({"x": x})
    both, none = ranges["y"], net.ranges({"x": x[:, :2]})["y"]
    rest = np.exp(2 * data["x"][:, 2:]) - np.exp(data["x"][:, 2:])
    assert [both.least, both.greatest] == pytest.approx([rest.min(), rest.max()], rel=1e-4)
    assert (both.not_finite, none.not_finite) == (2 * T * D, 2 * T * D)
    assert np.isnan([none.least, none.greatest, *none.percentiles.values()]).all()
    assert f"{2 * T * D} not finite" in net_page(net, ranges=ranges)
