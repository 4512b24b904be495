"""The task contract: how terms add up to a reward, which rewards are refused, and which samples a step takes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minigrpo.reward import weigh
from minigrpo.sampler import Outcome, Sampler, outcomes
from minigrpo.task import Completion, Sample, Task


class Weighted(Task):
    reward_weights = {"half": 0.5}


SAMPLE = Sample("an-id", "a question")
TWO = [Completion("first"), Completion("second")]


def test_the_reward_is_the_weighted_sum_and_terms_stay_as_they_are():
    terms = {"plain": [1.0, 2.0], "half": [4.0, -2.0]}
    rewards, seen = weigh(Weighted(None), SAMPLE, TWO, terms)
    assert rewards.tolist() == [3.0, 1.0] and rewards.dtype is torch.float64
    assert seen == terms


@pytest.mark.parametrize("values", [[1, True], np.array([1.0, 1.0], np.float32), torch.ones(2), (np.int64(1), 1.0)])
def test_numbers_of_any_kind_are_numbers(values):
    rewards, terms = weigh(Task(None), SAMPLE, TWO, {"x": values})
    assert rewards.tolist() == terms["x"] == [1.0, 1.0] and type(terms["x"][0]) is float


def test_rewards_that_float32_cannot_tell_apart_differ():
    rewards, _ = weigh(Task(None), SAMPLE, TWO, {"x": [1e8, 1e8 + 1]})
    assert rewards[0] != rewards[1]


def test_a_term_that_does_not_apply_adds_nothing():
    rewards, terms = weigh(Task(None), SAMPLE, TWO, {"x": [1.0, None], "y": [None, 2.0], "z": [None, None]})
    assert rewards.tolist() == [1.0, 2.0]
    assert math.isnan(terms["x"][1]) and terms["y"][1] == 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", [1.0], "x", {}, 10**400, 1j])
def test_what_is_no_finite_number_is_refused_with_task_sample_term_and_text(bad):
    with pytest.raises(ValueError, match=r"Task\.reward, sample an-id: term 'plain' is .* for completion 'second'"):
        weigh(Task(None), SAMPLE, TWO, {"plain": [1.0, bad]})


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_another_number_of_values_than_completions_is_refused(values):
    with pytest.raises(ValueError, match=f"sample an-id: term 'plain' has {len(values)} values for 2 completions"):
        weigh(Task(None), SAMPLE, TWO, {"plain": values})


@pytest.mark.parametrize(("terms", "message"), [
    ({}, "no reward terms"), (None, "no reward terms"), ([1.0, 2.0], "no reward terms"),
    ({"plain": 1.0}, "term 'plain' has 1.0 for 2 completions"),
    ({"plain": torch.tensor(1.0)}, r"term 'plain' has tensor\(1.\) for 2 completions"),
    ({"plain": {1.0, 2.0}}, r"term 'plain' has {1.0, 2.0} for 2 completions"),  # has no order
    ({3: [1.0, 2.0]}, "the name of a term is 3, and must be text"),
    ({"a": [1e308, 0], "b": [1e308, 0]}, r"sums \[inf, 0.0\] of the weighted terms a, b are not finite"),
])
def test_what_is_no_dict_of_terms_is_refused(terms, message):
    with pytest.raises(ValueError, match=f"Task.reward, sample an-id: {message}"):
        weigh(Task(None), SAMPLE, TWO, terms)


def test_a_weight_of_a_term_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="reward_weights names 'half', which is none of the terms hlaf"):
        weigh(Weighted(None), SAMPLE, TWO, {"hlaf": [1.0, 2.0]})


def test_long_completions_are_cut_in_messages():
    with pytest.raises(ValueError) as caught:
        weigh(Task(None), SAMPLE, [Completion("x" * 5000)], {"plain": [math.nan]})
    assert len(str(caught.value)) < 300


def test_what_a_task_must_define_is_named():
    with pytest.raises(NotImplementedError, match=r"Task must define samples\(\)"):
        Task(None).samples()
    with pytest.raises(NotImplementedError, match=r"Task must define reward\(\)"):
        Task(None).reward(SAMPLE, [])
    assert Task(None).evaluate(lambda samples: []) == {}


@pytest.mark.parametrize(("samples", "per_step"), [(6, 2), (7, 3), (5, 5), (1, 1), (100, 16)])
def test_an_epoch_sees_each_sample_once_at_most(samples, per_step):
    steps = samples // per_step
    for epoch in range(3):
        seen = [i for step in range(steps) for i in Sampler(samples, per_step, 7).choose(epoch * steps + step)]
        assert len(seen) == len(set(seen)) == steps * per_step
        assert set(seen) <= set(range(samples))


def test_each_epoch_and_each_seed_is_shuffled_anew():
    first, second = ([i for step in range(s, s + 10) for i in Sampler(40, 4, 0).choose(step)] for s in (0, 10))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second != list(range(40))
    assert Sampler(40, 4, 0).choose(3) != Sampler(40, 4, 1).choose(3)


def test_what_does_not_fill_a_step_gets_its_turn_in_other_epochs():
    seen = {i for step in range(60) for i in Sampler(7, 3, 0).choose(step)}
    assert seen == set(range(7))


def test_a_step_is_a_function_of_seed_and_step_alone():
    sampler = Sampler(30, 4, 3)
    late = sampler.choose(19)
    for step in range(19):
        sampler.choose(step)
    assert sampler.choose(19) == late == Sampler(30, 4, 3).choose(19)


@pytest.mark.parametrize(("samples", "per_step", "steps", "most"), [(40, 4, 5, 99), (40, 4, 99, 12), (7, 3, 50, 99)])
def test_what_is_looked_at_ahead_are_the_samples_of_the_steps(samples, per_step, steps, most):
    sampler = Sampler(samples, per_step, 0)
    found = sampler.ahead(range(2, 2 + steps), most)
    wanted = [i for step in range(2, 2 + steps) for i in sampler.choose(step)]
    assert found == set(wanted) or (len(found) >= min(most, samples - per_step + 1) and found <= set(wanted))
    assert set(sampler.choose(2)) <= found and len(found) < most + per_step


def test_nothing_is_known_ahead_of_a_sampler_that_chooses_itself():
    class Same(Sampler):
        def choose(self, step):
            raise AssertionError("a choice may have a cost, or a state")

    assert Same(40, 4, 0).ahead(range(5), 99) == set()


def test_too_few_samples_say_so():
    with pytest.raises(ValueError, match=r"3 samples, fewer than prompts_per_step = 4"):
        Sampler(3, 4, 0)


def rounds(sampler, flat_of_each):
    """The rounds of a step in which so many groups have no variance."""
    found = []
    for chosen, flat in zip(sampler.rounds(0), flat_of_each, strict=False):
        found.append(chosen)
        sampler.learn([Outcome(i, (0.0, float(n >= flat)), n >= flat) for n, i in enumerate(chosen)])
    return found


def test_a_subclass_may_choose_what_replaces_groups_without_variance():
    class Falling(Sampler):
        def spare(self, step, chosen):
            return sorted(super().spare(step, chosen), reverse=True)

    first, second, _ = rounds(Falling(20, 4, 0, 2), [3, 2, 0])
    assert first == Sampler(20, 4, 0).choose(0)
    assert second == [i for i in range(19, -1, -1) if i not in first][:3]


def test_a_sampler_learns_the_terms_of_what_the_policy_drew():
    group = SimpleNamespace(is_prior=[False, False, True])
    context = SimpleNamespace(group=group, rewards=torch.tensor([1.5, 0.0, 2.0]), varied=True,
                              terms={"right": [1.0, 0.0, 1.0], "short": [0.5, math.nan, 1.0]})
    child = SimpleNamespace(group=group)  # a group that a reward had drawn stands behind
    (found,) = outcomes([7], [context, child])
    assert (found.index, found.rewards, found.varied) == (7, (1.5, 0.0), True)
    assert found.terms["right"] == (1.0, 0.0) and found.terms["short"][0] == 0.5 and math.isnan(found.terms["short"][1])


def test_groups_without_variance_are_replaced_by_samples_that_the_step_has_not_had():
    assert [len(r) for r in rounds(Sampler(20, 4, 0), [4, 4])] == [4], "by default nothing is drawn again"
    assert [len(r) for r in rounds(Sampler(20, 4, 0, 3), [3, 2, 0, 0])] == [4, 3, 2], "as long as any are flat"
    found = rounds(Sampler(20, 4, 0, 2), [4, 4, 4])
    assert [len(r) for r in found] == [4, 4, 4], "as often as stated"
    assert len({i for r in found for i in r}) == 12
    assert [len(r) for r in rounds(Sampler(6, 4, 0, 9), [4] * 9)] == [4, 2], "until there are no others"
    assert found == rounds(Sampler(20, 4, 0, 2), [4, 4, 4]) != rounds(Sampler(20, 4, 1, 2), [4, 4, 4])
