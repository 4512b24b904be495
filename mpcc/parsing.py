"""One answer out of a completion, strictly: a letter or an option's text, yes or no, a name. What is not clear is None.

The text that is read is the last whole `<answer>…</answer>`. A completion without any such tag is read after its
`</think>`, or as a whole if it does not think. Reasoning is never read, and a doubtful answer is counted as unparsed
and wrong rather than guessed: the authors' parser takes the first of a, b, c, d that occurs anywhere, so that "none" is
A.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from mpcc.rewards import normalise, parse_answer

# no part of a word, number, abbreviation ("e.g.") or contraction; other scripts may touch it: "答案是B"
_LETTER = re.compile(
    r"(?<![a-z0-9À-ɏ_-])(?<![a-z]['.])[a-z](?![a-z0-9À-ɏ_-])(?!'[a-z])(?!\.[a-z](?![a-z]))", re.IGNORECASE
)
_ALONE_BEFORE, _ALONE_AFTER = re.compile(r"(^|\n)[\W_]*$"), re.compile(r"[\W_]*($|\n)")
_ENDS_AFTER = re.compile(r"[\W_]*$")
_MARKED_AFTER = re.compile(r"\s*[)\]:*\"/&,;.]|\s+-\s|\s+(?:is|was|because|since|or|and|but|seems)\b", re.IGNORECASE)
_NAMED_BEFORE = re.compile(r"\b(?:option|choice|letter)\s*[:=]?\W*$", re.IGNORECASE)
_ASKED_BEFORE = re.compile(r"\b(?:answer|option|choice|letter)(?:\s+is|\s+would be)?\s*[:=]?\W*$", re.IGNORECASE)
_SENTENCE_BEFORE = re.compile(r"[.!?]\s*$")
_NEGATED_BEFORE = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|except|rather than|instead of|\w+n't)"
    r"(?:\s+(?:a|an|the|be|option|choice|letter|answer|likely|really))*\W*$",
    re.IGNORECASE,
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_WHOLE_WORD = r"(?<![a-z0-9]){}(?![a-z0-9])"
_YES, _NO = re.compile(r"\byes\b"), re.compile(r"^\W*no\b|\bno(?=\W*$|\s*[.,;:!\n]|\s+(?:because|since|it)\b)")


def parse_choice(completion: str, options: Sequence[str]) -> str | None:
    """The letter of the one option that the completion chooses, None where it chooses none or more than one.

    Read are a letter ("(B)", "b", "The answer is B") and an option's text ("a dog", "It must be a dog."). A letter
    beyond the options, or beside the text of another option, makes the answer unclear. The article "a" and the pronoun
    "I" are no letters, and "not B" is no choice.

    Args:
        options: The names in the order of their letters A, B, C, …
    """
    text = _tidy(_source(completion))
    by_name = _letters_by_name(options)
    if (whole := by_name.get(normalise(text.strip("*\"' ")))) is not None:
        return whole
    letters, negated = set(), False
    for match in _LETTER.finditer(text):
        before, after = text[: match.start()], text[match.end() :]
        if _is_choice(match.group(), before, after):
            letters.add(match.group().upper())
            negated |= _NEGATED_BEFORE.search(before) is not None
    mentions = list(_mentions(text.lower(), by_name))
    named = {by_name[name] for name, _ in mentions}
    negated |= any(_NEGATED_BEFORE.search(text[:start]) for _, start in mentions)
    if len(letters) == 1:
        letter = letters.pop()
        # further names may explain a letter that stands with its own name: "B. person, because of the dog"
        agrees = letter in by_name.values() and (not named or letter in named)
        return letter if agrees and not negated else None
    if letters or len(named) != 1 or negated:
        return None
    return named.pop() if _concludes(text, mentions[0][0]) else None


def parse_yes_no(completion: str) -> str | None:
    """ "yes" or "no" if the completion says exactly one of them, else None. The "no" of "no other object" is none."""
    text = _tidy(_source(completion)).lower()
    said = [word for word, pattern in (("yes", _YES), ("no", _NO)) if pattern.search(text)]
    return said[0] if len(said) == 1 else None


def parse_free(completion: str) -> str | None:
    """The text of the last whole `<answer>…</answer>`, None where there is none or it is blank, as in training ."""
    return (parse_answer(completion) or "").strip() or None


def _letters_by_name(options: Sequence[str]) -> dict[str, str]:
    """Normalised text of each option → its letter."""
    lettered = list(zip(string.ascii_uppercase, options, strict=False))
    if all(name.startswith(f"{letter} ") for letter, name in lettered):
        # "A is closer", "B is closer": that A is no article
        return {name.lower(): letter for letter, name in lettered}
    return {normalise(name): letter for letter, name in lettered}


def _source(completion: str) -> str:
    """The part of the completion that is to hold the answer; empty if a tag is broken or the reasoning never ends."""
    answer = parse_answer(completion)
    if answer is not None:
        return answer
    if "<answer>" in completion or "</answer>" in completion:
        return ""
    if "</think>" in completion:
        return completion.rpartition("</think>")[2]
    return "" if "<think>" in completion else completion


def _tidy(text: str) -> str:
    """Compatibility forms and typographic quotes made plain, blanks collapsed; line breaks stay."""
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text).translate(_PLAIN)).strip()


_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "。": ".", "、": ","})


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
        return not article or _ASKED_BEFORE.search(before) is not None
    return letter not in "iI" and _MARKED_AFTER.match(after) is not None


def _mentions(text: str, names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(name, where it starts) of the names in the text; "hot dog" is no mention of "dog"."""
    for name in sorted(names, key=len, reverse=True):
        for match in re.finditer(_WHOLE_WORD.format(re.escape(name)), text):
            yield name, match.start()
        text = re.sub(_WHOLE_WORD.format(re.escape(name)), lambda found: "#" * len(found.group()), text)


def _concludes(text: str, name: str) -> bool:
    """Whether the name stands in the last sentence, or is a sentence by itself: elsewhere it may be mere evidence."""
    sentences = [sentence for sentence in _SENTENCES.split(text) if sentence.strip()]
    if any(normalise(sentence) == name for sentence in sentences):
        return True
    return re.search(_WHOLE_WORD.format(re.escape(name)), sentences[-1].lower()) is not None
