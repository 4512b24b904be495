"""Runs of MMRPT side by side, seed by seed, with intervals.

    python -m mpcc.mmrpt.report --arm visual runs/001 runs/002 --arm "no visual term" runs/003 runs/004 --kept FILE
    python -m mpcc.mmrpt.report --kept mpcc/results/mmrpt/runs.json

The first keeps what the runs ended with and prints it, the second prints what was kept. An arm is one setting, its runs
differ in their seed; differences are of runs with the same seed, against the first arm.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mpcc.formats import write_json
from mpcc.reading import read_json
from mpcc.render import grid
from mpcc.statistics import paired

Arms = dict[str, list[dict[str, Any]]]
"""Name → of each run `seed`, `steps`, `options` of the task, and the figures `before` and `after`, shares in 0 to 1."""


def read_run(folder: Path) -> dict[str, Any]:
    """What a run ended with. Raises FileNotFoundError where it has not ended, ValueError for one of another task."""
    result = read_json(folder / "result.json", "name the folder of a run that has ended")
    options = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    if "exact_text" not in result["after"]:
        raise ValueError(f"{folder} has no 'exact_text' in result.json: it is no run of MMRPT, or evaluated nothing")
    return {"seed": options["run"]["seed"], "steps": result["steps"], "options": options["task"],
            "before": result["before"], "after": result["after"]}


def gains(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """By how many points a figure rose in each run."""
    return [100 * (run["after"][name] - run["before"][name]) for run in runs]


def render(arms: Arms) -> str:
    """The table: what stands before and after, how much was gained, and by how much more than in the first arm."""
    first, rows = next(iter(arms.values())), []
    of_seed = {run["seed"]: gain for run, gain in zip(first, gains(first, "exact"), strict=True)}
    for name, runs in arms.items():
        after = {key: f"{100 * fmean(run['after'][key] for run in runs):.1f}"
                 for key in ("exact", "exact_text", "exact_black")}
        before = f"{100 * fmean(run['before']['exact'] for run in runs):.1f}"
        more = [gain - of_seed[run["seed"]] for run, gain in zip(runs, gains(runs, "exact"), strict=True)
                if run["seed"] in of_seed and runs is not first]
        rows.append([name, str(len(runs)), before, after["exact"], _interval(gains(runs, "exact")),
                     after["exact_text"], after["exact_black"], _interval(gains(runs, "gap")), _interval(more)])
    head = ["", "seeds", "before", "after", "gained", "text alone", "black", "gap gained", "against the first"]
    return grid("Gaps of held-out captions filled exactly, percent; means over seeds, in brackets 95 % by Student's t",
                head, rows)


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:+.1f}" if values else ""
    found = paired(values, [0.0] * len(values))
    return f"{found['difference']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 after an error of one line."""
    parser = argparse.ArgumentParser("python -m mpcc.mmrpt.report", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", nargs="+", action="append", default=[], metavar="NAME RUN",
                        help="a name, and the folders of its runs; may be given several times")
    parser.add_argument("--kept", type=Path, help="file of what the runs ended with: written with --arm, else read")
    options = parser.parse_args(argv)
    if not options.arm and not options.kept:
        parser.error("name runs with --arm, or a file with --kept")
    try:
        if options.arm:
            arms = {name: [read_run(Path(run)) for run in runs] for name, *runs in options.arm}
            if empty := [name for name, runs in arms.items() if not runs]:
                raise ValueError(f"--arm {empty[0]} names no run: write a name, and behind it the folders of its runs")
            if options.kept:
                write_json(options.kept, arms)
        else:
            arms = read_json(options.kept, "write it with --arm")
            if not isinstance(arms, dict) or not arms or not all(isinstance(runs, list) for runs in arms.values()):
                raise ValueError(f"{options.kept} holds no arms and their runs: write it with --arm")
        print(render(arms))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"mpcc.mmrpt.report: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
