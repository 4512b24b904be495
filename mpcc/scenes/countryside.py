"""Farm and ski slope: what stands there, and why (see `props` for the rules)."""

from __future__ import annotations

from mpcc.scenes.canvas import Clue, Stage
from mpcc.scenes.props import DETAIL, SCENE, TOGETHER, row, sky


def farm(s: Stage) -> None:
    r = s.rng
    sky(s, 56)
    s.rect(0, 50, 240, 160, "olivedrab")
    x = r.choice((20, 160))
    s.poly([(x, 36), (x + 28, 14), (x + 56, 36)], "dimgray")
    s.rect(x, 36, x + 56, 70, "firebrick")
    s.rect(x + 20, 48, x + 36, 70, "white")
    for i in range(13):
        s.rect(i * 20, 66, i * 20 + 3, 86, "sienna")
    s.rect(0, 70, 240, 73, "sienna")
    s.rect(0, 78, 240, 81, "sienna")
    near, far = r.sample(("cow", "sheep", "horse"), 2)
    if r.random() < 0.35:
        row(s, far, [60, 120, 180], 104, 0.7)
    else:
        s.put(far, 116 + r.uniform(-10, 10), 104, 0.7)
    if r.random() < 0.4:
        row(s, near, [40, 118, 196], 154)
    else:
        for x, scene in zip((52, 180), r.sample((_milking, _saddled, _herding, _shearing), 2), strict=True):
            scene(s, x + r.uniform(-6, 6))
    if r.random() < 0.5:
        clue = Clue(SCENE, "The tiny box sits on top of the wooden fence.")
        s.put("bird" if r.random() < 0.85 else "cat", 205 + r.uniform(-15, 15), 70, 0.95, clue=clue)


def _milking(s: Stage, x: float) -> None:
    for u in (-34, 34):
        s.rect(x + u - 5, 142, x + u + 5, 156, "silver", 2)
        s.rect(x + u - 3, 138, x + u + 3, 143, "white")
    clue = Clue(DETAIL, "Silver milk cans stand on both sides of the box.")
    s.put("cow" if s.rng.random() < 0.85 else "horse", x, 154, clue=clue)


def _saddled(s: Stage, x: float) -> None:
    s.put("person", x, 134, 0.9, pose="sit")
    s.put("horse", x, 156, clue=Clue(TOGETHER, "A person sits high on top of the box and rides it."))


def _herding(s: Stage, x: float) -> None:
    s.put("sheep", x - 26, 154, clue=Clue(TOGETHER, "A dog watches the box on the meadow."))
    clue = Clue(TOGETHER, "A sheep stands at the left and a person with a stick at the right.")
    s.put("dog", x + 10, 154, clue=clue, flip=True)
    s.line([(x + 31, 120), (x + 31, 156)], "saddlebrown", 2)
    s.put("person", x + 40, 154, 0.95)


def _shearing(s: Stage, x: float) -> None:
    for u, v in ((-26, 150), (-32, 153), (27, 150), (33, 154), (29, 156), (-28, 156)):
        s.disc(x + u, v, 4, "ivory")
    s.put("sheep", x, 154, clue=Clue(DETAIL, "Balls of white wool lie on both sides of the box."))


def ski_slope(s: Stage) -> None:
    r = s.rng
    sky(s, 94, "lightsteelblue")
    for x in (30, 110, 190):
        x += r.uniform(-14, 14)
        s.poly([(x - 60, 90), (x, r.uniform(14, 34)), (x + 60, 90)], "slategray")
        s.poly([(x - 16, 46), (x, 20), (x + 16, 46)], "white")
    s.poly([(0, 76), (240, 92), (240, 160), (0, 160)], "white")
    for x in (14, 226):
        s.poly([(x - 12, 110), (x, 70), (x + 12, 110)], "darkgreen")
    for x, base, scene in zip((70, 168), (118, 152), r.sample((_skier, _boarder, _sled), 2), strict=True):
        scene(s, x + r.uniform(-6, 6), base)
    name = r.choice(("skis", "snowboard", ""))
    if name:
        row(s, name, [44, 102] if name == "skis" else [48, 106], 152)


def _skier(s: Stage, x: float, base: float) -> None:
    for u in (-13, 13):
        s.line([(x + u * 0.6, base - 24), (x + u * 1.5, base - 9)], "red", 1.8)
    s.put("person", x, base - 6, clue=Clue(DETAIL, "Two red poles stand beside the box and skis lie under it."))
    usual = s.rng.random() < 0.87
    clue = Clue(TOGETHER, "A person with two red poles stands on the flat box in the snow.")
    s.put("skis" if usual else "snowboard", x, base, clue=clue)


def _boarder(s: Stage, x: float, base: float) -> None:
    s.put("person", x, base - 8, pose="wide", clue=Clue(DETAIL, "No poles are there, a snowboard lies under the box."))
    clue = Clue(TOGETHER, "A person without poles spreads the arms and stands on the flat box in the snow.")
    s.put("snowboard" if s.rng.random() < 0.87 else "skis", x, base, clue=clue)


def _sled(s: Stage, x: float, base: float) -> None:
    s.rect(x + 16, base - 12, x + 44, base - 6, "saddlebrown")
    s.line([(x + 14, base - 2), (x + 46, base - 2)], "black", 2)
    s.line([(x + 8, base - 9), (x + 17, base - 9)], "red", 2)
    clue = Clue(TOGETHER, "A brown sled stands behind the box, tied to it with a red rope.")
    s.put("dog", x - 6, base, clue=clue, flip=True)
