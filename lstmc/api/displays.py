"""How nets, runs and verifications look in a notebook: plain HTML, without scripts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from lstmc.backend import Layer
from lstmc.types import shape_text

ROWS = 60  # of a table; longer ones have their middle left out


def table_html(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a title; of a long one the first and the last rows, and how many are left out."""
    listed = [list(map(escape, row)) for row in rows]
    if len(listed) > ROWS:
        left_out = len(listed) - ROWS
        listed[ROWS // 2 : ROWS // 2 + left_out] = [[f"&hellip; {left_out} more", *[""] * (len(columns) - 1)]]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in listed)
    caption = escape(title).replace("\n", "<br>")
    return f"<div><b>{caption}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def layers_html(title: str, layers: Iterable[Layer]) -> str:
    """A net's layers, one a row."""
    rows = (
        (
            *(layer.name, layer.type, ", ".join(layer.bottoms), ", ".join(layer.tops)),
            ", ".join("?" if shape is None else shape_text(shape) for shape in layer.shapes),
        )
        for layer in layers
    )
    return table_html(title, ("layer", "type", "bottoms", "tops", "shapes"), rows)


def png_html(title: str, png: bytes | None) -> str:
    """A picture with a title, inside the page itself; the title alone where there is none."""
    picture = f'<img alt="loss curve" src="data:image/png;base64,{b64encode(png).decode()}">' if png else ""
    caption = escape(title).replace("\n", "<br>")
    return f"<div><b>{caption}</b><br>{picture}</div>"
