"""What the parts of a step work with: configuration, task, models and optimizer, bound once for a stage."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from minigrpo.doors import sample_at, sampler_of, samples_of, slots_of
from minigrpo.layout import EncodedPrompt, Group, Packed, micro_batches
from minigrpo.models import VLM
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
        with_reference = stage.policy > 0 and (config.grpo.needs_reference or task.scored_by == "reference")
        roles = load_roles(path, config.model, ranks, with_reference, config.rollout.temperature)
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
        """Micro-batches of this rank's groups, in as many passes on every rank, as all must run the same collectives.

        A rank with fewer adds batches that weigh nothing; where any rank has an image, all run the vision tower.
        """
        ranks, made = self.ranks, micro_batches(groups, self.config.optim.tokens_per_micro_batch)
        passes = [list(parts) for _, parts in groupby(made, key=lambda b: id(b if b.prompt is None else b.prompt))]
        vision = ranks.max([any((b.prompt or b).pixel_values is not None for b in made)])[0] > 0 and ranks.size > 1

        def placed(batch: Packed) -> Packed:
            return replace(batch, blank_image=vision and batch.pixel_values is None).to(ranks.device)

        batches = []
        counts = ranks.gather([[len(parts) if parts[0].prompt else 0 for parts in passes]])
        for count, own in in_step(counts, ranks.rank):
            parts = [] if own is None else passes[own]
            parts = [*parts, *blank_batches(self.roles.replica, count)[len(parts) :]]
            if parts[0].prompt is None:
                batches += map(placed, parts)
            else:  # all hold one prompt, which alone may have images
                prompt = placed(parts[0].prompt)
                batches += [replace(replace(part, prompt=None).to(ranks.device), prompt=prompt) for part in parts]
        return batches


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


def in_step(counts: Sequence[Sequence[int]], rank: int) -> Iterator[tuple[int, int | None]]:
    """Lines up what the ranks have to compute, so that all run the same passes.

    Args:
        counts: Of every rank, in its order: how many batches share a prompt that stands apart; 0 for one that has all.

    Yields:
        That number for each common pass, the largest of any rank, and which of its own `rank` computes there, if any.
    """
    done = [0] * len(counts)
    while ahead := {i: own[at] for i, (own, at) in enumerate(zip(counts, done, strict=True)) if at < len(own)}:
        count = max(ahead.values())
        taken = [i for i, own in ahead.items() if (own > 0) == (count > 0)]
        yield count, done[rank] if rank in taken else None
        for i in taken:
            done[i] += 1


def blank_batches(vlm: VLM, count: int = 0) -> list[Packed]:
    """Batches of one token that keep their rank in step with the others, and weigh nothing: one, or `count` >= 2 that
    share a prompt which stands apart."""
    end = torch.tensor([vlm.end_ids[0] if vlm.end_ids else 0])
    positions, size = torch.arange(2).expand(3 if vlm.has_vision else 1, -1), max(1, count)
    group = Group(EncodedPrompt("", end.repeat(2), positions), [end] * size, rewards=torch.zeros(size),
                  advantages=torch.zeros(size))
    return [replace(batch, counted=False) for batch in micro_batches([group], 1)]
