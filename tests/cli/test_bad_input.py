"""What a person can get wrong on the command line: the exact text, exit code 2, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstmc.api import pass_names
from lstmc_caffe.targets.target import OWN
from lstmc_tflite.backend import targets
from tests.cli.conftest import LSTMC, MODEL

SIZES = ("-D", "T=3", "-D", "N=2")
OTHERS = f"c, onnx, {', '.join(targets())}, torch"


def refused(lstmc: LSTMC, *arguments: str) -> str:
    """What is printed when a command is refused; nothing may be written."""
    before = sorted(Path().rglob("*"))
    ended = lstmc(*arguments)
    assert (ended.code, ended.out) == (2, "")
    after = [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]
    assert after == [path for path in before if "__pycache__" not in path.parts]
    assert "Traceback" not in ended.err
    return ended.err


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (("T3",), "DimError: -D takes NAME=INT, as in -D T=3, found 'T3'\n"),
        (("T=three",), "DimError: -D takes NAME=INT, as in -D T=3, found 'T=three'\n"),
        (("T=3", "T=4"), "DimError: -D T is given twice: as 3 and as 4\n"),
        (
            ("T=3", "N=2", "Q=5"),
            "DimError: unknown dimension Q: net has T, N\n"
            "  net.py:13:1 in model 'net'\n"
            "    def net(X=Input(T, N, 3)):\n"
            "    ^^^^^^^\n",
        ),
        (
            ("T=3",),
            "DimError: dimension N of input X [T, N, 3] is not bound: give it a size with -D N=SIZE\n"
            "  net.py:13:11 in model 'net'\n"
            "    def net(X=Input(T, N, 3)):\n"
            "              ^^^^^^^^^^^^^^\n"
            "  for example -D N=1\n",
        ),
        (
            ("T=0", "N=2"),
            "DimError: dimension T must be at least 1, found 0 (given as T=0)\n"
            "  net.py:13:1 in model 'net'\n"
            "    def net(X=Input(T, N, 3)):\n"
            "    ^^^^^^^\n",
        ),
    ],
)
def test_sizes(lstmc: LSTMC, model_file: Path, sizes: tuple[str, ...], text: str) -> None:
    given = [word for size in sizes for word in ("-D", size)]
    assert refused(lstmc, "compile", str(model_file), *given, "-o", "made") == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("compile", "--seed", "²"), "Invalid value for '--seed': expected an integer from 0 on, found '²'"),
        (("verify", "--seed", "-1"), "Invalid value for '--seed': expected an integer from 0 on, found '-1'"),
        (("compile", "--seed", "1_0"), "Invalid value for '--seed': expected an integer from 0 on, found '1_0'"),
        (
            ("train", "net.py", "--data", "x", "-o", "r", "--test-split", "nan"),
            "Invalid value for '--test-split': expected a number from 0 on, found 'nan'",
        ),
        (
            ("train", "net.py", "--data", "x", "-o", "r", "--epochs", "1e999"),
            "Invalid value for '--epochs': expected a number from 0 on, found '1e999'",
        ),
        (
            ("run", "net.onnx", "--workers", "\x1b[31m"),
            r"Invalid value for '--workers': expected an integer from 0 on, found '\x1b[31m'",
        ),
    ],
)
def test_arguments_of_another_kind(lstmc: LSTMC, arguments: tuple[str, ...], text: str) -> None:
    said = refused(lstmc, *arguments).splitlines()
    assert said[0].startswith("Usage: ")
    assert said[-1] == f"Error: {text}"


def test_an_unknown_option_colours_no_terminal(lstmc: LSTMC) -> None:
    assert refused(lstmc, "compile", "--\x1b[31m").splitlines()[-1] in (
        "Error: No such option: --",  # Typer until 0.27
        r"Error: No such option: --\x1b[31m",
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "ModelFileError: expected a model file, FILE or FILE:MODEL, or --cell NAME, found neither\n"),
        (
            ("net.py", "--cell", "gru"),
            "ModelFileError: expected a model file, FILE or FILE:MODEL, or --cell NAME, found both\n",
        ),
        (("absent.py",), "ModelFileError: no such model file: absent.py\n"),
        (("net.py:other",), "ModelFileError: net.py has no model other: found net, step\n"),
        (
            ("net.py", *SIZES, "--backend", "jax"),
            "PluginError: unknown backend 'jax': available c, caffe, onnx, tflite, torch\n",
        ),
        (
            ("net.py", *SIZES, "--target", "toaster"),
            f"PluginError: backend caffe has no target toaster: found {', '.join(OWN)}; of other backends {OTHERS}\n",
        ),
        (("net.py", *SIZES, "--weights", "absent.npz"), "WeightsError: absent.npz: no such file\n"),
        (
            ("net.py", *SIZES, "--weights", "net.py"),
            "WeightsError: net.py: expected an .npz file of named arrays, found something else\n",
        ),
    ],
)
def test_names(lstmc: LSTMC, model_file: Path, arguments: tuple[str, ...], text: str) -> None:
    assert refused(lstmc, "compile", *arguments, "-o", "made") == text


GRU = ("--cell", "gru", *(word for size in ("T=3", "N=2", "D=3", "H=4") for word in ("-D", size)))
PLACES = (
    "interpreter, native, caffe-cpu, caffe-gpu, acuity, coreml, mnn, ncnn, opencv, openvino, openvino-2022.3,"
    " openvino-2023.3, rknn, tpu-mlir"
)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("compile", "--cell", "lstn"), "PluginError: unknown cell 'lstn': did you mean lstm?"),
        (("cells", "GRUU"), "PluginError: unknown cell 'GRUU': did you mean gru?"),
        (("compile", *GRU, "--target", "flta"), "PluginError: backend caffe has no target flta: did you mean flat?"),
        (
            ("compile", *GRU, "--target", "tflit"),
            "PluginError: backend caffe has no target tflit: did you mean tflite?",
        ),
        (("compile", *GRU, "--backend", "onx"), "PluginError: unknown backend 'onx': did you mean onnx?"),
        (
            ("compile", *GRU, "--form", "packed-in-lop"),
            "BackendError: --form packed-in-lop: target caffe has no such form: did you mean packed-in-loop?",
        ),
        (("compile", *GRU, "--keep", "h_t"), "ModelFileError: --keep h_t: gru has no such output: did you mean h_T?"),
        (("show", *GRU, "--after", "hoits"), "PassError: there is no pass hoits: did you mean hoist?"),
        (
            ("verify", *GRU, "--on", "interpretor"),
            f"BackendError: --on takes one of {PLACES}, tvm, x2paddle, found 'interpretor': did you mean interpreter?",
        ),
        (
            ("verify", *GRU, "--on", "opncv"),
            f"BackendError: --on takes one of {PLACES}, tvm, x2paddle, found 'opncv': did you mean opencv?",
        ),
        (("compile", "net.py:nett", *SIZES), "ModelFileError: net.py has no model nett: did you mean net?"),
        (("cells", "-D", "d=3"), "DimError: no cell of lstmc has a dimension d: did you mean D?"),
        (
            ("compile", *GRU, "--backend", "onnx", "-O", "opsett=13"),
            "BackendError: -O takes NAME=VALUE, for backend onnx with one of opset, open, found 'opsett=13':"
            " did you mean opset?",
        ),
    ],
)
def test_a_name_that_is_near_to_what_was_meant(
    lstmc: LSTMC, model_file: Path, arguments: tuple[str, ...], text: str
) -> None:
    assert refused(lstmc, *arguments) == text + "\n"


NO_TARGET = "PluginError: backend caffe has no target"
NPZ = "the arrays are written as .npz: expected a name ending in .npz"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("compile", *GRU, "--target", "stm32"), f"{NO_TARGET} stm32: for a microcontroller write C: --target c"),
        (
            ("compile", *GRU, "--target", "cortex-m4"),
            f"{NO_TARGET} cortex-m4: for a microcontroller write C: --target c",
        ),
        (("compile", *GRU, "--target", "ESP32"), f"{NO_TARGET} ESP32: for a microcontroller write C: --target c"),
        (("compile", *GRU, "--target", "arduno"), f"{NO_TARGET} arduno: for a microcontroller write C: --target c"),
        (
            ("compile", *GRU, "--target", "gpu"),
            f"{NO_TARGET} gpu: found {', '.join(OWN)}; of other backends {OTHERS}",
        ),
        (
            ("compile", *GRU, "--target", "caffe", "-O", "numbers=cpu-int8"),
            "BackendError: numbers: products in int8 are of generated layers: expected a target with these, as"
            " caffe-fused, found caffe",
        ),
        (("compile", "folder"), "ModelFileError: folder is a folder: expected a model file, FILE.py"),
        (
            ("compile", "den.onnx"),
            "ModelFileError: den.onnx is not a Python file: expected a name ending in .py; a trained model is converted"
            " first, as by lstmc convert",
        ),
        (
            ("verify", *GRU, "--on", "onnx"),
            f"BackendError: --on takes one of {PLACES}, tvm, x2paddle, found 'onnx': a runtime of another backend, give"
            " --backend onnx too",
        ),
        (
            ("verify", *GRU, "--on", "torch-cpu"),
            f"BackendError: --on takes one of {PLACES}, tvm, x2paddle, found 'torch-cpu': a runtime of another backend,"
            " give --backend torch too",
        ),
        (
            ("show", *GRU, "--after", "99"),
            f"PassError: there is no pass 99: the list has passes 1 to {len(pass_names('caffe'))}, and 0 is the model",
        ),
        (("run", "net.prototxt", "--inputs", "x.npz", "-o", "y.txt"), f"OutputError: y.txt: {NPZ}"),
        (("run", "net.prototxt", "--save-weights", "w"), f"OutputError: w: {NPZ}"),
        (("compile", *GRU, "--weights", "."), "WeightsError: .: cannot be read: Is a directory"),
        (("compile", *GRU, "--weights", "/"), "WeightsError: /: cannot be read: Is a directory"),
    ],
)
def test_a_file_or_a_word_of_another_kind(lstmc: LSTMC, arguments: tuple[str, ...], text: str) -> None:
    Path("folder").mkdir()
    for name in ("den.onnx", "net.prototxt", "net.caffemodel"):
        Path(name).touch()
    assert refused(lstmc, *arguments) == text + "\n"


def test_the_advice_of_these_messages_works(lstmc: LSTMC) -> None:
    assert lstmc("compile", *GRU, "--target", "c").code == 0
    assert lstmc("verify", *GRU, "--backend", "onnx", "--on", "onnx").code == 0
    assert lstmc("run", "net.prototxt", "--inputs", "x.npz", "-o", "y.npz").err.startswith("ModelFileError: no such")


def test_more_than_the_memory(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise MemoryError("Unable to allocate 8.00 GiB")

    monkeypatch.setattr("lstmc.api.models.bound_weights", failing)
    assert refused(lstmc, "compile", *GRU) == "there is not enough memory: Unable to allocate 8.00 GiB\n"


def test_outputs_into_a_folder_of_that_name(lstmc: LSTMC) -> None:
    Path("y.npz").mkdir()
    assert lstmc("compile", *GRU, "--backend", "c").code == 0
    np.savez("x.npz", **{"x": np.zeros((1, 2, 3)), "gru/h_in": np.zeros((2, 4))})
    ended = lstmc("run", "gru.c", "--inputs", "x.npz", "-o", "y.npz")
    assert ended.err == "OutputError: cannot write y.npz: it is a folder: nothing was changed\n"


def test_a_command_and_an_option_that_are_near_to_what_was_meant(lstmc: LSTMC) -> None:
    assert refused(lstmc, "compil").endswith("Error: No such command 'compil'. Did you mean 'compile'?\n")
    assert refused(lstmc, "compile", "--sell", "gru").endswith("Error: No such option: --sell: did you mean --cell?\n")
    assert refused(lstmc, "compile", "--oo").endswith("Error: No such option: --oo\n")  # -o is none of two dashes
    assert refused(lstmc, "run", "net.prototxt", "--on", "gpu").endswith(
        "Error: No such option: --on: run computes the net with the backend that wrote it, on the CPU, or on a GPU with"
        " --gpu\n"
    )


@pytest.mark.parametrize("command", ["compile", "verify", "show"])
def test_an_option_of_a_model_is_set_by_train_and_sweep_alone(lstmc: LSTMC, command: str) -> None:
    assert refused(lstmc, command, "net.py", "--set", "cell=gru").endswith(
        "Error: No such option: --set: only train and sweep set the options of a model. To compile it with other"
        " values, change the defaults in its file, or call lstmc.compile(model.with_options(NAME=VALUE), ...) in"
        " Python\n"
    )


def test_a_file_with_several_models(lstmc: LSTMC, model_file: Path) -> None:
    model_file.write_text(MODEL + MODEL[MODEL.index("@model") :].replace("net", "net2"))
    expected = "ModelFileError: net.py has several models: expected net.py:NAME with one of net, net2\n"
    assert refused(lstmc, "compile", "net.py", *SIZES) == expected


def test_a_file_without_a_model(lstmc: LSTMC, model_file: Path) -> None:
    cell = MODEL[MODEL.index("@cell") : MODEL.index("@model")]
    model_file.write_text(MODEL[: MODEL.index("@model")] + cell.replace("step", "other"))
    expected = (
        "ModelFileError: net.py has no model: expected a function made with @model,"
        " found the cells step, other: name one, net.py:step\n"
    )
    assert refused(lstmc, "compile", "net.py", *SIZES) == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "import lstmc\n\nx = lstmc.cel\n",
            "ModelFileError: bad.py does not import: AttributeError: module 'lstmc' has no attribute 'cel'\n"
            "  bad.py:3:5\n"
            "    x = lstmc.cel\n"
            "        ^^^^^^^^^\n",
        ),
        (
            "def f(:\n    pass\n",
            "ModelFileError: bad.py does not import: SyntaxError: invalid syntax\n"
            "  bad.py:1:7\n"
            "    def f(:\n"
            "          ^\n",
        ),
    ],
)
def test_a_file_that_does_not_import(lstmc: LSTMC, content: str, text: str) -> None:
    Path("bad.py").write_text(content)
    assert refused(lstmc, "compile", "bad.py") == text


def test_the_users_own_mistake_while_tracing(lstmc: LSTMC, model_file: Path) -> None:
    model_file.write_text(MODEL.replace('return {"Y"', 'return {1 / 0: y, "Y"'))
    expected = (
        "ModelFileError: net.py:net does not trace: ZeroDivisionError: division by zero\n"
        "  net.py:15:13\n"
        '    return {1 / 0: y, "Y": y, "h_T": last["h"]}\n'
        "            ^^^^^\n"
    )
    assert refused(lstmc, "compile", "net.py", *SIZES) == expected


def test_weights_name_every_problem_at_once(lstmc: LSTMC, model_file: Path) -> None:
    np.savez("w.npz", **{"step/W": np.zeros((4, 4)), "step/V": np.zeros(2)})
    assert refused(lstmc, "compile", "net.py", *SIZES, "--weights", "w.npz") == (
        "WeightsError: w.npz does not fit net\n"
        "  missing: step/U f32[4,4]\n"
        "  extra: step/V f32[2]\n"
        "  wrong shape: step/W must be f32[4,3], found f32[4,4]\n"
    )


def test_weights_that_are_not_finite(lstmc: LSTMC, model_file: Path) -> None:
    bad = np.zeros((4, 3))
    bad[1, 2] = np.nan
    np.savez("w.npz", **{"step/W": bad, "step/U": np.zeros((4, 4))})
    assert refused(lstmc, "compile", "net.py", *SIZES, "--weights", "w.npz") == (
        "WeightsError: w.npz does not fit net\n"
        "  not finite: step/W has 1 of 12 elements NaN or infinite, the first at [1, 2]\n"
    )


def test_a_folder_that_cannot_be_made(lstmc: LSTMC, model_file: Path) -> None:
    assert refused(lstmc, "compile", "net.py", *SIZES, "-o", "net.py/made") == (
        "OutputError: cannot write into net.py/made: Not a directory: nothing was changed there\n"
    )


def run_limited(folder: Path, limit: str) -> subprocess.CompletedProcess[str]:
    command = f"{limit} exec {sys.executable} -m lstmc compile --cell lstm -D T=2 -D N=1 -D D=200 -D H=200 -o {folder}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_disk_that_is_full_keeps_what_was_there(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk where there is no right to mount one."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "lstm.prototxt").write_text("the old one")
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    try:
        if mounted:
            (folder / "lstm.prototxt").write_text("the old one")
        ended = run_limited(folder, "" if mounted else "ulimit -f 64;")
        reason = "No space left on device" if mounted else "File too large"
        assert ended.returncode == 2
        assert ended.stderr == f"OutputError: cannot write into {folder}: {reason}: nothing was changed there\n"
        assert [path.name for path in folder.iterdir()] == ["lstm.prototxt"]
        assert (folder / "lstm.prototxt").read_text() == "the old one"
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
