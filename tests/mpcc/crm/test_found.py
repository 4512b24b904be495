"""Every figure of the page on CRM stands in a file of results."""

import json
import re

from running import ROOT

ROWS = {"hit@1 on the name": "hit@1, name", "… on the whole step": "hit@1, step",
        "… of the controls": "hit@1, controls", "… by chance": "chance",
        "named region over its control": "over control",
        "relevant region over its control, on the answer": "answer over control",
        "right answers that stay right, a control masked": "stays right",
        "right answers lost, a relevant region masked": "answer changes",
        "clues named, dropped once masked": "dropped", "… once a control is masked": "dropped, control",
        "structure kept, evidence hallucinated": "structure kept, evidence hallucinated",
        "grounded but collapsing": "grounded but collapsing"}
MODELS = ("base", "default-0", "default-1", "filled-0")


def test_the_table_is_that_of_the_results():
    page = (ROOT / "mpcc/crm/README.md").read_text(encoding="utf-8")
    scores = [json.loads((ROOT / f"mpcc/results/crm/{name}.json").read_text(encoding="utf-8")) for name in MODELS]
    assert all(found["items"] == 1114 for found in scores)
    for row, key in ROWS.items():
        cells = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", page, re.M)[1].split("|")
        for cell, found in zip(cells, scores, strict=True):
            figure = found["figures"][key]
            interval = "" if key == "chance" else f" [{figure['low']:.1f}, {figure['high']:.1f}]"
            assert cell.strip() == f"{figure['percent']:.1f}{interval}", (row, cell)
    gap = scores[3]["compared"]["dropped"]
    assert f"{-gap['difference']:.1f} points" in page and f"[{-gap['high']:.1f}, {-gap['low']:.1f}]" in page
    alike = scores[1]["compared"]["hit@1, name"]
    assert f"+{alike['difference']:.1f} [{alike['low']:.1f}, {alike['high']:.1f}]" in page
