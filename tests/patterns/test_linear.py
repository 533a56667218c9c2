"""Linear recurrences: what is said of a state is held against the numbers of its step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc.backend import load_cell
from lstmc.dsl.dims import typical_size
from lstmc.dsl.model import CellModel
from lstmc.interp import backward, forward
from lstmc.ir import Graph, Ref, Scan, parse_graph
from lstmc.ops import Add, Arg, Array, Input, Linear, Op, Reshape, Sigmoid, Split, Sum, Tile, Transpose
from lstmc.patterns import Kind, Recurrence, matrix_step, recurrences, scan_lines, state_lines
from lstmc.patterns.recurrence import Mask, mask_of, masked_sum, same_axes
from lstmc.plugins import library_names
from tests.cells.scanned import cell_graph
from tests.patterns.linear_bodies import as_model, masked, random_body
from tests.quick_sample import seeds
from tests.random_models.models import seeded_model


class Step:
    """A step as a function of some of its states."""

    def __init__(self, body: Graph, recurrence: Recurrence, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.model, self.recurrence = as_model(body), recurrence
        self.names = [body.arguments("state")[state] for state in recurrence.states]
        first = len(body.outputs) - len(body.arguments("state"))
        self.results = [str(first + state) for state in recurrence.states]
        self.inputs = {n.name: self.draw(n.types[0].shape) for n in self.model if isinstance(n.op, Input)}
        if "m" in self.inputs:  # a mask
            self.inputs["m"] = np.float64(self.inputs["m"] > 0)

    def draw(self, shape: tuple[int, ...]) -> Array:
        return self.rng.uniform(-2, 2, shape)

    def states(self) -> dict[str, Array]:
        return {name: self.draw(self.inputs[name].shape) for name in self.names}

    def __call__(self, states: Mapping[str, Array]) -> list[Array]:
        outputs = forward(self.model, {**self.inputs, **states}).outputs
        return [outputs[name] for name in self.results]

    def gradients(self, states: Mapping[str, Array]) -> list[Array]:
        run = forward(self.model, {**self.inputs, **states})
        cotangents = {name: np.cos(1 + np.indices(run.outputs[name].shape).sum(0)) for name in self.results}
        gradients = backward(run, cotangents).inputs
        return [gradients[name] for name in self.names]


def check(body: Graph, recurrence: Recurrence, seed: int = 0, exact: bool = False) -> None:
    """Hold what is said of a group of states against numbers, and the gradients against each other.

    If ``exact``, factors that are said to vary are others at another step: in bodies without masks.
    """
    if recurrence.kind is None:
        assert len(recurrence.reasons) == len(recurrence.states)
        return
    step = Step(body, recurrence, seed)
    one, other = step.states(), step.states()
    zero = {name: np.zeros_like(array) for name, array in one.items()}
    at_one, at_other, at_zero = step(one), step(other), step(zero)
    if recurrence.kind is Kind.DELAY:
        for _ in range(recurrence.delay - 1):
            one, other = (dict(zip(step.names, step(states), strict=True)) for states in (one, other))
        equal(step(one), step(other))
        return
    elif recurrence.kind is Kind.MAXIMUM:
        equal(step({n: np.maximum(one[n], other[n]) for n in one}), list(map(np.maximum, at_one, at_other)))
        far = {name: array + 1e6 for name, array in one.items()}  # where no offset is larger
        further = {name: array + 3.0 for name, array in far.items()}
        for x, y in zip(step(far), step(further), strict=True):
            assert_allclose(np.where(x > 1e5, y - x, 3.0), 3.0, rtol=1e-9)
    else:
        both = step({name: one[name] + other[name] for name in one})
        equal(list(map(np.add, at_one, at_other)), list(map(np.add, both, at_zero)))
        stretched = step({name: -3.5 * array for name, array in one.items()})
        equal(
            [x - y for x, y in zip(stretched, at_zero, strict=True)],
            [-3.5 * (x - y) for x, y in zip(at_one, at_zero, strict=True)],
        )
        equal(step.gradients(one), step.gradients(other))
        alike = is_alike_at_another_step(body, step, one)
        assert recurrence.varies if not alike else not (recurrence.varies and exact)
        if recurrence.kind is Kind.MATRIX:
            check_matrix(body, recurrence, step)
    if recurrence.step is not None:
        equal(at_one, list(of_factors(recurrence, step, one)))


def is_alike_at_another_step(body: Graph, step: Step, states: Mapping[str, Array]) -> bool:
    """Return whether the linear part is the same where sequences and other states have other values."""
    before, parts = step.inputs, []
    changing = {arg.name for arg in body.body_args() if isinstance(arg.op, Arg) and arg.op.role in ("x", "state")}
    zero = {name: np.zeros_like(array) for name, array in states.items()}
    for _ in range(2):
        parts.append([x - y for x, y in zip(step(states), step(zero), strict=True)])
        step.inputs = before | {name: step.draw(array.shape) for name, array in before.items() if name in changing}
    step.inputs = before
    return all(np.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in zip(*parts, strict=True))


def check_matrix(body: Graph, recurrence: Recurrence, step: Step) -> None:
    """Hold the graph of a step, its linear part, and what is said of the axes of its states, against numbers."""
    matrix = matrix_step(body, recurrence.states, {})
    values = forward(step.model, step.inputs).values
    names = [arg.name for arg in matrix.affine.body_args()]
    operands = dict(zip(names[len(step.names) :], [values[ref] for ref in matrix.operands], strict=True))

    def results(graph: Graph, states: Mapping[str, Array]) -> list[Array]:
        return list(forward(as_model(graph), {**operands, **states}).outputs.values())

    one = step.states()
    zero = {name: np.zeros_like(array) for name, array in one.items()}
    equal(results(matrix.affine, one), step(one))
    at_zero = results(matrix.affine, zero)
    equal(results(matrix.linear, one), [x - y for x, y in zip(step(one), at_zero, strict=True)])
    for axis in matrix.kept:
        for place in range(next(iter(one.values())).shape[axis]):
            alone = {name: array * (np.indices(array.shape)[axis] == place) for name, array in one.items()}
            for array in results(matrix.linear, alone):
                assert not np.delete(array, place, axis).any()
    for axis in matrix.shared:
        same = {name: array.take([0], axis) + np.zeros_like(array) for name, array in one.items()}
        for array in results(matrix.linear, same):
            assert_allclose(array, array.take([0], axis) + np.zeros_like(array), rtol=1e-9, atol=1e-9)


def equal(some: list[Array], others: list[Array]) -> None:
    for x, y in zip(some, others, strict=True):
        assert_allclose(x, y, rtol=1e-9, atol=1e-9)


def of_factors(recurrence: Recurrence, step: Step, states: Mapping[str, Array]) -> Iterator[Array]:
    """The next values as factors and offsets give them."""
    assert recurrence.step is not None
    run = forward(as_model(recurrence.step), step.inputs)
    values = [states[name] for name in step.names]
    maximum = recurrence.kind is Kind.MAXIMUM
    for state in recurrence.states:
        terms = []
        for other, value in zip(recurrence.states, values, strict=True):
            if (state, other) in recurrence.factors:
                ref = recurrence.factors[state, other]
                factor = (0.0 if maximum else 1.0) if ref is None else run.values[ref]
                terms.append(value + factor if maximum else value * factor)
        offset = recurrence.offsets[state]
        terms += [] if offset is None else [run.values[offset]]
        total = terms[0] if terms else np.zeros_like(values[0])
        for term in terms[1:]:
            total = np.maximum(total, term) if maximum else total + term
        yield total


@seeds(150, 500)
def test_what_is_said_of_random_bodies_is_true(seeds: range) -> None:
    kinds: Counter[Kind | None] = Counter()
    delays = 0
    for seed in seeds:
        body = random_body(seed)
        for recurrence in recurrences(body):
            kinds[recurrence.kind] += 1
            delays += recurrence.delay > 1
            check_of_seed(body, recurrence, seed, exact=True)
    assert all(kinds[kind] > len(seeds) / 60 for kind in (None, *Kind)), kinds
    assert delays > len(seeds) / 100


@seeds(90, 300)
def test_what_is_said_of_random_bodies_with_a_mask_is_true(seeds: range) -> None:
    kinds: Counter[Kind | None] = Counter()
    for seed in seeds:
        body = masked(random_body(seed), seed)
        for recurrence in recurrences(body, {"m": Mask(Ref("m"), False)}):
            kinds[recurrence.kind] += 1
            check_of_seed(body, recurrence, seed)
    assert all(kinds[kind] > len(seeds) / 60 for kind in (None, Kind.ELEMENTWISE, Kind.MAXIMUM)), kinds


def check_of_seed(body: Graph, recurrence: Recurrence, seed: int, exact: bool = False) -> None:
    try:
        check(body, recurrence, seed, exact)
    except AssertionError as error:
        error.add_note(f"seed {seed}: {recurrence.names} {recurrence.kind}")
        raise


def test_axes_of_equal_elements_are_those_of_numbers() -> None:
    """All of them that are longer than one, but after a reshape, where some are not looked for."""
    for seed in range(600):
        rng = np.random.default_rng(seed)
        shapes = [tuple(map(int, rng.choice((1, 2, 3, 4), 3))) for _ in range(2)]
        shapes[1] = tuple(1 if rng.random() < 0.5 else n for n in shapes[0])[int(rng.integers(3)) :]
        axes = [frozenset(d for d, n in enumerate(shape) if n > 1 and rng.random() < 0.5) for shape in shapes]
        arrays = [
            np.broadcast_to(rng.normal(size=[1 if d in own else n for d, n in enumerate(shape)]), shape)
            for shape, own in zip(shapes, axes, strict=True)
        ]
        axis, (a, b, c) = int(rng.integers(3)), shapes[0]
        op: Op = [
            Add(), Sigmoid(), Tile(axis, 2), Transpose(min(axis, 1)), Sum(axis), Split(axis, (1,) * shapes[0][axis]),
            Linear(axis), Reshape((a, 1, b, c)), Reshape((a * b, c)), Reshape((a, b * c)),
        ][seed % 10]  # fmt: skip
        if isinstance(op, Linear):
            arrays[1] = rng.normal(size=(5, int(np.prod(shapes[0][axis:]))))
        count = 2 if isinstance(op, Add | Linear) else 1
        for array in op.eval(*arrays[:count]):
            said = same_axes(op, list(zip(shapes, axes, strict=True))[:count], array.shape)
            equal_along = {d for d, n in enumerate(array.shape) if n > 1 and np.allclose(array, array.take([0], d))}
            long = {d for d in said if array.shape[d] > 1}
            assert long <= equal_along if seed % 10 > 7 else long == equal_along, (seed, op, shapes, axes)


@seeds(8, 25)
def test_what_is_said_of_random_models_is_true(seeds: range) -> None:
    for seed in seeds:
        for node in seeded_model(seed).graph():
            if isinstance(node.op, Scan):
                for recurrence in recurrences(node.op.body):
                    check(node.op.body, recurrence)


ORDERED = """
rnn indrnn antisymmetric rhn lstm lstm_peephole lstm_projected lstm_cifg lstm_layernorm lstm_multiplicative slstm
lstm_blocks slstm_heads gru gru_reset_after mgu ugrnn janet para_gru gru_blocks sru lmu cfc ltc gru_d clockwork
phased_lstm conv_lstm conv_gru attention_lstm bahdanau luong pointer ntm
"""  # the library cells that have a state whose recurrence is not linear


@pytest.mark.parametrize("name", list(library_names()))
def test_library_cells(name: str) -> None:
    """Each cell is linear in its states or is not, as its paper says; what is said is true of its numbers."""
    cell = load_cell(name)
    graph = CellModel(cell).graph(T=1, **{dim: min(typical_size(dim), 4) for dim in cell.dims})
    kinds = []
    for node in graph:
        if isinstance(node.op, Scan):
            for recurrence in recurrences(node.op.body):
                check(node.op.body, recurrence)
                kinds.append(recurrence.kind)
    assert (None in kinds) == (name in ORDERED.split())


def test_the_reason_names_the_first_product_or_function() -> None:
    cell = load_cell("lstm")
    (body,) = [n.op.body for n in CellModel(cell).graph(T=1, N=1, D=2, H=2) if isinstance(n.op, Scan)]
    assert state_lines(body) == [
        ("h", "sequential: the step has the sigmoid of a value that reads h"),
        ("c", "sequential: c is multiplied by sigmoid_f, which reads h"),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qrnn", ["parallel: it delays values by 1 step", "linear: elementwise, factors differ from step to step"]),
        ("causal_conv", ["parallel: it delays values by 2 steps"]),
        ("lru", ["linear: elementwise, in a group of 2 states, factors are the same at every step"] * 2),
        ("delta_net", ["linear: matrix, factors differ from step to step"]),
    ],
)
def test_recurrences_in_words(name: str, said: list[str]) -> None:
    assert [words for _, _, words in scan_lines(cell_graph(name, (2, 1), states=False))] == said


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("affine(%n)", True),
        ("affine(%n, scale=2.0, shift=-3.0)", True),
        ("affine(%n, scale=0.5)", False),
        ("affine(%n, shift=0.5)", False),
        ("tanh(%n)", False),
    ],
)
def test_a_mask_is_of_whole_numbers(line: str, found: bool) -> None:
    """Of integers alone is relu(1 - relu(n)) 0 or 1."""
    lines = (
        "%n: f32[2] = input(values=integers(0, 9))",
        f"%k: f32[2] = {line}",
        "%missing: f32[2] = relu(%k)",
        "%present: f32[2] = affine(%missing, scale=-1.0, shift=1.0)",
        "%mask: f32[2] = relu(%present)",
    )
    graph = parse_graph("graph g {\n  " + "\n  ".join(lines) + "\n  return mask=%mask\n}\n")
    assert (mask_of(graph, Ref("mask")) is not None) == found


@pytest.mark.parametrize(("last", "terms"), [("%absent", 2), ("%mask", 0)])
def test_a_masked_sum_has_a_mask_and_one_minus_it(last: str, terms: int) -> None:
    lines = (
        *(f"%{name}: f32[2] = input()" for name in ("mask", "new", "old")),
        "%absent: f32[2] = affine(%mask, scale=-1.0, shift=1.0)",
        "%kept: f32[2] = mul(%mask, %new)",
        f"%past: f32[2] = mul(%old, {last})",
        "%next: f32[2] = add(%kept, %past)",
    )
    graph = parse_graph("graph g {\n  " + "\n  ".join(lines) + "\n  return next=%next\n}\n")
    found = masked_sum(graph, graph.node("next"), {"mask": Mask(Ref("mask"), False)})
    assert [value for _, value in found] == [Ref("new"), Ref("old")][:terms]
