"""What PyTorch gives native code, under sanitizers: a sample of ``make fuzz``, and that they find what is wrong."""

from __future__ import annotations

import pytest

from tests.on_demand.fuzz.sanitized_torch import found_in

pytestmark = [pytest.mark.caffe, pytest.mark.slow]  # g++ is there where Caffe is


def test_tensors_of_every_type_and_layout() -> None:
    assert found_in(1) == (2, "")


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("import lstmc_torch.loop as loop; loop.ready = lambda x: x.contiguous()", "heap-buffer-overflow|not close"),
        (
            "import lstmc_torch.loop as loop; loop._checked = lambda *of: [loop.ready(x) for x in of[1]]",
            "overflow|took",
        ),
    ],
    ids=["types", "shapes"],
)
def test_a_check_that_is_left_out_is_found(planted: str, said: str) -> None:
    loops, found = found_in(1, before=planted)
    assert loops == 0
    assert any(each in found for each in said.split("|")), found
