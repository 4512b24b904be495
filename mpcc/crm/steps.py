"""The steps of a completion: its sentences outside the tags, each with where it stands, in characters and in tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from minigrpo import VLM

Span = tuple[int, int]
"""Begin and end, the end exclusive: of characters in a completion's text, or of its tokens."""

_TAG = re.compile(r"</?(?:think|answer)>")
_ANSWER = re.compile(r"<answer>((?:(?!</?answer>).)*)(?:</answer>|$)", re.DOTALL)
_END = re.compile(r"[.!?…]+[\"'”’)\]*]*(?=\s)|\n+")
_SHORT = re.compile(
    r"(?:^|[\s(\"'])(?:e\.g|i\.e|cf|vs|ca|approx|resp|incl|fig|no|nr|st|mt|mr|mrs|ms|dr|prof|jr|sr|[a-z])\.$",
    re.IGNORECASE,
)
"""An abbreviation or initial at the end of a text: the full stop behind it ends no sentence."""
_PERHAPS = re.compile(r"(?:^|\s)(?:etc|al|u\.s|a\.m|p\.m)\.$", re.IGNORECASE)
"""The same, which ends one where a capital letter follows."""


@dataclass(frozen=True)
class Step:
    """A sentence of the reasoning: its text, and where that stands in the completion, in characters and in tokens."""

    text: str
    chars: Span
    tokens: Span


def read_steps(vlm: VLM, completion: Tensor) -> list[Step]:
    """The steps of a completion, int64 [n], in their order.

    A token belongs to every step of which it holds a character, the blank before the first letter included.
    """
    text, spans = vlm.decode(completion), vlm.token_spans(completion)
    return [Step(text[start:end], (start, end), tokens_of((start, end), spans)) for start, end in split_steps(text)]


def split_steps(completion: str) -> list[Span]:
    """Where the sentences of a completion stand, in characters: outside the tags, the text of the answer left out.

    A sentence without a word joins the one before it, or the first one behind it where none is before.
    """
    steps: list[Span] = []
    begun: int | None = None  # of a first sentence without a word
    for start, end in _sentences(completion):
        if not any(character.isalpha() for character in completion[start:end]):
            if steps:
                steps[-1] = (steps[-1][0], end)
            elif begun is None:
                begun = start
            continue
        steps.append((start if begun is None else begun, end))
        begun = None
    return steps


def answer_span(completion: str) -> Span | None:
    """Where the text of the last answer stands, without blanks around it; None where there is none."""
    found = list(_ANSWER.finditer(completion))
    return _trimmed(completion, *found[-1].span(1)) if found else None


def tokens_of(chars: Span, spans: Sequence[Span]) -> Span:
    """The tokens that hold a character between two places; (0, 0) where none does."""
    inside = [i for i, (start, end) in enumerate(spans) if max(start, chars[0]) < min(end, chars[1])]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _sentences(completion: str) -> list[Span]:
    found = []
    answers = [match.span() for match in _ANSWER.finditer(completion)]
    place = 0
    cuts = sorted([*answers, *(match.span() for match in _TAG.finditer(completion))])
    for start, end in [*cuts, (len(completion), len(completion))]:
        if start > place:
            found += _cut(completion, place, start)
        place = max(place, end)
    return found


def _cut(completion: str, start: int, end: int) -> list[Span]:
    """The sentences between two places."""
    found, text = [], completion[:end]
    for match in _END.finditer(text, start):
        before, after = text[start : match.end()], text[match.end() :].lstrip()
        goes_on = _SHORT.search(before) or (_PERHAPS.search(before) and not after[:1].isupper())
        if match[0].isspace() or not goes_on:
            found.append((start, match.end()))
            start = match.end()
    pieces = [_trimmed(completion, *piece) for piece in [*found, (start, end)]]
    return [piece for piece in pieces if piece[0] < piece[1]]


def _trimmed(text: str, start: int, end: int) -> Span:
    """The span without blanks at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
