"""Solver settings: what may be written, what is refused and how; the file of them, and that Caffe takes it."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from lstmc.errors import LstmcError
from lstmc.runs.solver import FILLED_IN, POLICIES, SETTINGS, TYPES, SolverError, parse_overrides
from lstmc_caffe import Solver
from lstmc_caffe.proto.net import SolverParameter
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import solver_text
from tests.backends.lstmc_caffe.in_worker import schema
from tests.backends.lstmc_caffe.train.training_nets import NEEDED, line, train

PAGE = Path(__file__).parents[4] / "docs" / "training.md"


def refused(**settings: Any) -> str:
    with pytest.raises(SolverError) as caught:
        Solver(**settings)
    return caught.value.message


def test_every_setting_is_a_keyword_with_its_type() -> None:
    shown = inspect.signature(Solver).parameters  # what notebooks complete
    assert list(shown) == list(SETTINGS)
    assert {parameter.kind for parameter in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}
    types = get_type_hints(Solver)
    assert (types["base_lr"], types["momentum"], types["max_iter"]) == (float, float | None, int)


class TestValues:
    def test_the_defaults(self) -> None:
        solver = Solver()
        assert (solver.type, solver.base_lr, solver.momentum, solver.max_iter) == ("SGD", 0.01, 0.9, 1000)
        assert solver.clip_gradients is None
        assert solver.explicit == {}

    @pytest.mark.parametrize("kind", TYPES)
    def test_the_defaults_of_a_type_are_for_it(self, kind: str) -> None:
        solver = Solver(type=kind)
        for name, setting in SETTINGS.items():
            if setting.types:
                assert (getattr(solver, name) is not None) == (kind in setting.types), name

    def test_numpy_numbers_and_whole_ones_become_pythons_own(self) -> None:
        solver = Solver(base_lr=np.float32(0.5), max_iter=np.int64(3), weight_decay=1, clip_gradients=5)
        found = [solver.base_lr, solver.max_iter, solver.weight_decay, solver.clip_gradients]
        assert [(type(value), value) for value in found] == [(float, 0.5), (int, 3), (float, 1.0), (float, 5.0)]

    def test_none_is_the_default(self) -> None:
        assert Solver(base_lr=None, clip_gradients=None) == Solver()

    def test_equal_ones_are_equal_and_none_can_be_changed(self) -> None:
        assert Solver(stepvalue=[1, 2], lr_policy="multistep", gamma=0.5) == Solver(
            stepvalue=(1, 2), lr_policy="multistep", gamma=0.5
        )
        assert hash(Solver()) == hash(Solver())
        assert replace(Solver(type="Adam", base_lr=1), max_iter=5) == Solver(type="Adam", base_lr=1, max_iter=5)
        with pytest.raises(FrozenInstanceError):
            Solver().base_lr = 3  # type: ignore[misc]


class TestRefusals:
    def test_the_place_is_the_users_argument(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("net.py").write_text('from lstmc_caffe import Solver\nS = Solver(type="Adam", bse_lr=2e-3)\n')
        with pytest.raises(LstmcError) as caught:
            exec(compile(Path("net.py").read_text(), "net.py", "exec"), {"__name__": "net"})
        assert str(caught.value) == (
            "SolverError: solver: there is no setting bse_lr: did you mean base_lr?\n"
            "  net.py:2:25\n"
            '    S = Solver(type="Adam", bse_lr=2e-3)\n'
            "                            ^^^^^^^^^^^"
        )

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"base_Ir": 1}, "there is no setting base_Ir: did you mean base_lr?"),
            ({"Momentum2": 1}, "there is no setting Momentum2: did you mean momentum2?"),
            ({"xyzzy": 1}, f"there is no setting xyzzy: it has {', '.join(SETTINGS)}"),
            ({"net": "a"}, "net is no setting: lstmc fills it in"),
            ({"type": "adam"}, f"type must be one of {', '.join(TYPES)}, found 'adam'"),
            ({"type": ["Adam"]}, f"type must be one of {', '.join(TYPES)}, found ['Adam']"),
            ({"lr_policy": "cosine"}, f"lr_policy must be one of {', '.join(POLICIES)}, found 'cosine'"),
            ({"base_lr": 0}, "base_lr must be a number above 0, found 0"),
            ({"base_lr": "0.1"}, "base_lr must be a number above 0, found '0.1'"),
            ({"base_lr": True}, "base_lr must be a number above 0, found True"),
            ({"base_lr": float("nan")}, "base_lr must be a number above 0, found nan"),
            ({"base_lr": 1e39}, "base_lr must be a number above 0, found 1e+39"),
            ({"base_lr": 1e-60}, "base_lr must be a number above 0, found 1e-60"),
            ({"base_lr": 10**400}, f"base_lr must be a number above 0, found {10**400}"),
            ({"weight_decay": -1}, "weight_decay must be a number from 0 on, found -1"),
            ({"momentum": 1.0}, "momentum must be a number from 0 on and below 1, found 1.0"),
            ({"momentum": 0.9999999999}, "momentum must be a number from 0 on and below 1, found 0.9999999999"),
            ({"max_iter": 0}, "max_iter must be an integer from 1 to 2147483647, found 0"),
            ({"max_iter": 10.0}, "max_iter must be an integer from 1 to 2147483647, found 10.0"),
            ({"max_iter": 2**31}, "max_iter must be an integer from 1 to 2147483647, found 2147483648"),
            ({"snapshot": -1}, "snapshot must be an integer from 0 to 2147483647, found -1"),
            ({"random_seed": -1}, "random_seed must be an integer from 0 to 4294967295, found -1"),
            ({"test_initialization": 1}, "test_initialization must be true or false, found 1"),
            ({"clip_gradients": -1}, "clip_gradients must be a number above 0, found -1"),
            ({"regularization_type": "L3"}, "regularization_type must be one of L1, L2, found 'L3'"),
            ({"momentum2": 0.9}, "momentum2 is for type Adam, found type SGD"),
            (
                {"type": "AdaGrad", "momentum": 0.0},
                "momentum is for type SGD or Nesterov or Adam or AdaDelta, found type AdaGrad",
            ),
            ({"type": "Adam", "rms_decay": 0.9}, "rms_decay is for type RMSProp, found type Adam"),
            ({"stepvalue": (1,)}, "stepvalue is for lr_policy multistep, found lr_policy fixed"),
            (
                {"lr_policy": "step", "gamma": 0.1},
                "lr_policy step needs stepsize: iterations between two changes of the rate; for sigmoid the middle",
            ),
            (
                {"lr_policy": "step", "gamma": -0.1, "stepsize": 3},
                "gamma must be a number above 0 for lr_policy step, found -0.1",
            ),
            *(
                (
                    {"lr_policy": "multistep", "gamma": 0.1, "stepvalue": value},
                    f"stepvalue must be integers from 1 on, each above the last, found {value!r}",
                )
                for value in ([], [3, 3], [0, 1], 5, [1, "2"])
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, settings: dict[str, Any], message: str) -> None:
        assert refused(**settings) == f"solver: {message}"

    def test_settings_have_names(self) -> None:
        with pytest.raises(SolverError) as caught:
            Solver("Adam")
        assert caught.value.message == "solver: expected settings by name, as base_lr=0.01, found 'Adam'"

    @pytest.mark.parametrize("policy", POLICIES)
    def test_each_policy_needs_what_it_uses_and_no_more(self, policy: str) -> None:
        assert Solver(lr_policy=policy, **NEEDED[policy]).rate(0) >= 0
        for name in NEEDED[policy]:
            given = {other: value for other, value in NEEDED[policy].items() if other != name}
            assert refused(lr_policy=policy, **given).startswith(f"solver: lr_policy {policy} needs {name}: ")


class TestRate:
    def test_it_is_what_the_policy_says(self) -> None:
        rates = {
            policy: [Solver(base_lr=1, max_iter=4, lr_policy=policy, **NEEDED[policy]).rate(i) for i in (0, 2, 4)]
            for policy in POLICIES
        }
        assert rates == {
            "fixed": [1, 1, 1],
            "step": [1, 0.5, 0.25],
            "exp": pytest.approx([1, 0.81, 0.6561]),
            "inv": pytest.approx([1, 1.2**-0.5, 1.4**-0.5]),
            "multistep": [1, 0.5, 0.25],
            "poly": pytest.approx([1, 0.5**1.5, 0]),
            "sigmoid": pytest.approx([1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(0.5))]),
        }

    def test_one_that_grows_without_end_is_infinite(self) -> None:
        assert Solver(lr_policy="exp", gamma=2).rate(10_000) == float("inf")
        assert Solver(lr_policy="sigmoid", gamma=-5, stepsize=1).rate(10_000) == 0


class TestOverrides:
    def test_each_kind_of_value(self) -> None:
        given = Solver(base_lr=0.5, momentum=0.5)
        texts = ["lr_policy=multistep", "gamma = 1e-1", "stepvalue=10,20", "max_iter=7", "test_initialization=true"]
        assert parse_overrides([*texts, "momentum=default"], given) == Solver(
            base_lr=0.5, lr_policy="multistep", gamma=0.1, stepvalue=(10, 20), max_iter=7, test_initialization=True
        )
        assert parse_overrides([]) == Solver()
        assert parse_overrides(["test_initialization=false"], Solver(test_initialization=True)) == Solver()

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            (["base_lr"], "solver=base_lr: expected key=value, found 'base_lr'"),
            (["=3"], "solver==3: expected key=value, found '=3'"),
            (["momentun=0.9"], "solver=momentun=0.9: there is no setting momentun: did you mean momentum?"),
            (["base_lr=fast"], "solver=base_lr=fast: base_lr must be a number above 0, found 'fast'"),
            (["base_lr=nan"], "solver=base_lr=nan: base_lr must be a number above 0, found 'nan'"),
            (["base_lr="], "solver=base_lr=: base_lr must be a number above 0, found ''"),
            (
                ["max_iter=1e3"],
                "solver=max_iter=1e3: max_iter must be an integer from 1 to 2147483647, found '1e3'",
            ),
            (
                ["test_initialization=yes"],
                "solver=test_initialization=yes: test_initialization must be true or false, found 'yes'",
            ),
            (["base_lr=1", "base_lr=2"], "solver=base_lr=2: base_lr is given twice"),
            (["type=SGD"], "solver: momentum2 is for type Adam, found type SGD (after solver=type=SGD)"),
        ],
    )
    def test_what_is_wrong_is_said(self, texts: list[str], message: str) -> None:
        with pytest.raises(SolverError) as caught:
            parse_overrides(texts, Solver(type="Adam", momentum2=0.99))
        assert str(caught.value) == f"SolverError: {message}"


def row(name: str) -> str:
    setting = SETTINGS[name]
    default = setting.default
    if isinstance(default, Mapping):
        default = ", ".join(f"{kind} {value:g}" for kind, value in default.items())
    users = ", ".join(setting.types or setting.policies) or "all"
    return (
        f"| `{name}` | {setting.kind.expected} | {'' if default is None else default} | {users} | {setting.meaning} |"
    )


def test_the_page_lists_every_setting_as_it_is() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## The solver")[1]
    rows = re.findall(r"^\| `.*", table, re.MULTILINE)
    assert rows == [row(name) for name in SETTINGS]


# Draws its own data, so that it needs no file.
NET = """
name: "drawn"
layer {
  name: "data" type: "DummyData" top: "x" top: "t"
  dummy_data_param {
    shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { type: "gaussian" }
  }
}
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


@pytest.mark.caffe
class TestCaffeProgram:
    def run(self, caffe: Runner, folder: Path, text: str, *options: str) -> str:
        """What ``caffe train`` says on a solver's file in ``folder``."""
        binary = caffe.location.caffe_binary
        assert binary is not None
        (folder / "net.solver.prototxt").write_text(text)
        ended = subprocess.run(
            [binary, "train", "--solver=net.solver.prototxt", *options],
            cwd=folder,
            env=caffe.location.environment() | {"GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        return ended.stderr

    @pytest.mark.parametrize(("kind", "policy"), [*zip(TYPES, POLICIES[1:], strict=True), ("SGD", "fixed")])
    def test_it_takes_every_type_and_policy(self, caffe: Runner, tmp_path: Path, kind: str, policy: str) -> None:
        (tmp_path / "net.prototxt").write_text(NET)
        solver = Solver(type=kind, lr_policy=policy, max_iter=6, snapshot=3, clip_gradients=5, **NEEDED[policy])
        log = self.run(caffe, tmp_path, solver_text(solver, "net.prototxt", "made", "cpu", test_batches=2))
        assert "Optimization Done." in log
        assert log.count("Test net output #0: loss") == 1
        for iteration in (3, 6):
            assert (tmp_path / f"made_iter_{iteration}.caffemodel").stat().st_size > 0

    def test_it_goes_on_from_a_snapshot_of_lstmc(self, caffe: Runner, tmp_path: Path) -> None:
        net, solver = line(), Solver(type="Adam", max_iter=5)
        ended = train(caffe, net, solver, tmp_path / "run")
        (tmp_path / "net.prototxt").write_text(net.prototxt)
        text = solver_text(replace(solver, max_iter=7), "net.prototxt", "made", "cpu")
        log = self.run(caffe, tmp_path, text, f"--snapshot={ended.snapshot}/solver.solverstate")
        assert "Optimization Done." in log
        assert (tmp_path / "made_iter_7.caffemodel").is_file()


def test_the_file_has_every_setting_that_is_used() -> None:
    solver = Solver(type="RMSProp", lr_policy="multistep", gamma=0.5, stepvalue=(1, 2), test_iter=3, test_interval=4)
    message = text_format.Parse(solver_text(solver, "n.prototxt", "s/n", "gpu"), SolverParameter())
    assert (message.net, message.snapshot_prefix, message.solver_mode) == ("n.prototxt", "s/n", 1)
    assert (list(message.test_iter), message.test_interval, list(message.stepvalue)) == ([3], 4, [1, 2])
    for name in SETTINGS:
        value = getattr(solver, name)
        assert message.HasField(name) == (value is not None) if name not in ("stepvalue", "test_iter") else True, name
        if isinstance(value, float):
            assert getattr(message, name) == pytest.approx(value)
    assert "test_" not in solver_text(Solver(), "n.prototxt", "s/n", "cpu")


@pytest.mark.caffe
def test_what_is_filled_in_is_caffes_and_no_setting(caffe: Runner) -> None:
    file = FileDescriptorProto.FromString(schema(caffe))
    (message,) = (message for message in file.message_type if message.name == "SolverParameter")
    assert set(FILLED_IN) | set(SETTINGS) <= {field.name for field in message.field}
    assert set(FILLED_IN).isdisjoint(SETTINGS)
