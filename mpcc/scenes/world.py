"""The procedural world: a scene is drawn from its seed alone, with every object in it and every pair it can ask.

A pair hides one object. Its difficulty follows from the kind of reasoning that finds it, and its trace
names the evidence that is really in the picture. After MPCC, arXiv 2510.21807.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random

from PIL import Image

from mpcc.scenes import countryside, icons_indoor, icons_outdoor, meals, outdoor, rooms
from mpcc.scenes.canvas import Clue, Item, Stage

_DRAWN_BY = (icons_outdoor, icons_indoor)  # importing them registers their icons

PLACES: dict[str, Callable[[Stage], None]] = {
    "street": outdoor.street,
    "beach": outdoor.beach,
    "park": outdoor.park,
    "farm": countryside.farm,
    "ski slope": countryside.ski_slope,
    "kitchen": meals.kitchen,
    "dining table": meals.dining_table,
    "living room": rooms.living_room,
    "bedroom": rooms.bedroom,
    "desk": rooms.desk,
}

DIFFICULTY = {
    "scene understanding": "hard",
    "contextual details": "hard",
    "object relationship": "moderate",
    "scene analogy": "moderate",
    "simple scene": "easy",
    "local features": "easy",
    "object analogy": "easy",
}
"""Kind of reason → difficulty, as in the paper."""


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
    """A picture of 240 x 160 pixels, the place it shows, and its objects from back to front."""

    place: str
    image: Image.Image
    items: tuple[Item, ...]
    seed: str

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """A pair for every object that a clue points to."""
        rng = Random(f"{self.seed}/traces")
        return tuple(self._pair(i, item, item.clue, rng) for i, item in enumerate(self.items) if item.clue)

    def _pair(self, index: int, item: Item, clue: Clue, rng: Random) -> Pair:
        return Pair(index, item.category, clue.reason, DIFFICULTY[clue.reason], self.trace(index, item.category, rng))

    def trace(self, index: int, answer: str, rng: Random, evidence: bool = True) -> str:
        """Reasoning on hidden object `index` that ends with `answer`, in the wording that `rng` draws.

        Without `evidence` it looks at the place and the shape of the mask alone.
        """
        item = self.items[index]
        opening = rng.choice(("This is a {}.", "I see a {}.", "The scene is a {}.")).format(self.place)
        seen = f" {item.clue.evidence}" if evidence and item.clue else ""
        shape = rng.choice(("The box is {}.", "The hidden area is {}.", "It is {}.")).format(shape_words(item.box))
        return f"{opening}{seen} {shape} {conclusion(answer, rng)}"

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
    article = "an " if name[0] in "aeiou" else "" if name == "skis" else "a "
    endings = ("So it is likely {}.", "It must be {}.", "The hidden object is {}.", "Most likely it is {}.")
    return rng.choice(endings).format(f"{article}{name}")


def shape_words(box: tuple[float, float, float, float]) -> str:
    """Size and shape of a box (x, y, w, h), in words: "small and tall"."""
    _, _, w, h = box
    size = "small" if w * h < 500 else "large" if w * h > 1600 else "medium"
    shape = "wide" if w > 1.35 * h else "tall" if h > 1.35 * w else "square"
    return f"{size} and {shape}"


def where_words(box: tuple[float, float, float, float]) -> str:
    """Place of a box (x, y, w, h) in the picture, in words: "top left"."""
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    return f"{('top', 'middle', 'bottom')[min(int(y / 54), 2)]} {('left', 'center', 'right')[min(int(x / 80), 2)]}"


def generate(seed: int | str, place: str | None = None) -> Scene:
    """Draws the scene of a seed; the same seed gives the same scene, to the pixel and the word.

    Raises:
        ValueError: `place` is not one of `PLACES`.
    """
    if place is not None and place not in PLACES:
        raise ValueError(f"no scene is called '{place}'; choose one of {', '.join(PLACES)}")
    rng = Random(f"scenes/{seed}")
    place = place or rng.choice(list(PLACES))
    stage = Stage(rng)
    PLACES[place](stage)
    return Scene(place, stage.finish(), tuple(stage.items), f"scenes/{seed}")

