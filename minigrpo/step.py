"""The parts of a step: sample groups, reward them, compare them, update the policy.

`train.py` calls one after the other, the benchmark too. On each rank there are N groups of G completions; a packed
micro-batch has B completions with N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from minigrpo.doors import extra_loss_of, gathered, metrics_of, views_of, weights_of
from minigrpo.layout import Group, Packed
from minigrpo.losses import completion_weights, policy_loss, sft_loss
from minigrpo.metrics import StepMetrics, record_batch, record_group
from minigrpo.optim import clip_and_step, kl_weight, learning_rate
from minigrpo.policy import Policy, PolicyOutput
from minigrpo.prefix import score, with_prompts
from minigrpo.priors import insert_prior
from minigrpo.ranks import Ranks
from minigrpo.reward import completions_of, score_rewards
from minigrpo.rollout import generate
from minigrpo.task import BatchContext, GroupContext, Sample, uses
from minigrpo.training import Training, stage_optim
from minigrpo.variants import comparison, forking_tokens, sampler_weights, without_cut_off
from minigrpo.views import score_contexts


def sample_groups(training: Training, samples: Sequence[Sample], step: int) -> list[Group]:
    """Rollout: G completions of every sample [N], drawn by the replica; the texts of `Task.slots` take the last slots.

    Raises:
        ValueError: a prompt or a text of a slot is too long, or more than G completions are asked for.
    """
    task, grpo, rollout = training.task, training.config.grpo, training.config.rollout
    size = rollout.group_size
    with_priors = grpo.prior and (grpo.prior_until == 0 or step < grpo.prior_until)
    prompts, sizes, parts = [], [], []
    for sample in samples:
        priors = training.encode_priors(sample, rollout.max_new_tokens) if with_priors else []
        images, from_views = views_of(task, sample, step)
        views = {name: training.encode(replace(sample, id=f"{sample.id}/{name}", images=seen))
                 for name, seen in images.items()}
        own = size - len(priors) - sum(from_views.values())
        if own < 0:
            raise ValueError(f"{type(task).__name__}, sample {sample.id}: {len(priors)} texts of slots and "
                             f"{size - len(priors) - own} completions from views do not go into a group of {size}")
        prompts += [training.encode(sample), *(views[name] for name in from_views)]
        sizes += [own, *from_views.values()]
        parts.append((priors, views, ["policy", *from_views]))
    drawn = iter(generate(training.roles.replica, prompts, sizes, training.sampling,
                          seed=training.config.run.seed, step=step))
    groups = []
    for priors, views, sources in parts:
        own = [next(drawn) for _ in sources]  # those of the sample's own prompt, then those of its views
        group = replace(
            own[0], views=views, completions=[c for part in own for c in part.completions],
            sampler_logps=[x for part in own for x in part.sampler_logps],
            finished=[x for part in own for x in part.finished],
            sources=[name for name, part in zip(sources, own, strict=True) for _ in part.completions],
        )
        groups.append(insert_prior(group, priors, size) if priors else group)
    return groups


def prior_groups(training: Training, samples: Sequence[Sample]) -> list[Group]:
    """What is imitated: each sample that has any, with its priors as the only completions."""
    priors = [training.encode_priors(sample) for sample in samples]
    return [Group(training.encode(sample), texts, sources=["prior"] * len(texts))
            for sample, texts in zip(samples, priors, strict=True) if texts]


def reward_groups(training: Training, samples: Sequence[Sample], groups: Sequence[Group], step: int,
                  metrics: StepMetrics) -> list[GroupContext]:
    """Asks the task for the reward of every group [N], see `Task.reward`; then of those of `Generate.learn`."""
    completions = [completions_of(training.roles.replica, group, training.task.needs_spans) for group in groups]
    contexts, more = [], []
    scored = score_rewards(training.task, training.roles.replica, samples, completions, training.config, step, more)
    for sample, group, texts, (rewards, terms) in zip(samples, groups, completions, scored, strict=True):
        lengths = torch.tensor([len(c) for c in group.completions])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        if bad := not bool(rewards.isfinite().all()):  # equal rewards: left out
            rewards, terms = torch.zeros_like(rewards), {name: [math.nan] * len(rewards) for name in terms}
        if "reward" not in training.config.run.stopping:
            metrics.mean("bad_rewards", float(bad), 1)
            metrics.mark("reward", [sample.id], [float(bad)])
        contexts.append(GroupContext(step, sample, group, texts, terms, rewards, mask, bad=bad))
    if more:  # what rewards had drawn, to be learned from too
        contexts += reward_groups(training, *zip(*more, strict=True), step, metrics)
    return contexts


def compare_groups(training: Training, contexts: Sequence[GroupContext], metrics: StepMetrics) -> list[GroupContext]:
    """Advantages [G] and token weights of every group, written into the context's group.

    Where the task has views or wants scores, the groups are scored first, under each view in its turn.

    Raises:
        ValueError: the task's advantages or weights are not finite, or of another shape.
    """
    task, grpo, ranks, names = training.task, training.config.grpo, training.ranks, []
    compare, rewards = comparison(grpo, task.reward_weights, contexts, ranks)
    contexts = [replace(c, advantages=compare(r), compare=compare) for c, r in zip(contexts, rewards, strict=True)]
    if uses(task, "views"):  # every rank must score the same views, whatever samples it has
        names = sorted(set().union(*ranks.gather([{name for c in contexts for name in c.group.views}])))
    if names or task.needs_scores or grpo.top_entropy < 1:
        with metrics.phase("views"):
            contexts = score_contexts(training, contexts, names)
    if uses(task, "gather"):
        contexts = gathered(task, contexts, ranks)
    compared, forking = [], forking_tokens(contexts, grpo.top_entropy, ranks)
    with ranks.together():  # an error in a task's own code is raised on every rank
        for context, forks in zip(contexts, forking, strict=True):
            advantages, weights = weights_of(task, context)
            if forks is not None:
                weights = forks.double() * (1 if weights is None else weights)
            rows = [] if weights is None else [row[seen] for row, seen in zip(weights, context.mask, strict=True)]
            group = replace(context.group, rewards=context.rewards, advantages=advantages, token_weights=rows,
                            varied=bool(advantages.any()))
            compared.append(replace(context, group=group, advantages=advantages))
            record_group(metrics, compared[-1])
            for name, value in metrics_of(task, compared[-1]).items():
                metrics.mean(name, value, 1)
    return compared


def update(training: Training, contexts: Sequence[GroupContext], imitated: Sequence[Group], step: int,
           metrics: StepMetrics) -> None:
    """Learns from this step's groups, and from priors to imitate: one optimizer step, or `grpo.updates_per_rollout`.

    The loss is one sum over all tokens of the step, whatever the micro-batches and ranks. A step in which no rank has
    anything to learn changes nothing: neither weight decay nor the rounding of a KL moves the weights.

    Args:
        contexts: N groups with advantages.
        imitated: Groups of priors.
        metrics: Gets the figures of the update.

    Raises:
        ValueError: a stage that only imitates met a step without any prior.
    """
    config, task, stage, ranks = training.config, training.task, training.stage, training.ranks
    policy, _, reference = training.roles
    grpo, extra = config.grpo, uses(task, "extra_loss") and stage.policy > 0
    pulls = extra or (config.grpo.entropy_bonus > 0 and stage.policy > 0)  # on groups without variance, too
    groups = [context.group for context in contexts]
    metrics.total("tokens", sum(len(c) for g in [*groups, *imitated] for c in g.completions))
    groups = without_cut_off(groups) if grpo.drop_cut_off else groups
    lengths = [len(c) for g in groups for c in g.completions]
    taught = sum(len(c) for g in imitated for c in g.completions)
    *totals, varied, taught = map(int, ranks.sum(
        [sum(lengths), len(lengths), len(groups), sum(g.varied for g in groups), taught]))
    if not stage.policy and not taught:
        raise ValueError(f"step {step + 1}: none of {config.sft.prompts_per_step} samples has an annotated trajectory; "
                         "imitating needs some")
    optim = stage_optim(config, stage)
    rate = learning_rate(step, stage.steps, optim)
    metrics.max("lr", rate)
    metrics.max("skipped", 0.0)
    metrics.max("updated", 0.0)
    metrics.max("idle", float(not (varied or taught or pulls)))
    if not (varied or taught or pulls):
        return

    # A group without variance has no gradient unless a KL pulls on it, or another loss may.
    batches = training.batches([g for g in groups if g.varied or grpo.beta > 0 or pulls])
    lessons = training.batches(imitated) if taught else []

    # Log-probabilities that the loss compares with: the reference's, and, with several updates, the old policy's.
    # With one update the old ones are the new ones, detached: the same numbers, without a second pass.
    # Seeded for dropout, where a model has any: a run that goes on drops the same.
    torch.manual_seed((config.run.seed + step) * ranks.size % 2**63 + ranks.rank)
    policy.train()
    with metrics.phase("scoring"), torch.no_grad():
        compared = reference is not None and grpo.needs_reference
        refs = score(reference, batches) if compared else [None] * len(batches)
        olds = score(policy, batches) if grpo.updates_per_rollout > 1 else [None] * len(batches)

    def grpo_loss(number: int, batch: Packed, out: PolicyOutput, made: int) -> Tensor:
        per_completion = completion_weights(batch.lengths, grpo.normalize, *totals, config.rollout.max_new_tokens)
        weights = batch.counted * per_completion[batch.owner]
        advantages = batch.advantages.to(out.logps.dtype)[batch.owner]
        if batch.token_weights is not None:
            advantages = advantages * batch.token_weights
        old, ref = olds[number], refs[number]
        old = out.logps.detach() if old is None else old
        if grpo.sampler_cap and batch.sampler_logps is not None:
            advantages = advantages * sampler_weights(old, batch.sampler_logps, grpo.sampler_cap)
        result = policy_loss(
            out.logps, old, advantages, weights, objective=grpo.objective, ref_logps=ref, kl=grpo.kl,
            beta=kl_weight(step, stage.steps, grpo), clip_low=grpo.clip_low, clip_high=grpo.clip_high,
            clip_max=grpo.clip_max, lengths=batch.lengths if grpo.ratio == "sequence" else None,
            shaped=batch.is_prior[batch.owner] if grpo.prior_ratio == "shaped" else None,
        )
        if batch.counted:
            record_batch(metrics, batch, out, result, with_kl=ref is not None, on_policy=made == 0)
        loss = stage.policy * result.loss
        if grpo.entropy_bonus:
            loss = loss - stage.policy * grpo.entropy_bonus * (weights * out.entropy).sum()
        if extra:
            more = extra_loss_of(task, BatchContext(step, batch, out.logps, out.entropy, weights))
            loss = loss if more is None else loss + more
        return loss

    def imitation_loss(number: int, batch: Packed, out: PolicyOutput) -> Tensor:
        if batch.counted and not stage.policy:
            metrics.mean("entropy", out.entropy.sum(), len(out.entropy))
            metrics.mean("logprob/prior", out.logps.detach().sum(), len(out.logps))
        return stage.sft * sft_loss(out.logps, torch.full_like(out.logps, batch.counted / taught))

    updates = grpo.updates_per_rollout if stage.policy else 1
    with metrics.phase("update"):
        for made in range(updates):
            loss = accumulate(policy, batches, partial(grpo_loss, made=made), ranks)
            loss += accumulate(policy, lessons, imitation_loss, ranks)
            if not math.isfinite(loss):  # a NaN in its gradient makes the norm one on every rank: all skip
                next(p.grad for p in policy.parameters() if p.grad is not None).fill_(math.nan)
            metrics.total("loss", loss / updates)
            norm = clip_and_step(training.optimizer, policy, rate, optim.max_grad_norm)
            metrics.max("grad_norm", norm)
            metrics.max("skipped", float(not math.isfinite(norm)))
            metrics.max("updated", float(math.isfinite(norm)))


def accumulate(policy: Policy, batches: Sequence[Packed], loss_of: Callable[[int, Packed, PolicyOutput], Tensor],
               ranks: Ranks = Ranks()) -> float:  # noqa: B008, it is frozen
    """Adds up the gradients of a loss over micro-batches, and gives their sum; `loss_of(number, batch, output)`."""
    total = 0.0
    for number, (batch, kept) in enumerate(with_prompts(policy, batches)):
        loss = loss_of(number, batch, policy(batch, kept=kept))
        (loss * ranks.size).backward()  # FSDP averages gradients over the ranks, the loss is a sum
        total += loss.item()
    return total
