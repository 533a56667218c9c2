"""What ``lstmc train`` refuses: before anything is trained or written, by exact text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import LSTMC
from tests.cli.test_train import MODEL, SIZES, arrays, interpreter, train

__all__ = ["interpreter"]  # a fixture of these tests too
WITHOUT_LOSS = MODEL.replace('"loss": softmax_loss(scores, label), "accuracy": accuracy(scores, label)', '"q": scores')
ONLY_LOSS = MODEL.replace('"p": softmax(scores), ', "")
CARRYING = MODEL.replace("X, cont=cont)", "X, cont=cont, carry=True)")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (arrays(label=None), "missing: label [examples]"),
        (
            arrays(lable=np.zeros(22), label=None),
            "missing: label [examples]\n  extra: lable [22]: did you mean label?",
        ),
        (
            arrays(label=np.full(22, 3)),
            "outside: label must be integers from 0 to 2, has 22 of 22 elements that are not, the first at [0]: 3",
        ),
        (arrays(3), "too few examples: found 3, a batch has N = 4: make it smaller with -D N=SIZE"),
    ],
)
def test_data(lstmc: LSTMC, data: Mapping[str, Any], text: str) -> None:
    ended = train(lstmc, "-o", "run", data=dict(data))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"DataError: data.npz does not fit net\n  {text}\n"
    assert not Path("run").exists()


def test_test_data_are_held_against_the_model_too(lstmc: LSTMC) -> None:
    np.savez("test.npz", **arrays(X=np.zeros((4, 22, 2))))
    ended = train(lstmc, "-o", "run", "--test-data", "test.npz")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "DataError: test.npz does not fit net\n"
        "  wrong shape: X must be [T=3, examples, 2] or [batches, T=3, N=4, 2], found [4, 22, 2]\n"
    )


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--batch", "Q"), "DataError: --batch Q: no input of net has an axis Q: found T, N\n"),
        (
            ("--backend", "text"),
            "BackendError: backend text does not train: it has no training_targets, settings, train, build\n",
        ),
        (
            ("--target", "flat"),
            "PluginError: --backend interpreter: target flat is one of backend caffe: give --backend caffe, or the"
            " target alone\n",
        ),
        (("--weights", "none.npz"), "WeightsError: none.npz: no such file\n"),
        (("--data", "none.npz"), "DataError: none.npz: no such file\n"),
        (("--test-split", "1.5"), "DataError: --test-split takes a part between 0 and 1, found 1.5\n"),
        (("--test-split", "0.1"), "DataError: --test-split 0.1 makes 20 and 2 examples: a batch has 4\n"),
        (
            ("--test-split", "0.5", "--test-data", "data.npz"),
            "DataError: --test-data and --test-split both say what to score on: expected one of them\n",
        ),
    ],
)
def test_options(lstmc: LSTMC, more: tuple[str, ...], text: str) -> None:
    ended = train(lstmc, "-o", "run", *more)
    assert (ended.code, ended.out, ended.err) == (2, "", text)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            WITHOUT_LOSS,
            "PassError: net cannot be trained: expected an output called loss that is one number, such as"
            " softmax_loss(scores, labels), found p f32[4,3], q f32[4,3]\n",
        ),
        (
            ONLY_LOSS,
            "PassError: net returns nothing but loss, accuracy, which only training needs: return its other"
            " outputs too, such as scores\n",
        ),
        (
            CARRYING,
            "DataError: step/h_0 is carried over from batch to batch: expected a number of examples that whole batches"
            " of 4 make, found 22\n",
        ),
    ],
)
def test_models(lstmc: LSTMC, model: str, text: str) -> None:
    Path("other.py").write_text(model)
    np.savez("data.npz", **arrays())
    ended = lstmc("train", "other.py", "--data", "data.npz", *SIZES, "-o", "run")
    assert (ended.code, ended.out, ended.err) == (2, "", text)
    assert not Path("run").exists()


def test_a_net_of_one_output_takes_no_labels(lstmc: LSTMC) -> None:
    Path("other.py").write_text(MODEL)
    ended = lstmc("compile", "other.py", *SIZES, "--keep", "p")
    assert (ended.code, ended.err) == (0, "")
    manifest = json.loads(Path("net.manifest.json").read_text())
    assert manifest.pop("training_inputs") == ["label"]
    assert "label" not in json.dumps(manifest)
    refused = lstmc("compile", "other.py", *SIZES, "--keep", "loss")
    assert (refused.code, refused.err) == (2, "ModelFileError: --keep loss: net has no such output: found p\n")


TRAINING = "ModelFileError: there is no training net: "


@pytest.mark.parametrize(
    ("model", "more", "text"),
    [
        (WITHOUT_LOSS, ("--solver", "base_lr=1"), f"{TRAINING}net returns no loss\n"),
        (MODEL, ("--data", "data.npz", "--step"), f"{TRAINING}--step makes a net that is not trained\n"),
        (MODEL, ("--batch", "N", "--keep", "p"), f"{TRAINING}--keep makes a net that is not trained\n"),
        (
            MODEL,
            ("--data", "data.npz", "--target", "flat"),
            f"{TRAINING}nets for target flat are not trained: those for caffe, caffe-native, caffe-fused are\n",
        ),
        (
            MODEL,
            ("--test-data", "data.npz"),
            "DataError: --test-data is to score a net on that is trained on --data: expected both\n",
        ),
        (
            MODEL.replace("@model", '@model(solver={"base_lr": 1})'),
            (),
            "SolverError: @model(solver=...) takes a lstmc.Solver, found dict {'base_lr': 1}\n",
        ),
    ],
)
def test_a_training_net_that_is_not_written(lstmc: LSTMC, model: str, more: tuple[str, ...], text: str) -> None:
    Path("other.py").write_text(model)
    np.savez("data.npz", **arrays())
    ended = lstmc("compile", "other.py", *SIZES, *more, "-o", "made")
    assert (ended.code, ended.out, ended.err) == (2, "", text)
    assert not Path("made").exists()


def test_a_run_of_another_kind_is_not_touched_before_training_begins(lstmc: LSTMC) -> None:
    """The backend refuses to begin: what lies in the folder stays."""
    assert train(lstmc, "-o", "run").code == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    ended = train(lstmc, "-o", "run", "--solver", "refuse=1")
    assert (ended.code, ended.err) == (2, "BackendError: run has a run already\n")
    left = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert {name: left[name] for name in before} == before


def test_states_that_are_carried_keep_the_order(lstmc: LSTMC) -> None:
    Path("other.py").write_text(CARRYING)
    np.savez("data.npz", **arrays(20))
    ended = lstmc("train", "other.py", "--data", "data.npz", *SIZES, "-o", "run", "--solver", "max_iter=2")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("training on 20 examples in batches of 4, in order: 2 iterations, 0.4 epochs\n")


def test_sizes_come_from_the_data(lstmc: LSTMC) -> None:
    Path("net.py").write_text(MODEL)
    np.savez("data.npz", **arrays())
    given = ("train", "net.py", "--data", "data.npz")
    assert lstmc(*given, "-D", "N=4", "-o", "run", "--epochs", "0.5").code == 0
    record = json.loads(Path("run/command.json").read_text())
    assert record["sizes"] == {"N": 4, "T": 3}
    assert "22 examples" in lstmc(*given, "-D", "N=4", "-D", "T=3", "-o", "other").out
    ended = lstmc(*given, "-D", "N=4", "-D", "T=5", "-o", "third")
    assert "wrong shape: X must be [T=5, examples, 2] or [batches, T=5, N=4, 2], found [3, 22, 2]" in ended.err
    np.savez("data.npz", **arrays(cont=np.ones((4, 22))))
    ended = lstmc(*given, "-D", "N=4", "-o", "third")
    assert ended.err.startswith(
        "DimError: dimension T is 3 (in X [3, 22, 2] of the data) and 4 (in cont [4, 22] of the data)\n"
    )
    np.savez("data.npz", X=arrays()["X"].transpose(1, 0, 2), label=arrays()["label"])
    ended = lstmc(*given, "-D", "N=4", "-o", "third")
    assert ended.code == 2
    assert "sizes that the data show: T=22" in ended.err
    one = {"X": arrays()["X"][:, :4], "label": arrays()["label"][:4]}
    np.savez("data.npz", **{name: np.stack([array] * 5) for name, array in one.items()})
    assert "5 batches" in lstmc(*given, "-o", "third").out


def test_how_long_is_said_once(lstmc: LSTMC) -> None:
    Path("net.py").write_text(MODEL)
    np.savez("data.npz", **arrays())
    given = ("train", "net.py", "--data", "data.npz", *SIZES, "-o", "run")
    assert "6 iterations, 1.09 epochs" in lstmc(*given, "--epochs", "1").out
    assert lstmc(*given, "--epochs", "1", "--solver", "max_iter=3").err == (
        "TrainingError: --epochs 1 and the solver's max_iter both say how long to train: expected one of them\n"
    )
    assert lstmc(*given, "--epochs", "0").err == "TrainingError: --epochs 0: expected a number above 0\n"
    assert lstmc(*given, "--resume", "--overwrite").err == (
        "TrainingError: --resume continues a run and --overwrite starts it again: give one of them\n"
    )


def test_an_option_of_other_programs_is_answered_with_what_to_write(lstmc: LSTMC) -> None:
    for option, write in (
        ("--lr", "Write --solver base_lr=NUMBER.\n"),
        ("--batch-size", "Write -D N=INT.\n"),
        ("--weight_decay", "Write --solver weight_decay=VALUE for a setting of the solver, -D NAME=INT for a size.\n"),
    ):
        ended = lstmc("train", "net.py", "--data", "data.npz", "-o", "run", option, "1")
        assert ended.code == 2
        assert ended.err.endswith(write)
    assert "Write" not in lstmc("compile", "net.py", "--lr", "1").err
