"""What is precomputed for a blob and computed by layers too: each has nodes of its own."""

from __future__ import annotations

from lstmc.ir import Graph, Rebuild, Ref, is_weight, precomputed_nodes


def with_layers_apart(graph: Graph) -> Graph:
    """A copy, for layers, of each value that is not a weight and only a part of one, where something else reads it too.

    Passes that merge what is alike (``cse``, ``simplify``) share constants, and functions of parameters, among both.
    """
    computed = precomputed_nodes(graph)
    read = {ref for node in graph if node.name not in computed for ref in graph.args(node.name)}
    read |= {output.ref for output in graph.outputs}
    roots = [ref for ref in read if ref.node in computed and not is_weight(graph, ref)]
    if not roots:
        return graph
    copied = {name for name in graph.needed(roots) & computed if not is_weight(graph, Ref(name))}
    rebuild = Rebuild(graph)
    layers: dict[Ref, Ref] = {}
    for node in graph:
        args = graph.args(node.name)
        if node.name not in computed:
            rebuild.copy(node, [layers.get(ref, rebuild.new[ref]) for ref in args])
            continue
        rebuild.copy(node)
        if node.name in copied:
            operands = [layers.get(ref, rebuild.new[ref]) for ref in args]
            names = tuple(f"{name}/layer" for name in node.names)
            made = rebuild.builder.add(node.op, *operands, names=names, loc=node.loc)
            layers |= {Ref(node.name, out): ref for out, ref in enumerate(made)}
    rebuild.new |= layers
    return rebuild.finish()
