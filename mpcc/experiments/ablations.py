"""What each part of the default (rft+prior) is worth: one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcc.experiments.cells import Cell
from mpcc.experiments.summary import Summary, cell_text, draw_bars, draw_courses, over_seeds, row_name
from mpcc.render import grid

DEFAULT = "default"
VARIANTS: Mapping[str, tuple[str, ...]] = {
    DEFAULT: (),
    "random masks": ("--task.mask", "random_box"),
    "no format reward": ("--task.without", "format"),
    "no exact match": ("--task.without", "exact"),
    "no levenshtein": ("--task.without", "levenshtein"),
    "G = 4": ("--rollout.group_size", "4"),
    "G = 4, traces 0 %": ("--rollout.group_size", "4", "--task.traces", "0"),
    "G = 16": ("--rollout.group_size", "16"),
    "beta = 0": ("--grpo.beta", "0"),
    "beta = 0.2": ("--grpo.beta", "0.2"),
    "traces 0 %": ("--task.traces", "0"),
    "traces 25 %": ("--task.traces", "0.25"),
    "traces 50 %": ("--task.traces", "0.5"),
    "prior until half": ("--grpo.prior_until", "{half}"),
}
"""Row → options beside `--strategy rft+prior`. The default: G 8, beta 0.04, a trace for every pair, never ending.

Random masks have the area and aspect of the semantic ones, which do not depend on the object.
"""
COLUMNS = {"id cho_e macro": "Cho.E", "id cho_h macro": "Cho.H", "id free macro": "free-form"}
SIGNS = {"id free_no_evidence pooled": "no evidence", "id course exact": "sampled", "id course lost": "lost groups",
         "id course zero_variance": "no variance", "id course kl": "KL x 100", "id answers blank": "blank"}
"""What tells how it came about, in percent."""


def cells(seeds: int, steps: int) -> list[Cell]:
    """All cells; `steps` is how many each is trained for."""
    half = str(max(1, steps // 2))
    return [
        Cell(row, "id", seed, "rft+prior", tuple(half if word == "{half}" else word for word in options))
        for seed in range(seeds) for row, options in VARIANTS.items()
    ]


def render(found: Summary) -> str:
    """The table with mean and spread over seeds."""
    title = f"rft+prior, one thing changed; percent right, the mean of three difficulties, {over_seeds(found)}"
    tables = [grid(said, ["", *columns.values()],
                   [[row_name(row, found[row]), *(cell_text(found[row].get(column)) for column in columns)]
                    for row in VARIANTS if row in found])
              for said, columns in ((title, COLUMNS), ("What it came with, percent", SIGNS))]
    return "\n\n".join(tables) + "\n"


def draw(folder: Path, found: Summary, results: Sequence[Mapping[str, Any]]) -> None:
    """`table.png`, `reward.png` with the share of traces, and `reward_small_groups.png`."""
    draw_bars(folder / "table.png", {row: found[row] for row in VARIANTS if row in found}, COLUMNS)
    draw_courses(folder / "reward.png", results, ("traces 0 %", "traces 25 %", "traces 50 %", DEFAULT))
    draw_courses(folder / "reward_small_groups.png", results, ("G = 4, traces 0 %", "G = 4"))
