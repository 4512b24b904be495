"""What a run writes down and shows: the run folder, the progress line, sample completions.

Every rank calls everything here; only rank 0 writes and prints. Every metric is written down, and drawn but for those
of `minigrpo.curves.UNDRAWN`. Some are known by name, to the progress line and to the warnings of `minigrpo.watch`:
`reward` and `reward/TERM` (unweighted; `reward/exact` as the exact match), `kl`, `entropy`, `length`, `cut_off` (share
of completions that hit the length limit), `zero_variance` (share of groups with equal rewards), `idle` (1 where all
groups had them), `skipped` (1 where a gradient was not finite), `updated` (1 where one was), `sampler/mean_difference`
(from the policy, nats per token), `tokens_per_second`, `held_out/FIGURE`, and `seconds`, from which the time left
follows.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from minigrpo.config import Config
from minigrpo.curves import draw_curves
from minigrpo.doors import shown_answer_of
from minigrpo.files import append, held, naming, replacing
from minigrpo.metrics import StepMetrics
from minigrpo.progress import LoggedCompletion, figures, fit, progress_parts, show_completions
from minigrpo.ranks import Ranks, SharedError
from minigrpo.resume import Beginning, begin, read_lines, run_folder
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

    Files: `config.toml`, `metrics.jsonl` (an object per step), `completions.jsonl`, `result.json`, `curves.png`,
    `warnings.txt` where something went wrong (a line for each), and `checkpoints` (`minigrpo.checkpoints`).
    Figures that are not finite are written as null. No other process may write into the folder meanwhile.

    Attributes:
        dir: The folder.
        beginning: Where the run begins, or goes on.
        watch: What is told of every step.
        warned: Lines of `warnings.txt`.
    """

    def __init__(self, config: Config, ranks: Ranks, steps: int = 0) -> None:
        """Takes the folder `config.run.dir`, or the next free one of runs/001, runs/002, … where that is empty, or that
        of the run that `config.run.resume` goes on with.

        Args:
            steps: Of all stages together; `run.steps` by default.

        Raises:
            ValueError: The folder holds a run already, cannot be made, is in use, or has no checkpoint to go on from;
                raised on every rank.
        """
        self.steps = steps or config.run.steps
        self._first, self._ranks, self._logged = ranks.first, ranks, config.run.log_completions
        self._open = contextlib.ExitStack()
        self.beginning = ranks.first_does(lambda: self._begin(config))
        self.dir, progress = self.beginning.folder, self.beginning.progress
        self._max_bad_steps, self._stop_on = config.run.max_bad_steps, config.run.stopping
        self.watch, self.warned = Watch(self._max_bad_steps), 0
        self._history: list[dict[str, Any]] = []
        self._open_line = False
        self._start = self._next_drawing = time.monotonic()
        for text in self.beginning.warnings:
            self.say(f"warning: {text}")
        if progress:
            self.watch.load(progress.watch)
            self.warned, self._start = progress.warned, self._start - progress.seconds
            self._history = read_lines(self.dir / "metrics.jsonl") if self._first else []

    def _begin(self, config: Config) -> Beginning:
        """Holds the folder, then finds out where the run begins."""
        try:
            folder = run_folder(config)
            self._open.enter_context(held(folder, "train.py"))
            return begin(config, folder)
        except OSError as error:
            raise ValueError(f"run.dir: {error}") from error

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        """Lets go of the folder."""
        self._end_line()
        self._open.close()

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
            self._draw()
            self._next_drawing = time.monotonic() + DRAWING_PAUSE * (time.monotonic() - began)

    def check(self, step: int, found: Mapping[str, float], metrics: StepMetrics) -> None:
        """Warn of what goes wrong (`minigrpo.watch`), and name the samples in which it is most.

        Args:
            found: What `metrics` came to, over all ranks.

        Raises:
            SharedError: a trouble of `run.stop_on`, or `run.max_bad_steps` of the last twice as many steps were
                skipped; raised on every rank.
        """
        for name, text in self.watch.step(step, found).items():
            ids = metrics.worst(name, self._ranks)
            text += f" (above all in {', '.join(ids)})" if ids else ""
            if name in self._stop_on:
                raise SharedError(f"{text}; the run ends, as run.stop_on says")
            self.warn(text)
        if self.watch.too_many_bad_steps():  # it forgets them, so that a run may go on
            raise SharedError(f"step {step}: the gradient was not finite in {self._max_bad_steps} of the last "
                              f"{min(step, 2 * self._max_bad_steps)} steps; last metrics: {dict(found)}. Lower "
                              f"optim.lr, or look at {self.dir / 'metrics.jsonl'}")

    def warn(self, text: str) -> None:
        """Print a warning below the progress line, and add it to `warnings.txt`."""
        if self._first:
            text = " ".join(text.split())
            self.say(f"warning: {text}")
            append(self.dir / "warnings.txt", f"{text}\n")
            self.warned += 1

    def groups(self, step: int, task: Task, contexts: Sequence[GroupContext]) -> None:
        """Write down completions of the first `run.log_completions` prompts of a step, of all ranks together."""
        size, rank = self._ranks.size, self._ranks.rank
        with self._ranks.together():
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

    def sync(self) -> None:
        """What was written is on the disk when this returns."""
        for name in ("metrics.jsonl", "completions.jsonl", "warnings.txt") if self._first else ():
            if (self.dir / name).exists():
                with naming(self.dir / name), open(self.dir / name, "rb") as file:
                    os.fsync(file.fileno())

    def say(self, text: str) -> None:
        """Print a line of text below the progress line."""
        if self._first:
            self._end_line()
            print(text, flush=True)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, all of it or nothing, with the steps in which each trouble was there; draw."""
        counts = self.watch.counts
        if not self._first:
            return
        updated = [record["updated"] for record in self._history if "updated" in record]
        if updated and not any(updated):
            self.warn("no step of this run changed the weights: all were idle or skipped")
        self._end_line()
        with replacing(self.dir / "result.json") as part:
            troubles = {"troubles": dict(counts)} if counts else {}
            text = json.dumps(_plain({**result, **troubles}), indent=2, ensure_ascii=False, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
        if self._history:
            self._draw()

    def _draw(self) -> None:
        """Draws the curves; a picture never ends a run."""
        try:
            draw_curves(self.dir / "curves.png", self._history)
        except Exception as error:  # whatever a library for drawing may raise
            self.say(f"warning: {self.dir / 'curves.png'} cannot be drawn: {' '.join(str(error).split())}")

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        append(self.dir / name, json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

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
    sample, answer = context.sample, shown_answer_of(task, context.sample)
    return [
        LoggedCompletion(
            step, sample.id, sample.question, context.completions[i].text,
            {name: values[i] for name, values in context.terms.items()}, rewards[i], float(context.advantages[i]),
            i in priors, answer,
        )
        for i in dict.fromkeys([*priors, *ranked[:1], *ranked[-1:]])
    ]
