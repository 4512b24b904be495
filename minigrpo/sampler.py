"""Which samples a step trains on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigrpo.task import GroupContext


@dataclass(frozen=True)
class Outcome:
    """What became of a sample in a step.

    Attributes:
        index: Of the sample.
        rewards: Of the completions that the policy drew.
        varied: Whether the group's rewards differ, the prior's among them: then it is kept, and not replaced.
        terms: Term → its values of these completions, NaN where it does not apply.
    """

    index: int
    rewards: tuple[float, ...]
    varied: bool
    terms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class Sampler:
    """Shuffles the samples anew each epoch, by (seed, step) alone: the same samples on any number of ranks.

    No step sees a sample twice; the few that do not fill a step are left out of their epoch. A subclass writes
    `choose`, and `learn` where it chooses by what came out; then `state` and `load` too, so that a resumed run chooses
    alike. It may choose by `spare` what replaces groups without variance.

    Args:
        samples: How many the task has.
        per_step: How many a step takes.
        seed: Of every choice.
        resample_rounds: Times that groups without variance are replaced within a step (DAPO, arXiv 2503.14476).

    Raises:
        ValueError: there are fewer samples than one step takes.
    """

    def __init__(self, samples: int, per_step: int, seed: int, resample_rounds: int = 0) -> None:
        if samples < per_step:
            raise ValueError(f"the task has {samples} samples, fewer than prompts_per_step = {per_step}")
        self.samples, self.per_step, self.seed, self.resample_rounds = samples, per_step, seed, resample_rounds
        self.flat = 0  # groups without variance in the round that was learned last

    @property
    def learns(self) -> bool:
        """Whether it wants to be told what came out."""
        return self.resample_rounds > 0 or type(self).learn is not Sampler.learn

    def choose(self, step: int) -> list[int]:
        """Indices of the samples of a step, [per_step]."""
        steps_per_epoch = self.samples // self.per_step
        epoch, place = divmod(step, steps_per_epoch)
        return _shuffled(f"{self.seed}/{epoch}", self.samples)[place * self.per_step : (place + 1) * self.per_step]

    def ahead(self, steps: Iterable[int], most: int) -> set[int]:
        """Indices of the samples that these steps begin with, about `most` of them; none where a subclass chooses."""
        found: set[int] = set()
        for step in steps if type(self).choose is Sampler.choose else ():
            if len(found) >= most or len(found) > self.samples - self.per_step:
                break
            found.update(self.choose(step))
        return found

    def rounds(self, step: int) -> Iterator[list[int]]:
        """The samples of a step, then, where some of their groups had no variance, others in their place."""
        chosen = self.choose(step)
        yield chosen
        fresh = self.spare(step, chosen)
        for _ in range(self.resample_rounds):
            again, fresh = fresh[: self.flat], fresh[self.flat :]
            if not again:
                return
            yield again

    def spare(self, step: int, chosen: Sequence[int]) -> list[int]:
        """The other samples, in the order in which they replace groups without variance."""
        fresh = sorted(set(range(self.samples)) - set(chosen))
        random.Random(f"{self.seed}/{step}/again").shuffle(fresh)
        return fresh

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Is told what came out of each round, the same on every rank."""
        self.flat = sum(not outcome.varied for outcome in outcomes)

    def state(self) -> dict[str, Any]:
        """What `load` needs to choose as this one would, as JSON can hold it."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""


@lru_cache(maxsize=2)
def _shuffled(seed: str, count: int) -> list[int]:
    return random.Random(seed).sample(range(count), count)


def outcomes(indices: Sequence[int], contexts: Sequence[GroupContext]) -> list[Outcome]:
    """What a sampler learns of this rank's groups; those of `Generate.learn`, which stand behind, are left out."""
    found = []
    for i, context in zip(indices, contexts[: len(indices)], strict=True):
        drawn = [n for n, prior in enumerate(context.group.is_prior) if not prior]
        rewards = context.rewards.tolist()
        found.append(Outcome(i, tuple(rewards[n] for n in drawn), context.varied,
                             {name: tuple(values[n] for n in drawn) for name, values in context.terms.items()}))
    return found
