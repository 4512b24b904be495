"""What a long run costs beside its steps: memory, open files and threads of every rank after each of 300 steps of the
default run, and the time that its checkpoints take.

    torchrun --nproc_per_node 2 tests/endurance.py               a quarter of an hour on two cores
    torchrun --nproc_per_node 2 tests/endurance.py --run.steps 30

Exit code 1 where the memory of any rank grows by 2 % or more over the last two thirds (the mean of their first and of
their last third), where files or threads have grown at all, or where saving takes 2 % of the time of the steps or more.
Memory is what is in use by glibc's own count, and what is resident just after a checkpoint, which gives free pages
back: between two of them it is that of the largest step, which the lengths of completions decide.
"""

from __future__ import annotations

import ctypes
import gc
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
    saved: bool


def measured(saved: bool) -> Row:
    gc.collect()  # figures wait for Python's collector, 11 MB each
    pages, found = int(Path("/proc/self/statm").read_text().split()[1]), mallinfo()
    return Row(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, (found.uordblks + found.hblkhd) / 1e6,
               len(os.listdir("/proc/self/fd")), threading.active_count(), saved)


def grown_by(values: list[float]) -> float:
    """By which share the mean of the last third is above that of the first."""
    third = max(1, len(values) // 3)
    return fmean(values[-third:]) / fmean(values[:third]) - 1


def main() -> None:
    rows: list[Row] = []
    saved, ended = [], []
    step, save = Saves.step, Saves.save

    def counted(self: Saves) -> None:
        before = len(saved)
        step(self)
        rows.append(measured(len(saved) > before))
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
    rest = [row.resident for row in late if row.saved]
    growth = [grown_by(values) for values in (rest, [row.used for row in late], [row.resident for row in late])]
    third = max(1, len(late) // 3)
    grown = [max(row[i] for row in late[-third:]) - max(row[i] for row in late[:third]) for i in (2, 3)]
    rank = f"rank {os.environ.get('RANK', 0)}"
    print(f"{rank}: {len(rows)} steps; MB at each tenth, resident (in use): "
          + ", ".join(f"{row.resident:.0f} ({row.used:.0f})" for row in rows[:: max(1, len(rows) // 10)]))
    print(f"{rank}: over the last two thirds resident after {len(rest)} checkpoints {growth[0]:+.2%}, in use "
          f"{growth[1]:+.2%} (resident after every step {growth[2]:+.2%}); open files {late[0].files}, {grown[0]:+d}; "
          f"threads {late[0].threads}, {grown[1]:+d}")
    share = sum(saved) / (ended[-1] - ended[0])
    print(f"{rank}: {len(saved)} checkpoints took {sum(saved):.2f} s of "
          f"{ended[-1] - ended[0]:.0f} s ({share:.2%})")
    if max(growth[:2]) >= 0.02 or grown[0] > 0 or grown[1] > 0 or share >= 0.02:
        sys.exit(1)


if __name__ == "__main__":
    main()
