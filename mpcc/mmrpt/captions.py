"""Captions to learn from: those of a COCO folder, and those of the scenes, which know what the picture alone can tell.

A caption of a scene says what stands where, and between that sentences which hold for every picture of the kind of
place. What kind that is stands in the question, so that it is never to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from PIL import Image

from mpcc.coco import ImageEntry, ImageFile, whole_number
from mpcc.mmrpt.spans import GAP, Span
from mpcc.reading import MAX_BAD, shown, unfit
from mpcc.scenes.canvas import HEIGHT, WIDTH, Box
from mpcc.scenes.world import Item, Scene, generate, where_words, with_article

SCENES = {"train2017": 1200, "val2017": 200}
"""Captions of each split of the scenes; none of their pictures is in the folder, nor seen in pretraining."""

EVERYDAY = {
    "street": ("People pass by all day long.", "The traffic never really stops.", "At night the lamps are lit."),
    "beach": ("The waves come and go.", "The sand is warm in summer.", "The air smells of salt."),
    "park": ("The grass is cut every week.", "In spring the trees turn green.", "Children like to play outside."),
    "farm": ("Work begins early in the morning.", "The field needs rain to grow.", "Life is quiet in the country."),
    "ski slope": ("The snow is white and cold.", "In winter it is dark early.", "The way down is steep."),
    "kitchen": ("Dinner is made here every evening.", "It smells of good food.", "The floor is cleaned once a day."),
    "dining table": ("The family eats here together.", "Everyone is hungry by noon.", "After the meal it is cleared."),
    "living room": ("In the evening everyone comes together.", "It is a good room to rest in.", "Guests are welcome."),
    "bedroom": ("At night it is quiet and dark.", "Everyone needs a good sleep.", "In the morning the sun comes in."),
    "desk": ("There is always more work to do.", "A good light helps the eyes.", "It is cleared once a week."),
}
"""What holds for every picture of a kind of place."""


class Part(NamedTuple):
    """A piece of a caption, and whether it tells what only the picture can."""

    text: str
    visual: bool


@dataclass(frozen=True)
class Caption:
    """A caption and where its picture is.

    Attributes:
        id: Unique and stable.
        subject: What it is a caption of: the kind of place, or "image".
        text: The sentences, a blank between them.
        facts: Where in the text stands what only the picture can tell, in characters; None where nobody knows.
        picture: The image in the caption file, or the seed of the scene.
    """

    id: str
    subject: str
    text: str
    facts: tuple[Span, ...] | None
    picture: ImageEntry | str

    @property
    def question(self) -> str:
        """What the caption is an answer to."""
        return f"Describe the {self.subject}."


class SceneCaptions(Sequence[Caption]):
    """The captions of a split of the scenes. `shown` draws the picture.

    Raises:
        ValueError: the scenes have no such split.
    """

    def __init__(self, split: str) -> None:
        if split not in SCENES:
            raise ValueError(f"the scenes have no split {split!r}; choose one of {', '.join(SCENES)}")
        self.source = f"scenes, {split}"
        self._captions = _captions_of(split)

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index):
        return self._captions[index]

    def shown(self, caption: Caption) -> Image.Image:
        """The picture of a caption, RGB."""
        return _scene(caption.picture).image


class CocoCaptions(ImageFile, Sequence[Caption]):
    """The captions of a split of a COCO folder: `annotations/captions_{split}.json`, the images in `{split}/`.

    A wrong image or caption is left out, counted and listed, as by `mpcc.coco.Coco`.

    Raises:
        FileNotFoundError: the folder, the caption file or the split's image folder is missing.
        ValueError: no JSON or no caption file, or too many records are wrong; names file and caption id.
    """

    def __init__(self, folder: str | Path, split: str, max_bad: float = MAX_BAD) -> None:
        super().__init__(folder, split, "caption")
        self.source = str(self.path)
        self.read_images(max_bad)
        self._captions = list(self.read_list("annotations", self._caption, max_bad).values())

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index):
        return self._captions[index]

    def shown(self, caption: Caption) -> Image.Image:
        """The picture of a caption, RGB. Raises as `ImageFile.open`."""
        return self.open(caption.picture)

    def _caption(self, record: dict, place: str) -> Caption | None:
        image_id = whole_number(record, "image_id", str(self.path), place)
        where = f"{self.path}: caption {record['id']} (image {image_id})"
        if (image := self.image_of(image_id, where)) is None:
            return None
        text = record.get("caption")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where} has no usable field 'caption': {shown(text)}; write its text there")
        if (reason := unfit(text)) or (reason := f"holds {GAP!r}" if GAP in text else None):
            raise ValueError(f"{where}: caption {shown(text)} {reason}; correct it")
        return Caption(f"{self.split}/{record['id']}", "image", " ".join(text.split()), None, image)


Captions = SceneCaptions | CocoCaptions


def read_captions(coco: str, split: str, max_bad: float = MAX_BAD) -> Captions:
    """The captions of a split of a COCO folder, or of the scenes where `coco` is empty. Raises as these two."""
    return CocoCaptions(coco, split, max_bad) if coco else SceneCaptions(split)


def scene_caption(scene: Scene, id: str) -> Caption:
    """The caption of a scene, the same for the same scene; see `scene_parts`."""
    parts = scene_parts(scene)
    ends = list(accumulate(len(part.text) for part in parts))
    facts = tuple((end - len(part.text), end) for part, end in zip(parts, ends, strict=True) if part.visual)
    return Caption(id, scene.place, "".join(part.text for part in parts), facts, scene.seed.removeprefix("scenes/"))


def scene_parts(scene: Scene) -> list[Part]:
    """The caption of a scene in pieces: two rows of objects, two sentences of every day, a prop if one stands apart.

    Named is what stands alone in its place of the picture, of several of a kind the first one. Of three objects or more
    one is left unnamed half of the time, so that there may be a prop: none that points to a named object. The places
    come in reading order, so that a text tells most of them (64 %, from the one before), and count as not visual.
    """
    rng = Random(f"{scene.seed}/caption")
    named = _named(scene.items)
    if len(named) > 2 and rng.random() < 0.5:
        named.remove(rng.choice(named))
    first, second = rng.sample(EVERYDAY[scene.place], 2)
    rows: list[list[Part]] = [[], []]
    for item in named:
        rows[is_front(item.box)] += _fact(f"At the {stand_words(item.box)} is ", with_article(item.category))
    told = [*rows[0], Part(f"{first} ", False), *rows[1], Part(f"{second} ", False)]
    if alone := _apart(scene, named):
        prop, box = rng.choice(alone)
        told += _fact(f"Near the {where_words(box)} you see ", prop.phrase)
    return [*told[:-1], Part(told[-1].text.rstrip(), False)]


def is_front(box: Box) -> bool:
    """Whether what has this box (x, y, w, h) stands at the front."""
    return box[1] + box[3] / 2 > 0.55 * HEIGHT


def stand_words(box: Box) -> str:
    """Where an object with this box stands, in words: "back left"."""
    column = min(int(3 * (box[0] + box[2] / 2) / WIDTH), 2)
    return f"{('back', 'front')[is_front(box)]} {('left', 'center', 'right')[column]}"


@lru_cache(maxsize=len(SCENES))
def _captions_of(split: str) -> tuple[Caption, ...]:
    numbers = range(1, SCENES[split] + 1)
    return tuple(scene_caption(_scene(f"captions/{split}/{number}"), f"{split}/{number}") for number in numbers)


@lru_cache(maxsize=64)
def _scene(seed: str) -> Scene:
    return generate(seed)


def _fact(before: str, phrase: str) -> list[Part]:
    """A sentence that ends in a thing; its article tells nothing."""
    article, blank, rest = phrase.partition(" ")
    if article not in ("a", "an"):
        article, blank, rest = "", "", phrase
    return [Part(f"{before}{article}{blank}", False), Part(rest, True), Part(". ", False)]


def _named(items: Sequence[Item]) -> list[Item]:
    """The objects that stand alone in their place, the first of each kind, in reading order."""
    places = [stand_words(item.box) for item in items]
    alone = [item for item, place in zip(items, places, strict=True) if places.count(place) == 1]
    alone.sort(key=lambda item: (is_front(item.box), item.box[0]))
    kinds = [item.category for item in alone]
    return [item for i, item in enumerate(alone) if item.category not in kinds[:i]]


def _apart(scene: Scene, named: Sequence[Item]) -> list[Any]:
    """Props that stand alone in their ninth of the picture, and are of no kind that stands beside a named object."""
    kinds = {item.category for item in named}
    telling = {clue.name for item in scene.items if item.category in kinds for clue in item.evidence + item.misleading}
    places = [where_words(box) for _, box in scene.props]
    return [(prop, box) for (prop, box), place in zip(scene.props, places, strict=True)
            if places.count(place) == 1 and prop.name not in telling]
