"""The progress line of a stage: rewritten in place on a terminal, a few plain lines where the output is kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

LINES = 10
"""Lines that a whole stage prints at most where the output is no terminal."""
PAUSE = 1.0
"""Seconds between two of them at least: a stage that is done at once needs only the last."""


class Progress:
    """Counts answers or other work, `done` of `total` being there already. Any thread may `tick`."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self._label, self._total, self._done = label, total, done
        self._asked, self._began, self._lock = 0, time.monotonic(), threading.Lock()
        self._said = self._began
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self._done:
            self._say(f"{self._done} of {self._total} answers are there already")
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal and self._asked:
            print(file=sys.stderr)

    def tick(self) -> None:
        """One more answer has arrived, one more piece of work is done."""
        with self._lock:
            self._done, self._asked = self._done + 1, self._asked + 1
            due = self._done * LINES % self._total < LINES and time.monotonic() >= self._said + PAUSE
            if self._terminal or self._done == self._total or due:
                self._said = time.monotonic()
                self._say(self._figures(), rewrite=self._terminal)

    def _figures(self) -> str:
        seconds = time.monotonic() - self._began
        left = round(seconds / self._asked * (self._total - self._done))
        minutes, second = divmod(left, 60)
        return f"{self._done}/{self._total}  {self._asked / max(seconds, 1e-3):.1f}/s  {minutes}:{second:02d} left"

    def _say(self, text: str, rewrite: bool = False) -> None:
        end = "" if rewrite else "\n"
        start = "\r\x1b[K" if rewrite else ""
        print(f"{start}{self._label}: {text}", end=end, file=sys.stderr, flush=True)


def counted(label: str, items: Sequence[T]) -> Iterator[T]:
    """The items one by one; each counts as done when the next one is taken."""
    with Progress(label, len(items), 0) as progress:
        for item in items:
            yield item
            progress.tick()
