"""Which samples are worth a step: four papers that choose by how often the policy solves a sample.

The ideas are the abstracts' [S]; the formulas are our proposals [P], as they give none. p: a moving pass rate.
- `rlcs`, GLM-4.1V-Thinking, claims that sampling by online difficulty unlocks a base: drawn by p(1 - p) + `explore`.
- `variance`, Temporal-R1, by repeated inference: kept is what was right in some attempts and not in all.
- `attempts`, ThinkLite-VL, difficulty as tree-search iterations until solved: kept is what took `attempts` completions
  or more until the first right one, or is unsolved.
- `rounds`, Vision-G1, a filter and a curriculum over rounds: each epoch `margin` <= p <= 1 - `margin`, easiest first.
Left out: tree search and inference before training (the first epoch measures, and is plain), influence functions (they
need gradients of each sample), many domains (the scenes are one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Any, Literal

from minigrpo.sampler import Outcome, Sampler
from mpcc import task
from mpcc.masks import check_choice
from mpcc.neighbours.limits import check_limits

By = Literal["off", "rlcs", "variance", "attempts", "rounds"]


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of the curriculum."""

    curriculum: By = "rlcs"
    """How samples are chosen: rlcs, variance, attempts, rounds; off: shuffled, plain GRPO."""
    pool: int = 240
    """Train on the first so many pairs, so that each comes again in a short run; 0: on all."""
    newest: float = 0.5
    """Weight of the newest pass rate in the moving one; 1 forgets the others."""
    explore: float = 0.02
    """What rlcs adds to p(1 - p), so that solved and hopeless samples come again."""
    attempts: int = 3
    """Completions until the first right one, from which on a sample is kept."""
    margin: float = 0.05
    """How far from 0 and 1 the pass rates are that rounds keeps."""


class CurriculumSampler(Sampler):
    """Right is what the term `exact` says. All modes but rlcs go by epochs; dropped samples come where too few stay.

    `known`: sample → completions, right ones, number of the first right one (0: none), moving pass rate."""

    def __init__(self, config: Config, *plain: int) -> None:
        super().__init__(*plain)
        self.config, self.known, self.queue, self.epoch = config, {}, [], 0  # queue: what is left of the epoch

    def drops(self, index: int) -> bool:
        tried, passed, first, rate = self.known.get(index, (2, 1, 0, 0.5))  # what is not known yet stays
        return {"variance": passed in (0, tried), "attempts": 0 < first < self.config.attempts,
                "rounds": abs(rate - 0.5) > 0.5 - self.config.margin, "rlcs": False}[self.config.curriculum]

    def rate(self, index: int) -> float:
        return self.known[index][-1] if index in self.known else 0.5

    def choose(self, step: int) -> list[int]:
        if self.config.curriculum == "rlcs":
            return self.drawn(step)[: self.per_step]
        if len(self.queue) < self.per_step:
            steps = self.samples // self.per_step
            plain = map(super().choose, range(self.epoch * steps, (self.epoch + 1) * steps))
            order = sorted(chain.from_iterable(plain), key=self.drops)
            self.queue = order[: max(self.per_step, len(order) - sum(map(self.drops, order)))]
            if self.config.curriculum == "rounds":
                self.queue.sort(key=self.rate, reverse=True)
            self.epoch += 1
        return [self.queue.pop(0) for _ in range(self.per_step)]

    def drawn(self, step: int) -> list[int]:
        """All samples, drawn one by one without replacement by their weights (keys of Efraimidis and Spirakis)."""
        rng, rates = Random(f"{self.seed}/{step}/rlcs"), map(self.rate, range(self.samples))
        keys = [math.log(1 - rng.random()) / (p * (1 - p) + self.config.explore) for p in rates]
        return sorted(range(self.samples), key=keys.__getitem__, reverse=True)

    def spare(self, step: int, chosen: Sequence[int]) -> list[int]:
        others = self.drawn(step) if self.config.curriculum == "rlcs" else super().spare(step, chosen)
        return sorted((i for i in others if i not in chosen), key=self.drops)

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        super().learn(outcomes)
        for outcome in outcomes:
            if right := [value == 1 for value in outcome.terms["exact"] if not math.isnan(value)]:
                now = sum(right) / len(right)
                tried, passed, first, rate = self.known.get(outcome.index, (0, 0, 0, now))
                first = first or (tried + 1 + right.index(True) if any(right) else 0)
                rate += self.config.newest * (now - rate)
                self.known[outcome.index] = tried + len(right), passed + sum(right), first, rate

    def state(self) -> dict[str, Any]:
        return {"known": list(self.known.items()), "queue": self.queue, "epoch": self.epoch}

    def load(self, state: dict[str, Any]) -> None:
        self.known = {i: tuple(known) for i, known in state["known"]}
        self.queue, self.epoch = state["queue"], state["epoch"]


class Curriculum(task.MaskedPrediction):
    """Masked prediction on samples that are neither solved nor hopeless. Raises ValueError for impossible options."""

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_choice("curriculum", config.curriculum, By)
        check_limits(config, pool=(0, 1e9), newest=(0.01, 1), explore=(0.001, 1), attempts=(1, 1e9), margin=(0, 0.49))

    def samples(self) -> task.MaskedSamples:
        return super().samples()[: self.config.pool or None]

    def sampler(self, *plain: int) -> Sampler:
        return super().sampler(*plain) if self.config.curriculum == "off" else CurriculumSampler(self.config, *plain)
