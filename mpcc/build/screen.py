"""Stage 2, screen: objects that hardly follow from their scene are dropped by a judging model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpcc.build.answers import UNANSWERED, Ask, Prompt
from mpcc.build.store import Outcome, PairRecord

QUESTION = (
    "A black rectangle hides one object in this image. The hidden object is: {name}. How strongly does it follow from "
    "what is visible around it? 1: nothing points to it. 2: many other objects would fit as well. 3: it is one of a "
    "few that fit. 4: it is clearly the most likely. 5: hardly anything else could be there. "
    "Give your reason in one sentence, then the rating on a line of its own, as in: Rating: 3"
)

_RATING = re.compile(r"rating\W*?(\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*5)?\W*", re.IGNORECASE)


def screen(pairs: Sequence[PairRecord], judge: Ask, threshold: int) -> Outcome:
    """Keeps the pairs that the judge, who is told the answer, rates at `threshold` (1 to 5) or above.

    Adds `rating` and `rating_text` to every pair that stays.
    """
    replies = judge([Prompt(pair, QUESTION.format(name=pair["category_name"])) for pair in pairs])
    kept, dropped = [], {}
    for pair, (text,) in zip(pairs, replies, strict=True):
        rating = parse_rating(text or "")
        if rating is None:
            dropped[pair["id"]] = UNANSWERED if text is None else "rating unreadable"
        elif rating < threshold:
            dropped[pair["id"]] = f"rated below {threshold}"
        else:
            kept.append(pair | {"rating": rating, "rating_text": text.strip()})
    return Outcome(kept, dropped)


def parse_rating(text: str) -> int | None:
    """The one rating from 1 to 5 in a reply: a line that says "Rating: N" and no more, or N as the whole reply.

    None where there is no such line, or two that differ.
    """
    lines = [line.strip(" *#_->•\t") for line in text.strip().splitlines()]
    found = {float(match[1]) for line in lines if (match := _RATING.fullmatch(line))}
    if not found and re.fullmatch(r"[1-5]\.?", text.strip()):
        found = {float(text)}
    rating = found.pop() if len(found) == 1 else None
    return int(rating) if rating in (1, 2, 3, 4, 5) else None
