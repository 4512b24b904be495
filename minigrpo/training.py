"""What the parts of a step work with: configuration, task, models and optimizer, bound once for a stage."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minigrpo.batches import batches_in_step
from minigrpo.doors import sample_at, sampler_of, samples_of, slots_of
from minigrpo.layout import EncodedPrompt, Group, Packed
from minigrpo.optim import make_optimizer
from minigrpo.progress import progress_bar
from minigrpo.ranks import Ranks, SharedError
from minigrpo.replica import Roles, load_roles
from minigrpo.sampler import Sampler
from minigrpo.sampling import Sampling
from minigrpo.sections import Config, OptimConfig
from minigrpo.task import Sample, Stage, Task

AHEAD = 2048
"""Samples that are encoded before the first step, of those that the run takes first."""
SPREAD = 64
"""Samples that are so in any case, spread over all: their ids tell a run that goes on whether they are the same."""


@dataclass(frozen=True)
class Training:
    """What the parts of a step work with, bound once for a stage."""

    config: Config
    task: Task
    stage: Stage
    ranks: Ranks
    roles: Roles
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(cls, path: str, config: Config, task: Task, stage: Stage, ranks: Ranks) -> Training:
        """Loads the stage's models from a folder or hub id, with a new optimizer."""
        if config.grpo.top_entropy < 1 and task.scored_by == "reference":
            raise ValueError(f"grpo.top_entropy chooses by the policy's entropies, and {type(task).__name__} is "
                             "scored by the reference: leave grpo.top_entropy out")
        with_reference = stage.policy > 0 and (config.grpo.needs_reference or task.scored_by == "reference")
        roles = load_roles(path, config.model, ranks, with_reference, config.rollout.temperature,
                           config.run.seed)
        roles.policy.entropy_gradient = config.grpo.entropy_bonus > 0
        return cls(config, task, stage, ranks, roles, make_optimizer(roles.policy, stage_optim(config, stage)))

    @property
    def sampling(self) -> Sampling:
        """How completions are drawn."""
        return Sampling(self.config.rollout.max_new_tokens, self.config.rollout.temperature)

    def encode(self, sample: Sample) -> EncodedPrompt:
        """The prompt of a sample, refused where it is too long."""
        return self.roles.replica.encode(sample, self.config.rollout.max_prompt_tokens)

    def encode_priors(self, sample: Sample, most: int | None = None) -> list[Tensor]:
        """The texts of `Task.slots`, as tokens int64 [n] each. Raises ValueError for one of more than `most` tokens."""
        where = f"prior of sample {sample.id}"
        priors = [self.roles.replica.encode_completion(text, where) for text in slots_of(self.task, sample)]
        if most is not None and (longest := max(map(len, priors), default=0)) > most:
            raise ValueError(f"{where} has {longest} tokens, more than rollout.max_new_tokens = {most} allows a "
                             "completion: raise that, or shorten the trajectory")
        return priors

    def look_ahead(self, sampler: Sampler, step: int) -> str:
        """Encodes the samples that the steps from `step` on take, `AHEAD` of them: what is too long is said at once.

        Returns:
            A mark of how many samples there are, and of the ids of `SPREAD` of them.

        Raises:
            SharedError: a prompt or a prior is too long, or cannot be encoded; or the ranks have different samples.
        """
        ids, most = {}, self.config.rollout.max_new_tokens if self.stage.policy else None
        with self.ranks.together():
            samples, with_priors = samples_of(self.task), self.stage.sft or self.config.grpo.prior
            spread = range(0, len(samples), math.ceil(len(samples) / SPREAD))
            taken = sorted({*spread, *sampler.ahead(range(step, self.stage.steps), AHEAD)})
            with progress_bar("samples", len(taken), 0, "samples", self.ranks.first and len(taken) > 100) as bar:
                for i in self.ranks.share(taken):
                    sample = sample_at(self.task, samples, i)
                    ids[i] = sample.id
                    self.encode(sample)
                    if with_priors:
                        self.encode_priors(sample, most)
                    bar.update(min(self.ranks.size, bar.total - bar.n))
        counts = self.ranks.gather([len(samples)])
        if len(set(counts)) > 1:
            raise SharedError(f"the ranks have different samples, {', '.join(map(str, counts))} of them: "
                              f"{type(self.task).__name__}.samples must give the same on every rank")
        known = dict(self.ranks.gather(list(ids.items())))
        return hashlib.sha256(json.dumps([counts[0], [known[i] for i in spread]]).encode()).hexdigest()[:16]

    def batches(self, groups: Sequence[Group]) -> list[Packed]:
        """Micro-batches of this rank's groups; see `batches_in_step`."""
        tokens = self.config.optim.tokens_per_micro_batch
        return batches_in_step(groups, tokens, self.ranks, self.roles.replica)


def stage_optim(config: Config, stage: Stage) -> OptimConfig:
    """`config.optim`, at the learning rate of imitation where nothing else is learned."""
    return config.optim if stage.policy else replace(config.optim, lr=config.sft.lr)


def make_sampler(config: Config, task: Task, stage: Stage, ranks: Ranks) -> Sampler:
    """The stage's sampler, made before anything is loaded: too few samples are said at once."""
    section = "rollout" if stage.policy else "sft"
    count = getattr(config, section).prompts_per_step
    if count < ranks.size:
        raise ValueError(f"{section}.prompts_per_step = {count} leaves one of {ranks.size} ranks idle")
    return sampler_of(task, len(samples_of(task)), count, config)
