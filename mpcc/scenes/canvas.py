"""Drawing for the scenes: a pen in unit coordinates, and a stage that keeps the outline of everything put on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 240, 160
"""Size of every scene in pixels. It is resized to 168 x 112 for the tiny model: whole patches, same aspect."""

SCALE = 2
"""Scenes are drawn this many times larger and then reduced, which smooths their edges."""


class Pen:
    """Draws inside the box (x, y, w, h), given in scene pixels; u and v run over the box from 0 to 1."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, x: float, y: float, w: float, h: float, flip: bool = False
    ) -> None:
        self.draw, self.x, self.y, self.w, self.h, self.flip = draw, x, y, w, h, flip

    def point(self, u: float, v: float) -> tuple[float, float]:
        u = 1 - u if self.flip else u
        return (self.x + u * self.w) * SCALE, (self.y + v * self.h) * SCALE

    def corners(self, u0: float, v0: float, u1: float, v1: float) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = self.point(u0, v0), self.point(u1, v1)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def rect(self, u0: float, v0: float, u1: float, v1: float, fill: str, radius: float = 0) -> None:
        self.draw.rounded_rectangle(self.corners(u0, v0, u1, v1), radius * SCALE, fill=fill)

    def oval(self, u0: float, v0: float, u1: float, v1: float, fill: str) -> None:
        self.draw.ellipse(self.corners(u0, v0, u1, v1), fill=fill)

    def arc(self, u0: float, v0: float, u1: float, v1: float, start: float, end: float, fill: str) -> None:
        self.draw.arc(self.corners(u0, v0, u1, v1), start, end, fill=fill, width=2 * SCALE)

    def poly(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        self.draw.polygon([self.point(u, v) for u, v in points], fill=fill)

    def line(self, points: Sequence[tuple[float, float]], fill: str, width: float = 1.5) -> None:
        """`width` is in scene pixels."""
        self.draw.line([self.point(u, v) for u, v in points], fill=fill, width=round(width * SCALE), joint="curve")

    def disc(self, u: float, v: float, radius: float, fill: str) -> None:
        """A circle whose radius is in scene pixels, so that it stays round in a box of any shape."""
        x, y = self.point(u, v)
        self.draw.ellipse((x - radius * SCALE, y - radius * SCALE, x + radius * SCALE, y + radius * SCALE), fill=fill)


Icon = Callable[..., None]

ICONS: dict[str, tuple[Icon, int, int]] = {}
"""Category name → (drawing function, usual width, usual height in scene pixels)."""


def icon(name: str, width: int, height: int) -> Callable[[Icon], Icon]:
    """Registers a drawing function `f(pen, rng, **look)` for a category."""

    def register(function: Icon) -> Icon:
        ICONS[name] = (function, width, height)
        return function

    return register


@dataclass(frozen=True)
class Clue:
    """Why an object could be guessed if it were hidden: the kind of reason, and a sentence that names the evidence."""

    reason: str
    evidence: str


@dataclass(frozen=True)
class Item:
    """An object in a scene: box (x, y, w, h) and outline [x0, y0, x1, y1, …], both in scene pixels."""

    category: str
    box: tuple[float, float, float, float]
    outline: tuple[float, ...]
    clue: Clue | None

    @property
    def center(self) -> tuple[float, float]:
        x, y, w, h = self.box
        return x + w / 2, y + h / 2


class Stage(Pen):
    """The picture being drawn; as a pen its box is the whole picture, and u, v are scene pixels."""

    def __init__(self, rng: Random) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
        super().__init__(ImageDraw.Draw(self.image), 0, 0, 1, 1)
        self.rng = rng
        self.items: list[Item] = []

    def put(
        self, name: str, x: float, base: float, size: float = 1, clue: Clue | None = None, flip: bool = False,
        **look: object,
    ) -> Item:
        """Draws an object whose middle is at `x` and whose lower edge is at `base`, and remembers it."""
        function, w, h = ICONS[name]
        size *= self.rng.uniform(0.85, 1.15)
        w, h = w * size * self.rng.uniform(0.93, 1.07), h * size * self.rng.uniform(0.93, 1.07)
        left = min(max(x + self.rng.uniform(-2, 2) - w / 2, 1), WIDTH - 1 - w)
        top = min(max(base - h, 1), HEIGHT - 1 - h)
        layer = Image.new("RGBA", (round(w * SCALE) + 4, round(h * SCALE) + 4))
        function(Pen(ImageDraw.Draw(layer), 1, 1, w, h, flip), self.rng, **look)
        corner = round((left - 1) * SCALE), round((top - 1) * SCALE)
        self.image.paste(layer, corner, layer)
        item = _item(name, layer, corner, clue)
        self.items.append(item)
        return item

    def finish(self) -> Image.Image:
        return self.image.reduce(SCALE)


def _item(name: str, layer: Image.Image, corner: tuple[int, int], clue: Clue | None) -> Item:
    """Reads box and outline off the drawn layer: left edges downwards, then right edges upwards."""
    alpha = layer.getchannel("A").point(lambda value: 255 * (value > 127))
    _, top, _, bottom = alpha.getbbox()
    left_side, right_side = [], []
    rows = sorted({top + round(i * (bottom - 1 - top) / 11) for i in range(12)})
    for row in rows:
        span = alpha.crop((0, row, alpha.width, row + 1)).getbbox()
        if span:
            y = row if row < rows[-1] else row + 1
            left_side.append((span[0], y))
            right_side.append((span[2], y))
    points = [((x + corner[0]) / SCALE, (y + corner[1]) / SCALE) for x, y in left_side + right_side[::-1]]
    points = [(min(max(x, 0.0), WIDTH), min(max(y, 0.0), HEIGHT)) for x, y in points]
    box = alpha.getbbox()
    x0, y0 = max((box[0] + corner[0]) / SCALE, 0), max((box[1] + corner[1]) / SCALE, 0)
    x1, y1 = min((box[2] + corner[0]) / SCALE, WIDTH), min((box[3] + corner[1]) / SCALE, HEIGHT)
    return Item(name, (x0, y0, x1 - x0, y1 - y0), tuple(c for point in points for c in point), clue)
