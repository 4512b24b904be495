"""How a program on one rank or several begins and ends: what went wrong is one line in all, whatever the ranks."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes its seconds to load
    from minigrpo.heartbeat import Heartbeat
    from minigrpo.ranks import Ranks
    from minigrpo.sections import RunConfig

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a shell."""
SAME, STARTING = 1.0, 15.0
"""Seconds in which an error of one rank is awaited on the others; while they start, these are not in step."""


def one_line_interrupts(program: str) -> None:
    """From here on Ctrl-C is one line, also while modules are loaded."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, error, trace)
        elif os.environ.get("RANK", "0") == "0":
            print(f"{program}: interrupted", file=sys.stderr)

    sys.excepthook = hook


class Program:
    """A program that was started on every rank. As a context it ends all of them in good order:

    ValueError and OSError are one line, and exit code 1; Ctrl-C is one line; a bug shows its traceback. Whatever is the
    same on several ranks is said once, and what is of one rank only with its number. A rank that lost another says
    nothing if that one has said why.

    Args:
        name: What its lines begin with: "train.py".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ranks: Ranks | None = None
        self._heartbeat: Heartbeat | None = None

    def join(self, run: RunConfig) -> Ranks:
        """Joins the other ranks, and watches them from here on. Raises ValueError; see `minigrpo.ranks.join`."""
        from minigrpo.heartbeat import Heartbeat
        from minigrpo.ranks import join

        self._ranks = join(run.device, run.rank_timeout)
        self._heartbeat = Heartbeat(self._name, self._ranks, run.rank_timeout)
        return self._ranks

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from minigrpo.ranks import leave

        code: Any = 0
        try:
            if error is not None:
                code = self._end(error)
        finally:
            if self._heartbeat:
                self._heartbeat.leave(code if isinstance(code, int) else 1)
            leave()
        if code and not (isinstance(error, SystemExit) and error.code == code):
            raise SystemExit(code) from error

    def _end(self, error: BaseException) -> int | str | None:
        """Says what is to be said; the exit code, or the line that ends a program of one rank, or None for a bug there,
        whose traceback Python shows."""
        from minigrpo.ranks import SharedError, lost_peer

        several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        if several:  # whoever ends first has the launcher end the others, which still have to speak
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        if isinstance(error, SystemExit):
            gone = several and error.code and self._heartbeat and self._heartbeat.dead()
            return (self._heartbeat.lost() if gone else None) or error.code
        if isinstance(error, KeyboardInterrupt):
            self._say(f"{self._name}: interrupted", "interrupted", wait=0)
            return INTERRUPTED
        if isinstance(error, RuntimeError) and lost_peer(error):
            if code := self._heartbeat and self._heartbeat.lost():
                return code
            self._say(f"{self._name}: error: lost the connection to another rank", "lost", wait=0)
            return 1
        if isinstance(error, (ValueError, OSError)):
            text = f"{self._name}: error: {' '.join(str(error).split())}"
            if not several:
                return text
            self._say(text, text, wait=0 if isinstance(error, SharedError) else SAME if self._ranks else STARTING)
            return 1
        if not several:
            return None
        self._say("".join(traceback.format_exception(error)).rstrip(), f"{type(error)} {error}", wait=SAME)
        return 1

    def _say(self, text: str, key: str, wait: float) -> None:
        """Says it on the first rank that wants to.

        Args:
            key: What is the same where ranks say the same.
            wait: Seconds in which another rank must want to say it, or else the line names this one.
        """
        from minigrpo.ranks import open_store

        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return print(text, file=sys.stderr, flush=True)
        key = hashlib.sha256(key.encode()).hexdigest()
        try:
            store = (self._ranks.store if self._ranks else open_store()).clone()
            if store.add(key, 1) > 1:
                until = time.monotonic() + SAME + STARTING
                while not store.check([f"{key} said"]) and time.monotonic() < until:
                    time.sleep(0.02)
                return None
            until = time.monotonic() + wait
            while (alone := wait > 0 and store.add(key, 0) == 1) and time.monotonic() < until:
                time.sleep(0.02)
        except RuntimeError:  # the store is gone: better said twice than not at all
            return print(f"{text} (rank {rank})", file=sys.stderr, flush=True)
        print(f"{text} (rank {rank})" if alone else text, file=sys.stderr, flush=True)
        store.set(f"{key} said", "")
