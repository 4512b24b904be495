"""Two rows of a comparison: by how much each figure differs, with intervals over the seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcc.experiments.summary import by_seed
from mpcc.render import grid
from mpcc.statistics import Gap, paired, welch


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """The cells of a comparison's folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is none; names it.
    """
    files = sorted((folder / "cells").glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no cells/*.json: name the folder of a comparison")
    return [_read_cell(file) for file in files]


def _read_cell(file: Path) -> dict[str, Any]:
    try:
        cell = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not whole JSON ({error}): remove it, and run its cell again") from error
    if not isinstance(cell, dict) or not {"row", "seed"} <= cell.keys():
        raise ValueError(f"{file} is no cell of a comparison: it has no row and seed")
    return cell


def render_comparison(results: Sequence[Mapping[str, Any]], ours: str, theirs: str) -> str:
    """A line for each figure that both rows have at least twice: means, and their difference by pairs and by Welch.

    Raises:
        ValueError: there is no such row, or no figure that both have twice.
    """
    found, lines = by_seed(results), []
    for name in (ours, theirs):
        if name not in found:
            raise ValueError(f"no row is called {name!r}: choose from {', '.join(sorted(found))}")
    for column, one in found[ours].items():
        two = found[theirs].get(column, {})
        if min(len(one), len(two)) < 2:
            continue
        both = sorted(one.keys() & two.keys())
        in_pairs = paired([one[s] for s in both], [two[s] for s in both]) if len(both) > 1 else None
        lines.append([column, *(f"{sum(side.values()) / len(side):.2f}" for side in (one, two)), _told(in_pairs),
                      str(len(both)), _told(welch(list(one.values()), list(two.values())))])
    if not lines:
        raise ValueError(f"{ours!r} and {theirs!r} have no figure of 2 seeds each: run more seeds")
    title = f"{ours} minus {theirs}, in points [95 % interval]"
    return grid(title, ["", ours, theirs, "in pairs", "pairs", "Welch"], lines) + "\n"


def _told(gap: Gap | None) -> str:
    return f"{gap['difference']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}]" if gap else "-"
