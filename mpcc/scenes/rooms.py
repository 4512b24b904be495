"""Living room, bedroom and desk: what stands there, and why (see `props` for the rules)."""

from __future__ import annotations

from mpcc.scenes.canvas import Clue, Stage
from mpcc.scenes.props import DETAIL, LOCAL, SCENE, TOGETHER, flowers, row, steam, wall, wall_clock


def living_room(s: Stage) -> None:
    r = s.rng
    wall(s, "lightblue", "burlywood", 104)
    s.rect(14, 16, 50, 52, "white")
    s.rect(17, 19, 47, 49, "palegreen")
    turn = r.random() < 0.5
    seat, screen = (62, 186) if turn else (178, 52)
    s.oval(seat - 54, 122, seat + 54, 152, "crimson")
    s.line([(seat + (52 if turn else -52), 122), (seat + (52 if turn else -52), 64)], "dimgray", 2)
    s.poly([(seat + (42 if turn else -42), 66), (seat + (62 if turn else -62), 66),
            (seat + (52 if turn else -52), 50)], "moccasin")
    clue = Clue(SCENE, "A red rug and a floor lamp are by the wide box, it faces the room.")
    s.put("couch" if r.random() < 0.87 else "bed", seat, 136, clue=clue)
    if r.random() < 0.5:
        _pet(s, seat)
    _cabinet(s, screen)
    if r.random() < 0.5:
        wall_clock(s, 120)
    elif r.random() < 0.6:
        s.rect(86, 62, 152, 65, "saddlebrown")
        row(s, "book", [98, 112, 126, 140], 62)
    if r.random() < 0.4:
        s.put("chair", 128, 138)


def _pet(s: Stage, x: float) -> None:
    s.disc(x - 22, 150, 5, "deeppink")
    s.line([(x - 18, 152), (x - 6, 156)], "deeppink", 1.5)
    clue = Clue(DETAIL, "A pink ball of yarn lies on the rug beside the box.")
    s.put("cat" if s.rng.random() < 0.85 else "dog", x + 8, 156, clue=clue)


def _cabinet(s: Stage, x: float) -> None:
    s.rect(x - 42, 96, x + 42, 122, "sienna")
    if s.rng.random() < 0.7:
        for u in (-36, 36):
            s.rect(x + u - 6, 72, x + u + 6, 96, "black")
            s.disc(x + u, 80, 3, "gray")
            s.disc(x + u, 89, 4, "gray")
        s.put("tv", x, 96, 0.95, clue=Clue(TOGETHER, "Black speakers stand left and right of the box on a cabinet."))
        s.rect(x - 26, 134, x + 26, 138, "saddlebrown")
        clue = Clue(TOGETHER, "A tv stands behind the small low table, and the narrow box lies on the table.")
        s.put("remote", x + s.rng.uniform(-14, 14), 134, 0.9, clue=clue)
    else:
        flowers(s, x - 20, 68)
        s.put("vase", x - 20, 96, clue=Clue(LOCAL, "Flowers with green stems stick out of the top of the box."))
        row(s, "book", [x + 6, x + 18, x + 30], 96)


def bedroom(s: Stage) -> None:
    r = s.rng
    wall(s, "lavenderblush", "tan", 112)
    turn = r.random() < 0.5
    x, stand = (72, 160) if turn else (168, 80)
    s.rect(x - 54, 52, x - 48, 140, "saddlebrown")
    s.rect(x + 48, 84, x + 54, 140, "saddlebrown")
    clue = Clue(SCENE, "A high headboard is left of the large box, a footboard right of it.")
    s.put("bed", x, 138, 0.95, clue=clue)
    first, second = r.sample((_toys, _sleeper, None), 2)
    for u, scene in zip((x - 4, x + 26), (first, second), strict=True):
        if scene:
            scene(s, u)
    s.rect(stand - 18, 108, stand + 22, 138, "peru")
    s.disc(stand + 2, 118, 2, "gold")
    r.choice((_night_lamp, _reading, _tea))(s, stand)
    if r.random() < 0.5:
        wall_clock(s, x + 10)
    far = 222 if turn else 18
    if r.random() < 0.5:
        s.rect(far - 10, 96, far + 10, 104, r.choice(("orchid", "lightgreen")))
        clue = Clue(DETAIL, "Folded clothes lie on top of the box near the wall.")
        s.put("chair", far, 148, 0.95, clue=clue)
    else:
        flowers(s, far, 114)
        s.put("vase", far, 142, clue=Clue(LOCAL, "Flowers with green stems stick out of the top of the box."))


def _toys(s: Stage, x: float) -> None:
    for u, v, colour in ((-22, 108, "red"), (-22, 99, "yellow"), (-31, 108, "blue")):
        s.rect(x + u, v, x + u + 9, v + 9, colour)
    clue = Clue(DETAIL, "Toy blocks in red, yellow and blue lie beside the box on the bed.")
    s.put("teddy bear", x + 6, 118, 0.95, clue=clue)


def _sleeper(s: Stage, x: float) -> None:
    s.disc(x + 22, 115, 4.5, "deeppink")
    s.put("cat", x + 4, 120, 0.9, clue=Clue(DETAIL, "A pink ball of yarn lies on the bed beside the box."))


def _night_lamp(s: Stage, x: float) -> None:
    s.rect(x - 9, 90, x - 7, 108, "dimgray")
    s.poly([(x - 18, 90), (x + 2, 90), (x - 4, 74), (x - 12, 74)], "gold")
    clue = Clue(SCENE, "A lamp stands by the bed, and the round box is next to it on the night stand.")
    s.put("clock" if s.rng.random() < 0.85 else "cup", x + 12, 109, 0.85, clue=clue)


def _reading(s: Stage, x: float) -> None:
    for u in (-10, -2):
        s.arc(x + u - 4, 100, x + u + 4, 108, 0, 360, "black")
    s.put("book", x + 11, 109, clue=Clue(DETAIL, "Reading glasses lie beside the box on the night stand."))


def _tea(s: Stage, x: float) -> None:
    steam(s, x + 2, 88)
    s.oval(x - 13, 105, x + 17, 111, "white")
    clue = Clue(LOCAL, "Steam rises over the box and a white saucer is under it.")
    s.put("cup", x + 2, 108, clue=clue)


def desk(s: Stage) -> None:
    r = s.rng
    wall(s, "palegoldenrod", "palegoldenrod", 100)
    s.rect(150, 8, 186, 40, "white")
    for v in (14, 20, 26, 32):
        s.line([(154, v), (182, v)], "gray", 1)
    s.poly([(10, 96), (230, 96), (240, 150), (0, 150)], "chocolate")
    s.rect(0, 150, 240, 160, "sienna")
    x = 110 + r.uniform(-10, 10)
    monitor = r.random() < 0.6
    if monitor:
        clue = Clue(TOGETHER, "A keyboard lies in front of the large box on the desk.")
        s.put("tv", x, 108, 1.1, clue=clue)
        clue = Clue(TOGETHER, "A monitor stands behind the flat box and a mouse lies at its right.")
        s.put("keyboard", x, 132, clue=clue)
    else:
        s.line([(x + 26, 104), (x + 44, 92)], "black", 2)
        clue = Clue(TOGETHER, "A mouse lies at the right, but there is no keyboard in front of the box.")
        s.put("laptop", x, 130, 1.15, clue=clue)
    s.rect(x + 38, 116, x + 62, 138, "slateblue", 2)
    beside = "keyboard" if monitor else "laptop"
    clue = Clue(TOGETHER, f"The small box lies on a blue pad right of a {beside}.")
    s.put("mouse", x + 50, 135, clue=clue)
    for u, scene in zip((28, 212), r.sample((_coffee, _writing, _bouquet, _volumes), 2), strict=True):
        scene(s, u)
    if r.random() < 0.5:
        wall_clock(s, 60 + r.uniform(-20, 10))


def _coffee(s: Stage, x: float) -> None:
    steam(s, x, 102)
    s.oval(x - 14, 120, x + 16, 128, "white")
    clue = Clue(LOCAL, "Steam rises over the box and a white saucer is under it.")
    s.put("cup", x, 124, clue=clue)


def _writing(s: Stage, x: float) -> None:
    s.rect(x - 10, 128, x + 12, 146, "white")
    s.line([(x - 6, 140), (x + 8, 132)], "blue", 2)
    clue = Clue(DETAIL, "A sheet of paper with a blue pen lies below the narrow box.")
    s.put("book", x, 124, clue=clue)


def _bouquet(s: Stage, x: float) -> None:
    flowers(s, x, 92)
    s.put("vase", x, 120, clue=Clue(LOCAL, "Flowers with green stems stick out of the top of the box."))


def _volumes(s: Stage, x: float) -> None:
    row(s, "book", [x - 13, x, x + 13], 118)
