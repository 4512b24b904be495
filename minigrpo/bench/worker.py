"""The process of one side: builds it, then answers one line of JSON to every word it reads.

    python -m minigrpo.bench.worker SIDE WORKLOAD FOLDER
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import torch

from minigrpo.bench.workload import Workload
from minigrpo.cpu import keep_freed_memory


class Link:
    """The other end: words come on standard input, answers go to what was standard output."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print must not get between the answers

    def wait(self) -> str:
        """The next word; the process ends where there is none."""
        word = sys.stdin.readline().strip()
        if not word:
            raise SystemExit(0)
        return word

    def answer(self, found: dict) -> None:
        """Sends one object."""
        print(json.dumps(found), file=self.out, flush=True)


def main() -> None:
    """Serves until standard input ends."""
    keep_freed_memory()
    link = Link()
    side, described, folder = sys.argv[1:]
    workload = Workload(**json.loads(described))
    torch.set_num_threads(workload.threads)
    importlib.import_module(f"minigrpo.bench.{side}").run(workload, Path(folder), link)


if __name__ == "__main__":
    main()
