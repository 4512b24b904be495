"""Stage 4, distractors: wrong answers of several models become the confusing options."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from mpcc.build.answers import Ask, Prompt
from mpcc.build.cooccurrence import Cooccurrence
from mpcc.build.names import too_close
from mpcc.build.store import Outcome, PairRecord
from mpcc.prompts import QUESTION, SYSTEM_PROMPT
from mpcc.rewards import TAGS, normalise, parse_answer

CONFUSING, IRRELEVANT = 4, 2
MAX_WORDS = 4
"""Longest answer that can stand as an option."""

_NAME = re.compile(r"[^\W_][\w'& -]*", re.UNICODE)


def distractors(
    pairs: Sequence[PairRecord], respondents: Sequence[Ask], data: Cooccurrence, visible: dict[str, set[str]], seed: int
) -> Outcome:
    """Adds `confusing` (4 names, the most frequent first), `filled` (those not from respondents), `irrelevant` (2).

    Args:
        respondents: Each answers the free-form question on the masked image, once or more often.
        data: What appears together, for the irrelevant names and the missing confusing ones.
        visible: Pair id → categories of the other objects of its image.
        seed: Breaks ties.

    A pair for which the data has too few categories is dropped. Noted are pairs with filled names, and such as have an
    irrelevant name that appears with the scene elsewhere, because no other was left.
    """
    prompts = [Prompt(pair, QUESTION, SYSTEM_PROMPT) for pair in pairs]
    answers = [ask(prompts) for ask in respondents]
    kept, dropped, notes = [], {}, {}
    for place, pair in enumerate(pairs):
        given = [text for by_prompt in answers for text in by_prompt[place] if text is not None]
        tie, truth = f"{seed}/{pair['id']}", normalise(pair["category_name"])
        wrong = most_frequent([spoken_name(text) for text in given], truth, tie)
        filled = fill(wrong, truth, visible[pair["id"]], data, tie)
        confusing = wrong + filled
        irrelevant = unrelated(truth, confusing, visible[pair["id"]], data, tie)
        if len(confusing) < CONFUSING or len(irrelevant) < IRRELEVANT:
            dropped[pair["id"]] = "the data has too few categories for its distractors"
            continue
        kept.append(pair | {"confusing": confusing, "filled": filled, "irrelevant": irrelevant})
        met = sum(data.with_any(name, visible[pair["id"]] | {truth}) > 0 for name in irrelevant)
        remarks = [f"{len(filled)} of {CONFUSING} confusing names filled from co-occurrence"] * bool(filled)
        remarks += [f"{met} of {IRRELEVANT} irrelevant names do appear with what the image shows"] * bool(met)
        if remarks:
            notes[pair["id"]] = "; ".join(remarks)
    return Outcome(kept, dropped, notes)


def spoken_name(completion: str) -> str | None:
    """The normalised name that a completion gives, or None where it gives none that can stand as an option.

    It stands in the last whole answer tag, or is all that follows the reasoning; it has at most `MAX_WORDS` words.
    """
    answer = parse_answer(completion)
    if answer is None:
        answer = completion.rpartition("</think>")[2]
    name = normalise(answer)
    usable = _NAME.fullmatch(name) and len(name.split()) <= MAX_WORDS and not any(tag in name for tag in TAGS)
    return name if usable else None


def most_frequent(names: Iterable[str | None], truth: str, tie: str) -> list[str]:
    """Up to 4 wrong names, the most frequent first. Plurals and like names count as one, under the commoner form."""
    counts = Counter(name for name in names if name and not too_close(name, truth))
    groups: list[tuple[str, int]] = []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], _tie(tie, item[0]))):
        same = next((i for i, (other, _) in enumerate(groups) if too_close(name, other)), None)
        if same is None:
            groups.append((name, count))
        else:
            groups[same] = (groups[same][0], groups[same][1] + count)
    groups.sort(key=lambda group: (-group[1], _tie(tie, group[0])))
    return [name for name, _ in groups[:CONFUSING]]


def fill(chosen: Sequence[str], truth: str, visible: set[str], data: Cooccurrence, tie: str) -> list[str]:
    """The names missing to 4: categories that appear most with the image's other objects.

    Those that are themselves visible come last, of equals the truth's supercategory and the commoner ones first.
    """
    seen = sorted(visible & set(data.names))

    def rank(name: str) -> tuple:
        score = sum(data.given(name, other) for other in seen)
        kin = data.supercategory[name] == data.supercategory.get(truth)
        return name in visible, -score, not kin, -data.images(name), _tie(tie, name)

    return _apart(sorted(data.names, key=rank), [truth, *chosen], CONFUSING - len(chosen))


def unrelated(truth: str, confusing: Sequence[str], visible: set[str], data: Cooccurrence, tie: str) -> list[str]:
    """2 categories of another supercategory that never appear with the truth or anything visible; else most rarely."""
    here = visible | {truth}
    others = [n for n in data.names if n not in here and data.supercategory[n] != data.supercategory.get(truth)]
    others.sort(key=lambda name: (data.with_any(name, here), _tie(tie, name)))
    return _apart(others, [truth, *confusing], IRRELEVANT)


def _apart(names: Iterable[str], taken: Sequence[str], count: int) -> list[str]:
    """The first `count` names that are not too close to those taken, nor to one another."""
    chosen: list[str] = []
    for name in names:
        if len(chosen) == count:
            break
        if not any(too_close(name, other) for other in (*taken, *chosen)):
            chosen.append(name)
    return chosen


def _tie(seed: str, name: str) -> bytes:
    """A place among equals that the seed decides."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
