"""What a reasoning trace must not be before it becomes a prior: a refusal, or one that concludes to another object."""

from __future__ import annotations

import re
from collections.abc import Collection

from mpcc.build.names import mentioned
from mpcc.choices import denied

REFUSAL, OTHER = "it is a refusal", "its last sentence names another category"
DENIED, UNNAMED = "its last sentence denies the answer", "its last sentence does not name the answer"

_SENTENCES = re.compile(r"(?<=[.!?])[\"')\]*]*\s+|\n+")
_ABLE = (
    r"(?:identify|determine|tell|say|help|assist|provide|answer|comply|fulfil+|guess|infer|know|view|access|process|"
    r"recogni[sz]e|name|continue|make (?:a|any|that|this)|do (?:this|that|so)|be sure|"
    r"see (?:the|this|any|an|your) (?:image|picture|photo))\b"
)
_END = r"(?=\W*$|\s*[.!?;,])"
_REFUSES = [re.compile(pattern, re.IGNORECASE) for pattern in (
    r"\b(?:i|we)(?: am|'m| are|'re)? "
    r"(?:cannot|can not|can't|could not|couldn't|won't|will not|unable|not able|unwilling)"
    rf"(?: to| be able to)?(?: \w+ly)?(?: {_ABLE}|{_END})",
    rf"\b(?:impossible|not possible|no way|unable) to {_ABLE}",
    r"(?:\b(?:i|we)(?:'m| am|'re| are)(?: \w+)? |^|[.!?] )sorry\b|\b(?:i|we) apologi[sz]e\b|\bapologies\b",
    r"\bas an? (?:ai|artificial|language|large|assistant)\b|\b(?:an ai|language) (?:model|assistant)\b",
    r"\bi (?:must|have to) (?:decline|refuse)\b|\bi(?:'d| would) rather not\b",
    r"\bnot (?:comfortable|allowed|permitted) (?:to|with)\b",
    r"\b(?:against|violates?) (?:my|the|our) (?:guidelines|polic(?:y|ies)|rules)\b",
    r"\b(?:no|any|an) (?:image|picture|photo) (?:(?:was|is|has been) )?(?:provided|attached|given|uploaded)\b",
    r"\bi (?:don't|do not) (?:know|have (?:access|enough)|see (?:any|an?) (?:image|picture|photo))\b",
    r"\b(?:insufficient|not enough) (?:information|context|evidence|clues)\b",
)]


def sentences(trace: str) -> list[str]:
    """The sentences of a text, without blank ones."""
    return [part.strip() for part in _SENTENCES.split(trace.strip()) if re.search(r"\w", part)]


def refuses(trace: str) -> bool:
    """Whether a trace declines to reason: "I cannot tell", "I'm unable to see the image", "Sorry, …"."""
    plain = " ".join(trace.replace("’", "'").split())
    return any(pattern.search(plain) for pattern in _REFUSES)


def contradiction(trace: str, answer: str, categories: Collection[str]) -> str | None:
    """Why a trace must not stand before the answer, or None: it refuses, or its last sentence says otherwise.

    That sentence says otherwise where it denies the answer, or names other categories (or plurals or synonyms of
    theirs) and not the answer. One that names no category at all passes, and one that names others beside the answer.

    Args:
        categories: All of the data set; the answer need not be one of them.
    """
    return REFUSAL if refuses(trace) else _said(trace, answer, categories)[0]


def flaw(trace: str, answer: str, categories: Collection[str]) -> str | None:
    """As `contradiction`, but the last sentence must name the answer, and no other category."""
    if refuses(trace):
        return REFUSAL
    wrong, named = _said(trace, answer, categories)
    if wrong or answer not in named:
        return wrong or UNNAMED
    return OTHER if len(named) > 1 else None


def _said(trace: str, answer: str, categories: Collection[str]) -> tuple[str | None, set[str]]:
    """What contradicts the answer in the last sentence, and the categories that it names."""
    last = (sentences(trace) or [""])[-1]
    found = mentioned(last, {*categories, answer})
    if any(name == answer and denied(last[:start], last[end:]) for name, start, end in found):
        return DENIED, set()
    named = {name for name, _, _ in found}
    return (OTHER if named and answer not in named else None), named
