"""Where this process stands: its step and phase, and whether it waits for others. Told by what it does as it goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Standing:
    """Where a process stands.

    Attributes:
        phase: The part of a step, or what is done beside steps.
        step: The step under way, from 1; 0 outside of one.
        sample: The id of the sample that the task's own code is asked about.
        waiting: Whether it is in a collective, and so waits for others.
        moves: How often any of these have changed.
        longest: Seconds of the longest step so far; 0 before the first has ended.
        began: Clock of the process when its step began.
    """

    phase: str = "loading"
    step: int = 0
    sample: str = ""
    waiting: bool = False
    moves: int = 0
    longest: float = 0.0
    began: float = 0.0

    @contextlib.contextmanager
    def at(self, **told: Any) -> Iterator[None]:
        """Within, some of the attributes are others."""
        former = {name: getattr(self, name) for name in told}
        self._move(**told)
        try:
            yield
        finally:
            self._move(**former)

    def step_begins(self, step: int) -> None:
        """Steps count from 1."""
        self._move(step=step, phase="choosing samples", began=time.monotonic())

    def step_ends(self) -> None:
        """What comes until the next step may take as long as it likes."""
        if self.step:
            self._move(step=0, phase="between steps", longest=max(self.longest, time.monotonic() - self.began))

    def _move(self, **told: Any) -> None:
        vars(self).update(told)
        self.moves += 1

    def __str__(self) -> str:
        step, sample = f"step {self.step}, " if self.step else "", f", sample {self.sample}" if self.sample else ""
        return f"{step}phase {self.phase}{sample}"


here = Standing()
"""That of this process."""
