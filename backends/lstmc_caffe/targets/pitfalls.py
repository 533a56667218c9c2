"""What readers of a target are known to get wrong, found in a net by the types of layers that read each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lstmc.backend import Warned
from lstmc_caffe.targets.target import Pitfall, Target


def warnings(layers: Iterable[Any], target: Target) -> tuple[Warned, ...]:
    """What a target warns of in a net of these LayerParameters, with the layers at which each path ends."""
    if not target.pitfalls:
        return ()
    net = list(layers)
    found = ((pitfall, _ends(net, pitfall)) for pitfall in target.pitfalls)
    return tuple(Warned(p.name, ends, p.text, p.version, p.source) for p, ends in found if ends)


def _ends(net: list[Any], pitfall: Pitfall) -> tuple[str, ...]:
    """The layers at which the path ends, in order."""
    gone: dict[str, set[int]] = {}  # a blob -> how much of the path leads to it
    ends = []
    for layer in net:
        before = {0}.union(*(gone.get(bottom, ()) for bottom in layer.bottom))
        reached = {length + 1 for length in before if pitfall.path[length] == layer.type}
        if len(pitfall.path) in reached:
            ends.append(layer.name)
        for top in layer.top:
            gone[top] = reached - {len(pitfall.path)}
    return tuple(ends)
