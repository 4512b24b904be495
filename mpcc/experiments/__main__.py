"""Trains and scores every cell of a comparison that is missing, and prints its tables.

    python -m mpcc.experiments table4                six strategies, in distribution and out of it
    python -m mpcc.experiments ablations             masks, reward terms, group size, beta, share of traces
    python -m mpcc.experiments priors                does a prior help? mpcc/results/priors/PLAN.md
    python -m mpcc.experiments compare FOLDER rft+prior rft      two rows, with intervals over the seeds
    python -m mpcc.experiments table4 --out runs/coco --benchmark FILE --images DIR --halves coco -- \\
        --config 'mpcc/configs/qwen2.5-vl-3b-{strategy}.toml' --task.coco COCO_FOLDER --task.pairs TRAINING_FILE.json

What follows -- goes to train.py, and to eval.py as far as it counts there, {strategy} replaced. Beside the cells' files
the folder gets table.txt and plots. A cell whose file is there is not run again, and not used where other code, weights
or pictures made it; `table4 --out mpcc/results/table4 --only-print` shows what the repository holds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from minigrpo.config import Config, load_config
from minigrpo.files import held
from mpcc.eval_inputs import benchmark_file
from mpcc.eval_options import DEFAULT_TASK
from mpcc.experiments import ablations, priors, table4
from mpcc.experiments.cells import Place, run_cells
from mpcc.experiments.compare import read_cells, render_comparison
from mpcc.experiments.summary import summary
from mpcc.formats import write_text
from mpcc.task import MaskedPrediction

RESULTS = Path("runs/experiments")
"""In the folder where the command is started."""
PRIOR_STEPS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the tables, writes them with their plots; 1 after a failed cell or bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    options, extra = _parser().parse_args(words[:split]), tuple(words[split + 1 :])
    try:
        if options.what == "compare":
            print(render_comparison(read_cells(options.folder), options.ours, options.theirs), end="")
        else:
            print(_run(options, extra))
    except (OSError, ValueError) as error:
        print(f"mpcc.experiments: error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"mpcc.experiments: error: {error}; the cells that are done are kept", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, extra: tuple[str, ...]) -> str:
    """The tables of a comparison, which are written too, once its cells are there."""
    for name in ("seeds", "ranks", "jobs"):
        if getattr(options, name) < 1:
            _parser().error(f"--{name} must be at least 1")
    if options.device:
        extra += ("--run.device", options.device)
    given = ((name, getattr(options, name)) for name in ("benchmark", "images", "halves"))
    scored = tuple(word for name, value in given if value for word in (f"--{name}", value))
    trained = ("--task.halves", options.halves) if options.halves else ()
    config = load_config([word.replace("{strategy}", "rft+prior") for word in extra], DEFAULT_TASK)[0]
    folder = options.out or RESULTS / options.what
    place = Place(folder / "cells", options.runs / options.what, options.ranks, options.jobs, extra, trained, scored,
                  config.model.path or MaskedPrediction.default_model, options.only_print)
    file = None if options.what == "priors" else benchmark_file(options.benchmark and Path(options.benchmark), config)
    if file and options.what == "table4" and not options.halves:
        raise ValueError(f"{file} needs --halves: the table tells the halves of its categories apart")
    with ExitStack() as until_done:
        if not options.only_print:
            for held_by_us in {folder.resolve(): folder, place.runs.resolve(): place.runs}.values():
                until_done.enter_context(held(held_by_us, "mpcc.experiments"))
        return _run_in(options, place, folder, config)


def _run_in(options: argparse.Namespace, place: Place, folder: Path, config: Config) -> str:
    """As `_run`, in folders that are ours alone."""
    if options.what == "priors":
        return _run_priors(options, place, folder)
    made = table4 if options.what == "table4" else ablations
    cells = table4.cells(options.seeds) if made is table4 else ablations.cells(options.seeds, config.run.steps)
    results = run_cells(cells, place)
    found = summary(results)
    write_text(folder / "table.txt", made.render(found))
    made.draw(folder, found, results)
    return made.render(found) + _makers(results)


def _run_priors(options: argparse.Namespace, place: Place, folder: Path) -> str:
    """Both bases' cells, one after the other."""
    permuted = place.runs / "permuted.json"
    if not place.only_print:
        if not options.plain_base:
            raise ValueError("priors needs --plain-base, a folder of `python -m mpcc.scenes.pretrain --plain`")
        priors.write_permuted(permuted)
    plain = replace(place, base=str(options.plain_base), trained=(*place.trained, "--model.path", options.plain_base))
    results = [result for case, cells in priors.cells(options.seeds, PRIOR_STEPS, permuted).items()
               for result in run_cells(cells, plain if case == priors.PLAIN else place)]
    write_text(folder / "table.txt", priors.render(results))
    priors.draw(folder, results)
    return priors.render(results) + _makers(results)


def _makers(results: Sequence[Mapping[str, Any]]) -> str:
    """A line that says what made the cells."""
    made = Counter(f"commit {r['origin']['commit']}, world {r['origin']['world']}, torch {r['origin']['torch']}, "
                   f"transformers {r['origin']['transformers']}" for r in results)
    return "made by " + "; ".join(f"{one} ({count} cells)" for one, count in made.most_common())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m mpcc.experiments", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True, metavar="table4|ablations|priors|compare")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--benchmark", help="what eval.py scores on (default: the scenes benchmark)")
    shared.add_argument("--images", help="folder of the benchmark's images")
    shared.add_argument("--halves", help="halves of the categories: coco, scenes, or a file (default scenes)")
    shared.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU if there is one)")
    shared.add_argument("--ranks", type=int, default=2, help="processes of a training (default 2)")
    shared.add_argument("--jobs", type=int, default=1, help="cells at a time, which share the cores (default 1)")
    shared.add_argument("--out", type=Path, help="folder of the results (default runs/experiments/WHAT)")
    shared.add_argument("--runs", type=Path, default=Path("runs"), help="folder of models and logs (default runs)")
    shared.add_argument("--only-print", action="store_true", help="run nothing; show the cells, whatever made them")
    for name, seeds in (("table4", 3), ("ablations", 3), ("priors", 5)):
        one = kinds.add_parser(name, parents=[shared])
        one.add_argument("--seeds", type=int, default=seeds, help=f"seeds of every trained cell (default {seeds})")
        if name == "priors":
            one.add_argument("--plain-base", help="base that has never seen a trace nor the format")
    two = kinds.add_parser("compare")
    two.add_argument("folder", type=Path, help="--out of a comparison")
    two.add_argument("ours", help="a row")
    two.add_argument("theirs", help="another")
    return parser


if __name__ == "__main__":
    sys.exit(main())
