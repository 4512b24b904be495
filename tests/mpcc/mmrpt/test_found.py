"""Every figure of a run on the page of MMRPT stands in a file of results."""

import json
import re
from statistics import fmean

from running import ROOT

from mpcc.mmrpt.report import gains
from mpcc.statistics import paired

RESULTS = ROOT / "mpcc/results/mmrpt"


def interval(values):
    found = paired(values, [0.0] * len(values))
    return f"{found['difference']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def test_the_table_is_that_of_the_runs():
    page = (ROOT / "mpcc/mmrpt/README.md").read_text(encoding="utf-8")
    arms = json.loads((RESULTS / "runs.json").read_text(encoding="utf-8"))
    assert len(arms) >= 3
    for name, runs in arms.items():
        cells = [cell.strip() for cell in re.search(rf"^\| {re.escape(name)} \|(.*)\|$", page, re.M)[1].split("|")]
        means = [f"{100 * fmean(run[when][key] for run in runs):.1f}" for when, key in
                 (("before", "exact"), ("after", "exact"), ("after", "exact_text"), ("after", "exact_black"))]
        assert cells[:3] == [str(len(runs)), *means[:2]] and cells[4:6] == means[2:]
        assert cells[3] == interval(gains(runs, "exact")) and cells[6] == interval(gains(runs, "gap"))


def test_the_zero_shot_figures_are_those_kept():
    page = " ".join((ROOT / "mpcc/mmrpt/README.md").read_text(encoding="utf-8").split())
    kept = json.loads((RESULTS / "zero_shot.json").read_text(encoding="utf-8"))
    score = {name: figures["free"]["percent"] for name, figures in kept.items()}
    for arm in ("full", "novisual"):
        values = [score[f"{arm}-{seed}"] for seed in range(3)]
        found = paired(values, [score["early"]] * 3)
        assert (f"{fmean(values):.1f} ({found['difference']:+.1f} [{found['low']:.1f}, {found['high']:.1f}]") in page
