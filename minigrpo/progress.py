"""Progress bars, and the progress line of a run, a sample completion, an evaluation, as a person reads them."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

ROUNDING = 1e-3
"""Nats per token by which sampler and policy may differ without a word: float32 stays far below, bfloat16 does not."""

OFTEN, SELDOM = 0.2, 30.0
"""Seconds between two looks of a bar at least: on a terminal, and where the output is kept."""


def progress_bar(label: str, total: int, done: int = 0, unit: str = "pairs", shown: bool = True) -> tqdm:
    """A bar on stderr of `total` pieces of work, `done` of them there already; none where nothing is left to do."""
    pause = OFTEN if sys.stderr.isatty() else SELDOM
    return tqdm(total=total, initial=done, desc=label, unit=f" {unit}", file=sys.stderr, mininterval=pause,
                disable=not shown or done >= total)


@dataclass(frozen=True)
class LoggedCompletion:
    """One completion with what it earned: a line of `completions.jsonl`.

    A term that does not apply is NaN; `prior` is an annotated trajectory in the place of a sampled completion; `answer`
    is what the task shows as the true one, if anything.
    """

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

    Completions that were cut off, a sampler that differs and a step without update are shown only where they occur.

    Args:
        record: The step's metrics by the names of `minigrpo.log`, and `step`; None stands for a NaN.
        steps: Steps of the whole run.
        elapsed: Seconds since the run began.
        left: Seconds to go, if known.
    """
    terms = [f"{name.removeprefix('reward/')} {number(value)}" for name, value in record.items()
             if name.startswith("reward/") and name != "reward/exact"]
    above = {name for name, value in record.items() if value is not None and value > 0}
    why = "not finite" if "skipped" in above else "equal rewards" if "idle" in above else ""
    why = "bad rewards" if why and "bad_rewards" in above else why
    apart = record.get("sampler/mean_difference") or 0
    parts = [
        (0, f"step {record['step']:>{len(str(steps))}}/{steps}"),
        (1, _labelled(record, "reward", "reward {}") or _labelled(record, "loss", "loss {}")),
        (8, f"({' '.join(terms)})" if terms else ""),
        (3, _labelled(record, "reward/exact", "exact {} %", 100)),
        (2, why and f"no update ({why})"),
        (10, _labelled(record, "kl", "KL {}")),
        (9, _labelled(record, "entropy", "entropy {}")),
        (6, f"sampler off by {number(apart)}" if apart > ROUNDING else ""),
        (11, _labelled(record, "length", "length {}")),
        (5, _labelled(record, "cut_off", "cut off {} %", 100) if "cut_off" in above else ""),
        (7, _labelled(record, "tokens_per_second", "{} tok/s")),
        (12, _labelled(record, "zero_variance", "no variance {} %", 100)),
        (13, f"{clock(elapsed)} gone"),
        (4, f"{clock(left)} left" if left is not None else ""),
    ]
    return [part for part in parts if part[1]]


def fit(parts: list[tuple[int, str]], width: int | None = None) -> str:
    """The parts in their order, as many as fit into `width` characters; all of them where that is None."""
    kept = list(parts)
    while width is not None and len(kept) > 1 and len("  ".join(text for _, text in kept)) > width:
        kept.remove(max(kept))
    return "  ".join(text for _, text in kept)[:width]


def show_completions(completions: Sequence[LoggedCompletion], width: int | None = None) -> None:
    """Print completions of one prompt: the last line of the question, what each says and earned."""
    width = min(width or shutil.get_terminal_size().columns, 110)
    first = completions[0]
    question = (first.question.strip().splitlines() or [""])[-1]
    lines = [f"── step {first.step}, {first.id} ".ljust(width, "─")]
    lines += _field("question", question, width)
    lines += _field("answer", first.answer, width) if first.answer is not None else []
    for completion in completions:
        terms = "  ".join(f"{name} {number(value)}" for name, value in completion.terms.items() if value == value)
        lines += _field("annotated" if completion.prior else "says", completion.text, width)
        earned = f"{number(completion.reward)} ({terms})  advantage {completion.advantage:+.2f}"
        lines += _field("earned", earned, width)
    print("\n".join([*lines, "─" * width]), flush=True)


def figures(metrics: Mapping[str, float], before: Mapping[str, float] | None = None, width: int | None = None) -> str:
    """Named figures of an evaluation, and what they were before where that is given.

    Many stand below, in columns that are read downwards.
    """
    before = {name: f"{value:.4g} → " for name, value in (before or {}).items()}
    cells = [f"{name} {before.get(name, '')}{value:.4g}" for name, value in metrics.items()]
    width = (width or shutil.get_terminal_size().columns) - 2
    if len(line := "  ".join(cells)) <= width - 20:  # what stands before it needs some, too
        return line or "nothing to evaluate"
    size = max(map(len, cells))
    count = math.ceil(len(cells) / max(1, (width + 3) // (size + 3)))
    rows = ("   ".join(cell.ljust(size) for cell in cells[row::count]) for row in range(count))
    return "".join(f"\n  {row.rstrip()}" for row in rows)


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
    return form.format(number(None if value is None else value * scale, whole=scale != 1.0))


def number(value: float | None, whole: bool = False) -> str:
    """Three digits or so, of even width where the size stays the same; None is a NaN."""
    if value is None:
        return "nan"
    size = abs(value)
    if size >= 1e6:
        return f"{value:.1e}"
    if whole or size >= 100:
        return "<1" if 0 < value < 0.5 else f"{value:.0f}"
    if 0 < size < 0.001:
        return f"{value:.0e}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 or not size else f"{value:.3f}"
