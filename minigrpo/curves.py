"""`curves.png`: how a run went, at a glance. Each figure is drawn raw (pale) and smoothed (strong)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PANELS = (
    # title, metrics, as a share of 1, lowest value of the axis
    ("reward and its terms", ("reward", "reward/*"), False, None),
    ("exact match and format", ("reward/exact", "reward/format", "held_out/exact_match"), True, 0.0),
    ("groups without variance", ("zero_variance",), True, 0.0),
    ("KL to the reference", ("kl",), False, None),
    ("entropy (nats per token)", ("entropy",), False, 0.0),
    ("completion length (tokens)", ("length",), False, 0.0),
    ("gradient norm", ("grad_norm",), False, 0.0),
    ("tokens per second", ("tokens_per_second",), False, 0.0),
    ("log-probability per token", ("logprob/sampled", "logprob/prior"), False, None),
)
_COLOURS = ("#1f4e79", "#d1495b", "#2e8b57", "#b8860b", "#7b5ea7", "#4f9da6", "#8c564b")
_GREY = "#8a8a8a"


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean of `values` [N] over `window` steps, shorter at the ends; a NaN stays, and adds nothing."""
    valid = np.isfinite(values)
    kernel, half = np.ones(window), window // 2
    padded = np.pad(np.where(valid, values, 0.0), (half, window - 1 - half))
    counts = np.convolve(np.pad(valid.astype(float), (half, window - 1 - half)), kernel, "valid")
    sums = np.convolve(padded, kernel, "valid")
    return np.where(valid, sums / np.maximum(counts, 1.0), np.nan)


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
    part = path.with_name(path.name + ".part")
    make_figure(history, path.parent.name).savefig(part, format="png")
    os.replace(part, path)


def make_figure(history: Sequence[Mapping[str, Any]], title: str) -> Any:
    """The matplotlib Figure of `draw_curves`: one panel for each of PANELS, "not recorded" where there is nothing."""
    # Imported here: it takes a second, and no rank but the first draws. Figure, not pyplot: no global state.
    from matplotlib.figure import Figure

    steps = np.array([record["step"] for record in history])
    names = list(dict.fromkeys(name for record in history for name in record))
    colours = _colours(names)
    figure = Figure(figsize=(14, 9), dpi=110)
    figure.suptitle(f"{title}, step {steps[-1]}", x=0.01, y=0.99, ha="left", fontsize=10, color=_GREY)
    grid = figure.subplots(3, 3)
    figure.subplots_adjust(0.04, 0.06, 0.99, 0.93, wspace=0.16, hspace=0.4)  # matplotlib's layouts take half a second
    for axes, (heading, wanted, share, floor) in zip(grid.flat, PANELS, strict=True):
        _dress(axes, heading, steps)
        shown = [name for want in wanted for name in names if name == want or _is_term(name, want)]
        curves = {name: values for name in shown if np.isfinite(values := _values(history, name)).any()}
        for name, values in curves.items():
            _draw(axes, steps, values, colours[name], name)
        if not curves:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=_GREY)
            axes.set(xticks=[], yticks=[])
            continue
        _limits(axes, share, floor)
        if len(curves) > 1:
            _legend(axes, share)
    return figure


def _is_term(name: str, want: str) -> bool:
    return want == "reward/*" and name.startswith("reward/")


def _colours(names: Sequence[str]) -> dict[str, str]:
    """A reward term has the same colour in every panel; whatever stands alone has the first."""
    terms = [name for name in names if name.startswith("reward/")]
    colours = {name: _COLOURS[1 + i % (len(_COLOURS) - 1)] for i, name in enumerate(terms)}
    return dict.fromkeys(names, _COLOURS[0]) | colours | {"logprob/prior": _COLOURS[1], "held_out/exact_match": "black"}


def _values(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """[N], NaN where a step did not record `name`."""
    return np.array([np.nan if record.get(name) is None else record[name] for record in history], dtype=float)


def _draw(axes: Any, steps: np.ndarray, values: np.ndarray, colour: str, name: str) -> None:
    seen = np.isfinite(values)
    if seen.mean() < 0.5:  # recorded now and then: its points are joined
        steps, values = steps[seen], values[seen]
    window = max(1, len(steps) // 10)
    smoothed = smooth(values, window)
    label = f"{name.replace('held_out/', 'held-out ').rsplit('/')[-1]}  {smoothed[np.isfinite(smoothed)][-1]:.3g}"
    if window > 1:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.9)
    # few steps, or one between two gaps, would leave no visible line
    marker = "o" if len(steps) <= 20 else None
    axes.plot(steps, smoothed, color=colour, linewidth=2.0, marker=marker, markersize=4, label=label)


def _dress(axes: Any, title: str, steps: np.ndarray) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, color=_GREY)
    axes.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    axes.set_xlabel("step", fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _limits(axes: Any, share: bool, floor: float | None) -> None:
    """An axis that does not magnify noise: shares run from 0 to 100 %, other figures from their floor."""
    if share:
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    elif floor is not None:
        axes.set_ylim(bottom=floor, top=axes.get_ylim()[1] * 1.05)


def _legend(axes: Any, share: bool) -> None:
    """Each name with its last smoothed value, clear of the curves where the axis can grow."""
    if not share:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.3 * (high - low))
    axes.legend(loc="best" if share else "upper left", ncols=1 if share else 2, frameon=False, fontsize=9)
