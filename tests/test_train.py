"""train.py from its command line to its run folder: what it writes, what it learns, what makes it skip a step."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_task
from PIL import Image
from running import TIMED, lines, result, same, untimed, weights
from small_coco import pair, pairs_file
from toy_task import letters

import train
from minigrpo import group_advantages, load_model, step


def test_a_run_folder_holds_all_that_a_person_needs_and_its_config_repeats_the_run(run, monkeypatch, tmp_path):
    folder = run(curves=True, task__images_every=3, task__priors="true", run__steps=3, grpo__beta=0.1)
    assert {path.name for path in folder.iterdir()} == {
        "config.toml", "metrics.jsonl", "completions.jsonl", "result.json", "curves.png", "model", "checkpoints",
        ".lock"}
    assert [line["step"] for line in lines(folder)] == [1, 2, 3]
    wanted = {"reward", "reward/letters", "reward/exact", "kl", "entropy", "length", "cut_off", "zero_variance",
              "loss", "grad_norm", "lr", "skipped", "idle", "clipped", "logprob/sampled", "logprob/prior",
              "prior_advantage", "sampler/mean_difference", "sampler/max_difference",
              *TIMED} - {"seconds/views"}  # nothing is scored under views
    assert all(wanted <= line.keys() for line in lines(folder))
    assert result(folder).keys() == {"before", "after", "steps", "seconds", "troubles"}
    assert result(folder)["steps"] == 3 and result(folder)["seconds"] > 0
    assert "exact_match" in result(folder)["before"] and "exact_match" in result(folder)["after"]
    for line in lines(folder, "completions"):
        assert line["question"].startswith("write ") and line["terms"].keys() == {"letters", "exact"}
        assert line["reward"] == pytest.approx(line["terms"]["letters"] + 0.5 * line["terms"]["exact"])
    pixels = np.asarray(Image.open(folder / "curves.png").convert("L"))
    assert min(pixels.shape) > 300 and pixels.std() > 10

    monkeypatch.setattr("minigrpo.log.draw_curves", lambda path, history: None)  # once is enough
    again = ["--config", str(folder / "config.toml"), "--run.dir", str(tmp_path / "again")]
    monkeypatch.setattr(sys, "argv", ["train.py", *again])
    train.main()
    assert untimed(tmp_path / "again") == untimed(folder)
    assert lines(tmp_path / "again", "completions") == lines(folder, "completions")
    assert same(tmp_path / "again" / "model", folder / "model")


def test_no_steps_only_evaluate(run, models):
    folder = run(run__steps=0)
    assert result(folder)["before"] == result(folder)["after"] and result(folder)["steps"] == 0
    assert lines(folder) == []
    assert same(folder / "model", models / "qwen2_5_vl")


@pytest.mark.parametrize("prompts", [0, 1, 3])
def test_the_best_and_the_worst_completion_of_some_prompts_are_written(run, tmp_path, prompts):
    folder = run(run__log_completions=prompts, run__steps=1, task__record=tmp_path / "asked")
    written = lines(folder, "completions") if prompts else []
    assert len(written) == 2 * prompts
    for call, best, worst in zip(lines(tmp_path / "asked", "0"), written[::2], written[1::2], strict=False):
        shares = [letters(text) for text in call["texts"]]
        assert best["id"] == worst["id"] == call["id"]
        assert (best["terms"]["letters"], worst["terms"]["letters"]) == (max(shares), min(shares))


def test_the_weight_of_the_kl_may_fall(run):
    options = {"grpo__beta": 2.0, "run__steps": 3}
    constant, cosine = (run(name, **options, grpo__beta_schedule=name) for name in ("constant", "cosine"))
    assert untimed(constant)[0] == untimed(cosine)[0], "it begins at beta"
    losses = [[line["loss"] for line in lines(folder)] for folder in (constant, cosine)]
    assert losses[0][1] != losses[1][1] and not same(constant / "model", cosine / "model")


def test_another_seed_is_another_run(run):
    assert untimed(run("a")) != untimed(run("b", run__seed=1))


def test_half_precision_trains(run, models):
    folder = run(model__dtype="bfloat16", optim__lr=1e-2)
    moved = weights(folder / "model")
    assert {w.dtype for w in moved.values()} == {torch.bfloat16}
    assert all(np.isfinite(line["grad_norm"]) and line["skipped"] == 0 for line in lines(folder))
    start = weights(models / "qwen2_5_vl")
    assert max(float((moved[key] - start[key].bfloat16()).abs().max()) for key in start) > 5e-3


def test_a_task_without_priors_is_plain_grpo_bit_for_bit(run):
    with_hook, without = run("true", grpo__prior="true"), run("false", grpo__prior="false")
    assert untimed(with_hook) == untimed(without)
    assert same(with_hook / "model", without / "model")


def test_a_prior_takes_the_last_slot_and_its_reward_is_one_of_the_group(run, tmp_path):
    options = {"task__priors": "true", "rollout__prompts_per_step": 6, "run__log_completions": 99, "run__steps": 1}
    plain = run("plain", grpo__prior="false", task__record=tmp_path / "plain-asked", **options)
    prior = run("prior", grpo__prior="true", task__record=tmp_path / "prior-asked", **options)
    drawn = {call["id"]: call["texts"] for call in lines(tmp_path / "plain-asked", "0")}
    texts = {call["id"]: call["texts"] for call in lines(tmp_path / "prior-asked", "0")}
    assert len(drawn) == 6
    for i in range(6):
        with_prior = i % 2 == 1
        own = drawn[f"toy-{i}"]
        assert texts[f"toy-{i}"] == ([*own[:-1], "words"] if with_prior else own)
    logged = [line for line in lines(prior, "completions") if line["prior"]]
    assert {line["id"] for line in logged} == {"toy-1", "toy-3", "toy-5"}
    for line in logged:
        rewards = [letters(text) + 0.5 * (letters(text) > 0.5) for text in texts[line["id"]]]
        assert line["text"] == "words" and line["reward"] == pytest.approx(rewards[-1])
        assert line["advantage"] == pytest.approx(float(group_advantages(torch.tensor(rewards))[-1]), rel=1e-5)
    expected = np.mean([line["advantage"] for line in logged])
    assert lines(prior)[0]["prior_advantage"] == pytest.approx(expected, rel=1e-6)
    assert lines(prior)[0]["prior_positive"] == np.mean([line["advantage"] > 0 for line in logged])
    assert not any(line["prior"] for line in lines(plain, "completions"))
    assert "prior_advantage" not in lines(plain)[0]


def test_an_evaluation_on_the_way_is_that_of_a_run_that_ends_there(run):
    constant = {"optim__schedule": "constant", "optim__warmup": 0, "optim__lr": 0.02}
    longer = run("longer", run__steps=5, run__evaluate_every=2, **constant)
    found = [{k: v for k, v in line.items() if k.startswith("held_out/")} for line in lines(longer)]
    assert [bool(figures) for figures in found] == [False, True, False, True, False]
    ended = result(run("ended", run__steps=2, **constant))
    assert found[1] == {f"held_out/{name}": value for name, value in ended["after"].items()}
    assert ended["after"]["letters"] != ended["before"]["letters"]


def test_a_trajectory_that_no_completion_could_have_written_is_refused(run):
    with pytest.raises(SystemExit, match=r"prior of sample toy-\d has 11 tokens, more than rollout.max_new_tokens = 6"):
        run(task__priors="true", task__prior_text="words only")
    run("imitated", run__stages="sft", sft__steps=1, sft__prompts_per_step=4, task__priors="true",
        task__prior_text="words only")


def test_the_prior_does_not_count_as_the_models_own(run, tmp_path):
    folder = run(task__priors="true", run__steps=1, task__record=tmp_path / "asked")
    calls = lines(tmp_path / "asked", "0")
    own = [t for call in calls for t in (call["texts"][:-1] if call["texts"][-1] == "words" else call["texts"])]
    assert len(own) < 4 * 3
    assert lines(folder)[0]["reward/letters"] == pytest.approx(np.mean([letters(t) for t in own]))
    assert lines(folder)[0]["length"] <= 6


def test_priors_stop_where_prior_until_says(run):
    folder = run(task__priors="true", grpo__prior_until=2, run__steps=4, rollout__prompts_per_step=6,
                 run__log_completions=99)
    assert ["prior_advantage" in line for line in lines(folder)] == [True, True, False, False]
    assert {line["step"] for line in lines(folder, "completions") if line["prior"]} == {1, 2}


def spoil(monkeypatch, steps):
    """Makes the loss of these steps (one update each, from 0) infinite."""
    seen = []

    def spoiled(*args, **options):
        result = policy_loss(*args, **options)
        seen.append(None)
        return replace(result, loss=result.loss * float("inf")) if len(seen) - 1 in steps else result

    policy_loss = step.policy_loss
    monkeypatch.setattr(step, "policy_loss", spoiled)


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(run, monkeypatch):
    spoil(monkeypatch, {1})
    folder = run(run__steps=3, run__max_bad_steps=2)
    assert [line["skipped"] for line in lines(folder)] == [0, 1, 0]
    assert [line["grad_norm"] is None for line in lines(folder)] == [False, True, False]
    assert all(w.isfinite().all() for w in weights(folder / "model").values())


def test_skipped_steps_change_no_weight(run, monkeypatch, models):
    spoil(monkeypatch, {0, 1})
    folder = run(run__max_bad_steps=3)
    assert same(folder / "model", models / "qwen2_5_vl")


def test_bad_steps_in_a_row_end_the_run_with_what_it_saw(run, monkeypatch, tmp_path):
    spoil(monkeypatch, {1, 2, 3})
    with pytest.raises(SystemExit) as stopped:
        run(run__steps=9, run__max_bad_steps=3)
    expected = r"train.py: error: step 4: the gradient was not finite in 3 of the last \d steps"
    assert re.match(expected, stopped.value.code)
    assert "\n" not in stopped.value.code
    assert len(lines(tmp_path / "run")) == 4


def test_a_step_without_an_update_after_a_bad_one_is_no_skipped_step(run, monkeypatch, tmp_path):
    spoil(monkeypatch, {0})
    folder = run(task__prompts=2, rollout__prompts_per_step=1, task__flat_every=2, task__record=tmp_path / "asked")
    assert [call["flat"] for call in lines(tmp_path / "asked", "0")] == [False, True]
    assert [line["skipped"] for line in lines(folder)] == [1, 0]


def test_a_skipped_update_counts_though_the_next_one_of_its_step_is_good(run, monkeypatch):
    spoil(monkeypatch, {0})
    folder = run(grpo__updates_per_rollout=2)
    assert [line["skipped"] for line in lines(folder)] == [1, 0]


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_run_whose_rewards_never_vary_ends_with_the_weights_it_began_with(run, models, beta):
    """Neither weight decay nor the rounding of the KL, which Adam would scale up to whole steps, moves them."""
    folder = run(task__flat_every=1, grpo__beta=beta, optim__weight_decay=0.5)
    assert [line["idle"] for line in lines(folder)] == [1, 1]
    assert [(line["skipped"], line["zero_variance"]) for line in lines(folder)] == [(0, 1), (0, 1)]
    assert same(folder / "model", models / "qwen2_5_vl")


def test_a_toy_run_learns(run, models):
    """Reward from chance to far above it in 30 steps; a wrong sign or a zero advantage stays at or below chance."""
    folder = run(model__path=models / "qwen2", task__prompts=8, task__held_out=8, run__steps=30, rollout__group_size=8,
                 rollout__prompts_per_step=8, rollout__max_new_tokens=8, optim__lr=1e-2)
    rewards = [line["reward/letters"] for line in lines(folder)]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:3]) + 0.4
    assert result(folder)["after"]["letters"] > result(folder)["before"]["letters"] + 0.4
    trained = load_model(folder / "model")
    assert trained.net.config.model_type == "qwen2"


def test_an_authors_file_with_a_trace_trains_with_priors(run, coco, tmp_path):
    records = [pair(file_name=f"{i}.png", bbox=[20, 20, 40, 40], category_name=name, cot_data="It stands there.")
               for i, name in ((1, "dog"), (2, "stop sign"), (3, "cup"))]
    pairs = pairs_file(tmp_path / "pairs.json", *records)
    folder = run(task="mpcc.task:MaskedPrediction", task__coco=coco, task__pairs=pairs, rollout__prompts_per_step=3,
                 rollout__max_new_tokens=80, run__log_completions=99)
    priors = [line for line in lines(folder, "completions") if line["prior"]]
    assert re.match(r"<think>\s*It stands there\.\s*</think>", priors[0]["text"]) and priors[0]["reward"] == 3
    assert priors[0]["answer"] in ("dog", "stop sign", "cup")
    assert {"exact_match", "format", "n"} <= result(folder)["before"].keys()


def test_troubles_are_named_with_their_samples_and_counted(run, monkeypatch):
    folder = run(task__flat_every=1, run__steps=6)
    first, *_, last = (folder / "warnings.txt").read_text(encoding="utf-8").splitlines()
    assert re.match(r"steps 1 to 5: no group had two different .* \(above all in toy-\d, toy-\d, toy-\d\)$", first)
    assert result(folder)["troubles"]["idle"] == 6
    assert last == "no step of this run changed the weights: all were idle or skipped"


def test_a_trouble_of_stop_on_ends_the_run_and_saves_it(run, tmp_path):
    with pytest.raises(SystemExit, match=r"steps 1 to 5: no group .* as run.stop_on says \(saved after step 5"):
        run(task__flat_every=1, run__steps=9, run__save_every=4, run__stop_on="kl, idle")
    assert len(lines(tmp_path / "run")) == 5


def test_a_loss_that_is_not_finite_skips_the_step_and_names_the_sample(run, monkeypatch):
    """Its gradient is finite: a constant is added to the loss."""
    seen, accumulated = [], step.accumulate

    def spoiled(*args):
        seen.append(None)
        return accumulated(*args) + (float("inf") if len(seen) == 1 else 0.0)

    monkeypatch.setattr(step, "accumulate", spoiled)
    folder = run(run__steps=3)
    assert [line["skipped"] for line in lines(folder)] == [1, 0, 0]
    assert result(folder)["troubles"]["skipped"] == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_groups_with_a_bad_reward_are_left_out_where_that_is_wanted(run, monkeypatch, value, tmp_path):
    reward = toy_task.ToyTask.reward

    def spoiled(self, sample, completions):
        terms = reward(self, sample, completions)
        return terms | {"letters": [value] * len(completions)} if sample.id == "toy-1" else terms

    monkeypatch.setattr(toy_task.ToyTask, "reward", spoiled)
    folder = run(run__stop_on="", run__steps=2, rollout__prompts_per_step=6)
    assert [line["bad_rewards"] for line in lines(folder)] == [1 / 6, 1 / 6]
    assert all(line["reward"] is not None and line["reward/letters"] is not None for line in lines(folder))
    said = (folder / "warnings.txt").read_text(encoding="utf-8")
    assert "17% of the groups had a reward that is no finite number; they were left out" in said
    assert "Mend the reward (above all in toy-1)" in said
    with pytest.raises(SystemExit, match="sample toy-1: term 'letters' is (nan|inf)"):
        run("other", run__steps=2, rollout__prompts_per_step=6)


def test_a_picture_never_ends_a_run(run, monkeypatch, capsys):
    def full(path, history):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("minigrpo.log.draw_curves", full)
    folder = run(curves=True, run__steps=1)
    assert result(folder)["steps"] == 1
    assert "curves.png cannot be drawn: [Errno 28] No space left on device" in capsys.readouterr().out
