"""A task whose reward reads the completion's text. As a program it runs several trainings in one process group:

    torchrun --nproc_per_node 2 tests/toy_task.py CASES.json      command lines, each with `replica.UNIT` and `.BUCKET`
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tiny

from minigrpo import Completion, Sample, Task

NAME = "toy_task:ToyTask"


@dataclass(frozen=True)
class Config:
    """Options of the toy task."""

    prompts: int = 6
    """Training samples."""
    images_every: int = 0
    """Every n-th sample has an image; 0: none."""
    priors: bool = False
    """Every second sample has a trajectory."""
    prior_text: str = "words"
    """The trajectory."""
    flat_every: int = 0
    """Every n-th sample earns the same whatever is answered; 0: none."""
    broken: Literal["", "nan", "count", "empty"] = ""
    """How the reward is wrong."""
    held_out: int = 3
    """Samples of the evaluation."""
    record: str = ""
    """Folder in which each rank writes down what it was asked to reward."""


class ToyTask(Task):
    """Reward: the share of letters, and half a point where most characters are letters."""

    Config = Config
    reward_weights = {"exact": 0.5}

    def samples(self) -> list[Sample]:
        return [self._sample(i) for i in range(self.config.prompts)]

    def _sample(self, i: int) -> Sample:
        c = self.config
        images = (tiny.image(56 + 28 * (i % 2), 56, i),) if c.images_every and i % c.images_every == 0 else ()
        flat = c.flat_every > 0 and i % c.flat_every == 0
        prior = c.prior_text if c.priors and i % 2 == 1 else None
        return Sample(f"toy-{i}", f"write {'more ' * (i % 3)}letters, {i}", images, prior=prior, data={"flat": flat})

    def reward(self, sample: Sample, completions: list[Completion]) -> dict[str, list[float]]:
        texts = [completion.text for completion in completions]
        if self.config.record:
            file = Path(self.config.record) / f"{os.environ.get('RANK', '0')}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "a", encoding="utf-8") as out:
                out.write(json.dumps({"id": sample.id, "texts": texts, "images": len(sample.images),
                                      "flat": sample.data["flat"]}) + "\n")
        if self.config.broken:
            return {"nan": {"letters": [float("nan")] * len(texts)}, "empty": {},
                    "count": {"letters": [0.0]}}[self.config.broken]
        shares = [0.25 if sample.data["flat"] else letters(text) for text in texts]
        return {"letters": shares, "exact": [float(share > 0.5) for share in shares]}

    def evaluate(self, answer) -> dict[str, float]:
        if not self.config.held_out:
            return {}
        shares = [letters(text) for text in answer([self._sample(i) for i in range(self.config.held_out)])]
        return {"exact_match": sum(s > 0.5 for s in shares) / len(shares), "letters": sum(shares) / len(shares)}


def letters(text: str) -> float:
    """Share of ASCII letters."""
    return sum(c.isascii() and c.isalpha() for c in text) / max(1, len(text))


def run_cases(cases: list[tuple[list[str], int, int]]) -> None:
    """Trains once per command line, with these sizes of FSDP and refresh, in one process group; draws no curves."""
    import train
    from minigrpo import log, replica
    from minigrpo.config import parse_config
    from minigrpo.ranks import join, leave

    log.draw_curves = lambda path, history: None
    ranks = join("cpu")
    try:
        for argv, replica.UNIT, replica.BUCKET in cases:
            config, task_class = parse_config(argv, NAME)
            train.train(config, task_class(config.task), ranks)
    finally:
        leave()


if __name__ == "__main__":
    run_cases(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
