"""Icons of what is seen indoors. Each draws one object in the unit box of its pen, hues and details by chance."""

from __future__ import annotations

from random import Random

from mpcc.scenes.canvas import Pen, icon

CLOTH = ("indianred", "steelblue", "olivedrab", "mediumpurple", "darkcyan", "sandybrown")


@icon("cat", 28, 24)
def cat(p: Pen, r: Random) -> None:
    fur = r.choice(("black", "dimgray", "darkorange"))
    p.oval(0.1, 0.4, 0.75, 1, fur)
    p.disc(0.74, 0.34, 6.5, fur)
    p.poly([(0.52, 0.3), (0.52, 0), (0.72, 0.14)], fur)
    p.poly([(0.97, 0.3), (0.97, 0), (0.77, 0.14)], fur)
    for u in (0.67, 0.83):
        p.disc(u, 0.3, 1.3, "lime")
    p.line([(0.14, 0.8), (0.02, 0.5)], fur, 2.5)


@icon("bottle", 13, 36)
def bottle(p: Pen, r: Random) -> None:
    glass = r.choice(("darkgreen", "green", "darkolivegreen"))
    p.rect(0.33, 0, 0.67, 0.4, glass, 1)
    p.rect(0, 0.32, 1, 1, glass, 3)
    p.rect(0.02, 0.5, 0.98, 0.76, "beige")


@icon("wine glass", 15, 28)
def wine_glass(p: Pen, r: Random) -> None:
    p.oval(0, -0.2, 1, 0.56, "aliceblue")
    p.draw.chord(p.corners(0, -0.2, 1, 0.56), 10, 170, fill=r.choice(("darkred", "crimson")))
    p.rect(0.44, 0.54, 0.56, 0.94, "aliceblue")
    p.rect(0.12, 0.92, 0.88, 1, "aliceblue")


@icon("cup", 20, 17)
def cup(p: Pen, r: Random) -> None:
    colour = r.choice(("white", "orangered", "deepskyblue"))
    p.arc(0.6, 0.2, 1, 0.75, 0, 360, colour)
    p.rect(0, 0, 0.74, 1, colour, 2)
    p.rect(0.08, 0.04, 0.66, 0.2, "saddlebrown", 1)


@icon("fork", 9, 36)
def fork(p: Pen, r: Random) -> None:
    for u in (0.02, 0.39, 0.76):
        p.rect(u, 0, u + 0.22, 0.36, "silver")
    p.rect(0.02, 0.3, 0.98, 0.42, "silver")
    p.rect(0.34, 0.4, 0.66, 1, "silver")


@icon("knife", 8, 36)
def knife(p: Pen, r: Random) -> None:
    p.poly([(0.2, 0), (1, 0.14), (1, 0.6), (0.2, 0.6)], "silver")
    p.rect(0.15, 0.58, 0.9, 1, "black", 1)


@icon("spoon", 11, 34)
def spoon(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 0.36, "silver")
    p.oval(0.25, 0.07, 0.75, 0.28, "gray")
    p.rect(0.38, 0.34, 0.62, 1, "silver")


@icon("bowl", 36, 18)
def bowl(p: Pen, r: Random) -> None:
    p.draw.pieslice(p.corners(0, -1, 1, 1), 0, 180, fill=r.choice(("cornflowerblue", "coral", "mediumseagreen")))
    p.rect(0, 0, 1, 0.16, "white")


@icon("pizza", 50, 30)
def pizza(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 1, "peru")
    p.oval(0.07, 0.08, 0.93, 0.92, "gold")
    for u, v in ((0.3, 0.3), (0.6, 0.25), (0.75, 0.55), (0.45, 0.6), (0.22, 0.6), (0.6, 0.8)):
        p.disc(u, v, 3, "firebrick")


@icon("cake", 40, 24)
def cake(p: Pen, r: Random) -> None:
    p.rect(0, 0.15, 1, 1, "hotpink", 3)
    p.rect(0, 0.1, 1, 0.4, "white", 3)
    p.rect(0, 0.62, 1, 0.72, "white")
    for u in (0.15, 0.4, 0.65, 0.88):
        p.disc(u, 0.12, 2.4, "red")


@icon("chair", 28, 46)
def chair(p: Pen, r: Random) -> None:
    wood = r.choice(("sienna", "saddlebrown"))
    p.rect(0.05, 0, 0.95, 0.12, wood)
    for u in (0.05, 0.46, 0.85):
        p.rect(u, 0, u + 0.1, 0.55, wood)
    p.rect(0, 0.5, 1, 0.62, "burlywood")
    p.rect(0.04, 0.6, 0.16, 1, wood)
    p.rect(0.84, 0.6, 0.96, 1, wood)


@icon("couch", 84, 38)
def couch(p: Pen, r: Random) -> None:
    cloth = r.choice(CLOTH)
    p.rect(0.06, 0, 0.94, 0.7, cloth, 5)
    p.rect(0.02, 0.5, 0.98, 0.92, cloth, 3)
    p.line([(0.5, 0.08), (0.5, 0.5)], "black", 1)
    p.line([(0.12, 0.5), (0.88, 0.5)], "black", 1)
    p.rect(0, 0.3, 0.12, 0.94, cloth, 4)
    p.rect(0.88, 0.3, 1, 0.94, cloth, 4)
    p.rect(0.06, 0.92, 0.12, 1, "black")
    p.rect(0.88, 0.92, 0.94, 1, "black")


@icon("bed", 104, 40)
def bed(p: Pen, r: Random) -> None:
    p.rect(0, 0.3, 1, 0.84, "white", 3)
    p.rect(0.28, 0.24, 1, 0.86, r.choice(CLOTH), 4)
    p.rect(0, 0.78, 1, 0.92, "saddlebrown")
    p.rect(0.02, 0.9, 0.07, 1, "saddlebrown")
    p.rect(0.93, 0.9, 0.98, 1, "saddlebrown")
    p.rect(0.03, 0.16, 0.24, 0.42, "lavender", 4)


@icon("tv", 54, 36)
def tv(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 0.9, "black", 2)
    p.rect(0.05, 0.07, 0.95, 0.82, r.choice(("deepskyblue", "mediumturquoise", "lightskyblue")))
    p.poly([(0.1, 0.82), (0.35, 0.4), (0.6, 0.82)], "seagreen")
    p.rect(0.3, 0.88, 0.7, 1, "black")


@icon("laptop", 48, 34)
def laptop(p: Pen, r: Random) -> None:
    p.rect(0.12, 0, 0.88, 0.68, "silver", 2)
    p.rect(0.17, 0.07, 0.83, 0.62, r.choice(("navy", "midnightblue")))
    p.poly([(0.12, 0.68), (0.88, 0.68), (1, 1), (0, 1)], "silver")
    p.poly([(0.2, 0.74), (0.8, 0.74), (0.86, 0.86), (0.14, 0.86)], "dimgray")


@icon("mouse", 12, 16)
def mouse(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 1, "black")
    p.line([(0.5, 0.1), (0.5, 0.45)], "red", 1.5)


@icon("remote", 9, 22)
def remote(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, "black", 2)
    p.disc(0.5, 0.14, 2, "red")
    for v in (0.4, 0.6, 0.8):
        p.disc(0.3, v, 1.1, "white")
        p.disc(0.7, v, 1.1, "white")


@icon("keyboard", 58, 14)
def keyboard(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, r.choice(("dimgray", "gray")), 2)
    for i in range(9):
        for v in (0.14, 0.42, 0.7):
            p.rect(0.04 + i * 0.104, v, 0.11 + i * 0.104, v + 0.18, "white")


@icon("microwave", 42, 25)
def microwave(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, "gray", 2)
    p.rect(0.06, 0.14, 0.68, 0.86, "black", 1)
    p.rect(0.76, 0.16, 0.94, 0.34, "lime")
    for v in (0.46, 0.66):
        p.rect(0.76, v, 0.94, v + 0.12, "white")


@icon("oven", 46, 46)
def oven(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, "lightgray", 1)
    for u in (0.14, 0.38, 0.62, 0.86):
        p.disc(u, 0.12, 2.5, "black")
    p.rect(0.1, 0.28, 0.9, 0.36, "dimgray", 1)
    p.rect(0.12, 0.42, 0.88, 0.88, "black", 2)
    p.rect(0.2, 0.52, 0.8, 0.78, "darkorange")


@icon("sink", 48, 18)
def sink(p: Pen, r: Random) -> None:
    p.poly([(0, 0), (1, 0), (0.88, 1), (0.12, 1)], "white")
    p.oval(0.1, 0.08, 0.9, 0.6, "lightblue")
    p.disc(0.5, 0.36, 1.8, "dimgray")


@icon("refrigerator", 42, 96)
def refrigerator(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, r.choice(("white", "lightsteelblue")), 3)
    p.line([(0, 0.36), (1, 0.36)], "dimgray", 1.5)
    p.rect(0.82, 0.16, 0.9, 0.32, "dimgray")
    p.rect(0.82, 0.42, 0.9, 0.66, "dimgray")


@icon("book", 10, 28)
def book(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, r.choice(("darkred", "darkblue", "darkgreen", "indigo")), 1)
    p.rect(0.1, 0.14, 0.9, 0.24, "gold")
    p.rect(0.1, 0.76, 0.9, 0.84, "gold")


@icon("clock", 22, 22)
def clock(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 1, r.choice(("black", "saddlebrown")))
    p.oval(0.12, 0.12, 0.88, 0.88, "white")
    p.line([(0.5, 0.5), (0.5, 0.2)], "black", 1.5)
    p.line([(0.5, 0.5), (0.5 + r.choice((-0.24, 0.24)), 0.6)], "black", 1.5)


@icon("vase", 17, 26)
def vase(p: Pen, r: Random) -> None:
    glaze = r.choice(("mediumblue", "darkviolet"))
    p.rect(0.26, 0, 0.74, 0.4, glaze)
    p.oval(0, 0.24, 1, 1, glaze)
    p.rect(0.1, 0.52, 0.9, 0.62, "white")


@icon("teddy bear", 26, 30)
def teddy_bear(p: Pen, r: Random) -> None:
    fur = r.choice(("tan", "rosybrown"))
    for u in (0.2, 0.8):
        p.disc(u, 0.1, 3.4, fur)
        p.disc(u, 0.9, 4, fur)
        p.disc(u - 0.08 if u < 0.5 else u + 0.08, 0.58, 3.4, fur)
    p.disc(0.5, 0.26, 7.5, fur)
    p.oval(0.18, 0.42, 0.82, 1, fur)
    p.oval(0.36, 0.28, 0.64, 0.44, "bisque")
    for u in (0.4, 0.6):
        p.disc(u, 0.2, 1.1, "black")
