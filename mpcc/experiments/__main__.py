"""Trains and scores every cell of a comparison that is missing, and prints its table.

    python -m mpcc.experiments table4                    six strategies, in distribution and out of it, three seeds
    python -m mpcc.experiments ablations --seeds 2       masks, reward terms, group size, beta, share of traces
    python -m mpcc.experiments table4 --out runs/coco --benchmark FILE --images DIR --halves coco -- \\
        --config 'mpcc/configs/qwen2.5-vl-3b-{strategy}.toml' --task.coco COCO_FOLDER --task.pairs TRAINING_FILE.json

What follows -- goes to train.py, and to eval.py as far as it counts there, {strategy} replaced. Beside the cells' files
the folder gets table.txt, table.json, table.png and reward.png. A cell whose file is there is not run again, so that
--out mpcc/results/table4 shows what the repository holds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from minigrpo.config import load_config
from mpcc.eval_inputs import benchmark_file
from mpcc.eval_options import DEFAULT_TASK
from mpcc.experiments import ablations, table4
from mpcc.experiments.cells import Place, run_cells
from mpcc.experiments.summary import summary
from mpcc.formats import write_json

RESULTS = Path("runs/experiments")
"""In the folder where the command is started."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the table, writes it with its plots; 1 after a failed cell."""
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    options, extra = _parser().parse_args(words[:split]), tuple(words[split + 1 :])
    for name in ("seeds", "ranks", "jobs"):
        if getattr(options, name) < 1:
            _parser().error(f"--{name} must be at least 1")
    if options.device:
        extra += ("--run.device", options.device)
    given = ((name, getattr(options, name)) for name in ("benchmark", "images", "halves"))
    scored = tuple(word for name, value in given if value for word in (f"--{name}", value))
    trained = ("--task.halves", options.halves) if options.halves else ()
    checked = [word.replace("{strategy}", "rft+prior") for word in extra]
    config = load_config(checked, DEFAULT_TASK)[0]  # a wrong option ends here
    made = table4 if options.what == "table4" else ablations
    cells = table4.cells(options.seeds) if made is table4 else ablations.cells(options.seeds, config.run.steps)
    folder = options.out or RESULTS / options.what
    place = Place(folder / "cells", options.runs / options.what, options.ranks, options.jobs, extra, trained, scored)
    try:
        file = benchmark_file(options.benchmark and Path(options.benchmark), config)
        if file and made is table4 and not options.halves:
            raise ValueError(f"{file} needs --halves: the table tells the halves of its categories apart")
        results = run_cells(cells, place)
    except (OSError, ValueError) as error:
        print(f"mpcc.experiments: error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"mpcc.experiments: error: {error}; the cells that are done are kept", file=sys.stderr)
        return 1
    found = summary(results)
    table = made.render(found)
    print(table)
    (folder / "table.txt").write_text(table, encoding="utf-8")
    write_json(folder / "table.json", found)
    made.draw(folder, found, results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m mpcc.experiments", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table4", "ablations"), help="which comparison")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of every trained cell (default 3)")
    parser.add_argument("--benchmark", help="what eval.py scores on (default: the scenes benchmark)")
    parser.add_argument("--images", help="folder of the benchmark's images")
    parser.add_argument("--halves", help="halves of the categories: coco, scenes, or a file (default scenes)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU if there is one)")
    parser.add_argument("--ranks", type=int, default=2, help="processes of a training (default 2)")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, which share the cores (default 1)")
    parser.add_argument("--out", type=Path, help="folder of the results (default runs/experiments/WHAT)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of models and logs (default runs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
