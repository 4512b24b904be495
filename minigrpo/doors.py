"""Asks a task through its doors, and checks what it says: what is wrong in a user's own code is one line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import NoneType

import torch
from torch import Tensor

from minigrpo.checks import (
    MOST,
    DoorError,
    check_attributes,
    check_stage,
    checked_images,
    checked_sample,
    guarded,
    wrong,
)
from minigrpo.metrics import OWN, OWN_PARTS
from minigrpo.ranks import Ranks, SharedError
from minigrpo.sampler import Sampler
from minigrpo.sections import Config
from minigrpo.task import Answer, BatchContext, GroupContext, Sample, Stage, Task

END = object()
"""What stands behind the last round of a sampler."""


def samples_of(task: Task) -> Sequence[Sample]:
    """The task's samples. What it says itself of bad data is passed on; raises DoorError for all else."""
    with guarded(task, "samples", passing=True):
        found = task.samples()
        if not hasattr(found, "__len__") or not hasattr(found, "__getitem__") or isinstance(found, (str, Mapping)):
            raise wrong(task, "samples", None, "a sequence of Sample", found)
    return found


def sample_at(task: Task, samples: Sequence[Sample], index: int) -> Sample:
    """One of the samples; its id, texts and images are of the right types. Raises as `samples_of`."""
    with guarded(task, "samples", passing=True):
        sample = samples[index]
    return checked_sample(task, "samples", sample)


def load_samples(task: Task, samples: Sequence[Sample], indices: Sequence[int], known: dict[str, int]
                 ) -> list[Sample]:
    """The samples at these indices; `known` keeps the index of every id that this rank has met.

    Raises:
        ValueError: two samples have one id, and so would draw the same random numbers.
    """
    loaded = [sample_at(task, samples, i) for i in indices]
    for i, sample in zip(indices, loaded, strict=True):
        if (other := known.setdefault(sample.id, i)) != i:
            raise ValueError(f"samples {other} and {i} of the task have one id, {sample.id!r}: random numbers are "
                             "keyed on ids, so make them unique")
    return loaded


def stages_of(task: Task, config: Config) -> list[Stage]:
    """The parts of the run. Raises DoorError where there are none, or for what the task cannot be."""
    check_attributes(task)
    with guarded(task, "stages"):
        found = task.stages(config)
        if not isinstance(found, list) or not found or not all(isinstance(stage, Stage) for stage in found):
            raise wrong(task, "stages", None, "a list of Stage", found)
        for stage in found:
            check_stage(task, stage)
        if len({stage.name for stage in found}) < len(found):
            raise wrong(task, "stages", None, "a name of its own for each Stage", [stage.name for stage in found])
    return found


def sampler_of(task: Task, samples: int, per_step: int, config: Config) -> Sampler:
    """What chooses the samples of a step. Raises ValueError where there are too few of them, DoorError."""
    if samples < per_step:
        raise ValueError(f"the task has {samples} samples, fewer than prompts_per_step = {per_step}")
    with guarded(task, "sampler"):
        found = task.sampler(samples, per_step, config.run.seed, config.rollout.resample_rounds)
        if not isinstance(found, Sampler):
            raise wrong(task, "sampler", None, "a Sampler", found)
    return found


def rounds_of(task: Task, sampler: Sampler, step: int) -> Iterator[list[int]]:
    """The indices of the samples of each round of a step; the same on every rank. Raises SharedError."""
    rounds = iter(sampler.rounds(step))
    while True:
        try:
            with guarded(task, "sampler"):
                chosen = next(rounds, END)
            if chosen is END:
                return
            own = isinstance(chosen, list) and all(type(i) is int and 0 <= i < sampler.samples for i in chosen)
            if not own or not chosen or len(set(chosen)) < len(chosen):
                raise wrong(task, "sampler", None, f"a list of different whole numbers below {sampler.samples}, as the "
                            f"samples of step {step + 1}", chosen)
        except DoorError as error:
            raise SharedError(str(error)) from error
        yield chosen


def views_of(task: Task, sample: Sample, step: int) -> tuple[dict[str, tuple], dict[str, int]]:
    """The images of each view, and how many completions are drawn from which. Raises DoorError."""
    with guarded(task, "views", sample):
        views = task.views(sample, step)
        if not isinstance(views, Mapping):
            raise wrong(task, "views", sample, "a dict of name and images", views)
        if unfit := [name for name in views if not isinstance(name, str) or name in ("policy", "prior")]:
            raise wrong(task, "views", sample, "text as names, not 'policy' and 'prior', which are the engine's", unfit)
        images = {name: checked_images(task, "views", sample, seen) for name, seen in views.items()}
    with guarded(task, "draw_from", sample):
        counts = task.draw_from(sample, step)
        if not isinstance(counts, Mapping) or not all(type(n) is int and n >= 0 for n in counts.values()):
            raise wrong(task, "draw_from", sample, "a dict of view and whole number, 0 or more", counts)
        if unknown := counts.keys() - images.keys():
            raise wrong(task, "draw_from", sample, f"names of its views ({', '.join(images) or 'it has none'})",
                        sorted(unknown))
    return images, dict(counts)


def slots_of(task: Task, sample: Sample) -> list[str]:
    """The texts that take slots of the group. Raises DoorError."""
    with guarded(task, "slots", sample):
        texts = task.slots(sample)
        if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
            raise wrong(task, "slots", sample, "a list of texts", texts)
    return list(texts)


def gathered(task: Task, contexts: Sequence[GroupContext], ranks: Ranks) -> list[GroupContext]:
    """The contexts with what the task gathers of all of them, on every rank. Raises SharedError."""
    own: list[Mapping[str, Sequence[float]]] = []
    with ranks.together():
        for context in contexts:
            with guarded(task, "gather", context.sample):
                found = {} if context.bad else task.gather(context)
                numbers = isinstance(found, Mapping) and all(
                    isinstance(name, str) and isinstance(values, (list, tuple))
                    and all(type(x) in (int, float) and math.isfinite(x) for x in values)
                    for name, values in found.items())
                if not numbers:
                    raise wrong(task, "gather", context.sample, "a dict of name and finite numbers in a list", found)
            own.append(found)
    every = [found for part in ranks.gather([own]) for found in part]
    names = set().union(*every)
    together = {name: sorted(float(x) for found in every for x in found.get(name, ())) for name in names}
    return [replace(context, gathered=together) for context in contexts]


def weights_of(task: Task, context: GroupContext) -> tuple[Tensor, Tensor | None]:
    """The task's advantages [G] and token weights [G, T]; a group that is left out has none, and is not asked about.

    Raises:
        DoorError: they are of another shape, or not finite.
    """
    sample, shape = context.sample, context.mask.shape
    if context.bad:
        return torch.zeros(shape[0], dtype=torch.float64), None
    with guarded(task, "advantages", sample):
        advantages = torch.as_tensor(task.advantages(context))
        if advantages.shape != shape[:1] or not advantages.isfinite().all():
            raise wrong(task, "advantages", sample, f"one finite number for each of {shape[0]} completions",
                        advantages.tolist())
        if advantages.abs().max() > MOST:
            raise wrong(task, "advantages", sample, f"numbers of a size below {MOST:g}", advantages.tolist())
    with guarded(task, "token_weights", sample):
        weights = task.token_weights(context)
        if weights is not None and not isinstance(weights, Tensor):
            raise wrong(task, "token_weights", sample, "a tensor, or None", weights)
        if weights is not None and (weights.shape != shape or not weights[context.mask].isfinite().all()):
            raise wrong(task, "token_weights", sample, f"finite numbers of shape {list(shape)}", weights.tolist())
        if weights is not None and weights[context.mask].abs().max() > MOST:
            raise wrong(task, "token_weights", sample, f"numbers of a size below {MOST:g}", weights.tolist())
    return advantages, weights


def extra_loss_of(task: Task, context: BatchContext) -> Tensor | None:
    """A scalar that is added to the loss. Raises DoorError."""
    with guarded(task, "extra_loss"):
        loss = task.extra_loss(context)
        if loss is not None and (not isinstance(loss, Tensor) or loss.dim()):
            raise wrong(task, "extra_loss", None, "a tensor without dimensions, or None", loss)
        if loss is not None and not loss.is_floating_point():
            raise wrong(task, "extra_loss", None, "a real number with decimals", loss)
        if loss is not None and not loss.requires_grad and loss != 0:
            raise wrong(task, "extra_loss", None, "a loss with a gradient, made of context.logps", loss)
    return loss


def metrics_of(task: Task, context: GroupContext) -> dict[str, float]:
    """The task's own figures of a group. Raises DoorError for what is no number, or a name that the engine has."""
    with guarded(task, "metrics", context.sample):
        found = task.metrics(context)
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
            raise wrong(task, "metrics", context.sample, "a dict of name and number", found)
        if taken := [name for name in found if name in OWN or name.startswith(OWN_PARTS)]:
            raise wrong(task, "metrics", context.sample, "names of its own: these are the engine's", taken)
        for name, value in found.items():
            if isinstance(value, (str, bytes, NoneType)) or getattr(value, "ndim", 0):
                raise wrong(task, "metrics", context.sample, f"a number as {name!r}", value)
        return {name: float(value) for name, value in found.items()}


def shown_answer_of(task: Task, sample: Sample) -> str | None:
    """What is shown as the true answer. Raises DoorError."""
    with guarded(task, "shown_answer", sample):
        answer = task.shown_answer(sample)
        if answer is not None and not isinstance(answer, str):
            raise wrong(task, "shown_answer", sample, "text, or None", answer)
    return answer


def evaluation_of(task: Task, answer: Answer) -> dict[str, float]:
    """Named figures on held-out data. What goes wrong with a prompt or another rank is passed on as it is.

    Raises:
        DoorError: the task's own code fails, or says no figures.
    """
    try:
        found = task.evaluate(answer)
    except (ValueError, OSError, RuntimeError):  # of a prompt, or of another rank that is gone
        raise
    except Exception as error:
        with guarded(task, "evaluate"):
            raise error
    if not isinstance(found, Mapping):
        raise wrong(task, "evaluate", None, "a dict of name and number", found)
    with guarded(task, "evaluate"):
        return {str(name): value if type(value) is int else float(value) for name, value in found.items()}
