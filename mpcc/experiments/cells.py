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
from typing import Any

from minigrpo.progress import clock
from mpcc.eval_options import counting
from mpcc.formats import write_json

CLONE = Path(__file__).resolve().parents[2]
COMMANDS = {"train.py": "minigrpo-train", "eval.py": "minigrpo-eval"}
"""Program of a clone → what it is called once installed."""
KINDS = ("cho_e", "cho_h", "free")

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
        extra: Options for train.py, and for eval.py as far as they count there; `{strategy}` in them stands for the
            cell's own, rft for none.
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
    # a run folder brings the options that it was trained with
    asked = place.scored if model else (*place.scored, *counting(extra))
    _start(place, run / "log.txt", "eval.py", "--mode", cell.mode, "--kinds", ",".join(KINDS), "--no-blind",
           "--out", str(run / "eval"), "--json", str(scores), *model, *asked)
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
    figures = ", ".join(f"{kind} {rate['percent']:.1f} %" for kind, rate in result["figures"].items())
    return f"{figures} ({clock(60 * result['minutes'])})"
