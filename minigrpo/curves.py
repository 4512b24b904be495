"""`curves.png`: how a run went, at a glance. Each figure is drawn raw (pale) and smoothed (strong)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrpo.files import replacing
from minigrpo.progress import ROUNDING, number

KNOWN = {
    "groups without variance, answers cut off": ("zero_variance", "cut_off"),
    "KL to the reference (nats per token)": ("kl",),
    "entropy (nats per token)": ("entropy",),
    "completion length (tokens)": ("length",),
    "gradient norm": ("grad_norm",),
    "log-probability (nats per token)": ("logprob/sampled", "logprob/prior"),
    "tokens per second": ("tokens_per_second",),
    "sampler against policy (nats per token)": ("sampler/mean_difference",),
}
"""Panels of the engine's own figures: title → metrics."""
UNDRAWN = {"step", "loss", "lr", "clipped", "idle", "skipped", "updated", "seconds", "sampler",
           "prior_advantage", "prior_positive"}
"""What the engine writes down, but does not draw: names, or what stands in one before its slash."""
CURVES, PANELS = 6, 3
"""Most curves of one panel, which the colours tell apart, and most panels for each kind of a task's figures."""
_COLOURS = ("#1f4e79", "#d1495b", "#2e8b57", "#b8860b", "#7b5ea7", "#4f9da6")
_GREY = "#8a8a8a"
Panel = tuple[str, dict[str, np.ndarray], bool]
"""Title, curves (metric → [N], NaN where a step has none), and whether they are shares: drawn from 0 to 100 %."""


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean of `values` [N] over `window` steps, shorter at the ends; a NaN stays, and adds nothing."""
    valid, kernel = np.isfinite(values), np.ones(window)
    sums = np.convolve(np.where(valid, values, 0.0), kernel, "same")
    counts = np.convolve(valid, kernel, "same")
    return np.where(valid, sums / np.maximum(counts, 1.0), np.nan)


def bounds(values: np.ndarray) -> tuple[float, float]:
    """What of finite `values` [N] an axis should show: lowest and highest, but for spikes of a step or two.

    A running median over five steps knows no spikes, but follows whatever lasts. What lies further outside its range
    than that range is wide is cut off; not below, where nothing is negative. Fewer than eight values are shown whole.
    """
    low, high = values.min(), values.max()
    if len(values) < 8:
        return low, high
    medians = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(values, 2, mode="reflect"), 5), axis=1)
    width = max(np.ptp(medians), 0.1 * np.abs(medians).max()) or np.inf  # all else 0: then the spikes are the figure
    return low if low >= 0 else max(low, medians.min() - width), min(high, medians.max() + width)


def draw_curves(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw the steps' metrics into a PNG file, which appears whole or not at all.

    Args:
        path: File to write.
        history: One mapping per step with `step` and the metrics by the names of `minigrpo.log`; None is a gap.

    Raises:
        ValueError: `history` is empty.
    """
    if not history:
        raise ValueError(f"no step to draw in {path}")
    with replacing(path) as part:
        make_figure(history, path.parent.name).savefig(part, format="png")


def panels_of(history: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The panels of a run: reward and its terms, held-out figures, the engine's figures, the task's own metrics."""
    curves = {}
    for name in dict.fromkeys(name for record in history for name in record):
        values = np.array([np.nan if record.get(name) is None else record[name] for record in history], dtype=float)
        if np.isfinite(values).any() and not (name == "sampler/mean_difference" and np.nanmax(values) < ROUNDING):
            curves[name] = values
    engine = [(title, {name: curves.pop(name) for name in wanted if name in curves}, wanted[0] == "zero_variance")
              for title, wanted in KNOWN.items()]
    reward, held_out, own = {}, {}, {}
    for name, values in curves.items():
        kind = name.split("/")[0]
        if kind not in UNDRAWN:
            {"reward": reward, "held_out": held_out}.get(kind, own)[name] = values
    return [*_arranged("reward and its terms", reward), *_arranged("held-out", held_out),
            *[panel for panel in engine if panel[1]], *_arranged("the task's own figures", own)]


def _arranged(title: str, curves: Mapping[str, np.ndarray]) -> list[Panel]:
    """Panels for curves of one kind: shares together, and what has the same order of magnitude."""
    alike: dict[float, list[str]] = {}
    for name, values in curves.items():
        alike.setdefault(_magnitude(values[np.isfinite(values)]), []).append(name)
    panels = [(power, names[i : i + CURVES]) for power, names in alike.items() for i in range(0, len(names), CURVES)]
    rest = ", rest in metrics.jsonl" if len(panels) > PANELS else ""
    return [(f"{title} ({i}/{len(panels)}{rest if i == PANELS else ''})" if len(panels) > 1 else title,
             {name: curves[name] for name in names}, power == np.inf)
            for i, (power, names) in enumerate(panels[:PANELS], 1)]


def _magnitude(values: np.ndarray) -> float:
    """The power of ten of the largest of finite `values` [N]; infinity if they are shares, not all of them tiny."""
    largest = np.abs(bounds(values)).max()
    shares = values.min() >= 0 and values.max() <= 1 and not 0 < largest < 0.1
    return np.inf if shares else np.floor(np.log10(largest))


def make_figure(history: Sequence[Mapping[str, Any]], title: str) -> Any:
    """The matplotlib Figure of `draw_curves`: one set of axes for each of `panels_of`."""
    # Imported here: it takes a second, and no rank but the first draws. Figure, not pyplot: no global state.
    from matplotlib.figure import Figure

    steps, panels = np.array([record["step"] for record in history]), panels_of(history)
    columns = 3 if len(panels) <= 9 else 4
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(4.7 * columns, 3 * rows), dpi=110)
    figure.suptitle(f"{title}, step {steps[-1]}", x=0.01, y=1 - 0.03 / rows, ha="left", fontsize=10, color=_GREY)
    # margins by hand: matplotlib's layouts take half a second
    figure.subplots_adjust(0.12 / columns, 0.18 / rows, 0.99, 1 - 0.22 / rows, wspace=0.16, hspace=0.4)
    for place, (heading, curves, share) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        dress(axes, heading, steps)
        shown = [bounds(values[np.isfinite(values)]) for values in curves.values()]
        low, high = (0, 1) if share else (min(low for low, _ in shown), max(high for _, high in shown))
        for (name, values), colour in zip(curves.items(), _COLOURS, strict=False):
            draw(axes, steps, values, colour, name, low, high)
        if share:
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        # an axis that does not magnify noise: from 0 where nothing is below; on top there is room for the legend
        room = 0.05 * (high - min(low, 0)) or 1.0
        axes.set_ylim(low - room if low < 0 or share else 0, high + room * (1 + 2.7 * -(-len(curves) // 2)))
        axes.legend(loc="upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def draw(axes: Any, steps: np.ndarray, values: np.ndarray, colour: str, name: str, low: float, high: float) -> None:
    """A metric's curve. What lies outside `low` to `high` is a triangle there, with its value, and not in the mean."""
    seen = np.isfinite(values)
    if seen.mean() < 0.5:  # recorded now and then: its points are joined
        steps, values, seen = steps[seen], values[seen], seen[seen]
    labelled = -np.inf
    for i in np.flatnonzero(seen & ((values < low) | (values > high))):
        border = low if values[i] < low else high
        axes.plot(steps[i], border, marker="v" if border == low else "^", color=colour, linestyle="")
        if steps[i] - labelled > (steps[-1] - steps[0]) / 12:  # else it would be written over the last one
            axes.annotate(number(values[i]), (steps[i], border), (-5, -3), textcoords="offset points", fontsize=8,
                          color=colour, ha="right")
            labelled = steps[i]
    window = max(1, len(steps) // 10)
    smoothed = smooth(np.where((values >= low) & (values <= high), values, np.nan), window)
    short = name.removeprefix("reward/").removeprefix("held_out/").removeprefix("logprob/")
    label = f"{short if len(short) < 25 else short[:24] + '…'}  {number(smoothed[np.isfinite(smoothed)][-1])}"
    if window > 1:
        axes.plot(steps, np.clip(values, low, high), color=colour, alpha=0.25, linewidth=0.9)
    # few steps, or one between two gaps, would leave no visible line
    marker = "o" if len(steps) <= 20 else None
    axes.plot(steps, smoothed, color=colour, linewidth=2.0, marker=marker, markersize=4, label=label)


def dress(axes: Any, title: str, steps: np.ndarray) -> None:
    """Title, grid and ticks of axes that show something of every step."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, color=_GREY)
    axes.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    axes.set_xlabel("step", fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)
