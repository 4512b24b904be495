"""The reward of MPCC Eq. 3, R(a, o) = r_fmt + 1{a = o} + (1 - lev(a, o)), with its gaps resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

Variant = Literal["eq3", "scripted"]
Similarity = Literal["distance", "indel"]

TAGS = ("<think>", "</think>", "<answer>", "</answer>")

REWARD_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "eq3": {"format": 1.0, "exact": 1.0, "levenshtein": 1.0},
    "scripted": {"format": 0.6, "exact": 0.0, "levenshtein": 1.0},
}
"""`eq3`: MPCC Eq. 3, in [0, 3]. `scripted`: what the authors' scripts add up, in [0, 1.6]; there the
Levenshtein term is the indel ratio, and the exact match is reported without weight."""

_FORMAT = re.compile(r"<think>.*</think>\s*<answer>.*</answer>", re.DOTALL)
_ANSWER = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)


def format_reward(completion: str) -> float:
    """r_fmt of MPCC Eq. 3: 1 if the whole completion is `<think>…</think>` white space `<answer>…</answer>`, else 0.

    Each tag stands exactly once, in lower case, and nothing stands before the first or after the last.
    """
    once = all(completion.count(tag) == 1 for tag in TAGS)
    return float(once and _FORMAT.fullmatch(completion) is not None)


def parse_answer(completion: str) -> str | None:
    """The text between `<answer>` and `</answer>` as it stands, also where the format is bad; None where there is none.

    Of several answers the last whole one counts: it is the one the model settled on, and naming many earns nothing.
    """
    answers = _ANSWER.findall(completion)
    return answers[-1] if answers else None


def normalise(text: str) -> str:
    """Lower case, white space stripped and collapsed, without a final full stop and a leading article."""
    text = " ".join(text.lower().split())
    text = text.removesuffix(".").rstrip()
    return re.sub(r"^(?:a|an|the) ", "", text)


def levenshtein_distance(a: str, b: str, substitution: int = 1) -> int:
    """The least number of insertions, deletions and substitutions from `a` to `b`, weighing 1, 1 and `substitution`."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            replaced = diagonal + (0 if left == right else substitution)
            diagonal = row[j]
            row[j] = min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def distance_similarity(a: str, b: str) -> float:
    """1 - d/max(len) with the Levenshtein distance d, in [0, 1] (the default). Two empty texts are equal: 1."""
    longest = max(len(a), len(b))
    return 1.0 - levenshtein_distance(a, b) / longest if longest else 1.0


def indel_ratio(a: str, b: str) -> float:
    """1 - d/(len a + len b), d counting insertions and deletions only, in [0, 1] (an option)."""
    total = len(a) + len(b)
    # a substitution is one deletion and one insertion
    return 1.0 - levenshtein_distance(a, b, substitution=2) / total if total else 1.0


def reward_terms(
    completions: Sequence[str], answer: str, variant: Variant = "eq3", levenshtein: Similarity = "distance"
) -> dict[str, list[float]]:
    """The terms of MPCC Eq. 3, unweighted and each in [0, 1], for completions that answer the same question.

    Without an answer both answer terms are 0; an answer in a bad format keeps them. Compared are normalised texts.

    Args:
        completions: N texts.
        answer: The ground truth o.
        variant: `eq3` or `scripted`; the latter fixes the similarity to the indel ratio.
        levenshtein: `distance` or `indel`, the similarity under `eq3`.

    Returns:
        `format`, `exact` and `levenshtein`, lists of N numbers. `REWARD_WEIGHTS[variant]` weighs them.

    Raises:
        ValueError: the ground truth is empty once normalised: nothing could be told from it.
    """
    truth = normalise(answer)
    if not truth:
        raise ValueError(f"the true answer {answer!r} is empty: a pair needs the name of its hidden object")
    similarity = indel_ratio if variant == "scripted" or levenshtein == "indel" else distance_similarity
    given = [normalise(parse_answer(completion) or "") for completion in completions]
    return {
        "format": [format_reward(completion) for completion in completions],
        "exact": [float(text == truth) for text in given],
        "levenshtein": [similarity(text, truth) for text in given],
    }
