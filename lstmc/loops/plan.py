"""The plan of a generated layer: blobs, buffers, the work of each step, products over all steps. The gradient of a step
is a graph of core ops too. Each op defines its gradient once, by ``vjp``: the interpreter applies it to arrays,
``backward_body`` to values of the graph. An op whose ``vjp`` needs NumPy is refused, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lstmc.errors import BackendError, LstmcError, PassError
from lstmc.ir import Builder, Graph, GraphValue, Node, Ref, Scan
from lstmc.loops.large_states import Phases, Recomputation, crossing, in_parts, in_phases, in_place, with_array
from lstmc.loops.loop_code import CHEAP, MOVES
from lstmc.loops.low_precision import FLOAT32, ProductNumbers
from lstmc.loops.memory import Array, Kind, Loop, Outer, Place, Places, Sink, Task, cpp_names
from lstmc.loops.rows import Rows, rows_of
from lstmc.loops.schedule import Products, check_ops
from lstmc.ops import Add, Arg, Full, Leaf, Linear, Reshape, Sum, Transpose
from lstmc.passes import Cse, Simplify
from lstmc.types import TensorType

FIRST_CACHE = 2**12  # floats of a part's states: 16 KiB, because a backward pass also has a gradient of each
MOST_PARTS = 64


@dataclass(frozen=True)
class State:
    """A state: its array ``kept`` with the values from the first step on, its operand (``bottom``) or its initial
    number, and the two buffers of its gradient, which may be one. With ``saved``, that array has the state before the
    first step of each chunk, ``kept`` has the steps of one chunk for the backward pass, and the forward pass has the
    state in its top."""

    name: str
    kept: Array
    saved: Array | None
    bottom: Array | None
    value: float
    top: Array
    gradient: tuple[Array, Array]
    bottom_diff: Array | None
    top_diff: Array


@dataclass(frozen=True)
class Plan:
    """A layer for a scan, for any N and T; if the rows are not independent, N is fixed."""

    name: str
    rows: Rows
    reverse: bool
    shapes: dict[str, tuple[int, ...]]  # array of a blob -> the blob's shape after T and N
    bottoms: tuple[Array, ...]
    weights: tuple[Array, ...]
    outputs: tuple[Array, ...]
    states: tuple[State, ...]
    buffers: tuple[Array, ...]
    gradients: tuple[Array, ...]  # of bottoms and weights that are no initial states
    top_diffs: tuple[Array, ...]  # of outputs
    forward: tuple[Task, ...]
    chunk: int  # large states are kept after so many steps; 0 if all states are kept after each step
    again: tuple[Task, ...]  # recomputes these states, before the backward pass of a chunk
    backward: tuple[Task, ...]
    outers: tuple[Outer, ...]
    nodes_again: tuple[str, ...]  # forward work that a step of the backward pass repeats
    row_sums: tuple[tuple[Array, Array], ...] | None  # sums over rows, and buffers of rows; None: sums of each step
    numbers: ProductNumbers = FLOAT32  # of the products of the forward pass
    parts: int = 1  # parts of a row's large states: a CPU runs all steps of a part before the next part
    phases: tuple[Phases, ...] = ()  # with several parts: the phases of the loops of forward, again and backward

    @property
    def tops(self) -> tuple[Array, ...]:
        return (*self.outputs, *(state.top for state in self.states))

    @property
    def apart(self) -> frozenset[str]:
        """The passes with large states and no products in a step: each row runs all steps before the next row."""
        if not self.chunk:
            return frozenset()
        passes = ["forward"] if _is_of_loops(self.forward) else []
        return frozenset([*passes, *(["again", "backward"] if _is_of_loops((*self.again, *self.backward)) else [])])


def _is_of_loops(works: Iterable[Task]) -> bool:
    """Return whether the steps of a pass have no product."""
    return all(isinstance(work, Loop) or work.when != "step" for work in works)


def plan_of(scan: Scan, initial: tuple[float | None, ...], numbers: ProductNumbers = FLOAT32) -> Plan:
    """Return the plan of a scan. Raises :class:`BackendError` with the reason if no code can be written for it."""
    plan = _Planner(scan, initial, numbers).plan()
    parts = _parts_of(plan)
    if parts > 1:
        plan = _Planner(scan, initial, numbers, parts).plan()
    for work in (*plan.forward, *plan.again, *plan.backward, *plan.outers):
        assert work.inside, f"{work} is not inside its arrays"
    for each in plan.phases:
        assert all(loop.in_part(plan.parts - 1).inside for loop in each.inside), "a part is not inside its arrays"
    return plan


def _parts_of(plan: Plan) -> int:
    """Return the least number of parts such that the states of a part fit a first-level cache, or else the largest
    possible number; 1 if the large states fit already, or cannot be divided."""
    large = [state.top.size for state in plan.states if state.saved]
    phases = _phases_of(plan)
    if phases is None or sum(large) <= FIRST_CACHE:
        return 1
    enough = -(-sum(large) // FIRST_CACHE)
    numbers = [n for n in range(2, MOST_PARTS + 1) if all(size % n == 0 for size in large)]
    numbers.sort(key=lambda n: (n < enough, abs(n - enough)))
    return next((n for n in numbers if in_parts(phases, n, lambda array: array) is not None), 1)


def _phases_of(plan: Plan) -> tuple[Phases, ...] | None:
    """Return the phases of forward, again and backward; None if a pass has products or cannot be divided."""
    if len(plan.apart) < 3:
        return None
    least = min(state.top.size for state in plan.states if state.saved)
    large = {array for array in plan.buffers if array.window or (array.size >= least and not array.time)}
    large |= {state.top for state in plan.states if state.saved}
    carried = {array for s in plan.states for array in (s.top, s.kept, *s.gradient)}
    passes = plan.forward, plan.again, plan.backward
    phases = [in_phases([work for work in works if isinstance(work, Loop)], large, carried) for works in passes]
    found = tuple(each for each in phases if each is not None)
    return found if len(found) == len(phases) and not found[1].after else None


class _Planner:
    """Makes the plan of one scan: allocates the arrays, and schedules the steps of each pass."""

    def __init__(self, scan: Scan, initial: tuple[float | None, ...], numbers: ProductNumbers, parts: int = 1) -> None:
        self.scan, self.initial, self.numbers, self.parts = scan, initial, numbers, parts
        self.rows = rows_of(scan)
        self.body = self.rows.body
        check_ops(self.body)
        try:
            back = backward_body(self.body)
        except PassError as error:
            raise BackendError(error.marked, loc=error.loc) from None
        self.back = Cse().run(Simplify().run(back).graph).graph
        needed = self.back.needed()
        # how many nodes and outputs of the backward graph read each value
        self.uses = Counter(ref for node in self.back if node.name in needed for ref in self.back.args(node.name))
        self.uses.update(output.ref for output in self.back.outputs)
        self.names = cpp_names()
        self.shapes: dict[str, tuple[int, ...]] = {}  # of blobs, by the names of their arrays
        self.made: list[Array] = []  # all buffers
        self.top_diffs: list[Array] = []
        self.bottoms: list[Array] = []
        self.weights: list[Array] = []
        self.states: list[State] = []
        self.gradients: dict[str, Array] = {}  # of arguments that are no states
        results, count = self.body.outputs, len(self.body.outputs) - len(initial)
        before = [Ref(arg.name) for slot, arg in enumerate(self.body.body_args()) if scan.role(slot) == "state"]
        self.following = {state: result.ref for state, result in zip(before, results[count:], strict=True)}
        self.again = Recomputation(self.body, self.following, (result.ref for result in results[:count]), parts)

    def array(self, kind: Kind, number: int, name: str, ref: Ref, rows: bool, time: bool, prefix: str = "") -> Array:
        """Return a new array for a blob of the value ``ref``, with a unique name, and note the blob's shape."""
        unique = self.names.unique(prefix + name)
        type_ = self.body.type(ref)
        self.shapes[unique] = type_.shape
        return Array(kind, number, unique, type_.size, rows, time)

    def _arguments(self, outputs: int) -> Places:
        """Make arrays for the body's arguments and for their gradients. Return the place of each argument."""
        sources: Places = {}
        values = iter(self.initial)
        for slot, (arg, mapped) in enumerate(zip(self.body.body_args(), self.rows.mapped, strict=True)):
            role, ref, rows = self.scan.role(slot), Ref(arg.name), mapped
            if role == "weight":
                array = self.array("weight", len(self.weights), arg.name, ref, False, False)
                self.weights.append(array)
            elif role == "state":
                state = self._state(ref, next(values), len(self.bottoms), outputs + len(self.states), rows)
                self.states.append(state)
                self.bottoms += [state.bottom] if state.bottom is not None else []
                sources[ref] = Place(state.top) if state.saved else self._before(state)
                continue
            else:
                array = self.array("bottom", len(self.bottoms), arg.name, ref, rows, role == "x")
                self.bottoms.append(array)
            sources[ref] = Place(array)
            kind: Kind = "weight_diff" if role == "weight" else "bottom_diff"
            self.gradients[arg.name] = self.array(kind, array.number, arg.name, ref, array.rows, array.time, "d_")
        return sources

    def plan(self) -> Plan:
        """Return the plan. Raises :class:`BackendError` for an op without code."""
        results = self.body.outputs[: len(self.body.outputs) - len(self.initial)]
        outputs = tuple(self.array("top", i, o.name or "y", o.ref, True, True) for i, o in enumerate(results))
        sources, states = self._arguments(len(outputs)), self.states
        next_states = {s.top: self._unplaced(s.top) for s in states if s.saved}  # until in_place replaces them
        sinks = [Sink(o.ref, Place(array)) for o, array in zip(results, outputs, strict=True)]
        places = [Place(next_states[s.top]) if s.saved else self._after(s) for s in states]
        sinks += [Sink(ref, place) for ref, place in zip(self.following.values(), places, strict=True)]
        forward = Products(self.body, sources, self.made, self.names, self.numbers)
        kept = self._kept(sources, {sink.ref: sink.place for sink in sinks})
        sinks += [Sink(ref, place) for ref, place in kept.items() if ref not in {sink.ref for sink in sinks}]
        replaced = {Ref(s.name): self.following[Ref(s.name)] for s in states if s.saved}
        steps, _ = forward.work([sink for sink in sinks if not sink.place.array.window], (), replaced)
        for state, following in next_states.items():
            steps = in_place(steps, state, following, self._next)
        again = self._recomputing_work(sources, kept, states)
        back = self._backward(sources, kept, outputs, again)
        blobs = self.shapes, tuple(self.bottoms), tuple(self.weights), outputs
        memory = tuple(states), tuple(self.made), tuple(self.gradients.values()), tuple(self.top_diffs)
        works = tuple(steps), self.again.chunk, tuple(again), *back
        fields = self.scan.body.name, self.rows, self.scan.reverse, *blobs, *memory, *works, self.numbers
        plan = Plan(*fields)
        return plan if self.parts == 1 else self._with_parts(plan)

    def _with_parts(self, plan: Plan) -> Plan:
        """Return the plan with its large states in parts; values that pass between phases are stored for all steps."""
        phases = _phases_of(plan)
        assert phases is not None
        for array in sorted(crossing(phases[:1]) | crossing(phases[1:]), key=lambda array: array.number):
            over_time = self.made[array.number] = replace(array, time=True)
            passes = plan.forward, plan.again, plan.backward
            forward, again, backward = (tuple(with_array(w, array, over_time) for w in works) for works in passes)
            plan = replace(plan, forward=forward, again=again, backward=backward)
        phases = _phases_of(plan)
        assert phases is not None
        parts = in_parts(phases, self.parts, lambda a: self._buffer(f"{a.name}_parts", a.size, a.rows, True))
        assert parts is not None
        return replace(plan, buffers=tuple(self.made), parts=self.parts, phases=tuple(parts))

    def _state(self, ref: Ref, value: float | None, bottom: int, top: int, rows: bool) -> State:
        """Make the arrays of a state; ``bottom`` and ``top`` are the numbers of its blobs."""
        name = ref.node
        size = self.body.type(ref).size
        chunk, saved = self.again.chunk, None
        if ref in self.again.states:
            saved = self._buffer(f"{name}_kept", size, rows, True, every=chunk)
            kept = self._buffer(f"{name}_again", size, rows, False, more=1, window=chunk)
        else:
            kept = self._buffer(f"{name}_kept", size, rows, True, more=1)
        first = None if value is not None else self.array("bottom", bottom, name, ref, rows, False, "first_")
        last = self.array("top", top, name, ref, rows, False, "last_")
        before = self._buffer(f"d_{name}" if chunk else f"d_{name}_before", size, rows, False)
        after = before if chunk else self._buffer(f"d_{name}_after", size, rows, False)
        d_first = self.array("bottom_diff", bottom, name, ref, rows, False, "d_first_") if first else None
        d_last = self.array("top_diff", top, name, ref, rows, False, "d_last_")
        return State(name, kept, saved, first, value or 0.0, last, (before, after), d_first, d_last)

    def _buffer(
        self, name: str, size: int, rows: bool, time: bool, more: int = 0, every: int = 1, window: int = 0
    ) -> Array:
        array = Array("buffer", len(self.made), self.names.unique(name), size, rows, time, more, every, window)
        self.made.append(array)
        return array

    def _unplaced(self, array: Array) -> Array:
        """Return a stand-in for the next value of a state, until ``in_place`` decides where that is written."""
        return replace(array, kind="buffer", number=-1)

    def _next(self, array: Array) -> Array:
        """Return a new buffer for the next value of an array that cannot be overwritten in place."""
        return self._buffer(f"{array.name}_next", array.size, array.rows, False)

    def _before(self, state: State) -> Place:
        """Return the place of a state's value before the current step."""
        return Place(state.kept, 0, 1 if self.scan.reverse else 0)

    def _after(self, state: State) -> Place:
        """Return the place of a state's value after the current step."""
        return Place(state.kept, 0, 0 if self.scan.reverse else 1)

    def _in_chunk(self, sources: Places, states: list[State]) -> Places:
        """Return the places of the sources of a step, with states in the arrays that recomputation has filled."""
        return sources | {ref: self._before(state) for ref, state in zip(self.following, states, strict=True)}

    def _recomputing_work(self, sources: Places, kept: Places, states: list[State]) -> list[Task]:
        """Return the work of a step that recomputes large states, and other values that are stored for a chunk only."""
        of_step = {ref: place for ref, place in kept.items() if not place.array.window}
        sinks = [Sink(self.following[Ref(state.name)], self._after(state)) for state in states if state.saved]
        sinks += [Sink(ref, place) for ref, place in kept.items() if ref not in of_step]
        known = self._in_chunk(sources, states) | of_step
        return Products(self.body, known, self.made, self.names, self.numbers).work(sinks, ())[0]

    def _kept(self, sources: Places, stored: Places) -> Places:
        """Return the places of what the backward pass reads: results of expensive ops, stored for every step. A value
        that is larger than its operands is stored for a chunk, and its expensive operands for every step."""
        own, places = {node.name for node in self.body}, Places()
        needed = self.back.needed() - own
        read = [ref for node in self.back if node.name in needed for ref in self.back.args(node.name)]
        stack = list(dict.fromkeys([*(ref for ref in read if ref.node in own), *self.again.states.values()]))
        while stack:
            ref = stack.pop()
            node = self.body.node(ref.node)
            if ref in sources or ref in places:
                continue
            args, name, size = self.body.args(node.name), f"{node.name}_kept", self.body.type(ref).size
            if isinstance(node.op, (*MOVES, *CHEAP)) or ref in self.again.states.values():
                stack += args
            elif ref in self.again.larger:
                places[ref] = Place(self._buffer(name, size, True, False, window=self.again.chunk))
                stack += args
            elif args:
                at = stored.get(ref)
                places[ref] = at if at and at.array.time else Place(self._buffer(name, size, True, True))
        return places

    def _gradient_sinks(self) -> tuple[list[Sink], list[tuple[Outer, Ref, Ref | None]]]:
        """Return the sinks to which a step writes the gradients of arguments, and the products over all steps that need
        not run in a step, each with its operands ct and x."""
        sinks: list[Sink] = []
        outers: list[tuple[Outer, Ref, Ref | None]] = []
        for into, output in zip(self.gradients.values(), self.back.outputs, strict=False):
            whole, summed = output.ref, not (into.time and into.rows)
            for ref, add in ((part, True) for part in self._summands(whole)) if summed else self._products_apart(whole):
                products = self._products(ref, Place(into)) if not (into.rows or into.time) else None
                if products is not None:
                    outers += products
                elif self.back.node(ref.node).op.name != "full" or not summed:
                    sinks.append(Sink(ref, Place(into), add))
        return self._without_sums(sinks, outers), outers

    def _backward(
        self, sources: Places, kept: Places, outputs: tuple[Array, ...], again: list[Task]
    ) -> tuple[tuple[Task, ...], tuple[Outer, ...], tuple[str, ...], tuple[tuple[Array, Array], ...] | None]:
        """Return the last fields of the plan for the backward pass: the products and loops of a step, the products over
        all steps, the names of the forward nodes that a step repeats, and the sums over rows."""
        args, states = self.back.body_args(), self.states
        count = len(self.body.body_args())
        available = self._in_chunk(sources, states) | kept
        available |= {self.following[Ref(state.name)]: self._after(state) for state in states if state.saved}
        for arg, array in zip(args[count:], outputs, strict=False):
            diff = Array("top_diff", array.number, self.names.unique(f"d_{array.name}"), array.size, True, True)
            self.top_diffs.append(diff)
            available[Ref(arg.name)] = Place(diff)
        for arg, state in zip(args[count + len(outputs) :], states, strict=True):
            available[Ref(arg.name)] = Place(state.gradient[0])
        sinks, outers = self._gradient_sinks()
        next_ones = {s.name: self._unplaced(s.gradient[1]) if self.again.chunk else s.gradient[1] for s in states}
        following = [output.ref for output in self.back.outputs[len(self.gradients) :]]
        sinks += [Sink(ref, Place(next_ones[state.name])) for ref, state in zip(following, states, strict=True)]
        gradient_args = [Ref(arg.name) for arg in args[count + len(outputs) :]]
        replaced = dict(zip(gradient_args, following, strict=True)) if self.again.chunk else {}
        schedule = Products(self.back, available, self.made, self.names)
        steps, places = schedule.work(sinks, [(ct, o.outs, x, o.ins) for o, ct, x in outers], replaced)
        done = tuple(replace(o, ct=ct, x=x) for (o, _, _), (ct, x) in zip(outers, places, strict=True))
        if self.again.chunk:
            for state in states:
                steps = in_place(steps, state.gradient[0], next_ones[state.name], self._next)
        shared = dict.fromkeys(sink.place.array for sink in sinks if sink.add and not sink.place.array.rows)
        over_time, apart = any(a.time for a in shared), self.again.chunk and _is_of_loops((*again, *steps))
        summed = [array for array in shared if apart and not over_time]
        sums = tuple((array, self._buffer(f"{array.name}_rows", array.size, True, False)) for array in summed)
        own = {node.name for node in self.body}
        run = [node.name for group in schedule.groups for node in group.nodes]
        nodes_again = tuple(name for name in (*run, *sorted(schedule.within)) if name in own)
        return tuple(steps), done, nodes_again, None if over_time else sums

    def _summands(self, ref: Ref, alone: bool = False) -> Iterator[Ref]:
        """Yield the summands that a step adds to a gradient; if ``alone``, of sums with one reader only."""
        node = self.back.node(ref.node)
        args = self.back.args(node.name)
        sums = isinstance(node.op, Add) and all(self.back.type(arg) == node.types[0] for arg in args)
        if sums and (self.uses[ref] == 1 or not alone):
            for arg in args:
                yield from self._summands(arg, alone)
        else:
            yield ref

    def _products_apart(self, whole: Ref) -> list[tuple[Ref, bool]]:
        """Return the summands of a sequence's gradient, and whether each is a product, which is added after all steps.
        If several summands are not products, the whole gradient is one summand."""
        terms = [*self._summands(whole, True)]
        products = [term for term in terms if self._is_product(term)]
        if len(terms) == 1 or len(terms) - len(products) > 1:
            return [(whole, False)]
        return sorted(((term, term in products) for term in terms), key=lambda pair: pair[1])

    def _is_product(self, ref: Ref) -> bool:
        """Return whether a value is a product, or a reshaped product, with a single reader."""
        op = self.back.node(ref.node).op
        if isinstance(op, Reshape):
            return self.uses[ref] == 1 and self._is_product(*self.back.args(ref.node))
        return self.uses[ref] == 1 and isinstance(op, Linear)

    def _without_sums(self, sinks: list[Sink], outers: list[tuple[Outer, Ref, Ref | None]]) -> list[Sink]:
        """Return the sinks without the sums over rows that an Outer can compute, because the rows are stored for all
        steps anyway; an example is the gradient of a bias next to weights. These sums are added to ``outers``."""
        there = {ct for _, ct, _ in outers}
        left = []
        for sink in sinks:
            node = self.back.node(sink.ref.node)
            rows = self.back.args(node.name)[0] if isinstance(node.op, Sum) and node.op.axis == 0 else None
            if rows is not None and rows in there and sink.add:
                lead, outs = self.back.type(rows).shape
                outers.append((Outer(sink.place, None, sink.place, outs, 1, lead), rows, None))
            else:
                left.append(sink)
        return left

    def _products(self, ref: Ref, into: Place) -> list[tuple[Outer, Ref, Ref | None]] | None:
        """Return a gradient as products dW = ct^T x of a step's rows, each with its operands ct and x. Return None if
        the gradient has a term that is no such product."""
        node = self.back.node(ref.node)
        args = self.back.args(node.name)
        if isinstance(node.op, Reshape):
            return self._products(args[0], into)
        if isinstance(node.op, Transpose):  # of a matrix that is used transposed
            turned = self._products(args[0], into)
            return turned and [(replace(o, outs=o.ins, ins=o.outs), x, ct) for o, ct, x in turned if x is not None]
        if isinstance(node.op, Add) and all(self.back.type(arg) == node.types[0] for arg in args):
            each = [self._products(arg, into) for arg in args]
            return None if None in each else [product for products in each for product in products or ()]
        if not isinstance(node.op, Linear):
            return None
        sides = [self.back.node(arg.node) for arg in args]
        if not all(isinstance(side.op, Transpose) for side in sides):
            return None
        operands = [self.back.args(side.name)[0] for side in sides]
        outs, ins = node.types[0].shape
        lead = sides[0].types[0].shape[1]
        nowhere = Place(into.array)  # until the places of ct and x are known
        return [(Outer(nowhere, nowhere, into, outs, ins, lead), operands[0], operands[1])]


PREFIX = "d_"  # prefix of a gradient's name, before the name of the value


def backward_body(body: Graph) -> Graph:
    """Return the body of the scan that goes back through a scan of ``body``. Arguments: the arguments of ``body`` in
    their order, its states as ``x`` (their values before the step); then ``d_NAME`` as ``x`` for each output of the
    step, and ``d_NAME`` as ``state`` for each state. Outputs: ``d_NAME``, the part of the gradient from this step, for
    each argument that is no state; then the states. Raises :class:`PassError` for an op whose gradient is no graph."""
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
    """Copies a step's nodes into one builder, then adds the nodes of their gradients, the last node's first."""

    def __init__(self, body: Graph) -> None:
        self.body, self.b = body, Builder(f"{PREFIX}{body.name}")
        self.new: dict[Ref, Ref] = {}  # value of the body -> its copy
        self.cts: dict[Ref, GraphValue] = {}  # value of the body -> the sum of its gradients so far
        for node in sorted(body, key=lambda node: not isinstance(node.op, Arg)):
            # an argument's value is known at every step, also a state's
            op = Arg(node.types[0].shape, "x") if node.name in body.arguments("state") else node.op
            outs = self.b.copy(node, [self.new[ref] for ref in body.args(node.name)], op)
            self.new.update(zip(node.refs, outs, strict=True))

    def value(self, ref: Ref, name: str, node: Node | None = None) -> GraphValue:
        return GraphValue(self.b, ref, name, node.loc if node else None)

    def backward(self) -> None:
        """Propagate gradients from each node's results to its operands, from the last node to the first."""
        for node in reversed(list(self.body)):
            if isinstance(node.op, Leaf) or not any(ref in self.cts for ref in node.refs):
                continue
            for ref, ct in zip(self.body.args(node.name), self._vjp(node), strict=True):
                if ct is not None:
                    self.accumulate(ref, ct)

    def _vjp(self, node: Node) -> Iterable[GraphValue | None]:
        """Return the gradients of a node's operands, as values of the graph; None for an operand without one."""

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
            reason = f"its vjp works on arrays alone ({error})"
            raise PassError(f"the gradient of {node.op.name} is no graph: {reason}", loc=node.loc) from error
        return back

    def accumulate(self, ref: Ref, ct: GraphValue) -> None:
        self.cts[ref] = self.cts[ref] + ct if ref in self.cts else ct

    def gradient(self, ref: Ref, type_: TensorType) -> GraphValue:
        """Return the gradient of a value, zeros if no result depends on the value."""
        if ref in self.cts:
            return self.cts[ref]
        (zeros,) = self.b.add(Full(type_.shape, 0.0), names=(f"{PREFIX}zero",))
        return self.value(zeros, f"{PREFIX}zero")
