"""A program without a model, of which one rank or all fail: torchrun … tests/failing_ranks.py CASE [SECONDS]

Each rank writes its process id and number of attempt to `{rank}.pid` as soon as it has made two steps.
"""

import os
import sys
import time
from pathlib import Path

from minigrpo.launch import Program
from minigrpo.metrics import StepMetrics
from minigrpo.ranks import Ranks, SharedError
from minigrpo.reward import guarded
from minigrpo.sections import RunConfig
from minigrpo.task import Sample, Task


def fail(case: str, ranks: Ranks, step: int) -> None:
    """What goes wrong in the rollout of a step."""
    alone = ranks.rank == 1
    if case == "same":
        raise ValueError("no such file")
    if case == "own" and alone:
        raise OSError("the disk is full")
    if case == "shared":
        raise SharedError("no such sample")
    if case == "bug":
        raise KeyError("a bug")
    if case == "slow" and alone and step == 1:
        time.sleep(6)
    if case == "hang" and alone and step > 3:
        with guarded(Task(None), "reward", Sample("toy-1", "?")):
            time.sleep(1000)


def main(case: str, rank_timeout: float = 60.0) -> None:
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with Program("toy.py") as program:
        if case == "before":
            raise ValueError("wrong option")
        ranks = program.join(RunConfig(device="cpu", rank_timeout=rank_timeout))
        for step in range(1, 1000 if case in ("run", "hang") or (case == "restart" and attempt < "5") else 5):
            metrics = StepMetrics(step)
            with metrics.phase("rollout"):
                time.sleep(0.05)
                fail(case, ranks, step)
            with metrics.phase("reward"):
                ranks.gather([step])
            metrics.reduce(ranks)
            if case == "slow" and ranks.first and step == 3:  # as where it saves
                time.sleep(3 * rank_timeout)
            if step == 2:
                Path(f"{ranks.rank}.part").write_text(f"{os.getpid()} {attempt}", encoding="utf-8")
                os.replace(f"{ranks.rank}.part", f"{ranks.rank}.pid")
        if ranks.first:
            print(f"finished attempt {attempt}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
