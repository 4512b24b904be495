"""Cells of a comparison: each is trained by train.py, scored by eval.py, and kept in a file of its own.

A cell whose file exists is not run again, so that a comparison can be made in several sittings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from minigrpo.progress import clock
from mpcc.formats import write_json

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("cho_e", "cho_h", "free")

Summary = dict[str, dict[str, dict[str, float]]]
"""Row → column ("id cho_e", …) → `mean` and `spread` (sample standard deviation) of `n` seeds, in percent."""


@dataclass(frozen=True)
class Cell:
    """One model of a comparison.

    Attributes:
        row: What is compared: a strategy, or a variant of one.
        setting: `id`: trained and scored on all categories. `ood`: trained on one half, scored on the other.
        seed: Of the run.
        strategy: It is trained by; None trains nothing and scores the base.
        options: Of train.py, beside the strategy.
        mode: Of eval.py: base or reasoning.
    """

    row: str
    setting: str
    seed: int
    strategy: str | None
    options: tuple[str, ...] = ()
    mode: str = "reasoning"

    @property
    def name(self) -> str:
        return f"{self.setting}-{self.row.replace(' ', '_')}-{self.seed}"


@dataclass(frozen=True)
class Place:
    """Where and how cells are run.

    Attributes:
        results: Folder of the cells' files.
        runs: Folder of everything else: models, logs, answers.
        ranks: Processes of a training.
        jobs: Cells at a time.
        extra: Options for train.py and eval.py alike; `{strategy}` in them stands for the cell's own, rft for none.
        trained: Options for train.py only.
        scored: Options for eval.py only.
    """

    results: Path
    runs: Path
    ranks: int = 2
    jobs: int = 1
    extra: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()


def run_cells(cells: Sequence[Cell], place: Place) -> list[dict[str, Any]]:
    """Runs what has no file yet, and returns what the files hold, in the order of `cells`.

    Raises:
        RuntimeError: a training or an evaluation failed. Nothing new is begun then; what is done is kept.
    """
    place.results.mkdir(parents=True, exist_ok=True)
    done: dict[Cell, dict[str, Any]] = {}
    with ThreadPoolExecutor(place.jobs) as pool:
        coming = {pool.submit(run_cell, cell, place): cell for cell in cells}
        try:
            for future in as_completed(coming):
                done[coming[future]] = future.result()
                print(f"[{len(done)}/{len(cells)}] {coming[future].name}: {told(done[coming[future]])}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[cell] for cell in cells]


def run_cell(cell: Cell, place: Place) -> dict[str, Any]:
    """Trains and scores a cell, unless its file is there; returns what the file holds.

    Returns:
        `row`, `setting`, `seed`; `options`, those of train.py and eval.py; `figures`, kind of question → `Rate`;
        `signatures` of failure; `reward`, the mean of each step; `prior`, of each step with priors the mean
        log-probability per token of `prior` and `sampled` completions, and the share of `positive` advantages;
        `minutes`.

    Raises:
        RuntimeError: train.py or eval.py failed, or what is there was made with other options.
    """
    file = place.results / f"{cell.name}.json"
    run, began = place.runs / cell.name, time.monotonic()
    extra, steps = [word.replace("{strategy}", cell.strategy or "rft") for word in place.extra], []
    half = ["--task.half", "id"] if cell.setting == "ood" else []
    options = {"train": [*half, *place.trained, *cell.options, *extra], "eval": [*place.scored, *extra]}
    if file.is_file():
        return _unchanged(file, options)
    run.mkdir(parents=True, exist_ok=True)
    model = []
    if cell.strategy is not None:
        if (run / "result.json").is_file():
            _unchanged(run / "cell.json", options)
        else:
            (run / "metrics.jsonl").unlink(missing_ok=True)  # of a run that was killed
            write_json(run / "cell.json", {"options": options})
            _start(place, run / "log.txt", "train.py", "--run.seed", str(cell.seed), "--run.dir", str(run),
                   "--task.held_out", "0", "--strategy", cell.strategy, *options["train"])
        steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        model = ["--model", str(run)]
    scores = run / "scores.json"
    _start(place, run / "log.txt", "eval.py", "--mode", cell.mode, "--kinds", ",".join(KINDS), "--no-black",
           "--out", str(run / "eval"), "--json", str(scores), *model, *options["eval"])
    found = json.loads(scores.read_text(encoding="utf-8"))[cell.mode]
    tables = found["tables"]["halves"]["ood"] if cell.setting == "ood" else found["tables"]
    write_json(file, {
        "row": cell.row, "setting": cell.setting, "seed": cell.seed, "options": options,
        "figures": {kind: tables[kind]["pooled"] for kind in KINDS if kind in tables},
        "signatures": found["signatures"],
        "reward": _course(steps, "reward"),
        "prior": {"prior": _course(steps, "logprob/prior"), "sampled": _course(steps, "logprob/sampled"),
                  "positive": _course(steps, "prior_positive")},
        "minutes": round((time.monotonic() - began) / 60, 2),
    })
    return json.loads(file.read_text(encoding="utf-8"))


def _unchanged(file: Path, options: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What a file holds, if it was made with these options: figures of two settings must not meet in one table."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["options"] != options:
        raise RuntimeError(f"{file} was made with other options: {found['options']}, not {options}; give another "
                           "--out and --runs, or delete it")
    return found


def _course(steps: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A metric over the steps that have it."""
    return [round(step[name], 4) for step in steps if step.get(name) is not None]


def _start(place: Place, log: Path, program: str, *words: str) -> None:
    """Runs a program of the project with its output in `log`, the cores shared among the jobs."""
    ranks = place.ranks if program == "train.py" else 1
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, str(ROOT / program), *words]
    threads = max(1, (os.cpu_count() or 1) // (place.jobs * ranks))
    with open(log, "a", encoding="utf-8") as file:
        print("$", " ".join(command[1:]), file=file, flush=True)
        status = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT,
                                env=os.environ | {"OMP_NUM_THREADS": str(threads)}).returncode
    if status:
        raise RuntimeError(f"{program} failed with exit code {status}; see {log}")


def told(result: Mapping[str, Any]) -> str:
    """A result on one line."""
    figures = ", ".join(f"{kind} {rate['percent']:.1f} %" for kind, rate in result["figures"].items())
    return f"{figures} ({clock(60 * result['minutes'])})"


def summary(results: Sequence[Mapping[str, Any]]) -> Summary:
    """Mean and spread over the seeds of every row and column."""
    values: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for kind, rate in result["figures"].items():
            columns = values.setdefault(result["row"], {})
            columns.setdefault(f"{result['setting']} {kind}", []).append(rate["percent"])
    return {
        row: {
            column: {"mean": fmean(found), "spread": stdev(found) if len(found) > 1 else 0.0, "n": len(found)}
            for column, found in columns.items()
        }
        for row, columns in values.items()
    }


def cell_text(value: Mapping[str, float] | None) -> str:
    """A mean with its spread, as the tables show it."""
    if value is None:
        return "-"
    return f"{value['mean']:.2f} ± {value['spread']:.2f}" if value["n"] > 1 else f"{value['mean']:.2f}"


def draw_bars(path: Path, found: Summary, columns: Mapping[str, str]) -> None:
    """The table as bars with their spread, a panel for each of `columns` (name → title), into a PNG file."""
    from matplotlib.figure import Figure  # it takes a second

    rows = list(found)
    figure = Figure(figsize=(2.6 * len(columns), 1.6 + 0.3 * len(rows)), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
        shown = [(i, found[row][column]) for i, row in enumerate(rows) if column in found[row]]
        axes.barh([i for i, _ in shown], [v["mean"] for _, v in shown], xerr=[v["spread"] for _, v in shown],
                  color="#9aa5b5", ecolor="#1f4e79", capsize=3)
        if (chance := {"cho_e": 25, "cho_h": 100 / 7}.get(column.split()[1])) is not None:
            axes.axvline(chance, color="#d1495b", linewidth=1, linestyle=":")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.spines[["top", "right"]].set_visible(False)
    told = "accuracy in percent; bars: mean over seeds, whiskers: standard deviation, dotted: chance"
    figure.supxlabel(told, fontsize=9)
    figure.savefig(path, format="png")


def draw_courses(path: Path, results: Sequence[Mapping[str, Any]], rows: Sequence[str]) -> None:
    """Mean reward against step for each of `rows` in the setting `id`: mean over seeds, band from lowest to highest."""
    import numpy as np
    from matplotlib.figure import Figure

    from minigrpo.curves import smooth

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for row, colour in zip(rows, ("#1f4e79", "#d1495b", "#2e8b57", "#b8860b"), strict=False):
        runs = [r["reward"] for r in results if r["row"] == row and r["setting"] == "id" and r["reward"]]
        if not runs:
            continue
        length = min(map(len, runs))
        smoothed = np.array([smooth(np.array(run[:length]), max(1, length // 12)) for run in runs])
        steps = np.arange(1, length + 1)
        axes.plot(steps, smoothed.mean(0), color=colour, linewidth=2, label=f"{row} ({len(runs)} seeds)")
        axes.fill_between(steps, smoothed.min(0), smoothed.max(0), color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="step", ylabel="mean reward of the sampled completions")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, format="png")
