"""GRPO, top to bottom: sample → reward → prior slot → advantage → log-probabilities → loss → step.

    torchrun --nproc_per_node 2 train.py                       the embedded scenes and their tiny model, 2 CPU cores
    python train.py --help                                     every option
    torchrun --nproc_per_node 2 train.py --config mpcc/configs/qwen2.5-vl-3b-rft+prior.toml --task.coco COCO_FOLDER
    torchrun --nproc_per_node 2 train.py --task my_module:MyTask --model.path Qwen/Qwen2.5-VL-3B-Instruct

A step takes `prompts_per_step` prompts and draws G completions of each; a reward scores them; what a completion earned
above its group's mean, in standard deviations, is its advantage; the loss makes tokens with a positive advantage more
probable and the others less. There is no critic and no reward model. Where a sample has an annotated trajectory, that
takes one of the G slots (MPCC, arXiv 2510.21807, prior sampling). Prompt and image are computed once per group.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from minigrpo.config import load_config

if __name__ == "__main__":  # --help and wrong options are answered before torch takes its seconds to load
    load_config(sys.argv[1:], "mpcc.task:MaskedPrediction")

import torch
import transformers

from minigrpo import (
    Group,
    Sampling,
    generate,
    group_advantages,
    insert_prior,
    policy_loss,
)
from minigrpo.cpu import keep_freed_memory
from minigrpo.export import export
from minigrpo.layout import Packed
from minigrpo.log import LoggedCompletion, RunLog
from minigrpo.losses import PolicyLoss, completion_weights
from minigrpo.metrics import StepMetrics
from minigrpo.models import VLM
from minigrpo.optim import clip_and_step, learning_rate, make_optimizer
from minigrpo.policy import Policy, PolicyOutput
from minigrpo.ranks import Ranks, join, leave, lost_peer
from minigrpo.replica import load_roles, precision, refresh
from minigrpo.rollout import answer
from minigrpo.sections import Config
from minigrpo.sft import imitate
from minigrpo.step import even_batches
from minigrpo.task import Sample, Task, score, step_indices

DEFAULT_TASK = "mpcc.task:MaskedPrediction"


def train(config: Config, task: Task, ranks: Ranks) -> None:
    """Evaluates, runs the stages of `config.run.stages`, evaluates after each, and exports the model."""
    stages = config.run.stages.split("+")
    for section in ("sft" if stage == "sft" else "rollout" for stage in stages):
        count = getattr(config, section).prompts_per_step
        step_indices(len(task.samples()), count, config.run.seed, 0)  # too few: say so before anything is loaded
        if count < ranks.size:
            raise ValueError(f"{section}.prompts_per_step = {count} leaves one of {ranks.size} ranks idle")
    path = config.model.path or task.default_model
    if not path:
        raise ValueError(f"{type(task).__name__} has no default model: name one with --model.path")
    began, greedy = time.monotonic(), Sampling(config.rollout.max_new_tokens, temperature=0.0)

    def evaluate(replica: VLM) -> dict[str, float]:
        return task.evaluate(lambda asked: answer(replica, asked, greedy, ranks, config.rollout.max_prompt_tokens))

    for place, stage in enumerate(stages):
        with_reference = stage == "rft" and (config.grpo.beta > 0 or config.grpo.objective == "paper")
        policy, replica, reference = load_roles(path, config.model, ranks, with_reference)
        if place == 0:
            log, size = RunLog(config, ranks), sum(p.numel() for p in replica.net.parameters()) / 1e6
            log.say(f"{path}: {size:.1f}M parameters, {len(task.samples())} samples, {ranks.size} rank(s) on "
                    f"{ranks.device.type}")
            log.say(f"writing to {log.dir}")
            scores = [evaluate(replica)]
            log.say(f"held-out before: {figures(scores[0])}")
        if stage == "sft":
            imitate(config, task, policy, ranks, log)
        else:
            reinforce(config, task, policy, replica, reference, ranks, log, evaluate)
        refresh(replica, policy)
        scores.append(evaluate(replica))
        log.say(f"held-out after{' ' + stage if len(stages) > 1 else ''}:  {figures(scores[-1])}")
        path = str(log.dir / ("model" if stage == stages[-1] else f"model-{stage}"))
        if ranks.first:
            log.say(f"model: {export(replica, path)}")
        del policy, replica, reference  # the next stage loads its own, from that folder
        ranks.barrier()
    between = {f"after_{stage}": score for stage, score in zip(stages[:-1], scores[1:-1], strict=True)}
    log.finish({"before": scores[0], **between, "after": scores[-1], "steps": config.steps,
                "seconds": time.monotonic() - began})


def reinforce(config: Config, task: Task, policy: Policy, replica: VLM, reference: Policy | None,
              ranks: Ranks, log: RunLog, evaluate: Callable[[VLM], dict[str, float]]) -> None:
    """GRPO: trains `policy` in place for `config.run.steps` steps."""
    rollout, grpo, seed = config.rollout, config.grpo, config.run.seed
    samples, optimizer = task.samples(), make_optimizer(policy, config.optim)
    sampling = Sampling(rollout.max_new_tokens, rollout.temperature)
    first_step, bad_steps = config.steps - config.run.steps, 0
    for step in range(config.run.steps):
        began, sums = time.monotonic(), StepMetrics()
        chosen = step_indices(len(samples), rollout.prompts_per_step, seed, step)
        mine = [samples[i] for i in ranks.share(chosen)]

        # Rollout: G completions of every prompt, from a replica that holds the policy's current weights.
        refresh(replica, policy)
        with_prior = grpo.prior and (grpo.prior_until == 0 or step < grpo.prior_until)
        priors = [replica.encode_completion(s.prior, f"prior of sample {s.id}") if with_prior and s.prior else None
                  for s in mine]
        prompts = [replica.encode(s, rollout.max_prompt_tokens) for s in mine]
        drawn = [rollout.group_size - (prior is not None) for prior in priors]
        groups = generate(replica, prompts, drawn, sampling, seed=seed, step=step)
        rollout_seconds = time.monotonic() - began

        # Prior slot, reward, advantage. The prior is inserted first: its reward is one of the G that are normalised.
        shown = []
        for i, (sample, prior) in enumerate(zip(mine, priors, strict=True)):
            if prior is not None:
                groups[i] = insert_prior(groups[i], prior, rollout.group_size)
            texts = [replica.decode(c) for c in groups[i].completions]
            rewards, terms = score(task, sample, texts)
            advantages = group_advantages(torch.tensor(rewards), grpo.scale, grpo.unbiased)
            groups[i] = replace(groups[i], advantages=advantages)
            record_group(sums, groups[i], rewards, terms)
            if i * ranks.size + ranks.rank < config.run.log_completions:
                shown.append(examples(first_step + step, sample, groups[i], texts, rewards, terms))

        for logged in ranks.gather(shown):
            log.completions(logged)

        # Micro-batches. A group without variance has no gradient unless a KL pulls on it, so it costs no update.
        live = [g for g in groups if grpo.beta > 0 or g.advantages.any()]
        batches, real, vision = even_batches(live, groups, config.optim.tokens_per_micro_batch, ranks)

        # Log-probabilities that the loss compares with: the reference's, and, with several updates, the old policy's.
        # With one update the old ones are the new ones, detached: the same numbers, without a second pass.
        policy.train()
        context = precision(config.model.dtype, ranks)
        with torch.no_grad(), context:
            asked = {"temperature": rollout.temperature, "vision": vision, "with_entropy": False}
            refs = [reference(b, **asked).logps if reference else None for b in batches]
            several = grpo.updates_per_rollout > 1
            olds = [policy(b, **asked).logps if several else None for b in batches]

        # Update: the loss is one sum over all tokens of the step, whatever the micro-batches and ranks.
        lengths = [len(c) for g in groups for c in g.completions]
        counts = [sum(lengths), len(lengths), len(groups)]
        totals = [int(n) for n in ranks.sum(counts)]
        rate = learning_rate(step, config.run.steps, config.optim)
        sums.max("skipped", 0.0)
        for _ in range(grpo.updates_per_rollout if batches else 0):
            loss = 0.0
            for batch, counted, old, ref in zip(batches, real, olds, refs, strict=True):
                normalize = "prompt" if grpo.objective == "paper" else grpo.normalize
                weights = counted * completion_weights(batch.lengths, normalize, *totals, rollout.max_new_tokens)
                with context:
                    out = policy(batch, rollout.temperature, vision)
                result = policy_loss(
                    out.logps, out.logps.detach() if old is None else old, batch.advantages[batch.owner],
                    weights[batch.owner], objective=grpo.objective, ref_logps=ref, beta=grpo.beta,
                    clip_low=grpo.clip_low, clip_high=grpo.clip_high,
                    shaped=batch.is_prior[batch.owner] if grpo.prior_ratio == "shaped" else None,
                )
                (result.loss * ranks.size).backward()  # FSDP averages gradients over the ranks, the loss is a sum
                loss += result.loss.item()
                if counted:
                    record_batch(sums, batch, out, result, with_kl=ref is not None)
            sums.total("loss", loss / grpo.updates_per_rollout)
            norm = clip_and_step(optimizer, policy, rate, config.optim.max_grad_norm)
            sums.max("grad_norm", norm)
            skipped = not math.isfinite(norm)
            sums.max("skipped", float(skipped))
            bad_steps = bad_steps + 1 if skipped else 0

        # What this step was like. A step whose gradient was not finite changed nothing; several in a row end the run.
        seconds = time.monotonic() - began
        sums.max("lr", rate)
        sums.max("seconds", seconds)
        sums.max("seconds/rollout", rollout_seconds)
        sums.total("tokens_per_second", counts[0] / seconds)
        metrics, done = sums.reduce(ranks), step + 1
        if config.run.evaluate_every and done % config.run.evaluate_every == 0 and done < config.run.steps:
            refresh(replica, policy)
            metrics |= {f"held_out/{name}": value for name, value in evaluate(replica).items()}
        log.step(first_step + step + 1, metrics)
        if bad_steps >= config.run.max_bad_steps:
            raise ValueError(f"step {step + 1}: the gradient was not finite {bad_steps} times in a row; last metrics: "
                             f"{metrics}. Lower optim.lr, or look at {log.dir / 'metrics.jsonl'}")


def record_group(sums: StepMetrics, group: Group, rewards: list[float], terms: dict[str, list[float]]) -> None:
    """Figures of what was sampled; the prior is not the model's own and does not count."""
    sampled = [i for i in range(len(group.completions)) if i != group.prior_slot]
    for name, values in {"reward": rewards, **{f"reward/{term}": v for term, v in terms.items()}}.items():
        sums.mean(name, sum(values[i] for i in sampled), len(sampled))
    sums.mean("length", sum(len(group.completions[i]) for i in sampled), len(sampled))
    sums.mean("finished", sum(group.finished[i] for i in sampled), len(sampled))
    sums.mean("zero_variance", float(not group.advantages.any()), 1)
    if group.prior_slot is not None:
        advantage = group.advantages[group.prior_slot]
        sums.mean("prior_advantage", advantage, 1)
        sums.mean("prior_positive", advantage > 0, 1)


def record_batch(sums: StepMetrics, batch: Packed, out: PolicyOutput, result: PolicyLoss, with_kl: bool) -> None:
    """Figures of the update, over tokens; the prior's log-probability stands beside that of the samples."""
    prior = batch.is_prior[batch.owner]
    sums.mean("entropy", out.entropy[~prior].sum(), (~prior).sum())
    sums.mean("logprob/sampled", out.logps[~prior].sum(), (~prior).sum())
    sums.mean("logprob/prior", out.logps[prior].sum(), prior.sum())
    sums.mean("clipped", result.clipped.sum(), len(prior))
    if with_kl:
        sums.mean("kl", result.kl[~prior].sum(), (~prior).sum())


def examples(step: int, sample: Sample, group: Group, texts: list[str], rewards: list[float],
             terms: dict[str, list[float]]) -> list[LoggedCompletion]:
    """What of a group is logged: the prior, and the sampled completions that earned most and least."""
    ranked = sorted((i for i in range(len(texts)) if i != group.prior_slot), key=lambda i: -rewards[i])
    chosen = dict.fromkeys(i for i in (group.prior_slot, *ranked[:1], *ranked[-1:]) if i is not None)
    return [
        LoggedCompletion(
            step + 1, sample.id, sample.question, texts[i], {name: values[i] for name, values in terms.items()},
            rewards[i], float(group.advantages[i]), i == group.prior_slot, sample.data.get("answer"),
        )
        for i in chosen
    ]


def figures(metrics: dict[str, float]) -> str:
    """Named figures on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()) or "nothing to evaluate"


def main() -> None:
    """Reads the options, joins the ranks, trains. Bad input is one line and exit code 1."""
    config, task_class = load_config(sys.argv[1:], DEFAULT_TASK)
    transformers.logging.disable_progress_bar()  # the run has a progress line of its own
    keep_freed_memory()
    try:
        train(config, task_class(config.task), join(config.run.device))
    except (ValueError, OSError) as error:
        raise SystemExit(f"train.py: error: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        raise SystemExit(1) from error  # the rank that stopped has said why
    finally:
        leave()


if __name__ == "__main__":
    main()
