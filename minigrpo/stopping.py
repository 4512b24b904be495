"""SIGTERM and Ctrl-C: a run finishes its step, saves, and ends with an exit code of its own."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

EXIT_CODE = 75
"""Of a run that was stopped and can go on: sysexits.h's "try again", which a scheduler tells from a failure."""
AGAIN = 2.0
"""Seconds within which signals are one: the launcher of several ranks passes on what the terminal has sent already."""


class StopSignal:
    """Listens while it is entered. Within a step a signal is only noted; outside of one, or a second time, it ends.

    Attributes:
        hint: How to go on, for who is told that the run ends.
        asked: Whether the run is to stop.
        waits: Whether a signal waits until the step is done.
    """

    def __init__(self) -> None:
        self.hint = "nothing was begun"
        self.asked = self.waits = False
        self._since = 0.0
        self._former: dict[int, signal.Handlers] = {}

    def __enter__(self) -> StopSignal:
        self._former = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.asked and now - self._since > AGAIN
        if not self.asked:
            self.asked, self._since = True, now
            self._say("stopping after this step; once more ends at once" if self.waits else f"stopped; {self.hint}")
        if again or not self.waits:
            raise SystemExit(EXIT_CODE)

    @staticmethod
    def _say(text: str) -> None:
        if os.environ.get("RANK", "0") == "0":
            os.write(2, f"\n{text}\n".encode())  # print is not safe in a handler: it may interrupt another print
