"""Drawing for the scenes: a pen in unit coordinates, and a stage that keeps the outline of every object put on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 224, 168
"""Size of every scene in pixels: 4:3 as most of COCO, and 8 x 6 image tokens of a Qwen2.5-VL without resizing."""

SCALE = 2
"""Scenes are drawn this many times larger and then reduced, which smooths their edges."""

OUTLINE = (45, 45, 45)
"""Colour of the line around all that stands in a scene: it sets the thing off from any backdrop."""

Box = tuple[float, float, float, float]
"""(x, y, w, h) in scene pixels."""


class Pen:
    """Draws inside the box (x, y, w, h), given in scene pixels; u and v run over the box from 0 to 1.

    `unit` is the size of a length of 1 in scene pixels: radii and line widths grow with what they are part of.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, box: Box, unit: float = 1.0, flip: bool = False) -> None:
        self.draw, self.unit, self.flip = draw, unit, flip
        self.x, self.y, self.w, self.h = box

    def point(self, u: float, v: float) -> tuple[float, float]:
        u = 1 - u if self.flip else u
        return (self.x + u * self.w) * SCALE, (self.y + v * self.h) * SCALE

    def corners(self, u0: float, v0: float, u1: float, v1: float) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = self.point(u0, v0), self.point(u1, v1)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def rect(self, u0: float, v0: float, u1: float, v1: float, fill: str, radius: float = 0) -> None:
        self.draw.rounded_rectangle(self.corners(u0, v0, u1, v1), radius * self.unit * SCALE, fill=fill)

    def oval(self, u0: float, v0: float, u1: float, v1: float, fill: str) -> None:
        self.draw.ellipse(self.corners(u0, v0, u1, v1), fill=fill)

    def arc(self, u0: float, v0: float, u1: float, v1: float, start: float, end: float, fill: str) -> None:
        width = max(1, round(2 * self.unit * SCALE))
        self.draw.arc(self.corners(u0, v0, u1, v1), start, end, fill=fill, width=width)

    def poly(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        self.draw.polygon([self.point(u, v) for u, v in points], fill=fill)

    def line(self, points: Sequence[tuple[float, float]], fill: str, width: float = 1.5) -> None:
        wide = max(1, round(width * self.unit * SCALE))
        self.draw.line([self.point(u, v) for u, v in points], fill=fill, width=wide, joint="curve")

    def disc(self, u: float, v: float, radius: float, fill: str) -> None:
        """A circle of `radius` units, so that it stays round in a box of any shape."""
        (x, y), r = self.point(u, v), radius * self.unit * SCALE
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


Icon = Callable[..., None]

ICONS: dict[str, tuple[Icon, int, int]] = {}
"""Category name → (drawing function, usual width, usual height in scene pixels)."""


def icon(name: str, width: int, height: int) -> Callable[[Icon], Icon]:
    """Registers a drawing function `f(pen, rng)` for a category."""

    def register(function: Icon) -> Icon:
        ICONS[name] = (function, width, height)
        return function

    return register


class Stage(Pen):
    """The picture being drawn; as a pen its box is the whole picture, and u, v are scene pixels."""

    def __init__(self, rng: Random) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
        super().__init__(ImageDraw.Draw(self.image), (0, 0, 1, 1))
        self.rng = rng

    def put(self, draw: Callable[[Pen], None], box: Box, unit: float = 1.0, flip: bool = False
            ) -> tuple[Image.Image, tuple[int, int]]:
        """Draws something into `box` and a line around it; returns what it covers, as `outlined` takes it."""
        x, y, w, h = box
        corner = round((x - 2) * SCALE), round((y - 2) * SCALE)
        layer = Image.new("RGBA", (round((w + 4) * SCALE), round((h + 4) * SCALE)))
        draw(Pen(ImageDraw.Draw(layer), (2, 2, w, h), unit, flip))
        wider = layer.getchannel("A").filter(ImageFilter.MaxFilter(3))
        self.image.paste(OUTLINE, corner, wider)
        self.image.paste(layer, corner, layer)
        return wider, corner

    def finish(self) -> Image.Image:
        return self.image.reduce(SCALE)


def overlap(one: Box, two: Box) -> float:
    """Area in common, in square pixels."""
    wide = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    high = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    return max(wide, 0) * max(high, 0)


def outlined(alpha: Image.Image, corner: tuple[int, int]) -> tuple[Box, tuple[float, ...]]:
    """Box and outline [x0, y0, x1, y1, …] of what was put on a stage: left edges down, then right edges up."""
    alpha = alpha.point(lambda value: 255 * (value > 127))
    left, top, right, bottom = alpha.getbbox()
    left_side, right_side = [], []
    rows = sorted({top + round(i * (bottom - 1 - top) / 11) for i in range(12)})
    for row in rows:
        span = alpha.crop((0, row, alpha.width, row + 1)).getbbox()
        if span:
            y = row if row < rows[-1] else row + 1
            left_side.append((span[0], y))
            right_side.append((span[2], y))
    points = [((x + corner[0]) / SCALE, (y + corner[1]) / SCALE) for x, y in left_side + right_side[::-1]]
    box = ((left + corner[0]) / SCALE, (top + corner[1]) / SCALE, (right - left) / SCALE, (bottom - top) / SCALE)
    return box, tuple(c for point in points for c in point)
