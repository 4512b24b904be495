"""The comparison of the six strategies (MPCC Table 4), in distribution and out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigrpo.sections import STRATEGIES
from mpcc.experiments.cells import SETTINGS, Cell
from mpcc.experiments.summary import Summary, cell_text, draw_bars, draw_courses, over_seeds, row_name
from mpcc.render import TABLE_4, grid

MODES = {"base": "base", "prompt": "reasoning"}
"""Strategies that train nothing → the mode of eval.py."""
PAPERS = {"id cho_e macro": "ID Cho.E", "id cho_h macro": "ID Cho.H", "ood cho_e pooled": "OOD Cho.E",
          "ood cho_h pooled": "OOD Cho.H"}
"""The paper's columns: in distribution the mean of the three difficulties, out of it all pairs together."""
FREE = {"id free macro": "ID", "id free pooled": "pooled", "id free_no_evidence pooled": "no evidence",
        "id free_elsewhere pooled": "elsewhere", "ood free pooled": "OOD", "swapped free pooled": "swapped"}
"""The question that training asks; `swapped` with both halves exchanged."""
OTHERS = {"id cho_e pooled": "ID Cho.E", "id cho_h pooled": "ID Cho.H", "ood cho_e macro": "OOD Cho.E",
          "ood cho_h macro": "OOD Cho.H", "swapped cho_e pooled": "swapped E", "swapped cho_h pooled": "swapped H"}
"""The averages that the paper does not print, and the halves exchanged."""
SIGNS = {"id course kl": "KL x 100", "id course zero_variance": "no variance", "id course lost": "lost groups",
         "id answers blank": "blank", "ood answers trained_half": "OOD named ID",
         "swapped answers trained_half": "swapped"}
"""What tells how it came about, in percent; the last two: answers that name a category of the trained half."""
COLUMNS = PAPERS | {"id free macro": "ID free", "ood free pooled": "OOD free"}


def cells(seeds: int) -> list[Cell]:
    """All cells; what trains nothing has no seeds."""
    untrained = [Cell(name, setting, 0, None, mode=mode) for name, mode in MODES.items() for setting in SETTINGS]
    return untrained + [
        Cell(name, setting, seed, name)
        for seed in range(seeds) for setting in SETTINGS for name in STRATEGIES
    ]


def render(found: Summary) -> str:
    """The tables with mean and spread over seeds; in the first each row beside the paper's, marked as such."""
    named = {name: row_name(name, found[name]) for name in [*MODES, *STRATEGIES] if name in found}
    lines = []
    for strategy, name in named.items():
        lines.append([name, *(cell_text(found[strategy].get(column)) for column in PAPERS)])
        lines.append(["  paper, COCO", *(f"{value:.2f}" for value in TABLE_4[strategy])])
    title = f"Single choice, percent right: ID the mean of three difficulties, OOD pooled; {over_seeds(found)}"
    tables = [grid(title, ["", *PAPERS.values()], lines)]
    for title, columns in (("Free-form answers, percent right", FREE), ("Single choice, the other averages", OTHERS),
                           ("What it came with, percent", SIGNS)):
        lines = [[name, *(cell_text(found[strategy].get(column)) for column in columns)]
                 for strategy, name in named.items()]
        tables.append(grid(title, ["", *columns.values()], lines))
    return "\n\n".join(tables) + "\n"


def draw(folder: Path, found: Summary, results: Sequence[Mapping[str, Any]]) -> None:
    """`table.png` and `reward.png`."""
    ordered = {name: found[name] for name in [*MODES, *STRATEGIES] if name in found}
    draw_bars(folder / "table.png", ordered, COLUMNS)
    draw_courses(folder / "reward.png", results, ("rft", "rft+prior"))
