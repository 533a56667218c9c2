"""Files as PyTorch writes them, in all its containers, of one small model; and mutants of any file."""

from __future__ import annotations

import random
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONTAINERS = ("zip", "legacy", "legacy 4", "module", "script", "safetensors")


class Tagger(torch.nn.Module):
    """A recurrent layer and a linear one."""

    def __init__(self, layer: torch.nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.fc = torch.nn.Linear(layer.hidden_size, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.fc(self.layer(x)[0])
        return found


def tagger(seed: int = 0) -> Tagger:
    torch.manual_seed(seed)
    return Tagger(torch.nn.LSTM(5, 4))


def save(model: torch.nn.Module, path: Path, container: str) -> None:
    """Write a model as PyTorch does."""
    writers: dict[str, Callable[[], Any]] = {
        "zip": lambda: torch.save(model.state_dict(), path),
        "legacy": lambda: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
        "legacy 4": lambda: torch.save(
            model.state_dict(), path, pickle_protocol=4, _use_new_zipfile_serialization=False
        ),
        "module": lambda: torch.save(model, path),
        "script": lambda: torch.jit.script(model).save(str(path)),
        "safetensors": lambda: save_file(model.state_dict(), path),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript, that it is old
        writers[container]()


def mutants(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Byte flips, cuts, repetitions, and lengths that lie; each differs from the file."""
    rng = random.Random(seed)
    while count:
        data = bytearray(content)
        kind = rng.randrange(5)
        at = rng.randrange(len(data))
        if kind == 0:
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.randint(1, 64)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        else:
            number = rng.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, rng.randrange(2**64)))
            data[at : at + 8] = struct.pack("<Q", number)
        if bytes(data) != content:
            count -= 1
            yield bytes(data)
