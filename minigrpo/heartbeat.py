"""Signs of life. Every rank tells the others where it stands, and ends the run where one is gone or stands still.

A collective waits for ever for a rank that does not come, and cannot be interrupted: a thread ends the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from minigrpo.ranks import Ranks
from minigrpo.standing import Standing, here

BEAT = 1.0
"""Seconds between two signs of life, at most."""
SILENT = 0.8
"""Share of `run.rank_timeout` after which a rank without a sign of life is gone; told apart from one that computes."""
LOST = 5.0
"""Seconds without a sign of life after which a rank is gone, where a connection has broken."""
GRACE = 10.0
"""Seconds for this rank to end by itself after another has ended with an error."""


@dataclass
class Peer:
    """Another rank, as this one knows it."""

    rank: int
    host: str = "an unknown host"
    at: Standing = field(default_factory=Standing)
    beat: int = -1
    left: int | None = None
    """Its exit code, once it has said that it ends."""
    silent: float = 0.0
    """Seconds without a sign of life."""
    still: float = 0.0
    """Seconds for which neither it nor this rank has moved."""
    process: int | None = None
    """Descriptor of its process, where it is on this machine: readable once that has ended."""
    gone: bool = False
    """Whether its process has ended."""

    @property
    def died(self) -> bool:
        """Whether it ended without a word."""
        return self.gone and self.left is None

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


class Heartbeat:
    """The thread of a rank. One rank alone has nobody to watch: of it a reward that takes too long is named.

    Args:
        program: Whose lines these are: "train.py".
        timeout: `run.rank_timeout`, seconds; 0 waits for ever for a rank that lives.
    """

    def __init__(self, program: str, ranks: Ranks, timeout: float) -> None:
        self._program, self._ranks, self._timeout = program, ranks, timeout
        self._store = ranks.store.clone() if ranks.size > 1 else None  # one that no collective waits in
        self._peers = [Peer(rank) for rank in range(ranks.size) if rank != ranks.rank]
        self._beats, self._moves, self._still, self._warned, self._orphaned = 0, 0, 0.0, False, 0.0
        self._lost, self._storeless, self._left = False, 0.0, None
        self._launcher = os.getppid()
        self._pause = min(BEAT, timeout / 10) if timeout else BEAT
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def dead(self) -> list[str]:
        """The peers that ended without a word, described."""
        self._look([peer for peer in self._peers if peer.process is not None and not peer.gone], 0)
        with contextlib.suppress(RuntimeError):
            self._read(0)
        return [f"{peer} died, last seen in {peer.at}" for peer in self._peers if peer.died]

    def lost(self) -> int | None:
        """A connection to a peer broke: its exit code, where it has said that it ends, and why. Where one has died the
        thread says so and ends this process. None: it is not known who, for all that was waited."""
        self._lost, until = True, time.monotonic() + LOST + GRACE
        while time.monotonic() < until:
            if code := next((peer.left for peer in self._peers if peer.left), None):
                return code
            time.sleep(0.05)
        return None

    def leave(self, code: int) -> None:
        """Ends the thread, and tells the others with which exit code this rank ends."""
        self._left = code
        os.write(self._stop, b"x")
        self._thread.join(timeout=2 * BEAT)
        if not self._thread.is_alive():
            for descriptor in (self._wake, self._stop, *filter(None, (peer.process for peer in self._peers))):
                os.close(descriptor)
        with contextlib.suppress(RuntimeError):
            self._tell()

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            # a pause of this process (Ctrl-Z, a loaded machine) must not count as one of the others
            now = time.monotonic()
            passed, last = min(now - last, 2 * self._pause), now
            try:
                self._tell()
                self._read(passed)
                self._storeless = 0.0
            except RuntimeError:  # whoever keeps the store has ended
                self._storeless += passed
            self._judge(passed)
            if self._peers and self._launcher != os.getppid():  # killed: nobody would end this process later
                self._launcher = os.getppid()
                os.kill(os.getpid(), signal.SIGTERM)
            if self._look([peer for peer in self._peers if peer.process is not None and not peer.gone], self._pause):
                return

    def _look(self, peers: Sequence[Peer], pause: float) -> bool:
        """Waits for so many seconds, or until a process of these ends, or this thread is told to, which it returns."""
        ready, _, _ = select.select([self._wake, *(peer.process for peer in peers)], [], [], pause)
        for peer in peers:
            peer.gone = peer.gone or peer.process in ready
        return self._wake in ready

    def _tell(self) -> None:
        """Tells the others that this rank lives, and where it stands."""
        self._beats += 1
        if self._store is not None:
            self._store.set(f"beat/{self._ranks.rank}", json.dumps({
                "beat": self._beats, "left": self._left, "host": socket.gethostname(), "pid": os.getpid(),
                "machine": _machine(), "at": dataclasses.asdict(here)}))

    def _read(self, passed: float) -> None:
        """Takes over what the others tell; `passed` seconds have gone since the last time."""
        moved, self._moves = here.moves != self._moves, here.moves
        self._still = 0.0 if moved else self._still + passed
        for peer in self._peers:
            key, told = f"beat/{peer.rank}", {}
            if self._store.check([key]):
                told = json.loads(self._store.get(key))
            new = bool(told) and told["beat"] != peer.beat
            peer.silent = 0.0 if new else peer.silent + passed
            if new:
                stood = not moved and told["at"]["moves"] == peer.at.moves
                peer.beat, peer.left, peer.host = told["beat"], told["left"], told["host"]
                peer.at = Standing(**told["at"])
                peer.still = peer.still + passed if stood else 0.0
                if peer.process is None and not peer.gone and told["machine"] == _machine():
                    peer.process, peer.gone = _process(told["pid"])

    def _judge(self, passed: float) -> None:
        """Ends the process where another is gone or stands still, with a line that says which and where."""
        limit = self._timeout + here.longest
        for peer in self._peers:
            if peer.left is not None:
                continue
            if peer.died:
                self._end(peer, f"died, last seen in {peer.at}")
            elif peer.silent > (LOST if self._lost else SILENT * self._timeout or float("inf")):
                self._end(peer, f"has given no sign of life for {peer.silent:.0f} s, last seen in {peer.at}")
            elif self._timeout and here.waiting and here.longest and peer.at.step and not peer.at.waiting \
                    and peer.still > limit:
                self._end(peer, f"stands still for {peer.still:.0f} s, in {peer.at}: that is run.rank_timeout "
                                f"({self._timeout:g} s) beyond the longest step ({here.longest:.1f} s)")
        if self._storeless > LOST:
            self._end(next((p for p in self._peers if p.rank == 0), self._peers[0]),
                      "or the launcher is gone: the store of the ranks is closed")
        self._orphaned += passed if any(peer.left for peer in self._peers) else 0.0
        if self._orphaned > GRACE:  # it has said why; no collective will ever end
            os._exit(1)
        if self._timeout and here.sample and not self._warned and self._still > limit \
                and (not self._peers or not here.longest):  # else the others end the run
            self._warned = True
            self._say(f"warning: rank {self._ranks.rank} stands still for {self._still:.0f} s, in {here}")

    def _end(self, peer: Peer, text: str) -> None:
        """Says what a peer has done, once for all ranks, and ends this process, and that of the peer if it can."""
        said = 0
        with contextlib.suppress(RuntimeError):
            said = self._store.add("ended", 1)
        if said <= 1:
            self._say(f"error: {peer} {text}")
        self._left = 1
        with contextlib.suppress(RuntimeError):
            self._tell()
        if peer.process is not None and not peer.gone:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(peer.process, signal.SIGKILL)
        os._exit(1)

    def _say(self, text: str) -> None:
        start = "\n" if sys.stdout.isatty() else ""  # below a progress line
        os.write(2, f"{start}{self._program}: {text}\n".encode())  # print would wait for a lock that others hold


def _machine() -> str:
    """What processes share that can see each other."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return f"{socket.gethostname()} {sys.platform}"


def _process(pid: int) -> tuple[int | None, bool]:
    """A descriptor of a process, where the system has such, and whether the process has ended."""
    try:
        return os.pidfd_open(pid), False
    except ProcessLookupError:
        return None, True
    except (AttributeError, OSError):
        return None, False
