"""The expected texts of every pass: an LSTM written gate by gate, as each pass of the pipeline leaves it.

Beside them the nets of a small LSTM for each portable target, and its one-step net: ``lstm.TARGET.prototxt``.

``make golden`` runs this as a program and writes the files anew: ``lstm.model.lir`` is written by hand, and
``lstm.passes.lir`` has what each pass makes of the text before it. Read the difference before you commit it.

``cells.TARGET.txt`` has the numbers of layers, and ops on weights, of every library cell, and the work of its
generated layers, with the size and a hash of their code: a pass that misses a chance makes a net larger, and no number
wrong. Small models are there for generated layers too: of whole vectors, and of states in parts.

``lstm.prototxt`` is the net of the library's LSTM over two steps, from a given h and a zero c, with an input that
nothing reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from lstmc import Input, __version__, constant, model, scan
from lstmc.backend import load_cell
from lstmc.cells import lstm
from lstmc.dsl import CellModel, Model
from lstmc.errors import BackendError
from lstmc.ir import Graph, parse_graph, print_graph
from lstmc.loops.code import gpu_text, layer_code
from lstmc.loops.layer import memory_text, plan_text
from lstmc.loops.plan import plan_of
from lstmc.ops import Leaf
from lstmc.passes import run_passes
from lstmc.pipeline import all_passes, compile_graph
from lstmc.plugins import library_names
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.legalize.fused import FusedScan
from lstmc_caffe.write.artifact import prototxt
from lstmc_caffe.write.net import write_net
from tests.cells.scanned import cell_graph
from tests.loops import small_scans, test_large_states

FOLDER = Path(__file__).parent
MODEL, PASSES = FOLDER / "lstm.model.lir", FOLDER / "lstm.passes.lir"
PROTOTXT = FOLDER / "lstm.prototxt"
BACKEND = CaffeBackend()


def golden_passes() -> str:
    """The model after each pass of the pipeline, as ``--dump-dir`` writes it; the header alone if nothing changed."""
    with TemporaryDirectory() as folder:
        history = run_passes(read(MODEL), all_passes(BACKEND), BACKEND.ops, Path(folder))
        dumps = [dump.read_text() for dump in sorted(Path(folder).iterdir())]
    texts = [print_graph(snapshot.graph) for snapshot in history]
    steps = zip(dumps[1:], texts[:-1], texts[1:], strict=True)
    return "".join(dump.removesuffix(text) if text == before else dump for dump, before, text in steps)


def golden_nets() -> Iterator[tuple[Path, str]]:
    """The prototxts of the library's LSTM, small, and the file that has each."""
    lstm = CellModel(load_cell("lstm")).graph(T=2, N=2, D=3, H=2)
    for target, step in (("flat", False), ("noslice", False), ("flat", True)):
        compiled = compile_graph(lstm, BACKEND, target, "cell lstm", step=step)
        files = BACKEND.emit(compiled, initial_weights(lstm)).files
        yield FOLDER / f"lstm.{target}{'.step' * step}.prototxt", files["lstm.prototxt"].decode()


CELL_TARGETS = ("caffe", "caffe-fused", "flat", "noslice")


def golden_cells(target: str, first: int = 0, each: int = 1) -> Iterator[str]:
    """What each library cell, or one in ``each``, is on a target, over two steps; of generated layers more models."""
    made = {name: cell_graph(name, (2, 2), states=False) for name in sorted(library_names())}
    if target == "caffe-fused":
        made |= {name: model.graph(T=5, N=3) for name, model in vars(small_scans).items() if isinstance(model, Model)}
        sizes = ((16, 32), (128, 64))
        made |= {f"everything {k} by {v}": test_large_states.everything.graph(T=5, N=2, K=k, V=v) for k, v in sizes}
    for name in [*made][first::each]:
        try:
            graph = compile_graph(made[name], BACKEND, target).expanded
        except BackendError:
            yield f"{name}: refused"
            continue
        ops = Counter(node.op.name.removeprefix("caffe.") for node in graph if not isinstance(node.op, Leaf))
        listed = ", ".join(f"{count} {op}" for op, count in sorted(ops.items()))
        yield f"{name}: {ops.total()} ops: {listed}"
        for op in (node.op for node in graph if isinstance(node.op, FusedScan)):
            plan = plan_of(op, op.initial)
            _, forward, backward, *_ = plan_text(plan).splitlines()
            yield f"{forward};{backward[1:]}; {len(plan.outers)} gradients of weights"
            yield memory_text(plan, 2, 2).rstrip()
            code = layer_code(plan)
            size, text = len(code.cpp.splitlines()), code.cpp + code.cu + gpu_text(plan, 2, 2)
            yield f"  code: {size} lines of C++, {sha256(text.encode()).hexdigest()[:8]} with CUDA and its cost"


def cells_path(target: str) -> Path:
    return FOLDER / f"cells.{target}.txt"


def read(path: Path) -> Graph:
    return parse_graph(path.read_text(), BACKEND.ops)


@model
def small_lstm(X=Input(2, 1, 3), h0=Input(1, 2, fill=constant(0.5)), unread=Input(3)):
    y, last = scan(lstm(H=2, name="lstm"), X, init={"h": h0})
    return {"y": y, "c_T": last["c"]}


def golden_prototxt() -> str:
    compiled = compile_graph(small_lstm.graph(), BACKEND, source="tests/goldens/update.py:small_lstm")
    text = prototxt(compiled, write_net(compiled.expanded))
    return text.replace(f"lstmc {__version__} from", "lstmc VERSION from", 1)


def main() -> None:
    PROTOTXT.write_text(golden_prototxt())
    PASSES.write_text(golden_passes())
    for path, text in golden_nets():
        path.write_text(text)
    for target in CELL_TARGETS:
        cells_path(target).write_text("".join(f"{line}\n" for line in golden_cells(target)))


if __name__ == "__main__":
    main()
