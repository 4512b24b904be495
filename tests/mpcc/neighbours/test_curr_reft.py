"""Curr-ReFT: the forms of a question, what a choice is worth, the stages, and imitation by advantages."""

import re

import pytest
import torch
from kept_scenes import kept_scenes  # noqa: F401
from running import ROOT, lines, same, untimed

from minigrpo import Completion, Policy, load_model, pack
from minigrpo.config import parse_config
from minigrpo.layout import Group
from minigrpo.losses import completion_weights, policy_loss
from mpcc.neighbours.curr_reft import Config, CurrReft, Form, Rejection, choice_reward
from mpcc.prompts import completion

NAME = "mpcc.neighbours.curr_reft:CurrReft"
TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__prompts_per_step": 2, "rollout__max_new_tokens": 12,
        "rollout__group_size": 3, "task__held_out": 0, "task__traces": 0.0}


@pytest.fixture
def whole():
    return CurrReft(Config())


@pytest.mark.parametrize(("answer", "true", "worth"), [
    ("A, C", "A, C", 1.0), ("C and A", "A, C", 1.0), ("A", "A, C", 0.2), ("C, C", "A, C", 0.2), ("A, B", "A, C", 0.0),
    ("A, B, C", "A, C", 0.0), ("B", "A, C", 0.0), ("", "A, C", 0.0), ("a", "A, C", 0.0), ("B", "B", 1.0),
    ("A", "B", 0.0), ("A, B", "B", 0.0), ("dog", "B", 0.0), ("A.dog", "A, C", 0.2), ("Dog", "D", 0.0),
])
def test_what_a_choice_is_worth(answer, true, worth):
    assert choice_reward(completion("Look.", answer), true) == worth


def test_a_choice_without_an_answer_is_worth_nothing():
    assert choice_reward("", "A") == choice_reward("A", "A") == choice_reward("<answer>A", "A") == 0.0


def test_choice_questions_ask_for_what_is_in_the_picture(whole):
    form = Form(whole, "choice")
    counts = set()
    for i in range(40):
        sample, pair = form.samples()[i], whole.samples().pairs[i]
        listed = dict(re.findall(r"([A-D])\.([a-z ]+?)(?= [A-D]\.| Give)", sample.question))
        here = {region.category for region in whole.samples().coco.by_image[pair.image.id]}
        true = {letter for letter, name in listed.items() if name in here}
        assert len(listed) == len(set(listed.values())) == 4 and pair.answer in listed.values()
        assert sample.data["answer"] == ", ".join(sorted(true)) and sample.id == pair.id
        assert sample.prior == completion(pair.trace, sample.data["answer"]) and pair.trace
        assert sample.question == form.samples()[i].question and sample.question.startswith("A black rectangle hides")
        counts.add(len(true))
    assert counts == {1, 2}


def test_binary_questions_are_true_half_of_the_time(whole):
    form = Form(whole, "binary")
    said = []
    for i in range(60):
        sample, pair = form.samples()[i], whole.samples().pairs[i]
        name = re.search(r"Is the hidden object a (.+)\?", sample.question)[1]
        assert sample.data["answer"] == ("yes" if name == pair.answer else "no")
        said.append(sample.data["answer"])
    assert 20 < said.count("yes") < 40
    assert len(form.samples()) == len(whole.samples())


def test_rewards_of_the_forms(whole):
    binary, choice = Form(whole, "binary"), Form(whole, "choice")
    sample = binary.samples()[0]
    texts = [completion("x", sample.data["answer"]), "yes", "no", completion("x", "both"), ""]
    found = binary.reward(sample, [Completion(t) for t in texts])
    bare = [float(sample.data["answer"] == word) for word in ("yes", "no")]
    assert found == {"format": [1.0, 0.0, 0.0, 1.0, 0.0], "exact": [1.0, *bare, 0.0, 0.0]}
    sample = choice.samples()[0]
    found = choice.reward(sample, [Completion(completion("x", sample.data["answer"])), Completion("no")])
    assert found == {"format": [1.0, 0.0], "exact": [1.0, 0.0]}
    assert choice.shown_answer(sample) == sample.data["answer"]


def stages_of(steps, **options):
    made = CurrReft(Config(**options))
    config, _ = parse_config(["--run.steps", str(steps)], NAME)
    return [(stage.name, stage.steps, type(stage.task).__name__) for stage in made.stages(config)]


def test_stages_share_the_steps():
    assert stages_of(40) == [("binary", 8, "Form"), ("choice", 8, "Form"), ("open", 16, "NoneType"),
                             ("reject", 8, "Rejection")]
    assert stages_of(40, binary=0.0, reject=0.0) == [("choice", 8, "Form"), ("open", 32, "NoneType")]
    assert stages_of(10, binary=1.0, choice=0.0, reject=0.0) == [("binary", 10, "Form")]
    assert stages_of(40, curriculum=False) == [("rft", 40, "NoneType")] and stages_of(0) == [("rft", 0, "NoneType")]


def test_the_advantage_of_imitation_is_one_where_everything_is_earned(whole):
    part = Rejection(whole)
    context = type("Context", (), {"rewards": torch.tensor([3.0, 2.9, 0.0, 3.0], dtype=torch.float64)})
    assert part.advantages(context).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert part.advantages(type("Context", (), {"rewards": torch.zeros(1)})).tolist() == [0.0]
    assert part.slots(whole.samples()[0]) == [] and part.samples() is whole.samples()
    scripted = CurrReft(Config(reward="scripted"))
    exact = scripted.reward(scripted.samples()[0], [Completion(completion("x", scripted.samples()[0].data["answer"]))])
    earned = sum(scripted.reward_weights[name] * values[0] for name, values in exact.items())
    assert Rejection(scripted).advantages(type("C", (), {"rewards": torch.tensor([earned])})).tolist() == [1.0]


def test_its_gradient_is_that_of_the_log_likelihood_of_what_was_right(whole):
    policy = Policy(load_model(ROOT / "mpcc/scenes/model", dtype=torch.float32))
    texts = [policy.vlm.encode_completion(text) for text in ("a dog", "no", "a cup of tea")]
    prompt = policy.vlm.encode(whole.samples()[0])
    advantages = torch.tensor([1.0, 0.0, 1.0])
    batch = pack([Group(prompt, texts, rewards=advantages, advantages=advantages)])
    head = policy.vlm.net.get_input_embeddings().weight

    def gradient(loss_of):
        head.grad = None
        loss_of(policy(batch).logps).backward()
        return head.grad.clone()

    total = sum(map(len, texts))
    weights = completion_weights(batch.lengths, "token", total, 3, 1, 64)[batch.owner].float()
    found = gradient(lambda logps: policy_loss(logps, logps.detach(), batch.advantages[batch.owner], weights).loss)
    wanted = gradient(lambda logps: -sum(logps[batch.owner == i].sum() for i in (0, 2)) / total)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_a_run_goes_through_all_stages(run):
    folder = run("run", **TINY, task=NAME, run__steps=4, task__binary=0.25, task__choice=0.25, task__reject=0.25)
    found = lines(folder)
    assert len(found) == 4 and all((folder / name).is_dir() for name in ("model-binary", "model-choice", "model-open"))
    assert ["reward/levenshtein" in line for line in found] == [False, False, True, True]


def test_closed_it_is_plain_grpo_bit_for_bit(run):
    options = {**TINY, "run__steps": 2}
    closed = run("closed", **options, task=NAME, task__curriculum="false")
    plain = run("plain", **options, task="mpcc.task:MaskedPrediction")
    assert untimed(closed) == untimed(plain) and same(closed / "model", plain / "model")


@pytest.mark.parametrize(("options", "said"), [
    ({"binary": -0.1}, "binary = -0.1 must be between 0 and 1"), ({"choice": 2.0}, "choice = 2.0"),
    ({"reject": 0.7}, r"binary \+ choice \+ reject = 1.1 must be 1 at most"), ({"held_out": -1}, "held_out = -1"),
])
def test_impossible_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        CurrReft(Config(**options))
