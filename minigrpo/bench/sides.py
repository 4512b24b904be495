"""The processes of the sides, and their steps in turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import minigrpo
from minigrpo.bench.workload import Workload

Say = Callable[[str], None]


class SideError(RuntimeError):
    """A side's process ended before it had answered. The message is one line."""


@dataclass(frozen=True)
class Measured:
    """Facts that a side states, its steps as `Meter.end` gives them, and for ours the figures of decoding."""

    facts: dict[str, Any]
    steps: list[dict[str, dict[str, float]]]
    decoding: dict[str, float] = field(default_factory=dict)


class Side:
    """One side's process; leaving the context ends it."""

    def __init__(self, name: str, workload: Workload, folder: Path) -> None:
        root = str(Path(minigrpo.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        settings = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(workload.threads), "TOKENIZERS_PARALLELISM": "false",
                    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minigrpo.bench.worker", name, json.dumps(asdict(workload)), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=os.environ | settings,
        )

    def __enter__(self) -> Side:
        self.facts = self._answer()["facts"]
        return self

    def __exit__(self, *error) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30 if error[0] is None else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def ask(self, word: str) -> dict[str, Any]:
        """Sends a word and waits for the answer.

        Raises:
            SideError: the process has ended instead.
        """
        with contextlib.suppress(BrokenPipeError):  # the process has ended; _answer raises with its last words
            print(word, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = [text.strip() for text in self.errors.read().splitlines() if text.strip()]
        why = "it was killed, most likely for memory: give a smaller --micro-batch" if code == -9 else \
            said[-1] if said else f"exit code {code}"
        raise SideError(f"{self.name} did not finish: {why}")


def measure(workload: Workload, names: Sequence[str], folder: Path, say: Say) -> dict[str, Measured]:
    """Runs the sides and gives what each did, after one step of each that does not count.

    On a CPU they take turns, step by step, so that other load on the machine slows both alike. On a GPU, whose memory
    would not hold both, one runs after the other.

    Raises:
        SideError: a side did not finish.
    """
    together = [names] if workload.device == "cpu" else [[name] for name in names]
    measured: dict[str, Measured] = {}
    for part in together:
        with contextlib.ExitStack() as stack:
            sides = []
            for name in part:
                say(f"{name}: loading, and a first step that does not count")
                sides.append(stack.enter_context(Side(name, workload, folder)))
                sides[-1].ask("step")
                measured[name] = Measured(sides[-1].facts, [])
            for number in range(workload.steps):
                for side in sides:
                    found = side.ask("step")
                    measured[side.name].steps.append(found)
                    say(f"{side.name}: step {number + 1} of {workload.steps} took {found['step']['seconds']:.2f} s")
            for side in sides:
                if side.name == "ours":
                    measured["ours"].decoding.update(side.ask("decoding"))
    return measured
