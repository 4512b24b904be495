"""Stage 5, traces: a judging model that knows the answer simulates the reasoning towards it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpcc.build.answers import Ask, Prompt
from mpcc.build.store import Outcome, PairRecord
from mpcc.prompts import completion
from mpcc.rewards import TAGS, reward_terms

QUESTION = (
    "A black rectangle hides one object in this image. The hidden object is: {name}. Write what somebody would think "
    "who does not know this and infers it from the visible clues around the rectangle: two to four sentences that name "
    "the clues and end with the conclusion. Nothing in them may show that the answer was known beforehand. "
    "Write the reasoning in <think> </think>, then {name} in <answer> </answer>."
)

_SUBJECT = r"(?:i|we|you|it|they)"
_REVEALS = [re.compile(pattern, re.IGNORECASE) for pattern in (
    rf"\b{_SUBJECT}(?:'m|'re|'ve| am| are| was| were| have| had| is| has)?(?: been| already| just)? "
    r"(?:told|informed)\b",
    r"\b(?:was|were|been|is|are|being|already) (?:told|informed|given|provided|supplied|revealed)(?: to (?:me|us))?"
    r"(?: (?:that|as|in|by|here|beforehand)\b|\W*$|[.,;])",
    r"\bas (?:was |is |already |i was |we were |previously |just )*(?:stated|mentioned|told|given|provided|specified|"
    r"instructed)\b",
    r"\bground[ -]truth\b",
    r"\b(?:given|provided|stated|correct|true|known|expected|supplied) (?:answer|label|object|solution)\b",
    r"\b(?:answer|label|solution|hidden object)(?: \w+){0,3}? (?:given|provided|supplied|known|told|revealed|stated)\b",
    r"\b(?:since|because|as|given that|knowing|now that) (?:i|we)(?: already)? (?:know|knew)\b",
    rf"\b{_SUBJECT} already knows?\b|\balready known\b|\bknown beforehand\b|\bknowing (?:that )?(?:the answer|it is)\b",
    r"\b(?:according to|based on|from|per) the (?:prompt|question|instructions?|task|user|hint)\b",
    r"\bthe (?:prompt|question|instructions?|task|user|hint) (?:already )?(?:says|said|states|stated|tells|told|"
    r"mentions|mentioned|specifies|indicates|gives|gave|reveals)\b",
)]


def traces(pairs: Sequence[PairRecord], judge: Ask) -> Outcome:
    """Adds `trace` where the judge's reasoning is usable; a pair without one stays, with a note that says why."""
    replies = judge([Prompt(pair, QUESTION.format(name=pair["category_name"])) for pair in pairs])
    kept, notes = [], {}
    for pair, (text,) in zip(pairs, replies, strict=True):
        trace, reason = read_trace(text, pair["category_name"])
        kept.append(pair | {"trace": trace} if trace else pair)
        if reason:
            notes[pair["id"]] = f"no trace: {reason}"
    return Outcome(kept, notes=notes)


def read_trace(reply: str, answer: str) -> tuple[str | None, str | None]:
    """(trace without tags, None), or (None, why there is none).

    The reply is taken as a whole completion, or where it has no tags as the reasoning alone. It must earn the full
    reward of MPCC Eq. 3 and not show that the answer was told.
    """
    tagged = any(tag in reply for tag in TAGS)
    text = reply.strip() if tagged else completion(reply, answer)
    terms = {name: values[0] for name, values in reward_terms([text], answer).items()}
    if not terms["format"]:
        return None, "not in the format"
    if terms["exact"] < 1 or terms["levenshtein"] < 1:
        return None, "it ends in another answer"
    trace = text.partition("<think>")[2].partition("</think>")[0].strip()
    if not trace:
        return None, "it is empty"
    if reveals(trace):
        return None, "it reveals that the answer was told"
    return trace, None


def reveals(trace: str) -> bool:
    """Whether a trace shows that its author was told the answer: "as mentioned", "the ground truth", "I was told", …"""
    plain = " ".join(trace.replace("’", "'").split())
    return any(pattern.search(plain) for pattern in _REVEALS)
