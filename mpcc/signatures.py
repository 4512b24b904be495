"""Signs of three known failures: reasoning said by rote, answers without evidence, and lost format.

All work on the records of `mpcc.questions.record`; shares are percentages, 0 to 100. A `Rate` holds the number `n` of
cases, the `percent` of them that count, and its 95 % Wilson interval, `low` to `high`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from PIL import Image

from minigrpo.task import Sample
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.statistics import Rate, rate
from mpcc.words import reasoning, words

Record = Mapping[str, Any]

NGRAM = 5
"""Words of an n-gram. The fewest that different people hardly share by chance: of the 4-grams in human captions of 51
COCO images, 3.4 % recur in a caption of another image, of the 5-grams 0.6 %."""


def rigidity(records: Iterable[Record], traces: Iterable[str], n: int = NGRAM) -> dict[str, float | None]:
    """How much of the reasoning repeats the training traces, or itself from image to image, word for word.

    Letter case and punctuation do not count. A trace shorter than n words has no n-gram. Traces that share their
    wording hold most of what any text in that wording says, so that `from_traces` alone tells little: its `floor` is
    what it would be for unseen traces of the same writer, each trace held out from the others in turn. Only the
    `excess` over it hints at traces learned by heart. With a floor near 100 none can be seen in n-grams; `copied`, of
    whole reasonings, has its own and lower floor.

    Args:
        traces: The reasoning of the training data, without tags.

    Returns:
        `n`; `ngrams`, how many the reasoning has; of them in percent `from_traces`, those that also stand in a trace,
        and `across_images`, those that also stand in the reasoning about another image; `floor`, of the traces' own
        n-grams in percent those that also stand in another trace; and `excess`, `from_traces` less `floor`, in points,
        at least -100. `copied`: reasonings in percent that are a training trace as a whole, and `copied_floor`, traces
        that equal another. None where there is nothing to count: without n-grams, or traces (for a floor, two).
    """
    traces = [tuple(words(trace)) for trace in traces]
    wholes, known = Counter(traces), Counter(gram for trace in traces for gram in set(_ngrams(trace, n)))
    said = [(record["file_name"], tuple(words(reasoning(record["completion"])))) for record in records]
    spoken = [(image, gram) for image, thought in said for gram in _ngrams(thought, n)]
    images: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for image, gram in spoken:
        images[gram].add(image)
    repeated = sum(gram in known for _, gram in spoken)
    shared = sum(len(images[gram]) > 1 for _, gram in spoken)
    told = [known[gram] > 1 for trace in traces for gram in _ngrams(trace, n)]
    copied = [thought in wholes for _, thought in said if thought]
    from_traces = 100 * repeated / len(spoken) if spoken and traces else None
    floor = 100 * fmean(told) if told and len(traces) > 1 else None
    return {
        "n": n, "ngrams": len(spoken), "from_traces": from_traces, "floor": floor,
        "excess": None if from_traces is None or floor is None else from_traces - floor,
        "copied": 100 * fmean(copied) if copied and traces else None,
        "copied_floor": 100 * fmean(wholes[trace] > 1 for trace in traces) if len(traces) > 1 else None,
        "across_images": 100 * shared / len(spoken) if spoken else None,
    }


def blacked_out(sample: Sample) -> Sample:
    """The same question about nothing: every image all black, of its own size. Its id ends in "/black".

    The mask is gone with the image. What such answers do without is the image and the mask's place and shape at once:
    an answer that is read off the mask looks as if it came from the image.
    """
    black = tuple(Image.new("RGB", image.size) for image in sample.images)
    # another id, so that nothing kept for the real image is taken for this one
    return replace(sample, id=f"{sample.id}/black", images=black)


def blindness(records: Iterable[Record], black: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """How far the answers do without image and mask, from a run and the same run on all-black images.

    Args:
        records: Of the run that saw the masked images.
        black: Of the run with `blacked_out` samples, asked the same questions; in any order.

    Returns:
        For each kind of question, as a `Rate` each: `right` and `right_black`, the accuracy of both runs, and
        `unchanged`: of the questions that the first run answered, those that the second answered alike. None where it
        answered none.

    Raises:
        ValueError: the runs were not asked the same questions, or one of them was asked a question twice.
    """
    seen, blind = _by_question(records), _by_question(black)
    if seen.keys() != blind.keys():
        name, kind, _ = min(seen.keys() ^ blind.keys())
        raise ValueError(f"the run and its all-black run were not asked the same: {kind} of item {name}")
    kinds: dict[str, list[tuple[Record, Record]]] = defaultdict(list)
    for question, record in seen.items():
        kinds[record["kind"]].append((record, blind[question]))
    return {kind: _compare(pairs) for kind, pairs in kinds.items()}


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
        signs: What `format_collapse` gives, `rigidity`, and `blindness` where the all-black run was made.
    """
    found, lines = signs["rigidity"], []
    if found["ngrams"]:
        lines.append(f"said by rote, of {found['ngrams']:,} {found['n']}-grams of reasoning: {_rote(found)}, "
                     f"{found['across_images']:.2f} are said of another image too")
    for kind, rates in signs.get("blindness", {}).items():
        kept = f", {_text(rates['unchanged'])} of the answers unchanged" if rates["unchanged"] else ""
        lines.append(f"all-black images, {kind}: right {_text(rates['right_black'])}, with the image "
                     f"{_text(rates['right'])}{kept}")
    if "collapsed" in signs:
        lines.append(f"format: {_text(signs['well_formed'])} well formed, {_text(signs['collapsed'])} right "
                     "but not well formed")
    return "\n".join(["Signs of failure, in percent with [95 % Wilson intervals]", *lines]) + "\n"


def _rote(found: Mapping[str, Any]) -> str:
    share = found["from_traces"]
    if share is None:
        return "no training traces to compare with"
    if found["floor"] is None:
        return f"{share:.2f} stand in training traces"
    return (f"{share:.2f} stand in training traces (a floor of {found['floor']:.2f}, excess {found['excess']:+.2f}; "
            f"as a whole {found['copied']:.2f}, floor {found['copied_floor']:.2f})")


def _text(found: Rate) -> str:
    return f"{found['percent']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _ngrams(spoken: tuple[str, ...], n: int) -> list[tuple[str, ...]]:
    return [spoken[i : i + n] for i in range(len(spoken) - n + 1)]


def _by_question(records: Iterable[Record]) -> dict[tuple[str, str, str], Record]:
    found: dict[tuple[str, str, str], Record] = {}
    for record in records:
        question = (record["id"], record["kind"], record["prompt"])
        if question in found:
            raise ValueError(f"item {question[0]} was asked a {question[1]} question twice: {question[2]}")
        found[question] = record
    return found


def _compare(pairs: Sequence[tuple[Record, Record]]) -> dict[str, Rate | None]:
    answered = [
        black["parsed"] is not None and normalise(record["parsed"]) == normalise(black["parsed"])
        for record, black in pairs
        if record["parsed"] is not None
    ]
    return {
        "right": rate([record["right"] for record, _ in pairs]),
        "right_black": rate([black["right"] for _, black in pairs]),
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
