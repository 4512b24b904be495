"""Whether what a task says can be: each check raises an error of one line that names task, door and sample."""

from __future__ import annotations

import contextlib
import difflib
import linecache
import math
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from minigrpo.standing import here
from minigrpo.task import Generate, Sample, Stage, Task

SCORES = re.compile(r"\.(logps|entropies)\b")
MOST = 1e15
"""A size from which on an advantage or a weight, times others, is no number any more."""


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
        hint = ""
        if "NoneType" in said and SCORES.search(code) and not task.needs_scores:
            hint = "; with needs_scores = True the task gets log-probabilities and entropies"
        raise DoorError(f"{where}: {said} ({last.filename}, line {last.lineno}: {code}){hint}") from error


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
    if request.learn and request.group_size < 2:
        raise wrong(task, "reward", sample, "2 or more as group_size of a Generate to learn from", request.group_size)
    if not is_weight(request.temperature):
        raise wrong(task, "reward", sample, "a number, 0 or more, as temperature of Generate", request.temperature)
    return request


def is_weight(value: Any) -> bool:
    """Whether this is a finite number, 0 or more."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def check_stage(task: Task, stage: Stage) -> None:
    """Raises DoorError for a stage that cannot be."""
    if not isinstance(stage.name, str) or not re.fullmatch(r"[\w+-]+", stage.name):
        raise wrong(task, "stages", None, "a name of letters, digits, - and _ for each Stage", stage.name)
    if type(stage.steps) is not int or stage.steps < 0:
        raise wrong(task, "stages", None, f"a whole number, 0 or more, as steps of {stage.name!r}", stage.steps)
    if not (is_weight(stage.policy) and is_weight(stage.sft) and stage.policy + stage.sft > 0):
        raise wrong(task, "stages", None, f"weights policy and sft of {stage.name!r}, 0 or more, not both 0",
                    (stage.policy, stage.sft))
    if not isinstance(stage.task, (Task, NoneType)):
        raise wrong(task, "stages", None, f"a Task, or None, as task of {stage.name!r}", stage.task)
    if stage.task:
        check_attributes(stage.task)


def check_attributes(task: Task) -> None:
    """Looks at what a task says of itself beside its doors; warns of a method that looks like a misspelt door.

    Raises:
        DoorError: an attribute has an impossible value.
    """
    weights = task.reward_weights
    if not isinstance(weights, Mapping) or not all(
            isinstance(name, str) and isinstance(value, (int, float)) and math.isfinite(value)
            for name, value in weights.items()):
        raise wrong(task, "reward_weights", None, "a dict of term and finite number", weights)
    for name, allowed in (("scored_by", ("policy", "reference")), ("needs_scores", (True, False)),
                          ("needs_spans", (True, False))):
        if (value := getattr(task, name)) not in allowed:
            raise wrong(task, name, None, " or ".join(map(repr, allowed)), value)
    if not isinstance(task.default_model, str):
        raise wrong(task, "default_model", None, "text", task.default_model)
    doors = [name for name, value in vars(Task).items() if callable(value) and not name.startswith("_")]
    for name, value in vars(type(task)).items():
        own = callable(value) and not name.startswith("_") and name not in vars(Task)
        if own and (near := difflib.get_close_matches(name, doors, 1, 0.85)):
            warnings.warn(f"{type(task).__name__}.{name} is no door of a task; is {near[0]!r} meant?", stacklevel=2)


def wrong(task: Task, door: str, sample: Sample | None, wanted: str, found: Any) -> DoorError:
    """The error that says what a door should have said."""
    where = f"{type(task).__name__}.{door}" + (f", sample {sample.id}" if sample else "")
    return DoorError(f"{where}: gave {shown(found)}; wanted is {wanted}")


def shown(value: Any) -> str:
    """A value in a message: one line, of 80 characters at most."""
    return " ".join(repr(value).split())[:80]
