"""Stage 3, difficulty: a judging model names the kind of reasoning that finds the object."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpcc.build.answers import UNANSWERED, Ask, Prompt
from mpcc.build.store import Outcome, PairRecord

KINDS = {
    "scene understanding": ("hard", "the whole scene and what happens in it must be understood"),
    "contextual details": ("hard", "a few small details of the context give it away"),
    "object relationship": ("moderate", "another visible object interacts with it or belongs to it"),
    "scene analogy": ("moderate", "scenes of this kind usually hold it at this place"),
    "simple scene": ("easy", "a plain scene leaves hardly anything else"),
    "local features": ("easy", "a part of it, its shadow or its reflection is still visible"),
    "object analogy": ("easy", "others of its kind are visible beside it"),
}
"""Kind of reasoning → (difficulty, what it means). Kinds and levels are the paper's, the explanations ours."""

_LONG_NAMES = {"simple scene understanding": "simple scene", "recognition from local features": "local features"}
"""The paper's longer names of two kinds."""

QUESTION = (
    "A black rectangle hides one object in this image. The hidden object is: {name}. Which kind of reasoning finds it "
    "best? " + " ".join(f"{kind}: {meaning}." for kind, (_, meaning) in KINDS.items()) + " "
    "Give the kind on a line of its own, as in: Kind: object relationship"
)

UNREADABLE = "kind unreadable, to be labelled in curation"


def label(pairs: Sequence[PairRecord], judge: Ask) -> Outcome:
    """Adds `reason` (one of `KINDS`) and `difficulty` to every pair; both None, with a note, if the reply has none."""
    replies = judge([Prompt(pair, QUESTION.format(name=pair["category_name"])) for pair in pairs])
    kept, notes = [], {}
    for pair, (text,) in zip(pairs, replies, strict=True):
        kind = parse_kind(text or "")
        kept.append(pair | {"difficulty": KINDS[kind][0] if kind else None, "reason": kind})
        if kind is None:
            notes[pair["id"]] = f"kind {UNANSWERED}" if text is None else UNREADABLE
    return Outcome(kept, notes=notes)


def parse_kind(text: str) -> str | None:
    """The one kind that a reply names: on a line that says "Kind: …" and no more, or as the whole reply; else None."""
    lines = [line.strip(" *#_->•\t") for line in text.strip().splitlines()]
    named = [match[1] for line in lines if (match := re.fullmatch(r"kind\W+(.+)", line, re.IGNORECASE))]
    # "Kind: a or b" names none, and of two lines that differ neither counts
    found = {_kind(name) for name in named or lines[:1] * (len(lines) == 1)}
    return found.pop() if len(found) == 1 else None


def _kind(name: str) -> str | None:
    plain = " ".join(re.sub(r"[^a-z]+", " ", name.lower()).split())
    plain = _LONG_NAMES.get(plain, plain)
    return plain if plain in KINDS else None
