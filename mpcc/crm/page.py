"""The page of an evaluation with --crm: each picture with its regions, and the steps tinted by what they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from mpcc import pages
from mpcc.crm.cases import Case
from mpcc.crm.records import Record
from mpcc.crm.regions import Fill

MOST = 200
"""Pictures that the page shows, the first ones: each is there once for every region too."""
_SIDE = 480


def write_page(cases: Sequence[Case], records: Sequence[Record], fill: Fill, path: Path, title: str, summary: str,
               verdict: Sequence[str]) -> None:
    """Writes the self-contained page of some cases and their records, in one order.

    Args:
        summary: The figures as text.
        verdict: Lines on the model, which stand above the pictures.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError(f"{path}: there is no picture to show")
    items, first = [], 0
    for record in records[:MOST]:
        count = len(record["regions"])
        shown = [first, list(range(first + 1, first + 1 + count))]
        items.append(record | {"pictures": shown, "samples": []})
        first += 1 + count
    left_out = f"\nthe page shows the first {MOST} of {len(records):,} pictures" if len(records) > MOST else ""
    data = {"items": items, "summary": summary + left_out, "verdict": list(verdict)}
    pages.write(path, "crm", title, data, _pictures(cases[:MOST], fill), _SIDE)


def _pictures(cases: Sequence[Case], fill: Fill) -> Iterator[Image.Image]:
    for case in cases:
        yield from case.views(fill)[: 1 + len(case.regions)]
