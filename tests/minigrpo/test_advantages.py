"""Group-normalised advantages: numbers of the paper, definitions, and properties of any rewards."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigrpo import group_advantages

REWARDS = st.lists(st.integers(-30, 30), min_size=2, max_size=12).map(lambda r: torch.tensor(r, dtype=torch.float64))


def one_prior(ordinary=1.0, prior=3.0, size=8):
    return torch.tensor([ordinary] * (size - 1) + [prior], dtype=torch.float64)


@pytest.mark.parametrize("unbiased, others, prior", [(False, -0.3780, 2.6458), (True, -0.3536, 2.4749)])
def test_the_papers_example(unbiased, others, prior):
    """MPCC Eq. 5: seven rewards of 1 and a prior of 3."""
    advantages = group_advantages(one_prior(), unbiased=unbiased, eps=0.0)
    assert [round(a, 4) for a in advantages.tolist()] == [others] * 7 + [prior]
    if not unbiased:
        assert advantages[-1].item() == pytest.approx(math.sqrt(7), abs=1e-12)


def test_a_prior_below_the_groups_mean_gets_a_negative_advantage():
    assert group_advantages(one_prior(3.0, 1.0))[-1] < -2


def test_eps_is_added_to_the_sample_deviation_by_default():
    rewards = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    expected = [(r - 2) / (math.sqrt(7) + 1e-4) for r in (0, 1, 5)]  # variance (4 + 1 + 9) / 2
    assert group_advantages(rewards).tolist() == pytest.approx(expected, abs=1e-12)
    assert group_advantages(rewards, eps=3.0)[2].item() == pytest.approx(3 / (math.sqrt(7) + 3), abs=1e-12)


def test_without_scaling_only_the_mean_is_taken_off():
    assert group_advantages(torch.tensor([0.0, 1.0, 5.0]), "none").tolist() == [-2, -1, 3]
    assert group_advantages(torch.tensor([[4.0]]), "none").tolist() == [[0.0]]


@given(REWARDS)
def test_leave_one_out_compares_with_the_mean_of_the_others(rewards):
    r = rewards.tolist()
    expected = [x - (sum(r) - x) / (len(r) - 1) for x in r]
    assert group_advantages(rewards, "loo").tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", ["std", "none", "loo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -0.7, 2.6, 1e30, 1e-30])
def test_a_group_without_variance_gets_exactly_zero(scale, dtype, value):
    for size in range(2, 12):
        advantages = group_advantages(torch.full((size,), value, dtype=dtype), scale, eps=0.0)
        assert advantages.dtype == dtype and advantages.tolist() == [0.0] * size


def test_a_plain_mean_leaves_rounding_noise_that_is_not_zero():
    """Why equality is tested, not the deviation: without that test such a group would train on noise."""
    noisy = [n for n in range(2, 12) if (torch.full((n,), 0.1) - torch.full((n,), 0.1).mean()).any()]
    assert noisy


def test_groups_do_not_mix_and_a_flat_one_does_not_silence_the_others():
    rewards = torch.tensor([[[1.0, 1, 1], [0, 1, 2]], [[5, 5, 8], [0.1, 0.1, 0.1]]])
    advantages = group_advantages(rewards)
    assert advantages.shape == rewards.shape
    for i in range(2):
        for j in range(2):
            assert torch.equal(advantages[i, j], group_advantages(rewards[i, j]))
    assert not advantages[0, 0].any() and not advantages[1, 1].any()
    assert advantages[0, 1].abs().max() > 0.9 and advantages[1, 0].abs().max() > 0.9


@given(REWARDS, st.sampled_from(["std", "none", "loo"]), st.booleans())
def test_advantages_sum_to_zero_and_keep_the_order(rewards, scale, unbiased):
    advantages = group_advantages(rewards, scale, unbiased)
    assert advantages.isfinite().all() and abs(advantages.sum().item()) < 1e-9
    assert torch.equal(rewards[:, None] > rewards, advantages[:, None] > advantages)


@given(REWARDS, st.integers(-50, 50), st.integers(1, 9), st.booleans())
def test_advantages_ignore_shift_and_scale(rewards, shift, factor, unbiased):
    advantages = group_advantages(rewards, unbiased=unbiased, eps=0.0)
    moved = group_advantages(rewards * factor + shift, unbiased=unbiased, eps=0.0)
    assert torch.allclose(advantages, moved, rtol=0, atol=1e-9)
    if rewards.min() < rewards.max():
        assert advantages.std(correction=int(unbiased)).item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("scale", ["std", "none", "loo"])
def test_the_arithmetic_is_float64_whatever_is_given(scale):
    rewards = torch.tensor([1e8, 1e8 + 8, 1e8 + 24, 1e8 + 64])  # each exact in float32, their mean is not
    ours = group_advantages(rewards, scale)
    exact = group_advantages(rewards.double(), scale)
    assert ours.dtype == torch.float32 and torch.equal(ours, exact.float())
    assert torch.allclose(exact, group_advantages(rewards.double() - 1e8, scale), rtol=0, atol=1e-6)
    assert torch.equal(group_advantages(rewards.long(), scale), exact), "integers are rewards too"
    assert group_advantages(torch.tensor([1e8, 1e8 + 1], dtype=torch.float64), "none").tolist() == [-0.5, 0.5]
    assert group_advantages(torch.tensor([1e8, 1e8 + 1]), "none").tolist() == [0, 0], "equal as they were given"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rewards_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="rewards must be finite, got"):
        group_advantages(torch.tensor([[1.0, 2.0], [1.0, bad]]))


@pytest.mark.parametrize("scale", ["std", "loo"])
def test_one_completion_has_nothing_to_be_compared_with(scale):
    with pytest.raises(ValueError, match="at least 2, not 1"):
        group_advantages(torch.tensor([1.0]), scale)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale is std, none or loo, not 'mad'"):
        group_advantages(torch.tensor([1.0, 2.0]), "mad")
