"""Runs that are stopped and killed from outside, on one rank and on two, and go on: nothing is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest
from running import ROOT, alive, descendants, kill_all, lines, result, same, untimed, words
from toy_task import NAME

OPTIONS = {"task": NAME, "rollout.prompts_per_step": 4, "rollout.group_size": 3, "rollout.max_new_tokens": 6,
           "optim.lr": 1e-3, "grpo.beta": 0.1, "task.images_every": 3, "run.save_every": 2, "run.keep": 9}


def start(folder, models, *, ranks, steps, cwd, **more):
    """train.py as a person starts it, in a process group of its own."""
    program = ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks), "--rdzv-backend", "c10d",
               "--rdzv-endpoint", "localhost:0"] if ranks > 1 else []
    options = OPTIONS | {"model.path": models / "qwen2_5_vl", "run.dir": folder, "run.steps": steps} | more
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen([sys.executable, *program, str(ROOT / "train.py"), *words(options)], cwd=cwd, text=True,
                            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def done_steps(folder):
    file = folder / "metrics.jsonl"
    return len(lines(folder)) if file.exists() and file.read_text(encoding="utf-8").endswith("\n") else 0


def wait_for(process, condition, seconds=240):
    began = time.monotonic()
    while not condition():
        if process.poll() is not None or time.monotonic() - began > seconds:
            kill_all(process)
            pytest.fail(f"ended or hung: {process.communicate()}")
        time.sleep(0.01)


def finished(process, seconds=300):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err[-2000:]
    return out


def same_run(one, two):
    assert untimed(one) == untimed(two) and lines(one, "completions") == lines(two, "completions")
    assert {**result(one), "seconds": 0} == {**result(two), "seconds": 0} and same(one / "model", two / "model")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_its_step_saved_with_a_code_of_its_own(tmp_path, models, number):
    whole, run = tmp_path / "whole", tmp_path / "run"
    finished(start(whole, models, ranks=1, steps=12, cwd=tmp_path))
    process = start(run, models, ranks=1, steps=12, cwd=tmp_path)
    wait_for(process, lambda: done_steps(run) >= 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75 and err.strip() == "stopping after this step; once more ends at once"
    last = out.strip().splitlines()[-1]
    assert last == f"stopped after step {done_steps(run)} of 12; go on with --run.resume {run}" and done_steps(run) < 12
    assert (run / f"checkpoints/{done_steps(run):06d}").is_dir()
    process = start(run, models, ranks=1, steps=12, cwd=tmp_path, **{"run.resume": run})
    assert "going on from step" in finished(process)
    same_run(whole, run)


def test_a_signal_before_the_first_step_ends_at_once_and_says_how_to_go_on(tmp_path, models):
    process = start(tmp_path / "run", models, ranks=1, steps=2, cwd=tmp_path, **{"task.held_out": 500})
    wait_for(process, (tmp_path / "run/config.toml").exists)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert err.strip() == f"stopped; --run.dir {tmp_path / 'run'} --run.resume auto goes on"


def test_two_ranks_that_are_killed_go_on_to_the_same_bits_and_on_one_rank_up_to_rounding(tmp_path, models):
    whole, run = tmp_path / "whole", tmp_path / "run"
    exact = {"model.dtype": "float64"}
    finished(start(whole, models, ranks=2, steps=6, cwd=tmp_path, **exact))
    process = start(run, models, ranks=2, steps=6, cwd=tmp_path, **exact)
    wait_for(process, lambda: done_steps(run) >= 3)
    kill_all(process)
    finished(start(run, models, ranks=2, steps=6, cwd=tmp_path, **exact, **{"run.resume": "auto"}))
    same_run(whole, run)
    other = tmp_path / "other"
    finished(start(other, models, ranks=1, steps=6, cwd=tmp_path, **exact,
                   **{"run.resume": run / "checkpoints/000002"}))
    assert [line["text"] for line in lines(other, "completions")] == [
        line["text"] for line in lines(whole, "completions")]
    for mine, theirs in zip(untimed(other), untimed(whole), strict=True):
        for name in ("reward", "loss", "grad_norm", "kl", "entropy"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-9, abs=1e-12)


def test_ranks_whose_launcher_was_killed_finish_their_step_save_and_end(tmp_path, models):
    run = tmp_path / "run"
    process = start(run, models, ranks=2, steps=500, cwd=tmp_path)
    wait_for(process, lambda: done_steps(run) >= 3)
    ranks = descendants(process.pid)[1:]
    process.kill()
    process.communicate(timeout=120)  # the ranks hold its pipes
    assert len(ranks) == 2 and not any(map(alive, ranks))
    assert (run / f"checkpoints/{done_steps(run):06d}").is_dir() and done_steps(run) < 500
