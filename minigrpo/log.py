"""What a run writes down and shows: the run folder, the progress line, sample completions.

Every rank calls everything here; only rank 0 writes and prints. Every metric is written down, and drawn but for those
of `minigrpo.curves.UNDRAWN`. Some are known by name, to the progress line and to the warnings of `minigrpo.watch`:
`reward` and `reward/TERM` (unweighted; `reward/exact` as the exact match), `kl`, `entropy`, `length`, `cut_off` (share
of completions that hit the length limit), `zero_variance` (share of groups with equal rewards), `idle` (1 where all
groups had them), `skipped` (1 where the gradient was not finite), `sampler/mean_difference` (from the policy, nats per
token), `tokens_per_second`, `held_out/FIGURE`, and `seconds`, from which the time left follows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from minigrpo.config import Config, to_toml
from minigrpo.curves import draw_curves
from minigrpo.files import replacing
from minigrpo.progress import LoggedCompletion, figures, fit, progress_parts, show_completions
from minigrpo.ranks import Ranks
from minigrpo.task import GroupContext, Task
from minigrpo.watch import Watch

DRAWING_PAUSE = 50
"""Curves are drawn again after this many times as long as drawing them took, at the earliest: all ranks wait for it."""


def show_warnings(ranks: Ranks) -> None:
    """Warnings of a task's own code from here on: one line each, of the first rank alone, which reads what all read."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    if not ranks.first:
        warnings.simplefilter("ignore", UserWarning)


class RunLog:
    """The run folder and the screen.

    Files: `config.toml`, `metrics.jsonl` (an object per step), `completions.jsonl`, `result.json`, `curves.png`, and
    `warnings.txt` where something went wrong (a line for each).
    Figures that are not finite are written as null.
    """

    def __init__(self, config: Config, ranks: Ranks) -> None:
        """Make the folder `config.run.dir`, or the next free one of runs/001, runs/002, … where that is empty.

        Raises:
            ValueError: The folder holds a run already, or cannot be made; raised on every rank.
        """
        self.steps = config.steps
        self.dir = _run_folder(config.run.dir, ranks)
        self._first, self._ranks, self._logged = ranks.first, ranks, config.run.log_completions
        self._max_bad_steps = config.run.max_bad_steps
        self._watch = Watch(self._max_bad_steps)
        self._history: list[dict[str, Any]] = []
        self._open_line = False
        self._start = self._next_drawing = time.monotonic()
        if self._first:
            (self.dir / "config.toml").write_text(to_toml(config), encoding="utf-8", newline="\n")
            (self.dir / "metrics.jsonl").touch()
            (self.dir / "completions.jsonl").unlink(missing_ok=True)  # of a run that ended before its first step

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write down and show the metrics of one step; steps count from 1. Up to ten times a run, draw the curves."""
        if not self._first:
            return
        record = {"step": step} | _plain(metrics)
        self._history.append(record)
        self._append("metrics.jsonl", record)
        self._show(progress_parts(record, self.steps, time.monotonic() - self._start, self._seconds_left(step)))
        if held_out := {name[9:]: value for name, value in metrics.items() if name.startswith("held_out/")}:
            self.say(f"held-out at step {step}: {figures(held_out)}")
        began = time.monotonic()
        if self._is_due(step) and began >= self._next_drawing:
            draw_curves(self.dir / "curves.png", self._history)
            self._next_drawing = time.monotonic() + DRAWING_PAUSE * (time.monotonic() - began)

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Warn of what goes wrong (`minigrpo.watch`).

        Raises:
            ValueError: `run.max_bad_steps` of the last twice as many steps were skipped; raised on every rank.
        """
        for text in self._watch.step(step, metrics):
            self.warn(text)
        if self._watch.too_many_bad_steps():
            raise ValueError(f"step {step}: the gradient was not finite in {self._max_bad_steps} of the last "
                             f"{min(step, 2 * self._max_bad_steps)} steps; last metrics: {dict(metrics)}. Lower "
                             f"optim.lr, or look at {self.dir / 'metrics.jsonl'}")

    def warn(self, text: str) -> None:
        """Print a warning below the progress line, and add it to `warnings.txt`."""
        if self._first:
            self.say(f"warning: {text}")
            with open(self.dir / "warnings.txt", "a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def groups(self, step: int, task: Task, contexts: Sequence[GroupContext]) -> None:
        """Write down completions of the first `run.log_completions` prompts of a step, of all ranks together."""
        size, rank = self._ranks.size, self._ranks.rank
        mine = [(i * size + rank, examples(step, task, c)) for i, c in enumerate(contexts)
                if i * size + rank < self._logged]
        for _, logged in sorted((pair for pairs in self._ranks.gather([mine]) for pair in pairs), key=itemgetter(0)):
            self.completions(logged)

    def completions(self, completions: Sequence[LoggedCompletion]) -> None:
        """Write down completions of one prompt; about ten times a run, show them, too."""
        if not self._first or not completions:
            return
        for completion in completions:
            self._append("completions.jsonl", _plain(asdict(completion)))
        step = completions[0].step
        if step == 1 or self._is_due(step):
            self.say("")
            show_completions(completions)

    def say(self, text: str) -> None:
        """Print a line of text below the progress line."""
        if self._first:
            self._end_line()
            print(text, flush=True)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, all of it or nothing, and the final curves."""
        if not self._first:
            return
        self._end_line()
        with replacing(self.dir / "result.json") as part:
            text = json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
        if self._history:
            draw_curves(self.dir / "curves.png", self._history)

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        with open(self.dir / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def _is_due(self, step: int) -> bool:
        """True ten times a run: curves and completions are shown."""
        return step % max(1, self.steps // 10) == 0

    def _seconds_left(self, step: int) -> float | None:
        recent = [record["seconds"] for record in self._history[-20:] if record.get("seconds") is not None]
        return (self.steps - step) * sum(recent) / len(recent) if recent else None

    def _show(self, parts: list[tuple[int, str]]) -> None:
        if sys.stdout.isatty():
            line = fit(parts, shutil.get_terminal_size().columns - 1)
            print(f"\r{line}\x1b[K", end="", flush=True)  # the escape clears what a longer line left behind
            self._open_line = True
        else:
            print(fit(parts), flush=True)

    def _end_line(self) -> None:
        if self._open_line:
            print()
        self._open_line = False


def _run_folder(name: str, ranks: Ranks) -> Path:
    """The run's folder, chosen and made by rank 0 and told to all."""
    try:
        return ranks.first_does(lambda: _named_folder(Path(name)) if name else _numbered_folder(Path("runs")))
    except (ValueError, OSError) as error:
        raise ValueError(f"run.dir: {error}") from error


def _named_folder(folder: Path) -> Path:
    steps = folder / "metrics.jsonl"
    if (steps.exists() and steps.stat().st_size) or (folder / "result.json").exists():
        raise ValueError(f"{folder} already holds a run; name another folder, or leave run.dir empty for a new one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _numbered_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    last = max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
    for number in itertools.count(last + 1):
        with contextlib.suppress(FileExistsError):  # another run has just taken the number
            (folder := parent / f"{number:03d}").mkdir()
            return folder


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: tensors and numpy's as numbers and lists, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def examples(step: int, task: Task, context: GroupContext) -> list[LoggedCompletion]:
    """What of a group is logged: priors, and the sampled completions that earned most and least."""
    group, rewards = context.group, context.rewards.tolist()
    priors = [i for i, prior in enumerate(group.is_prior) if prior]
    ranked = sorted((i for i in range(len(rewards)) if i not in priors), key=lambda i: -rewards[i])
    sample, answer = context.sample, task.shown_answer(context.sample)
    return [
        LoggedCompletion(
            step, sample.id, sample.question, context.completions[i].text,
            {name: values[i] for name, values in context.terms.items()}, rewards[i], float(context.advantages[i]),
            i in priors, answer,
        )
        for i in dict.fromkeys([*priors, *ranked[:1], *ranked[-1:]])
    ]
