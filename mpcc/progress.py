"""Progress bars, on stderr: one line that is rewritten, often on a terminal and seldom where the output is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

OFTEN, SELDOM = 0.2, 30.0
"""Seconds between two looks of a bar at least."""


def progress_bar(label: str, total: int, done: int = 0, unit: str = "pairs", shown: bool = True) -> tqdm:
    """A bar of `total` pieces of work, `done` of them there already; none is shown where nothing is left to do."""
    pause = OFTEN if sys.stderr.isatty() else SELDOM
    return tqdm(total=total, initial=done, desc=label, unit=f" {unit}", file=sys.stderr, mininterval=pause,
                disable=not shown or done >= total)


def counted(label: str, items: Sequence[T]) -> Iterator[T]:
    """The items one by one; each counts as done when the next one is taken."""
    with progress_bar(label, len(items)) as bar:
        for item in items:
            yield item
            bar.update()
