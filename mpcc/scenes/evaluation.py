"""How good the tiny model is on held-out scenes: naming, format, hidden objects, choices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

from minigrpo import VLM, Sample, Sampling, generate
from mpcc.masks import Kind
from mpcc.prompts import QUESTION, SYSTEM_PROMPT, choice_question
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.scenes import world
from mpcc.scenes.curriculum import AROUND, NAME, framed, masked, options
from mpcc.scenes.folder import IMAGES, PAIRS_PER_IMAGE
from mpcc.scenes.world import Pair, Scene

Question = tuple[Scene, Pair]


def questions(split: str, images: int | None = None) -> list[Question]:
    """The pairs of the folder's split, those of its first `images` pictures if given."""
    scenes = (world.generate(f"{split}/{number}") for number in range(1, (images or IMAGES[split]) + 1))
    return [(scene, pair) for scene in scenes for pair in scene.pick(PAIRS_PER_IMAGE)]


def answers(vlm: VLM, samples: Sequence[Sample], temperature: float = 0.0, seed: int = 0) -> list[str]:
    """One completion of each sample, greedy by default."""
    sampling = Sampling(max_new_tokens=80, temperature=temperature)
    texts: list[str] = []
    for start in range(0, len(samples), 64):
        prompts = [vlm.encode(sample) for sample in samples[start : start + 64]]
        groups = generate(vlm, prompts, 1, sampling, seed=seed)
        texts += [vlm.decode(group.completions[0]) for group in groups]
    return texts


def hidden_samples(asked: Sequence[Question], kind: Kind = "box") -> list[Sample]:
    """MPCC's question on every pair."""
    return [
        Sample(f"{scene.seed}/{pair.index}", QUESTION, (masked(scene, pair.index, kind),), system=SYSTEM_PROMPT)
        for scene, pair in asked
    ]


def measure(vlm: VLM, images: int | None = None) -> dict[str, Any]:
    """Every figure, as shares between 0 and 1, on the held-out split (its first `images` pictures if given)."""
    asked = questions("val2017", images)
    figures: dict[str, Any] = {"pairs": len(asked), "naming": _naming(vlm, asked), "around": _around(vlm, asked)}
    figures |= {"choice_4": _choice(vlm, asked, None), "choice_4_think": _choice(vlm, asked, SYSTEM_PROMPT)}
    figures["greedy"] = _hidden(asked, answers(vlm, hidden_samples(asked)))
    figures["greedy_box_hard"] = _hidden(asked, answers(vlm, hidden_samples(asked, "box_hard")))
    figures["sampled"] = _hidden(asked, answers(vlm, hidden_samples(asked), temperature=1.0))
    figures["chance"] = 1 / len({pair.name for _, pair in asked})
    return figures


def _share(hits: Any) -> float:
    hits = [bool(hit) for hit in hits]
    return round(sum(hits) / len(hits), 4)


def _naming(vlm: VLM, asked: Sequence[Question]) -> float:
    """Objects in a pink frame, one of each scene, named right."""
    rng = Random("naming")
    targets = [(scene, rng.choice(scene.items)) for scene, _ in asked]
    said = answers(vlm, [Sample(f"name/{scene.seed}/{item.box}", NAME, (framed(scene, item.box),))
                         for scene, item in targets])
    return _share(text.strip() == item.category for text, (_, item) in zip(said, targets, strict=True))


def _around(vlm: VLM, asked: Sequence[Question]) -> float:
    """Sentences on what is around the box, evidence and what misleads, that are said word for word."""
    said = answers(vlm, [Sample(f"around/{scene.seed}/{pair.index}", AROUND, (masked(scene, pair.index),))
                         for scene, pair in asked])
    return _share(clue.text in text for text, (scene, pair) in zip(said, asked, strict=True)
                  for clue in scene.around(pair.index))


def _choice(vlm: VLM, asked: Sequence[Question], system: str | None) -> float:
    """Single choice among four: one irrelevant, two confusing, the true one (chance 0.25)."""
    rng = Random("choice")
    samples, letters = [], []
    for scene, pair in asked:
        names = options(scene, pair.name, rng, 2, 1)
        letters.append("ABCD"[names.index(pair.name)])
        image = masked(scene, pair.index)
        samples.append(Sample(f"choice/{scene.seed}", choice_question(names), (image,), system=system))
    said = answers(vlm, samples)
    return _share((parse_answer(text) or "").strip() == letter for text, letter in zip(said, letters, strict=True))


def _hidden(asked: Sequence[Question], said: Sequence[str]) -> dict[str, Any]:
    """Format, exact match over all pairs (an answer that cannot be read is wrong), and that by difficulty."""
    exact = [normalise(parse_answer(text) or "") == pair.name for text, (_, pair) in zip(said, asked, strict=True)]
    by_difficulty = defaultdict(list)
    for hit, (_, pair) in zip(exact, asked, strict=True):
        by_difficulty[pair.difficulty].append(hit)
    return {
        "format": _share(format_reward(text) for text in said),
        "exact_match": _share(exact),
        **{level: _share(by_difficulty[level]) for level in ("easy", "moderate", "hard") if by_difficulty[level]},
        "examples": list(said[:6]),
    }
