"""A file with damage: bytes that differ, and for text and JSON values that are something else."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**40, 0.5, -0.0, 1e300, float("nan"), float("inf")),
    *("", "x", "x" * 5000, "\x1b[31m", "\ud800", "../../evil", "/etc/passwd", "__import__('os').system('id')"),
    *([], {}, [[]], [1, 2, 3], [0], [-1], {"x": 1}, [[[[[[[[]]]]]]]], "[" * 20000),
)
TOKENS = ("", "-1", "99999999999", "1e999", '"', "{", "}", "[", "]", "\\", "\x00", "\x1b[2J", "true", "é", "nan", "'")


def mutant(content: bytes, seed: int) -> bytes:
    """``content`` with damage drawn by ``seed``: one kind of it in most, several in some."""
    draw = random.Random(seed)
    kinds: list[Callable[[bytes, random.Random], bytes]] = [_bits, _cut, _splice, _numbers, _tokens]
    if content[:1] in b"{[":
        kinds += [changed_values] * 5
    if content[:2] == b"PK":
        kinds += [_members] * 5
    if content[:1] == b"\x08":
        kinds += [changed_nodes] * 5
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        content = draw.choice(kinds)(content, draw)
    return content


def _bits(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] if draw.random() < 0.5 else content[:at] + content[at + draw.randrange(1, 64) :]


def _splice(content: bytes, draw: random.Random) -> bytes:
    start, to = (draw.randrange(len(content) + 1) for _ in range(2))
    piece = content[start : start + draw.randrange(1, 200)] * draw.choice((1, 1, 1, 100))
    return content[:to] + piece + content[to:]


def _numbers(content: bytes, draw: random.Random) -> bytes:
    """Four or eight bytes as a number that is large, small or negative, as in headers."""
    number = draw.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, -1, draw.randrange(2**32)))
    width = draw.choice((1, 2, 4, 8))
    at = draw.randrange(len(content) + 1)
    return content[:at] + (number % 2 ** (8 * width)).to_bytes(width, "little") + content[at + width :]


def _tokens(content: bytes, draw: random.Random) -> bytes:
    """A word or a number of a text as another one, or as something odd."""
    words = [found.span() for found in re.finditer(rb"[\w.+-]+|\"[^\"]*\"", content[:200_000])]
    if not words:
        return content
    start, end = draw.choice(words)
    other = draw.choice(words)
    new = content[slice(*other)] if draw.random() < 0.5 else draw.choice(TOKENS).encode()
    return content[:start] + new + content[end:]


def _members(content: bytes, draw: random.Random) -> bytes:
    """A member of a zip archive with damage, in an archive that is whole: no checksum tells."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return content
    packed = io.BytesIO()
    method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, member in members.items():
            if draw.random() < 0.6:
                # most of it in the header of an array
                start = draw.choice((16, 128, len(member)))
                member = draw.choice((_bits, _cut, _numbers, _tokens, _splice))(member[:start], draw) + member[start:]
            archive.writestr(draw.choice((name,) * 9 + ("notes.txt", "../evil.npy", "\x1b[31m.npy")), member)
    return packed.getvalue()


def changed_nodes(content: bytes, draw: random.Random) -> bytes:
    """An ONNX model of which one node has another attribute, operand or operator, or an initializer other elements."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # damaged before
        return content
    nodes, tensors = model.graph.node, model.graph.initializer
    if not nodes:
        return content
    node, other = draw.choice(nodes), draw.choice(nodes)
    value = draw.choice([-3, -1, 0, 1, 2, 2**31, 0.5, float("nan"), "x", "", [], [0], [1, 2, 3], [-1, 0], [0.5]])
    if tensors and draw.random() < 0.2:
        tensor, shape = draw.choice(tensors), [draw.choice((0, 1, 2, 3)) for _ in range(draw.randrange(5))]
        kind = draw.choice((np.float32, np.int64, np.bool_, np.int8))
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(shape, draw.randrange(-3, 4)).astype(kind), tensor.name))
    elif node.attribute and draw.random() < 0.5:
        place = draw.randrange(len(node.attribute))
        attribute = onnx.helper.make_attribute(node.attribute[place].name, value, attr_type=_attribute_type(value))
        del node.attribute[place]
        node.attribute.extend([attribute] * draw.randrange(2))
    elif node.input and draw.random() < 0.7:
        node.input[draw.randrange(len(node.input))] = draw.choice(["", *(node.input), *(t.name for t in tensors)])
        del node.input[draw.randrange(1, len(node.input) + 1) :]
    else:
        node.op_type = other.op_type
    result: bytes = model.SerializeToString()
    return result


def _attribute_type(value: Any) -> int | None:
    return onnx.AttributeProto.INTS if value == [] else None  # of an empty list the helper knows no type


def changed_values(content: bytes, draw: random.Random) -> bytes:
    """A value of a JSON text as something else, or a key that is gone or another."""
    lines = content.splitlines()
    try:
        made = json.loads(content)
    except (ValueError, RecursionError):
        try:  # lines of JSON
            number = draw.randrange(len(lines))
            lines[number] = changed_values(lines[number], draw) if b"\n" in content.strip() else lines[number]
        except ValueError:
            return content
        return b"\n".join(lines)
    places: list[tuple[Any, Any]] = []
    found = [made]
    while found:
        item = found.pop()
        children = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for key, value in children:
            places.append((item, key))
            found.append(value)
    if not places:
        return content
    item, key = draw.choice(places)
    action = draw.random()
    if action < 0.2:
        del item[key]
    elif action < 0.3 and isinstance(item, dict):
        item[draw.choice(("", "x", "\x1b[31m", "../evil", "x" * 5000))] = item.pop(key)
    elif action < 0.45:
        other, there = draw.choice(places)
        item[key] = json.loads(json.dumps(other[there])) if there in other or isinstance(other, list) else None
    else:
        item[key] = draw.choice(ODD)
    return json.dumps(made).encode()
