"""What our HTML reports are made of: one file that needs nothing else, tables, pictures within the page."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image as Picture

from detectors.images import Image, encode_jpeg

SIDE_PX = 240

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#1a1f26;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}
td,th{padding:.25em .9em .25em 0;text-align:left;border-bottom:1px solid #e3e6ea}td.n{text-align:right;font-variant-numeric:tabular-nums}
.row{display:flex;flex-wrap:wrap;gap:1.2em}.row figure{margin:0;width:490px}.row img{width:240px;border-radius:4px}
figcaption{font-size:.85em;color:#4a5563}svg{background:#f7f8fa;border-radius:6px}text{font:12px system-ui,sans-serif;fill:#4a5563}
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A page of the parts, which are HTML already; the title is not."""
    body = "\n".join((f"<h1>{escape(title)}</h1>", *parts))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words and numbers: all columns but the first are set as numbers.

    >>> table(("kind", "images"), [("a<b", "3")])
    '<table><tr><th>kind</th><th>images</th></tr><tr><td>a&lt;b</td><td class="n">3</td></tr></table>'
    """
    lines = ["<tr>" + "".join(f"<th>{escape(each)}</th>" for each in head) + "</tr>"]
    for first, *rest in rows:
        lines.append(
            f"<tr><td>{escape(first)}</td>" + "".join(f'<td class="n">{escape(each)}</td>' for each in rest) + "</tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def figure(pictures: Sequence[tuple[Image, str]], caption: str) -> str:
    """Pictures (each with words for those who do not see it) side by side over a caption."""
    shown = "".join(
        f'<img src="data:image/jpeg;base64,{_jpeg(image)}" alt="{escape(words)}">' for image, words in pictures
    )
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def row(figures: Sequence[str]) -> str:
    """Figures beside each other, as many as the page is wide."""
    return f'<div class="row">{"".join(figures)}</div>'


def _jpeg(image: Image) -> str:
    picture = Picture.fromarray(image)
    picture.thumbnail((SIDE_PX * 2, SIDE_PX * 2))
    return base64.b64encode(encode_jpeg(np.asarray(picture))).decode()
