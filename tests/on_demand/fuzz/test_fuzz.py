"""A wrong rule is found by random models, and what is saved shows it; the right one has no failures."""

from __future__ import annotations

import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from lstmc.cli import main
from lstmc.ir import Graph
from lstmc.ops import Tanh
from lstmc.passes import Pass, PassResult
from lstmc.passes.base import rewrite
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from tests.on_demand.fuzz import imported_streams, streams
from tests.on_demand.fuzz.frontier import Frontier, Reached
from tests.on_demand.fuzz.hunt import Tally, hunt, known_rules, save
from tests.on_demand.fuzz.streams import try_stream
from tests.on_demand.fuzz.trial import generic, try_model
from tests.random_models.models import RandomModel, seeded_model

pytestmark = pytest.mark.caffe


class TwiceTanh(Pass):
    """tanh(x) => tanh(tanh(x)), which is wrong."""

    name = "twice_tanh"

    def run(self, graph: Graph) -> PassResult:
        def twice(b, node, args):
            once = b.add(Tanh(), *args, names=(f"{node.name}_once",)) if isinstance(node.op, Tanh) else None
            return once and b.add(Tanh(), *once, names=node.names)

        made = rewrite(graph, twice)
        return PassResult(made, any(isinstance(node.op, Tanh) for node in graph))


def hunted(caffe: Runner, seeds: range, folder: Path) -> Tally:
    total = Tally()
    for tally in hunt(seeds, caffe, folder, ("caffe",)):
        total.add(tally)
    return total


def exit_code(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["lstmc", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_wrong_rule_is_found_and_its_file_shows_it(
    caffe: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    seeds, right = range(100, 112), CaffeBackend.passes
    sound = hunted(caffe, seeds[:6], Path("none"))
    assert sound.saved == []
    assert not Path("none").exists()
    used = sound.rules
    assert {"drop_node", "affine_to_power"} <= used.keys() & known_rules()
    *_, said = str(Tally(3, rules=used)).split(": ")
    assert set(said.split(", ")) == known_rules() - used.keys()
    monkeypatch.setattr(CaffeBackend, "passes", lambda self, target: (TwiceTanh(), *right(self, target)))
    total = hunted(caffe, seeds, Path("found"))
    assert total.tried == total.compiled == len(seeds)
    assert total.saved
    path = total.saved[0]
    said, command, *wrong = path.read_text().splitlines()[:3]
    assert said == "# A random model that target caffe gets wrong. To see it:"
    assert " relative=" in wrong[0]
    _, *arguments = command.removeprefix("#").split()
    assert exit_code(monkeypatch, arguments) == 1
    assert "PAST TOLERANCE" in capsys.readouterr().out
    monkeypatch.setattr(CaffeBackend, "passes", right)
    assert exit_code(monkeypatch, arguments) == 0


LAST_STATE = """\
from lstmc import *
from lstmc.cells import rnn
T, N = dims("T N")

@cell
def late(x=Input(N, 3), s=Input(N, 2), h=State(N, 2)):
    h = tanh(x[:, :2] + s + h)
    return h, {"h": h}

@model
def net(X=Input(T, N, 3)):
    a, last = scan(rnn(H=2), X)
    y, _ = scan(late(), X, static={"s": last["h"]})
    return {"a": a, "y": y}
"""


def test_models_are_drawn_near_those_that_reach_something_first() -> None:
    frontier = Frontier()
    assert frontier.drawn(3, "flat") == ("flat", seeded_model(3), (3, ()))
    found: Reached = set()
    with frontier.watched(found):
        compile_graph(seeded_model(3).graph(), CaffeBackend(), "caffe")
    assert {Path(str(file)).name for file, *_ in found} > {"simplify.py", "layers.py"}
    assert frontier.add("caffe", (3, ()), found)
    assert not frontier.add("caffe", (5, ()), found)
    drawn = {seed: frontier.drawn(seed, "flat") for seed in range(8)}
    assert {target for target, *_ in drawn.values()} == {"flat", "caffe"}
    seed, near = next((seed, model) for seed, (target, model, _) in drawn.items() if target == "caffe")
    assert drawn[seed] == frontier.drawn(seed, "flat") == ("caffe", seeded_model(3, changes=(seed,)), (3, (seed,)))
    assert near != seeded_model(3)
    kept = SequenceMatcher(None, near.source.splitlines(), seeded_model(3).source.splitlines()).ratio()
    assert kept > 0.3


def test_steps_that_compute_something_else_are_found_and_their_file_shows_it(
    caffe: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = RandomModel(LAST_STATE, 3, 2, 5)
    assert try_stream(model, "caffe", caffe).outcome == "agrees"  # of a alone
    monkeypatch.setattr(sys.modules["lstmc.prepare.one_step"], "_check_last_states", lambda graph, over_time: None)
    trial = try_stream(model, "caffe", caffe)
    assert (trial.outcome, trial.why.partition(":")[0]) == ("failed", "y")
    path = save(model, "caffe --step", trial, tmp_path / "found.py")
    command = path.read_text().splitlines()[1].removeprefix("#   python -m tests.on_demand.fuzz.streams ")
    monkeypatch.setattr(sys, "argv", ["streams", *command.split()])
    assert streams.main() == 1
    assert capsys.readouterr().out.startswith("failed y: off by ")


def test_whatever_a_model_raises_is_a_failure(caffe: Runner) -> None:
    trial = try_model(RandomModel("1 / 0", 1, 1, 0), "caffe", caffe)
    assert trial.outcome == "failed"
    assert trial.why.endswith("ZeroDivisionError: division by zero\n")


# Its second output cancels: float32 rounds away the digits of X. The net draws Y.
CANCELS = """\
from lstmc import *

T, N = dims("T N")

@model
def net(X=Input(T, N), Y=Input(T, N, fill=uniform(-1, 1))):
    return {"kept": tanh(X) + Y, "lost": (X + 100000 * Y) - 100000 * Y}
"""


def test_rounding_is_the_models_own(caffe: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    model = RandomModel(CANCELS, 2, 2, 0)
    assert try_model(model, "caffe", caffe).outcome == "rounding"
    right = CaffeBackend.passes
    monkeypatch.setattr(CaffeBackend, "passes", lambda self, target: (TwiceTanh(), *right(self, target)))
    trial = try_model(model, "caffe", caffe)
    assert trial.outcome == "failed"
    assert "name='kept'" in trial.why
    assert "name='lost'" not in trial.why


def test_reasons_have_no_names_of_their_own() -> None:
    assert generic("target flat: %scan0/t001/y cannot read y0, y1 of [2, 3]\nnote") == (
        "target flat: _ cannot read _ of [...]"
    )


def test_the_program_counts_and_says_its_seed(tmp_path: Path, caffe: Runner) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.on_demand.fuzz", "--minutes", "0", "--seed", "7", "-o", str(tmp_path / "out")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    first, counts, *_ = ended.stdout.splitlines()
    assert first == f"seed 7; failures go to {tmp_path}/out"
    assert " models tried, " in counts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_random_nets_of_pytorch_are_streamed_from_their_files(kind: str) -> None:
    became = [imported_streams.outcome(seed, kind) for seed in range(6)]
    assert [wrong for _, wrong in became if wrong] == []
    assert sum(outcome == "streamed" for outcome, _ in became) >= 3
