"""The ten kinds of scene: a backdrop, and what may stand at its back and at its front.

At each of the two there are at least five objects to choose from, so that neither the kind of scene nor the place in
the picture names what is hidden there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mpcc.scenes.canvas import HEIGHT, WIDTH, Stage


@dataclass(frozen=True)
class Place:
    """A kind of scene: draws its backdrop; the categories that stand at its `back` and at its `front`."""

    backdrop: Callable[[Stage], None]
    back: tuple[str, ...]
    front: tuple[str, ...]
    outdoors: bool

    @property
    def here(self) -> frozenset[str]:
        return frozenset(self.back + self.front)


def _ground(s: Stage, horizon: float, above: str, below: str) -> None:
    s.rect(0, 0, WIDTH, horizon, above)
    s.rect(0, horizon, WIDTH, HEIGHT, below)


def _clouds(s: Stage) -> None:
    for _ in range(2):
        x, y = s.rng.uniform(5, 180), s.rng.uniform(2, 10)
        s.oval(x, y, x + 32, y + 7, "aliceblue")


def _street(s: Stage) -> None:
    _ground(s, 62, "lightskyblue", "silver")
    for i in range(6):
        top = s.rng.uniform(4, 26)
        s.rect(i * 38, top, i * 38 + 36, 62, s.rng.choice(("rosybrown", "tan", "lightslategray", "darkkhaki")))
        for v in range(int(top) + 5, 52, 14):
            for u in (8, 22):
                s.rect(i * 38 + u, v, i * 38 + u + 6, v + 6, "lightyellow")
    s.rect(0, 92, WIDTH, HEIGHT, "darkgray")
    for x in range(4, WIDTH, 40):
        s.rect(x, 125, x + 18, 127, "whitesmoke")


def _beach(s: Stage) -> None:
    _ground(s, 40, "lightskyblue", "khaki")
    _clouds(s)
    s.rect(0, 40, WIDTH, 90, "cornflowerblue")
    for _ in range(9):
        x, y = s.rng.uniform(0, 205), s.rng.uniform(44, 86)
        s.line([(x, y), (x + 12, y)], "lightsteelblue", 1.5)


def _park(s: Stage) -> None:
    _ground(s, 48, "lightskyblue", "yellowgreen")
    _clouds(s)
    for x in (14, 66, 116, 168, 214):
        x += s.rng.uniform(-10, 10)
        s.rect(x - 3, 34, x + 3, 54, "saddlebrown")
        s.oval(x - 19, 10, x + 19, 42, s.rng.choice(("forestgreen", "green", "seagreen")))
    s.poly([(0, 96), (WIDTH, 90), (WIDTH, 108), (0, 114)], "burlywood")


def _farm(s: Stage) -> None:
    _ground(s, 44, "lightskyblue", "yellowgreen")
    _clouds(s)
    x = s.rng.choice((6, 84, 160))
    s.poly([(x, 28), (x + 28, 8), (x + 56, 28)], "dimgray")
    s.rect(x, 28, x + 56, 56, "firebrick")
    s.rect(x + 20, 36, x + 36, 56, "mistyrose")
    for i in range(12):
        s.rect(i * 20, 84, i * 20 + 3, 100, "sienna")
    s.rect(0, 87, WIDTH, 90, "sienna")
    s.rect(0, 94, WIDTH, 97, "sienna")


def _ski_slope(s: Stage) -> None:
    _ground(s, 60, "lightsteelblue", "white")
    for x in (24, 104, 182):
        x += s.rng.uniform(-14, 14)
        s.poly([(x - 58, 62), (x, s.rng.uniform(4, 20)), (x + 58, 62)], "slategray")
    s.poly([(0, 54), (WIDTH, 64), (WIDTH, HEIGHT), (0, HEIGHT)], "white")
    for x in (8, 112, 216):
        x += s.rng.uniform(-6, 6)
        s.poly([(x - 10, 96), (x, 64), (x + 10, 96)], "darkgreen")


def _kitchen(s: Stage) -> None:
    _ground(s, 92, "cornsilk", "lightsalmon")
    for i in range(0, WIDTH, 16):
        s.line([(i, 0), (i, 92)], "wheat", 1)
    for i in range(0, 92, 16):
        s.line([(0, i), (WIDTH, i)], "wheat", 1)
    s.rect(0, 74, WIDTH, 78, "saddlebrown")
    s.rect(0, 156, WIDTH, HEIGHT, "rosybrown")
    for x in (50, 112, 174):
        s.line([(x + s.rng.uniform(-8, 8), 94), (x, 156)], "sienna", 1)


def _dining_table(s: Stage) -> None:
    _ground(s, 44, "thistle", "thistle")
    s.poly([(10, 44), (214, 44), (WIDTH, HEIGHT), (0, HEIGHT)], "burlywood")
    colour = s.rng.choice(("paleturquoise", "lightpink", "palegreen"))
    s.poly([(14, 88), (210, 88), (216, 98), (8, 98)], colour)
    for x in (s.rng.uniform(10, 80), s.rng.uniform(130, 190)):
        s.rect(x, 4, x + 26, 34, "white")
        s.rect(x + 3, 7, x + 23, 31, s.rng.choice(("lightskyblue", "palegreen")))


def _living_room(s: Stage) -> None:
    _ground(s, 92, "lightblue", "burlywood")
    x = s.rng.uniform(84, 110)
    s.rect(x, 6, x + 34, 40, "white")
    s.rect(x + 3, 9, x + 31, 37, "palegreen")
    s.rect(0, 74, WIDTH, 78, "sienna")
    for i in range(0, WIDTH, 28):
        s.line([(i, 92), (i - 12, HEIGHT)], "tan", 1)


def _bedroom(s: Stage) -> None:
    _ground(s, 92, "lavenderblush", "tan")
    for i in range(10, WIDTH, 24):
        s.line([(i, 0), (i, 92)], "pink", 1)
    s.rect(0, 74, WIDTH, 78, "peru")
    x = s.rng.choice((0, 200))
    s.rect(x, 0, x + 24, 70, s.rng.choice(("mediumpurple", "lightseagreen")))


def _desk(s: Stage) -> None:
    _ground(s, 56, "palegoldenrod", "peru")
    x = s.rng.uniform(88, 112)
    s.rect(x, 4, x + 34, 40, "white")
    for v in (12, 20, 28):
        s.line([(x + 5, v), (x + 29, v)], "gray", 1)
    s.rect(0, 160, WIDTH, HEIGHT, "saddlebrown")
    s.line([(0, 96), (WIDTH, 96)], "chocolate", 1)


PLACES: dict[str, Place] = {
    "street": Place(_street, ("person", "dog", "fire hydrant", "bench", "stop sign", "traffic light"),
                    ("car", "bus", "truck", "motorcycle", "bicycle"), outdoors=True),
    "beach": Place(_beach, ("boat", "surfboard", "bird", "kite", "person"),
                   ("umbrella", "sports ball", "dog", "frisbee", "surfboard", "person"), outdoors=True),
    "park": Place(_park, ("kite", "bird", "frisbee", "bench", "person"),
                  ("bicycle", "dog", "sports ball", "umbrella", "bench", "bird"), outdoors=True),
    "farm": Place(_farm, ("cow", "horse", "sheep", "bird", "dog"),
                  ("cow", "horse", "sheep", "dog", "cat", "truck"), outdoors=True),
    "ski slope": Place(_ski_slope, ("skis", "snowboard", "person", "dog", "bench"),
                       ("skis", "snowboard", "person", "dog", "bench"), outdoors=True),
    "kitchen": Place(_kitchen, ("microwave", "clock", "bottle", "cup", "wine glass", "bowl"),
                     ("oven", "sink", "refrigerator", "chair", "cat"), outdoors=False),
    "dining table": Place(_dining_table, ("cake", "pizza", "vase", "bottle", "wine glass", "bowl"),
                          ("fork", "knife", "spoon", "cup", "pizza", "bowl"), outdoors=False),
    "living room": Place(_living_room, ("tv", "clock", "vase", "book", "cup"),
                         ("couch", "chair", "cat", "dog", "remote", "teddy bear"), outdoors=False),
    "bedroom": Place(_bedroom, ("clock", "book", "vase", "teddy bear", "tv"),
                     ("bed", "chair", "cat", "dog", "teddy bear"), outdoors=False),
    "desk": Place(_desk, ("laptop", "tv", "book", "clock", "vase"),
                  ("keyboard", "mouse", "cup", "remote", "laptop", "book"), outdoors=False),
}
"""Kind of scene → backdrop and what stands there."""

_ROWS = Counter(name for place in PLACES.values() for row in (place.back, place.front) for name in row)

WEIGHTS = {name: rows ** -0.5 for name, rows in _ROWS.items()}
"""How often a category is taken where it may stand: less often, where it may stand in many places."""
