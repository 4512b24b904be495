"""An evaluation beside another one that was asked the same: read, checked before anything is asked, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcc.evaluation import Evaluation
from mpcc.journal import read_journal
from mpcc.questions import Mode, ask
from mpcc.statistics import check_same_questions, differences
from mpcc.views import View, blind_kind

Record = Mapping[str, Any]

_FIELDS = {"id", "kind", "difficulty", "options", "system", "right", "completion"}


def read_comparable(folder: Path, evaluation: Evaluation, modes: Sequence[Mode], views: Sequence[View] = ()
                    ) -> dict[Mode, list[Record]]:
    """The records of another evaluation, mode by mode, as far as they are about what this one asks.

    Args:
        views: The blind views in which the free-form question is asked too.

    Raises:
        FileNotFoundError: the folder holds no answers.
        ValueError: the answers are broken, or some of what this evaluation asks was not asked there.
    """
    path = folder / "answers.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no answers.jsonl: name the folder of another evaluation")
    theirs = read_journal(path)
    for number, record in enumerate(theirs, start=1):
        if missing := _FIELDS - record.keys():
            raise ValueError(f"{path}, line {number}: an answer without {min(missing)!r}: make that evaluation anew")
    asked = [
        {"id": item.id, "kind": question.kind, "difficulty": item.difficulty, "options": question.options,
         "right": False}
        for item in evaluation.benchmark.items for question in ask(item, evaluation.kinds, evaluation.seed)
    ] + [
        {"id": item.id, "kind": blind_kind(view), "difficulty": item.difficulty, "options": (), "right": False}
        for view in views for item in evaluation.blind(view).benchmark.items
    ]
    wanted = {(record["id"], record["kind"]) for record in asked}
    found: dict[Mode, list[Record]] = {}
    for mode in modes:
        found[mode] = [r for r in theirs if r["system"] is (mode == "reasoning") and (r["id"], r["kind"]) in wanted]
        if not found[mode]:
            others = ", ".join(sorted({"reasoning" if r["system"] else "base" for r in theirs}))
            raise ValueError(f"--compare {folder}: none of these questions was asked there in the mode {mode} (its "
                             f"modes: {others or 'none'}): choose --mode, or the same benchmark")
        try:
            check_same_questions(asked, found[mode])
        except ValueError as error:
            raise ValueError(f"--compare {folder}, {mode}: {error}; --kinds, --limit, --seed, --no-blind and the "
                             "benchmark must ask for no more than was asked there") from error
    return found


def compare(records: Sequence[Record], theirs: Mapping[Mode, Sequence[Record]]) -> dict[Mode, dict[str, Any]]:
    """By how much these records are better than those of `read_comparable`, mode by mode (`statistics.differences`)."""
    return {mode: differences([r for r in records if r["system"] is (mode == "reasoning")], other)
            for mode, other in theirs.items()}
