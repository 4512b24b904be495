"""What an object is found by: props that point to it alone, or alone together.

An object's evidence is complete when it fits no other category of the kind of scene. How much of it must be combined
makes the difficulty: one prop is enough (easy), two must meet (moderate), or two must meet and a third, that goes with
something else, must be outvoted (hard).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from random import Random

from mpcc.scenes.places import PLACES
from mpcc.scenes.props import Prop
from mpcc.scenes.props_indoor import INDOORS
from mpcc.scenes.props_outdoor import ANYWHERE, OUTDOORS, SNOW

PROPS: tuple[Prop, ...] = (*ANYWHERE, *OUTDOORS, *SNOW, *INDOORS)

LOCAL, ROW = "local features", "object analogy"
TOGETHER, LIKE = "object relationship", "scene analogy"
DETAIL, SET = "contextual details", "scene understanding"

DIFFICULTY = {SET: "hard", DETAIL: "hard", TOGETHER: "moderate", LIKE: "moderate",
              "simple scene": "easy", LOCAL: "easy", ROW: "easy"}
"""Kind of reason → difficulty, as in the paper. `simple scene` does not occur."""


@cache
def at(place: str) -> tuple[Prop, ...]:
    """Props that are not out of place in a kind of scene."""
    if PLACES[place].outdoors:
        return (*ANYWHERE, *OUTDOORS, *(SNOW if place == "ski slope" else ()))
    return (*ANYWHERE, *INDOORS)


@cache
def fitting(place: str, name: str) -> tuple[Prop, ...]:
    """Props that go with an object in a kind of scene."""
    return tuple(prop for prop in at(place) if name in prop.fits)


@cache
def telling(place: str, name: str) -> tuple[Prop, ...]:
    """Props that point to the object alone among all that the kind of scene may show."""
    return tuple(prop for prop in at(place) if prop.fits & PLACES[place].here == {name})


@cache
def partial(place: str, name: str) -> tuple[Prop, ...]:
    """Props that fit the object, and something else of the kind of scene."""
    return tuple(prop for prop in fitting(place, name) if len(prop.fits & PLACES[place].here) > 1)


@cache
def meeting(place: str, name: str) -> tuple[tuple[Prop, Prop], ...]:
    """Pairs of partial props that together fit nothing but the object."""
    here = PLACES[place].here
    return tuple((p, q) for p, q in combinations(partial(place, name), 2) if p.fits & q.fits & here == {name})


@cache
def misleading(place: str, name: str, shown: tuple[Prop, Prop]) -> tuple[Prop, ...]:
    """Props that fit something else of the kind of scene, to which neither of the two `shown` points."""
    here = PLACES[place].here
    pointed_to = (shown[0].fits | shown[1].fits) & here
    return tuple(prop for prop in at(place) if prop.fits & here and not prop.fits & pointed_to)


def choose(reason: str, place: str, name: str, rng: Random) -> tuple[tuple[Prop, ...], tuple[Prop, ...]]:
    """The evidence for a hidden object, two props, and what misleads: one prop for `DETAIL`, else none."""
    if reason == LOCAL:
        first = rng.choice(telling(place, name))
        return (first, rng.choice([prop for prop in fitting(place, name) if prop.phrase != first.phrase])), ()
    pair = rng.choice(meeting(place, name))
    return pair, (rng.choice(misleading(place, name, pair)),) if reason == DETAIL else ()
