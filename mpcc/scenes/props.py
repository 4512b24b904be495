"""Props: small things that tell what stands beside them. Each may point to several objects; together they point to one.

A prop is never part of an object, so that it stays in sight when the object is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpcc.scenes.canvas import Pen

ABOVE, BELOW, LEFT, RIGHT = ("above",), ("below",), ("left of",), ("right of",)
BESIDE = LEFT + RIGHT

Shape = tuple[str, tuple]
"""Method of the pen and its arguments, in unit coordinates of the prop's box."""


@dataclass(frozen=True)
class Prop:
    """A kind of prop.

    Attributes:
        phrase: With its article: "a milk can".
        size: Width and height in scene pixels.
        sides: Where it may be, seen from the object: above, below, left of, right of.
        fits: Categories that it goes with, when it is there.
        shapes: Its picture.
    """

    phrase: str
    size: tuple[int, int]
    sides: tuple[str, ...]
    fits: frozenset[str]
    shapes: tuple[Shape, ...]

    def draw(self, pen: Pen) -> None:
        for method, arguments in self.shapes:
            getattr(pen, method)(*arguments)

    def seen(self, side: str) -> str:
        """The sentence that says where it is: "A milk can is left of the box."."""
        verb = "is" if self.phrase.split()[0] in ("a", "an", "one") or self.phrase in _SINGULAR else "are"
        return f"{self.phrase[0].upper()}{self.phrase[1:]} {verb} {side} the box."

    @property
    def name(self) -> str:
        """The phrase without its article."""
        return self.phrase.removeprefix("a ").removeprefix("an ")


_SINGULAR = {"clover", "white wool", "spilled grain", "gray smoke", "popcorn", "steam", "fruit", "spaghetti", "butter",
             "soup"}


def prop(phrase: str, size: tuple[int, int], sides: tuple[str, ...], fits: str, *shapes: Shape) -> Prop:
    return Prop(phrase, size, sides, frozenset(fits.split(", ")), shapes)


def rect(u0: float, v0: float, u1: float, v1: float, fill: str, radius: float = 0) -> Shape:
    return "rect", (u0, v0, u1, v1, fill, radius)


def oval(u0: float, v0: float, u1: float, v1: float, fill: str) -> Shape:
    return "oval", (u0, v0, u1, v1, fill)


def disc(u: float, v: float, radius: float, fill: str) -> Shape:
    return "disc", (u, v, radius, fill)


def line(fill: str, width: float, *points: tuple[float, float]) -> Shape:
    return "line", (points, fill, width)


def poly(fill: str, *points: tuple[float, float]) -> Shape:
    return "poly", (points, fill)
