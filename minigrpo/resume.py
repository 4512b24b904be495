"""Where a run begins: a new folder, or a checkpoint that it goes on from."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minigrpo.checkpoints import CONFIG, Progress, checkpoints, is_checkpoint, read_progress
from minigrpo.config import options, parse_config, sections_of, to_toml
from minigrpo.files import naming, replacing
from minigrpo.sections import Config

MAY_DIFFER = """run.dir run.resume run.device run.save_every run.keep run.evaluate_every run.max_bad_steps
    run.stop_on run.log_completions run.rank_timeout model.attention model.graphs model.gradient_checkpointing
    model.offload optim.tokens_per_micro_batch rollout.max_prompt_tokens task.max_bad"""
"""Options that a run may go on with other values of: they change what is kept and how it is computed, not what."""


@dataclass(frozen=True)
class Beginning:
    """Where a run begins.

    Attributes:
        folder: Of the run.
        checkpoint, progress: What it goes on from, and what that says; None where it begins.
        warnings: What was wrong with later checkpoints.
        finished: Whether there is nothing left to do.
    """

    folder: Path
    checkpoint: Path | None = None
    progress: Progress | None = None
    warnings: list[str] = field(default_factory=list)
    finished: bool = False


def run_folder(config: Config) -> Path:
    """The run's folder, made where it is new. It is to be held before anything in it is looked at.

    Raises:
        ValueError: there is no such run to go on with.
        OSError: it cannot be made.
    """
    folder, resume = Path(config.run.dir) if config.run.dir else None, config.run.resume
    if resume == "auto" and folder is None:
        raise ValueError("run.resume auto goes on in run.dir, which is not given: name the folder")
    if resume and resume != "auto":
        source = _source(resume)
        if not source.is_dir():
            raise ValueError(f"run.resume: {source} does not exist")
        folder = folder or source
    if folder is None:
        return _numbered_folder(Path("runs"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def begin(config: Config, folder: Path) -> Beginning:
    """Finds where the run begins, and leaves nothing in its folder, which is held, of steps that are still to come.

    Raises:
        ValueError: the folder holds a run that is not gone on from; there is no whole checkpoint; it is of a run with
            other options.
        OSError: the folder cannot be written to.
    """
    resume = config.run.resume
    named = _real(resume) if is_checkpoint(_real(resume)) else None
    source = folder if resume in ("", "auto") else _source(resume)
    own = source.resolve() == folder.resolve()
    if resume and own and not named and (folder / "result.json").is_file():
        return Beginning(folder, finished=True)
    if not resume or not own:
        _check_free(folder)
    if not resume or (resume == "auto" and not checkpoints(folder)):
        _clear(folder)
        for name in ("completions.jsonl", "warnings.txt"):  # of a run that ended before its first checkpoint
            (folder / name).unlink(missing_ok=True)
        _write_config(config, folder)
        (folder / "metrics.jsonl").write_bytes(b"")
        return Beginning(folder)
    found = Beginning(folder, named, read_progress(named)) if named else _newest(source)
    assert found.checkpoint and found.progress
    _check_same(config, found.checkpoint / CONFIG)
    later = [path for path in checkpoints(folder) if int(path.name) > found.progress.steps]
    if own and named and (later or (folder / "result.json").is_file()):
        raise ValueError(f"run.resume: the run in {folder} has gone on from {resume}: to go another way from "
                         "there, name a new folder with --run.dir")
    _clear(folder)
    for path in later:  # damaged, as the newest whole one is gone on from
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    _cut_logs(source, folder, found.progress)
    if own:
        return replace(found, folder=folder)
    _write_config(config, folder)
    copy = folder / "checkpoints" / found.checkpoint.name  # so that a kill before the next one loses nothing
    copy.parent.mkdir(exist_ok=True)
    with replacing(copy) as part:
        shutil.copytree(found.checkpoint, part)
    return replace(found, folder=folder, checkpoint=copy)


def _real(resume: str) -> Path:
    """The path; of a link, what it stands for."""
    path = Path(resume)
    return path.resolve() if path.is_symlink() else path


def _source(resume: str) -> Path:
    """The run of a run folder, or of a checkpoint. Raises ValueError for a checkpoint that lies in none."""
    path = _real(resume)
    if not is_checkpoint(path):
        return path
    if path.resolve().parent.name != "checkpoints" or not path.name.isdecimal():
        raise ValueError(f"run.resume: {path} does not lie in the checkpoints of a run, as RUN/checkpoints/000040")
    return path.parent.parent


def _clear(folder: Path) -> None:
    """Removes what a finished run has said, and what killed writing has left."""
    (folder / "result.json").unlink(missing_ok=True)
    for path in (*folder.glob(".*.part"), *(folder / "checkpoints").glob(".*.part")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_config(config: Config, folder: Path) -> None:
    with naming(folder / "config.toml"):
        (folder / "config.toml").write_text(to_toml(config), encoding="utf-8", newline="\n")


def _cut_logs(source: Path, folder: Path, progress: Progress) -> None:
    """Leaves in `folder` the lines of `source` up to the step that the run goes on from: later steps come again."""
    for name in ("metrics.jsonl", "completions.jsonl", "warnings.txt"):
        known = _lines(source / name)
        if name == "warnings.txt":
            kept = known[: progress.warned]
        else:
            kept = [line for line, record in zip(known, read_lines(source / name), strict=True)
                    if record["step"] <= progress.steps]
        if name == "metrics.jsonl" and len(kept) != progress.steps:
            raise ValueError(f"{source / name} has {len(kept)} of the {progress.steps} steps before the checkpoint")
        if kept or (folder / name).exists():
            with replacing(folder / name) as part:
                part.write_text("".join(kept), encoding="utf-8", newline="\n")


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
                             f"with its own options (leave the others away); with other ones a new run may begin at "
                             f"this checkpoint: --model.path {file.parent}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log of steps, which need not exist. Raises ValueError for a line that is none."""
    records = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            records.append(json.loads(line))
            records[-1]["step"] + 0
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: line {number} is not of a step: correct it, or begin in a new folder") from error
    return records


def _lines(path: Path) -> list[str]:
    """The whole lines of a file, which need not exist; a torn last line is none. Only a line feed ends a line."""
    with suppress(FileNotFoundError):
        *lines, _ = path.read_bytes().decode(errors="replace").split("\n")
        return [f"{line}\n" for line in lines]
    return []


def _check_free(folder: Path) -> None:
    steps = folder / "metrics.jsonl"
    if (steps.exists() and steps.stat().st_size) or (folder / "result.json").exists() or checkpoints(folder):
        raise ValueError(f"run.dir: {folder} already holds a run; name another folder, go on with it by --run.resume "
                         f"{folder}, or leave run.dir empty for a new one")


def _numbered_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    last = max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
    for number in itertools.count(last + 1):
        with suppress(FileExistsError):  # another run has just taken the number
            (folder := parent / f"{number:03d}").mkdir()
            return folder
