"""The benchmark's command: medians, ratios, tables and curves, and one line for whatever goes wrong."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from minigrpo.bench import __main__ as bench
from minigrpo.bench import flops, report
from minigrpo.bench.sides import Measured, Side, SideError
from minigrpo.bench.workload import WORKLOADS

TOY = WORKLOADS["toy"]


def step(rollout, update, peak):
    return {"rollout": {"seconds": rollout, "peak_memory": peak / 2},
            "update": {"seconds": update, "peak_memory": peak},
            "step": {"seconds": rollout + update, "peak_memory": peak}}


def facts():
    return {"parameters": 1, "prompt_tokens": TOY.prompt_tokens, "image_tokens": TOY.image_tokens}


def test_medians_shares_and_ratios():
    ours = Measured(facts(), [step(1, 1, 5e8), step(2, 2, 6e8), step(9, 1, 5e8)],
                    {"seconds_per_token": 0.2, "bare_seconds": 0.1, "bytes": 6e8, "memory_rate": 1e10})
    theirs = Measured({"micro_batch": 4}, [step(6, 10, 2e9)] * 3)
    found = report.summary(replace(TOY, beta=0), {"ours": ours, "plain": theirs}, rate=1e6)
    assert found["ours"]["step"]["seconds"] == 4 and found["ours"]["rollout"]["all_seconds"] == [1, 2, 9]
    assert found["ours"]["step"]["tokens_per_second"] == TOY.tokens / 4
    assert found["ours"]["scoring"] is None and found["ours"]["step"]["peak_memory"] == 6e8
    assert found["ours"]["update"]["share"] == flops.operations(TOY, True)["update"] / 1 / 1e6
    assert found["ours"]["decode"] == ours.decoding | {"ratio": 2, "memory_share": 0.3}
    assert found["ratio"] == {"rollout": 3, "update": 10, "step": 4, "peak_memory": 0.3}
    assert "4.00 times as long a step" in report.table(found) and "8 new" not in report.heading(found)
    ours.facts["prompt_tokens"] += 1
    with pytest.raises(ValueError, match="prompt_tokens is 33, but was to be 32"):
        report.summary(TOY, {"ours": ours}, rate=1e6)


def test_the_command_measures_both_sides_and_prints_one_object(monkeypatch, capsys):
    monkeypatch.setattr(bench, "matrix_rate", lambda *args: 1e9)
    assert bench.main(["--workload", "toy", "--against", "plain", "--group-size", "2", "--steps", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {"workload", "ours", "plain", "ratio"} and found["workload"]["group_size"] == 2
    assert found["ratio"]["step"] == found["plain"]["step"]["seconds"] / found["ours"]["step"]["seconds"]
    assert found["ours"]["decode"]["bare_seconds"] > 0 and found["workload"]["versions"]["torch"] == torch.__version__
    assert found["plain"]["micro_batch"] == 4 and len(found["plain"]["step"]["all_seconds"]) == 1


def test_a_sweep_is_drawn_and_keeps_what_it_has_when_a_side_fails(monkeypatch, tmp_path, capsys):
    def measured(workload, names, folder, say):
        if workload.group_size > 4:
            raise SideError("plain did not finish: it was killed")
        return {"ours": Measured(facts(), [step(1, 1, 5e8)]), "plain": Measured({"micro_batch": 1}, [step(2, 2, 1e9)])}

    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setattr(bench, "build_folder", lambda *args: None)
    monkeypatch.setattr(bench, "matrix_rate", lambda *args: 1e9)
    plot = tmp_path / "curve.png"
    options = ["--workload", "toy", "--against", "plain", "--beta", "0", "--json", "--sweep", "group_size"]
    assert bench.main([*options, "2,4,8", "--plot", str(plot)]) == 1
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    points = [(point["value"], point["workload"]["group_size"], point["ratio"]["step"]) for point in found["points"]]
    assert points == [(2, 2, 2), (4, 4, 2)]
    assert found["stopped"] == "group_size 8: plain did not finish: it was killed"
    assert plot.read_bytes()[:4] == b"\x89PNG" and str(plot) in out
    assert bench.main([*options, "8"]) == 1 and "{" not in capsys.readouterr().out


@pytest.mark.parametrize("end, error", [
    ("echo 'Traceback' >&2; echo 'ValueError: no weights' >&2; exit 1", "ours did not finish: ValueError: no weights"),
    ("exit 3", "ours did not finish: exit code 3"),
    ("kill -9 $$", "ours did not finish: it was killed, most likely for memory: give a smaller --micro-batch"),
])
def test_a_side_that_fails_says_why_in_one_line(end, error, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{end}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(SideError) as failed, Side("ours", TOY, tmp_path):
        pass
    assert str(failed.value) == error


@pytest.mark.parametrize("options, error", [
    ("--against verl", "invalid choice: 'verl'"),
    ("--workload tpu", "invalid choice: 'tpu'"),
    ("--sweep layers 1,2", "--sweep varies group_size, prompt, completion, not 'layers'"),
    ("--sweep group_size 1,2", "--sweep group_size takes whole numbers of at least 2, such as 4,8,16, not '1,2'"),
    ("--sweep completion 4,x", "not '4,x'"),
    ("--group-size 1", "--group-size must be at least 2, not 1"),
    ("--steps 0", "--steps must be at least 1, not 0"),
    ("--beta -1", "--beta must be 0 or positive"),
    ("--beta nan", "--beta must be 0 or positive"),
    ("--graphs", "--graphs are CUDA graphs, and --workload cpu runs on a CPU"),
    ("--micro-batch 3", "--micro-batch 3 does not divide the 16 completions of a step"),
    ("--plot a.png", "--plot needs a --sweep to draw"),
    ("--sweep prompt 300 --plot nowhere/a.png", "folder nowhere does not exist"),
])
def test_bad_options_are_one_line(options, error, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(options.split())
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and error in said and said.count("\n") == 1


def test_trl_and_a_gpu_are_asked_for_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for options, error in (("--against trl", "trl, which is not installed: pip install trl"),
                           ("--workload gpu", "needs a GPU, and torch sees none")):
        with pytest.raises(SystemExit) as stopped:
            bench.main(options.split())
        assert stopped.value.code == 2 and error in capsys.readouterr().err
