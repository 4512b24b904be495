"""Kitchen and dining table: what stands there, and why (see `props` for the rules)."""

from __future__ import annotations

from mpcc.scenes.canvas import Clue, Stage
from mpcc.scenes.props import DETAIL, LOCAL, SAME_PLACE, SCENE, TOGETHER, flowers, row, steam, wall


def kitchen(s: Stage) -> None:
    r = s.rng
    wall(s, "cornsilk", "rosybrown", 146)
    for i in range(0, 240, 16):
        s.line([(i, 0), (i, 92)], "wheat", 1)
    for i in range(0, 92, 16):
        s.line([(0, i), (240, i)], "wheat", 1)
    s.rect(0, 90, 240, 97, "saddlebrown")
    s.rect(0, 97, 240, 146, "sandybrown")
    fridge = r.choice((26, 214))
    s.rect(fridge - 26, 44, fridge + 26, 150, "cornsilk")
    s.rect(fridge - 26, 24, fridge + 26, 42, "sandybrown")
    clue = Clue(SCENE, "A gap under the cabinet goes from the floor to above the counter, and the box fills it.")
    s.put("refrigerator", fridge, 148, clue=clue)
    near, far = (92, 172) if fridge < 120 else (68, 148)
    first, second = (near, far) if r.random() < 0.5 else (far, near)
    _stove(s, first)
    r.choice((_basin, _drawer))(s, second)
    r.choice((_shelf, _rack))(s, second)
    edge = 225 if fridge < 120 else 14
    middle = (near + far) / 2
    r.choice((_wine, _fruit, _board))(s, middle if r.random() < 0.8 else edge)


def _stove(s: Stage, x: float) -> None:
    s.rect(x - 22, 18, x + 22, 28, "gray")
    s.rect(x - 11, 4, x + 11, 18, "gray")
    s.rect(x - 12, 77, x + 12, 90, "darkslategray", 2)
    steam(s, x, 74)
    clue = Clue(SCENE, "A pot steams on the stove above the box, and a hood hangs over it.")
    s.put("oven", x, 145, clue=clue)


def _basin(s: Stage, x: float) -> None:
    s.line([(x - 6, 88), (x - 6, 72), (x + 6, 72), (x + 6, 78)], "dimgray", 3)
    s.disc(x + 6, 82, 1.5, "deepskyblue")
    s.put("sink", x, 106, clue=Clue(LOCAL, "A tap stands above the wide low box in the counter and water drips down."))


def _drawer(s: Stage, x: float) -> None:
    for v in (104, 118, 132):
        s.line([(x - 18, v), (x + 18, v)], "saddlebrown", 1)
        s.disc(x, v + 6, 1.5, "gold")


def _shelf(s: Stage, x: float) -> None:
    s.rect(x - 28, 52, x + 28, 55, "saddlebrown")
    s.line([(x + 22, 44), (x + 30, 44), (x + 30, 66)], "black", 2)
    s.rect(x + 27, 64, x + 33, 71, "white")
    clue = Clue(DETAIL, "A black cord runs from the box on the shelf to a socket in the wall.")
    s.put("microwave" if s.rng.random() < 0.87 else "tv", x, 52, 0.9, clue=clue)


def _rack(s: Stage, x: float) -> None:
    s.rect(x - 34, 34, x + 34, 37, "saddlebrown")
    row(s, s.rng.choice(("cup", "cup", "wine glass")), [x - 23, x, x + 23], 64)


def _wine(s: Stage, x: float) -> None:
    s.put("bottle", x - 7, 91, clue=Clue(TOGETHER, "A wine glass stands right beside the tall box."))
    s.put("wine glass", x + 10, 91, clue=Clue(TOGETHER, "A wine bottle stands right beside the box."))


def _fruit(s: Stage, x: float) -> None:
    for u, colour in ((-9, "orange"), (0, "red"), (9, "limegreen")):
        s.disc(x + u, 71 - (u == 0) * 3, 5.5, colour)
    s.put("bowl", x, 93, 0.9, clue=Clue(LOCAL, "Round fruit in three colors lies on top of the box."))


def _board(s: Stage, x: float) -> None:
    s.rect(x - 14, 50, x + 14, 91, "burlywood", 3)
    for v in (60, 70, 80):
        s.disc(x + 8, v, 3.2, "darkorange")
    s.put("knife", x - 5, 88, 0.9, clue=Clue(DETAIL, "Orange slices of carrot lie on a board beside the narrow box."))


def dining_table(s: Stage) -> None:
    r = s.rng
    wall(s, "thistle", "thistle", 60)
    party = r.random() < 0.4
    if party:
        for x, colour in ((20, "red"), (34, "blue"), (206, "gold"), (220, "green")):
            s.line([(x, 18), (x, 40)], "white", 1)
            s.oval(x - 6, 4, x + 6, 20, colour)
    row(s, "chair", [60, 120, 180], 68)
    s.poly([(18, 58), (222, 58), (240, 160), (0, 160)], "saddlebrown")
    spoons = r.random() < 0.5
    for x in (46, 190):
        _setting(s, x, spoons)
    _middle(s, party)


def _setting(s: Stage, x: float, spoons: bool) -> None:
    """Fork left and knife right of the plate, the spoon outside, the drink above."""
    x += s.rng.uniform(-3, 3)
    s.oval(x - 19, 112, x + 19, 150, "white")
    s.oval(x - 13, 118, x + 13, 144, "gainsboro")
    where = SAME_PLACE if s.rng.random() < 0.5 else TOGETHER
    right = "knife and the spoon lie" if spoons else "knife lies"
    s.put("fork", x - 27, 150, clue=Clue(where, f"The narrow box is left of a plate, the {right} on the right."))
    beyond = ", a spoon further right" if spoons else ", a fork on its left"
    s.put("knife", x + 26, 150, clue=Clue(where, f"The narrow box is just right of a plate{beyond}."))
    if spoons:
        s.put("spoon", x + 38, 150, clue=Clue(where, "The narrow box is the outer one on the right, next to a knife."))
    drink = "cup" if s.rng.random() < 0.5 else "wine glass"
    if drink == "cup":
        s.oval(x + 1, 104, x + 31, 111, "white")
        steam(s, x + 14, 88)
        clue = Clue(DETAIL, "Steam rises over the box and a white saucer is under it, above a plate.")
    else:
        s.rect(x + 6, 108, x + 26, 112, "darkred")
        clue = Clue(DETAIL, "A dark red coaster is under the box above a plate, no steam rises.")
    s.put(drink, x + 16, 108, clue=clue)


def _middle(s: Stage, party: bool) -> None:
    x, kind = 118 + s.rng.uniform(-4, 4), s.rng.choice(("pizza", "cake", "bowl", "vase", "bottle"))
    if kind == "cake" and not party or kind == "pizza" and party:
        kind = "cake" if party else "pizza"
    if kind == "pizza":
        s.poly([(x - 12, 140), (x + 12, 140), (x, 156)], "gold")
        s.disc(x, 144, 2.5, "firebrick")
        s.put("pizza", x, 128, clue=Clue(DETAIL, "A yellow slice with a red dot lies below the wide box on the table."))
    elif kind == "cake":
        s.put("cake", x, 128, clue=Clue(SCENE, "Balloons hang on the wall for a party, the box is mid table."))
    elif kind == "bowl":
        steam(s, x, 96)
        s.line([(x + 12, 110), (x + 26, 92)], "silver", 3)
        s.put("bowl", x, 128, clue=Clue(LOCAL, "Steam and the silver handle of a ladle come out of the box."))
    elif kind == "vase":
        flowers(s, x, 100)
        s.put("vase", x, 128, clue=Clue(LOCAL, "Flowers with green stems stick out of the top of the box."))
    else:
        s.rect(x + 16, 118, x + 24, 128, "tan", 2)
        clue = Clue(DETAIL, "A brown cork stands on the table beside the tall box.")
        s.put("bottle" if s.rng.random() < 0.85 else "vase", x, 128, clue=clue)
