"""Mean and spread over the seeds of a comparison, as the cells of a table and as plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

Summary = dict[str, dict[str, dict[str, float]]]
"""Row → column → `mean` and `spread` (sample standard deviation, 0 for one) of `n` runs, in percent.

A column is a setting, a kind of question, and `macro` or `pooled`: "id cho_e macro".
"""


def by_seed(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
    """Row → column → seed → figure.

    Beside the columns of questions: "id answers blank" and the like, shares of the free-form answers; "id course exact"
    and the like, the mean over the steps of what was sampled, in percent (the KL in hundredths of a nat).
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for result in results:
        columns = values.setdefault(result["row"], {})
        found = {f"{kind} {name}": rates[name] for kind, rates in result["figures"].items() for name in rates}
        found |= {f"answers {name}": share for name, share in result["answers"].items()}
        found |= {f"course {name}": 100 * fmean(course) for name, course in result["course"].items()
                  if course and name != "reward"}
        for name, value in found.items():
            value = value["percent"] if isinstance(value, Mapping) else value
            if value is not None:
                columns.setdefault(f"{result['setting']} {name}", {})[result["seed"]] = value
    return values


def summary(results: Sequence[Mapping[str, Any]]) -> Summary:
    """Mean and spread over the seeds of every row and column."""
    return {
        row: {column: {"mean": fmean(found.values()), "spread": stdev(found.values()) if len(found) > 1 else 0.0,
                       "n": len(found)} for column, found in columns.items()}
        for row, columns in by_seed(results).items()
    }


def cell_text(value: Mapping[str, float] | None) -> str:
    """A mean with its spread, as the tables show it."""
    if value is None:
        return "-"
    return f"{value['mean']:.2f} ± {value['spread']:.2f}" if value["n"] > 1 else f"{value['mean']:.2f}"


def over_seeds(found: Summary) -> str:
    """What the figures of a table are."""
    seeds = max((column["n"] for columns in found.values() for column in columns.values()), default=0)
    return f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one run each, so without a spread"


def row_name(row: str, found: Mapping[str, Mapping[str, float]]) -> str:
    """A row's name; where no figure of it has a spread, that it is of one run."""
    return row if any(column["n"] > 1 for column in found.values()) else f"{row} (one run)"


def draw_bars(path: Path, found: Summary, columns: Mapping[str, str]) -> None:
    """The table as bars with their spread, a panel for each of `columns` (name → title), into a PNG file."""
    from matplotlib.figure import Figure  # it takes a second

    rows = list(found)
    figure = Figure(figsize=(2.6 * len(columns), 1.6 + 0.3 * len(rows)), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
        shown = [(i, found[row][column]) for i, row in enumerate(rows) if column in found[row]]
        axes.barh([i for i, _ in shown], [v["mean"] for _, v in shown], color="#9aa5b5")
        if spread := [(i, v) for i, v in shown if v["n"] > 1]:
            axes.errorbar([v["mean"] for _, v in spread], [i for i, _ in spread], xerr=[v["spread"] for _, v in spread],
                          fmt="none", ecolor="#1f4e79", capsize=3)
        if (chance := {"cho_e": 25, "cho_h": 100 / 7}.get(column.split()[1])) is not None:
            axes.axvline(chance, color="#d1495b", linewidth=1, linestyle=":")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_yticks(range(len(rows)), [row_name(row, found[row]) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.spines[["top", "right"]].set_visible(False)
    told = "accuracy in percent; bars: mean over seeds, whiskers: standard deviation over them, dotted: chance"
    figure.supxlabel(told, fontsize=9)
    figure.savefig(path, format="png")


def draw_courses(path: Path, results: Sequence[Mapping[str, Any]], rows: Sequence[str], course: str = "reward",
                 label: str = "mean reward of the sampled completions", setting: str = "id") -> None:
    """A course of the cells against step for each of `rows`: mean over seeds, band from lowest to highest."""
    import numpy as np
    from matplotlib.figure import Figure

    from minigrpo.curves import smooth

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for row, colour in zip(rows, ("#1f4e79", "#d1495b", "#2e8b57", "#b8860b"), strict=False):
        runs = [r["course"][course] for r in results if r["row"] == row and r["setting"] == setting and
                r["course"].get(course)]
        if not runs:
            continue
        length = min(map(len, runs))
        smoothed = np.array([smooth(np.array(run[:length]), max(1, length // 12)) for run in runs])
        steps = np.arange(1, length + 1)
        seeds = f"{len(runs)} seeds" if len(runs) > 1 else "one run"
        axes.plot(steps, smoothed.mean(0), color=colour, linewidth=2, label=f"{row} ({seeds})")
        if len(runs) > 1:
            axes.fill_between(steps, smoothed.min(0), smoothed.max(0), color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="step", ylabel=label)
    axes.set_ylim(bottom=0)  # no reward is below
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))  # above, where no curve is
    figure.savefig(path, format="png")
