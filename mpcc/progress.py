"""Items behind a progress bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from minigrpo.progress import progress_bar

T = TypeVar("T")


def counted(label: str, items: Sequence[T]) -> Iterator[T]:
    """The items one by one; each counts as done when the next one is taken."""
    with progress_bar(label, len(items)) as bar:
        for item in items:
            yield item
            bar.update()
