"""What several scenes share: the kinds of reason, backdrops, and groups of things that belong together.

Every object that could be guessed carries a clue. What the clue names (a leash, a pole, a rider) is never part of the
object itself, so that it stays visible when the object is hidden.
"""

from __future__ import annotations

from mpcc.scenes.canvas import Clue, Stage

LOCAL, ROW = "local features", "object analogy"
TOGETHER, SAME_PLACE = "object relationship", "scene analogy"
DETAIL, SCENE = "contextual details", "scene understanding"


def sky(s: Stage, height: float, colour: str = "lightskyblue") -> None:
    s.rect(0, 0, 240, height, colour)
    for _ in range(2):
        x, y = s.rng.uniform(10, 200), s.rng.uniform(4, 18)
        s.oval(x, y, x + 30, y + 7, "aliceblue")


def wall(s: Stage, paper: str, floor: str, height: float) -> None:
    s.rect(0, 0, 240, height, paper)
    s.rect(0, height, 240, 160, floor)


def row(s: Stage, name: str, xs: list[float], base: float, size: float = 1) -> None:
    """Several of a kind side by side: any one of them follows from the others."""
    for i, x in enumerate(xs):
        where = ("left end", "middle", "right end")[0 if i == 0 else 2 if i == len(xs) - 1 else 1]
        s.put(name, x, base, size, Clue(ROW, f"A row of one {name} after another has a gap at its {where}."))


def leash(s: Stage, x: float, base: float, other: str = "cat") -> None:
    """A person with a dog on a leash; now and then the animal is another one."""
    turn = s.rng.choice((-1, 1))
    animal = "dog" if s.rng.random() < 0.85 else other
    led = Clue(TOGETHER, f"A red leash runs from the {animal} up to the box.")
    s.put("person", x, base, clue=led if s.rng.random() < 0.4 else None)
    s.line([(x + 9 * turn, base - 22), (x + 24 * turn, base - 14)], "red", 2)
    side = "left" if turn < 0 else "right"
    clue = Clue(TOGETHER, f"A person at its {'right' if turn < 0 else 'left'} holds a red leash that ends at the box.")
    s.put(animal, x + 36 * turn, base, clue=clue, flip=side == "left")


def kite_flyer(s: Stage, x: float, base: float) -> None:
    """A person whose string goes up to a kite."""
    turn = s.rng.choice((-1, 1))
    top, far = s.rng.uniform(36, 44), min(max(x + turn * s.rng.uniform(30, 50), 20), 220)
    s.line([(x, base - 30), (far, top - 4)], "white", 1.2)
    s.line([(far, top), (far - 4, top + 8), (far + 4, top + 14)], "deeppink", 2)
    s.put("kite", far, top, clue=Clue(LOCAL, "A string goes up to the box in the sky and a pink tail hangs below it."))
    held = Clue(TOGETHER, "The string of the kite comes down to the box.")
    s.put("person", x, base, pose="up", clue=held if s.rng.random() < 0.5 else None)


def rider(s: Stage, x: float, base: float) -> None:
    """A person on something with wheels: the helmet tells the motorcycle from the bicycle."""
    helmet = s.rng.random() < 0.5
    usual, other = ("motorcycle", "bicycle") if helmet else ("bicycle", "motorcycle")
    name = usual if s.rng.random() < 0.85 else other
    s.put("person", x - 3, base - 18, 0.8, pose="sit", helmet=helmet)
    worn = "with an orange helmet" if helmet else "without a helmet"
    s.put(name, x, base, clue=Clue(DETAIL, f"A person {worn} sits right above the box on the way."))


def ball_game(s: Stage, x: float, base: float) -> None:
    """Two people, arms up, and what flies between them; a goal net stands behind the ball."""
    net = s.rng.random() < 0.5
    if net:
        for i in range(7):
            s.line([(x - 24 + 8 * i, base - 44), (x - 24 + 8 * i, base - 8)], "white", 1)
            s.line([(x - 24, base - 44 + 6 * i), (x + 24, base - 44 + 6 * i)], "white", 1)
    for turn in (-1, 1):
        s.put("person", x + 38 * turn, base, pose="up")
    name, at = ("sports ball", base - 18) if net else ("frisbee", base - 30)
    sight = "before a white net" if net else "and there is no net"
    s.put(name, x, at, clue=Clue(DETAIL, f"Two people with raised arms play, the box is between them {sight}."))


def flock(s: Stage, x: float, y: float) -> None:
    row(s, "bird", [x, x + 26, x + 52], y)


def steam(s: Stage, x: float, y: float) -> None:
    for u in (-4, 3):
        s.line([(x + u, y), (x + u + 3, y - 5), (x + u, y - 10), (x + u + 3, y - 14)], "white", 1.5)


def flowers(s: Stage, x: float, y: float) -> None:
    for u, v, colour in ((-8, -10, "red"), (0, -15, "yellow"), (8, -9, "magenta")):
        s.line([(x, y + 2), (x + u, y + v)], "green", 1.5)
        s.disc(x + u, y + v, 4, colour)


def wall_clock(s: Stage, x: float) -> None:
    s.line([(x, 34), (x, 50)], "goldenrod", 2)
    s.disc(x, 51, 3.5, "gold")
    s.put("clock", x, 36, clue=Clue(LOCAL, "A golden pendulum hangs below the small box on the wall."))
