"""Gradients as graphs: the backward body of a step, and of a whole model, in core ops.

Each op defines its gradient once, by ``vjp``: the interpreter applies it to arrays, this module to values of the graph.
An op whose ``vjp`` needs NumPy has no gradient as a graph: it is refused, with its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lstmc.errors import LstmcError, PassError
from lstmc.ir import Builder, Graph, GraphValue, Node, Output, Rebuild, Ref, Scan
from lstmc.ops import Arg, Full, Input, Leaf, Param, Sum
from lstmc.types import TensorType

__all__ = ["backward_body", "gradient_graph"]

PREFIX = "d_"  # prefix of a gradient's name, before the name of the value
Cotangents = dict[Ref, GraphValue]


def gradient_graph(graph: Graph) -> Graph:
    """Return the gradients of a model, as a graph of its stage.

    Its inputs are the model's inputs, and ``d_NAME`` for each output, the loss's gradient by that output. Its outputs
    are ``d_NAME`` for each input and each parameter that a gradient flows to. Raises :class:`PassError` for an op whose
    gradient is no graph, and for a scan that has a separate first step or keeps the axis of time.
    """
    tape = _Tape(Builder(f"{PREFIX}{graph.name}"))
    tape.forward(graph)
    seeds: Cotangents = {}
    for output in graph.outputs:
        (ref,) = tape.b.add(Input(graph.type(output.ref).shape), names=(PREFIX + output.name,))
        tape.accumulate(seeds, output.ref, tape.value(ref, PREFIX + output.name))
    cotangents = tape.backward(graph, seeds)
    leaves = [node.name for node in graph if isinstance(node.op, Input | Param) and Ref(node.name) in cotangents]
    return tape.b.finish([(PREFIX + name, cotangents[Ref(name)].ref) for name in leaves])


def backward_body(body: Graph, needed: Sequence[bool] | None = None) -> Graph:
    """Return the body of the scan that goes back through a scan of ``body``, as :func:`gradient_graph` runs it.

    Arguments: the arguments of ``body`` in their order, its states as ``x`` (their values before the step); then
    ``d_NAME`` as ``x`` for each output of the step, and ``d_NAME`` as ``state`` for each state. Outputs: ``d_NAME``,
    the part of the gradient from this step, for each argument that is no state and is ``needed`` (all by default); then
    the states.
    """
    tape = _Tape(Builder(f"{PREFIX}{body.name}"))
    args = body.body_args()
    states = [arg for arg in args if _is_state(arg)]
    for arg in args:
        tape.add_argument(arg)
    tape.forward(body)
    seeds: Cotangents = {}
    cut = len(body.outputs) - len(states)
    for i, output in enumerate(body.outputs):
        name = PREFIX + (output.name or "y") if i < cut else PREFIX + states[i - cut].name
        op = Arg(body.type(output.ref).shape, "x" if i < cut else "state")
        (ref,) = tape.b.add(op, names=(name,), loc=states[i - cut].loc if i >= cut else None)
        tape.accumulate(seeds, output.ref, tape.value(ref, name))
    cotangents = tape.backward(body, seeds)
    outputs = []
    for arg, want in zip(args, needed or (True,) * len(args), strict=True):
        if not _is_state(arg) and want:
            outputs.append((PREFIX + arg.name, tape.gradient(cotangents, Ref(arg.name), arg.types[0]).ref))
    for state in states:
        outputs.append((PREFIX + state.name, tape.gradient(cotangents, Ref(state.name), state.types[0]).ref))
    return tape.b.finish(outputs)


def _returning(body: Graph, outputs: Iterable[Output]) -> Graph:
    """Return the body with these of its values as results."""
    rebuild = Rebuild(body)
    for node in body:
        rebuild.copy(node)
    return rebuild.finish(outputs)


def _is_state(arg: Node) -> bool:
    return isinstance(arg.op, Arg) and arg.op.role == "state"


class _Tape:
    """A graph that is traversed forward and then back, into one builder."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder
        self.new: dict[Ref, Ref] = {}
        self.before: dict[str, dict[int, Ref]] = {}  # scan -> state's slot -> the state's values before each step

    def value(self, ref: Ref, name: str, node: Node | None = None) -> GraphValue:
        return GraphValue(self.b, ref, name, node.loc if node else None)

    def add_argument(self, arg: Node) -> None:
        """Add an argument of the step, whose value is known at every step, also of a state."""
        op = Arg(arg.types[0].shape, "x") if _is_state(arg) else arg.op
        (self.new[Ref(arg.name)],) = self.b.add(op, names=arg.names, loc=arg.loc)

    def forward(self, graph: Graph) -> None:
        """Copy the nodes of a graph whose arguments have been mapped."""
        for node in graph:
            if Ref(node.name) in self.new:
                continue
            operands = [self.new[ref] for ref in graph.args(node.name)]
            outs = self._scan(node, node.op, operands) if isinstance(node.op, Scan) else self.b.copy(node, operands)
            self.new.update((Ref(node.name, out), ref) for out, ref in enumerate(outs))

    def _scan(self, node: Node, scan: Scan, operands: Sequence[Ref]) -> tuple[Ref, ...]:
        """Return the scan, with its states before each step as further results."""
        if scan.first is not None or scan.kept:
            raise PassError(
                f"gradients come before peel and keep_time_axis: expected a scan of one body, found %{node.name}",
                loc=node.loc,
            )
        slots = [slot for slot in range(len(operands)) if scan.role(slot) == "state"]
        args = scan.body.body_args()
        cut = len(scan.step_outputs)
        seen = [Output(f"{args[slot].name}/before", Ref(args[slot].name)) for slot in slots]
        outputs = (*scan.step_outputs, *seen, *scan.next_states)
        names = (*node.names[:cut], *(f"{node.name}/{o.name}" for o in seen), *node.names[cut:])
        results = self.b.add(replace(scan, body=_returning(scan.body, outputs)), *operands, names=names, loc=node.loc)
        self.before[node.name] = dict(zip(slots, results[cut : cut + len(slots)], strict=True))
        return (*results[:cut], *results[cut + len(slots) :])

    def backward(self, graph: Graph, seeds: Cotangents) -> Cotangents:
        """Propagate gradients from some values to all values that they depend on."""
        cts = dict(seeds)
        for node in reversed(list(graph)):
            refs = node.refs
            if isinstance(node.op, Leaf) or not any(ref in cts for ref in refs):
                continue
            cotangents = tuple(self.gradient(cts, ref, type_) for ref, type_ in zip(refs, node.types, strict=True))
            operands = graph.args(node.name)
            back = self._back(graph, node, cotangents)
            for ref, ct in zip(operands, back, strict=True):
                if ct is not None:
                    self.accumulate(cts, ref, ct)
        return cts

    def _back(self, graph: Graph, node: Node, cotangents: tuple[GraphValue, ...]) -> Iterable[GraphValue | None]:
        if isinstance(node.op, Scan):
            return self._back_scan(graph, node, node.op, cotangents)
        return self._vjp(graph, node, cotangents)

    def _vjp(self, graph: Graph, node: Node, cotangents: tuple[GraphValue, ...]) -> Iterable[GraphValue | None]:
        def value_of(ref: Ref) -> GraphValue:
            return self.value(self.new[ref], PREFIX + graph.value_name(ref), node)

        outs = tuple(map(value_of, node.refs))
        cts = tuple(replace(ct, name=PREFIX + node.name, loc=node.loc) for ct in cotangents)
        try:
            back: tuple[GraphValue | None, ...] = node.op.vjp(cts, outs, *map(value_of, graph.args(node.name)))  # type: ignore[arg-type, assignment]
        except LstmcError:
            raise
        except Exception as error:
            raise PassError(
                f"the gradient of {node.op.name} is no graph: its vjp works on arrays alone ({error})", loc=node.loc
            ) from error
        return back

    def _back_scan(
        self, graph: Graph, node: Node, scan: Scan, cotangents: tuple[GraphValue, ...]
    ) -> Iterable[GraphValue | None]:
        operands, before = graph.args(node.name), self.before[node.name]
        forward = [before.get(slot) or self.new[ref] for slot, ref in enumerate(operands)]
        body = backward_body(scan.body)
        back = replace(scan, body=body, reverse=not scan.reverse)
        names = [f"{PREFIX}{graph.value_name(ref)}" for slot, ref in enumerate(operands) if slot not in before]
        names += [f"{PREFIX}{graph.value_name(operands[slot])}" for slot in before]
        results = iter(self.b.add(back, *forward, *[ct.ref for ct in cotangents], names=names, loc=node.loc))
        by_slot = {slot: next(results) for slot in range(len(operands)) if slot not in before}
        by_slot |= {slot: next(results) for slot in before}
        for slot, ref in enumerate(operands):
            value = self.value(by_slot[slot], PREFIX + graph.value_name(ref), node)
            yield value if scan.role(slot) in ("x", "state") else value.apply(Sum(0), value)[0]

    def accumulate(self, into: Cotangents, ref: Ref, ct: GraphValue) -> None:
        into[ref] = into[ref] + ct if ref in into else ct

    def gradient(self, cts: Cotangents, ref: Ref, type_: TensorType) -> GraphValue:
        """Return the gradient of a value, zeros if none flows."""
        if ref in cts:
            return cts[ref]
        (zeros,) = self.b.add(Full(type_.shape, 0.0), names=(f"{PREFIX}zero",))
        return self.value(zeros, f"{PREFIX}zero")
