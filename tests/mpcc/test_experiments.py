"""The comparison of strategies: which cells there are, that a finished one is not run again, and the table."""

import json

import numpy as np
import pytest
from PIL import Image

from mpcc import experiments
from mpcc.experiments import Cell, cells, draw_table, main, render_table, run_cell, summary


def rate(percent):
    return {"n": 100, "percent": percent, "low": percent - 5, "high": percent + 5}


@pytest.fixture
def started(monkeypatch):
    """Commands that would have been run; each leaves the files that the real one leaves."""
    commands = []

    def start(ranks, program, *words):
        commands.append((program, words))
        if program == "eval.py":
            percent = 10.0 * len(commands)
            tables = {kind: {"pooled": rate(percent)} for kind in ("cho_e", "cho_h", "free")}
            tables["halves"] = {"ood": {kind: {"pooled": rate(percent / 2)} for kind in ("cho_e", "cho_h")}}
            mode = words[words.index("--mode") + 1]
            with open(words[words.index("--json") + 1], "w") as file:
                json.dump({mode: {"tables": tables, "signatures": {}}}, file)

    monkeypatch.setattr(experiments, "_start", start)
    return commands


def test_every_strategy_stands_in_both_settings_with_every_seed():
    found = cells(3)
    assert len(found) == len(set(found)) == 2 * (2 + 4 * 3)
    assert {cell.strategy for cell in found} == {"base", "prompt", "sft", "rft", "rft+prior", "sft+rft"}


def test_a_cell_trains_on_its_half_and_is_scored_in_its_mode(tmp_path, started):
    (tmp_path / "scores").mkdir()
    found = run_cell(Cell("rft", "ood", 2), tmp_path, 1, ["--run.steps", "3"])
    (trained, words), (scored, asked) = started
    assert (trained, scored) == ("train.py", "eval.py") and words[-2:] == ("--run.steps", "3")
    assert asked[asked.index("--model") + 1] == str(tmp_path / "runs/ood-rft-2")
    assert words[words.index("--strategy") + 1] == "rft" and words[words.index("--run.seed") + 1] == "2"
    assert words[words.index("--task.half") + 1] == "id" and asked[asked.index("--mode") + 1] == "reasoning"
    assert found["figures"] == {"cho_e": rate(10.0), "cho_h": rate(10.0)}


def test_what_trains_nothing_is_only_scored(tmp_path, started):
    (tmp_path / "scores").mkdir()
    run_cell(Cell("base", "id", 0), tmp_path, 1, [])
    assert [program for program, _ in started] == ["eval.py"] and "base" in started[0][1]


def test_a_finished_cell_is_not_run_again(tmp_path, started, capsys):
    words = ["table4", "--seeds", "2", "--out", str(tmp_path / "t")]
    assert main(words) == 0
    ran = len(started)
    assert ran == 4 + 2 * 2 * 2 * 4
    (tmp_path / "t/id-rft-1.json").unlink()
    assert main(words) == 0 and len(started) == ran + 2
    table = capsys.readouterr().out
    assert "rft+prior" in table and "paper, COCO" in table and "(2)" in table
    assert (tmp_path / "t/table.json").is_file() and (tmp_path / "t/table.png").is_file()


def test_a_failed_cell_ends_the_command_with_one_line(tmp_path, monkeypatch, capsys):
    def fail(ranks, program, *words):
        raise RuntimeError(f"{program} failed")

    monkeypatch.setattr(experiments, "_start", fail)
    assert main(["table4", "--out", str(tmp_path / "t")]) == 1
    assert capsys.readouterr().err == "mpcc.experiments: error: eval.py failed; the cells that are done are kept\n"


def test_mean_and_spread_are_over_seeds(tmp_path):
    results = [{"strategy": "rft", "setting": "id", "figures": {"cho_e": rate(p)}} for p in (30.0, 36.0, 39.0)]
    found = summary(results)
    assert found["rft"]["id cho_e"] == {"mean": 35.0, "spread": pytest.approx(21**0.5), "n": 3}
    assert "35.00 ± 4.58 (3)" in render_table(found) and "66.42" in render_table(found)
    draw_table(tmp_path / "t.png", found)
    assert np.asarray(Image.open(tmp_path / "t.png").convert("L")).std() > 10
