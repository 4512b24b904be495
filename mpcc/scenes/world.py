"""The procedural world: a scene is drawn from its seed alone, with every object in it and every pair it can ask.

A pair hides one object. The area that is hidden says little: it is drawn before the object is, of a size that does not
depend on it, and the object stands somewhere inside. What was there follows from the evidence around it (`evidence`).
After MPCC, arXiv 2510.21807.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from random import Random
from typing import Any

from PIL import Image

from mpcc.scenes import icons_indoor, icons_outdoor
from mpcc.scenes.canvas import HEIGHT, ICONS, WIDTH, Box, Stage, outlined, overlap
from mpcc.scenes.evidence import DETAIL, DIFFICULTY, LIKE, LOCAL, ROW, SET, TOGETHER, choose, fitting
from mpcc.scenes.places import PLACES, WEIGHTS
from mpcc.scenes.props import Prop

_DRAWN_BY = (icons_outdoor, icons_indoor)  # importing them registers their icons

HIDDEN = ((30, 48), (28, 42))
"""Least and greatest width and height of what is hidden, whatever is hidden, in scene pixels."""
SMALL = (24, 26)
"""Width and height of what stands in a set."""
BASES = {"back": 72, "front": 152}
"""Where the things at the back and at the front stand, in scene pixels from the top."""
GAP = 3
"""Least distance between what is hidden and a prop, in scene pixels: the soft edge of the mask does not reach it."""
TRIES = 12
"""Places tried for a prop before the scene is drawn anew."""


@dataclass(frozen=True)
class Clue:
    """A piece of evidence, or of what misleads.

    Attributes:
        text: The sentence.
        box: The region (x, y, w, h) of what it names, in scene pixels.
        relation: What that is to the hidden box: above, below, left or right of it, or "together" elsewhere.
        name: What stands directly beside the box, without an article; empty where the clue is of something else.
    """

    text: str
    box: Box
    relation: str
    name: str = ""


@dataclass(frozen=True)
class Item:
    """An object in a scene, all in scene pixels.

    Attributes:
        box, outline: Its own, (x, y, w, h) and [x0, y0, x1, y1, …].
        hidden: What is hidden where this object is asked for: it holds the object, and is independent of it.
        reason: The kind of reasoning that finds it; None for what cannot be asked.
        evidence: What it is found by.
        misleading: What stands beside it and goes with something else.
    """

    category: str
    box: Box
    outline: tuple[float, ...]
    hidden: Box
    reason: str | None = None
    evidence: tuple[Clue, ...] = ()
    misleading: tuple[Clue, ...] = ()

    @property
    def center(self) -> tuple[float, float]:
        x, y, w, h = self.hidden
        return x + w / 2, y + h / 2


@dataclass(frozen=True)
class Pair:
    """One question of a scene: the index of the hidden object, how it can be found, and a trace that finds it."""

    index: int
    name: str
    reason: str
    difficulty: str
    trace: str


@dataclass(frozen=True)
class Scene:
    """A picture of 224 x 168 pixels, the kind of place it shows, its objects from back to front, and its props."""

    place: str
    image: Image.Image
    items: tuple[Item, ...]
    props: tuple[tuple[Prop, Box], ...]
    seed: str

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """A pair for every object that evidence points to."""
        rng = Random(f"{self.seed}/traces")
        return tuple(
            Pair(i, item.category, item.reason, DIFFICULTY[item.reason], self.trace(i, item.category, rng))
            for i, item in enumerate(self.items) if item.reason
        )

    def trace(self, index: int, answer: str, rng: Random, evidence: bool = True) -> str:
        """Reasoning on hidden object `index` that ends with `answer`, in the wording that `rng` draws.

        Without `evidence` it looks at the kind of place alone.
        """
        opening = rng.choice(("This is a {}.", "I see a {}.", "The scene is a {}.")).format(self.place)
        seen = [clue.text for clue in self.around(index)] if evidence else []
        return " ".join((opening, *seen, conclusion(answer, rng)))

    def around(self, index: int) -> list[Clue]:
        """What stands around hidden object `index`, evidence and what misleads, from left to right."""
        item = self.items[index]
        return sorted(item.evidence + item.misleading, key=lambda clue: clue.box)

    def pick(self, count: int) -> list[Pair]:
        """Up to `count` pairs with different answers, each category equally likely whatever the length of its row."""
        rng = Random(f"{self.seed}/pick")
        names = sorted({pair.name for pair in self.pairs})
        return [
            rng.choice([pair for pair in self.pairs if pair.name == name])
            for name in rng.sample(names, min(count, len(names)))
        ]


def conclusion(name: str, rng: Random) -> str:
    """A last sentence of the reasoning that names the answer."""
    endings = ("So it is likely {}.", "It must be {}.", "The hidden object is {}.", "Most likely it is {}.")
    return rng.choice(endings).format(with_article(name))


def with_article(name: str) -> str:
    return name if name == "skis" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def where_words(box: Box) -> str:
    """Place of a box (x, y, w, h) in the picture, in words: "top left"."""
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    column, row = min(int(3 * x / WIDTH), 2), min(int(3 * y / HEIGHT), 2)
    return f"{('top', 'middle', 'bottom')[row]} {('left', 'center', 'right')[column]}"


def generate(seed: int | str, place: str | None = None) -> Scene:
    """Draws the scene of a seed; the same seed gives the same scene, to the pixel and the word.

    Raises:
        ValueError: `place` is not one of `PLACES`.
    """
    if place is not None and place not in PLACES:
        raise ValueError(f"no scene is called '{place}'; choose one of {', '.join(PLACES)}")
    rng = Random(f"scenes/{seed}")
    place = place or rng.choice(list(PLACES))
    while True:
        try:
            plan = _Plan(place, rng)
            break
        except (_NoRoom, _NothingToAsk):
            continue
    stage = Stage(rng)
    PLACES[place].backdrop(stage)
    for prop, box in plan.props:
        stage.put(prop.draw, box)
    items = tuple(_draw(stage, item) for item in plan.items)
    return Scene(place, stage.finish(), items, tuple(plan.props), f"scenes/{seed}")


def evidence_of(item: Item) -> list[dict[str, Any]]:
    """The evidence for an object as the files keep it: `text`, and `bbox` [x, y, w, h] in pixels."""
    return [{"text": clue.text, "bbox": list(clue.box)} for clue in item.evidence]


class _NoRoom(Exception):
    """A prop found no free place."""


class _NothingToAsk(Exception):
    """Fewer than two different objects can be asked for."""


class _Plan:
    """What stands where, before anything is drawn."""

    def __init__(self, place: str, rng: Random) -> None:
        self.place, self.rng = place, rng
        self.items: list[Item] = []
        self.props: list[tuple[Prop, Box]] = []
        for row in BASES:
            layout = rng.choices((self._singles, self._alike, self._likeness, self._set), (12, 2, 3, 3))[0]
            layout(row)
        if len({item.category for item in self.items if item.reason}) < 2:
            raise _NothingToAsk

    def _names(self, row: str, count: int) -> list[str]:
        """Different categories that may stand in a row."""
        names = list(getattr(PLACES[self.place], row))
        chosen = []
        for _ in range(count):
            chosen.append(self.rng.choices(names, [WEIGHTS[name] for name in names])[0])
            names.remove(chosen[-1])
        return chosen

    def _hidden(self, row: str, x: float) -> Box:
        """What would be hidden around `x`: drawn before it is known what stands there."""
        w, h = (self.rng.randint(*limits) for limits in HIDDEN)
        left = round(min(max(x + self.rng.uniform(-10, 10) - w / 2, 2), WIDTH - 2 - w))
        return left, round(BASES[row] + self.rng.uniform(-5, 3)) - h, w, h

    def _singles(self, row: str) -> None:
        """Two objects, each with evidence of its own, or now and then without any."""
        for x in (56, 168):
            hidden, name = self._hidden(row, x), self._names(row, 1)[0]
            reason = self.rng.choices((LOCAL, TOGETHER, DETAIL, None), (5, 4, 4, 2))[0]
            self._stand(name, hidden, reason)

    def _stand(self, name: str, hidden: Box, reason: str | None) -> None:
        if reason is None:
            self.items.append(Item(name, hidden, (), hidden))
            return
        self._reserve(hidden)
        evidence, misleading = choose(reason, self.place, name, self.rng)
        found = [self._beside(prop, hidden, name) for prop in evidence]
        wrong = [self._beside(prop, hidden, None) for prop in misleading]
        self.items.append(Item(name, hidden, (), hidden, reason, tuple(found), tuple(wrong)))

    def _alike(self, row: str) -> None:
        """Three of a kind: any one of them follows from the two others."""
        name = self._names(row, 1)[0]
        another = f"Another {'pair of ' if name == 'skis' else ''}{name}"
        boxes = [self._hidden(row, x) for x in (40, 112, 184)]
        for i, hidden in enumerate(boxes):
            others = []
            for j, box in enumerate(boxes):
                if j != i:
                    side = "left" if j < i else "right"
                    others.append(Clue(f"{another} is {side} of the box.", box, side, name))
            self.items.append(Item(name, hidden, (), hidden, ROW, tuple(others)))

    def _likeness(self, row: str) -> None:
        """A prop stands beside two of a kind: where one is hidden, the other one tells."""
        name = self._names(row, 1)[0]
        boxes = [self._hidden(row, x) for x in (56, 168)]
        for hidden in boxes:
            self._reserve(hidden)
        prop = self.rng.choice(fitting(self.place, name))
        beside = [self._beside(prop, hidden, name) for hidden in boxes]
        elsewhere = f"Elsewhere {prop.phrase} and {with_article(name)} are together."
        for i, hidden in enumerate(boxes):
            there = Clue(elsewhere, _around(boxes[1 - i], beside[1 - i].box), "together")
            self.items.append(Item(name, hidden, (), hidden, LIKE, (beside[i], there)))

    def _set(self, row: str) -> None:
        """Three different things on one side, two of them on the other beside the box: the third is missing."""
        names = self._names(row, 3)
        mirrored = self.rng.random() < 0.5
        wide, high = SMALL
        base = round(BASES[row] + self.rng.uniform(-5, 3))
        first = round(self.rng.uniform(4, 14))
        whole = [(first + i * (wide + 2), base - high, wide, high) for i in range(3)]
        w, h = (self.rng.randint(*limits) for limits in HIDDEN)
        left = round(WIDTH - self.rng.uniform(4, 12) - wide - 4 - w)
        hidden = (left, base - h + 2, w, h)
        beside = [(left - 4 - wide, base - high, wide, high), (left + w + 4, base - high, wide, high)]
        if mirrored:
            whole, beside, (hidden,) = _mirror(whole)[::-1], _mirror(beside)[::-1], _mirror([hidden])
        listed = self.rng.sample(names, 3)
        missing, *seen = self.rng.sample(names, 3)
        for name, box in zip(listed, whole, strict=True):
            self.items.append(Item(name, box, (), box))
        one, two, three = (with_article(name) for name in listed)
        away = "right" if mirrored else "left"
        clues = [Clue(f"On the {away} are {one}, {two} and {three}.", _around(*whole), away)]
        for name, box, side in zip(seen, beside, ("left", "right"), strict=True):
            self.items.append(Item(name, box, (), box))
            clues.append(Clue(f"Next to the box on its {side} is {with_article(name)}.", box, side, name))
        self.items.append(Item(missing, hidden, (), hidden, SET, tuple(clues)))

    def _reserve(self, hidden: Box) -> None:
        """Raises _NoRoom where something stands already."""
        if any(overlap(hidden, box) for _, box in self.props):
            raise _NoRoom

    def _beside(self, prop: Prop, hidden: Box, name: str | None) -> Clue:
        """Puts a prop on one of its sides of what is hidden, where nothing else is."""
        (x, y, w, h), (pw, ph), rng = hidden, prop.size, self.rng
        for _ in range(TRIES):
            side = rng.choice(prop.sides)
            if side in ("above", "below"):
                left = x + (w - pw) / 2 + rng.uniform(-5, 5)
                top = y - GAP - ph if side == "above" else y + h + GAP
            else:
                gap = GAP + rng.uniform(0, 5)
                left = x - gap - pw if side == "left of" else x + w + gap
                top = y + h - ph - rng.uniform(0, max(h - ph, 1))
            box = (round(left), round(top), pw, ph)
            if box[0] < 1 or box[1] < 1 or box[0] + pw > WIDTH - 1 or box[1] + ph > HEIGHT - 1:
                continue
            taken = [other for _, other in self.props] + [item.hidden for item in self.items] + [hidden]
            if not any(overlap(_widen(box), other) for other in taken):
                self.props.append((prop, box))
                return Clue(prop.seen(side), box, side.split()[0], prop.name)
        raise _NoRoom


def _draw(stage: Stage, item: Item) -> Item:
    """Draws an object somewhere inside what is hidden with it, and returns it with its own box and outline."""
    function, usual_w, usual_h = ICONS[item.category]
    x, y, w, h = item.hidden
    fit = min((w - 4) / usual_w, (h - 4) / usual_h)
    # a little smaller where the thing is small by nature: what is hidden stays as it is
    unit = fit * stage.rng.uniform(0.84, 1) * min(1, 0.72 + 0.28 * (usual_w * usual_h / 1000) ** 0.5)
    own = usual_w * unit, usual_h * unit
    left = x + 2 + stage.rng.uniform(0, w - 4 - own[0])
    top = y + 2 + (h - 4 - own[1]) * stage.rng.uniform(0.6, 1)
    paint = partial(function, r=stage.rng)
    box, outline = outlined(*stage.put(paint, (left, top, *own), unit, flip=stage.rng.random() < 0.5))
    return replace(item, box=box, outline=outline)


def _around(*boxes: Box) -> Box:
    """The smallest box that holds all of them."""
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    return left, top, right - left, bottom - top


def _mirror(boxes: list[Box]) -> list[Box]:
    return [(WIDTH - x - w, y, w, h) for x, y, w, h in boxes]


def _widen(box: Box) -> Box:
    return box[0] - 1, box[1] - 1, box[2] + 2, box[3] + 2
