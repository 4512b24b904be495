"""Asks a task for its rewards, and checks what it says; its other doors are in `minigrpo.doors`."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import replace
from inspect import isgenerator
from typing import Any

import torch
from torch import Tensor

from minigrpo.checks import checked_request, guarded, shown
from minigrpo.layout import Group
from minigrpo.models import VLM
from minigrpo.rollout import generate
from minigrpo.sampling import Sampling
from minigrpo.sections import Config, RolloutConfig
from minigrpo.task import Completion, Generate, Sample, Task, Terms
from minigrpo.variants import overlong_penalty

Score = tuple[Tensor, dict[str, list[float]]]
"""Rewards float64 [G] of a group, and its terms, each [G], NaN where one does not apply."""

TOO_LARGE = 1e150
"""A reward from which on its square, which the spread of a group needs, is no number any more."""


def completions_of(vlm: VLM, group: Group, with_spans: bool = False) -> list[Completion]:
    """The completions of a group as a reward sees them."""
    count = len(group.completions)
    logps = [float(x.mean()) for x in group.sampler_logps] or [math.nan] * count
    ended, sources = group.finished or [True] * count, group.sources or ["policy"] * count
    return [Completion(vlm.decode(tokens), len(tokens), *known, tuple(vlm.token_spans(tokens)) if with_spans else ())
            for tokens, *known in zip(group.completions, ended, logps, sources, strict=True)]


def score_rewards(task: Task, vlm: VLM, samples: Sequence[Sample], groups: Sequence[list[Completion]], config: Config,
                  step: int, learned: list[tuple[Sample, Group]]) -> list[Score]:
    """The reward of every group: the sum of its terms, each times its weight.

    What rewards ask for by `Generate` is drawn for all groups together, as often as any asks.

    Args:
        learned: Is given the samples and groups of requests that the step is to learn from too.

    Raises:
        ValueError: the reward failed, or what it said is no reward; names task, sample, term and completion.
    """
    said: list[Terms | None] = []
    waiting: dict[int, Generator[Generate, list, Terms]] = {}
    for number, (sample, completions) in enumerate(zip(samples, groups, strict=True)):
        with guarded(task, "reward", sample):
            found = task.reward(sample, completions)
        said.append(None if isgenerator(found) else found)
        if isgenerator(found):
            waiting[number] = found
    answers: dict[int, Any] = dict.fromkeys(waiting)
    while waiting:
        asked: dict[int, Generate] = {}
        for number, generator in list(waiting.items()):
            with guarded(task, "reward", samples[number]):
                try:
                    asked[number] = checked_request(task, samples[number], generator.send(answers[number]))
                except StopIteration as stop:
                    said[number] = stop.value
                    del waiting[number]
        answers = answer_requests(vlm, asked, config, step, learned)
    strict = "reward" in config.run.stopping
    scores = [weigh(task, sample, completions, terms, strict)
              for sample, completions, terms in zip(samples, groups, said, strict=True)]
    if not config.rollout.overlong:
        return scores
    if any("overlong" in terms for _, terms in scores):
        raise ValueError(f"{type(task).__name__}.reward has a term 'overlong', the name of rollout.overlong's: give it "
                         "another, or leave rollout.overlong out")
    return [penalised(score, completions, config.rollout) for score, completions in zip(scores, groups, strict=True)]


def penalised(score: Score, completions: Sequence[Completion], rollout: RolloutConfig) -> Score:
    """The score with one more term, `overlong`: see `variants.overlong_penalty`."""
    rewards, terms = score
    penalties = overlong_penalty([c.tokens for c in completions], rollout.max_new_tokens, rollout.overlong)
    return rewards + torch.tensor(penalties, dtype=torch.float64), {**terms, "overlong": penalties}


def answer_requests(vlm: VLM, asked: Mapping[int, Generate], config: Config, step: int,
                    learned: list[tuple[Sample, Group]]) -> dict[int, list[list[Completion]]]:
    """Completions of every sample of every request; requests of like sampling are drawn together."""
    kinds: dict[Sampling, list[int]] = {}
    for number, request in asked.items():
        temperature = config.rollout.temperature if request.learn else request.temperature
        sampling = Sampling(request.max_new_tokens or config.rollout.max_new_tokens, temperature)
        kinds.setdefault(sampling, []).append(number)
    answers = {}
    for sampling, numbers in kinds.items():
        pairs = [(sample, asked[n].group_size) for n in numbers for sample in asked[n].samples]
        # a question may quote what the model wrote, special tokens included
        prompts = [vlm.encode(replace(sample, question=vlm.specials.sub("", sample.question)),
                              config.rollout.max_prompt_tokens) for sample, _ in pairs]
        drawn = iter(generate(vlm, prompts, [size for _, size in pairs], sampling, seed=config.run.seed, step=step))
        for n in numbers:
            groups = [next(drawn) for _ in asked[n].samples]
            answers[n] = [completions_of(vlm, group) for group in groups]
            learned += zip(asked[n].samples, groups, strict=True) if asked[n].learn else ()
    return answers


def weigh(task: Task, sample: Sample, completions: Sequence[Completion], terms: Terms, strict: bool = True) -> Score:
    """Rewards of one group from its terms, which are checked. Raises ValueError; see `score_rewards`.

    Args:
        strict: Whether a number that is not finite is an error; else it makes the reward infinite.
    """
    where = f"{type(task).__name__}.reward, sample {sample.id}"
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(f"{where}: no reward terms returned, but {shown(terms)}; wanted is a dict such as "
                         '{"right": [1.0, 0.0, …]}')
    found: dict[str, list[float]] = {}
    rewards = torch.zeros(len(completions), dtype=torch.float64)
    for name, values in terms.items():
        if not isinstance(name, str):
            raise ValueError(f"{where}: the name of a term is {shown(name)}, and must be text")
        count = _length(values)
        if count != len(completions):
            held = shown(values) if count is None else f"{count} values"
            raise ValueError(f"{where}: term {name!r} has {held} for {len(completions)} completions")
        found[name] = [_number(value, f"{where}: term {name!r}", completion, strict)
                       for value, completion in zip(values, completions, strict=True)]
        values = torch.tensor(found[name], dtype=torch.float64)
        rewards += task.reward_weights.get(name, 1.0) * values.where(~values.isnan(), 0.0)
    beyond = ~(rewards.abs() < TOO_LARGE)
    if strict and beyond.any():
        raise ValueError(f"{where}: sums {rewards.tolist()} of the weighted terms {', '.join(terms)} are not finite "
                         f"or beyond {TOO_LARGE:g}")
    rewards[beyond] = math.inf
    if unknown := task.reward_weights.keys() - terms.keys():
        raise ValueError(f"{where}: reward_weights names {min(unknown)!r}, which is none of the terms "
                         f"{', '.join(terms)} (a term that does not apply is a list of None)")
    return rewards, found


def _length(values: Any) -> int | None:
    """How many values there are; None for what is no sequence: a tensor without dimensions, a set, a dict."""
    if isinstance(values, (Mapping, Set)):
        return None
    try:
        return len(values)
    except TypeError:
        return None


def _number(value: Any, where: str, completion: Completion, strict: bool) -> float:
    """A term's value as a float; NaN for None, which stands for a term that does not apply."""
    if value is None:
        return math.nan
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # torch's own for a tensor of several numbers
        number = math.nan
    if not math.isfinite(number) and not strict and not isinstance(value, (str, bytes)):
        return math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where} is {shown(value)} for completion {completion.text[:80]!r}")
    return number
