"""Does a prior help? `rft` and `rft+prior` in pairs of seeds, where sampling finds the answer and where it does not.

mpcc/results/priors/PLAN.md says what was expected, written before the first cell.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mpcc.experiments.cells import Cell
from mpcc.experiments.summary import draw_courses
from mpcc.formats import write_json
from mpcc.render import grid
from mpcc.scenes.categories import NAMES
from mpcc.scenes.evidence import PROPS
from mpcc.scenes.folder import ensure_scenes
from mpcc.statistics import paired, welch

PLAIN, PERMUTED, ORDINARY, LARGE = "plain base", "permuted names", "ordinary, G = 4", "ordinary, G = 16"
CASES = {PLAIN: 4, PERMUTED: 4, ORDINARY: 4, LARGE: 16}
"""Case → group size. In the first two the base does not find the answer; both are the primary comparison."""
STRATEGIES = ("rft", "rft+prior")
COUNT = 8
"""Names that are permuted."""


def cells(seeds: int, steps: int, permuted: Path) -> dict[str, list[Cell]]:
    """The cells of every case; the same seed brings the same prompts in the same order."""
    shared = ("--run.steps", str(steps), "--rollout.prompts_per_step", "8")
    own = {PERMUTED: ("--task.pairs", str(permuted))}
    return {
        case: [Cell(row(case, strategy), "id", seed, strategy,
                    (*shared, "--rollout.group_size", str(size), *own.get(case, ())), mode="")
               for seed in range(seeds) for strategy in STRATEGIES]
        for case, size in CASES.items()
    }


def row(case: str, strategy: str) -> str:
    """The row of a cell."""
    return f"{case}, {strategy}"


def permutation() -> dict[str, str]:
    """Name → what it is called instead: eight names in a circle, none part of a prop's, each with the article "a"."""
    said = " ".join(prop.phrase for prop in PROPS).split()
    usable = [name for name in NAMES if not set(name.split()) & set(said) and name[0] not in "aeiou" and name != "skis"]
    names = random.Random("permuted names").sample(usable, COUNT)
    return dict(zip(names, names[1:] + names[:1], strict=True))


def write_permuted(path: Path) -> None:
    """The training pairs of the scenes that hide one of the eight, all eight called otherwise, in traces too."""
    called = permutation()
    found = re.compile(rf"\b({'|'.join(map(re.escape, called))})\b")
    pairs = json.loads((ensure_scenes() / "pairs_train2017.json").read_text(encoding="utf-8"))
    kept = [{"file_name": pair["file_name"], "bbox": pair["bbox"], "category_name": called[pair["category_name"]],
             "cot_data": found.sub(lambda match: called[match[0]], pair["cot_data"])}
            for pair in pairs if pair["category_name"] in called]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, kept)


def floors(case: str) -> tuple[float, float]:
    """Percent of a case's training pairs that the most frequent name is right for, and that of each kind of scene."""
    pairs = json.loads((ensure_scenes() / "pairs_train2017.json").read_text(encoding="utf-8"))
    names = [(pair["scene"], pair["category_name"]) for pair in pairs
             if case != PERMUTED or pair["category_name"] in permutation()]
    by_scene: dict[str, Counter[str]] = {}
    for scene, name in names:
        by_scene.setdefault(scene, Counter())[name] += 1
    right = sum(max(counts.values()) for counts in by_scene.values())
    return 100 * max(Counter(name for _, name in names).values()) / len(names), 100 * right / len(names)


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """For each case the sampled exact match of both strategies, mean over the steps, their difference, and floors."""
    lines = []
    for case in CASES:
        area = {name: [100 * fmean(r["course"]["exact"]) for r in _of(results, case, name)] for name in STRATEGIES}
        if not all(area.values()):
            continue
        first, last = zip(*(_lost(r) for r in _of(results, case, "rft")), strict=True)
        first_prior, last_prior = zip(*(_lost(r) for r in _of(results, case, "rft+prior")), strict=True)
        enough = len(area["rft"]) > 1
        lines.append([
            case, *(f"{fmean(area[name]):.1f}" for name in STRATEGIES),
            *(_gap(test(area["rft+prior"], area["rft"])) if enough else "-" for test in (paired, welch)),
            f"{fmean(first):.0f} > {fmean(last):.0f}", f"{fmean(first_prior):.0f} > {fmean(last_prior):.0f}",
            *(f"{floor:.0f}" for floor in floors(case)),
        ])
    seeds = max((r["seed"] for r in results), default=0) + 1
    title = (f"Sampled exact match, percent, mean over the steps, {seeds} seeds; difference [95 %]; lost groups, "
             "percent, first > last quarter of the steps; floors: one name for all, one for each kind of scene")
    head = ["", *STRATEGIES, "in pairs", "Welch", "lost, rft", "with prior", "frequent", "scene"]
    return grid(title, head, lines) + "\n"


def draw(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """A plot of every case: sampled exact match against step."""
    for case in CASES:
        if _of(results, case, "rft"):
            name = re.sub(r"\W+", "_", case)
            draw_courses(folder / f"{name}.png", results, [row(case, s) for s in STRATEGIES], "exact",
                         "exact match of the sampled completions")


def _of(results: Sequence[Mapping[str, Any]], case: str, strategy: str) -> list[Mapping[str, Any]]:
    """The cells of a row by seed."""
    return sorted((r for r in results if r["row"] == row(case, strategy)), key=lambda r: r["seed"])


def _lost(result: Mapping[str, Any]) -> tuple[float, float]:
    """Share of lost groups in percent, in the first and in the last quarter of the steps."""
    course = result["course"]["lost"]
    part = max(1, len(course) // 4)
    return 100 * fmean(course[:part]), 100 * fmean(course[-part:])


def _gap(found: Mapping[str, float]) -> str:
    return f"{found['difference']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"
