"""The gradient of a step as a graph of core ops.

Each op defines its gradient once, by ``vjp``: the interpreter applies it to arrays, this module to values of the graph.
An op whose ``vjp`` needs NumPy has no gradient as a graph: it is refused, with its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lstmc.errors import LstmcError, PassError
from lstmc.ir import Builder, Graph, GraphValue, Node, Ref
from lstmc.ops import Arg, Full, Leaf
from lstmc.types import TensorType

__all__ = ["backward_body"]

PREFIX = "d_"  # prefix of a gradient's name, before the name of the value


def backward_body(body: Graph) -> Graph:
    """Return the body of the scan that goes back through a scan of ``body``.

    Arguments: the arguments of ``body`` in their order, its states as ``x`` (their values before the step); then
    ``d_NAME`` as ``x`` for each output of the step, and ``d_NAME`` as ``state`` for each state. Outputs: ``d_NAME``,
    the part of the gradient from this step, for each argument that is no state; then the states. Raises
    :class:`PassError` for an op whose gradient is no graph.
    """
    tape = _Tape(body)
    args, states = body.body_args(), [body.node(name) for name in body.arguments("state")]
    cut = len(body.outputs) - len(states)
    for i, output in enumerate(body.outputs):
        name = PREFIX + (output.name or "y") if i < cut else PREFIX + states[i - cut].name
        op = Arg(body.type(output.ref).shape, "x" if i < cut else "state")
        (ref,) = tape.b.add(op, names=(name,), loc=states[i - cut].loc if i >= cut else None)
        tape.accumulate(output.ref, tape.value(ref, name))
    tape.backward()
    ordered = (*(arg for arg in args if arg not in states), *states)
    return tape.b.finish([(PREFIX + arg.name, tape.gradient(Ref(arg.name), arg.types[0]).ref) for arg in ordered])


class _Tape:
    """A step traversed forward and then backward, into one builder."""

    def __init__(self, body: Graph) -> None:
        self.body, self.b = body, Builder(f"{PREFIX}{body.name}")
        self.new: dict[Ref, Ref] = {}
        self.cts: dict[Ref, GraphValue] = {}
        for node in sorted(body, key=lambda node: not isinstance(node.op, Arg)):
            # an argument's value is known at every step, also a state's
            op = Arg(node.types[0].shape, "x") if node.name in body.arguments("state") else node.op
            outs = self.b.copy(node, [self.new[ref] for ref in body.args(node.name)], op)
            self.new.update(zip(node.refs, outs, strict=True))

    def value(self, ref: Ref, name: str, node: Node | None = None) -> GraphValue:
        return GraphValue(self.b, ref, name, node.loc if node else None)

    def backward(self) -> None:
        """Propagate the gradients that are set to all values that they depend on."""
        for node in reversed(list(self.body)):
            if isinstance(node.op, Leaf) or not any(ref in self.cts for ref in node.refs):
                continue
            for ref, ct in zip(self.body.args(node.name), self._vjp(node), strict=True):
                if ct is not None:
                    self.accumulate(ref, ct)

    def _vjp(self, node: Node) -> Iterable[GraphValue | None]:
        def value_of(ref: Ref) -> GraphValue:
            return self.value(self.new[ref], PREFIX + self.body.value_name(ref), node)

        outs = tuple(map(value_of, node.refs))
        found = (self.gradient(ref, type_) for ref, type_ in zip(node.refs, node.types, strict=True))
        cts = tuple(replace(ct, name=PREFIX + node.name, loc=node.loc) for ct in found)
        try:
            back: tuple[GraphValue | None, ...] = node.op.vjp(cts, outs, *map(value_of, self.body.args(node.name)))  # type: ignore[arg-type, assignment]
        except LstmcError:
            raise
        except Exception as error:
            raise PassError(
                f"the gradient of {node.op.name} is no graph: its vjp works on arrays alone ({error})", loc=node.loc
            ) from error
        return back

    def accumulate(self, ref: Ref, ct: GraphValue) -> None:
        self.cts[ref] = self.cts[ref] + ct if ref in self.cts else ct

    def gradient(self, ref: Ref, type_: TensorType) -> GraphValue:
        """Return the gradient of a value, zeros if none flows."""
        if ref in self.cts:
            return self.cts[ref]
        (zeros,) = self.b.add(Full(type_.shape, 0.0), names=(f"{PREFIX}zero",))
        return self.value(zeros, f"{PREFIX}zero")
