"""A run that goes on from a checkpoint is the run that it would have been: metrics, completions and weights."""

import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
import torch
import toy_task
from running import lines, result, same, untimed
from toy_task import ToyTask

import train
from minigrpo import Sampler, export, load_model
from minigrpo.checkpoints import checkpoints
from minigrpo.files import held

LOGS = ("metrics.jsonl", "completions.jsonl", "warnings.txt")
STAGES = {"run.stages": "sft+rft", "sft.steps": 3, "sft.prompts_per_step": 4, "task.priors": "true"}
CASES = {
    "rft": {},
    "prior_until": {"task.priors": "true", "grpo.prior_until": 2, "grpo.beta": 0.1},
    "updates": {"grpo.updates_per_rollout": 2, "rollout.resample_rounds": 1, "task.flat_every": 2,
                "rollout.prompts_per_step": 2},
    "evaluated": {"run.evaluate_every": 2, "optim.schedule": "linear", "optim.warmup": 0.4},
    "sft": {"run.stages": "sft", "sft.steps": 4, "sft.prompts_per_step": 4, "task.priors": "true"},
    "sft+rft": STAGES | {"grpo.beta": 0.1, "run.steps": 3},
    "bfloat16": {"model.dtype": "bfloat16"},
    "adapters": {"model.lora_rank": 2, "grpo.beta": 0.1, "optim.lr": 1e-2},
    "idle": {"task.flat_every": 1, "run.steps": 7},
    "learning-sampler": {"task": "test_resume:Learning"},
}


class Learning(ToyTask):
    """Its sampler chooses first what earned least, so that what it has learned decides."""

    def sampler(self, samples, per_step, seed, resample_rounds):
        class Worst(Sampler):
            earned = {}

            def learn(self, outcomes):
                self.earned = self.earned | {o.index: sum(o.rewards) for o in outcomes}

            def choose(self, step):
                return sorted(range(self.samples), key=lambda i: self.earned.get(i, 9.0))[: self.per_step]

            def state(self):
                return {"earned": [[i, r] for i, r in self.earned.items()]}

            def load(self, state):
                self.earned = dict(map(tuple, state["earned"]))

        return Worst(samples, per_step, seed, resample_rounds)


def steps_of(folder):
    return [int(path.name) for path in checkpoints(folder)]


def same_run(one, two):
    """Whether two folders hold the same run: all that is written but times, and the weights of every model."""
    assert untimed(one) == untimed(two)
    for name in ("completions.jsonl", "warnings.txt"):
        texts = [(f / name).read_text() if (f / name).exists() else "" for f in (one, two)]
        assert texts[0] == texts[1]
    assert {k: v for k, v in result(one).items() if k != "seconds"} == {
        k: v for k, v in result(two).items() if k != "seconds"}
    models = sorted(path.name for path in two.glob("model*"))
    assert models and all(same(one / name, two / name) for name in models)


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_from_a_step_as_if_it_had_never_stopped(run, tmp_path, case):
    options = {"run.steps": 4, "run.save_every": 1, "run.keep": 99, "run.log_completions": 9, **CASES[case]}
    options = {key.replace(".", "__"): value for key, value in options.items()}
    whole = run("whole", **options)
    taken = checkpoints(whole)
    assert len(taken) == len(lines(whole)) > 3
    for path in (taken[0], taken[-2], taken[-1]):
        other = run(f"from-{path.name}", run__resume=path, **options)
        same_run(whole, other)
        assert steps_of(other) == [step for step in steps_of(whole) if step >= int(path.name)]


def test_auto_begins_where_there_is_no_checkpoint_goes_on_where_there_is_and_ends_at_once_where_all_is_done(
        run, tmp_path, capsys):
    options = {"run__steps": 4, "run__save_every": 2, "run__resume": "auto"}
    whole = run("whole", **options)
    shutil.copytree(whole, tmp_path / "killed")
    killed = tmp_path / "killed"
    for path in (killed / "checkpoints/000004", killed / "model"):
        shutil.rmtree(path)
    (killed / "result.json").unlink()
    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "tor')  # what a kill leaves
    same_run(whole, run("killed", **options))
    written = {path: path.stat().st_mtime_ns for path in killed.rglob("*") if path.name != ".lock"}
    capsys.readouterr()
    run("killed", **options)
    assert "holds a finished run: nothing to do" in capsys.readouterr().out
    assert written == {path: path.stat().st_mtime_ns for path in killed.rglob("*") if path.name != ".lock"}


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(run, tmp_path):
    whole = run("whole", run__steps=2)
    died = tmp_path / "died"
    died.mkdir()
    for name in LOGS[:2]:
        (died / name).write_text('{"step": 1}\n')
    (died / "warnings.txt").write_text("old\n")
    same_run(whole, run("died", run__steps=2, run__resume="auto"))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(run, tmp_path, capsys):
    whole = run("whole", run__steps=4, run__save_every=1, run__keep=3)
    assert steps_of(whole) == [2, 3, 4]
    (whole / "result.json").unlink()
    shutil.copytree(whole, tmp_path / "copy")
    newest = next((whole / "checkpoints/000004/weights").glob("__0*"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    newest.write_bytes(content)
    (whole / "checkpoints/000003/progress.json").unlink()
    run("whole", run__steps=4, run__save_every=1, run__keep=3, run__resume=whole)
    said = capsys.readouterr().out
    assert "000004 is damaged: weights/__0_0.distcp is not as it was written; the one before it is taken" in said
    assert "000003 is damaged: progress.json is missing" in said
    assert same(whole / "model", tmp_path / "copy/model") and steps_of(whole) == [2, 3, 4]


@pytest.mark.parametrize(("options", "said"), [
    ({"run__resume": "{whole}/checkpoints/000002", "run__dir": "{tmp}/new", "optim__lr": 0.5},
     r"is of a run with optim.lr = 0.001, not 0.5: a run goes on with its own options"),
    ({"run__resume": "{whole}/checkpoints/000002", "run__dir": "{tmp}/new", "run__steps": 9},
     r"is of a run with run.steps = 3, not 9: .*--model.path .*000002"),
    ({"run__resume": "{whole}/checkpoints/000002"}, r"has gone on from .*000002: to go another way"),
    ({"run__resume": "{tmp}/nothing"}, r"run.resume: .*nothing does not exist"),
    ({"run__resume": "{whole}", "run__dir": "{other}"}, r"run.dir: .*other already holds a run"),
    ({"run__resume": "auto", "run__dir": ""}, r"run.resume auto goes on in run.dir, which is not given"),
    ({}, r"already holds a run; name another folder, go on with it by --run.resume .*whole"),
])
def test_what_cannot_be_gone_on_with_is_refused(run, tmp_path, options, said):
    whole, other = run("whole", run__steps=3, run__save_every=1), run("other", run__steps=1)
    options = {"run__steps": 3, "run__save_every": 1, "run__dir": whole} | options
    options = {key: value.format(whole=whole, other=other, tmp=tmp_path) if isinstance(value, str) else value
               for key, value in options.items()}
    with pytest.raises(SystemExit) as stopped:
        run(**options)
    assert re.search(said, stopped.value.code) and "\n" not in stopped.value.code


def test_a_damaged_checkpoint_that_is_named_is_refused(run, tmp_path):
    whole = run("whole", run__steps=2, run__save_every=1)
    (whole / "checkpoints/000002/weights/.metadata").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"000002 is damaged: weights/.metadata is not as it was written"):
        run("other", run__steps=2, run__resume=whole / "checkpoints/000002")


def test_the_last_ones_are_kept_and_the_best(run, monkeypatch):
    scores = iter([0.5, 0.1, 0.8, 0.3, 0.8, 0.2, 0.1, 0.1])
    monkeypatch.setattr(toy_task.ToyTask, "evaluate", lambda self, answer: {"right": next(scores), "other": 1.0})
    folder = run(run__steps=7, run__save_every=2, run__keep=1, run__evaluate_every=1)
    assert steps_of(folder) == [2, 7]  # 0.8 came first after step 2, between the due ones it would be kept as well
    assert json.loads((folder / "checkpoints/000002/progress.json").read_text())["best"] == 0.8


def test_bad_data_ends_a_run_with_its_last_good_weights_saved(run, monkeypatch, tmp_path):
    """The third step meets a sample that cannot be rewarded; once that is mended, the run goes on as it would have."""
    whole = run("whole", run__steps=4)
    rewards, reward = [], toy_task.ToyTask.reward

    def failing(self, sample, completions):
        rewards.append(sample)
        if len(rewards) > 8:
            raise KeyError("cut off")
        return reward(self, sample, completions)

    monkeypatch.setattr(toy_task.ToyTask, "reward", failing)
    with pytest.raises(SystemExit, match=r"sample toy-\d: KeyError.*\(saved after step 2: --run.resume .*run\)$"):
        run("run", run__steps=4)
    assert steps_of(tmp_path / "run") == [2]
    monkeypatch.undo()
    monkeypatch.setattr("minigrpo.log.draw_curves", lambda path, history: None)
    same_run(whole, run("run", run__steps=4, run__resume="auto"))


def test_the_runs_own_options_are_taken_where_none_are_named(run, tmp_path, monkeypatch):
    whole = run("whole", run__steps=3, run__save_every=1, run__keep=9, optim__lr=3e-3)
    monkeypatch.setattr(sys, "argv", ["train.py", "--run.resume", str(whole / "checkpoints/000001"),
                                      "--run.dir", str(tmp_path / "other")])
    train.main()
    same_run(whole, tmp_path / "other")


def test_a_checkpoint_is_scored_exported_and_trained_like_a_model(run, tmp_path, monkeypatch, models):
    folder = run(run__steps=2, run__save_every=1, task__images_every=2)
    checkpoint = folder / "checkpoints/000002"
    loaded, exported = load_model(checkpoint), tmp_path / "exported"
    assert all(map(torch.equal, loaded.net.parameters(), load_model(folder / "model").net.parameters()))
    monkeypatch.setattr(sys, "argv", ["export", str(checkpoint), str(exported)])
    export.main()
    assert same(exported, folder / "model")
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == {p.name: p.read_bytes()
                                                                    for p in (folder / "model").iterdir()}
    again = run("again", model__path=checkpoint, run__steps=0, task__images_every=2)
    assert same(again / "model", folder / "model")
    monkeypatch.setattr(sys, "argv", ["export", str(checkpoint), str(exported)])
    with pytest.raises(SystemExit, match="exists already"):
        export.main()
    monkeypatch.setattr(sys, "argv", ["export", str(folder), str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="is no checkpoint"):
        export.main()


def test_a_second_process_cannot_write_into_the_folder(run, tmp_path):
    with held(tmp_path / "run", "train.py"), pytest.raises(SystemExit, match=r"run is in use by train.py, process \d+"):
        run("run")


def test_what_ends_a_run_after_its_update_is_saved_behind_that_step(run, monkeypatch, tmp_path):
    """A trouble is seen when the weights have moved already: the step must not be taken twice."""
    options = {"run__steps": 9, "run__save_every": 3, "grpo__beta": 0.1, "optim__lr": 1e-2}
    whole = run("whole", **options)
    with pytest.raises(SystemExit, match=r"steps 1 to 5: .* \(saved after step 5"):
        run("run", run__stop_on="reward, cut_off", **options)
    assert 5 in steps_of(tmp_path / "run")
    resumed = run("run", run__resume="auto", **options)
    assert untimed(resumed) == untimed(whole) and same(resumed / "model", whole / "model")


def test_a_finished_run_without_a_checkpoint_is_not_begun_anew(run):
    folder = run("run", run__save_every=0)
    written = (folder / "metrics.jsonl").read_bytes()
    run("run", run__save_every=0, run__resume="auto", optim__lr=5)
    assert (folder / "metrics.jsonl").read_bytes() == written


def test_lines_end_at_line_feeds_only(run, monkeypatch):
    """U+2028 and others stand raw in JSON."""
    sample = toy_task.ToyTask._sample
    monkeypatch.setattr(toy_task.ToyTask, "_sample", lambda self, i: replace(sample(self, i), question="a\u2028b\x85c"))
    whole = run("whole", run__steps=3, run__save_every=1, run__keep=9)
    same_run(whole, run("other", run__steps=3, run__save_every=1, run__resume=whole / "checkpoints/000002"))


def test_a_way_that_was_killed_before_its_first_checkpoint_goes_on_from_where_it_left(run, tmp_path, monkeypatch):
    whole = run("whole", run__steps=4, run__save_every=1, run__keep=9)
    with monkeypatch.context() as patched, pytest.raises(KeyError):
        patched.setattr(train, "run_stage", lambda *_: {}["killed"])
        run("other", run__steps=4, run__resume=whole / "checkpoints/000002", run__save_every=1)
    assert steps_of(tmp_path / "other") == [2]
    same_run(whole, run("other", run__steps=4, run__resume="auto", run__save_every=1))


@pytest.mark.parametrize("stages", [{}, {key.replace(".", "__"): value for key, value in STAGES.items()}])
def test_a_run_that_was_moved_goes_on_where_it_lies(run, tmp_path, monkeypatch, stages):
    """In its second stage, too, which began with a model of the run's own folder."""
    whole = run("whole", run__steps=3, run__save_every=1, run__keep=9, grpo__beta=0.1, **stages)
    kept, moved = shutil.copytree(whole, tmp_path / "kept"), tmp_path / "moved"
    whole.rename(moved)
    (moved / "result.json").unlink()
    shutil.rmtree(checkpoints(moved)[-1])
    monkeypatch.setattr(sys, "argv", ["train.py", "--run.resume", str(moved)])
    train.main()
    same_run(kept, moved)
    assert not whole.exists()
    assert load_model(checkpoints(moved)[-1]).net.num_parameters() > 0


def test_other_samples_or_another_start_model_are_noticed(run, models, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(models / "qwen2_5_vl", model)
    whole = run("whole", run__steps=2, run__save_every=1, model__path=model)
    options = {"run__steps": 2, "run__resume": whole / "checkpoints/000001", "model__path": model}
    ids = toy_task.ToyTask.samples
    said = "the number of samples, or their ids, changed since"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit, match=said):
        patched.setattr(toy_task.ToyTask, "samples", lambda self: ids(self)[:-1])
        run("a", **options)
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(SystemExit, match="the model .* changed since .*000001 was saved"):
        run("b", **options)


def test_a_score_that_is_no_number_is_not_the_best(run, monkeypatch):
    scores = iter([0.1, float("nan"), 0.9, 0.5, 0.1])
    monkeypatch.setattr(toy_task.ToyTask, "evaluate", lambda self, answer: {"right": next(scores)})
    folder = run(run__steps=4, run__save_every=1, run__keep=1, run__evaluate_every=1)
    assert steps_of(folder) == [2, 4]


def test_a_damaged_later_checkpoint_does_not_push_out_a_new_one(run, tmp_path):
    whole = run("whole", run__steps=4, run__save_every=2)
    (whole / "result.json").unlink()
    next((whole / "checkpoints/000004/weights").glob("__0*")).write_bytes(b"")
    run("whole", run__steps=4, run__save_every=1, run__keep=1, run__resume="auto")
    assert steps_of(whole) == [4] and (whole / "checkpoints/000004.damaged").is_dir()


def test_a_log_that_lacks_steps_or_holds_something_else_is_named(run, tmp_path):
    whole = run("whole", run__steps=3, run__save_every=1, run__keep=9)
    options = {"run__steps": 3, "run__resume": whole / "checkpoints/000003"}
    text = (whole / "metrics.jsonl").read_text()
    (whole / "metrics.jsonl").write_text(text.split("\n", 1)[1])
    with pytest.raises(SystemExit, match=r"metrics.jsonl has 2 of the 3 steps before the checkpoint"):
        run("a", **options)
    (whole / "metrics.jsonl").write_text(text.replace(text.split("\n")[1], "5"))
    with pytest.raises(SystemExit, match=r"metrics.jsonl: line 2 is not of a step"):
        run("b", **options)
