"""The comparison of the strategies (MPCC Table 4): `python -m mpcc.experiments table4 [--seeds 3] [-- OPTIONS]`.

Every cell is a strategy, a setting and a seed: trained by train.py, scored by eval.py, its figures in a file of its
own. A cell whose file exists is not run again, so that the table can be made in several sittings. In the setting `id` a
model is trained on all categories and scored on all; in `ood` it is trained on one half of them and scored on the other
(E11). What follows `--` goes to train.py and eval.py alike, `--config mpcc/configs/qwen2.5-vl-3b.toml`, say.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from minigrpo.sections import STRATEGIES
from mpcc.formats import write_json
from mpcc.render import TABLE_4, grid

ROOT = Path(__file__).resolve().parents[1]
MODES = {"base": "base", "prompt": "reasoning"}
"""Strategies that train nothing → the mode of eval.py."""
SETTINGS = ("id", "ood")
KINDS = ("cho_e", "cho_h", "free")


@dataclass(frozen=True)
class Cell:
    """One model of the table: `setting` is id or ood."""

    strategy: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.setting}-{self.strategy}-{self.seed}"


def cells(seeds: int) -> list[Cell]:
    """All cells; what trains nothing has no seeds."""
    trained = [Cell(name, setting, seed) for seed in range(seeds) for setting in SETTINGS for name in STRATEGIES]
    return [Cell(name, setting, 0) for name in MODES for setting in SETTINGS] + trained


def run_cell(cell: Cell, folder: Path, ranks: int, extra: Sequence[str]) -> dict[str, Any]:
    """Trains and scores a cell, unless its file is there; returns what the file holds.

    Raises:
        RuntimeError: train.py or eval.py failed; they have said why.
    """
    file = folder / f"{cell.name}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    run, options = folder / "runs" / cell.name, list(extra)
    if cell.strategy in STRATEGIES:
        if not (run / "result.json").is_file():
            half = ["--task.half", "id"] if cell.setting == "ood" else []
            _start(ranks, "train.py", "--strategy", cell.strategy, "--run.seed", str(cell.seed), "--run.dir", str(run),
                   "--task.held_out", "0", *half, *options)
        options = ["--model", str(run)]
    mode = MODES.get(cell.strategy, "reasoning")
    scores = folder / "scores" / f"{cell.name}.json"
    _start(ranks, "eval.py", "--mode", mode, "--kinds", ",".join(KINDS), "--no-black", "--out",
           str(folder / "eval" / cell.name), "--json", str(scores), *options)
    found = json.loads(scores.read_text(encoding="utf-8"))[mode]
    half = found["tables"]["halves"]["ood"] if cell.setting == "ood" else found["tables"]
    figures = {kind: half[kind]["pooled"] for kind in KINDS if kind in half}
    write_json(file, {"strategy": cell.strategy, "setting": cell.setting, "seed": cell.seed, "figures": figures,
                      "signatures": found["signatures"]})
    return json.loads(file.read_text(encoding="utf-8"))


def _start(ranks: int, program: str, *words: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, str(ROOT / program), *words]
    print("$", " ".join(command[1:]), flush=True)
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"{program} failed: {' '.join(words)}")


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Strategy → column ("id cho_e", …) → `mean` and `spread` (sample standard deviation) of `n` seeds, in percent."""
    values: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for kind, rate in result["figures"].items():
            column = values.setdefault(result["strategy"], {}).setdefault(f"{result['setting']} {kind}", [])
            column.append(rate["percent"])
    return {
        strategy: {
            column: {"mean": fmean(found), "spread": stdev(found) if len(found) > 1 else 0.0, "n": len(found)}
            for column, found in columns.items()
        }
        for strategy, columns in values.items()
    }


COLUMNS = {"id cho_e": "ID Cho.E", "id cho_h": "ID Cho.H", "ood cho_e": "OOD Cho.E", "ood cho_h": "OOD Cho.H",
           "id free": "ID free-form"}  # fmt: skip


def render_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table with mean and spread over seeds, each row beside the paper's, marked as such."""
    rows = []
    for strategy in [*MODES, *STRATEGIES]:
        if strategy in found:
            rows.append([strategy, *(_cell(found[strategy].get(column)) for column in COLUMNS)])
            rows.append(["  paper, COCO", *(f"{value:.2f}" for value in TABLE_4[strategy])])
    title = "Accuracy in percent, pooled: mean ± sample standard deviation over seeds (number of seeds)"
    return grid(title, ["", *COLUMNS.values()], rows) + "\n"


def _cell(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.2f} ± {value['spread']:.2f} ({value['n']})" if value["n"] > 1 else f"{value['mean']:.2f}"


def draw_table(path: Path, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """The table as bars with their spread, a panel for each column, into a PNG file."""
    from matplotlib.figure import Figure  # it takes a second

    names = [strategy for strategy in [*MODES, *STRATEGIES] if strategy in found]
    figure = Figure(figsize=(3.0 * len(COLUMNS), 3.4), dpi=110, layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(COLUMNS), sharey=True), COLUMNS.items(), strict=True):
        shown = [(i, found[name][column]) for i, name in enumerate(names) if column in found[name]]
        axes.barh([i for i, _ in shown], [v["mean"] for _, v in shown], xerr=[v["spread"] for _, v in shown],
                  color="#9aa5b5", ecolor="#1f4e79", capsize=3)  # fmt: skip
        if (chance := {"cho_e": 25, "cho_h": 100 / 7}.get(column.split()[1])) is not None:
            axes.axvline(chance, color="#d1495b", linewidth=1, linestyle=":")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.spines[["top", "right"]].set_visible(False)
    told = "accuracy in percent; bars: mean over seeds, whiskers: standard deviation, dotted: chance"
    figure.supxlabel(told, fontsize=9)
    figure.savefig(path, format="png")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the table, writes it with its plot; 1 after a failed cell."""
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser("python -m mpcc.experiments", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("what", choices=("table4",), help="what to run")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of every trained cell (default 3)")
    parser.add_argument("--ranks", type=int, default=2, help="processes of a training (default 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/table4"), help="folder of it all (default runs/table4)")
    options = parser.parse_args(words[:split])
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    for folder in (options.out, options.out / "scores"):
        folder.mkdir(parents=True, exist_ok=True)
    results = []
    try:
        for cell in cells(options.seeds):
            results.append(run_cell(cell, options.out, options.ranks, words[split + 1 :]))
    except RuntimeError as error:
        print(f"mpcc.experiments: error: {error}; the cells that are done are kept", file=sys.stderr)
        return 1
    found = summary(results)
    print(render_table(found))
    write_json(options.out / "table.json", found)
    draw_table(options.out / "table.png", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
