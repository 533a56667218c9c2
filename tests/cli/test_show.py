"""``lstmc show``, ``cells``, ``backends`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.backend import Finding, load_backend
from lstmc.ir import Graph, Stage, parse_graph, verify
from lstmc.pipeline import all_passes
from lstmc_caffe.legalize.fused import FusedScan
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS
from lstmc_caffe.runtime.runner import Runner
from tests.cli.conftest import LSTMC

SIZES = ("-D", "T=3", "-D", "N=2")


@pytest.mark.parametrize(
    ("wanted", "stage"),
    [
        ((), Stage.MODEL),
        (("--after", "simplify"), Stage.MODEL),
        (("--after", "4"), Stage.MODEL),
        (("--after", "legalize"), Stage.LEGAL),
        (("--stage", "legal"), Stage.LEGAL),
        (("--stage", "expanded"), Stage.EXPANDED),
    ],
)
def test_show_prints_a_graph_that_parses_and_is_legal(
    lstmc: LSTMC, model_file: Path, wanted: tuple[str, ...], stage: Stage
) -> None:
    ended = lstmc("show", str(model_file), *SIZES, *wanted)
    assert (ended.code, ended.err) == (0, "")
    graph = parse_graph(ended.out, CAFFE_OPS)
    verify(graph, stage, None if stage is Stage.MODEL else CAFFE_OPS)


def test_show_of_a_pass_that_does_not_exist(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("show", str(model_file), *SIZES, "--after", "hoover")
    assert ended.code == 2
    passes = ", ".join(all_passes(load_backend("caffe")).names)
    assert ended.err == f"PassError: there is no pass hoover: found {passes}\n"
    assert ended.out == ""


def test_python_of_a_model_is_a_model(lstmc: LSTMC, model_file: Path, tmp_path: Path) -> None:
    printed = lstmc("show", str(model_file), *SIZES, "--python")
    assert (printed.code, printed.err) == (0, "")
    again = tmp_path / "again.py"
    again.write_text(printed.out)
    graphs = [lstmc("show", str(file), *sizes).out for file, sizes in ((model_file, SIZES), (again, ()))]
    assert [line.split(" = ")[1:] for line in graphs[0].splitlines() if "scan(" not in line and "#" not in line] == [
        line.split(" = ")[1:] for line in graphs[1].splitlines() if "scan(" not in line and "#" not in line
    ]


@pytest.mark.parametrize("options", [("--step",), ("--stage", "legal"), ("--stage", "expanded")])
def test_python_of_what_only_passes_make_is_refused(lstmc: LSTMC, model_file: Path, options: tuple[str, ...]) -> None:
    ended = lstmc("show", str(model_file), *SIZES, "--python", *options)
    assert ended.code == 2
    assert "which only passes make: print the model as it was written" in ended.err
    assert ended.out == ""


CONDITIONED = """\
from lstmc import Input, Param, accuracy, dims, dropout, linear, model, softmax, softmax_loss

N = dims("N")


@model
def net(X=Input(N, 3), label=Input(N), W=Param(4, 3)):
    scores = linear(dropout(X, 0.5), W)
    return {"prob": softmax(scores), "loss": softmax_loss(scores, label)}
"""


def shown(lstmc: LSTMC, *more: str) -> Graph:
    ended = lstmc("show", "net.py", *more)
    assert (ended.code, ended.err) == (0, "")
    return parse_graph(ended.out, (*CAFFE_OPS, *HOST_OPS))


def test_show_of_one_run_of_a_pass_that_runs_several_times(lstmc: LSTMC, model_file: Path) -> None:
    first, last = (shown(lstmc, *SIZES, "--after", name) for name in ("dead:1", "dead"))
    assert first == shown(lstmc, *SIZES, "--after", "3")
    assert first != last
    ended = lstmc("show", "net.py", *SIZES, "--after", "dead:1", "--stage", "legal")
    assert ended.err == "PassError: pass dead:1 leaves a graph at stage model, not --stage legal\n"


def test_show_of_one_step_and_of_another_form(lstmc: LSTMC, model_file: Path) -> None:
    step = shown(lstmc, *SIZES, "--step", "--after", "expand")
    assert {output.name for output in step.outputs} == {"Y", "h_T", "step/h_out"}
    formed = shown(lstmc, *SIZES, "--form", "separate", "--after", "sink")
    assert "fuse_horizontal" not in lstmc("show", "--passes", "--form", "separate").out
    assert formed.outputs
    ended = lstmc("show", "net.py", *SIZES, "--form", "fast", "--after", "sink")
    assert ended.err.startswith("BackendError: --form fast: target caffe has no such form: found unit, packed")


def test_show_of_what_is_deployed_and_what_is_trained(lstmc: LSTMC) -> None:
    Path("net.py").write_text(CONDITIONED)

    def outputs(*more: str) -> list[str]:
        return [output.name for output in shown(lstmc, "-D", "N=2", *more).outputs]

    assert outputs() == ["prob", "loss"]
    assert outputs("--after", "legalize") == ["prob"]
    assert outputs("--after", "legalize", "--phase", "train") == ["loss"]
    assert outputs("--after", "expand", "--phase", "all") == ["prob", "loss"]
    assert outputs("--target", "flat", "--after", "expand") == ["prob"]


def test_passes_after_the_one_asked_for_are_not_run(lstmc: LSTMC) -> None:
    """flat refuses losses when it legalises: what goes before can be read all the same."""
    Path("net.py").write_text(CONDITIONED)
    assert shown(lstmc, "-D", "N=2", "--target", "flat", "--phase", "all", "--after", "peel").outputs
    ended = lstmc("show", "net.py", "-D", "N=2", "--target", "flat", "--phase", "all", "--stage", "legal")
    assert (ended.code, ended.out) == (2, "")


@pytest.mark.parametrize("wanted", [(), ("--after", "legalize")])
def test_show_explains_generated_layers(lstmc: LSTMC, wanted: tuple[str, ...]) -> None:
    sizes = ("-D", "T=4", "-D", "N=3", "-D", "D=2", "-D", "H=2")
    ended = lstmc("show", "--cell", "rnn", *sizes, "--target", "caffe-fused", *wanted)
    assert (ended.code, ended.err) == (0, "")
    ops = (*CAFFE_OPS, FusedScan)
    graph = parse_graph(ended.out, ops)  # the plan is a comment of its text
    verify(graph, Stage.LEGAL if wanted else Stage.MODEL, ops if wanted else None)
    explained = [line for line in ended.out.splitlines() if line.startswith("#")]
    assert explained[:3] == [
        "# layer rnn: N and T are what its bottoms have",
        "#   forward, each step: 1 product, 1 loop",
        "#   backward, each step: 1 product, 1 loop",
    ]
    assert "#     product d_rnn_W_h [2, 2] += d_h_3 [T * N, 2]^T h_prev_kept [T * N, 2]" in explained
    heads = ("#   buffers at T = 4, N = 3: ", "#   on a GPU at T = 4, N = 3, each step:", "#     H100 SXM: forward ")
    assert [sum(line.startswith(head) for line in explained) for head in heads] == [1, 1, 1]


def test_show_says_of_each_state_whether_it_is_linear(lstmc: LSTMC) -> None:
    sizes = ("-D", "T=4", "-D", "N=3", "-D", "D=2", "-D", "H=2")
    ended = lstmc("show", "--cell", "lstm", *sizes)
    assert [line for line in ended.out.splitlines() if line.startswith("#")] == [
        "# state h of %y: sequential: the step has the sigmoid of a value that reads h",
        "# state c of %y: sequential: c is multiplied by sigmoid_f, which reads h",
    ]
    ended = lstmc("show", "--cell", "min_gru", *sizes, "--after", "hoist")
    assert ended.out.splitlines()[-1] == "# state h of %y: linear: elementwise, factors differ from step to step"
    ended = lstmc("show", "--cell", "min_gru", *sizes, "--time", "chunks", "--after", "parallel_time")
    assert ended.code == 0
    assert "scan(" not in ended.out
    assert "#" not in "".join(line[0] for line in ended.out.splitlines())


def test_show_prints_what_a_pass_of_a_net_computes_and_moves(lstmc: LSTMC) -> None:
    sizes = [text for size in ("T=20", "N=1", "D=5", "H=8") for text in ("-D", size)]
    in_c = lstmc("show", "--cell", "gru", *sizes, "--costs", "--backend", "c").out.splitlines()
    assert in_c[0].split() == ["operation", "launches", "multiply-adds", "other", "operations", "bytes"]
    products = 3 * 8 * (5 + 8)
    moved = 4 * (products + (5 + 24 + 24) + (8 + 16) + (8 + 8))  # x, bias and result; of two gates; of the third
    assert in_c[1].split() == ["linear", "3", str(products), "0", f"{moved:,}"]
    for_opencv = lstmc("show", "--cell", "gru", *sizes, "--costs", "--target", "opencv").out.splitlines()
    assert for_opencv[0].split()[-1] == "microseconds"
    launches, in_all, *_, microseconds = (number.replace(",", "") for number in for_opencv[-1].split()[2:])
    assert int(in_all) == 20 * products - 3 * 8 * 8  # h begins as zeros
    assert 2 * int(launches) > float(microseconds) > 1.8 * int(launches)


def test_show_lists_the_passes_of_a_target(lstmc: LSTMC) -> None:
    ended = lstmc("show", "--passes", "--target", "flat")
    assert (ended.code, ended.err) == (0, "")
    names = all_passes(load_backend("caffe"), "flat").names
    assert [line.split() for line in ended.out.splitlines()] == [[str(i), name] for i, name in enumerate(names, 1)]


def test_backends_lists_the_targets(lstmc: LSTMC) -> None:
    ended = lstmc("targets")
    assert (ended.code, ended.err) == (0, "")
    assert ["caffe", "caffe", "training"] in [line.split()[:3] for line in ended.out.splitlines()]


@pytest.mark.caffe
def test_doctor_finds_caffe(lstmc: LSTMC, caffe: Runner) -> None:
    ended = lstmc("doctor")
    assert (ended.code, ended.err) == (0, "")
    assert "Caffe in use" in ended.out
    assert "GPU" in ended.out


def test_doctor_names_what_is_missing_and_exits_with_1(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTMC_CAFFE_PYTHON", "/no/such/python")
    ended = lstmc("doctor")
    assert ended.code == 1
    assert "missing" in ended.out
    assert "python -m lstmc_caffe.install" in ended.out


def test_doctor_prints_each_command_whole_on_a_narrow_terminal(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    long = Finding("Caffe", False, "not found, " + "which is long " * 8, "python -m lstmc_caffe.install --" + "x" * 90)
    grouped = [Finding(f"package{i}", True, "1.2.3", group="packages") for i in range(12)]
    absent = [Finding(name, False, f"install it: get {name}", group="runtimes") for name in ("a", "b")]
    monkeypatch.setattr("lstmc.api.installed.findings", lambda: iter([*grouped, long, *absent]))
    monkeypatch.setattr("lstmc.cli.listing.out.width", 80)
    ended = lstmc("doctor")
    lines = ended.out.splitlines()
    assert ended.code == 1
    assert f"         {long.fix}" in lines
    assert lines[0].startswith("ok       packages: package0 1.2.3, package1 1.2.3, ")
    assert all(len(line) < 80 and not line.endswith("package") for line in lines[:3])
    assert "no       runtimes: a, b" in lines
    verbose = lstmc("doctor", "-v").out.splitlines()
    assert "no       a: install it: get a" in verbose
    assert verbose[:12] == [f"ok       package{i}: 1.2.3" for i in range(12)]


def test_doctor_has_a_faulty_part_once_and_exits_with_1(lstmc: LSTMC, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        Finding("pass one", False, "pass one of a package (x:ONE): expected b, found c", faulty=True),
        Finding("few", False, "reader few of a package does not load", group="runtimes", faulty=True),
        Finding("many", True, "Many 4.5, an environment of many==4.5, others", group="runtimes", version="4.5"),
        Finding("bare", True, "Bare, an environment of bare", group="runtimes", version=""),
        Finding("none", False, "None is not installed: python -m pip install none", group="runtimes"),
    ]
    monkeypatch.setattr("lstmc.api.installed.findings", lambda: iter(parts))
    ended = lstmc("doctor")
    assert ended.code == 1
    assert ended.out.splitlines()[:-1] == [
        "faulty   pass one of a package (x:ONE): expected b, found c",
        "faulty   few: reader few of a package does not load",
        "ok       runtimes: many 4.5, bare",
        "no       runtimes: none",
    ]
    assert "ok       many: Many 4.5, an environment of many==4.5, others" in lstmc("doctor", "-v").out.splitlines()
    monkeypatch.setattr("lstmc.api.installed.findings", lambda: iter(parts[2:]))
    assert lstmc("doctor").code == 0  # a runtime is optional


def test_a_pipe_gets_lines_of_any_length_without_padding(lstmc: LSTMC, model_file: Path) -> None:
    folder = "a" * 200
    lines = lstmc("compile", str(model_file), "-D", "T=3", "-D", "N=2", "-o", folder).out.splitlines()
    assert [line for line in lines if line.startswith(f"{folder}/net.prototxt ")]
    assert not [line for line in lines if line != line.rstrip()]
