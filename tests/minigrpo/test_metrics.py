"""What a run writes down and shows: sums over ranks, the run folder, the progress line, completions."""

import json
import math
import sys

import pytest
import torch
import torch.distributed as dist

from minigrpo.config import parse_config
from minigrpo.log import LoggedCompletion, RunLog
from minigrpo.metrics import StepMetrics
from minigrpo.progress import clock, fit, progress_parts, show_completions
from minigrpo.ranks import Ranks
from minigrpo.sections import Config, RunConfig
from minigrpo.task import Task

METRICS = {"reward": 1.5, "reward/format": 0.75, "reward/exact": 0.25, "kl": 0.002, "entropy": 0.5, "length": 31.5,
           "grad_norm": 0.8, "tokens_per_second": 812.3, "zero_variance": 0.125, "seconds": 2.0}


def config(folder, steps=3):
    return Config("minigrpo.task:Task", Task.Config(), run=RunConfig(dir=str(folder), steps=steps))


def completion(**changes):
    values = {"step": 1, "id": "pair-7", "question": "Look.\nWhat is hidden?", "text": "<answer>cup</answer>",
              "terms": {"format": 0.0, "exact": 1.0}, "reward": 1.0, "advantage": -0.5}
    return LoggedCompletion(**values | changes)


def no_constants(name):
    raise AssertionError(f"{name} is not JSON")


def read_jsonl(path):
    return [json.loads(line, parse_constant=no_constants) for line in path.read_text(encoding="utf-8").splitlines()]


class Terminal:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


# StepMetrics


def test_a_mean_divides_the_sum_by_the_count_once():
    sums = StepMetrics()
    sums.mean("length", 10.0, 1)
    sums.mean("length", torch.tensor(2.0, requires_grad=True), torch.tensor(3))
    sums.total("tokens", 5)
    sums.total("tokens", torch.tensor(7))
    sums.max("memory", 3)
    sums.max("memory", -2)
    assert sums.reduce(Ranks()) == {"length": 3.0, "tokens": 12.0, "memory": 3.0}


def test_a_mean_of_nothing_is_nan_and_no_figures_are_no_error():
    sums = StepMetrics()
    assert sums.reduce(Ranks()) == {}
    sums.mean("kl", 0.0, 0)
    assert math.isnan(sums.reduce(Ranks())["kl"])


def test_many_small_numbers_add_up_in_double_precision():
    sums = StepMetrics()
    sums.mean("x", torch.tensor(2.0**24), 1)
    sums.mean("x", torch.tensor(1.0), 1)
    assert sums.reduce(Ranks())["x"] == (2**24 + 1) / 2


def test_the_largest_of_numbers_that_are_none_is_none():
    for values in ([1.0, math.nan, 2.0], [math.nan, 3.0], [4.0, math.nan]):
        metrics = StepMetrics()
        for value in values:
            metrics.max("grad_norm", value)
        assert math.isnan(metrics.reduce(Ranks())["grad_norm"])


def test_a_name_means_one_thing():
    sums = StepMetrics()
    sums.total("x", 1)
    sums.max("x", 1)
    with pytest.raises(ValueError, match="'x' is both a sum and a largest value"):
        sums.reduce(Ranks())


def rank_main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    sums = StepMetrics()
    for name in (["b", "a"], ["a", "b"])[rank]:  # the order in which names turn up differs
        sums.mean(name, [10.0, 2.0][rank], [1, 3][rank])
    if rank == 1:
        sums.mean("only on rank 1", 4.0, 2)
        sums.max("memory", 9.0)
    figures = sums.reduce(ranks)
    log = RunLog(config(folder / "run"), ranks)
    log.step(1, {"loss": float(rank)})
    log.completions([completion(id=f"rank {rank}")])
    log.finish({"rank": rank})
    dist.barrier()
    try:
        RunLog(config(folder / "run"), ranks)
        error = ""
    except ValueError as caught:
        error = str(caught)
    (folder / f"{rank}.json").write_text(json.dumps([figures, str(log.dir), error]))
    dist.destroy_process_group()


def test_two_ranks_share_figures_and_folder_and_only_the_first_writes(tmp_path):
    torch.multiprocessing.spawn(rank_main, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    figures, folder, error = first
    assert figures == {"a": 3.0, "b": 3.0, "only on rank 1": 2.0, "memory": 9.0}
    assert folder == str(tmp_path / "run")
    assert "already holds a run" in error
    assert read_jsonl(tmp_path / "run/metrics.jsonl") == [{"step": 1, "loss": 0.0}]
    assert [record["id"] for record in read_jsonl(tmp_path / "run/completions.jsonl")] == ["rank 0"]
    assert json.loads((tmp_path / "run/result.json").read_text()) == {"rank": 0}


# The run folder


def test_the_folder_holds_all_of_the_run(tmp_path):
    made = config(tmp_path / "deep/run", steps=2)
    log = RunLog(made, Ranks())
    log.step(1, METRICS | {"loss": torch.tensor(0.5), "lr": math.inf, "grad_norm": math.nan})
    log.step(2, METRICS)
    log.completions([completion(text="größe 猫", advantage=math.nan)])
    log.finish({"before": {"exact_match": 0.25}, "after": {"exact_match": math.nan}, "steps": 2})
    assert {path.name for path in log.dir.iterdir()} == {
        "config.toml", "metrics.jsonl", "completions.jsonl", "result.json", "curves.png"}
    assert parse_config(["--config", str(log.dir / "config.toml")], "x:Y")[0] == made
    first, second = read_jsonl(log.dir / "metrics.jsonl")
    assert first == {"step": 1} | METRICS | {"loss": 0.5, "lr": None, "grad_norm": None}
    assert second == {"step": 2} | METRICS
    (record,) = read_jsonl(log.dir / "completions.jsonl")
    assert record["text"] == "größe 猫" and record["terms"] == {"format": 0.0, "exact": 1.0}
    assert record["prior"] is False and record["advantage"] is None
    assert json.loads((log.dir / "result.json").read_text())["after"] == {"exact_match": None}


def test_a_run_is_never_overwritten(tmp_path):
    log = RunLog(config(tmp_path / "run"), Ranks())
    log.step(1, METRICS)
    with pytest.raises(ValueError, match=r"run.dir: .*run already holds a run; name another folder"):
        RunLog(config(tmp_path / "run"), Ranks())
    assert len(read_jsonl(tmp_path / "run/metrics.jsonl")) == 1


def test_an_empty_folder_is_used_and_a_file_is_refused(tmp_path):
    assert RunLog(config(tmp_path), Ranks()).dir == tmp_path
    with pytest.raises(ValueError, match="run.dir: .*File exists"):
        RunLog(config(tmp_path / "config.toml"), Ranks())


def test_an_empty_name_takes_the_next_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(RunLog(config(""), Ranks()).dir) == "runs/001"
    (tmp_path / "runs/007").mkdir()
    (tmp_path / "runs/old").mkdir()
    assert str(RunLog(config(""), Ranks()).dir) == "runs/008"


def test_a_result_that_fails_to_be_written_leaves_the_old_one(tmp_path):
    log = RunLog(config(tmp_path / "run"), Ranks())
    log.finish({"steps": 0})
    with pytest.raises(TypeError):
        log.finish({"steps": object()})
    assert json.loads((log.dir / "result.json").read_text()) == {"steps": 0}
    assert not (log.dir / "curves.png").exists()  # no step, nothing to draw


# The screen


def test_the_progress_line_says_it_all():
    line = fit(progress_parts({"step": 7} | METRICS, 120, 65.2, 3725))
    assert line == ("step   7/120  reward 1.50  (format 0.75)  exact 25 %  KL 0.002  entropy 0.50  length 31.5  "
                    "812 tok/s  no variance 12 %  1:05 gone  1:02:05 left")


def test_what_was_not_measured_is_left_out_and_a_nan_is_shown():
    assert fit(progress_parts({"step": 1, "kl": None}, 2, 0, None)) == "step 1/2  KL nan  0:00 gone"


@pytest.mark.parametrize("width", [0, 5, 20, 60, 79, 119])
def test_the_line_is_fitted_by_leaving_out_the_least_important(width):
    parts = progress_parts({"step": 7} | METRICS, 120, 65, 65)
    line = fit(parts, width)
    assert len(line) <= width
    kept = [rank for rank, text in parts if text in line]
    assert sorted(kept) == sorted(rank for rank, _ in parts)[: len(kept)]


def test_a_terminal_gets_one_live_line_and_a_file_plain_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    log = RunLog(config(tmp_path / "plain", steps=100), Ranks())
    log.step(1, METRICS)
    plain = capsys.readouterr().out
    assert plain.count("\n") == 1 and "\r" not in plain and "\x1b" not in plain
    assert "step   1/100" in plain and "3:18 left" in plain  # 99 steps of 2 seconds
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    log = RunLog(config(tmp_path / "live", steps=100), Ranks())
    log.step(1, METRICS)
    log.step(2, METRICS)
    assert "\n" not in terminal.text and terminal.text.count("\r") == 2
    assert all(len(line.removesuffix("\x1b[K")) < 50 for line in terminal.text.split("\r"))
    log.say("evaluating")
    assert terminal.text.endswith("\nevaluating\n")


def test_completions_are_shown_about_ten_times_and_always_written(tmp_path, capsys):
    log = RunLog(config(tmp_path / "run", steps=50), Ranks())
    for step in range(1, 51):
        log.completions([completion(step=step), completion(step=step, text="<answer>box</answer>")])
    shown = capsys.readouterr().out
    assert shown.count(", pair-7 ") == 11 and shown.count("What is hidden?") == 11 and shown.count(" says ") == 22
    assert len(read_jsonl(log.dir / "completions.jsonl")) == 100


def test_a_completion_can_be_read(capsys):
    text = "<think> " + "word " * 30 + "</think>\n<answer>a\x1b[2Jb</answer>"
    show_completions([completion(text=text, answer="cup")], 60)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].startswith("── step 1, pair-7 ─")
    assert lines[1] == " question What is hidden?" and lines[2] == "   answer cup"
    assert lines[3].startswith("     says <think> word word")
    assert lines[-3] == "          <answer>a\ufffd[2Jb</answer>"
    assert lines[-2] == "   earned 1.00 (format 0.00  exact 1.00)  advantage -0.50"
    assert max(map(len, lines)) == 60 and shown.count("word") == 30


def test_an_annotated_trajectory_is_named_as_one(capsys):
    show_completions([completion(prior=True, text="a dog", question="")], 70)
    assert "annotated a dog" in capsys.readouterr().out


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "1:00:00"]
