"""Published forms of loss, ratio, advantage and penalty: against numbers by hand, and against TRL's own loss."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from minigrpo import EncodedPrompt, Group, group_advantages, policy_loss
from minigrpo.losses import completion_weights
from minigrpo.ranks import Ranks
from minigrpo.reward import penalised
from minigrpo.sections import GrpoConfig, RolloutConfig
from minigrpo.task import Completion
from minigrpo.variants import (
    batch_advantages,
    cispo,
    comparison,
    decoupled_rewards,
    forking_tokens,
    overlong_penalty,
    sampler_weights,
    sapo,
    sequence_log_ratio,
    top_threshold,
    without_cut_off,
)

TRL = json.loads((Path(__file__).parents[1] / "trl_losses.json").read_text(encoding="utf-8"))
"""By tests/trl_losses.py."""
NORMALIZE = {"grpo": "sequence", "sapo": "sequence", "dapo": "token", "cispo": "token", "dr_grpo": "constant"}


def tensor(*values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


@pytest.mark.parametrize("name", TRL["cases"])
def test_loss_and_gradient_are_trls(name):
    case = TRL["cases"][name]
    options, lengths = case["options"], torch.tensor(TRL["lengths"])
    logps = tensor(*TRL["logps"], grad=True)
    old, sampler, ref = (tensor(*TRL[key]) for key in ("old", "sampler", "ref"))
    owner = torch.arange(len(lengths)).repeat_interleave(lengths)
    advantages = tensor(*TRL["advantages"])[owner]
    if options.get("vllm"):
        advantages = advantages * sampler_weights(old, sampler, 2.0)
    kind, sequence = options["loss_type"], options["level"] == "sequence"
    weights = completion_weights(lengths, NORMALIZE[kind], int(lengths.sum()), len(lengths), 1, int(lengths.max()))
    result = policy_loss(
        logps, old, advantages, weights[owner], objective=kind if kind in ("cispo", "sapo") else "grpo", ref_logps=ref,
        beta=options["beta"], kl="k3_corrected" if options.get("bias_correction") else "k3",
        clip_low=options["epsilon"], clip_high=options["epsilon_high"] - (kind == "cispo"),
        clip_max=options.get("delta", 0.0), lengths=lengths if sequence else None)
    result.loss.backward()
    assert abs(result.loss.item() - case["loss"]) < 1e-12
    assert (logps.grad - tensor(*case["gradient"])).abs().max() < 1e-12
    assert logps.grad.abs().max() > 0.01


def test_the_cases_differ():
    """Else agreement with TRL would show nothing: all see the same tokens."""
    gradients = [tuple(case["gradient"]) for case in TRL["cases"].values()]
    assert len(set(gradients)) == len(gradients) == 11 and TRL["trl"].startswith("1.16")


def test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens_ratios():
    log_ratio = tensor(math.log(2), math.log(8), math.log(3), grad=True)
    found = sequence_log_ratio(log_ratio, torch.tensor([2, 1]))
    assert found.exp().tolist() == pytest.approx([4, 4, 3])
    found[0].backward()
    assert log_ratio.grad.tolist() == [0.5, 0.5, 0]


def test_cispo_clips_the_weight_and_keeps_every_tokens_gradient():
    logps = tensor(-1.0, -1.0, -1.0, grad=True)
    surrogate, clipped = cispo(logps, tensor(0.5, 1.0, 9.0), tensor(1.0, -2.0, 1.0), 1.0)
    surrogate.sum().backward()
    assert logps.grad.tolist() == [0.5, -2, 2] and clipped.tolist() == [0, 0, 1]


def test_sapo_has_the_policy_gradient_where_policies_agree_and_fades_sooner_for_negative_advantages():
    ratio = tensor(1.0, 1.0, grad=True)
    sapo(ratio, tensor(3.0, -3.0)).sum().backward()
    assert ratio.grad.tolist() == pytest.approx([3, -3])
    far = tensor(3.0, 3.0, grad=True)
    sapo(far, tensor(1.0, -1.0)).sum().backward()
    by_hand = [4 * s * (1 - s) for s in (1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-2.1)))]
    assert far.grad.tolist() == pytest.approx([by_hand[0], -by_hand[1]]) and by_hand[0] > by_hand[1]


def test_the_second_bound_holds_where_a_bad_token_has_become_likelier():
    """Of a negative advantage the first clip is no bound: −ρ A grows with ρ."""
    for advantage, expected in ((-1.0, 3.0), (1.0, -1.2)):
        loss = policy_loss(tensor(math.log(10.0)), tensor(0.0), tensor(advantage), tensor(1.0), clip_max=3.0).loss
        assert loss.item() == pytest.approx(expected)
    assert policy_loss(tensor(math.log(10.0)), tensor(0.0), tensor(-1.0), tensor(1.0)).loss.item() == pytest.approx(10)


def test_sampler_weights_are_ratios_up_to_the_cap_and_one_for_what_was_not_drawn():
    sampler = tensor(math.log(0.5), math.log(0.1), math.log(0.8), math.nan)
    old = tensor(*[math.log(0.4)] * 4, grad=True)
    found = sampler_weights(old, sampler, 2.0)
    assert found.tolist() == pytest.approx([0.8, 2.0, 0.5, 1.0]) and not found.requires_grad


def test_an_overlong_completion_is_penalised_within_the_margin():
    assert overlong_penalty([1, 80, 90, 100], limit=100, margin=20) == [0, 0, -0.5, -1]


def test_batch_advantages_are_divided_by_the_spread_of_the_step():
    rewards = [tensor(0.0, 2.0), tensor(0.0, 10.0), tensor(1.0, 1.0)]
    spread = torch.cat(rewards).std().item()
    found = [batch_advantages(r, spread) for r in rewards]
    assert found[0].tolist() == pytest.approx([-1 / (spread + 1e-4), 1 / (spread + 1e-4)])
    assert found[1][1] == pytest.approx(5 * found[0][1].item()) and found[2].tolist() == [0, 0]


def test_terms_apart_tell_completions_that_earn_the_same_in_other_ways():
    """Two of four earn 1, by terms of different rarity."""
    terms = {"format": [1.0, 1.0, 0.0, 1.0], "right": [0.0, 0.0, 1.0, 0.0]}
    assert sum(map(torch.tensor, terms.values())).unique().numel() == 1, "summed, there is nothing to tell them apart"
    found = decoupled_rewards(terms, {"right": 2.0})
    by_hand = group_advantages(tensor(*terms["format"])) + 2 * group_advantages(tensor(*terms["right"]))
    assert torch.equal(found, by_hand) and found[2] > found[0] == found[1] == found[3]


def test_a_term_that_does_not_apply_adds_nothing():
    found = decoupled_rewards({"a": [1.0, 0.0, math.nan], "b": [math.nan, 1.0, math.nan]}, {})
    assert found.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5), 0], rel=1e-3)


@pytest.mark.parametrize(("share", "expected"), [(0.2, 5.0), (0.4, 4.0), (0.41, 3.0), (1.0, 1.0), (0.01, 5.0)])
def test_the_top_threshold_leaves_the_share_rounded_up(share, expected):
    assert top_threshold([3.0, 1.0, 5.0, 2.0, 4.0], share) == expected


# as options of a step


def context(rewards, terms=None, bad=False, **fields):
    return SimpleNamespace(rewards=tensor(*rewards), terms=terms or {"only": rewards}, bad=bad, **fields)


def test_options_change_what_is_compared():
    contexts = [context([0.0, 4.0]), context([1.0, 2.0]), context([0.0, 0.0], bad=True)]
    compare, rewards = comparison(GrpoConfig(), {}, contexts, Ranks())
    assert [compare(r).tolist() for r in rewards] == [group_advantages(c.rewards).tolist() for c in contexts]
    compare, rewards = comparison(GrpoConfig(scale="batch"), {}, contexts, Ranks())
    spread = tensor(0, 4, 1, 2).std()
    assert compare(rewards[0])[1].item() == pytest.approx(2 / (spread.item() + 1e-4)), "without the bad group"
    apart = context([2.0, 1.0], {"a": [1.0, 0.0], "b": [1.0, 1.0]})
    _, rewards = comparison(GrpoConfig(terms="apart"), {"a": 3.0}, [apart], Ranks())
    assert torch.equal(rewards[0], 3 * group_advantages(tensor(1.0, 0.0)))
    assert comparison(GrpoConfig(scale="batch"), {}, [], Ranks())[1] == []


def test_forking_tokens_are_those_of_all_groups_together():
    mask = torch.tensor([[True, True], [True, False]])
    contexts = [context([0, 1], entropies=tensor([0.9, 0.1], [0.5, 0.0]), mask=mask),
                context([0, 1], entropies=tensor([0.2, 0.8], [0.0, 0.0]), mask=mask)]
    assert forking_tokens(contexts, 1.0, Ranks()) == [None, None]
    found = forking_tokens(contexts, 0.5, Ranks())  # three of six: 0.9, 0.8, 0.5
    assert [f.tolist() for f in found] == [[[True, False], [True, False]], [[False, True], [False, False]]]
    assert forking_tokens([], 0.5, Ranks()) == []


def test_completions_that_were_cut_off_are_left_out_with_all_that_is_theirs():
    prompt = EncodedPrompt("p", torch.tensor([1, 2]), torch.arange(2)[None])
    group = Group(prompt, [torch.tensor([3]), torch.tensor([4, 5])], finished=[True, False], advantages=tensor(1, -1))
    (kept,) = without_cut_off([group, replace(group, finished=[False, False])])
    assert [c.tolist() for c in kept.completions] == [[3]] and kept.advantages.tolist() == [1]


def test_the_overlong_penalty_is_a_term_of_the_reward():
    completions = [Completion("a", 3), Completion("b", 6)]
    rollout = RolloutConfig(max_new_tokens=6, overlong=4)
    rewards, terms = penalised((tensor(1, 1), {"right": [1.0, 1.0]}), completions, rollout)
    assert rewards.tolist() == [0.75, 0.0] and terms == {"right": [1.0, 1.0], "overlong": [-0.25, -1.0]}
