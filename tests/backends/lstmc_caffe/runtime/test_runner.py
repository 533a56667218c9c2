"""The worker's life: starting, deadlines, aborts and kills, and that nothing is left behind."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lstmc_caffe.processes.process import CaffeAborted, CaffeError, CaffeLocation, CaffeRequestError, CaffeTimeout
from lstmc_caffe.runtime import runner as running
from lstmc_caffe.runtime.runner import Net, Runner
from tests.backends.lstmc_caffe.in_worker import FORCED

FUNCTIONS = """
import os, signal, time

def sleep(args, arrays):
    time.sleep(args)
    return "slept", {}

def interrupt_and_sleep(args, arrays):
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(1000)

def die(args, arrays):
    os.kill(os.getpid(), args)

def fill_stderr_and_die(args, arrays):
    os.write(2, b"x" * 3000000 + b"\\nthe last words\\n")
    os._exit(7)
"""

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
GOOD = f'name: "good"\n{INPUT}layer {{ name: "y" type: "Power" bottom: "x" top: "y" }}\n'
# The weights of the first layer are [4, 3]; the second needs [4, 4] by the same name.
BAD = f"""name: "bad"
{INPUT}
layer {{ name: "one" type: "InnerProduct" bottom: "x" top: "a" param {{ name: "W" }}
        inner_product_param {{ num_output: 4 }} }}
layer {{ name: "two" type: "InnerProduct" bottom: "a" top: "b" param {{ name: "W" }}
        inner_product_param {{ num_output: 4 }} }}
"""


def script(path: Path, body: str) -> CaffeLocation:
    """A location whose Python is a shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return CaffeLocation(path, None, None, "setting")


def alive(pid: int) -> bool:
    """Whether a process is there, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestStart:
    def test_an_interpreter_that_ends_at_once(self, tmp_path: Path) -> None:
        location = script(tmp_path / "python", "echo 'no such module' >&2; exit 3")
        with Runner(location) as runner, pytest.raises(CaffeAborted) as caught:
            runner.load(GOOD)
        assert str(caught.value) == (
            "CaffeAborted: Caffe's process ended (exit status 3) when asked to start\n  last on stderr: no such module"
        )

    def test_an_interpreter_that_hangs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(running, "START_SECONDS", 0.3)
        with Runner(script(tmp_path / "python", "exec sleep 1000")) as runner, pytest.raises(CaffeTimeout) as caught:
            runner.load(GOOD)
        assert str(caught.value) == ("CaffeTimeout: Caffe did not start within 0.3 s; its process was ended")

    def test_an_interpreter_without_caffe(self) -> None:
        location = CaffeLocation(Path(sys.executable), "", None, "setting")
        with Runner(location) as runner, pytest.raises(CaffeRequestError) as caught:
            runner.load(GOOD)
        assert str(caught.value) == ("CaffeRequestError: cannot start: ModuleNotFoundError: No module named 'caffe'")

    def test_a_runner_that_is_never_used_starts_nothing(self) -> None:
        with Runner(CaffeLocation(Path("/absent"), None, None, "setting")):
            pass

    def test_a_closed_runner_says_so(self) -> None:
        runner = Runner()
        runner.close()
        runner.close()
        with pytest.raises(CaffeError, match="this Runner is closed"):
            runner.load(GOOD)


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("functions") / "functions.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def runner(caffe: Runner) -> Iterator[Runner]:
    """A worker of the test's own, to be killed."""
    with Runner(caffe.location) as runner:
        yield runner


@pytest.fixture
def net(runner: Runner) -> Net:
    return runner.load(GOOD)


def assert_next_request_works(runner: Runner, lost: Net) -> None:
    """A new worker serves, and a net of the old one says that it is gone."""
    with pytest.raises(CaffeRequestError) as caught:
        lost.run({"x": [[1, 2, 3], [4, 5, 6]]})
    assert str(caught.value) == (
        "CaffeRequestError: cannot run net 'good' forward: the worker that it was loaded in has ended; load it again"
    )
    lost.unload()
    with runner.load(GOOD) as net:
        assert net.run({"x": [[1, 2, 3], [4, 5, 6]]}).blobs["y"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.caffe
class TestAbort:
    def test_caffes_own_check_is_quoted(self, runner: Runner, net: Net) -> None:
        with pytest.raises(CaffeAborted) as caught:
            runner.load(BAD)
        text = re.sub(r"net\.cpp:\d+]", "net.cpp:N]", str(caught.value))
        assert text == (
            "CaffeAborted: Caffe's process ended (SIGABRT) when asked to load net 'bad' (TEST, cpu)\n"
            "  net.cpp:N] Check failed: this_blob->shape() == owner_blob->shape() Cannot share param 'W' owned by"
            " layer 'one' with layer 'two'; shape mismatch.  Owner layer param shape is 4 3 (12);"
            " sharing layer expects shape 4 4 (16)"
        )
        assert_next_request_works(runner, net)

    def test_a_fatal_message_that_is_no_check(self, runner: Runner) -> None:
        with pytest.raises(CaffeAborted) as caught:
            runner.load('layer { name: "y" type: "Power" bottom: "x" top: "y" }')
        assert re.fullmatch(
            r"CaffeAborted: Caffe's process ended \(SIGABRT\) when asked to load a net without a name \(TEST, cpu\)\n"
            r"  \w+\.cpp:\d+\] Unknown bottom blob 'x' \(layer 'y', bottom index 0\)",
            str(caught.value),
        )

    def test_an_abort_in_the_middle_of_a_run(self, runner: Runner) -> None:
        # Embed cannot go backward to its input, which force_backward asks for.
        text = (
            FORCED
            + GOOD
            + 'layer { name: "e" type: "Embed" bottom: "x" top: "e" embed_param { num_output: 2 input_dim: 9 } }'
        )
        net = runner.load(text, probes=["e"])
        with pytest.raises(CaffeAborted) as caught:
            net.run({"x": [[1, 2, 3], [4, 5, 6]]}, backward={})
        assert str(caught.value).startswith(
            "CaffeAborted: Caffe's process ended (SIGABRT) when asked to run net 'good' forward and backward\n"
            "  embed_layer.cpp:"
        )
        assert caught.value.checks[0].endswith("Can't backpropagate to EmbedLayer input.")

    def test_a_check_of_an_earlier_worker_is_not_quoted_again(self, runner: Runner, functions: Path) -> None:
        with pytest.raises(CaffeAborted):
            runner.load(BAD)
        with pytest.raises(CaffeAborted) as caught:
            runner.call(functions, "die", signal.SIGSEGV)
        assert str(caught.value) == (
            "CaffeAborted: Caffe's process ended (SIGSEGV) when asked to call die of functions.py"
        )

    def test_a_kill_while_it_is_asked(self, runner: Runner, net: Net, functions: Path) -> None:
        with pytest.raises(CaffeAborted) as caught:
            runner.call(functions, "die", signal.SIGKILL)
        assert str(caught.value) == (
            "CaffeAborted: Caffe's process ended (SIGKILL) when asked to call die of functions.py\n"
            "  it was killed from outside, as a system does that runs out of memory"
        )
        assert_next_request_works(runner, net)

    def test_a_kill_between_requests(self, runner: Runner, net: Net) -> None:
        os.kill(runner.pid, signal.SIGKILL)
        with pytest.raises(CaffeAborted, match=r"ended \(SIGKILL\) when asked to load net 'good'"):
            runner.load(GOOD)
        assert_next_request_works(runner, net)

    def test_much_on_stderr(self, runner: Runner, functions: Path) -> None:
        with pytest.raises(CaffeAborted) as caught:
            runner.call(functions, "fill_stderr_and_die")
        assert str(caught.value).endswith("\n  last on stderr: the last words")
        assert len(str(caught.value)) < 2000


@pytest.mark.caffe
class TestDeadline:
    def test_a_worker_past_it_is_ended(self, runner: Runner, net: Net, functions: Path) -> None:
        pid, began = runner.pid, time.monotonic()
        with pytest.raises(CaffeTimeout) as caught:
            runner.call(functions, "sleep", 1000, timeout=0.5)
        assert time.monotonic() - began >= 0.5
        assert str(caught.value) == (
            "CaffeTimeout: Caffe did not call sleep of functions.py within 0.5 s; its process was ended"
        )
        assert not alive(pid)
        assert_next_request_works(runner, net)

    def test_the_runners_own_is_for_all_requests(self, caffe: Runner, functions: Path) -> None:
        with Runner(caffe.location, timeout=0.2) as runner, pytest.raises(CaffeTimeout, match=r"within 0\.2 s"):
            runner.call(functions, "sleep", 1000)

    def test_there_may_be_none(self, caffe: Runner, functions: Path) -> None:
        assert caffe.call(functions, "sleep", 0.01, timeout=math.inf).value == "slept"

    def test_ctrl_c_ends_the_worker_and_the_next_request_works(self, runner: Runner, net: Net, functions: Path) -> None:
        pid = runner.pid
        # a shell starts what runs in the background with SIGINT ignored, and Python then leaves it so
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                runner.call(functions, "interrupt_and_sleep")
        finally:
            signal.signal(signal.SIGINT, before)
        assert not alive(pid)
        assert_next_request_works(runner, net)


@pytest.mark.caffe
def test_files_that_do_not_exist_are_named_before_anything_is_sent(caffe: Runner, tmp_path: Path) -> None:
    prototxt, weights = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    with pytest.raises(CaffeRequestError) as caught:
        caffe.load(prototxt)
    assert str(caught.value) == (
        f"CaffeRequestError: cannot load net n.prototxt (TEST, cpu): there is no file {prototxt}"
    )
    with pytest.raises(CaffeRequestError, match=r"cannot load net 'good' .* there is no file .*n\.caffemodel"):
        caffe.load(GOOD, weights=weights)


@pytest.mark.caffe
def test_a_gpu_is_refused_where_none_can_be_used(caffe: Runner) -> None:
    if caffe.gpu.usable:
        with caffe.load(GOOD, mode="gpu") as net:
            assert net.run({"x": [[1, 2, 3], [4, 5, 6]]}).blobs["y"].tolist() == [[1, 2, 3], [4, 5, 6]]
        return
    with pytest.raises(CaffeRequestError) as caught:
        caffe.load(GOOD, mode="gpu")
    assert str(caught.value) == (
        f"CaffeRequestError: cannot load net 'good' (TEST, gpu): no GPU can be used: {caffe.gpu.reason}"
    )
