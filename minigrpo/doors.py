"""Asks a task through its doors, and checks what it says: what is wrong in a user's own code is one line."""

from __future__ import annotations

import contextlib
import linecache
import math
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from minigrpo.ranks import SharedError
from minigrpo.sampler import Sampler
from minigrpo.sections import Config
from minigrpo.standing import here
from minigrpo.task import Answer, BatchContext, Generate, GroupContext, Sample, Stage, Task

END = object()
"""What stands behind the last round of a sampler."""


class DoorError(ValueError):
    """What a task does or says is wrong. The message is one line that names task, door and sample."""


@contextlib.contextmanager
def guarded(task: Task, door: str, sample: Sample | None = None, passing: bool = False) -> Iterator[None]:
    """Whatever goes wrong in a task's own code becomes one line that names task, door, sample, and the line of code.

    Args:
        passing: Whether a ValueError or OSError that the code raises itself, and so has words for, stays as it is.

    Raises:
        ValueError: with that line; one that `wrong` has made already stays as it is.
    """
    try:
        with here.at(sample=sample.id if sample else ""):
            yield
    except DoorError:
        raise
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        code = linecache.getline(last.filename, last.lineno).strip()
        if passing and isinstance(error, (ValueError, OSError)) and code.startswith("raise "):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        where = f"{type(task).__name__}.{door}" + (f", sample {sample.id}" if sample else "")
        raise DoorError(f"{where}: {said} ({last.filename}, line {last.lineno}: {code})") from error


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


def checked_sample(task: Task, door: str, sample: Any) -> Sample:
    """The sample, if it is one that can be encoded. Raises DoorError."""
    if not isinstance(sample, Sample):
        raise wrong(task, door, None, "a Sample", sample)
    texts = {"id": sample.id, "question": sample.question, "system": sample.system or "", "prior": sample.prior or ""}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise wrong(task, door, sample, f"text as {name}", value)
    checked_images(task, door, sample, sample.images)
    return sample


def checked_images(task: Task, door: str, sample: Sample, images: Any) -> tuple:
    """The images, if they are a tuple or list of PIL images. Raises DoorError."""
    if not isinstance(images, (tuple, list)):
        raise wrong(task, door, sample, "a tuple of PIL images", images)
    if bad := [image for image in images if not hasattr(image, "getpixel")]:
        raise wrong(task, door, sample, "PIL images", bad[0])
    return tuple(images)


def checked_request(task: Task, sample: Sample, request: Any) -> Generate:
    """What a reward has yielded. Raises DoorError."""
    if not isinstance(request, Generate):
        raise wrong(task, "reward", sample, "a Generate to be yielded", request)
    if not isinstance(request.samples, Sequence) or isinstance(request.samples, str):
        raise wrong(task, "reward", sample, "a list of Sample in Generate", request.samples)
    for asked in request.samples:
        checked_sample(task, "reward", asked)
    if len({asked.id for asked in request.samples}) < len(request.samples):
        raise wrong(task, "reward", sample, "an id of its own for each Sample in Generate: random numbers are keyed on "
                    "ids", [asked.id for asked in request.samples])
    for name, least in (("group_size", 0), ("max_new_tokens", 0)):
        if type(value := getattr(request, name)) is not int or value < least:
            raise wrong(task, "reward", sample, f"a whole number, {least} or more, as {name} of Generate", value)
    if not is_weight(request.temperature):
        raise wrong(task, "reward", sample, "a number, 0 or more, as temperature of Generate", request.temperature)
    return request


def is_weight(value: Any) -> bool:
    """Whether this is a finite number, 0 or more."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def stages_of(task: Task, config: Config) -> list[Stage]:
    """The parts of the run. Raises DoorError where there are none."""
    with guarded(task, "stages"):
        found = task.stages(config)
        if not isinstance(found, list) or not found or not all(isinstance(stage, Stage) for stage in found):
            raise wrong(task, "stages", None, "a list of Stage", found)
        for stage in found:
            if not isinstance(stage.name, str) or not re.fullmatch(r"[\w+-]+", stage.name):
                raise wrong(task, "stages", None, "a name of letters, digits, - and _ for each Stage", stage.name)
            if type(stage.steps) is not int or stage.steps < 0:
                raise wrong(task, "stages", None, f"a whole number, 0 or more, as steps of {stage.name!r}", stage.steps)
            if not (is_weight(stage.policy) and is_weight(stage.sft) and stage.policy + stage.sft > 0):
                raise wrong(task, "stages", None, f"weights policy and sft of {stage.name!r}, 0 or more, not both 0",
                            (stage.policy, stage.sft))
            if not isinstance(stage.task, (Task, NoneType)):
                raise wrong(task, "stages", None, f"a Task, or None, as task of {stage.name!r}", stage.task)
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
            raise wrong(task, "draw_from", sample, f"names of its views, {', '.join(images) or 'which has none'}",
                        sorted(unknown))
    return images, dict(counts)


def slots_of(task: Task, sample: Sample) -> list[str]:
    """The texts that take slots of the group. Raises DoorError."""
    with guarded(task, "slots", sample):
        texts = task.slots(sample)
        if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
            raise wrong(task, "slots", sample, "a list of texts", texts)
    return list(texts)


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
    with guarded(task, "token_weights", sample):
        weights = task.token_weights(context)
        if weights is not None and not isinstance(weights, Tensor):
            raise wrong(task, "token_weights", sample, "a tensor, or None", weights)
        if weights is not None and (weights.shape != shape or not weights[context.mask].isfinite().all()):
            raise wrong(task, "token_weights", sample, f"finite numbers of shape {list(shape)}", weights.tolist())
    return advantages, weights


def extra_loss_of(task: Task, context: BatchContext) -> Tensor | None:
    """A scalar that is added to the loss. Raises DoorError."""
    with guarded(task, "extra_loss"):
        loss = task.extra_loss(context)
        if loss is not None and (not isinstance(loss, Tensor) or loss.dim()):
            raise wrong(task, "extra_loss", None, "a tensor without dimensions, or None", loss)
    return loss


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


def wrong(task: Task, door: str, sample: Sample | None, wanted: str, found: Any) -> DoorError:
    """The error that says what a door should have said."""
    where = f"{type(task).__name__}.{door}" + (f", sample {sample.id}" if sample else "")
    return DoorError(f"{where}: gave {shown(found)}; wanted is {wanted}")


def shown(value: Any) -> str:
    """A value in a message: one line, of 80 characters at most."""
    return " ".join(repr(value).split())[:80]
