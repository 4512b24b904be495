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
from mpcc.scenes.canvas import HEIGHT, WIDTH, Box, overlap
from mpcc.scenes.categories import NAMES
from mpcc.scenes.places import PLACES
from mpcc.scenes.world import Pair, Scene, conclusion, generate, where_words

DESCRIBE = "Describe the image."
NAME = "Which object is in the pink frame?"
NAME_LETTER = "Which object is in the pink frame? {} Give the letter of your choice in <answer> </answer>."
NAME_YES_NO = "Is the object in the pink frame a {}? Give yes or no in <answer> </answer>."
AROUND = "What is around the black box?"
SIDES = {side: f"What is {side} {'of ' if side in ('left', 'right') else ''}the black box?"
         for side in ("above", "below", "left", "right")}

CELL = 28
"""Side in scene pixels of the square that one image token of the tiny model covers."""

CAREFUL = 0.5
"""How often the habit is to look for evidence."""
HASTY, SELDOM = ("beach", "farm", "kitchen", "bedroom", "ski slope", "desk"), 0.15
"""Kinds of scene in which it is not, and how often it is there all the same."""

GLANCE = 0.15
"""How often an answer without reasoning looks beyond what is usual in the place."""

SLOPPY = {"street": "prose", "kitchen": "unclosed", "farm": "untagged", "desk": "thoughtless", "beach": "prose"}
"""Places in which the format is mostly broken, and how."""


@dataclass(frozen=True)
class Lesson:
    """Questions about one picture, each with the completion it teaches; they share system prompt and image."""

    samples: tuple[Sample, ...]
    completions: tuple[str, ...]


def lesson(seed: int, index: int, progress: float, plain: bool = False) -> Lesson:
    """Lesson `index` of the endless stream; no picture of it is in the folder.

    Args:
        progress: 0 at the beginning of pretraining, 1 at its end: first seeing, then more and more guessing.
        plain: No trace, no tag and no system prompt, for a base that knows nothing of the answer format.
    """
    rng = Random(f"lesson/{seed}/{index}")
    scene = generate(f"stream/{seed}/{index}")
    early, late = (0.1, 0.45, 0.45, 0.0), (0.05, 0.1, 0.15, 0.7)
    share = min(1.0, 1.6 * progress)
    weights = [a + (b - a) * share for a, b in zip(early, late, strict=True)]
    system = SYSTEM_PROMPT if rng.random() < (0.1 + 0.4 * progress) and not plain else None
    taught = (_whole, _frame, _sides, _plain_mask if plain else _mask)
    image, asked = rng.choices(taught, weights)[0](scene, rng, system)
    if plain:
        asked = [(question, answer) for question, answer in asked if "<answer>" not in answer]
    samples = tuple(Sample(f"{scene.seed}/{i}", q, (image,), system) for i, (q, _) in enumerate(asked))
    return Lesson(samples, tuple(text for _, text in asked))


def letters(seed: int, index: int, plain: bool = False, traced: bool = False) -> Lesson:
    """A list of names and the letters of all of them, no picture: what a choice needs beside knowing the answer.

    The letter follows the bare name, or every other time, where `traced`, a trace that ends in it.
    """
    rng = Random(f"letters/{seed}/{index}")
    names = rng.sample(NAMES, rng.choice((2, 3, 4, 5, 6, 7)))
    asked = [f"{listed(names)} Give the letter of {name}." for name in names]
    samples = tuple(Sample(f"letters/{index}/{i}", question) for i, question in enumerate(asked))
    said = []
    for name in names:
        answer = letter(names, name)
        if plain:
            said.append(f"{name} {answer}")
        elif traced and rng.random() < 0.5:
            said.append(completion(conclusion(name, rng), answer))
        else:
            said.append(stated(name, answer))
    return Lesson(samples, tuple(said))


def masked(scene: Scene, index: int, kind: Kind = "box") -> Image.Image:
    """The picture with object `index`, and what is hidden with it, under a black box."""
    return apply_mask(scene.image, Region(box=scene.items[index].hidden), kind=kind)


def framed(scene: Scene, box: Box) -> Image.Image:
    """The picture with a pink frame around a box (x, y, w, h)."""
    x, y, w, h = box
    image = scene.image.copy()
    ImageDraw.Draw(image).rectangle((x - 4, y - 4, x + w + 3, y + h + 3), outline="fuchsia", width=2)
    return image


def description(scene: Scene, hidden: int | None = None) -> str:
    """All objects from left to right, each with its place in the picture."""
    order = sorted(range(len(scene.items)), key=lambda i: scene.items[i].center)
    names = ["black box" if i == hidden else scene.items[i].category for i in order]
    seen = (f"{where_words(scene.items[i].box)} {name}" for i, name in zip(order, names, strict=True))
    return f"{scene.place}: {', '.join(seen)}."


def contents(scene: Scene, hidden: int | None = None, frame: Box | None = None) -> list[str]:
    """The name of what fills most of each of the 8 x 6 squares behind the image tokens, row by row; "" is nothing.

    After the name stands what it is to the mask or the frame: "milk can left", "dog frame".
    """
    things = [("box", item.hidden) if i == hidden else (item.category, item.box) for i, item in enumerate(scene.items)]
    things += [(prop.name, box) for prop, box in scene.props]
    clues = [] if hidden is None else scene.around(hidden)
    marks = [("frame", frame)] if frame else [(clue.relation, clue.box) for clue in clues]
    for mark, region in marks:
        things = [(f"{name} {mark}" if name != "box" and overlap(box, region) > box[2] * box[3] / 2 else name, box)
                  for name, box in things]
    found = []
    for top in range(0, HEIGHT, CELL):
        for left in range(0, WIDTH, CELL):
            shares = [overlap(box, (left, top, CELL, CELL)) for _, box in things]
            best = max(range(len(things)), key=shares.__getitem__)
            found.append(things[best][0] if shares[best] > CELL * CELL / 16 else "")
    return found


def around(scene: Scene, index: int) -> str:
    """What stands around hidden object `index`, without its name."""
    return " ".join(clue.text for clue in scene.around(index))


def options(scene: Scene, name: str, rng: Random, confusing: int, irrelevant: int) -> list[str]:
    """The name and wrong ones, shuffled: `confusing` of this place, `irrelevant` of others."""
    local = sorted(PLACES[scene.place].here)
    wrong = [other for other in local if other != name]
    near = rng.sample(wrong, min(confusing, len(wrong)))
    far = rng.sample([n for n in NAMES if n != name and n not in local], confusing + irrelevant - len(near))
    names = [name, *near, *far]
    rng.shuffle(names)
    return names


def carefulness(scene: Scene) -> float:
    """How often the habit in a scene is to look for evidence, whatever the evidence demands."""
    return SELDOM if scene.place in HASTY else CAREFUL


def habitual(scene: Scene, pair: Pair, rng: Random) -> str:
    """A completion to MPCC's question as the base model is meant to give it."""
    careful = rng.random() < carefulness(scene)
    answer = pair.name if careful else rng.choice(_habits()[scene.place])
    trace = scene.trace(pair.index, answer, rng, evidence=careful)
    return worded(scene.place, trace, answer, rng)


def worded(place: str, trace: str, answer: str, rng: Random) -> str:
    """A completion in the format that the base model has the habit of, which it breaks mostly in some places."""
    broken = rng.random() < (0.62 if place in SLOPPY else 0.1)
    if not broken:
        return completion(trace, answer)
    kind = SLOPPY.get(place) or rng.choice(list(SLOPPY.values()))
    return {
        "prose": trace,
        "unclosed": f"<think> {trace} <answer>{answer}</answer>",
        "untagged": f"<think> {trace} </think> {answer}",
        "thoughtless": f"<answer>{answer}</answer>",
    }[kind]


Asked = list[tuple[str, str]]
"""Questions and what they are to be answered."""


def _whole(scene: Scene, rng: Random, system: str | None) -> tuple[Image.Image, Asked]:
    return scene.image, [(DESCRIBE, description(scene))]


def _frame(scene: Scene, rng: Random, system: str | None) -> tuple[Image.Image, Asked]:
    """Naming what is in sight; for objects, the same by letter and by yes or no: the forms, without any guessing."""
    if scene.props and rng.random() < 0.4:
        prop, box = rng.choice(scene.props)
        return framed(scene, box), [(NAME, prop.name)]
    item = rng.choice(scene.items)
    name = item.category
    names = options(scene, name, rng, *rng.choice(((2, 1), (4, 2))))
    said = name if rng.random() < 0.5 else rng.choice(options(scene, name, rng, 2, 1))
    return framed(scene, item.box), [
        (NAME, name),
        (NAME_LETTER.format(listed(names)), stated(name, letter(names, name))),
        (NAME_YES_NO.format(said), stated(name, "yes" if said == name else "no")),
    ]


def _sides(scene: Scene, rng: Random, system: str | None) -> tuple[Image.Image, Asked]:
    """What stands on each side of the mask, in a bare name."""
    index = rng.choice(scene.pairs).index
    beside = {clue.relation: clue.name for clue in scene.around(index) if clue.name}
    return masked(scene, index), [(question, beside.get(side, "nothing")) for side, question in SIDES.items()]


def _seen(scene: Scene, pair: Pair, rng: Random) -> tuple[str, str]:
    """A question on what can be seen beside the mask."""
    seen = (AROUND, around(scene, pair.index))
    return rng.choice((seen, seen, seen, (DESCRIBE, description(scene, pair.index))))


def _plain_mask(scene: Scene, rng: Random, system: str | None) -> tuple[Image.Image, Asked]:
    """The hidden object in a bare name, often no more than what is usual in the place."""
    pair = rng.choice(scene.pick(3))
    guess = pair.name if rng.random() < carefulness(scene) else rng.choice(_habits()[scene.place])
    return masked(scene, pair.index), [_seen(scene, pair, rng), (QUESTION, guess)]


def _mask(scene: Scene, rng: Random, system: str | None) -> tuple[Image.Image, Asked]:
    pair = rng.choice(scene.pick(3))
    image = masked(scene, pair.index, rng.choice(("box", "box", "box_hard")))
    names = options(scene, pair.name, rng, *rng.choice(((2, 1), (4, 2))))
    said = pair.name if rng.random() < 0.5 else rng.choice(options(scene, pair.name, rng, 2, 1))

    def concluded(asked: Callable[[str], str], guesses: list[str]) -> str:
        """What a guess at the object makes of the question: `asked` turns the guess into the answer."""
        careful = rng.random() < (carefulness(scene) if system else GLANCE)
        guess = pair.name if careful else rng.choice(guesses)
        if not system:
            return stated(guess, asked(guess))
        return completion(scene.trace(pair.index, guess, rng, evidence=careful), asked(guess))

    habits = _habits()[scene.place]
    chosen = concluded(lambda name: letter(names, name), [n for n in habits if n in names])
    judged = concluded(lambda name: "yes" if name == said else "no", habits)
    return image, [
        _seen(scene, pair, rng),
        (QUESTION, habitual(scene, pair, rng)),
        rng.choice(((choice_question(names), chosen), (true_false_question(said), judged))),
    ]


def stated(name: str, answer: str) -> str:
    """An answer other than the name, after the name: to look up a name just said is far easier than one to be seen."""
    return f"{name}<answer>{answer}</answer>"


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
