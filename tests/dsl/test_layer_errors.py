"""What layers and losses refuse: the caret is under the argument that is wrong."""

from __future__ import annotations

import pytest

from tests.dsl.conftest import UserFile, lines

X = "x is X: input [T, N, D], declared at user.py:6"
IMAGES = "x is I: input [T, N, 3, 4, 4], declared at user.py:6"


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        ("z = embed(«3», W)", "DslError: embed takes Values, found int 3", ()),
        (
            "z = «embed(L, I)»",
            "ShapeError: embed: w must have 2 axes, [rows, size]: w is f32[3,2,3,4,4]",
            ("x is L: input [T, N], declared at user.py:6", "w is I: input [T, N, 3, 4, 4], declared at user.py:6"),
        ),
        ("z = conv(I, F, «b=1»)", "DslError: conv takes Values, found int 1", ()),
        (
            "z = conv(I, F, «stride=0»)",
            "DslError: conv: stride must be one or two integers of 1 or more, found int 0",
            (),
        ),
        (
            "z = conv(I, F, «pad=(1, 2, 3)»)",
            "DslError: conv: pad must be one or two integers of 0 or more, found tuple (1, 2, 3)",
            (),
        ),
        (
            "z = conv(I, F, «dilation=1.5»)",
            "DslError: conv: dilation must be one or two integers of 1 or more, found float 1.5",
            (),
        ),
        ("z = conv(I, F, «group=0»)", "DslError: conv: group must be an integer of 1 or more, found int 0", ()),
        (
            "z = «conv(I, F, group=3)»",
            "ShapeError: conv: channels do not fit: x is f32[3,2,3,4,4], w is f32[2,3,3,3], [out, C / group, kh, kw],"
            " group is 3",
            (IMAGES, "w is F: parameter [2, 3, 3, 3], declared at user.py:6"),
        ),
        (
            "z = max_pool(I, «'2'»)",
            "DslError: max_pool: size must be one or two integers of 1 or more, found str '2'",
            (),
        ),
        (
            "z = ave_pool(I, «size=D»)",
            "DslError: ave_pool: size must be one or two integers of 1 or more, found dimension D (for its number"
            " write x.shape[axis])",
            (),
        ),
        (
            "z = «ave_pool(I, 2, pad=2)»",
            "ShapeError: ave_pool: pad must be less than size, found pad (2, 2) and size (2, 2)",
            (IMAGES,),
        ),
        (
            "z = «max_pool(I, 1, stride=4)»",
            "ShapeError: max_pool: the last window would be empty, with size (1, 1) and stride (4, 4): x is"
            " f32[3,2,3,4,4]",
            (IMAGES,),
        ),
        (
            "z = «last_valid(X, L)»",
            "ShapeError: last_valid takes y [T, N, ...] and lengths [N]: y is f32[3,2,5], lengths is f32[3,2]",
            ("y is X: input [T, N, D], declared at user.py:6", "lengths is L: input [T, N], declared at user.py:6"),
        ),
        ("z = last_valid(X, «lengths=2»)", "DslError: lengths of last_valid must be a Value, found int 2", ()),
        ("z = dropout(X, «'half'»)", "DslError: dropout: ratio must be a number, found str 'half'", ()),
        (
            "z = dropout(X, «ratio=1»)",
            "DslError: dropout: ratio must be from 0 up to, not including, 1, found 1",
            (),
        ),
        (
            "z = mean(X, «axis=3»)",
            "ShapeError: mean: axis must be an integer from -3 to 2, found 3: x is f32[3,2,5]",
            (X,),
        ),
        (
            "z = «softmax_loss(X, X)»",
            "ShapeError: softmax_loss: label must have the axes of x without axis 2: expected f32[3,2], found"
            " f32[3,2,5]",
            (X, "label is X: input [T, N, D], declared at user.py:6"),
        ),
        (
            "z = softmax_loss(X, L, «normalization='mean'»)",
            "DslError: softmax_loss: normalization must be one of valid, full, batch_size, none, found str 'mean'",
            (),
        ),
        (
            "z = softmax_loss(X, L, «ignore_label=0.5»)",
            "DslError: softmax_loss: ignore_label must be an integer, found float 0.5",
            (),
        ),
        ("z = accuracy(X, «None»)", "DslError: accuracy takes Values, found None", ()),
        ("z = accuracy(X, L, «top_k='all'»)", "DslError: accuracy: top_k must be an integer, found str 'all'", ()),
        (
            "z = «accuracy(X, L, top_k=6)»",
            "ShapeError: accuracy: top_k must be from 1 to 5, found 6: x is f32[3,2,5]",
            (X, "label is L: input [T, N], declared at user.py:6"),
        ),
        (
            "z = «euclidean_loss(X, L)»",
            "ShapeError: euclidean_loss: x and target must have one shape: x is f32[3,2,5], target is f32[3,2]",
            (X, "target is L: input [T, N], declared at user.py:6"),
        ),
        (
            "z = sigmoid_cross_entropy_loss(X, X, «normalization=1»)",
            "DslError: sigmoid_cross_entropy_loss: normalization must be one of valid, full, batch_size, none, found"
            " int 1",
            (),
        ),
    ],
)
def test_what_a_layer_refuses(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    statement = marked.replace("«", "").replace("»", "")
    head = "X=Input(T, N, D), L=Input(T, N), I=Input(T, N, 3, 4, 4), F=Param(2, 3, 3, 3), W=Param(4, 2)"
    code = f"@model\ndef net({head}):\n    {statement}\n    return X\n"
    assert user.refused(code) == lines(
        message,
        f"  user.py:7:{start + 5} in model 'net'",
        f"    {statement}",
        f"    {' ' * start}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
    )
