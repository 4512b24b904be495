"""The comparison of the six strategies (MPCC Table 4), in distribution and out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigrpo.sections import STRATEGIES
from mpcc.experiments.cells import Cell
from mpcc.experiments.summary import Summary, cell_text, draw_bars, draw_courses, over_seeds, row_name
from mpcc.render import TABLE_4, grid

SETTINGS = ("id", "ood")
MODES = {"base": "base", "prompt": "reasoning"}
"""Strategies that train nothing → the mode of eval.py."""
COLUMNS = {"id cho_e": "ID Cho.E", "id cho_h": "ID Cho.H", "ood cho_e": "OOD Cho.E", "ood cho_h": "OOD Cho.H",
           "id free": "ID free", "ood free": "OOD free"}
"""The paper's four, and the question that training asks."""


def cells(seeds: int) -> list[Cell]:
    """All cells; what trains nothing has no seeds."""
    untrained = [Cell(name, setting, 0, None, mode=mode) for name, mode in MODES.items() for setting in SETTINGS]
    return untrained + [
        Cell(name, setting, seed, name)
        for seed in range(seeds) for setting in SETTINGS for name in STRATEGIES
    ]


def render(found: Summary) -> str:
    """The table with mean and spread over seeds, each row beside the paper's, marked as such."""
    rows = []
    for strategy in [*MODES, *STRATEGIES]:
        if strategy in found:
            name = row_name(strategy, found[strategy])
            rows.append([name, *(cell_text(found[strategy].get(column)) for column in COLUMNS)])
            rows.append(["  paper, COCO", *(f"{value:.2f}" for value in TABLE_4[strategy])])
    title = f"Accuracy in percent, pooled; trained rows: {over_seeds(found)}"
    return grid(title, ["", *COLUMNS.values()], rows) + "\n"


def draw(folder: Path, found: Summary, results: Sequence[Mapping[str, Any]]) -> None:
    """`table.png` and `reward.png`."""
    ordered = {name: found[name] for name in [*MODES, *STRATEGIES] if name in found}
    draw_bars(folder / "table.png", ordered, COLUMNS)
    draw_courses(folder / "reward.png", results, ("rft", "rft+prior"))
