"""What a reconstruction earns: semantic agreement with the missing words, and what the picture adds to its likelihood.

The semantic terms are an exact match and the F1 of words. Neither pays for what the caption says already: repeating it,
or any other sentence of its pattern, earns nothing. Nor does naming many: k guesses in one answer, one of them right,
earn an F1 of 2 / (k + 1), and are never exact.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from minigrpo import Completion
from mpcc.crm.steps import Span, tokens_of
from mpcc.rewards import format_reward, normalise, parse_answer

_WORD = re.compile(r"\w+")
_ARTICLES = frozenset(("a", "an", "the"))


def semantic_terms(completions: Sequence[str], truth: str, rest: str) -> dict[str, list[float]]:
    """`format`, `exact` and `f1` of completions that fill the same gap, each in [0, 1]; without an answer the last two
    are 0.

    Args:
        truth: The missing words.
        rest: The caption around them.
    """
    given = [parse_answer(completion) or "" for completion in completions]
    return {
        "format": [format_reward(completion) for completion in completions],
        "exact": [float(normalise(answer) == normalise(truth)) for answer in given],
        "f1": [f1(answer, truth, rest) for answer in given],
    }


def f1(answer: str, truth: str, rest: str) -> float:
    """The lower one of two F1 scores, each in [0, 1]: of all words, and of those that the rest of the caption lacks.

    F1 is 2 · common / (words of the answer + words of the truth), a word counted as often as both have it; letter case
    and articles do not count. Where all of the truth's words stand in the rest, the first is the score.
    """
    given = set(_words(rest))
    answered, true = Counter(_words(answer)), Counter(_words(truth))
    score, new = _overlap(answered, true), _without(true, given)
    return min(score, _overlap(_without(answered, given), new)) if new else score


def gain(completion: Completion, seen: Tensor, blind: Tensor) -> float | None:
    """By how many nats a token the picture makes the answer likelier, where it is first said; None without an answer.

    Once said, in the reasoning, an answer is copied: what the picture has to do with it shows where it is said first.

    Args:
        completion: With its spans.
        seen, blind: Log-probabilities [T] of its tokens, given the picture and given the blind view.
    """
    start, end = tokens_of(answer_place(completion.text) or (0, 0), completion.spans)
    return float((seen[start:end] - blind[start:end]).double().mean()) if end > start else None


def visual(found: float | None) -> float:
    """The visual term for a gain: its sigmoid, 0.5 where the picture adds nothing; 0 without an answer."""
    return 0.0 if found is None else 1 / (1 + math.exp(-max(-500.0, min(found, 500.0))))


def answer_place(completion: str) -> Span | None:
    """Where the answer's words stand for the first time, in characters, be it in the reasoning; None without any."""
    words = normalise(parse_answer(completion) or "")
    if not words:
        return None
    pattern = r"\s+".join(map(re.escape, words.split()))
    found = re.search(rf"(?<!\w){pattern}(?!\w)", completion, re.IGNORECASE)
    return found.span() if found else None


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]


def _without(words: Counter[str], left_out: set[str]) -> Counter[str]:
    return Counter({word: count for word, count in words.items() if word not in left_out})


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0
