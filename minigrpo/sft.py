"""The supervised stage: annotated trajectories are imitated, through the same layout, policy and optimizer as GRPO."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch

from minigrpo.layout import Group
from minigrpo.log import RunLog
from minigrpo.losses import sft_loss
from minigrpo.metrics import StepMetrics
from minigrpo.models import VLM
from minigrpo.optim import clip_and_step, learning_rate, make_optimizer
from minigrpo.policy import Policy
from minigrpo.ranks import Ranks
from minigrpo.replica import precision
from minigrpo.sections import Config
from minigrpo.step import even_batches
from minigrpo.task import Sample, Task, step_indices


def imitate(config: Config, task: Task, policy: Policy, ranks: Ranks, log: RunLog) -> None:
    """Trains `policy` in place for `config.sft.steps` steps on the priors of the task's samples (MPCC Eq. 2).

    The loss is the mean negative log-probability of all reasoning and answer tokens of a step, whatever the ranks.

    Raises:
        ValueError: a step without any prior, too few samples, or a gradient that stays not finite.
    """
    samples, sft, optim = task.samples(), config.sft, replace(config.optim, lr=config.sft.lr)
    optimizer, vlm, bad_steps = make_optimizer(policy, optim), policy.vlm, 0
    policy.train()
    for step in range(sft.steps):
        began, sums = time.monotonic(), StepMetrics()
        chosen = step_indices(len(samples), sft.prompts_per_step, config.run.seed, step)
        groups = [_taught(vlm, samples[i], config) for i in ranks.share(chosen)]
        live = [group for group in groups if group.prior_slot is not None]
        batches, real, vision = even_batches(live, groups, optim.tokens_per_micro_batch, ranks)
        tokens = int(ranks.sum([sum(len(g.completions[0]) for g in live)])[0])
        if not tokens:
            raise ValueError(f"step {step + 1}: none of {sft.prompts_per_step} samples has an annotated trajectory; "
                             "imitating needs some")
        for batch, counted in zip(batches, real, strict=True):
            with precision(config.model.dtype, ranks):
                out = policy(batch, vision=vision)
            loss = sft_loss(out.logps, torch.full_like(out.logps, counted / tokens))
            (loss * ranks.size).backward()  # FSDP averages gradients over the ranks, the loss is a sum
            if counted:
                sums.total("loss", loss.item())
                sums.mean("entropy", out.entropy.sum(), len(out.entropy))
                sums.mean("logprob/prior", out.logps.detach().sum(), len(out.logps))
        rate = learning_rate(step, sft.steps, optim)
        norm = clip_and_step(optimizer, policy, rate, optim.max_grad_norm)
        bad_steps = 0 if math.isfinite(norm) else bad_steps + 1
        seconds = time.monotonic() - began
        for name, value in (("grad_norm", norm), ("skipped", float(bad_steps > 0)), ("lr", rate), ("seconds", seconds)):
            sums.max(name, value)
        sums.total("tokens_per_second", sum(len(g.completions[0]) for g in live) / seconds)
        log.step(step + 1, sums.reduce(ranks))
        if bad_steps >= config.run.max_bad_steps:
            raise ValueError(f"step {step + 1}: the gradient was not finite {bad_steps} times in a row; lower sft.lr")


def _taught(vlm: VLM, sample: Sample, config: Config) -> Group:
    """A sample with its prior as the only completion; without one, a stand-in that is never counted."""
    prompt = vlm.encode(sample, config.rollout.max_prompt_tokens)
    if sample.prior is None:
        return Group(prompt, [torch.tensor([vlm.end_ids[0]])])
    return Group(prompt, [vlm.encode_completion(sample.prior, f"prior of sample {sample.id}")], prior_slot=0)
