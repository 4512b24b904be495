"""Cells of a comparison: each is trained by train.py, scored by eval.py, and kept in a file of its own.

A cell whose file exists is not run again, so that a comparison can be made in several sittings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from minigrpo.progress import clock
from mpcc.eval_options import counting
from mpcc.experiments.origin import CLONE, difference, origin
from mpcc.formats import write_json
from mpcc.rewards import normalise
from mpcc.splits import read_halves
from mpcc.tables import CHOICES, FREE
from mpcc.task import MaskedPrediction
from mpcc.words import reasoning

COMMANDS = {"train.py": "minigrpo-train", "eval.py": "minigrpo-eval"}
"""Program of a clone → what it is called once installed."""
KINDS = ("cho_e", "cho_h", "free")
SETTINGS = {"id": ("", ""), "ood": ("id", "ood"), "swapped": ("ood", "id")}
"""Setting → the half of the categories that is trained on, and the one that is scored; for `id` all are both."""
COURSES = {"reward": "reward", "exact": "reward/exact", "kl": "kl", "zero_variance": "zero_variance", "lost": "lost"}
"""Name in a cell → metric of each step: means over what was sampled, and shares of groups."""


@dataclass(frozen=True)
class Cell:
    """One model of a comparison.

    Attributes:
        row: What is compared: a strategy, or a variant of one.
        setting: One of `SETTINGS`.
        seed: Of the run.
        strategy: It is trained by; None trains nothing and scores the base.
        options: Of train.py, beside the strategy.
        mode: Of eval.py: base or reasoning; empty where the course of the training is all that is wanted.
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
        extra: Options for train.py, and for eval.py as far as they count there; `{strategy}` in them stands for the
            cell's own, rft for none.
        trained: Options for train.py only.
        scored: Options for eval.py only.
        base: The model that is trained from, as `--model.path` would name it.
        only_print: Nothing is run; cells count whatever made them.
    """

    results: Path
    runs: Path
    ranks: int = 2
    jobs: int = 1
    extra: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    base: str = MaskedPrediction.default_model
    only_print: bool = False


def run_cells(cells: Sequence[Cell], place: Place) -> list[dict[str, Any]]:
    """Runs what has no file yet, and returns what the files hold, in the order of `cells`.

    Raises:
        RuntimeError: a training or an evaluation failed. Nothing new is begun then; what is done is kept. Or a cell is
            missing and nothing is to be run.
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
        `row`, `setting`, `seed`; `origin` (`mpcc.experiments.origin`); `options`, those of train.py and eval.py;
        `figures`, kind of question → `macro`, the mean of the three difficulties in percent, and the `Rate` `pooled`;
        `signatures` of failure; `answers`, of the free-form ones in percent `blank`, those without a word of reasoning,
        and where one half was trained on `trained_half`, those that name one of its categories; `course`, name of
        `COURSES` → its value in each step; `prior`, of each step with priors the mean log-probability per token of
        `prior` and `sampled` completions, and the share of `positive` advantages; `minutes`.

    Raises:
        RuntimeError: train.py or eval.py failed, or what is there was made with other options or by other code.
    """
    file = place.results / f"{cell.name}.json"
    run, began = place.runs / cell.name, time.monotonic()
    extra, steps = [word.replace("{strategy}", cell.strategy or "rft") for word in place.extra], []
    trained = SETTINGS[cell.setting][0]
    half = ["--task.half", trained] if trained else []
    options = {"train": [*half, *place.trained, *cell.options, *extra], "eval": [*place.scored, *extra]}
    if place.only_print:
        if not file.is_file():
            raise RuntimeError(f"{file} is missing; leave --only-print away to run it")
        return json.loads(file.read_text(encoding="utf-8"))
    made = {"options": options, "origin": origin(place.base)}
    if file.is_file():
        return _unchanged(file, made)
    run.mkdir(parents=True, exist_ok=True)
    model = []
    if cell.strategy is not None:
        if (run / "result.json").is_file():
            _unchanged(run / "cell.json", made)
        else:
            _clear_unlike(run, made)
            write_json(run / "cell.json", made)
            _start(place, run / "log.txt", "train.py", "--run.seed", str(cell.seed), "--run.dir", str(run),
                   "--run.resume", "auto", "--task.held_out", "0", "--strategy", cell.strategy, *options["train"])
            shutil.rmtree(run / "checkpoints", ignore_errors=True)  # of many cells they would fill a disk
        steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        model = ["--model", str(run)]
    result = {"row": cell.row, "setting": cell.setting, "seed": cell.seed, **made,
              "course": {name: _course(steps, metric) for name, metric in COURSES.items()},
              "prior": {"prior": _course(steps, "logprob/prior"), "sampled": _course(steps, "logprob/sampled"),
                        "positive": _course(steps, "prior_positive")},
              **(_scored(cell, place, run, model, extra) if cell.mode else {"figures": {}, "answers": {}}),
              "minutes": round((time.monotonic() - began) / 60, 2)}
    write_json(file, result)
    return json.loads(file.read_text(encoding="utf-8"))


def _scored(cell: Cell, place: Place, run: Path, model: Sequence[str], extra: Sequence[str]) -> dict[str, Any]:
    """`figures`, `signatures` and `answers` of a cell, by eval.py."""
    trained, scored = SETTINGS[cell.setting]
    scores = run / "scores.json"
    # a run folder brings the options that it was trained with
    asked = place.scored if model else (*place.scored, *counting(extra))
    blind = ["--no-blind"] if scored else []  # of halves nobody asks
    _start(place, run / "log.txt", "eval.py", "--mode", cell.mode, "--kinds", ",".join(KINDS), *blind,
           "--out", str(run / "eval"), "--json", str(scores), *model, *asked)
    found = json.loads(scores.read_text(encoding="utf-8"))[cell.mode]
    tables = found["tables"]["halves"][scored] if scored else found["tables"]
    half_of = read_halves(_halves(place)) if scored else {}
    figures = {kind: {name: tables[kind][name] for name in ("macro", "pooled")} for kind in (*CHOICES, *FREE)
               if kind in tables}
    return {"figures": figures, "signatures": found["signatures"],
            "answers": _answers(run / "eval" / "answers.jsonl", half_of, trained)}


def _clear_unlike(run: Path, made: Mapping[str, Any]) -> None:
    """Removes what a killed training has left, unless it was made alike: then the training goes on from it."""
    file = run / "cell.json"
    if file.is_file():
        try:
            _unchanged(file, made)
        except (RuntimeError, ValueError):
            shutil.rmtree(run)
            run.mkdir()


def _unchanged(file: Path, made: Mapping[str, Any]) -> dict[str, Any]:
    """What a file holds, if it was made alike: figures of two settings must not meet in one table."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["options"] != made["options"]:
        raise RuntimeError(f"{file} was made with other options: {found['options']}, not {made['options']}; give "
                           "another --out and --runs, or delete it")
    if other := difference(found.get("origin", {}), made["origin"]):
        raise RuntimeError(f"{file} was not made by what is here ({other}): give another --out and --runs, delete it, "
                           "or show it as it is with --only-print")
    return found


def _halves(place: Place) -> str:
    return place.scored[place.scored.index("--halves") + 1] if "--halves" in place.scored else "scenes"


def _answers(file: Path, half_of: Mapping[str, str], trained: str) -> dict[str, float]:
    """Shares in percent of the free-form answers; of the half that is scored where one is trained on."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    free = [r for r in records if r["kind"] == "free" and (not trained or half_of[r["answer"]] != trained)]
    blank = [not reasoning(r["completion"]).strip() for r in free]
    shares = {"blank": 100 * fmean(blank)}
    if trained:
        named = [half_of.get(normalise(r["parsed"] or "")) == trained for r in free]
        shares["trained_half"] = 100 * fmean(named)
    return shares


def _course(steps: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A metric over the steps that have it."""
    return [round(step[name], 4) for step in steps if step.get(name) is not None]


def program_file(program: str) -> str:
    """The file to run: that of the clone which this package lies in, else the command that was installed.

    Raises:
        RuntimeError: there is neither.
    """
    if (CLONE / "pyproject.toml").is_file() and (CLONE / program).is_file():
        return str(CLONE / program)
    command = COMMANDS[program]
    installed = shutil.which(command, path=str(Path(sys.executable).parent)) or shutil.which(command)
    if not installed:
        raise RuntimeError(f"there is no {program} beside the package, and no command {command}: install minigrpo, or "
                           "start from a clone")
    return installed


def _start(place: Place, log: Path, program: str, *words: str) -> None:
    """Runs a program of the project with its output in `log`, the cores shared among the jobs."""
    ranks = place.ranks if program == "train.py" else 1
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, program_file(program), *words]
    threads = max(1, (os.cpu_count() or 1) // (place.jobs * ranks))
    with open(log, "a", encoding="utf-8") as file:
        print("$", " ".join(command[1:]), file=file, flush=True)
        status = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT,
                                env=os.environ | {"OMP_NUM_THREADS": str(threads)}).returncode
    if status:
        raise RuntimeError(f"{program} failed with exit code {status}; see {log}")


def told(result: Mapping[str, Any]) -> str:
    """A result on one line."""
    figures = ", ".join(f"{kind} {result['figures'][kind]['pooled']['percent']:.1f} %" for kind in KINDS
                        if kind in result["figures"])
    return f"{figures} ({clock(60 * result['minutes'])})"
