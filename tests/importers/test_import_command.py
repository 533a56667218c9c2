"""``lstmc import``: what it writes, and that what it writes is a model like any other."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import LSTMC, lstmc  # noqa: F401
from tests.importers.torch_files import save, tagger

WRITTEN = '''\
"""Imported from tagger.pt by lstmc 0.1.0. Edit it as you like.

The weights are in weights.npz, by this model's names; import.json says what each is made of.

Not used, as only the recurrent layers are imported: fc.weight, fc.bias.
"""

from lstmc import Input, Param, State, cell, dims, linear, model, scan, sigmoid, split, tanh

T, N, D, H = dims("T N D H")


@cell
def lstm_cell(
    x=Input(N, D), h=State(N, H), c=State(N, H), *, W_x=Param(4 * H, D), b=Param(4 * H),
    W_h=Param(4 * H, H),
):
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4, axis=1)
    c_next = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h_next = sigmoid(o) * tanh(c_next)
    return h_next, {"h": h_next, "c": c_next}


@model
def net(
    X=Input(T, N, 5),
):
    layer_y, layer_last = scan(lstm_cell(H=4, name="layer"), X)
    return {"Y": layer_y, "h_T": layer_last["h"], "c_T": layer_last["c"]}
'''


def test_an_imported_model_is_a_model_like_any_other(lstmc: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    done = lstmc("convert", "--no-compile", "tagger.pt", "-o", "out", "--recurrent-only")
    assert done.code == 0, done.err
    assert "Not used, as only the recurrent layers are imported: fc.weight, fc.bias." in done.out
    assert Path("out/model.py").read_text() == WRITTEN
    sizes = ("-D", "T=3", "-D", "N=2")
    verified = lstmc("verify", "out/model.py", "--weights", "out/weights.npz", *sizes, "--on", "interpreter")
    assert verified.code == 0, verified.err
    assert "all" in verified.out


@pytest.mark.slow
def test_nets_of_one_program_in_c_have_names(lstmc: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    command = ("convert", "tagger.pt", "--recurrent-only", "--step", "--backend", "c", "--on", "interpreter", "-o", "c")
    for name in ("first", "second"):
        done = lstmc(*command, "--name", name)
        assert done.code == 0, done.err
    steps = "".join(f"int main_{name}(void) {{ return sizeof({name}_state) == 32; }}" for name in ("first", "second"))
    main = f'#include "first.h"\n#include "second.h"\n{steps} int main(void) {{ return main_first() - main_second(); }}'
    Path("c/main.c").write_text(main)
    subprocess.run(["gcc", "main.c", "first.c", "second.c", "-lm", "-o", "main"], cwd="c", check=True)
    subprocess.run([Path("c/main").resolve()], check=True)


@pytest.mark.parametrize("name", ["linear", "gru_cell_2", "a-b", "class"])
def test_a_name_that_the_written_model_needs_is_refused(lstmc: LSTMC, name: str) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    done = lstmc("convert", "tagger.pt", "--recurrent-only", "--no-compile", "-o", "out", "--name", name)
    assert done.code == 2
    assert f"--name {name}: expected a Python name that is no word of lstmc" in done.err


def test_the_record_says_where_every_parameter_came_from(lstmc: LSTMC) -> None:  # noqa: F811
    save(tagger(), Path("tagger.pt"), "zip")
    lstmc("convert", "--no-compile", "tagger.pt", "-o", "out", "--recurrent-only")
    record = json.loads(Path("out/import.json").read_text())
    assert record["inputs"] == {"X": {"shape": ["T", "N", 5]}}
    assert record["parameters"]["layer/W_x"] == {
        "shape": [16, 5],
        "from": ["layer.weight_ih_l0"],
        "recipe": "rows i, f, o, g of layer.weight_ih_l0",
    }
    used = {name for told in record["parameters"].values() for name in told["from"]}
    assert used | set(record["ignored"]) == set(tagger().state_dict())
    assert not used & set(record["ignored"])


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors", "module", "script"])
def test_nothing_of_a_file_is_left_out_unless_that_is_asked_for(lstmc: LSTMC, container: str) -> None:  # noqa: F811
    save(tagger(), Path("tagger"), container)
    done = lstmc("convert", "--no-compile", "tagger", "-o", "out")
    assert done.code == 2
    assert not Path("out").exists()
    found = {
        "module": "a module of class tests.importers.torch_files.Tagger: its computation is known only by"
        " running its code",
        "script": "a TorchScript program: its computation is known only by running its code",
        "safetensors": "fc.bias, fc.weight: a state dict does not record what these tensors are for, nor in which order"
        " they are used",
    }.get(
        container,
        "fc.weight, fc.bias: a state dict does not record what these tensors are for, nor in which order they are used",
    )
    assert done.err == (
        "RefusedError: tagger cannot be imported: 1 problem\n"
        f"  tagger: {found}; save the program instead, torch.export.save(torch.export.export(module.eval(),"
        ' (example,)), "model.pt2"), or give the module to lstmc.from_torch; --recurrent-only imports the recurrent'
        " layers alone\n"
    )
    assert lstmc("convert", "--no-compile", "tagger", "-o", "out", "--recurrent-only").code == 0


def test_what_a_file_does_not_say_is_asked_for(lstmc: LSTMC) -> None:  # noqa: F811
    torch.save(torch.nn.RNN(3, 2).state_dict(), "rnn.pt")
    done = lstmc("convert", "--no-compile", "rnn.pt", "-o", "out")
    assert done.code == 2
    assert done.err == (
        "RefusedError: rnn.pt cannot be imported: 1 problem\n"
        "  the recurrent layer: nonlinearity = unknown: a state dict does not record whether a plain RNN uses tanh or"
        " relu; give it by activation: tanh or relu\n"
    )
    assert not Path("out").exists()
    assert lstmc("convert", "--no-compile", "rnn.pt", "-o", "out", "--activation", "relu").code == 0


@pytest.mark.parametrize("name", ["none.pt", "text.pt"])
def test_an_error_has_no_traceback(lstmc: LSTMC, name: str) -> None:  # noqa: F811
    Path("text.pt").write_text("hello")
    done = lstmc("convert", "--no-compile", name, "-o", "out")
    assert done.code == 2
    assert done.err.startswith("SourceError: ")
    assert "Traceback" not in done.err


def test_weights_that_are_no_numbers_are_refused(lstmc: LSTMC) -> None:  # noqa: F811
    state = tagger().state_dict()
    state["layer.weight_ih_l0"][0, 0] = float("nan")
    torch.save(state, "nan.pt")
    done = lstmc("convert", "--no-compile", "nan.pt", "-o", "out", "--recurrent-only")
    assert done.code == 2
    assert done.err == (
        "WeightsError: the weights of nan.pt cannot be used\n"
        "  not finite: layer/W_x has 1 of 80 elements NaN or infinite, the first at [0, 0]\n"
    )
