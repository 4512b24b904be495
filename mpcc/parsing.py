"""Yes or no, or a name, out of a completion, strictly: what is not clear is None. `mpcc.choices` reads choices.

The text that is read is the last whole `<answer>…</answer>`. A completion without any such tag is read after its
`</think>`, or as a whole if it does not think. Reasoning is never read, and a doubtful answer is counted as unparsed
and wrong rather than guessed: the authors' parser takes the first of a, b, c, d that occurs anywhere, so that "none" is
A.
"""

from __future__ import annotations

import re
import unicodedata

from mpcc.rewards import parse_answer

_YES = re.compile(r"(?<!not )(?<!not say )\byes\b")
_NO = re.compile(r"^\W*no\b|\bno(?=\W*$|\s*[.,;:!\n]|\s+(?:because|since|it)\b)")


def parse_yes_no(completion: str) -> str | None:
    """ "yes" or "no" if the completion says exactly one of them; None else, as for "no other object" or "not yes"."""
    text = tidy(source(completion)).lower()
    said = [word for word, pattern in (("yes", _YES), ("no", _NO)) if pattern.search(text)]
    return said[0] if len(said) == 1 else None


def parse_free(completion: str) -> str | None:
    """The text of the last whole `<answer>…</answer>`, None where there is none or it is blank, as in training ."""
    return (parse_answer(completion) or "").strip() or None


def source(completion: str) -> str:
    """The part of the completion that is to hold the answer; empty if a tag is broken or the reasoning never ends."""
    answer = parse_answer(completion)
    if answer is not None:
        return answer
    if "<answer>" in completion or "</answer>" in completion:
        return ""
    if "</think>" in completion:
        return completion.rpartition("</think>")[2]
    return "" if "<think>" in completion else completion


def tidy(text: str) -> str:
    """Compatibility forms, typographic quotes and HTML's emphasis made plain, blanks collapsed; line breaks stay."""
    plain = _EMPHASIS.sub("", unicodedata.normalize("NFKC", text).translate(_PLAIN))
    return re.sub(r"[^\S\n]+", " ", plain).strip()


_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "。": ".", "、": ","})
_EMPHASIS = re.compile(r"</?(?:b|i|u|em|strong)>", re.IGNORECASE)
