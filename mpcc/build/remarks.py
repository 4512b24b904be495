"""What a stage says: why it is made anew, and what it kept, dropped and noted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mpcc.build import difficulty
from mpcc.build.store import Outcome

_LISTED = 20
_DIGESTS = ("input", "images", "annotations", "question", "check", "decisions", "halves", "model", "models",
            "verifying model", "program")
"""Settings of which it is said only that they changed."""


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first setting that differs, in words."""
    name = next((name for name in {**new, **old} if old.get(name) != new.get(name)), None)
    if name is None:
        return "a file that it writes is missing"
    if name == "unanswered":
        return f"{old[name]} questions were not answered"
    if name in _DIGESTS:
        return f"{name} changed"
    return f"{name} was {old.get(name)}, is {new.get(name)}"


def summary(stage: str, asked: int | None, outcome: Outcome, path: Path) -> list[str]:
    """What a stage kept, dropped and noted, in lines."""
    total = asked if asked is not None else len(outcome.pairs) + len(outcome.dropped)
    lines = [f"{stage}: kept {len(outcome.pairs)} of {total} in {path}"]
    for reason, count in Counter(outcome.dropped.values()).most_common():
        lines.append(f"  dropped {count}: {reason}")
    for remark, count in Counter(outcome.notes.values()).most_common():
        lines.append(f"  noted {count}: {remark}")
    unlabelled = [id for id, remark in outcome.notes.items() if remark == difficulty.UNREADABLE]
    more = ", …" if len(unlabelled) > _LISTED else ""
    return lines + ([f"    {', '.join(unlabelled[:_LISTED])}{more}"] if unlabelled else [])
