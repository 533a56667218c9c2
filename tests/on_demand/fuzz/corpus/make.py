"""``python tests/on_demand/fuzz/corpus/make.py``: writes the files of other programs in which damage is made."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch

HERE = Path(__file__).parent


class Tagger(torch.nn.Module):
    """A layer of LSTM and what reads its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 2)
        self.out = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return torch.softmax(self.out(y), -1)


def main() -> None:
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    tagger, x = Tagger().eval(), torch.zeros(3, 1, 3)
    torch.save(tagger.lstm.state_dict(), HERE / "lstm.pt")
    program = torch.export.export(tagger, (x,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has the paths of this machine
    torch.export.save(program, HERE / "program.pt2")
    torch.jit.trace(tagger.lstm, x).save(str(HERE / "script.pt"))
    torch.onnx.export(tagger, (x,), str(HERE / "tagger.onnx"), dynamo=False, input_names=["x"], output_names=["y"])
    model = keras.Sequential([keras.Input((3, 3)), keras.layers.GRU(2), keras.layers.Dense(2, activation="softmax")])
    model.save(HERE / "gru.keras")
    model.save(HERE / "gru.h5")


if __name__ == "__main__":
    main()
