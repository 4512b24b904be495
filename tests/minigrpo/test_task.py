"""The task contract: how terms add up to a reward, which rewards are refused, and which samples a step takes."""

import math

import pytest

from minigrpo.task import Sample, Task, score, step_indices


class Fixed(Task):
    reward_weights = {"half": 0.5, "off": 0.0}

    def __init__(self, terms):
        super().__init__(None)
        self.terms = terms

    def reward(self, sample, completions):
        return self.terms


SAMPLE = Sample("an-id", "a question")


def test_the_reward_is_the_weighted_sum_and_terms_stay_as_they_are():
    terms = {"plain": [1.0, 2.0], "half": [4.0, -2.0], "off": [9.0, 9.0]}
    rewards, seen = score(Fixed(terms), SAMPLE, ["a", "b"])
    assert rewards == [3.0, 1.0]
    assert seen == terms


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_with_task_sample_term_and_text(bad):
    with pytest.raises(ValueError, match=r"Fixed\.reward, sample an-id: term 'plain' is .* for completion 'second'"):
        score(Fixed({"plain": [1.0, bad]}), SAMPLE, ["first", "second"])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_another_number_of_values_than_completions_is_refused(values):
    with pytest.raises(ValueError, match=f"sample an-id: term 'plain' has {len(values)} values for 2 completions"):
        score(Fixed({"plain": values}), SAMPLE, ["a", "b"])


def test_no_terms_are_refused():
    with pytest.raises(ValueError, match="sample an-id: no reward terms"):
        score(Fixed({}), SAMPLE, ["a"])


def test_long_completions_are_cut_in_messages():
    with pytest.raises(ValueError) as caught:
        score(Fixed({"plain": [math.nan]}), SAMPLE, ["x" * 5000])
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
        seen = [i for step in range(steps) for i in step_indices(samples, per_step, 7, epoch * steps + step)]
        assert len(seen) == len(set(seen)) == steps * per_step
        assert set(seen) <= set(range(samples))


def test_each_epoch_and_each_seed_is_shuffled_anew():
    first, second = ([i for step in range(s, s + 10) for i in step_indices(40, 4, 0, step)] for s in (0, 10))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second != list(range(40))
    assert [step_indices(40, 4, 0, step) for step in range(10)] != [step_indices(40, 4, 1, step) for step in range(10)]


def test_what_does_not_fill_a_step_gets_its_turn_in_other_epochs():
    seen = {i for step in range(60) for i in step_indices(7, 3, 0, step)}
    assert seen == set(range(7))


def test_a_step_is_a_function_of_seed_and_step_alone():
    late = step_indices(30, 4, 3, 19)
    for step in range(19):
        step_indices(30, 4, 3, step)
    assert step_indices(30, 4, 3, 19) == late


def test_too_few_samples_say_so():
    with pytest.raises(ValueError, match=r"3 samples, fewer than prompts_per_step = 4"):
        step_indices(3, 4, 0, 0)
