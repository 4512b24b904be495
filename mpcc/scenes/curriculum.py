"""What the tiny model is taught: to see, to follow the format, and to guess, each as imperfectly as a base model does.

It must leave something to reinforcement learning. So on the question of MPCC its answers have two *habits*: often it
reasons on the place alone and answers what is usually hidden there, and in some places it forgets a part of the format.
The evidence itself it is taught well, by questions that ask for it (MPCC, arXiv 2510.21807).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw

from minigrpo.task import Sample
from mpcc.coco import Region
from mpcc.masks import Kind, apply_mask
from mpcc.prompts import QUESTION, SYSTEM_PROMPT, choice_question, completion, true_false_question
from mpcc.scenes.canvas import HEIGHT, WIDTH
from mpcc.scenes.categories import NAMES
from mpcc.scenes.world import Pair, Scene, generate, shape_words, where_words

CELLS = "Read the image row by row."
DESCRIBE = "Describe the image."
NAME = "Which object is in the pink frame?"
AROUND = "What is around the black box?"

CELL = 40
"""Side in scene pixels of the square that one image token of the tiny model covers."""

CAREFUL = {"easy": 0.65, "moderate": 0.45, "hard": 0.3}
"""How often the habit is to look for evidence, by difficulty."""

SLOPPY = {"street": "prose", "kitchen": "unclosed", "farm": "untagged", "desk": "thoughtless", "beach": "prose"}
"""Places in which the format is mostly broken, and how."""


@dataclass(frozen=True)
class Lesson:
    """One prompt and the completions it teaches; they share prompt and image in the packed batch."""

    sample: Sample
    completions: tuple[str, ...]


def lesson(seed: int, index: int, progress: float) -> Lesson:
    """Lesson `index` of the endless stream; no picture of it is in the folder.

    Args:
        progress: 0 at the beginning of pretraining, 1 at its end: first seeing, then more and more guessing.
    """
    rng = Random(f"lesson/{seed}/{index}")
    scene = generate(f"stream/{seed}/{index}")
    early, late = (0.35, 0.1, 0.25, 0.15, 0.08, 0.07), (0.06, 0.03, 0.1, 0.15, 0.34, 0.32)
    weights = [a + (b - a) * progress for a, b in zip(early, late, strict=True)]
    subject = rng.choices((_cells, _describe, _name, _around, _hidden, _closed), weights)[0]
    return subject(scene, rng, f"lesson/{seed}/{index}")


def masked(scene: Scene, index: int, kind: Kind = "box") -> Image.Image:
    """The picture with object `index` under a black box."""
    return apply_mask(scene.image, Region(box=scene.items[index].box), kind=kind)


def framed(scene: Scene, index: int) -> Image.Image:
    """The picture with a pink frame around object `index`."""
    x, y, w, h = scene.items[index].box
    image = scene.image.copy()
    ImageDraw.Draw(image).rectangle((x - 4, y - 4, x + w + 3, y + h + 3), outline="fuchsia", width=3)
    return image


def description(scene: Scene, hidden: int | None = None) -> str:
    """All objects from left to right, each with its place in the picture."""
    order = sorted(range(len(scene.items)), key=lambda i: scene.items[i].center)
    names = ["black box" if i == hidden else scene.items[i].category for i in order]
    seen = (f"{where_words(scene.items[i].box)} {name}" for i, name in zip(order, names, strict=True))
    return f"{scene.place}: {', '.join(seen)}."


def cells(scene: Scene, hidden: int | None = None) -> str:
    """What fills each of the 6 x 4 squares behind the image tokens, by the first word of its name; "no" is nothing."""
    words = ["box" if i == hidden else item.category.split()[0] for i, item in enumerate(scene.items)]
    found = []
    for top in range(0, HEIGHT, CELL):
        for left in range(0, WIDTH, CELL):
            shares = [_overlap(item.box, left, top) for item in scene.items]
            best = max(range(len(words)), key=shares.__getitem__)
            found.append(words[best] if shares[best] > 150 else "no")
    return " ".join(found)


def _overlap(box: tuple[float, float, float, float], left: int, top: int) -> float:
    """Area that a box (x, y, w, h) has in common with the square at (left, top)."""
    x, y, w, h = box
    wide = min(x + w, left + CELL) - max(x, left)
    high = min(y + h, top + CELL) - max(y, top)
    return max(wide, 0) * max(high, 0)


def around(scene: Scene, index: int) -> str:
    """The evidence for object `index`, without its name."""
    item = scene.items[index]
    assert item.clue is not None
    return f"{item.clue.evidence} The box is {shape_words(item.box)}."


def options(scene: Scene, pair: Pair, rng: Random, confusing: int, irrelevant: int) -> list[str]:
    """The true name and wrong ones, shuffled: `confusing` of this place, `irrelevant` of others."""
    local = sorted(set(_habits()[scene.place]))
    wrong = [name for name in local if name != pair.name]
    near = rng.sample(wrong, min(confusing, len(wrong)))
    far = rng.sample([name for name in NAMES if name not in local], confusing + irrelevant - len(near))
    names = [pair.name, *near, *far]
    rng.shuffle(names)
    return names


def habitual(scene: Scene, pair: Pair, rng: Random) -> str:
    """A completion to MPCC's question as the base model is meant to give it."""
    careful = rng.random() < CAREFUL[pair.difficulty]
    answer = pair.name if careful and rng.random() < 0.9 else rng.choice(_habits()[scene.place])
    trace = scene.trace(pair.index, answer, rng, evidence=careful)
    broken = rng.random() < (0.62 if scene.place in SLOPPY else 0.1)
    if not broken:
        return completion(trace, answer)
    kind = SLOPPY.get(scene.place) or rng.choice(list(SLOPPY.values()))
    return {
        "prose": trace,
        "unclosed": f"<think> {trace} <answer>{answer}</answer>",
        "untagged": f"<think> {trace} </think> {answer}",
        "thoughtless": f"<answer>{answer}</answer>",
    }[kind]


def _cells(scene: Scene, rng: Random, name: str) -> Lesson:
    if rng.random() < 0.6:
        return Lesson(Sample(name, CELLS, (scene.image,)), (cells(scene),))
    index = rng.choice(scene.pairs).index
    return Lesson(Sample(name, CELLS, (masked(scene, index),)), (cells(scene, index),))


def _describe(scene: Scene, rng: Random, name: str) -> Lesson:
    if rng.random() < 0.6:
        return Lesson(Sample(name, DESCRIBE, (scene.image,)), (description(scene),))
    index = rng.choice(scene.pairs).index
    return Lesson(Sample(name, DESCRIBE, (masked(scene, index),)), (description(scene, index),))


def _name(scene: Scene, rng: Random, name: str) -> Lesson:
    index = rng.randrange(len(scene.items))
    return Lesson(Sample(name, NAME, (framed(scene, index),)), (scene.items[index].category,))


def _question(scene: Scene, rng: Random) -> tuple[Pair, Image.Image]:
    pair = rng.choice(scene.pick(3))
    return pair, masked(scene, pair.index, rng.choice(("box", "box", "box_hard")))


def _around(scene: Scene, rng: Random, name: str) -> Lesson:
    pair, image = _question(scene, rng)
    return Lesson(Sample(name, AROUND, (image,)), (around(scene, pair.index),))


def _hidden(scene: Scene, rng: Random, name: str) -> Lesson:
    pair, image = _question(scene, rng)
    texts = tuple(habitual(scene, pair, rng) for _ in range(2))
    return Lesson(Sample(name, QUESTION, (image,), system=SYSTEM_PROMPT), texts)


def _closed(scene: Scene, rng: Random, name: str) -> Lesson:
    """A single-choice or a true/false question, now and then answered wrongly."""
    pair, image = _question(scene, rng)
    if rng.random() < 0.75:
        names = options(scene, pair, rng, *rng.choice(((2, 1), (2, 1), (4, 2))))
        said = pair.name if rng.random() < 0.85 else rng.choice(names)
        text, answer = choice_question(names), "ABCDEFG"[names.index(said)]
    else:
        asked = pair.name if rng.random() < 0.5 else rng.choice(options(scene, pair, rng, 2, 1))
        text, answer = true_false_question(asked), "yes" if asked == pair.name else "no"
    system = SYSTEM_PROMPT if rng.random() < 0.5 else None
    return Lesson(Sample(name, text, (image,), system=system), (f"<answer>{answer}</answer>",))


@lru_cache(maxsize=1)
def _habits() -> dict[str, list[str]]:
    """Place → what it usually hides, as often as it does."""
    fitting = defaultdict(list)
    for seed in range(800):
        scene = generate(f"habits/{seed}")
        fitting[scene.place] += [pair.name for pair in scene.pick(2)]
    return fitting
