"""The figures of `mpcc.blink` as plain text, beside the paper's Table 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpcc.blink import SUBTASKS, mean

PAPER = {
    "base": (29.89, 50.81, 53.28, 78.32),
    "prompt": (29.05, 54.84, 55.74, 74.83),
    "sft": (34.53, 58.87, 46.72, 70.63),
    "rft": (36.69, 59.68, 57.38, 77.62),
    "sft+rft": (31.65, 58.06, 47.54, 69.23),
    "rft+prior": (40.29, 59.68, 57.38, 79.72),
}
"""Table 5 of the paper, for Qwen2.5-VL-3B: strategy → accuracy in percent on each of `SUBTASKS`."""

_NAME = 22
_WIDTHS = (20, 20, 20, 20, 18)
_NOTE = "Rows marked 'paper' are as printed in arXiv 2510.21807, for Qwen2.5-VL-3B; differences are computed here."


def render(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The paper's Table 5 and our runs below it as plain text, at most 120 columns wide.

    Behind each figure stands its difference in points, computed here: from the paper's base, or from our first run.

    Args:
        runs: Name → `mpcc.blink.figures`; the first is the base of the others.
    """
    titles = [name.replace("_", " ").replace("Correspondence", "Corresp.") for name in SUBTASKS]
    lines = ["BLINK validation, accuracy in percent (difference from the base in points)", _row("", [*titles, "mean"])]
    base: list[float | None] | None = None
    for strategy, values in PAPER.items():
        row = [*values, mean(values)]
        lines.append(_row(f"paper: {strategy}", _cells(row, base)))
        base = base or row
    base = None
    for name, figures in runs.items():
        row = [*(figures[task]["percent"] if task in figures else None for task in SUBTASKS), figures["mean"]]
        lines.append(_row(name, _cells(row, base)))
        lines.append(_row("  95 % Wilson", [_interval(figures.get(task)) for task in SUBTASKS]))
        for field in ("unparsed", "cut_off", "chance"):
            lines.append(_row(f"  {field.replace('_', ' ')}", [_share(figures.get(task), field) for task in SUBTASKS]))
        lines.append(_row("  items", [_items(figures.get(task), whole) for task, whole in SUBTASKS.items()]))
        base = base or row
    return "\n".join([*lines, _NOTE]) + "\n"


def _cells(values: Sequence[float | None], base: Sequence[float | None] | None) -> list[str]:
    """Each value, and in brackets by how much it exceeds the base's, where there is a base."""
    cells = ["-" if value is None else f"{value:.2f}" for value in values]
    if base is None:
        return cells
    pairs = zip(values, base, strict=True)
    gaps = ["" if value is None or b is None else f" ({value - b:+.2f})" for value, b in pairs]
    return [cell + gap for cell, gap in zip(cells, gaps, strict=True)]


def _interval(rate: Mapping[str, float] | None) -> str:
    return f"[{rate['low']:.2f}, {rate['high']:.2f}]" if rate else "-"


def _share(rate: Mapping[str, float] | None, field: str) -> str:
    return f"{rate[field]:.2f}" if rate else "-"


def _items(rate: Mapping[str, float] | None, whole: int) -> str:
    """How many items were scored, out of how many the subtask has where those differ."""
    n = int(rate["n"]) if rate else 0
    return str(n) if n == whole else f"{n} of {whole}"


def _row(name: str, cells: Sequence[str]) -> str:
    """One line; a long name keeps its end."""
    name = name if len(name) <= _NAME else f"…{name[1 - _NAME:]}"
    return f"{name:<{_NAME}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))
