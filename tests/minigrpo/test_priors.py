"""The prior takes the last slot, whether that slot was drawn or left free, and everything else stays as it was."""

from dataclasses import replace

import pytest
import tiny
import torch

from minigrpo import Group, Policy, Sampling, generate, insert_prior, pack

PRIOR = torch.tensor([70, 71, 72, 258])


@pytest.fixture(scope="module")
def vlm():
    return tiny.vlm("qwen2_5_vl")


def drawn(vlm, size):
    return generate(vlm, [vlm.encode(tiny.samples()[0])], size, Sampling(6), seed=1)[0]


def test_replacing_the_last_of_g_and_adding_to_g_minus_one_give_the_same_group(vlm):
    replaced, added = insert_prior(drawn(vlm, 4), PRIOR, 4), insert_prior(drawn(vlm, 3), PRIOR, 4)
    for group in (replaced, added):
        assert len(group.completions) == len(group.finished) == 4 and group.is_prior == [False] * 3 + [True]
        assert group.completions[3].tolist() == PRIOR.tolist() and group.finished[3]
        assert [bool(x.isnan().all()) for x in group.sampler_logps] == group.is_prior
    assert all(torch.equal(a, b) for a, b in zip(replaced.completions, added.completions, strict=True))
    assert replaced.finished == added.finished


def test_sampled_slots_stay_as_they_were_and_the_source_is_untouched(vlm):
    source = drawn(vlm, 4)
    before = [c.clone() for c in source.completions]
    group = insert_prior(source, PRIOR, 4)
    assert all(a is b for a, b in zip(group.completions[:3], source.completions[:3], strict=True))
    assert not any(source.is_prior) and len(source.completions) == 4
    assert all(torch.equal(a, b) for a, b in zip(source.completions, before, strict=True))
    assert group.prompt is source.prompt and group.finished[:3] == source.finished[:3]


def test_the_prior_is_scored_and_trained_like_the_rest(vlm):
    group = insert_prior(drawn(vlm, 3), PRIOR, 4)
    packed = pack([group])
    assert packed.is_prior.tolist() == [False, False, False, True]
    assert packed.targets[packed.is_prior[packed.owner]].tolist() == PRIOR.tolist()
    in_group = Policy(vlm)(packed).logps[packed.is_prior[packed.owner]]
    alone = Policy(vlm)(pack([Group(group.prompt, [PRIOR])])).logps
    assert torch.allclose(in_group, alone, rtol=0, atol=1e-6)
    assert in_group.requires_grad


def test_a_group_of_two_may_hold_one_sample_and_the_prior(vlm):
    assert insert_prior(drawn(vlm, 1), PRIOR, 2).is_prior == [False, True]
    assert insert_prior(drawn(vlm, 0), PRIOR, 1).completions[0].tolist() == PRIOR.tolist()


def test_what_is_not_known_of_the_samples_stays_unknown(vlm):
    group = insert_prior(Group(drawn(vlm, 0).prompt, [torch.tensor([1, 2])] * 3), PRIOR, 4)
    assert group.finished == [], "one flag for four completions"
    assert group.select([3]).is_prior == [True]


def test_a_prior_comes_before_the_advantages(vlm):
    """MPCC Eq. 5: its reward is one of those that are normalised."""
    group = replace(drawn(vlm, 4), advantages=torch.zeros(4))
    with pytest.raises(ValueError, match="one: .*advantages"):
        insert_prior(group, PRIOR, 4)


@pytest.mark.parametrize("size", [2, 5])
def test_a_group_of_another_size_is_refused(vlm, size):
    with pytest.raises(ValueError, match=f"one: {size} completions, expected 4, or 3 beside the prior"):
        insert_prior(drawn(vlm, size), PRIOR, 4)


def test_a_second_prior_or_an_empty_one_is_refused(vlm):
    with pytest.raises(ValueError, match="one: the group has a prior already"):
        insert_prior(insert_prior(drawn(vlm, 3), PRIOR, 4), PRIOR, 4)
    with pytest.raises(ValueError, match="one: the prior is empty"):
        insert_prior(drawn(vlm, 3), PRIOR[:0], 4)
