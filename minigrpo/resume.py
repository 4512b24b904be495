"""Where a run begins: a new folder, or a checkpoint that it goes on from."""

from __future__ import annotations

import itertools
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigrpo.checkpoints import CONFIG, Progress, checkpoints, is_checkpoint, read_progress
from minigrpo.config import options, parse_config, sections_of
from minigrpo.files import replacing
from minigrpo.sections import Config

MAY_DIFFER = """run.dir run.resume run.device run.save_every run.keep run.evaluate_every run.max_bad_steps
    run.log_completions run.rank_timeout model.attention model.graphs model.gradient_checkpointing model.offload
    optim.tokens_per_micro_batch task.max_bad"""
"""Options that a run may go on with other values of: they change what is kept and how it is computed, not what."""


@dataclass(frozen=True)
class Beginning:
    """A run's folder, the checkpoint that it goes on from, what that says, and what was wrong with later ones."""

    folder: Path
    checkpoint: Path | None = None
    progress: Progress | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.progress is not None and (self.folder / "result.json").is_file()


def find_beginning(config: Config) -> Beginning:
    """What `run.resume` and `run.dir` say, looked up on one rank. Changes nothing but that it makes a new folder.

    Raises:
        ValueError: the folder holds a run that is not gone on from; there is no whole checkpoint; it is of a run with
            other options.
    """
    folder, resume = Path(config.run.dir) if config.run.dir else None, config.run.resume
    if not resume:
        return Beginning(_named_folder(folder) if folder else _numbered_folder(Path("runs")))
    if resume == "auto":
        if folder is None:
            raise ValueError("run.resume auto goes on in run.dir, which is not given: name the folder")
        if not checkpoints(folder):
            return Beginning(folder)
        found = _newest(folder)
    elif is_checkpoint(resume):
        found = Beginning(Path(resume).parent.parent, Path(resume), read_progress(Path(resume)))
    else:
        found = _newest(Path(resume))
    assert found.checkpoint
    _check_same(config, found.checkpoint / CONFIG)
    if folder is not None and folder.resolve() != found.folder.resolve():
        return Beginning(_named_folder(folder), found.checkpoint, found.progress, found.warnings)
    later = [path for path in checkpoints(found.folder) if int(path.name) > int(found.checkpoint.name)]
    if is_checkpoint(resume) and (later or found.finished):
        raise ValueError(f"run.resume: the run in {found.folder} has gone on from {resume}: name a new folder for the "
                         "other way on with --run.dir")
    return found


def cut_logs(source: Path, folder: Path, progress: Progress) -> None:
    """Leaves in `folder` the lines of `source` up to the step that the run goes on from: later steps come again."""
    for name in ("metrics.jsonl", "completions.jsonl", "warnings.txt"):
        if (source / name).is_file():
            known = _lines(source / name)
            kept = known[: progress.warned] if name == "warnings.txt" else [
                line for line in known if json.loads(line)["step"] <= progress.steps]
            with replacing(folder / name) as part:
                part.write_text("".join(kept), encoding="utf-8", newline="\n")
    if source != folder:
        shutil.copyfile(source / "config.toml", folder / "config.toml")


def _newest(run: Path) -> Beginning:
    """The newest whole checkpoint of a run."""
    warnings = []
    for path in reversed(checkpoints(run)):
        try:
            return Beginning(run, path, read_progress(path), warnings)
        except ValueError as error:
            warnings.append(f"{error}; the one before it is taken")
    if warnings:
        raise ValueError(f"run.resume: {warnings[0].partition(';')[0]}, and no other is whole")
    raise ValueError(f"run.resume: {run} " + ("holds no checkpoint" if run.is_dir() else "does not exist"))


def _check_same(config: Config, file: Path) -> None:
    """Raises ValueError where the options of a checkpoint differ from these in what decides how training goes on."""
    then, _ = parse_config(["--config", str(file)], config.task_class)
    if then.task_class != config.task_class:
        raise ValueError(f"run.resume: {file.parent} is of the task {then.task_class}, not of {config.task_class}")
    for name in options(sections_of(type(config.task))):
        section, key = name.split(".")
        was, now = (getattr(getattr(one, section), key) for one in (then, config))
        if was != now and name not in MAY_DIFFER.split():
            raise ValueError(f"run.resume: {file.parent} is of a run with {name} = {was!r}, not {now!r}: a run goes on "
                             f"with its own options (--config {file}); for other ones begin at its model with "
                             "--model.path")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, which need not exist."""
    return [json.loads(line) for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    """The whole lines of a file, which need not exist; a torn last line is none."""
    with suppress(FileNotFoundError):
        return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return []


def _named_folder(folder: Path) -> Path:
    steps = folder / "metrics.jsonl"
    if (steps.exists() and steps.stat().st_size) or (folder / "result.json").exists() or checkpoints(folder):
        raise ValueError(f"run.dir: {folder} already holds a run; name another folder, go on with it by --run.resume "
                         f"{folder}, or leave run.dir empty for a new one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _numbered_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    last = max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
    for number in itertools.count(last + 1):
        with suppress(FileExistsError):  # another run has just taken the number
            (folder := parent / f"{number:03d}").mkdir()
            return folder

