"""When a run saves: every so many steps, at its best, where it is stopped, and where it ends badly."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Iterator, Mapping

from minigrpo.checkpoints import Progress, absolute, model_mark, name_of, prune, restore, write
from minigrpo.checks import guarded
from minigrpo.config import to_toml
from minigrpo.cpu import give_back_freed_memory
from minigrpo.log import RunLog
from minigrpo.ranks import SharedError
from minigrpo.sampler import Sampler
from minigrpo.stopping import EXIT_CODE, StopSignal
from minigrpo.training import Training


class Saves:
    """The checkpoints of a stage. Every rank calls everything here."""

    def __init__(self, training: Training, sampler: Sampler, progress: Progress, log: RunLog, stop: StopSignal) -> None:
        """Where the run goes on from a checkpoint of this stage, fills models, optimizer and sampler from it.

        Raises:
            ValueError: the model that the stage began with, or the task's samples, are others than they were.
        """
        self._training, self._sampler, self.progress, self._log, self._stop = training, sampler, progress, log, stop
        self._began, self._before = time.monotonic(), progress.seconds
        self._saved = progress.steps if progress.step else None
        model = training.ranks.first_does(lambda: model_mark(progress.path))
        found = {"model": model, "samples": training.look_ahead(sampler, progress.step)}
        if progress.step and log.beginning.checkpoint:
            changed = {"model": f"the model {progress.path}", "samples": "the number of samples, or their ids,"}
            for name in (name for name, mark in found.items() if getattr(progress, name) != mark):
                raise ValueError(f"run.resume: {changed[name]} changed since {log.beginning.checkpoint} was saved: put "
                                 "back what was there, or begin a new run")
            restore(log.beginning.checkpoint, training.roles.policy, training.optimizer, training.ranks)
            with guarded(training.task, "sampler"):
                sampler.load(progress.sampler)
        progress.model, progress.samples = found["model"], found["samples"]

    def count(self, found: Mapping[str, float]) -> None:
        """A step is done: what is saved from here on goes on behind it."""
        at = self.progress
        at.step, at.steps = at.step + 1, at.steps + 1
        score = next((value for name, value in found.items() if name.startswith("held_out/")), math.nan)
        at.score = score if math.isfinite(score) else None
        with guarded(self._training.task, "sampler"):
            at.sampler = copy.deepcopy(self._sampler.state())
            json.dumps(at.sampler)

    def step(self) -> None:
        """Ends a step: saves where that is due. Raises SystemExit where the run was told to stop."""
        at, run = self.progress, self._training.config.run
        better = at.score is not None and (at.best is None or at.score > at.best)
        at.best = at.score if better else at.best
        last = at.step == self._training.stage.steps
        if run.save_every and (at.steps % run.save_every == 0 or last or better):
            self.save()
        self._end_if_asked()

    @contextlib.contextmanager
    def when_it_fails(self) -> Iterator[None]:
        """Within, a signal waits for the end of the step, and what ends the run on every rank saves it first.

        Raises:
            SharedError: as it was raised, with where the run was saved.
        """
        self._stop.waits = True
        try:
            yield
            self._end_if_asked()
        except (ValueError, OSError) as error:
            if not isinstance(error, SharedError) and self._training.ranks.size > 1:
                raise  # the other ranks do not know of it, and cannot save with this one
            self.save()
            if not self._saved:
                raise
            raise SharedError(f"{error} (saved after step {self._saved}: --run.resume {self._log.dir})") from error
        finally:
            self._stop.waits = False

    def end(self, path: str, scores: dict[str, float]) -> Progress:
        """Where the next stage begins, with the model of `path`."""
        self.progress.seconds = self._before + time.monotonic() - self._began
        return self.progress.after_stage(path, scores)

    def save(self) -> None:
        """Writes a checkpoint of the last whole step, unless there is one; older ones go."""
        at, training = self.progress, self._training
        if self._saved == at.steps or not at.steps:
            return
        self._log.sync()
        at.seconds = self._before + time.monotonic() - self._began
        at.watch, at.warned = self._log.watch.state(), self._log.warned
        at.path, at.dtype = absolute(at.path), str(training.roles.replica.net.dtype).removeprefix("torch.")
        write(self._log.dir / "checkpoints" / name_of(at.steps), training.roles.policy, training.optimizer, at,
              to_toml(training.config), training.ranks)
        self._saved = at.steps
        if training.ranks.first:
            prune(self._log.dir, training.config.run.keep)
        give_back_freed_memory()
        training.ranks.barrier()

    def _end_if_asked(self) -> None:
        """Saves and ends where any rank was told to stop. Raises SystemExit."""
        if self._training.ranks.max([float(self._stop.asked)])[0] > 0:
            self.save()
            at = self.progress
            self._log.say(f"stopped after step {at.steps} of {self._log.steps}; go on with --run.resume "
                          f"{self._log.dir}")
            raise SystemExit(EXIT_CODE)
