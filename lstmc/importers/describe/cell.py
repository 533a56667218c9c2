"""One step of a recurrent layer, told by what it computes and not by a framework's name for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lstmc.importers.describe.pointwise import SIGMOID, TANH, Activation
from lstmc.ops import Array

Kind = Literal["rnn", "gru", "lstm"]
GATES: dict[str, tuple[str, ...]] = {"rnn": ("h",), "gru": ("z", "r", "n"), "lstm": ("i", "f", "o", "g")}


@dataclass(frozen=True)
class Cell:
    """What the three kinds of recurrent layers differ in.

    ``gate`` is the function of the gates, ``new`` that of what is added (the only one of an ``rnn``), ``out`` that of
    an LSTM's cell state where it leaves. ``reset_after``: a GRU's reset gate multiplies the recurrent product, not
    what goes into it. ``coupled``: an LSTM forgets what it does not take in, f = 1 - i. ``clip`` holds what goes into
    each function between -clip and clip. ``static``: every step sees one more input, always the same. ``masked``: it
    sees a mask, and where that is 0 all states stay.
    """

    kind: Kind
    gate: Activation = SIGMOID
    new: Activation = TANH
    out: Activation = TANH
    bias: bool = True
    reset_after: bool = False
    peepholes: bool = False
    coupled: bool = False
    projection: bool = False
    clip: float | None = None
    static: bool = False
    masked: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.kind == "lstm" else ("h",)

    @property
    def gates(self) -> tuple[str, ...]:
        """The order of the gates in the rows of the written model's weights."""
        return tuple(gate for gate in GATES[self.kind] if not (self.coupled and gate == "f"))

    def weights(self) -> dict[str, str]:
        """Its weights by name, with their shapes: D is the input's width, S the static one's, H units, P outputs."""
        rows = "H" if self.kind == "rnn" else f"{len(self.gates)} * H"
        recurrent = "P" if self.projection else "H"
        found = {"W_x": f"{rows}, D"}
        if self.bias:
            found["b"] = rows
        if self.static:
            found["W_s"] = f"{rows}, S"
        if self.kind == "gru" and not self.reset_after:
            found |= {"W_h": "2 * H, H", "U": "H, H"}
        else:
            found["W_h"] = f"{rows}, {recurrent}"
        if self.kind == "gru" and self.reset_after and self.bias:
            found["b_h"] = "H"
        if self.peepholes:
            found |= {f"p_{gate}": "H" for gate in self.gates if gate != "g"}
        if self.projection:
            found["W_p"] = "P, H"
        return found

    def step(
        self, x: Array, state: Mapping[str, Array], w: Mapping[str, Array], static: Array | None = None
    ) -> dict[str, Array]:
        """The next states from this step's input and the states before, in NumPy."""
        a = x @ w["W_x"].T + w.get("b", 0.0)
        if static is not None:
            a = a + static @ w["W_s"].T
        if self.kind == "rnn":
            return {"h": self.new(self._clipped(a + state["h"] @ w["W_h"].T))}
        return self._gru(a, state["h"], w) if self.kind == "gru" else self._lstm(a, state["h"], state["c"], w)

    def _gru(self, a: Array, h: Array, w: Mapping[str, Array]) -> dict[str, Array]:
        z, r, n = np.split(a, 3, axis=-1)
        if self.reset_after:
            h_z, h_r, h_n = np.split(h @ w["W_h"].T, 3, axis=-1)
        else:
            h_z, h_r = np.split(h @ w["W_h"].T, 2, axis=-1)
        z, r = self.gate(self._clipped(z + h_z)), self.gate(self._clipped(r + h_r))
        recurrent = r * (h_n + w.get("b_h", 0.0)) if self.reset_after else (r * h) @ w["U"].T
        n = self.new(self._clipped(n + recurrent))
        return {"h": z * h + (1 - z) * n}

    def _lstm(self, a: Array, h: Array, c: Array, w: Mapping[str, Array]) -> dict[str, Array]:
        pre = dict(zip(self.gates, np.split(a + h @ w["W_h"].T, len(self.gates), axis=-1), strict=True))

        def opened(gate: str, seen: Array) -> Array:
            return self.gate(self._clipped(pre[gate] + (w[f"p_{gate}"] * seen if self.peepholes else 0.0)))

        i = opened("i", c)
        f = 1 - i if self.coupled else opened("f", c)
        c = f * c + i * self.new(self._clipped(pre["g"]))
        h = opened("o", c) * self.out(c)
        return {"h": h @ w["W_p"].T if self.projection else h, "c": c}

    def _clipped(self, x: Array) -> Array:
        return x if self.clip is None else np.clip(x, -self.clip, self.clip)
