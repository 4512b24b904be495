"""What a run writes down and shows: the run folder, the progress line, completions, evaluations, warnings."""

import json
import math
import sys

import pytest
import torch
import torch.distributed as dist

from minigrpo.config import parse_config
from minigrpo.log import LoggedCompletion, RunLog
from minigrpo.metrics import StepMetrics
from minigrpo.progress import clock, figures, fit, progress_parts, show_completions
from minigrpo.ranks import Ranks
from minigrpo.sections import Config, RunConfig
from minigrpo.task import Task

METRICS = {"reward": 1.5, "reward/format": 0.75, "reward/exact": 0.25, "kl": 0.002, "entropy": 0.5, "length": 31.5,
           "grad_norm": 0.8, "tokens_per_second": 812.3, "zero_variance": 0.125, "seconds": 2.0}


def config(folder, steps=3, **run):
    return Config("minigrpo.task:Task", Task.Config(), run=RunConfig(dir=str(folder), steps=steps, **run))


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


def rank_main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    log = RunLog(config(folder / "run", max_bad_steps=1), ranks)
    log.step(1, {"loss": float(rank)})
    with pytest.raises(ValueError, match="not finite in 1 of the last 1 steps"):  # on every rank
        log.check(1, {"skipped": 1.0}, StepMetrics())
    log.completions([completion(id=f"rank {rank}")])
    log.finish({"rank": rank})
    log.__exit__()
    dist.barrier()
    try:
        RunLog(config(folder / "run"), ranks)
        error = ""
    except ValueError as caught:
        error = str(caught)
    (folder / f"{rank}.json").write_text(json.dumps([str(log.dir), error]))
    dist.destroy_process_group()


def test_two_ranks_share_a_folder_and_only_the_first_writes(tmp_path):
    torch.multiprocessing.spawn(rank_main, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    folder, error = first
    assert folder == str(tmp_path / "run")
    assert "already holds a run" in error
    assert read_jsonl(tmp_path / "run/metrics.jsonl") == [{"step": 1, "loss": 0.0}]
    assert [record["id"] for record in read_jsonl(tmp_path / "run/completions.jsonl")] == ["rank 0"]
    assert json.loads((tmp_path / "run/result.json").read_text()) == {
        "rank": 0, "troubles": {"skipped": 1}}
    assert len((tmp_path / "run/warnings.txt").read_text().splitlines()) == 1


# The run folder


def test_the_folder_holds_all_of_the_run(tmp_path):
    made = config(tmp_path / "deep/run", steps=2)
    log = RunLog(made, Ranks())
    log.step(1, METRICS | {"loss": torch.tensor(0.5), "lr": math.inf, "grad_norm": math.nan})
    log.step(2, METRICS)
    log.completions([completion(text="größe 猫", advantage=math.nan)])
    log.finish({"before": {"exact_match": 0.25}, "after": {"exact_match": math.nan}, "steps": 2})
    assert {path.name for path in log.dir.iterdir()} == {
        "config.toml", "metrics.jsonl", "completions.jsonl", "result.json", "curves.png", ".lock"}
    assert parse_config(["--config", str(log.dir / "config.toml")], "x:Y")[0] == made
    first, second = read_jsonl(log.dir / "metrics.jsonl")
    assert first == {"step": 1} | METRICS | {"loss": 0.5, "lr": None, "grad_norm": None}
    assert second == {"step": 2} | METRICS
    (record,) = read_jsonl(log.dir / "completions.jsonl")
    assert record["text"] == "größe 猫" and record["terms"] == {"format": 0.0, "exact": 1.0}
    assert record["prior"] is False and record["advantage"] is None
    assert json.loads((log.dir / "result.json").read_text())["after"] == {"exact_match": None}


def test_a_run_is_never_overwritten(tmp_path):
    with RunLog(config(tmp_path / "run"), Ranks()) as log:
        log.step(1, METRICS)
        with pytest.raises(ValueError, match=r"run is in use by train.py, process \d+ on"):
            RunLog(config(tmp_path / "run"), Ranks())
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


def test_what_should_not_be_is_shown_where_it_is():
    def line(**metrics):
        return fit(progress_parts({"step": 1} | metrics, 2, 0, None)).removeprefix("step 1/2  ")

    fine = {"cut_off": 0.0, "idle": 0.0, "skipped": 0.0, "sampler/mean_difference": 1e-6, "sampler/max_difference": 0.4}
    assert line(**fine) == "0:00 gone"
    assert line(cut_off=0.25, **{"sampler/mean_difference": 0.0123}) == "sampler off by 0.012  cut off 25 %  0:00 gone"
    assert line(cut_off=0.004, **{"sampler/mean_difference": None}) == "cut off <1 %  0:00 gone"
    assert line(idle=1.0, skipped=0.0) == "no update (equal rewards)  0:00 gone"
    assert line(idle=0.0, skipped=1.0) == "no update (not finite)  0:00 gone"


@pytest.mark.parametrize("width", [0, 5, 20, 60, 79, 119])
def test_the_line_is_fitted_by_leaving_out_the_least_important(width):
    parts = progress_parts({"step": 7} | METRICS | {"cut_off": 0.5, "skipped": 1.0}, 120, 65, 65)
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


def test_a_completion_without_an_answer_shows_none_and_leaves_out_terms_that_do_not_apply(capsys):
    show_completions([completion(terms={"format": 1.0, "exact": math.nan})], 60)
    shown = capsys.readouterr().out
    assert "   answer " not in shown and "earned 1.00 (format 1.00)  advantage" in shown


def test_an_annotated_trajectory_is_named_as_one(capsys):
    show_completions([completion(prior=True, text="a dog", question="")], 70)
    assert "annotated a dog" in capsys.readouterr().out


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "1:00:00"]


def test_an_evaluation_is_one_line_or_columns_beside_the_figures_before():
    assert figures({}) == "nothing to evaluate"
    assert figures({"right": 0.51234, "brief": math.nan}, width=80) == "right 0.5123  brief nan"
    assert figures({"right": 0.75, "new": 1.0}, {"right": 0.5}, 80) == "right 0.5 → 0.75  new 1"
    many = {"exact_match": 0.505, "format": 0.715, "levenshtein": 0.5578, "reward": 1.778, "exact_match_black": 0.0}
    assert figures(many, width=60) == (
        "\n  exact_match 0.505     reward 1.778"
        "\n  format 0.715          exact_match_black 0"
        "\n  levenshtein 0.5578")
    assert max(map(len, figures(many, many, 60).splitlines())) <= 60
    assert figures(many, width=10).count("\n") == 5


def test_an_evaluation_on_the_way_is_shown(tmp_path, capsys):
    RunLog(config(tmp_path / "run"), Ranks()).step(2, METRICS | {"held_out/right": 0.5})
    assert capsys.readouterr().out.splitlines()[-1] == "held-out at step 2: right 0.5"


# Warnings


def test_warnings_go_below_the_progress_line_and_into_a_file(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    log = RunLog(config(tmp_path / "run"), Ranks())
    for step in range(1, 8):
        log.step(step, METRICS | {"idle": 1.0, "skipped": 0.0})
        log.check(step, METRICS | {"idle": 1.0, "skipped": 0.0}, StepMetrics())
    (line,) = (log.dir / "warnings.txt").read_text(encoding="utf-8").splitlines()
    assert line.startswith("steps 1 to 5: no group had two different rewards")
    assert f"\nwarning: {line}\n" in terminal.text


def test_bad_steps_in_turn_with_good_ones_end_the_run(tmp_path):
    log = RunLog(config(tmp_path / "run", max_bad_steps=2), Ranks())
    for step, skipped in enumerate([1.0, 0.0], 1):
        log.check(step, {"skipped": skipped}, StepMetrics())
    with pytest.raises(ValueError, match="step 3: the gradient was not finite in 2 of the last 3 steps; .*grad_norm"):
        log.check(3, {"skipped": 1.0, "grad_norm": math.nan}, StepMetrics())
