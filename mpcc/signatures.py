"""Signs of three known failures: reasoning said by rote, answers without evidence, and lost format.

All work on the records of `mpcc.questions.record`; shares are percentages, 0 to 100. A `Rate` holds the number `n` of
cases, the `percent` of them that count, and its 95 % Wilson interval, `low` to `high`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.statistics import Rate, rate
from mpcc.words import reasoning, words

Record = Mapping[str, Any]

_SHOWN = {"no_evidence": "evidence filled", "elsewhere": "the mask on another picture", "black": "all-black images"}

NGRAM = 5
"""Words of an n-gram. The fewest that different people hardly share by chance: of the 4-grams in human captions of 51
COCO images, 3.4 % recur in a caption of another image, of the 5-grams 0.6 %."""


def rigidity(records: Iterable[Record], traces: Iterable[str], n: int = NGRAM) -> dict[str, float | None]:
    """How much of the reasoning repeats the training traces, or itself from image to image, word for word.

    Letter case and punctuation do not count. A trace shorter than n words has no n-gram.

    Args:
        traces: The reasoning of the training data, without tags.

    Returns:
        `n`; `ngrams`, how many the reasoning has; of them in percent `from_traces`, those that also stand in a trace,
        and `across_images`, those that also stand in the reasoning about another image. Both None without n-grams, and
        `from_traces` without traces.
    """
    traces = list(traces)
    known = {gram for trace in traces for gram in _ngrams(trace, n)}
    spoken = [(record["file_name"], gram) for record in records for gram in _ngrams(reasoning(record["completion"]), n)]
    images: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for image, gram in spoken:
        images[gram].add(image)
    repeated = sum(gram in known for _, gram in spoken)
    shared = sum(len(images[gram]) > 1 for _, gram in spoken)
    return {
        "n": n, "ngrams": len(spoken), "from_traces": 100 * repeated / len(spoken) if spoken and traces else None,
        "across_images": 100 * shared / len(spoken) if spoken else None,
    }


def blindness(records: Iterable[Record], blind: Iterable[Record]) -> dict[str, Any]:
    """How far the free-form answers do without what they should rest on, from a run and its run in a blind view.

    Args:
        records: Of the run that saw the masked images; of any kinds.
        blind: Of the view (`mpcc.views`), the same questions about the pairs that have it; in any order.

    Returns:
        As a `Rate` each, of the pairs that have the view: `right` and `right_blind`, the accuracy of both runs, and
        `unchanged`: of the questions that the first run answered, those that the second answered alike. None where it
        answered none.

    Raises:
        ValueError: there is no blind record, one was asked what the first run was not, or a question came twice.
    """
    first, second = _by_item(record for record in records if record["kind"] == "free"), _by_item(blind)
    if not second or second.keys() - first.keys():
        odd = min(second.keys() - first.keys(), default="any")
        raise ValueError(f"the run and its blind view were not asked the same: only one has item {odd}")
    return _compare([(first[id], record) for id, record in second.items()])


def format_collapse(records: Iterable[Record]) -> dict[str, Rate]:
    """Right free-form answers that lost the tags, and their reasoning with them.

    An answer in a whole `<answer>` is right if it equals the name once normalised. Without one, right is a text
    that holds the name as a whole word: after `</think>`, or anywhere where nothing marks reasoning.

    Args:
        records: Of any kinds; those that are not free-form are passed over.

    Returns:
        `well_formed`: completions in the format of Eq. 3. `collapsed`: right ones that are not. Empty without
        free-form answers.
    """
    free = [record for record in records if record["kind"] == "free"]
    if not free:
        return {}
    formed = [format_reward(record["completion"]) == 1.0 for record in free]
    collapsed = [not well and _is_right(record) for well, record in zip(formed, free, strict=True)]
    return {"well_formed": rate(formed), "collapsed": rate(collapsed)}


def render(signs: Mapping[str, Any]) -> str:
    """The three signs as lines of plain text.

    Args:
        signs: What `format_collapse` gives, `rigidity`, and `blindness`: view → what that function gives.
    """
    found, lines = signs["rigidity"], []
    if found["ngrams"]:
        lines.append(f"said by rote, of {found['ngrams']:,} {found['n']}-grams of reasoning: {_rote(found)}, "
                     f"{found['across_images']:.2f} are said of another image too")
    for view, rates in signs.get("blindness", {}).items():
        kept = f", {_text(rates['unchanged'])} of the answers unchanged" if rates["unchanged"] else ""
        lines.append(f"{_SHOWN[view]}, free-form: right {_text(rates['right_blind'])}, with the image "
                     f"{_text(rates['right'])}{kept}")
    if "collapsed" in signs:
        lines.append(f"format: {_text(signs['well_formed'])} well formed, {_text(signs['collapsed'])} right "
                     "but not well formed")
    return "\n".join(["Signs of failure, in percent with [95 % Wilson intervals]", *lines]) + "\n"


def _rote(found: Mapping[str, Any]) -> str:
    share = found["from_traces"]
    return "no training traces to compare with" if share is None else f"{share:.2f} stand in training traces"


def _text(found: Rate) -> str:
    return f"{found['percent']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    spoken = words(text)
    return [tuple(spoken[i : i + n]) for i in range(len(spoken) - n + 1)]


def _by_item(records: Iterable[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        if record["id"] in found:
            raise ValueError(f"item {record['id']} was asked the free-form question twice")
        found[record["id"]] = record
    return found


def _compare(pairs: Sequence[tuple[Record, Record]]) -> dict[str, Rate | None]:
    answered = [
        blind["parsed"] is not None and normalise(record["parsed"]) == normalise(blind["parsed"])
        for record, blind in pairs
        if record["parsed"] is not None
    ]
    return {
        "right": rate([record["right"] for record, _ in pairs]),
        "right_blind": rate([blind["right"] for _, blind in pairs]),
        "unchanged": rate(answered) if answered else None,
    }


def _is_right(record: Record) -> bool:
    completion, name = record["completion"], normalise(record["answer"])
    answer = parse_answer(completion)
    if answer is not None:
        return normalise(answer) == name
    if "<think>" in completion and "</think>" not in completion:
        return False  # cut off: it weighs names, and has not answered
    said = normalise(completion.rpartition("</think>")[2])
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said) is not None
