"""What a base for MMRPT is taught beside the other lessons: to write captions, to see what they name, and to fill gaps.

As on the question of MPCC (`mpcc.scenes.curriculum`) its answers have habits that leave something to learn: what stands
where it is taught to say, asked for that alone; but into a gap it often writes what is usual in the place, without a
look, and in some places it forgets a part of the format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from random import Random
from statistics import fmean

from PIL import Image

from minigrpo import VLM, Sample
from mpcc.mmrpt.captions import Caption, scene_caption
from mpcc.mmrpt.masks import Masked, tells
from mpcc.mmrpt.questions import gap_question
from mpcc.mmrpt.spans import Span, parts_of
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.scenes.curriculum import CAREFUL, HASTY, SELDOM, Lesson, worded
from mpcc.scenes.evaluation import answers
from mpcc.scenes.world import generate

WHERE = "What is {}?"
GAPS = 2
"""Captions with a gap about one picture."""
SENTENCES, OTHERS = 0.15, 0.2
"""How often the gap is a whole sentence, and otherwise how often a span that may tell nothing of the picture."""


def caption_lesson(seed: int, index: int, progress: float) -> Lesson:
    """Lesson `index` of the endless stream: a picture's caption, what stands in each of its places, and some gaps.

    Args:
        progress: 0 at the beginning of pretraining, 1 at its end, as of `mpcc.scenes.curriculum.lesson`.
    """
    rng = Random(f"caption lesson/{seed}/{index}")
    scene = generate(f"captions/stream/{seed}/{index}")
    caption = scene_caption(scene, scene.seed)
    system = SYSTEM_PROMPT if rng.random() < 0.1 + 0.4 * progress else None
    asked = [(caption.question, caption.text)]
    asked += [(WHERE.format(place), thing) for place, thing in told(caption).values()]
    asked += [(gap_question(Masked(caption, part)), habitual(caption, part, rng)) for part in _gaps(caption, rng)]
    samples = tuple(Sample(f"{scene.seed}/{i}", q, (scene.image,), system) for i, (q, _) in enumerate(asked))
    return Lesson(samples, tuple(text for _, text in asked))


def told(caption: Caption) -> dict[Span, tuple[str, str]]:
    """What a scene's caption names: the span of the thing → where it is ("at the back left"), and the thing."""
    found = {}
    for start, end in parts_of(caption.text, "sentence"):
        inside = [span for span in parts_of(caption.text, "span") if start <= span[0] < end and tells(caption, span)]
        for span in inside:
            where = caption.text[start : span[0]].removesuffix(" is ").removesuffix(" you see ")
            found[span] = where[0].lower() + where[1:], caption.text[slice(*span)]
    return found


def habitual(caption: Caption, part: Span, rng: Random) -> str:
    """What a base writes into the gap: the place looked up, or what is usual there; the format as it has the habit."""
    text = Masked(caption, part).missing
    inside = [named for span, named in told(caption).items() if part[0] <= span[0] < part[1]]
    if not inside:
        return worded(caption.subject, "The words go on like this.", text, rng)
    where, thing = inside[0]
    careful = rng.random() < (SELDOM if caption.subject in HASTY else CAREFUL)
    if careful:
        return worded(caption.subject, f"{where[0].upper()}{where[1:]} I see {thing}.", text, rng)
    guess = rng.choice(_usual()[caption.subject, _row(where)])
    trace = f"This is a {caption.subject}. Usually it is {guess}."
    return worded(caption.subject, trace, text.replace(thing, guess), rng)


def caption_texts(count: int = 1000) -> Iterator[str]:
    """Texts of captions for the tokenizer, and all words of the questions."""
    for index in range(count):
        rng = Random(f"caption texts/{index}")
        scene = generate(f"captions/texts/{index}")
        caption = scene_caption(scene, scene.seed)
        yield from (caption.question, caption.text, *(WHERE.format(place) for place, _ in told(caption).values()))
        for part in _gaps(caption, rng):
            yield gap_question(Masked(caption, part))
            yield habitual(caption, part, rng)


def gaps_filled(vlm: VLM, count: int = 200) -> dict[str, float]:
    """Gaps that the model fills word for word, and whole formats, as shares; things of captions held out.

    Asked with the system prompt, greedily; and with a black picture.
    """
    rng, samples, truths = Random("gaps filled"), [], []
    for index in range(count):
        scene = generate(f"captions/measured/{index}")
        caption = scene_caption(scene, scene.seed)
        part, (_, thing) = rng.choice(sorted(told(caption).items()))
        samples.append(Sample(scene.seed, gap_question(Masked(caption, part)), (scene.image,), SYSTEM_PROMPT))
        truths.append(thing)
    black = [replace(s, id=f"{s.id}/black", images=tuple(Image.new("RGB", i.size) for i in s.images)) for s in samples]
    said, blind = answers(vlm, samples), answers(vlm, black)

    def right(texts: list[str]) -> float:
        return fmean(normalise(parse_answer(text) or "") == normalise(thing)
                     for text, thing in zip(texts, truths, strict=True))

    return {"exact": right(said), "exact_black": right(blind), "format": fmean(map(format_reward, said))}


def _row(where: str) -> str:
    """What is usual depends on it: the row of an object, "at the back" of "at the back left"; props have none."""
    return where.rpartition(" ")[0] if where.startswith("at ") else "near"


def _gaps(caption: Caption, rng: Random) -> list[Span]:
    """Up to `GAPS` parts of a caption, mostly things that it names."""
    sentences, spans, things = parts_of(caption.text, "sentence"), parts_of(caption.text, "span"), list(told(caption))
    chosen = []
    for _ in range(GAPS):
        kind = sentences if rng.random() < SENTENCES else spans if rng.random() < OTHERS or not things else things
        chosen.append(rng.choice(kind))
    return list(dict.fromkeys(chosen))


@lru_cache(maxsize=1)
def _usual() -> dict[tuple[str, str], list[str]]:
    """Kind of place, and row in the picture → what captions name there, as often as they do."""
    found = defaultdict(list)
    for seed in range(800):
        scene = generate(f"captions/usual/{seed}")
        caption = scene_caption(scene, scene.seed)
        for where, thing in told(caption).values():
            found[caption.subject, _row(where)].append(thing)
    return found
