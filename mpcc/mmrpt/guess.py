"""What a gap can be filled with without the picture: the most frequent words of training gaps in the same context."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from mpcc.mmrpt.masks import Masked
from mpcc.mmrpt.spans import GAP
from mpcc.rewards import normalise

ENOUGH = 3
"""Training gaps that a context must have had; else a wider one is asked."""

Context = tuple[str, ...]


class TextGuess:
    """Guesses from the kind of picture and the words beside the gap, the closest context that training knows.

    What the caption says already is not guessed again.

    Args:
        training: The training captions with their gaps.
    """

    def __init__(self, training: Sequence[Masked]) -> None:
        self._known: dict[Context, Counter[str]] = defaultdict(Counter)
        for masked in training:
            for context in _contexts(masked):
                self._known[context][normalise(masked.missing)] += 1

    def __call__(self, masked: Masked) -> str:
        """The guess, normalised (`mpcc.rewards.normalise`); empty where nothing is known."""
        said = f" {' '.join(_words(masked.rest))} "
        for context in _contexts(masked):
            known = self._known.get(context, Counter())
            fresh = [guess for guess, _ in known.most_common() if f" {guess} " not in said]
            if known.total() >= ENOUGH and fresh:
                return fresh[0]
        return ""


def _contexts(masked: Masked) -> Iterator[Context]:
    """From the closest to the widest."""
    before, _, after = masked.rest.partition(GAP)
    left, right, subject = _words(before), _words(after), masked.caption.subject
    yield ("left 4", subject, *left[-4:])
    yield ("left 2", subject, *left[-2:])
    yield ("beside", subject, *left[-1:], "", *right[:1])
    yield ("subject", subject)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
