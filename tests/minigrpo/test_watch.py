"""What is said of a run that goes wrong, by series of its metrics, and when it is ended."""

import math

import pytest

from minigrpo.watch import Watch

# `train.py --run.steps 12`, as it is
HEALTHY = {
    "kl": [0.0, 0.00109, 0.00712, 0.0249, 0.0314, 0.031, 0.0641, 0.0518, 0.0417, 0.0434, 0.0421, 0.0513],
    "entropy": [0.279, 0.271, 0.253, 0.242, 0.227, 0.204, 0.223, 0.229, 0.201, 0.205, 0.233, 0.231],
    "cut_off": [0, 0, 0, 0, 0, 0, 0.0089, 0.0089, 0.0089, 0, 0.0089, 0],
    "idle": [0.0] * 12, "skipped": [0.0] * 12,
}
# the same model on another task at the same rate, with priors such as "zebra quantum 4 xylophone! vortex umbrella"
FAR_PRIORS = {
    "kl": [0.0, 0.00111, 0.0187, 0.0718, 0.802, 1.16, 1.57, 1.63, 1.59, 2.02, 2.49, 2.05, 2.46, 2.81, 3.1, 2.59, 3.45],
    "entropy": [0.524, 0.544, 0.628, 0.672, 1.8, 2.8, 3.38, 2.94, 2.51, 2.71, 3.01, 2.68, 2.64, 2.62, 2.54, 2.36, 2.87],
}


def said(max_bad_steps=5, **series):
    """(step, warning) over a run in which these metrics were measured; steps count from 1."""
    watch, names = Watch(max_bad_steps), [name.replace("__", "/") for name in series]
    steps = enumerate(zip(*series.values(), strict=True), 1)
    return [(step, text) for step, values in steps
            for text in watch.step(step, dict(zip(names, values, strict=True))).values()]


def test_a_healthy_run_is_left_alone():
    assert said(**HEALTHY) == []


def test_priors_far_from_the_base_are_named_by_kl_and_entropy():
    (kl_step, kl), (entropy_step, entropy) = said(**FAR_PRIORS)
    assert kl_step == entropy_step == 10
    assert kl.startswith("steps 6 to 10: the KL to the reference is 2 nats per token: ")
    assert entropy.startswith("steps 6 to 10: the entropy is 2.7 nats per token, after 0.57 in the first steps: ")
    assert "optim.lr" in kl and "grpo.beta" in kl and "priors" in kl and "optim.lr" in entropy


def test_a_model_that_begins_with_much_entropy_may_keep_it():
    assert said(entropy=[2.6, 2.8, 2.7, *[5.3] * 20]) == []
    assert [step for step, _ in said(entropy=[2.6, 2.8, 2.7, *[5.5] * 20])] == [8]


def test_entropy_that_is_lost_is_named_and_a_model_that_began_low_is_left_alone():
    assert said(entropy=[0.5, 0.4, 0.6, *[0.021] * 9]) == [] == said(entropy=[0.05, 0.05, 0.05, *[0.006] * 9])
    ((step, text),) = said(entropy=[0.5, 0.4, 0.6, *[0.01] * 9])
    assert step == 8 and text.startswith("steps 4 to 8: the entropy is 0.01 nats per token, after 0.5 in the first")


def test_troubles_are_counted_whether_named_or_not():
    watch = Watch(3)
    for step, (idle, kl) in enumerate([(1, 0.1), (1, 5.0), (0, 0.1), (1, 2.0)], 1):
        watch.step(step, {"idle": idle, "kl": kl})
    assert watch.counts == {"idle": 3, "kl": 2}


def test_a_spike_is_no_trouble():
    assert said(kl=[0.05, 0.06, 300.0, 0.05, 9.0, 2.0, 0.1] * 4) == []


def test_rewards_that_never_vary_are_named_with_their_steps():
    ((step, text),) = said(idle=[0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1])
    assert step == 11 and text.startswith("steps 7 to 11: no group had two different rewards, so nothing was learned")
    assert "completions.jsonl" in text and "rollout.temperature" in text


@pytest.mark.parametrize(("away", "steps"), [(4, [5]), (5, [5, 15])])
def test_a_trouble_is_named_again_when_it_was_gone_for_five_steps(away, steps):
    assert [step for step, _ in said(idle=[1] * 5 + [0] * away + [1] * 9)] == steps


def test_what_comes_and_goes_is_named_once():
    assert [step for step, _ in said(idle=[1] * 5 + [0, 0, 0, 1] * 20)] == [5]


def test_what_was_not_measured_says_nothing_and_ends_nothing():
    assert said(kl=[math.nan] * 20) == []
    watch = Watch(5)
    found = [watch.step(step, {"kl": 3.0} if step % 2 else {"idle": 1 - step % 3}) for step in range(1, 11)]
    assert [len(texts) for texts in found] == [0] * 8 + [1, 0] and found[8]["kl"].startswith("steps 1 to 9: the KL")


def test_cut_off_completions_name_the_option_to_raise():
    ((step, text),) = said(cut_off=[0.5] * 10 + [0.51, 0.6, 0.7, 0.8, 0.875, 0.9])
    assert step == 15 and "88% of the completions were cut off at rollout.max_new_tokens" in text


def test_a_sampler_that_differs_by_rounding_is_left_alone():
    rounding = [0.011, 0.012, 0.02] * 5  # bfloat16
    assert said(sampler__mean_difference=rounding, sampler__max_difference=[1.4] * 15) == []
    ((step, text),) = said(sampler__mean_difference=[0.3] * 6)
    assert step == 5 and "differ by 0.3 nats per token" in text


def test_a_skipped_step_is_named_at_once_with_what_ends_the_run():
    ((step, text),) = said(3, skipped=[0, 0, 1, 0, 1, 0, 1], grad_norm=[1, 1, math.nan, 1, math.inf, 1, math.nan])
    assert step == 3 and text.startswith("step 3: loss or gradient was not finite") and "3 such steps among 6" in text


@pytest.mark.parametrize(("skipped", "ends"), [
    ([0, 1, 1, 1], 4),  # in a row
    ([1, 0, 1, 0, 1], 5),  # in turn with good ones
    ([1, 0, 0, 0, 1, 1], 6), ([1, 0, 0, 0, 0, 1, 1, 0, 0, 0], None), ([1, 0, 0] * 9, None),
])
def test_as_many_bad_steps_as_allowed_among_twice_as_many_end_a_run(skipped, ends):
    watch = Watch(3)
    ended = []
    for step, bad in enumerate(skipped, 1):
        watch.step(step, {"skipped": float(bad)})
        ended.append(watch.too_many_bad_steps())
    assert ended.index(True) + 1 == ends if ends else not any(ended)
