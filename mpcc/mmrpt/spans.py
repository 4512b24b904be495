"""Parts of a caption that can be hidden: its sentences, or spans within them, noun phrases as far as words tell."""

from __future__ import annotations

import re
from typing import Literal

from mpcc.crm.steps import Span, split_steps

Granularity = Literal["auto", "sentence", "span"]

GAP = "___"
"""What stands for a hidden part."""
LONGEST = 6
"""Words of a span; a longer one is cut into even windows."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_OPENERS = """
a an the this these those his her its their my your our some any no each every another one two three four five six seven
eight nine ten several many few
"""
_OPENS = frozenset(_OPENERS.split())
"""Words that open a noun phrase."""
_OTHERS = """
about above across after along among and are around as at away be been before behind being below beneath beside besides
between but by can could do does down during for from had has have he i if in inside into is it just like near next nor
not of off on onto or out outside over past she so than that there they through to together toward towards under
underneath until up upon was we were what when where which while who will with within without would you
"""
_BREAKS = frozenset(_OTHERS.split())
"""Words that belong to none: prepositions, conjunctions, pronouns, auxiliary verbs."""


def word_spans(text: str) -> list[Span]:
    """Where each word stands, in characters."""
    return [match.span() for match in _WORD.finditer(text)]


def parts_of(text: str, granularity: Granularity) -> list[Span]:
    """The parts of a caption that can be hidden, in characters and in order; none overlaps another.

    `auto` takes sentences where there are two or more, else spans.
    """
    sentences = split_steps(text)
    if granularity == "sentence" or (granularity == "auto" and len(sentences) > 1):
        return sentences
    return [span for sentence in sentences for span in _spans(text, *sentence)]


def hidden(text: str, part: Span) -> str:
    """The caption with a gap in place of a part."""
    return text[: part[0]] + GAP + text[part[1] :]


def _spans(text: str, start: int, end: int) -> list[Span]:
    """Runs of words: an article opens one; a word of `_BREAKS`, a comma, or a participle behind a noun ends it."""
    found: list[list[Span]] = [[]]
    place = start
    for match in _WORD.finditer(text, start, end):
        word = match[0].lower()
        behind_noun = any(text[a:b].lower() not in _OPENS for a, b in found[-1])
        cut = text[place : match.start()].strip() or word in _OPENS | _BREAKS
        if cut or (behind_noun and word.endswith("ing")):
            found.append([])
        if word not in _BREAKS:
            found[-1].append(match.span())
        place = match.end()
    whole = [words for words in found if any(text[a:b].lower() not in _OPENS for a, b in words)]
    return [(piece[0][0], piece[-1][1]) for words in whole for piece in _windows(words)]


def _windows(words: list[Span]) -> list[list[Span]]:
    """Even pieces of at most `LONGEST` words."""
    count = -(-len(words) // LONGEST)
    return [words[len(words) * i // count : len(words) * (i + 1) // count] for i in range(count)]
