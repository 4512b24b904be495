"""Icons of what is seen outdoors. Each draws one object in the unit box of its pen, hues and details by chance."""

from __future__ import annotations

from random import Random

from mpcc.scenes.canvas import Pen, icon

PAINT = ("firebrick", "royalblue", "darkgreen", "goldenrod", "purple", "teal", "slategray")
SKIN = ("bisque", "burlywood", "peru", "sienna")


@icon("person", 20, 44)
def person(p: Pen, r: Random) -> None:
    shirt, skin, legs = r.choice(PAINT), r.choice(SKIN), r.choice(("navy", "dimgray", "saddlebrown"))
    for u in (0.28, 0.53):
        p.rect(u, 0.55, u + 0.19, 1, legs)
    p.rect(0.24, 0.24, 0.76, 0.64, shirt, 2)
    hand = r.choice(((0.05, 0.6), (0.04, 0.05), (0.0, 0.3)))
    p.line([(0.3, 0.3), hand], skin, 2.5)
    p.line([(0.7, 0.3), (1 - hand[0], hand[1])], skin, 2.5)
    p.disc(0.5, 0.12, 5, skin)
    p.rect(0.26, 0, 0.74, 0.06, r.choice(("black", "saddlebrown")), 2)


@icon("bicycle", 40, 26)
def bicycle(p: Pen, r: Random) -> None:
    for u in (0.2, 0.8):
        p.oval(u - 0.19, 0.42, u + 0.19, 1, "black")
        p.oval(u - 0.14, 0.5, u + 0.14, 0.92, "gainsboro")
    frame = r.choice(PAINT)
    p.line([(0.2, 0.7), (0.38, 0.28), (0.72, 0.28), (0.5, 0.72), (0.2, 0.7)], frame, 2)
    p.line([(0.38, 0.28), (0.5, 0.72)], frame, 2)
    p.line([(0.8, 0.7), (0.7, 0.1), (0.84, 0.05)], frame, 2)
    p.line([(0.3, 0.2), (0.46, 0.2)], "black", 3)


@icon("motorcycle", 44, 26)
def motorcycle(p: Pen, r: Random) -> None:
    for u in (0.18, 0.82):
        p.oval(u - 0.17, 0.4, u + 0.17, 1, "black")
        p.oval(u - 0.07, 0.6, u + 0.07, 0.82, "silver")
    body = r.choice(PAINT)
    p.poly([(0.12, 0.35), (0.5, 0.4), (0.62, 0.16), (0.8, 0.28), (0.66, 0.78), (0.34, 0.78)], body)
    p.rect(0.14, 0.26, 0.5, 0.42, "black", 2)
    p.line([(0.82, 0.7), (0.68, 0.05)], "silver", 2.5)
    p.rect(0.3, 0.75, 0.7, 0.86, "silver")


@icon("car", 54, 24)
def car(p: Pen, r: Random) -> None:
    paint = r.choice(PAINT)
    p.poly([(0.2, 0.45), (0.32, 0), (0.7, 0), (0.84, 0.45)], paint)
    p.rect(0, 0.38, 1, 0.82, paint, 3)
    p.poly([(0.27, 0.4), (0.35, 0.1), (0.49, 0.1), (0.49, 0.4)], "lightcyan")
    p.poly([(0.54, 0.4), (0.54, 0.1), (0.67, 0.1), (0.76, 0.4)], "lightcyan")
    for u in (0.22, 0.78):
        p.disc(u, 0.8, 4.5, "black")
        p.disc(u, 0.8, 2, "silver")


@icon("bus", 92, 44)
def bus(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 0.9, r.choice(("gold", "orangered", "gold")), 4)
    for i in range(5):
        p.rect(0.05 + i * 0.15, 0.14, 0.17 + i * 0.15, 0.44, "lightcyan")
    p.rect(0.82, 0.14, 0.95, 0.84, "lightcyan")
    p.rect(0, 0.58, 0.8, 0.64, "white")
    for u in (0.2, 0.74):
        p.disc(u, 0.88, 5, "black")
        p.disc(u, 0.88, 2, "silver")


@icon("truck", 78, 42)
def truck(p: Pen, r: Random) -> None:
    p.rect(0, 0, 0.66, 0.84, r.choice(("whitesmoke", "lightsteelblue", "wheat")), 1)
    p.rect(0.04, 0.35, 0.62, 0.42, "steelblue")
    p.poly([(0.68, 0.26), (0.88, 0.26), (1, 0.55), (1, 0.84), (0.68, 0.84)], r.choice(PAINT))
    p.poly([(0.74, 0.34), (0.86, 0.34), (0.94, 0.55), (0.74, 0.55)], "lightcyan")
    for u in (0.14, 0.3, 0.82):
        p.disc(u, 0.87, 5, "black")


@icon("boat", 50, 36)
def boat(p: Pen, r: Random) -> None:
    p.poly([(0, 0.68), (1, 0.68), (0.82, 1), (0.16, 1)], r.choice(("saddlebrown", "firebrick", "navy")))
    p.line([(0.5, 0.7), (0.5, 0)], "saddlebrown", 2)
    p.poly([(0.54, 0.04), (0.54, 0.6), (0.92, 0.6)], "white")
    p.poly([(0.46, 0.14), (0.46, 0.6), (0.18, 0.6)], "mistyrose")


@icon("traffic light", 12, 30)
def traffic_light(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, "black", 3)
    for i, colour in enumerate(("red", "yellow", "lime")):
        p.disc(0.5, 0.2 + 0.3 * i, 3.4, colour)


@icon("fire hydrant", 15, 22)
def fire_hydrant(p: Pen, r: Random) -> None:
    p.rect(0.05, 0.86, 0.95, 1, "darkred")
    p.rect(0.2, 0.2, 0.8, 0.9, "red", 1)
    p.oval(0.2, 0, 0.8, 0.4, "red")
    p.rect(0, 0.4, 1, 0.56, "darkred", 1)
    p.disc(0.5, 0.48, 2, "gold")


@icon("stop sign", 24, 24)
def stop_sign(p: Pen, r: Random) -> None:
    octagon = [(0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3)]
    p.poly(octagon, "white")
    p.poly([(0.5 + 0.86 * (u - 0.5), 0.5 + 0.86 * (v - 0.5)) for u, v in octagon], "red")
    p.rect(0.18, 0.4, 0.82, 0.6, "white")


@icon("bench", 54, 24)
def bench(p: Pen, r: Random) -> None:
    for v in (0, 0.2, 0.5):
        p.rect(0, v, 1, v + 0.14, "peru")
    for u in (0.1, 0.84):
        p.rect(u, 0, u + 0.06, 1, "dimgray")


@icon("bird", 18, 13)
def bird(p: Pen, r: Random) -> None:
    body = r.choice(("white", "dodgerblue", "dimgray"))
    p.poly([(0, 0.5), (0.3, 0.5), (0.5, 0.8), (0.1, 0.75)], body)
    p.oval(0.18, 0.4, 0.8, 0.95, body)
    p.disc(0.8, 0.35, 3, body)
    p.poly([(0.9, 0.25), (1, 0.36), (0.9, 0.45)], "orange")
    p.poly([(0.28, 0.6), (0.35, 0), (0.6, 0.6)], "gray")
    p.disc(0.82, 0.3, 0.7, "black")


def _beast(p: Pen, hide: str, leg: str, neck: float) -> None:
    """Body, legs and head of a grazing animal that looks to the right."""
    for u in (0.14, 0.28, 0.58, 0.7):
        p.rect(u, 0.6, u + 0.08, 1, leg)
    p.rect(0.08, 0.28, 0.78, 0.72, hide, 4)
    p.poly([(0.66, 0.34), (0.76, neck), (0.92, neck), (0.8, 0.6)], hide)


@icon("cow", 44, 30)
def cow(p: Pen, r: Random) -> None:
    _beast(p, "white", "lightgray", 0.2)
    p.oval(0.14, 0.3, 0.36, 0.6, "black")
    p.oval(0.46, 0.34, 0.66, 0.66, "black")
    p.rect(0.74, 0.12, 0.98, 0.42, "black", 2)
    p.rect(0.88, 0.26, 1, 0.42, "pink", 2)
    p.line([(0.76, 0.14), (0.72, 0)], "tan", 1.5)
    p.rect(0.36, 0.7, 0.52, 0.8, "pink", 1)


@icon("sheep", 34, 24)
def sheep(p: Pen, r: Random) -> None:
    for u in (0.22, 0.36, 0.56, 0.68):
        p.rect(u, 0.7, u + 0.06, 1, "black")
    for u, v in ((0.2, 0.4), (0.36, 0.28), (0.54, 0.28), (0.66, 0.42), (0.28, 0.6), (0.46, 0.62), (0.62, 0.6)):
        p.disc(u, v, 5.5, "ivory")
    p.oval(0.7, 0.16, 0.98, 0.58, "black")


@icon("horse", 46, 38)
def horse(p: Pen, r: Random) -> None:
    hide = r.choice(("saddlebrown", "sienna", "maroon"))
    _beast(p, hide, hide, 0.08)
    p.poly([(0.74, 0.06), (0.86, 0), (1, 0.22), (0.94, 0.32), (0.8, 0.28)], hide)
    p.line([(0.68, 0.34), (0.78, 0.04)], "black", 3)
    p.line([(0.1, 0.34), (0, 0.7)], "black", 3)


@icon("dog", 30, 22)
def dog(p: Pen, r: Random) -> None:
    coat = r.choice(("chocolate", "peru", "darkgoldenrod"))
    for u in (0.2, 0.32, 0.6, 0.7):
        p.rect(u, 0.6, u + 0.07, 1, coat)
    p.rect(0.16, 0.38, 0.76, 0.74, coat, 3)
    p.line([(0.2, 0.45), (0.03, 0.1)], coat, 2.5)
    p.rect(0.66, 0.08, 0.92, 0.46, coat, 2)
    p.rect(0.84, 0.26, 1, 0.44, coat, 1)
    p.poly([(0.66, 0.06), (0.62, 0.4), (0.74, 0.36)], "black")
    p.disc(0.98, 0.3, 1.2, "black")


@icon("umbrella", 60, 24)
def umbrella(p: Pen, r: Random) -> None:
    one, two = r.choice((("red", "white"), ("blue", "yellow"), ("green", "white")))
    p.draw.pieslice(p.corners(0, 0, 1, 2), 180, 360, fill=one)
    for u in (0.22, 0.62):
        p.poly([(0.5, 0), (u - 0.02, 0.98), (u + 0.18, 0.98)], two)


@icon("frisbee", 18, 8)
def frisbee(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 1, r.choice(("magenta", "orangered", "cyan")))
    p.oval(0.2, 0.2, 0.8, 0.7, "white")


@icon("skis", 46, 8)
def skis(p: Pen, r: Random) -> None:
    colour = r.choice(("red", "blue", "orange"))
    for v in (0.15, 0.75):
        p.line([(0, v), (0.9, v), (1, v - 0.15)], colour, 2.2)


@icon("snowboard", 44, 11)
def snowboard(p: Pen, r: Random) -> None:
    p.rect(0, 0, 1, 1, r.choice(("purple", "lime", "deeppink")), 5)
    p.rect(0.25, 0.1, 0.35, 0.9, "black")
    p.rect(0.65, 0.1, 0.75, 0.9, "black")


@icon("sports ball", 14, 14)
def sports_ball(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 1, "white")
    for u, v in ((0.5, 0.5), (0.18, 0.32), (0.82, 0.32), (0.5, 0.95), (0.5, 0.08)):
        p.disc(u, v, 1.9, "black")


@icon("kite", 26, 30)
def kite(p: Pen, r: Random) -> None:
    one, two = r.choice((("red", "yellow"), ("blue", "orange"), ("green", "magenta")))
    p.poly([(0.5, 0), (1, 0.4), (0.5, 1), (0, 0.4)], one)
    p.poly([(0.5, 0), (1, 0.4), (0.5, 0.4)], two)
    p.poly([(0.5, 0.4), (0.5, 1), (0, 0.4)], two)


@icon("surfboard", 50, 10)
def surfboard(p: Pen, r: Random) -> None:
    p.oval(0, 0, 1, 1, r.choice(("yellow", "orange", "hotpink")))
    p.line([(0.04, 0.5), (0.96, 0.5)], "firebrick", 1.5)
