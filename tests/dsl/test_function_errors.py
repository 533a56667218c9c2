"""What the functions of the language refuse: the caret is under the argument that is wrong."""

from __future__ import annotations

import pytest

from tests.dsl.conftest import UserFile, lines

ARRAY = "a NumPy array (write const(it), or declare it as an Input or a Param)"
X, V, W = (
    "x is X: input [T, N, D], declared at user.py:6",
    "V: input [N, 4], declared at user.py:6",
    "W: parameter [4, D], declared at user.py:6",
)


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        # operands
        ("z = tanh(«3»)", "DslError: tanh takes Values, found int 3", ()),
        (
            "z = tanh(«Input(N, 3)»)",
            "DslError: tanh takes Values, found Input(...), which is a Value as an argument alone: write"
            " def f(x=Input(...))",
            (),
        ),
        ("z = tanh(«x=None»)", "DslError: tanh takes Values, found None", ()),
        ("z = softmax(«[X]»)", "DslError: softmax takes Values, found list [<Value %X: f32[3,2,5]>]", ()),
        ("z = tanh(«np.eye(2)»)", f"DslError: tanh takes Values, found {ARRAY}", ()),
        (
            "z = gelu(X, «approximate='none'»)",
            "DslError: gelu: approximate must be True or False, found str 'none'",
            (),
        ),
        ("z = linear(X, «'W'»)", "DslError: linear takes Values, found str 'W'", ()),
        ("z = linear(X, «W='W'»)", "DslError: linear takes Values, found str 'W'", ()),
        ("z = linear(X, W, «0»)", "DslError: linear takes Values, found int 0", ()),
        ("z = concat(X, «0»)", "DslError: concat takes Values, found int 0", ()),
        ("z = «concat([X, 0])»", "DslError: concat takes Values, found int 0", ()),
        ("z = «concat()»", "DslError: concat takes one Value or more, found none", ()),
        (
            "z = split(X, «2.0»)",
            "DslError: split takes a number of equal parts or a list of sizes, found float 2.0",
            (),
        ),
        (
            "z = split(X, «parts=D»)",
            "DslError: split takes a number of equal parts or a list of sizes, found dimension D (for its number write"
            " x.shape[axis])",
            (),
        ),
        ("z = split(X, «True»)", "DslError: split takes a number of equal parts or a list of sizes, found True", ()),
        ("z = «split(X, [2.0, 3])»", "DslError: a size must be an integer or a dimension, found float 2.0", ()),
        ("z = one_hot(X, «0»)", "ShapeError: one_hot: size must be at least 1, found 0", ()),
        ("z = «reshape(X, '30')»", "DslError: a size must be an integer or a dimension, found str '30'", ()),
        (
            "z = «reshape(X, K, -1)»",
            "DimError: dimension K has no size in model 'net', which has T, N, D: give it a size with K=SIZE",
            (),
        ),
        ("z = «reshape(X, 8//(D - 5))»", "DimError: 8//(D - 5) divides by zero (D is 5, given as D=5)", ()),
        ("z = elu(X, «'a'»)", "DslError: elu: alpha must be a number, found str 'a'", ()),
        ("z = elu(X, «alpha=X»)", "DslError: elu: alpha must be a number, found a Value", ()),
        ("z = «elu(X, math.inf)»", "DslError: a scalar must be a finite float32 number, found inf", ()),
        ("z = power(X, «X»)", "DslError: power: exponent must be a number, found a Value", ()),
        (
            "z = «maximum(X, -math.inf)»",
            "DslError: a scalar must be a finite float32 number, found -inf: -1e30 stands for it, whose exp is 0",
            (),
        ),
        ("z = «power(X, math.nan)»", "DslError: a scalar must be a finite float32 number, found nan", ()),
        ("z = abs(«[X]»)", "DslError: abs takes Values, found list [<Value %X: f32[3,2,5]>]", ()),
        ("z = «sum(X, 0, axis=1)»", "DslError: sum takes one axis, found two", ()),
        (
            "z = sum([X, X], «axis=0»)",
            "DslError: sum of several things takes no axis, found int 0: add them, then sum along an axis",
            (),
        ),
        (
            "z = X * max(np.ones((2, 5)), «axis=0»)",
            "DslError: max of arguments without a Value takes no axis, found int 0: of an array write np.max",
            (),
        ),
        (
            "z = X * min([2, 5], «keepdims=True»)",
            "DslError: min of arguments without a Value takes no keepdims, found True: of an array write np.min",
            (),
        ),
        # axes
        (
            "z = sum(X, «-4»)",
            "ShapeError: sum: axis must be an integer from -3 to 2, found -4: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = softmax(X, «axis=3»)",
            "ShapeError: softmax: axis must be an integer from -3 to 2, found 3: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = split(X, 1, «axis=-4»)",
            "ShapeError: split: axis must be an integer from -3 to 2, found -4: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = concat(X, X, «axis=1.0»)",
            "ShapeError: concat: axis must be an integer from -3 to 2, found 1.0: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = linear(X, W, «axis=True»)",
            "ShapeError: linear: axis must be an integer from -3 to 2, found True: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «linear(X, W, axis=1)»",
            "ShapeError: linear: the axes of x from 1 on have 10 elements, expected 5: x is f32[3,2,5], W is f32[4,5]",
            (X, f"W is {W}"),
        ),
        # shapes
        (
            "z = «linear(V, W)»",
            "ShapeError: linear: last axes differ: x is f32[2,4], w is f32[4,5]; w is [out, in]: w.T would fit",
            (f"x is {V}", f"w is {W}"),
        ),
        (
            "z = «linear(X, W, V)»",
            "ShapeError: linear: b must be [out]: b is f32[2,4], w is f32[4,5]",
            (X, f"w is {W}", f"b is {V}"),
        ),
        (
            "z = «linear(X, X)»",
            "ShapeError: linear: w must have 2 axes, [out, in]: w is f32[3,2,5]",
            (X, "w is X: input [T, N, D], declared at user.py:6"),
        ),
        (
            "a, b = «split(X, 2)»",
            "ShapeError: split: axis 2 has 5 elements, which do not make 2 equal parts: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «split(X, 0)»",
            "ShapeError: split: axis 2 has 5 elements, which do not make 0 equal parts: x is f32[3,2,5]",
            (X,),
        ),
        (
            "a, b = «split(X, [1, 2])»",
            "ShapeError: split: sizes must add up to axis 2: found (1, 2), x is f32[3,2,5]",
            (X,),
        ),
        (
            "a, b = «split(X, [6, -1])»",
            "ShapeError: split: sizes must add up to axis 2: found (6, -1), x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «concat(V, W)»",
            "ShapeError: concat: axes other than 1 must agree: found f32[2,4], f32[4,5]",
            (f"operand 1 is {V}", f"operand 2 is {W}"),
        ),
        (
            "z = «concat(V, reshape(V, 8))»",
            "ShapeError: concat: axes other than 1 must agree: found f32[2,4], f32[8]",
            (f"operand 1 is {V}", "operand 2 is reshape(V, 8): f32[8], made at user.py:7"),
        ),
        (
            "z = «reshape(V, 3, -1)»",
            "ShapeError: reshape: the 8 elements of x do not make [3, -1]: x is f32[2,4]; sizes are positive, and one"
            " may be -1 for what remains",
            (f"x is {V}",),
        ),
        (
            "z = «reshape(V, -1, -1)»",
            "ShapeError: reshape: the 8 elements of x do not make [-1, -1]: x is f32[2,4]; sizes are positive, and one"
            " may be -1 for what remains",
            (f"x is {V}",),
        ),
        (
            "z = «reshape(V)»",
            "ShapeError: reshape: the 8 elements of x do not make []: x is f32[2,4]; sizes are positive, and one"
            " may be -1 for what remains",
            (f"x is {V}",),
        ),
        ("z = «reshape(V, 9)»", "ShapeError: reshape: cannot make f32[9] of x, which is f32[2,4]", (f"x is {V}",)),
    ],
)
def test_what_a_function_refuses(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    code = f"@model\ndef net(X=Input(T, N, D), V=Input(N, 4), W=Param(4, D)):\n    {statement}\n    return X\n"
    assert user.refused(code) == lines(
        message,
        f"  user.py:7:{start + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )
