"""What each op computes, as an equation in LaTeX, for the pages that are generated.

Operands and attributes have their own names. Where there is an axis, i stands for what is before it, k for the place on
it, and j for what is behind it. A layer that is one of the core's ops has that op's equation.
"""

from __future__ import annotations

from lstmc.ir import Scan
from lstmc.ops import (
    Abs,
    Accuracy,
    Add,
    Affine,
    Arg,
    AvePool,
    Concat,
    Conv,
    Cos,
    Dropout,
    Elu,
    Embed,
    EuclideanLoss,
    Exp,
    Full,
    Input,
    Largest,
    LeakyRelu,
    Linear,
    Log,
    Max,
    Maximum,
    MaxPool,
    Mul,
    Op,
    Param,
    Positive,
    Power,
    Precomputed,
    Relu,
    Reshape,
    Round,
    Sigmoid,
    SigmoidCrossEntropyLoss,
    Sin,
    Softmax,
    SoftmaxLoss,
    Softplus,
    Split,
    Stack,
    StopGradient,
    Sub,
    Sum,
    Tanh,
    Tile,
    Transpose,
    Unstack,
)
from lstmc_caffe.ops import (
    LSTM,
    RNN,
    Bias,
    DummyData,
    Eltwise,
    Feed,
    LRNLayer,
    LSTMUnit,
    PowerLayer,
    Reduction,
    RoundingPower,
    RoundingScale,
    Scale,
    ScaleBias,
    SplitLayer,
    TransposedInnerProduct,
)

ELSEWHERE = r"\text{elsewhere}"
OFFSET = r"o_p = \sum_{q<p}"
WINDOW = r"0 \le u < \mathrm{size}_1, \; 0 \le v < \mathrm{size}_2"
IN_WINDOW = r"x_{n,\; i\,\mathrm{stride}_1 + u - \mathrm{pad}_1,\; j\,\mathrm{stride}_2 + v - \mathrm{pad}_2}"
IN_KERNEL = (
    r"x_{n,\; c,\; i\,\mathrm{stride}_1 + u\,\mathrm{dilation}_1 - \mathrm{pad}_1,"
    r"\; j\,\mathrm{stride}_2 + v\,\mathrm{dilation}_2 - \mathrm{pad}_2}"
)


def _cases(first: str, when: str, second: str) -> str:
    return rf"\begin{{cases}} {first} & {when} \\ {second} & {ELSEWHERE} \end{{cases}}"


EQUATIONS: dict[type[Op], str] = {
    Input: r"y \in \mathbb{R}^{\mathrm{shape}}",
    Param: r"y \gets y - \mathrm{lr\_mult}\, \eta \left( \frac{\partial L}{\partial y}"
    r" + \mathrm{decay\_mult}\, \lambda\, y \right)",
    Arg: r"y = \begin{cases} X_t & \mathrm{x} \\ s_{t-1} & \mathrm{state}"
    r" \\ c & \mathrm{static}, \mathrm{weight} \end{cases}",
    Full: r"y_i = \mathrm{value}",
    Split: rf"y^{{(p)}}_{{i,\, k,\, j}} = x_{{i,\, o_p + k,\, j}} \qquad {OFFSET} \mathrm{{sizes}}_q",
    Concat: rf"y_{{i,\, o_p + k,\, j}} = xs^{{(p)}}_{{i,\, k,\, j}} \qquad {OFFSET} \left| xs^{{(q)}} \right|",
    Transpose: r"y_{i,\, b,\, a,\, j} = x_{i,\, a,\, b,\, j}",
    Sum: r"y_{i,\, j} = \sum_k x_{i,\, k,\, j}",
    Largest: "y = " + _cases("1", r"k = \min \, \mathrm{argmax}_l \, x_{i,\, l,\, j}", "0"),
    Max: r"y_{i,\, j} = \max_k \, x_{i,\, k,\, j}",
    Tile: r"y_{i,\, r K + k,\, j} = x_{i,\, k,\, j} \qquad 0 \le k < K, \; 0 \le r < \mathrm{tiles}",
    Softmax: r"y_{i,\, k,\, j} = \frac{e^{x_{i,\, k,\, j}}}{\sum_l e^{x_{i,\, l,\, j}}}",
    Linear: r"y_{i,\, o} = \sum_k w_{o,\, k}\, x_{i,\, k} + b_o",
    Sigmoid: r"y = \sigma(x) = \frac{1}{1 + e^{-x}}",
    Tanh: r"y = \tanh x = \frac{e^x - e^{-x}}{e^x + e^{-x}}",
    Positive: "y = " + _cases("1", "x > 0", "0"),
    Relu: r"y = \max(x, 0)",
    LeakyRelu: "y = " + _cases("x", "x > 0", r"\mathrm{slope}\, x"),
    StopGradient: r"y = x \qquad \frac{\partial y}{\partial x} := 0",
    Precomputed: "y = x",
    Round: r"y = \lfloor x \rceil",
    Softplus: r"y = \ln(1 + e^x)",
    Elu: "y = " + _cases("x", "x > 0", r"\mathrm{alpha}\, (e^x - 1)"),
    Abs: r"y = |x|",
    Exp: "y = e^x",
    Log: r"y = \ln x",
    Sin: r"y = \sin x",
    Cos: r"y = \cos x",
    Power: r"y = x^{\mathrm{exponent}}",
    Affine: r"y = \mathrm{scale}\, x + \mathrm{shift}",
    Reshape: r"\mathrm{vec}(y) = \mathrm{vec}(x) \qquad y \in \mathbb{R}^{\mathrm{shape}}",
    Unstack: r"y^{(t)}_i = x_{t,\, i}",
    Stack: r"y_{t,\, i} = xs^{(t)}_i",
    Add: "z = x + y",
    Sub: "z = x - y",
    Mul: r"z = x \odot y",
    Maximum: r"z = \max(x, y)",
    Dropout: r"y = x \qquad \text{in training} \quad y = \frac{m \odot x}{1 - \mathrm{ratio}},"
    r" \quad P(m_i = 0) = \mathrm{ratio}",
    Embed: r"y_{i,\, h} = w_{x_i,\, h}",
    Conv: rf"y_{{n,\, o,\, i,\, j}} = b_o + \sum_{{c,\, u,\, v}} w_{{o,\, c,\, u,\, v}}\, {IN_KERNEL}",
    MaxPool: rf"y_{{n,\, i,\, j}} = \max_{{u,\, v}} \, {IN_WINDOW} \qquad {WINDOW}",
    AvePool: rf"y_{{n,\, i,\, j}} = \frac{{1}}{{A_{{i,\, j}}}} \sum_{{u,\, v}} {IN_WINDOW} \qquad {WINDOW}",
    SoftmaxLoss: r"y = -\frac{1}{M} \sum_{i,\, j} \ln \mathrm{softmax}(x)_{i,\; \mathrm{label}_{i,\, j},\; j}",
    Accuracy: r"y = \frac{1}{M} \left| \left\{ (i, j) : \mathrm{label}_{i,\, j} \in"
    r" \mathrm{best}_{\mathrm{top\_k}} \left( x_{i,\, \cdot,\, j} \right) \right\} \right|",
    SigmoidCrossEntropyLoss: r"y = -\frac{1}{M} \sum_i \left( \mathrm{target}_i \ln \sigma(x_i)"
    r" + (1 - \mathrm{target}_i) \ln(1 - \sigma(x_i)) \right)",
    EuclideanLoss: r"y = \frac{1}{2 N} \sum_i \left( x_i - \mathrm{target}_i \right)^2",
    Scan: r"(y_t, s_t) = \mathrm{body}(x_t, s_{t-1}, c) \qquad \mathrm{args} = (x_1 \ldots x_T, s_0, c)",
    DummyData: r"y_i = \mathrm{value}",
    TransposedInnerProduct: r"y_{i,\, o} = \sum_k x_{i,\, k}\, w_{k,\, o} + b_o",
    Reduction: r"y_i = \sum_k x_{i,\, k}",
    RoundingPower: r"y = \mathrm{shift} + \lfloor x \rceil",
    LRNLayer: r"y = x \, (k + x^2)^{-\beta}",
    PowerLayer: r"y = (\mathrm{shift} + \mathrm{scale}\, x)^{\mathrm{power}}",
    Feed: r"y = x_{\mathrm{step}} \quad \text{or, without a step,} \quad y = x",
    Eltwise: r"y = \prod_p xs^{(p)} \quad \text{or} \quad \sum_p \mathrm{coeff}_p\, xs^{(p)}"
    r" \quad \text{or} \quad \max(xs^{(1)}, xs^{(2)})",
    Bias: r"z_{i,\, k,\, j} = x_{i,\, k,\, j} + y_k",
    Scale: r"z_{i,\, k,\, j} = x_{i,\, k,\, j}\, y_k",
    RoundingScale: r"z_{i,\, k,\, j} = \lfloor x_{i,\, k,\, j}\, y_k \rceil + b_k",
    ScaleBias: r"z_{i,\, k,\, j} = x_{i,\, k,\, j}\, y_k + b_k",
    LSTMUnit: r"\begin{array}{rcl} (i, f, o, g) &=& \mathrm{gates} \\"
    r" c &=& \mathrm{cont}\, \sigma(f) \odot \mathrm{c\_prev} + \sigma(i) \odot \tanh(g) \\"
    r" h &=& \sigma(o) \odot \tanh(c) \end{array}",
    LSTM: r"\begin{array}{rcl} (i, f, o, g) &=& \mathrm{w\_xc}\, x_t + \mathrm{b\_c} + \mathrm{w\_hc}\,"
    r" (\mathrm{cont}_t\, h_{t-1}) \\ c_t &=& \mathrm{cont}_t\, \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\"
    r" h_t &=& \sigma(o) \odot \tanh(c_t) \end{array}",
    RNN: r"\begin{array}{rcl} h_t &=& \tanh(\mathrm{w\_xh}\, x_t + \mathrm{b\_h} + \mathrm{w\_hh}\, (\mathrm{cont}_t\,"
    r" h_{t-1})) \\ o_t &=& \tanh(\mathrm{w\_ho}\, h_t + \mathrm{b\_o}) \end{array}",
    SplitLayer: "y^{(p)} = x",
}


AREA = r"$A_{i,\, j}$ is the number of places of the window $(i, j)$ in the padded image."


def equation(op: type[Op]) -> str:
    """The equation of an op, its own or that of the op which it is a form of. Raises KeyError where there is none."""
    known = next((base for base in op.__mro__ if base in EQUATIONS), op)
    return EQUATIONS[known]
