"""The page to leaf through a benchmark's answers: each item with its masked image and everything asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mpcc import pages
from mpcc.prompts import SYSTEM_PROMPT

_SIDE = 480  # a thousand images make a page of some tens of megabytes
_OF_ITEM = ("id", "file_name", "difficulty", "answer")
_OF_QUESTION = ("kind", "role", "options", "prompt", "system", "truth", "completion", "parsed", "right", "similarity",
                "seen")


def write_page(
    records: Sequence[Mapping[str, Any]],
    image_of: Callable[[Mapping[str, Any]], Image.Image],
    path: str | Path,
    title: str,
    note: str = "",
) -> None:
    """Writes a self-contained page with one entry per item, its questions together; it needs no network.

    The page filters by kind, difficulty, category and verdict, and shows prompt, options, completion, parsed answer and
    truth of each question.

    Args:
        records: Judged answers, as `mpcc.questions.record` and `mpcc.blink.score` give them.
        image_of: Gives the image that the model saw. Called once an item, with its first record.
        path: HTML file; appears whole or not at all.
        note: Stands below the title.

    Raises:
        ValueError: there are no records.
    """
    if not records:
        raise ValueError(f"{path}: there is no answer to show")
    items: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        items.setdefault(record["id"], []).append(record)
    data = {"items": [_item(group) for group in items.values()], "system": SYSTEM_PROMPT, "note": note}
    pages.write(path, "report", title, data, (image_of(group[0]) for group in items.values()), _SIDE)


def _item(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = group[0]
    questions = [{field: record[field] for field in _OF_QUESTION if field in record} for record in group]
    # BLINK has no supercategories: there the subtask groups the items
    together = first.get("subtask") or first.get("supercategory") or ""
    return {field: first.get(field) for field in _OF_ITEM} | {"group": together, "questions": questions}
