"""Recurrent layers of a state dict of PyTorch, by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lstmc.errors import Argument
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.torch_layers import Lane, stacked
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.recur import GATES, Kind
from lstmc.importers.read.torch_file import TORCHSCRIPT
from lstmc.importers.refusal import Refusal, Refused, RefusedError
from lstmc.importers.sources import Source, StoredTensor
from lstmc.ops import Op, Relu, Tanh

Nonlinearity = Literal["tanh", "relu"]
_NAME = re.compile(
    r"(?:(?P<owner>.*)\.)?(?P<role>weight|bias)_(?P<part>ih|hh|hr)(?:_l(?P<layer>\d+)(?P<back>_reverse)?)?"
)
_KINDS = {len(gates): kind for kind, gates in GATES.items()}
_IGNORED = "only the recurrent layers are imported"
SAVE_PROGRAM = (
    'save the program instead, torch.export.save(torch.export.export(module.eval(), (example,)), "model.pt2"), or give'
    " the module to lstmc.from_torch"
)
ALONE = Argument("recurrent_only", "True")  # the options that select the recurrent layers alone


@dataclass
class Group:
    """The tensors of one torch.nn.LSTM, GRU, RNN, or of one cell, by (layer, backwards), then by role. ``title`` is the
    last part of the ``owner``'s name, or all of it if several groups would have the same title."""

    owner: str
    title: str = ""
    tensors: dict[tuple[int, bool], dict[str, StoredTensor]] = field(default_factory=dict)

    @property
    def kind(self) -> Kind | None:
        """The kind of the cell, by the sizes of the first layer; None if no cell has such sizes."""
        return _kind({name: tensor.shape for name, tensor in self.tensors[0, False].items()})[0]


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Kind | None, int]:
    """Return the kind of the cell whose tensors have these shapes (None if no cell has them), and the cell's units."""
    rows, size = shapes["weight_hh"]
    units = shapes["weight_hr"][1] if len(shapes.get("weight_hr", ())) == 2 else size
    return _KINDS.get(rows // units if units and rows % units == 0 else 0), units


def describe_state_dict(
    source: Source,
    hints: Mapping[str, Mapping[str, Any]],
    rnn: Nonlinearity | None = None,
    recurrent_only: bool = False,
) -> Net:
    """Return a net with an input and outputs for each recurrent layer by the tensors' names, time first. ``hints`` are
    modules' attributes by path, ``rnn`` is the function of plain RNNs without one. Raises :class:`RefusedError` if
    there is no such layer, or if the file has more than such layers, unless ``recurrent_only`` leaves that out."""
    groups, rest = groups_of(source)
    if not recurrent_only:
        _check_whole(source, hints, groups, rest)
    if not groups:
        names = [*source.tensors]
        found = f"tensors {', '.join(names[:3])}{', ...' * (len(names) > 3)}"
        why = "no name is one that torch.nn.LSTM, GRU, RNN or their cells give, as weight_ih_l0 and weight_hh_l0"
        refusal = Refusal(source.origin, "", found, why, "give the module itself to lstmc.from_torch")
        raise RefusedError(source.origin, [refusal])
    builder, refusals = NetBuilder("net", source.origin), []
    for group in groups:
        try:
            _layer(builder, group, hints.get(group.owner, {}), rnn, many=len(groups) > 1)
        except Refused as refused:
            refusals.append(refused.at(group.owner or "the recurrent layer"))
    if refusals:
        raise RefusedError(source.origin, refusals)
    builder.ignored = dict.fromkeys(rest, _IGNORED)
    if len(groups) > 1:
        builder.notes.append("A state dict does not record how its layers are connected: each has an input of its own.")
    if rest:
        builder.notes.append(f"Not used, as only the recurrent layers are imported: {', '.join(rest)}.")
    return builder.finish()


def _check_whole(
    source: Source, hints: Mapping[str, Mapping[str, Any]], groups: Sequence[Group], rest: Sequence[str]
) -> None:
    """Raise :class:`RefusedError` if the file has more than the recurrent layers by the names of its tensors."""
    why = "its computation is known only by running its code"
    root = str(hints.get("", {}).get("class", ""))
    if source.kind == TORCHSCRIPT:
        found = "a TorchScript program"
    elif groups and root and not root.startswith("torch.nn.modules.rnn."):
        found = f"a module of class {root}"
    elif groups and rest:
        found = ", ".join(rest[:6]) + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")
        why = "a state dict does not record what these tensors are for, nor in which order they are used"
    else:
        return
    mend = f"{SAVE_PROGRAM}; {ALONE} imports the recurrent layers alone"
    raise RefusedError(source.origin, [Refusal(source.origin, "", found, why, mend)])


def groups_of(source: Source) -> tuple[list[Group], list[str]]:
    """Return the tensors of recurrent layers, a group for each module, and the names of all other tensors."""
    groups: dict[str, Group] = {}
    rest = []
    for name, tensor in source.tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            rest.append(name)
            continue
        group = groups.setdefault(match["owner"] or "", Group(match["owner"] or ""))
        place = (int(match["layer"] or 0), match["back"] is not None)
        group.tensors.setdefault(place, {})[f"{match['role']}_{match['part']}"] = tensor
    whole = [g for g in groups.values() if any({"weight_ih", "weight_hh"} <= set(t) for t in g.tensors.values())]
    for group in groups.values():
        if group not in whole:
            rest += [tensor.name for tensors in group.tensors.values() for tensor in tensors.values()]
    last = [group.owner.rpartition(".")[2] or "layer" for group in whole]
    for group, title in zip(whole, last, strict=True):
        group.title = title if last.count(title) == 1 else group.owner.replace(".", "_") or title
    return whole, rest


def _layer(builder: NetBuilder, group: Group, hint: Mapping[str, Any], rnn: Nonlinearity | None, many: bool) -> None:
    """Add the layers of a group, with an input and outputs. Raises :class:`Refused` if a layer is missing."""
    title, layers = group.title, Layers(builder)
    layers.at(title, group.owner or "the recurrent layer")
    numbers = sorted({layer for layer, _ in group.tensors})
    both = any(back for _, back in group.tensors)
    expected = [(layer, back) for layer in range(len(numbers)) for back in ((False, True) if both else (False,))]
    if sorted(group.tensors) != expected:
        raise Refused("layers", str(sorted(group.tensors)), "some are missing", "save the whole module")
    first = group.tensors[0, False]["weight_ih"]
    y = builder.input(f"{title}_X" if many else "X", ("T", "N", first.shape[1] if len(first.shape) == 2 else 1))
    y, last = stacked(layers, y, [_lane(group, group.tensors[at], hint, rnn) for at in expected], both, title)
    prefix = f"{title}_" if many else ""
    builder.outputs[f"{prefix}Y"] = y
    for state, values in last.items():
        for number, value in enumerate(values):
            suffix = f"_{number}" if len(values) > 1 else ""
            builder.outputs[f"{prefix}{state}_T{suffix}"] = value


def _lane(group: Group, tensors: Mapping[str, StoredTensor], hint: Mapping[str, Any], rnn: Nonlinearity | None) -> Lane:
    """Return one direction of one layer. Raises :class:`Refused` for unfit shapes, or an RNN's unknown function."""
    bias = "bias_ih" in tensors
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if len(shapes.get("weight_hh", ())) != 2 or len(shapes.get("weight_ih", ())) != 2:
        raise Refused("shapes", str(shapes), "weight_ih and weight_hh must be matrices", "save the whole module")
    rows, size = shapes["weight_hh"]
    kind, units = _kind(shapes)
    expected = {
        "weight_ih": (rows, shapes["weight_ih"][1]),
        "weight_hh": (rows, size),
        **({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}),
        **({"weight_hr": (size, units)} if "weight_hr" in shapes else {}),
    }
    if kind is None or shapes != expected or ("weight_hr" in shapes and kind != "lstm"):
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        why = "these are not the sizes of 4 gates (LSTM), 3 (GRU) or 1 (RNN)"
        raise Refused("shapes", found, why, "save the whole module's state dict")
    new: Op = Tanh()
    if kind == "rnn":
        mode = str(hint.get("mode", hint.get("nonlinearity", "")))
        function = "relu" if "relu" in mode.lower() else "tanh" if "tanh" in mode.lower() else rnn
        if function is None:
            why = "a state dict does not record whether a plain RNN uses tanh or relu"
            raise Refused("nonlinearity", "unknown", why, "give it by activation: tanh or relu")
        new = Relu() if function == "relu" else Tanh()
    return kind, new, [tensors[name].weight() for name in expected]
