"""The progress line of a run, and a sample completion as a person reads it. Formats and prints; decides nothing."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LoggedCompletion:
    """One completion with what it earned: a line of `completions.jsonl`. `answer` is the true one, where known."""

    step: int
    id: str
    question: str
    text: str
    terms: Mapping[str, float]
    reward: float
    advantage: float
    prior: bool = False
    answer: str | None = None


def progress_parts(record: Mapping, steps: int, elapsed: float, left: float | None) -> list[tuple[int, str]]:
    """The line of one step, as (rank, text): where the terminal is narrow, the highest ranks are left out first.

    Args:
        record: The step's metrics by the names of `minigrpo.log`, and `step`; None stands for a NaN.
        steps: Steps of the whole run.
        elapsed: Seconds since the run began.
        left: Seconds to go, if known.
    """
    terms = [
        f"{name.removeprefix('reward/')} {_number(value)}"
        for name, value in record.items()
        if name.startswith("reward/") and name != "reward/exact"
    ]
    parts = [
        (0, f"step {record['step']:>{len(str(steps))}}/{steps}"),
        (1, _labelled(record, "reward", "reward {}") or _labelled(record, "loss", "loss {}")),
        (5, f"({' '.join(terms)})" if terms else ""),
        (2, _labelled(record, "reward/exact", "exact {} %", 100)),
        (7, _labelled(record, "kl", "KL {}")),
        (6, _labelled(record, "entropy", "entropy {}")),
        (8, _labelled(record, "length", "length {}")),
        (4, _labelled(record, "tokens_per_second", "{} tok/s")),
        (9, _labelled(record, "zero_variance", "no variance {} %", 100)),
        (10, f"{clock(elapsed)} gone"),
        (3, f"{clock(left)} left" if left is not None else ""),
    ]
    return [part for part in parts if part[1]]


def fit(parts: list[tuple[int, str]], width: int | None = None) -> str:
    """The parts in their order, as many as fit into `width` characters; all of them where that is None."""
    kept = list(parts)
    line = "  ".join(text for _, text in kept)
    while width is not None and len(line) > width and len(kept) > 1:
        kept.remove(max(kept))
        line = "  ".join(text for _, text in kept)
    return line[:width]


def show_completions(completions: Sequence[LoggedCompletion], width: int | None = None) -> None:
    """Print completions of one prompt: the question's last line, the true answer, and what each says and earned."""
    width = min(width or shutil.get_terminal_size().columns, 110)
    first = completions[0]
    question = (first.question.strip().splitlines() or [""])[-1]
    lines = [f"── step {first.step}, {first.id} ".ljust(width, "─")]
    lines += _field("question", question, width)
    lines += _field("answer", first.answer, width) if first.answer is not None else []
    for completion in completions:
        terms = "  ".join(f"{name} {_number(value)}" for name, value in completion.terms.items())
        lines += _field("annotated" if completion.prior else "says", completion.text, width)
        earned = f"{_number(completion.reward)} ({terms})  advantage {completion.advantage:+.2f}"
        lines += _field("earned", earned, width)
    print("\n".join([*lines, "─" * width]), flush=True)


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _field(label: str, text: str, width: int) -> list[str]:
    """`text` wrapped behind its label, line by line; characters that would move the cursor are made visible."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.replace("\t", " "))
    wrapped = [part for line in shown.splitlines() or [""] for part in textwrap.wrap(line, width - 10) or [""]]
    return [f"{label if i == 0 else '':>9} {part}".rstrip() for i, part in enumerate(wrapped)]


def _labelled(record: Mapping, name: str, form: str, scale: float = 1.0) -> str:
    if name not in record:
        return ""
    value = record[name]
    return form.format(_number(None if value is None else value * scale, whole=scale != 1.0))


def _number(value: float | None, whole: bool = False) -> str:
    """Three digits or so, of even width where the size stays the same; None is a NaN."""
    if value is None:
        return "nan"
    size = abs(value)
    if whole or size >= 100:
        return f"{value:.0f}"
    if 0 < size < 0.001:
        return f"{value:.0e}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 or not size else f"{value:.3f}"
