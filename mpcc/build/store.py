"""What the stages leave in the output folder: one numbered file each, in our pairs format.

A stage's file holds, beside the fields of the format (`mpcc.formats`), `stage`, the `settings` that made it, `dropped`
(id → reason) and `notes` (id → remark on a pair that stays). The settings decide whether a stage is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcc.formats import FORMAT, VERSION, our_pairs, write_json
from mpcc.reading import read_json

STAGES = ("candidates", "screen", "difficulty", "distractors", "traces", "curate", "split")

PairRecord = dict[str, Any]
"""A pair as our format states it."""


@dataclass(frozen=True)
class Outcome:
    """What a stage makes: the pairs it keeps, why it dropped the others, and remarks on some that stay."""

    pairs: list[PairRecord]
    dropped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageFile:
    """A stage's file, read. `settings` are those it was made with."""

    split: str
    settings: dict[str, Any]
    outcome: Outcome


def stage_path(folder: Path, stage: str) -> Path:
    """Where a stage writes: `1-candidates.json`, `2-screen.json`, …"""
    return folder / f"{STAGES.index(stage) + 1}-{stage}.json"


def read_stage(folder: Path, stage: str) -> StageFile:
    """A stage's file.

    Raises:
        FileNotFoundError: the stage has not been run.
        ValueError: the file is broken, or not that of this stage.
    """
    path = stage_path(folder, stage)
    content = read_json(path, f"run the stage {stage!r} first, or 'all'")
    if not isinstance(content, dict) or content.get("stage") != stage or not isinstance(content.get("settings"), dict):
        raise ValueError(f"{path} is not a file of the stage {stage!r}: remove it and run the stage again")
    split, located = our_pairs(content, path)
    outcome = Outcome([found.pair for found in located], content.get("dropped", {}), content.get("notes", {}))
    return StageFile(split, content["settings"], outcome)


def write_stage(folder: Path, stage: str, split: str, settings: dict[str, Any], outcome: Outcome) -> Path:
    """Writes a stage's file, whole or not at all."""
    path = stage_path(folder, stage)
    write_json(path, {
        "format": FORMAT, "version": VERSION, "split": split, "stage": stage, "settings": settings,
        "dropped": outcome.dropped, "notes": outcome.notes, "pairs": outcome.pairs,
    })
    return path
