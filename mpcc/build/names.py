"""Names of objects: when two may mean the same, so that they cannot be options of one question, and what a text names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse",
              "knives": "knife", "geese": "goose", "skis": "ski", "tvs": "tv"}
"""Plurals that no rule finds."""

_ALSO_CALLED = {
    "person": "man, woman, boy, girl, child, kid, baby, lady, guy, human, skier, surfer, snowboarder, skateboarder, "
    "cyclist, rider, player, pedestrian",
    "airplane": "plane, aeroplane, aircraft, jet",
    "bicycle": "bike",
    "motorcycle": "motorbike, scooter",
    "car": "taxi, cab, suv, van",
    "boat": "ship, ferry, canoe, kayak, sailboat",
    "cow": "calf, bull, ox, cattle",
    "sheep": "lamb",
    "dog": "puppy",
    "cat": "kitten",
    "horse": "pony",
    "handbag": "purse",
    "suitcase": "luggage",
    "sports ball": "ball, soccer ball, football, tennis ball, basketball, baseball",
    "couch": "sofa, settee",
    "potted plant": "plant, houseplant",
    "tv": "television, monitor, screen",
    "laptop": "computer, notebook",
    "cell phone": "phone, mobile phone, smartphone, telephone",
    "oven": "stove",
    "refrigerator": "fridge",
    "cup": "mug",
    "donut": "doughnut",
    "hair drier": "hair dryer, hairdryer, blow dryer",
    "remote": "remote control, controller",
    "fire hydrant": "hydrant",
    "traffic light": "traffic signal, stoplight",
    "tennis racket": "racket, racquet, tennis racquet",
    "baseball bat": "bat",
    "baseball glove": "glove, mitt, baseball mitt",
    "dining table": "table",
    "hot dog": "hotdog",
}
"""Other names that models give to COCO's categories, seen as the same."""


def too_close(a: str, b: str) -> bool:
    """Whether two normalised names may mean the same: equal but for plurals or synonyms, or one's words in the other's.

    "bus" and "school bus" are too close, "car" and "carrot" are not.
    """
    return any(_within(x, y) for x in _forms(a) for y in _forms(b))


def mentioned(text: str, categories: Collection[str]) -> list[tuple[str, int, int]]:
    """The categories that a text names, in its order, each with where its words begin and end.

    Plurals and synonyms count, whatever the letter case; of names within each other the longest ("hot dog" is no
    "dog"). A possessive names nothing: "the dog's bowl".
    """
    words = [(_singular(m[0]), m.start(), m.end()) for m in re.finditer(r"[^\W\d_]+(?:['’]s\b)?", text)]
    stems = [stem if text[start:end].isalpha() else None for stem, start, end in words]
    forms, found, place = _names(frozenset(categories)), [], 0
    while place < len(words):
        for length in range(_LONGEST, 0, -1):
            if (name := forms.get(tuple(stems[place : place + length]))) and place + length <= len(words):
                found.append((name, words[place][1], words[place + length - 1][2]))
                place += length
                break
        else:
            place += 1
    return found


_LONGEST = 4
"""Words of the longest name that is looked for."""


@lru_cache
def _names(categories: frozenset[str]) -> dict[tuple[str, ...], str]:
    """Singular words of a category, or of a synonym that is no category itself → the category."""
    own = {_singular(name): name for name in sorted(categories)}
    others = {other: own[category] for other, category in _CATEGORY.items() if category in own}
    return {tuple(name.split()): category for name, category in (others | own).items()}


def _forms(name: str) -> set[str]:
    """The name without plurals, and the categories that it or its last word is another name for."""
    plain = _singular(name)
    last = plain.split()[-1] if plain else plain  # an "old man" is a man
    return {plain, _CATEGORY.get(plain, plain), _CATEGORY.get(last, plain)}


def _within(a: str, b: str) -> bool:
    short, long = sorted((a.split(), b.split()), key=len)
    return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))


def _singular(name: str) -> str:
    return " ".join(_stem(_IRREGULAR.get(word, word)) for word in name.lower().replace("-", " ").split())


def _stem(word: str) -> str:
    """What singular and plural have in common; it need not be a word: "vase" and "vases" give "vas"."""
    if len(word) < 4 or word.endswith(("ss", "us")):
        return word
    word = word.removesuffix("s")
    if word.endswith("ie") and len(word) > 3:
        return word.removesuffix("ie") + "y"
    return word.removesuffix("e") if word.endswith(("se", "xe", "ze", "che", "she", "oe")) else word


_CATEGORY = {
    _singular(name): _singular(category) for category, names in _ALSO_CALLED.items() for name in names.split(", ")
}
