"""Which regions a step of reasoning names: the names of what a clue speaks of, and where a text holds them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mpcc.build.names import mentioned
from mpcc.crm.regions import Region
from mpcc.crm.steps import Span
from mpcc.words import STOP_WORDS, words

_BREAK = re.compile(
    r"[,.;:!?()]|\b(?:is|are|was|were|has|have|lies?|stands?|sits?|hangs?|leans?|rests?|shows?|and|or|with|on|in|at|into|"
    r"near|beside|behind|under|over|above|below|between|from|to|next|(?:on the |to the )?(?:left|right)(?: of)?)\b",
    re.IGNORECASE,
)
_OPENING = re.compile(r"^(?:(?:a|an|the|its|it|this|that|another|elsewhere|some|also|pair of)\b\s*)+", re.IGNORECASE)
_NOTHING = {"", "box", "together", "there", "side", "picture", "image", "scene"}


def clue_names(text: str) -> tuple[str, ...]:
    """The things that a clue's sentence names, without articles and in lower case.

    "Elsewhere a lamp post and a traffic light are together." gives "lamp post" and "traffic light".
    """
    parts = [_OPENING.sub("", part.strip()).strip().lower() for part in _BREAK.split(text)]
    return tuple(dict.fromkeys(part for part in parts if part not in _NOTHING))


def name_spans(text: str, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Where a text holds names, in its order: each with where its words begin and end.

    Plurals and other names of COCO's categories count; of names within each other the longest. A plural name does not
    stand where its singular describes another thing: a "ski slope" shows no skis.
    """
    found = [entry for entry in mentioned(text, [name for name in names if "'" not in name])
             if not _describes(text, *entry)]
    for name in names:
        if "'" in name:  # a possessive, which names nothing by itself
            found += [(name, *match.span()) for match in re.finditer(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)]
    return sorted(found, key=lambda entry: entry[1:])


def _describes(text: str, name: str, start: int, end: int) -> bool:
    """Whether the name is a plural, and its singular stands in the text directly before a word with a content."""
    after = re.match(r"[ -]([^\W\d_]+)", text[end:])
    singular = name.endswith("s") and text[end - 1].lower() != "s"
    return singular and after is not None and after[1].lower() not in STOP_WORDS


def named_regions(step: str, regions: Sequence[Region], without: str = "") -> list[int]:
    """The regions that a step rests on by what it says: indices in order, none where it names none.

    A region counts where all of its names are in the step. Of several the one with the most names: a sentence about
    three things is about the region of the three; of equals the one whose text is most like the step (token F1 of all
    words), and both where nothing tells them apart.

    Args:
        without: A name that does not count: the answer's, in the sentence that concludes to it.
    """
    every = sorted({name for region in regions for name in region.names})
    said = {name for name, _, _ in name_spans(step, every)} - ({without} if without else set())
    counted = {i: (len(region.names), token_f1(words(region.text), words(step)))
               for i, region in enumerate(regions) if region.names and said.issuperset(region.names)}
    if not counted:
        return []
    best = max(counted, key=counted.__getitem__)
    # a region of other names is named beside it: "a saddle and a boot"
    return sorted(i for i in counted if counted[i] == counted[best]
                  or not set(regions[best].names) & set(regions[i].names))


def content(text: str) -> list[str]:
    """The words of a text that have a content of their own, in lower case and order."""
    return [word for word in words(text) if len(word) > 1 and word not in STOP_WORDS]


def token_f1(one: Sequence[str], two: Sequence[str]) -> float:
    """2 × the words in common / all words, 0 to 1, each counted as often as it stands in both; 1 for no words."""
    if not one and not two:
        return 1.0
    return 2 * (Counter(one) & Counter(two)).total() / (len(one) + len(two))


def first_span(text: str, names: Sequence[str]) -> Span | None:
    """Where the first of some names stands in a text."""
    found = name_spans(text, names)
    return found[0][1:] if found else None
