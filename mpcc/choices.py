"""One choice out of a completion, strictly: a letter or an option's text. What is not clear is None.

What is read is the same text as in `mpcc.parsing`. A doubtful answer is counted as unparsed and wrong, not guessed.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from mpcc.parsing import parse_yes_no, source, tidy
from mpcc.rewards import normalise

# no part of a word, number, abbreviation ("e.g.") or contraction; other scripts may touch it: "答案是B"
_LETTER = re.compile(
    r"(?<![a-z0-9À-ɏ_-])(?<![a-z]['.])[a-z](?![a-z0-9À-ɏ_-])(?!'[a-z])(?!\.[a-z](?![a-z]))", re.IGNORECASE
)
_ALONE_BEFORE, _ALONE_AFTER = re.compile(r"(^|\n)[\W_]*$"), re.compile(r"[\W_]*($|\n)")
_ENDS_AFTER = re.compile(r"[\W_]*$")
_LABEL_AFTER = re.compile(r"\s*[.):\]]")
_MARKED_AFTER = re.compile(
    r"\s*[)\]:*\"/&,;.]|\s+-\s|\s+\(?(?:is|isn't|was|are|aren't|can|cannot|can't|could|does|doesn't|do|don't|would|wouldn't|"
    r"may|looks|seems|appears|because|since|or|and|nor|but|not|rather|instead|than)\b", re.IGNORECASE,
)
_NAMED_BEFORE = re.compile(r"\b(?:option|choice|letter|point)\s*[:=]?\W*$", re.IGNORECASE)
_ASKED_BEFORE = re.compile(r"\b(?:answer|option|choice|letter)(?:\s+is|\s+would be)?\s*[:=]?\W*$", re.IGNORECASE)
_SENTENCE_BEFORE = re.compile(r"[.!?]\s*$")
_SENTENCES = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)\s+|\n+")
_QUESTIONS = re.compile(r"[^.!?\n]*\?\W*?(?=\w|\n|$)")
_REASONS = re.compile(  # at the start of a sentence up to its comma, elsewhere up to the sentence's end
    r"(?:^|(?<=[.!?;]\s)|(?<=\n))(?:because|since|as|although|while)\b[^,.!?;\n]*,|"
    r"\b(?:because|since|given that|due to|although|while|whereas)\b[^.!?;\n]*", re.IGNORECASE,
)
_WHOLE_WORD = r"(?<![a-z0-9]){}(?!'s|[a-z0-9])"

# what may stand between the words that choose or deny and what they speak of
_FILL = (
    r"(?:\s+(?:a|an|the|be|is|it|it's|that|this|there|option|choice|letter|point|answer|object|likely|probably|most|"
    r"really|definitely|clearly|surely|actually|simply|just|correct|right|here|hidden))*[\s\"'(\[{*_:=\\>-]*$"
)
_DENIED_BEFORE = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|except|excluding|unlike|rather than|instead of|ruled? out|"
    r"reject(?:ed)?|eliminated?|\w+n't)"
    r"(?:\s+(?:think|believe|say|choose|pick|select|go with|sure|certain|clear|whether|if|true|be))*" + _FILL,
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\]*\"']*(?:\s+(?:is|are|was|were|seems?|looks?|appears?|can|could|would|do|does|must|may|might))*(?:\s*:)?\s*"
    r"(?:(?:is|are|was|does|do|ca|could|would|wo)n't|cannot|not?(?=\W)|never|too\s|less\s|incorrect|wrong|false|unlikely|"
    r"implausible|impossible|(?:be )?(?:ruled out|eliminated|excluded|rejected))", re.IGNORECASE,
)
_CHOSEN_BEFORE = re.compile(
    r"(?:\banswer(?:\s+(?:here|to (?:the|this) question|must|should|would|will|choice))*"
    r"(?:\s+(?:is|be|was)\b|\s*[:=>-])|\b(?:best|closest|right) (?:match|fit|point|option|choice|one) is\b|"
    r"\b(?:choose|chose|pick|select|go(?:ing)? with|settle on|vote for|opt for|conclude|guess|say|think|believe|so|"
    r"therefore|thus|hence)\b,?|"
    r"\b(?:it|this|that|object|item)(?:'s|\s+(?:is|must be|has to be|should be|would be|will be))(?=\W))" + _FILL,
    re.IGNORECASE,
)
_CHOSEN_AFTER = re.compile(
    r"[)\]*\"']*(?:\s+(?:is|would be|must be|has to be|should be)"
    r"(?:\s+(?:clearly|definitely|most likely|therefore|even))?(?:\s+(?:the|my))?(?:\s+(?:final|best|only|most))?"
    r"\s+(?:correct|right|answer|choice|one|true|likely|closer)\b|\s*:\s*yes\b)", re.IGNORECASE,
)
_FINAL_BEFORE = re.compile(
    r"(?:\bfinal (?:answer|choice)(?:\s+is\b|\s*[:=-])?|"
    r"(?:^|[\s,;-])(?:wait|no|actually|correction|on second thoughts?|on reflection)\s*[,:.]?"
    r"(?:\s+(?:I(?:'d| would)? (?:think|say|choose|pick)|the answer|it must))?)" + _FILL, re.IGNORECASE,
)
_BESIDE_BEFORE = re.compile(r"\b(?:than|behind|between|from|if|whether|suppose|assuming)" + _FILL, re.IGNORECASE)
_FARTHER_AFTER = re.compile(r"\s+(?:is|looks|appears|seems|lies)(?: \w+)? (?:farther|further|more distant|behind)\b")
_JOINT = re.compile(
    r"[()\]*\"'.\s]*(?:[,/&]|(?:,\s*)?\b(?:and|or|nor|and/or|maybe|perhaps|possibly|alternatively)\b)+"
    r"(?:\s*(?:maybe|perhaps|possibly|also|even|a|an|the|option|choice|point))*[\s(\[*\"']*", re.IGNORECASE,
)
_LETTER_NAME = re.compile(r"[^\w\n]*(?:\b(?:a|an|the|is)\b\W*)?")
_NEAR = 150
_NAME_LETTER = re.compile(r"[ (\[*:-]*")


@dataclass
class _Mention:
    """An option in the text: a letter, or an option's text (`named`); how the words around it speak of it."""

    letter: str
    named: bool
    start: int
    end: int
    said: Literal["final", "chosen", "open", "beside", "denied"] = "open"


def parse_choice(completion: str, options: Sequence[str]) -> str | None:
    """The letter of the one option that the completion chooses, None where it chooses none or more than one.

    Read are a letter ("(B)", "b", "The answer is B") and an option's text ("a dog", "It must be a dog."). What is
    denied ("B, not A", "A is wrong") is no choice, nor what is asked, compared with ("closer than A") or a reason.
    Words that choose ("the answer is", "so", "B is correct") go before mere mentions, "final answer" and a correction
    ("wait, B") before both. Unclear are two choices that differ, a letter beyond the options, one beside the text of
    another option, and one that is chosen and denied. The article "a" and the pronoun "I" are no letters.

    Args:
        options: The names in the order of their letters A, B, C, …
    """
    text = tidy(source(completion))
    by_name = _letters_by_name(options)
    if (whole := by_name.get(normalise(text.strip("*\"' ")))) is not None:
        return whole
    text = _QUESTIONS.sub(" ", text).strip()
    if _mentions(without := _REASONS.sub(" ", text).strip(), by_name):
        text = without
    found = _mentions(text, by_name)
    _judge(found, text, by_name)
    if set(by_name) == {"yes", "no"}:  # the "no" of "no other object" is no option
        letters, said = [m for m in found if not m.named], parse_yes_no(completion)
        if not letters:
            return by_name.get(said) if said else None
        found = letters + [m for m in found if m.named and m.letter == by_name.get(said)]
    letter = _decided(found, text)
    clash = any(m.letter == letter and m.said == "denied" for m in found) or _clash(found, text, letter)
    return letter if letter in by_name.values() and not clash else None


def _mentions(text: str, by_name: Mapping[str, str]) -> list[_Mention]:
    """The options that the text mentions, in its order; "hot dog" is no mention of "dog"."""
    found, rest = [], text.lower()
    for name in sorted(by_name, key=len, reverse=True):
        for match in re.finditer(_WHOLE_WORD.format(re.escape(name)), rest):
            found.append(_Mention(by_name[name], True, *match.span()))
        rest = re.sub(_WHOLE_WORD.format(re.escape(name)), lambda match: "#" * len(match.group()), rest)
    for match in _LETTER.finditer(text):
        if rest[match.start()] != "#" and _is_choice(match.group(), *_around(text, *match.span())):
            found.append(_Mention(match.group().upper(), False, *match.span()))
    return sorted(found, key=lambda mention: mention.start)


def _judge(found: Sequence[_Mention], text: str, by_name: Mapping[str, str]) -> None:
    """Sets what is said of each mention; one that is joined to its neighbour ("A or B are wrong") shares its lot."""
    labels = {m.letter for m in found if not m.named and _LABEL_AFTER.match(text, m.end)}
    lettered = all(name.startswith(f"{letter.lower()} is ") for name, letter in by_name.items())
    for mention in found:
        before, after = _around(text, mention.start, mention.end)
        alone = _ALONE_BEFORE.search(before) or (_SENTENCE_BEFORE.search(before) and not mention.named)
        if denied(before, after) or (lettered and _FARTHER_AFTER.match(after)):
            mention.said = "denied"
        elif _BESIDE_BEFORE.search(before):
            mention.said = "beside"
        elif _FINAL_BEFORE.search(before):
            mention.said = "final"
        elif _CHOSEN_BEFORE.search(before) or _CHOSEN_AFTER.match(after) or (alone and _ALONE_AFTER.match(after)):
            mention.said = "chosen"
        elif not before.strip("(*\"' ") and not mention.named and len(labels) == 1 and _LABEL_AFTER.match(after):
            mention.said = "chosen"  # "B. It stands beside A"
        elif mention.named and (lettered or _is_sentence(text, mention)):
            mention.said = "chosen"
    for pairs in (zip(found, found[1:], strict=False), zip(found[::-1], found[-2::-1], strict=False)):
        for one, other in pairs:
            left, right = sorted((one, other), key=lambda mention: mention.start)
            if other.said == "open" and one.said != "open" and _JOINT.fullmatch(text[left.end : right.start]):
                other.said = one.said


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    """What stands before and after; of a long text the nearest characters, so that a loop of letters takes no time."""
    before = text[max(0, start - _NEAR) : start]
    return ("x" + before if start > _NEAR else before), text[end : end + _NEAR] + "x" * (len(text) > end + _NEAR)


def denied(before: str, after: str) -> bool:
    """Whether the words around a name or letter deny it: "not a dog", "A is wrong"."""
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))


def _decided(found: Sequence[_Mention], text: str) -> str | None:
    """The one letter of the strongest words that choose."""
    for said in ("final", "chosen"):
        if letters := {mention.letter for mention in found if mention.said == said}:
            return letters.pop() if len(letters) == 1 else None
    undecided = [mention for mention in found if mention.said in ("open", "beside")]
    letters = {m.letter for m in undecided if not m.named} or {m.letter for m in undecided}
    if len(letters) != 1 or not any(mention.said == "open" for mention in undecided):
        return None
    by_letter = any(not mention.named for mention in undecided)
    return letters.pop() if by_letter or undecided[-1].start >= _last_sentence(text) else None


def _clash(found: Sequence[_Mention], text: str, letter: str | None) -> bool:
    """Whether the letter stands beside the text of another option: "B cat", "cat (B)"."""
    return any(
        one.named != other.named and one.letter != other.letter and letter in (one.letter, other.letter)
        and "denied" not in (one.said, other.said)
        and (_NAME_LETTER if one.named else _LETTER_NAME).fullmatch(text[one.end : other.start])
        for one, other in pairwise(found)
    )


def _letters_by_name(options: Sequence[str]) -> dict[str, str]:
    """Normalised text of each option → its letter."""
    lettered = list(zip(string.ascii_uppercase, options, strict=False))
    if all(name.startswith(f"{letter} ") for letter, name in lettered):
        # "A is closer", "B is closer": that A is no article
        return {name.lower(): letter for letter, name in lettered}
    return {normalise(name): letter for letter, name in lettered}


def _is_choice(letter: str, before: str, after: str) -> bool:
    """Whether a letter that stands by itself is meant as one; "A", "I" and small letters may be words of the text."""
    if letter.isupper() and letter not in "AI":
        return True
    if _ALONE_BEFORE.search(before) and _ALONE_AFTER.match(after):
        return True
    if _NAMED_BEFORE.search(before) or before.endswith(("(", "[", '"', "*")):
        return True
    if _ENDS_AFTER.match(after):
        # a text that was cut off may end in an article
        article = letter in "aAiI" and (letter.islower() or _SENTENCE_BEFORE.search(before))
        return not article or _ASKED_BEFORE.search(before) is not None or (letter == "A" and after.startswith("."))
    return letter not in "iI" and _MARKED_AFTER.match(after) is not None


def _is_sentence(text: str, mention: _Mention) -> bool:
    """Whether an option's text is a sentence by itself, but for an article: "Dog. The leash ends there." """
    name = text[mention.start : mention.end].lower()
    return any(normalise(sentence.strip("*\"' ")) == name for sentence in _SENTENCES.split(text))


def _last_sentence(text: str) -> int:
    """Where the last sentence begins: a single name elsewhere may be mere evidence."""
    return max((match.end() for match in _SENTENCES.finditer(text) if text[match.end() :].strip()), default=0)
