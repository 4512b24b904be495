"""Street, beach and park: what stands there, and why (see `props` for the rules)."""

from __future__ import annotations

from mpcc.scenes.canvas import Clue, Stage
from mpcc.scenes.props import DETAIL, LOCAL, SCENE, TOGETHER, ball_game, flock, kite_flyer, leash, rider, row, sky


def street(s: Stage) -> None:
    r = s.rng
    sky(s, 86)
    for i in range(6):
        top = r.uniform(8, 30)
        s.rect(i * 40, top, i * 40 + 38, 86, r.choice(("rosybrown", "tan", "lightslategray", "darkkhaki")))
        for v in range(int(top) + 6, 74, 14):
            for u in (8, 24):
                s.rect(i * 40 + u, v, i * 40 + u + 7, v + 7, "lightyellow")
    s.rect(0, 86, 240, 108, "silver")
    s.rect(0, 108, 240, 160, "dimgray")
    for x in range(4, 240, 40):
        s.rect(x, 131, x + 20, 133, "white")
    for x, scene in zip((46 + r.uniform(-6, 6), 190 + r.uniform(-6, 6)), r.sample(_SIDEWALK, 2), strict=True):
        scene(s, x)
    if r.random() < 0.3:
        row(s, "car", [38, 118, 198], 150)
    else:
        for x, scene in zip((62, 178), r.sample(_ROAD, 2), strict=True):
            scene(s, x + r.uniform(-6, 6))


def _crossing(s: Stage, x: float) -> None:
    stripes = s.rng.random() < 0.88
    signal = s.rng.random() < 0.5
    if stripes and signal:
        for i in range(4):
            s.rect(x - 20 + 11 * i, 108, x - 14 + 11 * i, 122, "white")
    elif stripes:
        s.rect(x - 24, 110, x + 24, 116, "white")
    s.rect(x - 1.5, 62, x + 1.5, 102, "dimgray")
    ground = "No mark is"
    if stripes:
        ground = "White stripes of a crossing lie" if signal else "A thick white stop line lies"
    clue = Clue(LOCAL, f"A pole stands below the box. {ground} on the road.")
    s.put("traffic light" if signal else "stop sign", x, 66, clue=clue)


def _hydrant(s: Stage, x: float) -> None:
    s.rect(x - 26, 106, x + 26, 110, "red")
    s.oval(x + 6, 100, x + 26, 105, "deepskyblue")
    clue = Clue(DETAIL, "The curb is painted red and a blue puddle lies beside the small box.")
    s.put("fire hydrant", x, 103, clue=clue)


def _walker(s: Stage, x: float) -> None:
    leash(s, x, 104)


def _bus_stop(s: Stage, x: float) -> None:
    left = x - 44 if x < 120 else x + 44
    s.rect(left - 1, 66, left + 1, 104, "navy")
    s.rect(left - 9, 60, left + 9, 74, "yellow")
    s.rect(left - 5, 64, left + 5, 70, "navy")
    clue = Clue(SCENE, "A yellow bus stop sign stands behind, and the box on the road is large.")
    s.put("bus" if s.rng.random() < 0.88 else "truck", x, 152, clue=clue)


def _delivery(s: Stage, x: float) -> None:
    left = x - 46 if x < 120 else x + 46
    for i, v in ((0, 96), (0, 84), (1, 96)):
        s.rect(left - 10 + 12 * i, v, left + 1 + 12 * i, v + 11, "peru")
        s.rect(left - 6 + 12 * i, v, left - 3 + 12 * i, v + 11, "wheat")
    clue = Clue(SCENE, "Brown parcels are stacked on the sidewalk, and the box on the road is large.")
    s.put("truck" if s.rng.random() < 0.88 else "bus", x, 152, clue=clue)


def _road_rider(s: Stage, x: float) -> None:
    rider(s, x, 148)


def _lone_car(s: Stage, x: float) -> None:
    s.put("car", x, 148)


_SIDEWALK = (_crossing, _crossing, _hydrant, _walker)
_ROAD = (_bus_stop, _delivery, _road_rider, _lone_car)


def beach(s: Stage) -> None:
    r = s.rng
    sky(s, 50, "skyblue")
    s.rect(0, 50, 240, 92, "royalblue")
    for _ in range(10):
        x, y = r.uniform(0, 220), r.uniform(56, 90)
        s.line([(x, y), (x + 12, y)], "cornflowerblue", 1.5)
    s.rect(0, 92, 240, 160, "khaki")
    x = r.choice((50, 185)) + r.uniform(-8, 8)
    r.choice((_sailing, _surfing))(s, x)
    if r.random() < 0.4:
        r.choice((_sailing, _surfing))(s, 235 - x)
    if r.random() < 0.6:
        (kite_flyer if r.random() < 0.6 else lambda s, x, b: flock(s, x - 26, 26))(s, 118 + r.uniform(-6, 6), 126)
    for x, scene in zip((46, 186), r.sample((_parasol, _beach_game, _board_in_sand, _beach_walk), 2), strict=True):
        scene(s, x + r.uniform(-6, 6))


def _sailing(s: Stage, x: float) -> None:
    s.poly([(x - 22, 78), (x + 22, 78), (x + 12, 88), (x - 12, 88)], "midnightblue")
    clue = Clue(LOCAL, "The box is on the water and a dark reflection lies below it.")
    s.put("boat", x, 77, clue=clue)


def _surfing(s: Stage, x: float) -> None:
    s.arc(x - 42, 66, x + 46, 98, 180, 360, "white")
    s.put("person", x, 78, 0.8, pose="wide", clue=Clue(TOGETHER, "A surfboard rides a white wave under the box."))
    s.put("surfboard", x, 85, clue=Clue(TOGETHER, "A person stands on the flat box in a white wave on the sea."))


def _parasol(s: Stage, x: float) -> None:
    s.rect(x - 28, 142, x + 28, 152, "tomato")
    s.rect(x - 1.5, 118, x + 1.5, 146, "white")
    s.put("umbrella", x, 124, clue=Clue(LOCAL, "A white pole holds up the box above a red towel on the sand."))


def _beach_game(s: Stage, x: float) -> None:
    ball_game(s, min(max(x, 50), 188), 154)


def _board_in_sand(s: Stage, x: float) -> None:
    row(s, "surfboard", [x - 30, x + 26], 146)


def _beach_walk(s: Stage, x: float) -> None:
    leash(s, x, 154, "bird")


def park(s: Stage) -> None:
    r = s.rng
    sky(s, 72)
    for x in (20, 75, 130, 185, 230):
        x += r.uniform(-10, 10)
        s.rect(x - 3, 48, x + 3, 78, "saddlebrown")
        s.oval(x - 20, 20, x + 20, 60, r.choice(("forestgreen", "green", "seagreen")))
    s.rect(0, 72, 240, 160, "yellowgreen")
    s.poly([(0, 132), (240, 122), (240, 160), (0, 160)], "burlywood")
    for x, scene in zip((50, 186), r.sample((_resting, _park_game, _park_walk, _crumbs), 2), strict=True):
        scene(s, x + r.uniform(-6, 6))
    extra = r.random()
    if extra < 0.4:
        kite_flyer(s, 118 + r.uniform(-6, 6), 112)
    elif extra < 0.6:
        flock(s, 90 + r.uniform(-10, 10), 20)
    rider(s, 120 + r.uniform(-40, 40), 156)


def _resting(s: Stage, x: float) -> None:
    for turn in (-1, 1):
        s.put("person", x + 12 * turn, 104, 0.8, pose="sit")
    s.put("bench", x, 118, clue=Clue(SCENE, "Two people sit side by side above the wide box on the grass."))


def _park_game(s: Stage, x: float) -> None:
    ball_game(s, min(max(x, 50), 188), 118)


def _park_walk(s: Stage, x: float) -> None:
    leash(s, x, 118)


def _crumbs(s: Stage, x: float) -> None:
    for _ in range(9):
        s.disc(x + s.rng.uniform(-24, 24), 117 + s.rng.uniform(-2, 3), 1.6, "white")
    clue = Clue(DETAIL, "White crumbs of bread are strewn around the small box on the grass.")
    s.put("bird", x, 113, 1.1, clue=clue)
