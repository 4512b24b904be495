"""What a long run costs beside its steps: memory, open files and threads of every rank after each of 300 steps of the
default run, and the time that its checkpoints take.

    torchrun --nproc_per_node 2 tests/endurance.py               a quarter of an hour on two cores
    torchrun --nproc_per_node 2 tests/endurance.py --run.steps 30

Exit code 1 where the memory of any rank grows by 2 % or more over the last two thirds (the mean of their first and of
their last tenth), where files or threads have grown at all, or where saving takes 2 % of the time of the steps or more.
Resident memory holds what is free for the next tensors, too, and rises with the largest step so far; what is in use
(glibc's own count) tells a leak from that.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train  # noqa: E402
from minigrpo.saving import Saves  # noqa: E402

STEPS = "300"


class Allocated(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Allocated


class Row(NamedTuple):
    """After a step: memory in MB, open files, threads of Python, as those of libraries come and go."""

    resident: float
    used: float
    files: int
    threads: int


def measured() -> Row:
    pages, found = int(Path("/proc/self/statm").read_text().split()[1]), mallinfo()
    return Row(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, (found.uordblks + found.hblkhd) / 1e6,
               len(os.listdir("/proc/self/fd")), threading.active_count())


def main() -> None:
    rows: list[Row] = []
    saved, ended = [], []
    step, save = Saves.step, Saves.save

    def counted(self: Saves) -> None:
        step(self)
        rows.append(measured())
        ended.append(time.monotonic())

    def timed(self: Saves) -> None:
        began = time.monotonic()
        save(self)
        saved.append(time.monotonic() - began)

    Saves.step, Saves.save = counted, timed
    if not any(word.startswith("--run.steps") for word in sys.argv):
        sys.argv += ["--run.steps", STEPS]
    train.main()
    late = rows[len(rows) // 3 :]
    tenth = max(1, len(late) // 10)
    first, last = ([fmean(column) for column in zip(*part, strict=True)] for part in (late[:tenth], late[-tenth:]))
    growth = [now / then - 1 for then, now in zip(first[:2], last[:2], strict=True)]
    grown = [max(row[i] for row in late[-tenth:]) - max(row[i] for row in late[:tenth]) for i in (2, 3)]
    rank = f"rank {os.environ.get('RANK', 0)}"
    print(f"{rank}: {len(rows)} steps; MB at each tenth, resident (in use): "
          + ", ".join(f"{row.resident:.0f} ({row.used:.0f})" for row in rows[:: max(1, len(rows) // 10)]))
    print(f"{rank}: over the last two thirds resident {growth[0]:+.2%}, in use {growth[1]:+.2%}; open files "
          f"{late[0].files}, {grown[0]:+d}; threads {late[0].threads}, {grown[1]:+d}")
    share = sum(saved) / (ended[-1] - ended[0])
    print(f"{rank}: {len(saved)} checkpoints took {sum(saved):.2f} s of "
          f"{ended[-1] - ended[0]:.0f} s ({share:.2%})")
    if growth[0] >= 0.02 or grown[0] > 0 or grown[1] > 0 or share >= 0.02:
        sys.exit(1)


if __name__ == "__main__":
    main()
