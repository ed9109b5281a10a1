"""Lines, areas and words on a page, as SVG (within our HTML reports or by itself) or as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image, ImageColor, ImageDraw, ImageFont

PNG_SCALE = 2
FONT_PX = 12
INK, PAPER = "#4a5563", "#f7f8fa"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: Points
    colour: str
    width: float = 1.0


@dataclass(frozen=True)
class Area:
    """A filled polygon; `words`: shown where the pointer rests on it."""

    points: Points
    colour: str
    opacity: float = 1.0
    words: str = ""

    @classmethod
    def box(cls, left: float, top: float, right: float, bottom: float, colour: str, words: str = "") -> "Area":
        """A rectangle."""
        return cls(((left, top), (right, top), (right, bottom), (left, bottom)), colour, words=words)


@dataclass(frozen=True)
class Words:
    """Text whose baseline begins (or, `right`, ends) at a point."""

    x: float
    y: float
    text: str
    right: bool = False


@dataclass(frozen=True)
class Drawing:
    """Shapes, later ones over earlier ones; `title`: for those who do not see it."""

    title: str
    width: int
    height: int
    shapes: Sequence[Line | Area | Words]


def svg(drawing: Drawing) -> str:
    """The drawing as an SVG element, which is a file by itself too.

    >>> svg(Drawing("a<b", 20, 10, [Words(1, 9, "hi")]))[-16:]
    '>hi</text></svg>'
    """
    size = f'width="{drawing.width}" height="{drawing.height}" viewBox="0 0 {drawing.width} {drawing.height}"'
    shapes = "".join(_element(each) for each in drawing.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(drawing.title)}">'
        f'<rect width="100%" height="100%" fill="{PAPER}"/>{shapes}</svg>'
    )


def png(drawing: Drawing) -> bytes:
    """The drawing as a PNG file, with `PNG_SCALE` pixels for each of SVG."""
    canvas = Image.new("RGB", (drawing.width * PNG_SCALE, drawing.height * PNG_SCALE), PAPER)
    pen = ImageDraw.Draw(canvas, "RGBA")
    font = ImageFont.load_default(FONT_PX * PNG_SCALE)
    for each in drawing.shapes:
        _draw(pen, each, font)
    file = io.BytesIO()
    canvas.save(file, "PNG", optimize=True)
    return file.getvalue()


def _element(shape: Line | Area | Words) -> str:
    if isinstance(shape, Words):
        end = ' text-anchor="end"' if shape.right else ""
        style = f'font-family="system-ui,sans-serif" font-size="{FONT_PX}" fill="{INK}"'
        return f'<text x="{shape.x:.1f}" y="{shape.y:.1f}"{end} {style}>{escape(shape.text)}</text>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    if isinstance(shape, Line):
        return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"/>'
    title = f"<title>{escape(shape.words)}</title>" if shape.words else ""
    faint = f' fill-opacity="{shape.opacity}"' if shape.opacity < 1 else ""
    return f'<polygon points="{points}" fill="{shape.colour}"{faint}>{title}</polygon>'


def _draw(
    pen: ImageDraw.ImageDraw, shape: Line | Area | Words, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> None:
    if isinstance(shape, Words):
        anchor = "rs" if shape.right else "ls"
        pen.text((shape.x * PNG_SCALE, shape.y * PNG_SCALE), shape.text, fill=INK, font=font, anchor=anchor)
        return
    points = [(x * PNG_SCALE, y * PNG_SCALE) for x, y in shape.points]
    if isinstance(shape, Line):
        pen.line(points, fill=shape.colour, width=max(1, round(shape.width * PNG_SCALE)))
        return
    pen.polygon(points, fill=(*ImageColor.getrgb(shape.colour)[:3], round(255 * shape.opacity)))
