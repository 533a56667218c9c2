"""Random recurrent cells as a user would write them, in every way that we could think of to write one formula."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lstmc.ir import Graph
from lstmc.ops import Draw

HEAD = "from lstmc import *\nT, N, D, H = dims('T N D H')\n"
FUNCTIONS = ("sigmoid", "tanh", "relu", "elu")


@dataclass
class Written:
    """A cell while it is written: its parameters, its lines, and what kind of cell it is."""

    draw: Draw
    kind: str
    params: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def chance(self, one_in: int) -> bool:
        return self.draw.integer(1, one_in) == 1

    def param(self, name: str, shape: str) -> str:
        self.params[name] = f"Param({shape}, fill=uniform(-0.7, 0.7))"
        return name

    def shuffled(self, items: list[str]) -> list[str]:
        left, found = list(items), []
        while left:
            found.append(left.pop(self.draw.integer(0, len(left) - 1)))
        return found

    def total(self, *terms: str) -> str:
        return " + ".join(self.shuffled([t for t in terms if t]))

    def times(self, x: str, y: str) -> str:
        return " * ".join(self.shuffled([x, y]))

    def packed(self, x: str, width: str, gates: list[str], prefix: str, bias: bool) -> None:
        """One product of x for several gates, or one for each; their pieces are called PREFIX_GATE."""
        b = f", {self.param(f'b_{prefix}', f'{len(gates)} * H')}" if bias else ""
        if self.chance(3):
            for gate in gates:
                b = f", {self.param(f'b_{prefix}_{gate}', 'H')}" if bias else ""
                w = self.param(f"W_{prefix}_{gate}", f"H, {width}")
                self.lines.append(f"{prefix}_{gate} = linear({x}, {w}{b})")
            self.params.pop(f"b_{prefix}", None)
            return
        order = self.shuffled(gates)
        w = self.param(f"W_{prefix}", f"{len(gates)} * H, {width}")
        names = ", ".join(f"{prefix}_{gate}" for gate in order)
        cut = f"split(linear({x}, {w}{b}), {len(gates)})" if len(gates) > 1 else f"linear({x}, {w}{b})"
        self.lines.append(f"{names} = {cut}")


def lstm(draw: Draw) -> Written:
    w = Written(draw, "LSTM")
    coupled = w.draw.choice(("", "", "f", "i"))
    gates = [g for g in "ifog" if not coupled or g in (coupled, "o", "g")]
    seen = draw.choice(("x", "tanh(x)"))
    joined = w.chance(4)
    if joined:
        w.packed("concat(x, h)", "D + H", gates, "x", True)
    else:
        w.packed(seen, "D", gates, "x", w.chance(2))
        w.packed("h", "H", gates, "h", w.chance(2))
    peepholes = {gate for gate in gates if gate != "g" and w.chance(4)}
    functions = {g: "tanh" if g == "g" else "sigmoid" for g in gates}
    if w.chance(4):
        functions = {g: draw.choice(FUNCTIONS) for g in gates}

    def gate(name: str, cell: str) -> str:
        peephole = w.times(w.param(f"p_{name}", "H"), cell) if name in peepholes else ""
        forget = "1.0" if name == "f" and w.chance(2) else ""
        return f"{functions[name]}({w.total(f'x_{name}', '' if joined else f'h_{name}', peephole, forget)})"

    w.lines += [f"{name} = {gate(name, 'c')}" for name in gates if name != "o"]
    if coupled == "f":
        w.lines.append("c2 = " + draw.choice(("f * c + (1 - f) * g", "g + f * (c - g)", "f * (c - g) + g")))
    elif coupled == "i":
        w.lines.append("c2 = " + draw.choice(("(1 - i) * c + i * g", "c + i * (g - c)", "c - i * (c - g)")))
    else:
        w.lines.append(f"c2 = {w.total(w.times('f', 'c'), w.times('i', 'g'))}")
    w.lines.append(f"o = {gate('o', 'c2')}")
    shown = draw.choice(("tanh(c2)", "tanh(c2)", "c2", "relu(c2)"))
    w.lines.append(f"h2 = {w.times('o', shown)}")
    w.lines.append(f"return {draw.choice(('h2', 'h2', 'c2', '(h2, c2)'))}, {{'h': h2, 'c': c2}}")
    return w


def gru(draw: Draw) -> Written:
    w = Written(draw, "GRU")
    after = w.chance(2)
    w.packed("x", "D", list("zrn"), "x", w.chance(2))
    w.packed("h", "H", list("zrn") if after else list("zr"), "h", w.chance(2))
    z, r = (f"sigmoid({w.total(f'x_{gate}', f'h_{gate}')})" for gate in "zr")
    inner = w.times("r", "h_n") if after else f"linear({w.times('r', 'h')}, {w.param('U', 'H, H')})"
    w.lines += [f"z = {z}", f"r = {r}", f"n = tanh({w.total('x_n', inner)})"]
    keeps = ("z * h + (1 - z) * n", "n + z * (h - n)", "n - z * (n - h)", "z * h + n - n * z")
    renews = ("(1 - z) * h + z * n", "h + z * (n - h)", "h - z * (h - n)", "n * z + h - z * h")
    w.lines.append(f"h2 = {draw.choice(draw.choice((keeps, renews)))}")
    w.lines.append("return h2, {'h': h2}")
    return w


def rnn(draw: Draw) -> Written:
    w = Written(draw, "RNN")
    w.packed("x", "D", ["h"], "x", w.chance(2))
    w.packed("h", "H", ["h"], "h", w.chance(2))
    w.lines.append(f"h2 = {draw.choice(FUNCTIONS)}({w.total('x_h', 'h_h')})")
    w.lines.append("return h2, {'h': h2}")
    return w


# Replacements that make another cell of one, most of them no LSTM, GRU or RNN.
CHANGES = (
    ("sigmoid(", "tanh("),
    ("(1 - z)", "(1 + z)"),
    ("r * h", "z * h"),
    ("= f * c", "= f * f * c"),
    ("tanh(c2)", "tanh(c)"),
    ("+ x_", "- x_"),
    ("'c': c2", "'c': c2 * 0.5"),
    ("'h': h2", "'h': h2 - 0.25"),
    ("'h': h2, 'c': c2", "'h': c2, 'c': h2"),
    ("return h2", "return h2 * 2"),
    ("r * h_n", "r * h_z"),
    ("(x_g", "(2 * x_g"),
    ("(h, ", "(tanh(h), "),
)


def scanned(draw: Draw, written: Written, changed: bool) -> Graph:
    """A model that scans the cell, with masks and direction drawn."""
    lines = list(written.lines)
    if changed:
        old, new = draw.choice(CHANGES)
        lines = [line.replace(old, new) for line in lines]
    states = "h: Value = State(N, H)" + (", c: Value = State(N, H)" if written.kind == "LSTM" else "")
    given = ", ".join(f"{name}: Value = {declared}" for name, declared in written.params.items())
    source = f"@cell\ndef one(x: Value = Input(N, D), {states}, *, {given}):\n    " + "\n    ".join(lines)
    options = [f"{mask}={name}" for mask, name in (("cont", "C"), ("lengths", "L")) if written.chance(3)]
    options += ["reverse=True"] if written.chance(3) else []
    source += (
        "\n@model\ndef net(X: Value = Input(T, N, D), C: Value = Input(T, N), L: Value = Input(N), h0: Value ="
        f" Input(N, H)):\n    y, last = scan({', '.join(['one(H=H)', 'X', *options, *_first(written)])})\n"
        "    y = y if isinstance(y, tuple) else (y,)\n    return {f'y{k}': v for k, v in enumerate(y)} | last\n"
    )
    module: dict[str, Any] = {"__name__": "random_gates"}
    exec(compile(HEAD + source, "<random gates>", "exec"), module)
    graph: Graph = module["net"].graph(T=3, N=draw.integer(1, 3), D=draw.integer(1, 3), H=draw.integer(1, 3))
    return graph


def _first(written: Written) -> list[str]:
    return ["init={'h': h0}"] if written.chance(2) else []


KINDS = (lstm, lstm, gru, rnn)
