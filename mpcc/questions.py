"""The questions of MPCC-Eval about one pair: single choice of 4 and of 7, true/false, free-form.

Everything random comes from (seed, item, kind), so that a model is asked the same whoever asks and in whatever order.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

from mpcc import prompts
from mpcc.benchmark import Item
from mpcc.choices import parse_choice
from mpcc.parsing import parse_free, parse_yes_no
from mpcc.rewards import distance_similarity, normalise

Kind = Literal["cho_e", "cho_h", "true_false", "free"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Mode = Literal["base", "reasoning"]
"""reasoning sends the system prompt of the paper's Table 1. base sends none, and the model's chat template may then add
its own: that of Qwen2.5-VL adds "You are a helpful assistant."."""


@dataclass(frozen=True)
class Question:
    """One question about an item.

    Attributes:
        options: The lettered names in their order; for true_false the one name asked about; empty for free.
        truth: "B", "yes" or "no", or the hidden object's name.
        text: What the model reads.
        role: For true_false, which names the statement is from: truth, confusing or irrelevant; else None.
        in_all: Whether it is one of the 5 statements a pair of Table 3's "All".
    """

    item: Item
    kind: Kind
    options: tuple[str, ...]
    truth: str
    text: str
    role: str | None = None
    in_all: bool = False


def ask(item: Item, kinds: Sequence[Kind] = KINDS, seed: int = 0) -> list[Question]:
    """The item's questions of the given kinds: 1, 1, 7 and 1 of them.

    cho_e offers the truth, the first 2 confusing names and 1 irrelevant one; cho_h the truth, all 4 and 2; true_false
    asks about each of the 7, and "All" counts the truth, the last 2 confusing and the 2 irrelevant. Of
    more than 2 irrelevant names 2 are drawn, the same for all kinds.

    Raises:
        ValueError: an unknown kind.
    """
    unrelated = Random(f"{seed}/{item.id}/irrelevant").sample(item.irrelevant, 2)
    questions: list[Question] = []
    for kind in kinds:
        if kind == "cho_e":
            questions.append(_choice(item, kind, (*item.confusing[:2], unrelated[0]), seed))
        elif kind == "cho_h":
            questions.append(_choice(item, kind, (*item.confusing, *unrelated), seed))
        elif kind == "true_false":
            questions += _statements(item, unrelated)
        elif kind == "free":
            questions.append(Question(item, kind, (), item.answer, prompts.QUESTION))
        else:
            raise ValueError(f"kind = {kind!r} is unknown: choose from {', '.join(KINDS)}")
    return questions


def record(question: Question, completion: str, mode: Mode, cut_off: bool = False) -> dict[str, Any]:
    """The completion parsed and judged: what a line of answers.jsonl holds.

    `parsed` is a letter, "yes" or "no", or the text of a free-form answer; None where the completion gives none, which
    is wrong. A free-form answer is right if it equals the name once both are normalised; `similarity` is that of
    Eq. 3, 1 - Levenshtein distance over the longer length, in [0, 1]. `cut_off`: the limit of new tokens ended it.
    """
    item, parsed = question.item, _parse(question, completion)
    free = question.kind == "free"
    given, truth = (normalise(parsed or ""), normalise(question.truth)) if free else (parsed, question.truth)
    judged = {
        "id": item.id,
        "kind": question.kind,
        "role": question.role,
        "in_all": question.in_all,
        "difficulty": item.difficulty,
        "answer": item.answer,
        "supercategory": item.supercategory,
        "file_name": item.file_name,
        "bbox": list(item.box),
        "options": list(question.options),
        "prompt": question.text,
        "system": mode == "reasoning",
        "truth": question.truth,
        "completion": completion,
        "cut_off": cut_off,
        "parsed": parsed,
        "right": given == truth,
    }
    return judged | ({"similarity": distance_similarity(given, truth)} if free else {})


def _choice(item: Item, kind: Kind, wrong: Sequence[str], seed: int) -> Question:
    options = [item.answer, *wrong]
    Random(f"{seed}/{item.id}/{kind}").shuffle(options)
    truth = string.ascii_uppercase[options.index(item.answer)]
    return Question(item, kind, tuple(options), truth, prompts.choice_question(options))


def _statements(item: Item, unrelated: Sequence[str]) -> list[Question]:
    asked = [(item.answer, "truth", True)]
    asked += [(name, "confusing", place >= 2) for place, name in enumerate(item.confusing)]
    asked += [(name, "irrelevant", True) for name in unrelated]
    return [
        Question(item, "true_false", (name,), "yes" if role == "truth" else "no", prompts.true_false_question(name),
                 role, in_all)
        for name, role, in_all in asked
    ]


def _parse(question: Question, completion: str) -> str | None:
    if question.kind == "free":
        return parse_free(completion)
    if question.kind == "true_false":
        return parse_yes_no(completion)
    return parse_choice(completion, question.options)
