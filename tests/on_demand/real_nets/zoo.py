"""The zoo's nets, converted and measured: ``make zoo`` writes docs/zoo.md.

    python -m tests.on_demand.real_nets.zoo [--nets gtcrn dtln-1]

Of each net: its error on each target of its recipe against the published file over 100 frames, its error in 8 bits,
its memory in C, the processor's time of a frame in C, in ONNX Runtime and in tract, one thread, measured in turn, and
its picture. Rows are kept in ``out/zoo``, and the page is written from all that are there.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import onnx
import tract

import lstmc
from lstmc.api.converting import Conversion
from lstmc.files.templates import text_templates
from lstmc.importers.runtimes import OnnxRuntime
from lstmc.importers.zoo import PREFIX, Recipe, recipes
from tests.on_demand.benchmarks.c_time import measured, measured_again
from tests.on_demand.real_nets import eight_bits
from tests.on_demand.real_nets.frames import Arrays, Source, compiled, error, onnx_session, source_of
from tests.on_demand.real_nets.pictures import drawn

KEPT = Path("out/zoo")
PAGE = Path("docs/zoo.md")
PICTURES = Path("docs/pictures/zoo")
TURNS, ROUNDS, CALLS = 6, 20, 10
FACTS = re.compile(
    r"RAM: (?P<stream>\d+) bytes for each stream.*?, (?P<scratch>\d+) bytes of scratch.*?flash: (?P<flash>\d+) bytes",
    re.DOTALL,
)


def row_of(recipe: Recipe) -> dict[str, Any]:
    """Return the facts of a net."""
    found = lstmc.inspect(f"{PREFIX}{recipe.name}")
    source = source_of(recipe)
    row: dict[str, Any] = {
        "name": recipe.name,
        "multiply_adds": found.multiply_adds,
        "runtime": source.model.runtime and source.model.runtime.name,
        "steps": len(source.inputs),
        "states": {source.model.net.called.get(name, name): shape for name, shape in _states(source).items()},
        "errors": {},
    }
    for target in recipe.targets:
        with tempfile.TemporaryDirectory() as name:
            done = compiled(source, recipe, target, Path(name))
            row["errors"][target] = error(source, done, target)
            row["weights"] = sum(array.size for array in done.net.weights.values())
            if target == recipe.targets[0]:
                drawn(done.net.graph).save(PICTURES / f"{recipe.name}.svg")
            if target == "c":
                row |= in_c(source, recipe, done, Path(name))
    return row


def in_c(source: Source, recipe: Recipe, done: Conversion, folder: Path) -> dict[str, Any]:
    """Return the memory of a net in C, and the microseconds of a frame there and in ONNX Runtime."""
    header = next(folder.glob("*.h")).read_text()
    facts = FACTS.search(header)
    assert facts is not None
    name = done.net.artifact.net.removesuffix(".c")
    step = re.search(rf"void {name}_step\(([^)]*)\)", header)
    assert step is not None
    arrays = re.findall(r"float \*(\w+)", step[1])
    sizes = {**done.net.inputs, **done.net.outputs}
    largest = max(int(np.prod(shape)) for shape in sizes.values())
    declared = f"static {name}_state state; static {name}_work work;" + "".join(
        f" static float a_{array}[{largest}];" for array in arrays
    )
    call = f"{name}_step({', '.join(['&state', '&work', *(f'a_{array}' for array in arrays)])})"
    begin = f"{name}_reset(&state);"
    seconds = measured(folder, [f"{name}.c"], f'#include "{name}.h"\n{declared}', call, begin, ROUNDS)
    row: dict[str, Any] = {key: int(value) for key, value in facts.groupdict().items()}
    row["us_c"] = seconds * 1e6
    if isinstance(source.model.runtime, OnnxRuntime):
        row |= beside(folder, recipe, source)
    return row | {"eight_bits": eight_bits.errors(source, recipe, done)}


def beside(folder: Path, recipe: Recipe, source: Source) -> dict[str, Any]:
    """Return the microseconds of a frame in C, and by the published file in ONNX Runtime and in tract, in turn."""
    session = onnx_session(recipe.path(), threads=1)
    frame = {entry.name: source.inputs[0].get(entry.name) for entry in session.get_inputs()}
    shapes = {entry.name: [s if isinstance(s, int) else 1 for s in entry.shape] for entry in session.get_inputs()}
    fed = {name: np.zeros(shapes[name], np.float32) if x is None else x for name, x in frame.items()}
    calls: dict[str, Callable[[], object]] = {"us_onnx_runtime": lambda: session.run(None, fed)}
    row: dict[str, Any] = {"tract": ""}
    try:
        calls["us_tract"] = _in_tract(recipe.path(), fed, session.run(None, fed))
    except tract.TractError as error:
        row["tract"] = str(error).partition("\n")[0]
    turns = [
        {"us_c": measured_again(folder)} | {name: _least(call) for name, call in calls.items()} for _ in range(TURNS)
    ]
    return row | {name: min(turn[name] for turn in turns) * 1e6 for name in turns[0]}


def _in_tract(path: Path, fed: Arrays, expected: list[Any]) -> Callable[[], object]:
    """Return a call of a published file in tract, whose outputs are those of ONNX Runtime."""
    file = onnx.load(path)
    del file.graph.value_info[:]  # whose names of open sizes tract holds against the sizes of the inputs
    for output in file.graph.output:
        output.type.tensor_type.ClearField("shape")
    with tempfile.NamedTemporaryFile(suffix=".onnx") as copy:
        onnx.save(file, copy.name)
        model = tract.onnx().load(copy.name)
    inputs = [fed[model.input_name(place)] for place in range(model.input_count())]
    for place, array in enumerate(inputs):
        model.set_input_fact(place, ",".join([*map(str, array.shape), "f32"]))
    state = model.into_model().into_runnable().spawn_state()
    tensors = [tract.Tensor.from_numpy(np.ascontiguousarray(array)) for array in inputs]
    for found, wanted in zip(state.run(tensors), expected, strict=True):
        np.testing.assert_allclose(found.to_numpy(), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    return lambda: state.run(tensors)


def _least(call: Callable[[], object]) -> float:
    """Return the least seconds of a call, on this thread."""
    least = 1.0
    for _ in range(ROUNDS):
        began = thread_time()
        for _ in range(CALLS):
            call()
        least = min(least, (thread_time() - began) / CALLS)
    return least


def _states(source: Source) -> dict[str, list[int]]:
    net = source.model.net
    return {name: [size for size in net.inputs[name] if isinstance(size, int)] for name in net.states}


def page() -> None:
    """Write the page from the rows that are kept."""
    rows = [(recipe, json.loads(_kept(recipe).read_text())) for recipe in recipes().values() if _kept(recipe).exists()]
    template = text_templates("tests", "on_demand/real_nets").get_template("zoo.md.j2")
    missing = [recipe.name for recipe in recipes().values() if not _kept(recipe).exists()]
    earlier = [recipe.name for recipe, row in rows if "us_c" in row and "eight_bits" not in row]
    PAGE.write_text(template.render(rows=rows, missing=missing, earlier=earlier), encoding="utf-8")


def _kept(recipe: Recipe) -> Path:
    return KEPT / f"{recipe.name}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="*", default=list(recipes()), choices=list(recipes()), metavar="NET")
    options = parser.parse_args()
    for folder in (KEPT, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    for name in options.nets:
        row = row_of(recipes()[name])
        print(json.dumps(row), flush=True)
        _kept(recipes()[name]).write_text(json.dumps(row, indent=1))
    page()


if __name__ == "__main__":
    main()
