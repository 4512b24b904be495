"""Cost curves of a sweep: seconds and peak memory of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigrpo.files import replacing

AXES = {"group_size": "completions of a prompt, G", "prompt": "image tokens of a prompt",
        "completion": "tokens of a completion"}
COLOURS = {"ours": "#1f4e79", "plain": "#d1495b", "trl": "#d1495b"}
LABELS = {"ours": "minigrpo", "plain": "plain transformers", "trl": "TRL"}
_GREY = "#8a8a8a"


def draw_sweep(path: Path, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG, which appears whole or not at all.

    Args:
        path: File to write.
        name: What is swept: group_size, prompt or completion.
        points: One object for each value, as `report.summary` gives it, with its `value`.
    """
    from matplotlib.figure import Figure  # it takes a second to load, and most runs draw nothing

    first, values = points[0], [point["value"] for point in points]
    w = first["workload"]
    sides = [side for side in ("trl", "plain", "ours") if side in first]
    figure = Figure(figsize=(10, 4.4), dpi=130, layout="constrained")
    figure.suptitle(f"One GRPO step, {w['parameters'] / 1e6:.3g}M Qwen2.5-VL, {w['prompts']} prompts: {w['hardware']}, "
                    f"{w['threads']} thread(s), torch {w['versions']['torch']}, {w['date']}",
                    x=0.01, ha="left", fontsize=8.5, color=_GREY)
    panels = (("seconds of a step", "seconds", 1.0), ("peak memory (GB)", "peak_memory", 1e9))
    for axes, (title, figured, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        for side in sides:
            heights = [point[side]["step"][figured] / unit for point in points]
            axes.plot(values, heights, color=COLOURS[side], marker="o", markersize=5, linewidth=2, label=LABELS[side])
            if figured == "seconds" and side != "ours":
                for point, height in zip(points, heights, strict=True):
                    axes.annotate(f"{point['ratio']['step']:.1f}×", (point["value"], height), (-6, 5), fontsize=8.5,
                                  textcoords="offset points", ha="right", color=COLOURS[side])
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel(AXES[name], fontsize=9)
        axes.margins(x=0.14)  # room for the first point's label
        axes.set_xticks(values, [str(value) for value in values])
        axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, color=_GREY)
        if len(sides) > 1:
            axes.legend(frameon=False, fontsize=9, loc="best")
    with replacing(path) as part:
        figure.savefig(part, format="png")
