"""The strategies of train.py: imitation against transformers' own loss, chained stages, the share of traces, ranks."""

import json

import pytest
import tiny
import torch
from running import SMALL, launch, lines, result, same, untimed, weights
from small_coco import Config, pair, pairs_file
from toy_task import NAME
from transformers import Qwen2_5_VLForConditionalGeneration

from minigrpo import load_model
from minigrpo.config import ConfigError, parse_config
from minigrpo.sections import STRATEGIES
from mpcc.task import MaskedPrediction

SFT = {"task__priors": "true", "task__prior_text": "words of 5 sorts", "task__images_every": 3, "sft__steps": 2,
       "sft__prompts_per_step": 6, "sft__lr": 1e-3, "model__dtype": "float64"}


def test_imitation_is_the_loss_and_the_step_of_transformers_own_model(run, models):
    folder = run(run__stages="sft", optim__weight_decay=0, optim__max_grad_norm=1e9, **SFT | {"sft__steps": 1})
    vlm = load_model(models / "qwen2_5_vl", dtype=torch.float64)
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(models / "qwen2_5_vl", dtype=torch.float64)
    config, task_class = parse_config(["--task.priors", "true", "--task.images_every", "3",
                                       "--task.prior_text", "words of 5 sorts"], NAME)
    taught = [sample for sample in task_class(config.task).samples() if sample.prior]
    assert len(taught) == 3 and any(s.images for s in taught) and not all(s.images for s in taught)
    total, count = 0.0, 0
    for sample in taught:
        prompt, tokens = vlm.encode(sample), vlm.encode_completion(sample.prior)
        logits = plain(**tiny.plain_inputs(vlm, prompt, tokens)).logits.index_fill(-1, vlm.banned_ids, float("-inf"))
        labels = torch.cat([torch.full_like(prompt.input_ids, -100), tokens])[None]
        loss = plain.loss_function(logits, labels, vocab_size=logits.shape[-1])  # the shift is transformers' own
        total, count = total + loss * len(tokens), count + len(tokens)
    (total / count).backward()
    logged = lines(folder)[0]
    assert logged["loss"] == pytest.approx((total / count).item(), rel=1e-6)
    assert logged["logprob/prior"] == pytest.approx(-logged["loss"], rel=1e-9)
    norm = torch.stack([p.grad.norm() for p in plain.parameters() if p.grad is not None]).norm().item()
    assert logged["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_imitation_makes_the_trajectories_likelier_and_only_them_matter(run):
    folder = run(run__stages="sft", **SFT | {"sft__steps": 30, "sft__lr": 5e-3})
    losses = [line["loss"] for line in lines(folder)]
    assert losses[-1] < 0.5 * losses[0] and "reward" not in lines(folder)[0]
    assert result(folder)["steps"] == 30 and not (folder / "completions.jsonl").exists()


def test_a_chain_of_stages_is_the_one_after_the_other(run, tmp_path):
    options = SFT | {"grpo__prior": "false", "grpo__beta": 0.1}
    chain = run("chain", run__stages="sft+rft", **options)
    alone = run("alone", run__stages="sft", **options)
    after = run("after", **options | {"model.path": alone / "model"})
    assert same(chain / "model-sft", alone / "model") and same(chain / "model", after / "model")
    assert not same(chain / "model-sft", chain / "model")
    assert [line["step"] for line in lines(chain)] == [1, 2, 3, 4]
    strip = lambda found: [{k: v for k, v in line.items() if k != "step"} for line in untimed(found)]  # noqa: E731
    assert strip(chain) == strip(alone) + strip(after)
    found = result(chain)
    assert found["after_sft"] == result(alone)["after"] == result(after)["before"] and found["steps"] == 4
    assert found["before"] == result(alone)["before"] and found["after"] == result(after)["after"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_its_options(name):
    config, _ = parse_config(["--strategy", name], NAME)
    assert config.run.stages == ("rft" if name == "rft+prior" else name)
    assert config.grpo.prior is (name in ("rft+prior", "sft"))


@pytest.mark.parametrize(("argv", "expected"), [
    (["--strategy", "magic"], r"--strategy: invalid choice: 'magic' \(choose from .*sft\+rft"),
    (["--strategy", "rft", "--grpo.prior", "true"], "sets grpo.prior: give one of the two"),
    (["--sft.steps", "-1"], "sft.steps must be at least 0"),
])
def test_an_impossible_strategy_is_refused(argv, expected):
    with pytest.raises(ConfigError, match=expected):
        parse_config(argv, NAME)


def test_imitation_without_trajectories_is_refused(run):
    with pytest.raises(SystemExit, match="none of 6 samples has an annotated trajectory"):
        run(run__stages="sft", **SFT | {"task__priors": "false"})


@pytest.mark.parametrize(("share", "expected"), [(1.0, 8), (0.5, 4), (0.25, 2), (0.0, 0)])
def test_a_share_of_the_traces_is_kept_the_same_ones_every_time(coco, tmp_path, share, expected):
    file = pairs_file(tmp_path / "pairs.json", *[
        pair(file_name="1.png", bbox=[20, 20, 40, 40], cot_data=f"clue {i}" if i < 8 else ...) for i in range(12)
    ])
    priors = lambda s: [x.prior for x in MaskedPrediction(Config(str(coco), file, traces=s)).samples()]  # noqa: E731
    found = priors(share)
    assert len(found) == 12 and sum(p is not None for p in found) == expected and found == priors(share)
    assert all(more is not None for some, more in zip(priors(0.25), priors(0.5), strict=True) if some is not None)


def test_a_share_beyond_one_is_refused(coco):
    with pytest.raises(ValueError, match=r"traces = 1.5 must be a share between 0 and 1"):
        MaskedPrediction(Config(str(coco), traces=1.5))


def test_every_strategy_takes_two_steps_on_two_ranks_as_on_one(models, tmp_path, run):
    options = {"model.path": models / "qwen2_5_vl", "task.priors": "true", "task.images_every": 3, **SMALL,
               "sft.steps": 2, "sft.prompts_per_step": 6, "model.dtype": "float64"}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    cases = [([*words, "--strategy", name, "--run.dir", str(tmp_path / f"two-{name}")], 0, 1000) for name in STRATEGIES]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    done = launch(tmp_path, "cases.json", program="tests/toy_task.py")
    assert done.returncode == 0, done.stderr
    for name in STRATEGIES:
        one = run(f"one-{name}", **{key.replace(".", "__"): value for key, value in options.items()
                                    if key not in ("model.path", *SMALL)}, **as_options(name))
        two = tmp_path / f"two-{name}"
        assert [x["loss"] for x in lines(two)] == pytest.approx([x["loss"] for x in lines(one)], rel=1e-9, abs=1e-12)
        a, b = weights(one / "model"), weights(two / "model")
        assert max((a[key] - b[key]).abs().max().item() for key in a) < 1e-9
        assert len(lines(two)) == (4 if name == "sft+rft" else 2)


def as_options(name):
    return {key.replace(".", "__"): value for key, value in STRATEGIES[name].items()}
