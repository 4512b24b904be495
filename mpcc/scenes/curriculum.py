"""What the tiny model is taught: to see, to follow the format, and to guess, each as imperfectly as a base model does.

It must leave something to reinforcement learning. So on the question of MPCC its answers have two *habits*: often it
reasons on the place alone and answers what is usually hidden there, and in some places it forgets a part of the format.
The evidence itself it is taught well, by questions that ask for it (MPCC, arXiv 2510.21807).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from string import ascii_uppercase

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
NAME_LETTER = "Which object is in the pink frame? {} Give the letter of your choice in <answer> </answer>."
NAME_YES_NO = "Is the object in the pink frame a {}? Give yes or no in <answer> </answer>."
AROUND = "What is around the black box?"

CELL = 40
"""Side in scene pixels of the square that one image token of the tiny model covers."""

CAREFUL = {"easy": 0.6, "moderate": 0.4, "hard": 0.3}
"""How often the habit is to look for evidence, by difficulty."""

GLANCE = 0.15
"""How often an answer without reasoning looks beyond what is usual in the place."""

SLOPPY = {"street": "prose", "kitchen": "unclosed", "farm": "untagged", "desk": "thoughtless", "beach": "prose"}
"""Places in which the format is mostly broken, and how."""


@dataclass(frozen=True)
class Lesson:
    """Questions about one picture, each with the completion it teaches; they share system prompt and image."""

    samples: tuple[Sample, ...]
    completions: tuple[str, ...]


def lesson(seed: int, index: int, progress: float) -> Lesson:
    """Lesson `index` of the endless stream; no picture of it is in the folder.

    Args:
        progress: 0 at the beginning of pretraining, 1 at its end: first seeing, then more and more guessing.
    """
    rng = Random(f"lesson/{seed}/{index}")
    scene = generate(f"stream/{seed}/{index}")
    early, late = (0.4, 0.4, 0.2), (0.1, 0.15, 0.75)
    weights = [a + (b - a) * progress for a, b in zip(early, late, strict=True)]
    system = SYSTEM_PROMPT if rng.random() < (0.1 + 0.4 * progress) else None
    image, asked = rng.choices((_whole, _frame, _mask), weights)[0](scene, rng, system is not None)
    samples = tuple(Sample(f"{scene.seed}/{i}", q, (image,), system) for i, (q, _) in enumerate(asked))
    return Lesson(samples, tuple(text for _, text in asked))


def letters(seed: int, index: int) -> Lesson:
    """A list of names and the letters of all of them, no picture: what a choice needs beside knowing the answer."""
    rng = Random(f"letters/{seed}/{index}")
    names = rng.sample(NAMES, rng.choice((2, 3, 4, 5, 6, 7)))
    asked = [f"{listed(names)} Give the letter of {name}." for name in names]
    samples = tuple(Sample(f"letters/{index}/{i}", question) for i, question in enumerate(asked))
    return Lesson(samples, tuple(stated(name, letter(names, name)) for name in names))


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


def options(scene: Scene, name: str, rng: Random, confusing: int, irrelevant: int) -> list[str]:
    """The name and wrong ones, shuffled: `confusing` of this place, `irrelevant` of others."""
    local = sorted(set(_habits()[scene.place]))
    wrong = [other for other in local if other != name]
    near = rng.sample(wrong, min(confusing, len(wrong)))
    far = rng.sample([n for n in NAMES if n != name and n not in local], confusing + irrelevant - len(near))
    names = [name, *near, *far]
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


Asked = list[tuple[str, str]]
"""Questions and what they are to be answered."""


def _whole(scene: Scene, rng: Random, thinks: bool) -> tuple[Image.Image, Asked]:
    return scene.image, [(CELLS, cells(scene)), (DESCRIBE, description(scene))]


def _frame(scene: Scene, rng: Random, thinks: bool) -> tuple[Image.Image, Asked]:
    """Naming what is in sight, and the same by letter and by yes or no: the forms, without any guessing."""
    index = rng.randrange(len(scene.items))
    name = scene.items[index].category
    names = options(scene, name, rng, *rng.choice(((2, 1), (4, 2))))
    said = name if rng.random() < 0.5 else rng.choice(options(scene, name, rng, 2, 1))
    return framed(scene, index), [
        (NAME, name),
        (NAME_LETTER.format(listed(names)), stated(name, letter(names, name))),
        (NAME_YES_NO.format(said), stated(name, "yes" if said == name else "no")),
    ]


def _mask(scene: Scene, rng: Random, thinks: bool) -> tuple[Image.Image, Asked]:
    pair = rng.choice(scene.pick(3))
    image = masked(scene, pair.index, rng.choice(("box", "box", "box_hard")))
    see = {AROUND: around(scene, pair.index), CELLS: cells(scene, pair.index), DESCRIBE: description(scene, pair.index)}
    names = options(scene, pair.name, rng, *rng.choice(((2, 1), (4, 2))))
    said = pair.name if rng.random() < 0.5 else rng.choice(options(scene, pair.name, rng, 2, 1))

    def concluded(asked: Callable[[str], str], guesses: list[str]) -> str:
        """What a guess at the object makes of the question: `asked` turns the guess into the answer."""
        careful = rng.random() < (CAREFUL[pair.difficulty] if thinks else GLANCE)
        guess = pair.name if careful else rng.choice(guesses)
        if not thinks:
            return stated(guess, asked(guess))
        return completion(scene.trace(pair.index, guess, rng, evidence=careful), asked(guess))

    habits = _habits()[scene.place]
    return image, [
        rng.choice((*see.items(), (AROUND, see[AROUND]))),
        (QUESTION, habitual(scene, pair, rng)),
        (choice_question(names), concluded(lambda name: letter(names, name), [n for n in habits if n in names])),
        (true_false_question(said), concluded(lambda name: "yes" if name == said else "no", habits)),
    ]


def stated(name: str, answer: str) -> str:
    """An answer other than the name, after the name: to look up a name just said is far easier than one to be seen."""
    return f"{name} <answer>{answer}</answer>"


def listed(names: list[str]) -> str:
    """Options as a choice question lists them."""
    return " ".join(f"{label}.{name}" for label, name in zip(ascii_uppercase, names, strict=False))


def letter(names: list[str], name: str) -> str:
    """The letter of an option."""
    return ascii_uppercase[names.index(name)]


@lru_cache(maxsize=1)
def _habits() -> dict[str, list[str]]:
    """Place → what it usually hides, as often as it does."""
    fitting = defaultdict(list)
    for seed in range(800):
        scene = generate(f"habits/{seed}")
        fitting[scene.place] += [pair.name for pair in scene.pick(2)]
    return fitting
