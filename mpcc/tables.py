"""The figures of the paper's tables from the records of a run: accuracies, Score, true/false, biases, ID and OOD.

Percentages, 0 to 100, unrounded. After MPCC, arXiv 2510.21807, Tables 2 to 4; `mpcc.render` prints them.
"""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from mpcc.benchmark import DIFFICULTIES
from mpcc.statistics import rate
from mpcc.views import BLIND_KINDS

Record = Mapping[str, Any]

CHOICES = ("cho_e", "cho_h")
FREE = ("free", *BLIND_KINDS)
ROWS = ("truth", "confusing", "irrelevant", "all")
"""The rows of Table 3; `all` counts 5 statements a pair."""


def tables(records: Iterable[Record], id_names: Collection[str] | None = None) -> dict[str, Any]:
    """Every figure of a run; a kind that was not asked is left out.

    Intervals take the questions as independent. The statements of one pair are not quite: see
    `mpcc.statistics.differences` for a comparison that respects it.

    Args:
        records: Of `mpcc.questions.record`, in any order.
        id_names: The categories of the ID half; given, `halves` splits choices and free-form by the hidden
            category.

    Returns:
        `items`: pairs per subset and in all (`pooled`).
        `cho_e`, `cho_h`: a `Rate` per subset asked and `pooled`; `macro`, the unweighted mean of the three subsets
        (None where one is missing); `unparsed`; `cut_off`, answers that the limit of new tokens ended; `letters`, how
        often each letter was said, and `truths`, how often it was right. `score`: the sum of the six
        subset columns, at most 600 (None where one is missing).
        `true_false`: the same rates for each row of Table 3; `yes`, the rates of yes answers; `yes_truths`, the
        share of statements that are true; `unparsed`, `cut_off`.
        `free`: the rates of exact matches; `similarity`, its mean per subset, `macro` and `pooled`; the two shares too.
        `free_no_evidence`, `free_elsewhere`, `free_black`: the same in the blind views (`mpcc.views`).
        `halves`: {"id", "ood"} → {"cho_e", "cho_h", "free", and the blind views} → `n`, `pooled`, `macro`.
    """
    kinds: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        kinds[record["kind"]].append(record)
    figures: dict[str, Any] = {"items": _items(kinds)}
    for kind in CHOICES:
        if kinds[kind]:
            figures[kind] = _rates(kinds[kind]) | _letters(kinds[kind]) | _lost(kinds[kind])
    if all(kind in figures for kind in CHOICES):
        figures["score"] = _score(figures)
    if kinds["true_false"]:
        figures["true_false"] = _true_false(kinds["true_false"])
    for kind in FREE:
        if kinds[kind]:
            figures[kind] = _free(kinds[kind])
    if id_names is not None:
        figures["halves"] = _halves(kinds, id_names)
    return figures


def _items(kinds: Mapping[str, Sequence[Record]]) -> dict[str, int]:
    level_of = {record["id"]: record["difficulty"] for records in kinds.values() for record in records}
    counts = {level: list(level_of.values()).count(level) for level in DIFFICULTIES}
    return counts | {"pooled": len(level_of)}


def _by_level(records: Iterable[Record], value: Callable[[Record], Any]) -> dict[str, list[Any]]:
    """Subset → values, in the order of the tables; a subset without records is left out."""
    levels: dict[str, list[Any]] = {level: [] for level in DIFFICULTIES}
    for record in records:
        levels[record["difficulty"]].append(value(record))
    return {level: values for level, values in levels.items() if values}


def _rates(records: Sequence[Record], hit: Callable[[Record], bool] = lambda record: record["right"]) -> dict[str, Any]:
    levels = {level: rate(hits) for level, hits in _by_level(records, hit).items()}
    macro = _macro({level: found["percent"] for level, found in levels.items()})
    return levels | {"macro": macro, "pooled": rate([hit(record) for record in records])}


def _macro(levels: Mapping[str, float]) -> float | None:
    return sum(levels.values()) / len(DIFFICULTIES) if len(levels) == len(DIFFICULTIES) else None


def _lost(records: Sequence[Record]) -> dict[str, float]:
    """Shares of the answers without a readable answer, and of those that the limit of new tokens cut off."""
    return {"unparsed": 100 * sum(record["parsed"] is None for record in records) / len(records),
            "cut_off": 100 * sum(record.get("cut_off", False) for record in records) / len(records)}


def _letters(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    said, right = [record["parsed"] for record in records], [record["truth"] for record in records]
    letters = string.ascii_uppercase[: max(len(record["options"]) for record in records)]
    return {
        name: {letter: 100 * values.count(letter) / len(records) for letter in letters}
        for name, values in (("letters", said), ("truths", right))
    }


def _score(figures: Mapping[str, Any]) -> float | None:
    columns = [figures[kind].get(level) for kind in CHOICES for level in DIFFICULTIES]
    return sum(column["percent"] for column in columns) if all(columns) else None


def _true_false(records: Sequence[Record]) -> dict[str, Any]:
    rows = {row: [r for r in records if (r["in_all"] if row == "all" else r["role"] == row)] for row in ROWS}
    return {row: _rates(found) for row, found in rows.items() if found} | {
        "yes": _rates(records, lambda record: record["parsed"] == "yes"),
        "yes_truths": 100 * sum(record["truth"] == "yes" for record in records) / len(records),
    } | _lost(records)


def _free(records: Sequence[Record]) -> dict[str, Any]:
    levels = _by_level(records, lambda record: 100 * record["similarity"])
    means = {level: sum(values) / len(values) for level, values in levels.items()}
    pooled = sum(sum(values) for values in levels.values()) / len(records)
    similarity = means | {"macro": _macro(means), "pooled": pooled}
    return _rates(records) | {"similarity": similarity} | _lost(records)


def _halves(kinds: Mapping[str, Sequence[Record]], id_names: Collection[str]) -> dict[str, Any]:
    halves: dict[str, dict[str, Any]] = {"id": {}, "ood": {}}
    for kind in (*CHOICES, *FREE):
        for half, known in (("id", True), ("ood", False)):
            found = [record for record in kinds[kind] if (record["answer"] in id_names) is known]
            if found:
                rates = _rates(found)
                halves[half][kind] = {"n": len(found), "pooled": rates["pooled"], "macro": rates["macro"]}
    return halves
