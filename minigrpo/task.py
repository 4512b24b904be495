"""What to train on: a `Task` gives samples, scores completions and evaluates. It is all a user has to write."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One prompt: the images stand before the question, in the user's turn.

    Attributes:
        id: Unique and stable. Random numbers, caches and error messages are keyed on it.
        question: The user's text.
        images: RGB images, zero or more, in the order in which the model sees them.
        system: System prompt; None sends none.
        prior: An annotated trajectory, as the text the model should have answered; None where there is none.
        data: Whatever `Task.reward` needs, the true answer say. The engine never looks inside.
    """

    id: str
    question: str
    images: tuple[Image.Image, ...] = ()
    system: str | None = None
    prior: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


Answer = Callable[[Sequence[Sample]], list[str]]
"""Greedy completions, one per sample, of the model as it is now; work is shared by all ranks."""


class Task:
    """Base class of every task. `train.py --task package.module:Class` trains on it.

    A subclass may declare its own options as a frozen dataclass named `Config`, a docstring below each field:
    they become `--task.<field>` on the command line and `[task]` in the TOML file, and arrive in `__init__`.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the task. None by default."""

    default_model: str = ""
    """Model folder or hub id that the task trains where none is named."""

    reward_weights: Mapping[str, float] = {}
    """Weight of each reward term; a term that is not listed weighs 1."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def samples(self) -> Sequence[Sample]:
        """Training samples. Indexing loads the images, so that a long sequence costs no memory."""
        raise NotImplementedError(f"{type(self).__name__} must define samples()")

    def reward(self, sample: Sample, completions: list[str]) -> dict[str, list[float]]:
        """Named reward terms of one group: each a list with one finite number per completion."""
        raise NotImplementedError(f"{type(self).__name__} must define reward()")

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """Named figures on held-out data; `answer` lets the model respond. Empty: nothing to evaluate."""
        return {}


def score(task: Task, sample: Sample, completions: list[str]) -> tuple[list[float], dict[str, list[float]]]:
    """Rewards of one group, each the weighted sum of its terms, and the terms themselves.

    Raises:
        ValueError: no terms, another number of values than completions, or a value that is not finite.
    """
    terms = task.reward(sample, completions)
    where = f"{type(task).__name__}.reward, sample {sample.id}"
    if not terms:
        raise ValueError(f"{where}: no reward terms returned")
    for name, values in terms.items():
        if len(values) != len(completions):
            raise ValueError(f"{where}: term {name!r} has {len(values)} values for {len(completions)} completions")
        for completion, value in zip(completions, values, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"{where}: term {name!r} is {value} for completion {completion[:80]!r}")
    weights = [task.reward_weights.get(name, 1.0) for name in terms]
    rewards = [sum(w * v for w, v in zip(weights, row, strict=True)) for row in zip(*terms.values(), strict=True)]
    return rewards, terms


def step_indices(samples: int, per_step: int, seed: int, step: int) -> list[int]:
    """Which samples step number `step` trains on: shuffled anew each epoch, chosen by (seed, step) alone.

    No step sees a sample twice; the few that do not fill a step are left out of their epoch.

    Raises:
        ValueError: there are fewer samples than one step takes.
    """
    if samples < per_step:
        raise ValueError(f"the task has {samples} samples, fewer than prompts_per_step = {per_step}")
    steps_per_epoch = samples // per_step
    epoch, place = divmod(step, steps_per_epoch)
    order = random.Random(f"{seed}/{epoch}").sample(range(samples), samples)
    return order[place * per_step : (place + 1) * per_step]
