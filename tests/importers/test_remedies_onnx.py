"""Remedies of refused ONNX graphs are tried: the graph that each is for is refused, and the changed one comes in."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx.parser
import pytest

from lstmc.importers import RefusedError, from_onnx
from lstmc.importers.frontends.onnx_values import CHECK, GIVE
from lstmc.importers.refusal import PIN
from tests.importers.remedies import remedies

pytestmark = pytest.mark.slow
SCALE = "use such a scale"  # of code that all frontends share
REPEAT = "mode = 'nearest', coordinate_transformation_mode = 'asymmetric', nearest_mode = 'floor'"
LOOP = (
    "n = Constant <value_int = 3> () c = Constant <value = bool {1}> () most = Constant <value_float = 9.0> ()"
    " y = Loop <body = body (int64 i, bool c_in, float[2, 4, 6] s) => (bool c_out, float[2, 4, 6] t) { %s }> (n, c, x)"
)
SCAN = (
    "n = Constant <value = int64 {0}> () s = Constant <value = float[4, 6] {#24}> () t, y = Scan <num_scan_inputs = 1,"
    " body = b (float[4, 6] h, float[4, 6] q) => (float[4, 6] g, float[4, 6] o) { g = Add (h, q) %s }> (s, x)"
)


def numbers(name: str, *values: float, kind: str = "ints") -> str:
    return f"{name} = Constant <value_{kind} = {[*map(float if kind == 'floats' else int, values)]}> () "


def tensor(name: str, *shape: int, kind: str = "float") -> str:
    values = ", ".join(["1"] * int(np.prod(shape)))
    return f"{name} = Constant <value = {kind}[{', '.join(map(str, shape))}] {{{values}}}> () "


def rnn(settings: str) -> str:
    return tensor("w", 1, 3, 6) + tensor("r", 1, 3, 3) + f"y = RNN <hidden_size = 3{settings}> (a, w, r)"


# By remedy: the nodes that are refused, and those that are written instead. They compute y of x [2, 4, 6],
# a [4, 2, 6], v [1, 2, 6, 6], and integers k [2]; or other arguments of from_onnx for the same nodes.
TRIED: dict[str, tuple[str, Any]] = {
    "export the model for use": (
        "s = Constant <value_floats = [1.0, 1.0]> () y, m, n = BatchNormalization <training_mode = 1> (v, s, s, s, s)",
        "s = Constant <value_floats = [1.0, 1.0]> () y = BatchNormalization (v, s, s, s, s)",
    ),
    "export the model without it": (
        tensor("s", 6) + "y, m = LayerNormalization (x, s)", tensor("s", 6) + "y = LayerNormalization (x, s)"
    ),
    "fold it in the source": (
        numbers("s", 100_000, 100_000) + "b = ConstantOfShape (s) d = ReduceSum (b) y = Add (x, d)",
        tensor("d", 1) + "y = Add (x, d)",
    ),
    "give all scales": (
        numbers("s", 1, 2, 6, 12) + "y = Resize <keep_aspect_ratio_policy = 'not_larger', mode = 'nearest',"
        " coordinate_transformation_mode = 'asymmetric', nearest_mode = 'floor'> (v, , , s)",
        numbers("s", 1, 1, 1, 2, kind="floats") + "y = Resize <mode = 'nearest',"
        " coordinate_transformation_mode = 'asymmetric', nearest_mode = 'floor'> (v, , s)",
    ),
    "give both": (
        rnn(", activations = ['Affine']"),
        rnn(", activations = ['Affine'], activation_alpha = [1.0], activation_beta = [0.5]"),
    ),
    "give its values": ("w = Abs (v) y = Conv (v, w)", tensor("w", 1, 2, 6, 6) + "y = Conv (v, w)"),
    "give pads instead": (
        tensor("w", 2, 1, 2, 2) + "y = ConvTranspose <output_shape = [12, 12], strides = [2, 2]> (v, w)",
        tensor("w", 2, 1, 2, 2) + "y = ConvTranspose <pads = [0, 0, 0, 0], strides = [2, 2]> (v, w)",
    ),
    "give shapes and values of the inputs that it depends on": (
        "z = Constant <value_ints = [1]> () o = Gather (k, z) c = Cast <to = 9> (o)"
        " y = If <then_branch = a () => (q) { q = Abs (x) }, else_branch = b () => (q) { q = Neg (x) }> (c)",
        {"values": {"k": np.array([0, 1])}},
    ),
    "import it before it was quantized": (
        "b = Cast <to = 2> (x) z = Constant <value = uint8 {3}> ()" + tensor("w", 6, 2, kind="uint8")
        + "y = MatMulInteger (b, w, z)", tensor("w", 6, 2) + "y = MatMul (x, w)",
    ),
    "pool without": (
        "y = MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (v)", "y = MaxPool <kernel_shape = [2, 2]> (v)"
    ),
    "give back the scores": (numbers("n", 7) + "y, i = TopK (x, n)", "y = Identity (x)"),
    "write whole rows": (
        numbers("o", 0) + numbers("m", 3) + numbers("n", 2) + "j = ArgMax <axis = 1> (x) i = Slice (j, o, m, n)"
        " u = Cast <to = 1> (i) y = ScatterElements <axis = 1> (x, i, u)",
        "i = ArgMax <axis = 1> (x) u = Cast <to = 1> (i) y = ScatterElements <axis = 1> (x, i, u)",
    ),
    "transform the two parts by DFT": (
        numbers("n", 2) + "p = Constant <value_int = 2> () l = Constant <value_int = 4> ()"
        " q = Slice (a, o, n, m) y = STFT (q, p, , l)".replace("q = Slice (a, o, n, m)", numbers("o", 0)
        + numbers("m", 2) + "q = Slice (a, o, n, m)"),
        numbers("n", 2) + numbers("o", 0) + numbers("m", 2) + "q = Slice (a, o, n, m) y = DFT <axis = 1> (q)",
    ),
    "transpose before it": (
        "y = com.microsoft.FusedMatMul <transBatchA = 1> (x, a)",
        "b = Transpose <perm = [1, 0, 2]> (x) d = Transpose <perm = [0, 2, 1]> (a)"
        " y = com.microsoft.FusedMatMul (b, d)",
    ),
    "transpose the operand": (
        numbers("n", 1, 2) + "b = Transpose <perm = [0, 2, 1]> (x)"
        " y = ReverseSequence <time_axis = 2, batch_axis = 0> (b, n)",
        numbers("n", 1, 2) + "y = ReverseSequence <time_axis = 1, batch_axis = 0> (x, n)",
    ),
    "use Conv1d or 2d": (
        tensor("w", 1, 1, 1, 2, 2) + numbers("n", 1) + "b = Unsqueeze (v, n) y = Conv (b, w)",
        tensor("w", 1, 2, 2, 2) + "y = Conv (v, w)",
    ),
    "use MatMul and Add": (
        "z = Constant <value_ints = [0]> () b = Gather (x, z) n = Constant <value_ints = [4, 6]> () d = Reshape (b, n)"
        + tensor("w", 6, 3) + tensor("e", 4, 1) + "y = Gemm (d, w, e)",
        tensor("w", 6, 3) + tensor("e", 4, 1) + "b = MatMul (x, w) y = Add (b, e)",
    ),
    "use a mask": (
        "c = Cast <to = 9> (k) y = Compress <axis = 0> (x, c)",
        "c = Cast <to = 1> (k) n = Constant <value_ints = [2, 1, 1]> () d = Reshape (c, n) y = Mul (x, d)",
    ),
    "use all of it": (
        "n = Constant <value_ints = [-1]> () b = Unsqueeze (x, n) d = DFT <axis = 1> (b)"
        " y = DFT <axis = 1, inverse = 1, onesided = 1> (d)",
        "n = Constant <value_ints = [-1]> () b = Unsqueeze (x, n) d = DFT <axis = 1> (b)"
        " y = DFT <axis = 1, inverse = 1> (d)",
    ),
    "use asymmetric, floor": (
        numbers("s", 1, 1, 2, 2, kind="floats")
        + "y = Resize <mode = 'nearest', coordinate_transformation_mode = 'align_corners'> (v, , s)",
        numbers("s", 1, 1, 2, 2, kind="floats")
        + f"y = Resize <{REPEAT}> (v, , s)",
    ),
    "use such a scale": (
        numbers("s", 1, 1, 1.5, 2, kind="floats")
        + f"y = Resize <{REPEAT}> (v, , s)",
        numbers("s", 1, 1, 2, 2, kind="floats")
        + f"y = Resize <{REPEAT}> (v, , s)",
    ),
    "use constant indices, or Gather and GatherElements along one axis": (
        "n = Constant <value_ints = [2, 1]> () i = Reshape (k, n) y = GatherND (x, i)",
        "y = Gather <axis = 0> (x, k)",
    ),
    "use nearest, or ConvTranspose": (
        numbers("s", 1, 1, 2, 2, kind="floats") + "y = Resize <mode = 'linear'> (v, , s)",
        tensor("w", 2, 1, 2, 2) + "y = ConvTranspose <strides = [2, 2]> (v, w)",
    ),
    "use one of them": (rnn(", direction = 'both'"), rnn(", direction = 'reverse'")),
    "use one of {', '.join(_FUNCTIONS)}": (
        rnn(", activations = ['ThresholdedRelu']"), rnn(", activations = ['Relu']")
    ),
    "use one of {', '.join(rows)}": (
        tensor("w", 1, 2, 2, 2) + "y = com.microsoft.FusedConv <activation = 'Bend'> (v, w)",
        tensor("w", 1, 2, 2, 2) + "y = com.microsoft.FusedConv <activation = 'Relu'> (v, w)",
    ),
    "write it as exp and log": ("y = Pow (x, x)", "b = Log (x) d = Mul (x, b) y = Exp (d)"),
    "write the model without it": ("y = Det (v)", "y = Identity (v)"),
    "write them in one direction": (
        "s = Constant <value = float[4, 6] {#24}> () t, y = Scan <num_scan_inputs = 1, scan_input_directions = [1],"
        " body = b (float[4, 6] h, float[4, 6] q) => (g, o) { g = Add (h, q) o = Identity (g) }> (s, x)",
        "s = Constant <value = float[4, 6] {#24}> () t, y = Scan <num_scan_inputs = 1, scan_input_directions = [1],"
        " scan_output_directions = [1],"
        " body = b (float[4, 6] h, float[4, 6] q) => (g, o) { g = Add (h, q) o = Identity (g) }> (s, x)",
    ),
    "combine them before": (
        "i = Constant <value = int64[2, 1] {1, 1}> () y = ScatterND <reduction = 'max'> (x, i, x)",
        "i = Constant <value = int64[2, 1] {1, 0}> () y = ScatterND <reduction = 'max'> (x, i, x)",
    ),
    "export it with a fixed number of iterations, and a mask for those behind the end": (
        LOOP % "d = Add (s, x) t = Identity (d) m = ReduceMax <keepdims = 0> (t) c_out = Less (m, most)",
        LOOP % "d = Add (s, x) m = ReduceMax <keepdims = 0> (s)"
        " g = Less (m, most) t = Where (g, d, s) c_out = Identity (c)",
    ),
    "write it without": (
        SCAN % "z = Constant <value = float[6] {#6}> () e, o = Scan <num_scan_inputs = 1, body = inner"
        " (float[6] u, float[6] r) => (float[6] p, float[6] l) { p = Add (u, r) l = Identity (p) }> (z, g)",
        SCAN % "o = CumSum (g, n)",
    ),
    "use fewer, or a product": (
        "f = Constant <value_ints = [-1]> () b = Reshape (v, f) n = Constant <value = int64[5000, 1] {#5000}> ()"
        " y = GatherND (b, n)",
        "f = Constant <value_ints = [-1]> () b = Reshape (v, f) n = Constant <value = int64[50, 1] {#50}> ()"
        " y = GatherND (b, n)",
    ),
}  # fmt: skip


def model(nodes: str) -> Any:
    """Return the model of these nodes. ``#24`` stands for 24 zeros."""
    nodes = re.sub(r"#(\d+)", lambda found: ", ".join(["0"] * int(found[1])), nodes)
    head = '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> g'
    inputs = "float[2, 4, 6] x, float[4, 2, 6] a, float[1, 2, 6, 6] v, int64[2] k"
    return onnx.parser.parse_model(f"{head} ({inputs}) => (float[n] y) {{ {nodes} }}".replace("'", '"'))


FUNCTION = '<ir_version: 8, opset_import: ["" : 18, "own" : 1]> g (float[2] x) => (float[2] y) { y = own.Bend (x) }'
OPEN = """<ir_version: 8, opset_import: ["" : 18]> g (float[n, 4] x) => (float[m] y) {
    s = Shape (x) d = Cast <to = 1> (s) e = Exp (d) i = Cast <to = 7> (e)
    c = ConstantOfShape (i) r = ReduceSum (x) y = Mul (c, r) }"""
ELSEWHERE = {PIN, "export the model without it, or with it as a function of the model"}
UNTRIED = {
    CHECK: "a damaged graph",
    "check the model": "a damaged graph",
}


def refused(nodes: Any) -> list[str]:
    with pytest.raises(RefusedError) as raised:
        from_onnx(nodes)
    return [one.mend for one in raised.value.refusals]


def test_every_remedy_is_known() -> None:
    known = {*TRIED, *UNTRIED} | ELSEWHERE
    assert remedies("frontends/onnx_", "read/onnx_", "frontends/scattering") == known - {SCALE}


@pytest.mark.parametrize("remedy", TRIED)
def test_a_remedy_helps(remedy: str) -> None:
    nodes, changed = TRIED[remedy]
    (said,) = refused(model(nodes))
    assert said.startswith(remedy.partition("{")[0])
    from_onnx(model(nodes), **changed) if isinstance(changed, dict) else from_onnx(model(changed))


def test_sizes_that_the_inputs_have_are_given() -> None:
    resized = model(
        "e = Constant <value_ints = [1, 2]> () s = Concat <axis = 0> (e, k) y = Resize <mode = 'nearest',"
        " coordinate_transformation_mode = 'asymmetric', nearest_mode = 'floor'> (v, , , s)"
    )
    assert refused(resized) == [GIVE]
    from_onnx(resized, values={"k": np.array([12, 12])})
    parsed = onnx.parser.parse_model(OPEN)
    assert refused(parsed)[0] == 'fix the sizes by shapes={"x": (N, 4)}, with numbers for N'
    from_onnx(parsed, shapes={"x": (1, 4)})


def test_an_operator_of_others_may_be_a_function_of_the_model() -> None:
    (said,) = refused(onnx.parser.parse_model(FUNCTION))
    assert said in ELSEWHERE
    own = '<domain: "own", opset_import: ["" : 18]> Bend (x) => (y) { y = Abs (x) }'
    from_onnx(onnx.parser.parse_model(f"{FUNCTION} {own}"))
    from_onnx(onnx.parser.parse_model(FUNCTION.replace("own.Bend", "Abs")))
