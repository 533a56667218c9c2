"""What is read from Caffe's log, and frames, without a worker."""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time

import numpy as np
import pytest

from lstmc_caffe.processes.process import CaffeAborted, CaffeTimeout, _wait_until_ready, encode, fatal_lines

OLD_GLOG = """\
WARNING: Logging before InitGoogleLogging() is written to STDERR
E1124 22:57:01.123456  4242 net.cpp:10] a mere error
F1124 22:57:01.123456  4242 net.cpp:70] Check failed: a == b (1 vs. 2) They differ.
*** Check failure stack trace: ***
    @     0x7f1a2b3c4d5e  google::LogMessage::Fail()
"""
NEW_GLOG = (
    "F20261124 22:57:01.123456 139872 insert_splits.cpp:29] Unknown bottom blob 'y' (layer 'l', bottom index 0)\n"
)


def test_fatal_lines_lose_severity_date_and_thread() -> None:
    assert fatal_lines(OLD_GLOG) == ("net.cpp:70] Check failed: a == b (1 vs. 2) They differ.",)
    assert fatal_lines(NEW_GLOG) == ("insert_splits.cpp:29] Unknown bottom blob 'y' (layer 'l', bottom index 0)",)
    assert fatal_lines("Fine\nF1124 is not a date\n") == ()


def test_a_fatal_message_of_several_lines_is_quoted_whole() -> None:
    log = OLD_GLOG.replace("They differ.", "They differ:\n  this one\n  from that")
    assert fatal_lines(log) == ("net.cpp:70] Check failed: a == b (1 vs. 2) They differ: this one from that",)


def test_an_abort_quotes_caffe() -> None:
    assert str(CaffeAborted("load net 'n' (TEST, cpu)", -6, OLD_GLOG)) == (
        "CaffeAborted: Caffe's process ended (SIGABRT) when asked to load net 'n' (TEST, cpu)\n"
        "  net.cpp:70] Check failed: a == b (1 vs. 2) They differ."
    )


def test_an_end_without_a_check_shows_the_last_of_stderr() -> None:
    log = "".join(f"line {number}\n" for number in range(8))
    assert str(CaffeAborted("start", 3, log)) == (
        "CaffeAborted: Caffe's process ended (exit status 3) when asked to start\n"
        + "\n".join(f"  last on stderr: line {number}" for number in range(3, 8))
    )
    assert str(CaffeAborted("run net 'n' forward", -9, "")) == (
        "CaffeAborted: Caffe's process ended (SIGKILL) when asked to run net 'n' forward\n"
        "  it was killed from outside, as a system does that runs out of memory"
    )


def test_a_timeout_says_what_was_asked_and_how_long_it_waited() -> None:
    assert str(CaffeTimeout("run net 'n' forward", 0.5)) == (
        "CaffeTimeout: Caffe did not run net 'n' forward within 0.5 s; its process was ended"
    )


def test_a_frame_lists_its_arrays_and_carries_their_bytes() -> None:
    arrays = {
        "scalar": np.array(7, "<i4"),
        "empty": np.zeros((0, 3), "<f4"),
        "strided": np.arange(6, dtype=">f8").reshape(2, 3).T,
    }
    parts = [bytes(part) for part in encode({"request": "x"}, {"g": arrays})]
    assert parts[0] == struct.pack(">I", len(parts[1]))
    assert json.loads(parts[1]) == {
        "request": "x",
        "arrays": [
            {"group": "g", "name": "scalar", "dtype": "<i4", "shape": []},
            {"group": "g", "name": "empty", "dtype": "<f4", "shape": [0, 3]},
            {"group": "g", "name": "strided", "dtype": "<f8", "shape": [3, 2]},
        ],
    }
    assert parts[2:] == [struct.pack("<i", 7), struct.pack("<6d", 0, 3, 1, 4, 2, 5)]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_waiting_stops_at_the_deadline(seconds: float) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(TimeoutError):
            _wait_until_ready(reader, select.POLLIN, time.monotonic() + seconds, lambda: None)
        os.write(writer, b"x")
        _wait_until_ready(reader, select.POLLIN, math.inf, lambda: None)
    finally:
        os.close(reader)
        os.close(writer)
