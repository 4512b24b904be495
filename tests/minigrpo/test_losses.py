"""The objectives against their definitions, token by token, and against transformers' own cross-entropy."""

import math

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigrpo import Group, Policy, kl_k3, micro_batches, pack, policy_loss, sft_loss
from minigrpo.losses import completion_weights
from minigrpo.prefix import with_prompts

ONE = torch.ones(1, dtype=torch.float64)


def tensor(*values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def one_token(ratio, advantage, **options):
    """Loss and gradient (by log π) of one token whose ratio to the old policy is `ratio`."""
    logps = tensor(-1.0 + math.log(ratio), grad=True)
    result = policy_loss(logps, tensor(-1.0), tensor(advantage), ONE, **options)
    result.loss.backward()
    return result, logps.grad.item()


# k3


@given(st.floats(-15, 0), st.floats(-15, 0))
def test_k3_is_its_formula_never_negative_and_zero_only_at_agreement(logp, ref):
    logps = tensor(logp, grad=True)
    kl = kl_k3(logps, tensor(ref))
    ratio = math.exp(ref - logp)
    assert kl.item() == pytest.approx(ratio - (ref - logp) - 1, rel=1e-12, abs=1e-12) and kl.item() >= 0
    kl.backward()
    assert logps.grad.item() == pytest.approx(1 - ratio, rel=1e-12, abs=1e-12)


def test_k3_at_known_points():
    kl = kl_k3(tensor(-1.0, -1.0, -1.0), tensor(-1.0, -1.0 + math.log(2), -1.0 - math.log(2)))
    assert kl.tolist() == pytest.approx([0, 1 - math.log(2), math.log(2) - 0.5], abs=1e-12)


def test_k3_is_unbiased_under_the_policy():
    p, q = tensor(0.5, 0.3, 0.2), tensor(0.2, 0.2, 0.6)
    expected = (p * kl_k3(p.log(), q.log())).sum()
    assert torch.allclose(expected, (p * (p / q).log()).sum(), rtol=0, atol=1e-12)


def enumerated(kl, sampler):
    """The gradient by a softmax's logits of E_{a ~ sampler}[KL term], over all of a vocabulary of five, and those of
    both exact divergences."""
    theta = tensor(0.5, -1.0, 0.0, 2.0, -0.3, grad=True)
    ref = tensor(-0.5, 1.0, 0.3, 0.0, -2.0).log_softmax(0)
    logps = theta.log_softmax(0)
    old = logps.detach() if sampler is None else sampler.log_softmax(0)
    loss = policy_loss(logps, old, torch.zeros_like(ref), old.exp(), ref_logps=ref, beta=1.0, kl=kl).loss
    exact = (logps.exp() * (logps - ref)).sum(), (ref.exp() * (ref - logps)).sum()
    return loss, exact, [torch.autograd.grad(x, theta, retain_graph=True)[0] for x in (loss, *exact)]


def test_k3_has_the_value_of_one_divergence_and_the_gradient_of_the_other():
    value, exact, (ours, from_policy, from_reference) = enumerated("k3", None)
    assert value.item() == pytest.approx(exact[0].item(), abs=1e-12)
    assert torch.allclose(ours, from_reference, rtol=0, atol=1e-12)
    assert (ours - from_policy).norm() > 0.5 * from_policy.norm()


@pytest.mark.parametrize("sampler", [None, tensor(0.1, 0.4, -0.6, 0.2, 0.9)], ids=["on-policy", "an older policy"])
def test_corrected_k3_has_value_and_gradient_of_the_divergence_from_the_policy(sampler):
    value, exact, (ours, from_policy, _) = enumerated("k3_corrected", sampler)
    assert value.item() == pytest.approx(exact[0].item(), abs=1e-12)
    assert torch.allclose(ours, from_policy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("logp, ref, value, gradient", [
    (-20.0, 0.0, math.exp(20) - 21, 1 - math.exp(20)),
    (-25.0, 0.0, 6 * math.exp(20) - 26, 1 - math.exp(20)),  # above 20 along the tangent of exp
    (-5000.0, 0.0, 4981 * math.exp(20) - 5001, 1 - math.exp(20)),
    (0.0, -25.0, 24.0, 1.0),
    (-5000.0, -1e4, 4999.0, 1.0),
])
def test_far_from_the_reference_k3_is_finite_and_pulls_back(logp, ref, value, gradient):
    logps = torch.tensor([logp], requires_grad=True)
    kl = kl_k3(logps, torch.tensor([ref]))
    kl.sum().backward()
    assert kl.item() == pytest.approx(value, rel=1e-6) and logps.grad.item() == pytest.approx(gradient, rel=1e-6)


# The clipped objective


@pytest.mark.parametrize("ratio, advantage, surrogate, clipped", [
    (1.0, 2.0, 2.0, False),
    (1.1, 2.0, 2.2, False),
    (1.5, 2.0, 2 * 1.3, True),  # good and already more probable: no more
    (0.5, 2.0, 1.0, False),  # good and less probable: pull it back
    (1.0, -2.0, -2.0, False),
    (1.5, -2.0, -3.0, False),  # bad and more probable: push it down
    (0.9, -2.0, -1.8, False),
    (0.5, -2.0, -2 * 0.8, True),  # bad and already less probable: no more
    (1.25, 2.0, 2.5, False),  # above 1 + clip_low, below 1 + clip_high
    (0.75, -2.0, -1.6, True),  # below 1 − clip_low, above 1 − clip_high
    (1.5, 0.0, 0.0, False),
])
def test_clip_cases(ratio, advantage, surrogate, clipped):
    result, gradient = one_token(ratio, advantage, clip_low=0.2, clip_high=0.3)
    assert result.loss.item() == pytest.approx(-surrogate, abs=1e-12)
    assert gradient == pytest.approx(0.0 if clipped else -ratio * advantage, abs=1e-12)
    assert result.clipped.tolist() == [float(clipped)]
    assert result.ratio.item() == pytest.approx(ratio)
    assert not any(t.requires_grad for t in (result.kl, result.clipped, result.ratio))


def test_on_policy_the_gradient_is_the_plain_policy_gradient():
    logps = tensor(-0.5, -2.0, -0.1, grad=True)
    result = policy_loss(logps, logps.detach(), tensor(1.5, -2.0, 0.3), tensor(0.5, 0.25, 2.0))
    result.loss.backward()
    assert logps.grad.tolist() == pytest.approx([-0.75, 0.5, -0.6], abs=1e-12)
    assert result.ratio.tolist() == [1, 1, 1] and not result.clipped.any() and not result.kl.any()


@pytest.mark.parametrize("log_ratio, ratio, slope", [
    (20.0, math.exp(20), math.exp(20)),
    (25.0, 6 * math.exp(20), math.exp(20)),  # above 20 along the tangent of exp
    (899.0, 880 * math.exp(20), math.exp(20)),
    (-25.0, math.exp(-25), math.exp(-25)),
    (-899.0, 0.0, 0.0),
])
def test_a_huge_ratio_stays_finite_and_a_bad_token_is_pushed_down(log_ratio, ratio, slope):
    logps = torch.tensor([log_ratio - 900], requires_grad=True)
    result = policy_loss(logps, torch.tensor([-900.0]), torch.tensor([-1.0]), torch.ones(1), clip_low=1.0)
    result.loss.backward()
    found = [result.ratio.item(), result.loss.item(), logps.grad.item()]
    assert found == pytest.approx([ratio, ratio, slope], rel=1e-6)


def test_the_kl_is_added_beta_times_and_pulls_towards_the_reference():
    logps, ref = tensor(-1.0, -3.0, grad=True), tensor(-2.0, -2.0)
    result = policy_loss(logps, logps.detach(), tensor(0.0, 0.0), tensor(1.0, 2.0), ref_logps=ref, beta=0.1)
    result.loss.backward()
    k3 = [math.exp(-1) + 1 - 1, math.exp(1) - 1 - 1]
    assert result.kl.tolist() == pytest.approx(k3, abs=1e-12)
    assert result.loss.item() == pytest.approx(0.1 * (k3[0] + 2 * k3[1]), abs=1e-12)
    assert logps.grad.tolist() == pytest.approx([0.1 * (1 - math.exp(-1)), 0.2 * (1 - math.e)], abs=1e-12)


def test_without_beta_the_reference_is_reported_and_changes_nothing():
    def run(**options):
        logps = tensor(-1.0, -3.0, grad=True)
        result = policy_loss(logps, tensor(-1.5, -2.5), tensor(1.0, -1.0), tensor(1.0, 1.0), **options)
        result.loss.backward()
        return result, logps.grad

    (plain, gradient), (reported, same) = run(), run(ref_logps=tensor(-2.0, -2.0))
    assert torch.equal(plain.loss, reported.loss) and torch.equal(gradient, same)
    assert reported.kl.all() and not plain.kl.any()


# REINFORCE, and Eq. 4 as printed


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_reinforce_is_its_formula_without_ratio_and_clip_and_with_the_kl_beside_it(beta):
    logps, ref = tensor(-0.5, -2.0, grad=True), tensor(-1.0, -1.0)
    result = policy_loss(logps, tensor(-7.0, -7.0), tensor(1.5, -2.0), tensor(0.5, 2.0), objective="reinforce",
                         ref_logps=ref if beta else None, beta=beta)
    result.loss.backward()
    k3 = [math.exp(d) - d - 1 for d in (-0.5, 1.0)]
    assert result.loss.item() == pytest.approx(0.5 * (0.75 + beta * k3[0]) + 2 * (-4 + beta * k3[1]), abs=1e-12)
    assert logps.grad.tolist() == pytest.approx(
        [0.5 * (-1.5 + beta * (1 - math.exp(-0.5))), 2 * (2 + beta * (1 - math.e))], abs=1e-12)
    assert not result.clipped.any() and not result.kl.requires_grad
    assert result.kl.tolist() == (pytest.approx(k3, abs=1e-12) if beta else [0, 0])


def test_the_gradient_of_eq_4_as_printed_is_that_of_reinforce_whatever_the_reference():
    """MPCC Eq. 4: Σ A · log(π / π_ref) over a group's completions, groups averaged."""
    lengths, advantages = torch.tensor([2, 1, 3]), tensor(1.5, -2.0, 0.3)
    owner = torch.arange(3).repeat_interleave(lengths)
    weights = completion_weights(lengths, "group", 6, 3, 2, LIMIT)[owner]
    for ref in (torch.full((6,), -1.0), torch.linspace(-9, -0.1, 6)):
        logps = torch.linspace(-3, -0.5, 6, dtype=torch.float64, requires_grad=True)
        sums = (logps - ref).new_zeros(3).index_add(0, owner, logps - ref)
        printed = torch.autograd.grad(-(advantages * sums).sum() / 2, logps)[0]
        loss = policy_loss(logps, logps.detach(), advantages[owner], weights, objective="reinforce").loss
        assert torch.allclose(torch.autograd.grad(loss, logps)[0], printed, rtol=0, atol=1e-12)


# LUFFY's shaped ratio


def test_the_shaped_ratio_replaces_the_clipped_one_on_chosen_tokens_only():
    logps = tensor(math.log(0.3), math.log(0.3), math.log(0.3), grad=True)
    result = policy_loss(
        logps, tensor(math.log(0.1)).expand(3), tensor(2.0, 2.0, -1.0), tensor(1.0, 1.0, 1.0),
        shaped=torch.tensor([True, False, True]),
    )
    result.loss.backward()
    assert result.ratio.tolist() == pytest.approx([0.75, 3.0, 0.75], abs=1e-12)
    assert result.clipped.tolist() == [0, 1, 0]
    assert result.loss.item() == pytest.approx(-2 * 0.75 - 2 * 1.2 + 0.75, abs=1e-12)
    slope = 0.3 * 0.1 / 0.4**2  # d(π / (π + γ)) / d log π
    assert logps.grad.tolist() == pytest.approx([-2 * slope, 0, slope], abs=1e-12)


# Normalisation: one denominator for the step

STEP = [[3, 1, 4], [2, 2], [5]]  # lengths of the completions of three prompts
LIMIT = 6


def by_loops(per_token, normalize):
    """The step's loss from nested lists [prompt][completion][token], as each paper writes it."""
    completions = [c for prompt in per_token for c in prompt]
    match normalize:
        case "token":
            return sum(map(sum, completions)) / sum(map(len, completions))
        case "sequence":
            return sum(sum(c) / len(c) for c in completions) / len(completions)
        case "constant":
            return sum(sum(c) / LIMIT for c in completions) / len(completions)
        case "group":
            return sum(sum(map(sum, prompt)) for prompt in per_token) / len(per_token)


@pytest.mark.parametrize("normalize", ["token", "sequence", "constant", "group"])
def test_normalisations_against_explicit_loops_whole_and_over_parts(normalize):
    generator = torch.Generator().manual_seed(0)
    values = [[torch.rand(n, generator=generator, dtype=torch.float64) for n in prompt] for prompt in STEP]
    expected = by_loops([[c.tolist() for c in prompt] for prompt in values], normalize)
    lengths = torch.tensor(sum(STEP, []))
    flat = torch.cat([c for prompt in values for c in prompt])

    def loss(lengths, flat):
        weights = completion_weights(lengths, normalize, 17, 6, 3, LIMIT)
        assert weights.shape == lengths.shape and weights.dtype == torch.float64
        owner = torch.arange(len(lengths)).repeat_interleave(lengths)
        return policy_loss(flat, flat, -torch.ones_like(flat), flat * weights[owner]).loss.item()

    assert loss(lengths, flat) == pytest.approx(expected, rel=1e-12)
    for cut in range(1, 6):  # any split, of a prompt's completions too
        tokens = int(lengths[:cut].sum())
        parts = loss(lengths[:cut], flat[:tokens]) + loss(lengths[cut:], flat[tokens:])
        assert parts == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("normalize", ["token", "sequence", "constant", "group"])
def test_the_step_of_a_model_is_the_same_in_one_micro_batch_or_many(normalize):
    gradients, losses = [], []
    for whole in (True, False):
        vlm = tiny.vlm("qwen3")
        groups = [
            Group(g.prompt, g.completions, advantages=torch.linspace(-1, 2, len(g.completions), dtype=torch.float64))
            for g in tiny.groups(vlm)
        ]
        batches, total = micro_batches(groups, 10_000 if whole else len(groups[0].prompt) + 8), 0.0
        policy = Policy(vlm)
        for batch, kept in with_prompts(policy, batches):
            weights = completion_weights(batch.lengths, normalize, 27, 6, 3, 9)[batch.owner]
            logps = policy(batch, kept=kept).logps
            loss = policy_loss(logps, logps.detach(), batch.advantages[batch.owner], weights).loss
            loss.backward()
            total += loss.item()
        gradients.append(torch.cat([p.grad.flatten() for p in vlm.net.parameters()]))
        losses.append(total)
    assert len(batches) > 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6 * gradients[0].abs().max()


# SFT


def test_sft_loss_is_the_models_own_cross_entropy():
    """MPCC Eq. 2, over reasoning and answer tokens; the vocabulary here has no banned row that could differ."""
    vlm, plain = tiny.vlm("llama"), tiny.plain("llama")
    vlm.banned_ids = vlm.banned_ids[:0]
    (prompt, *_), completion = (vlm.encode(s) for s in tiny.samples(False)), vlm.encode_completion("<think>a</think>b")
    inputs = tiny.plain_inputs(vlm, prompt, completion)
    labels = inputs["input_ids"].clone()
    labels[0, : len(prompt)] = -100
    expected = plain(**inputs, labels=labels).loss
    ours = sft_loss(Policy(vlm)(pack([Group(prompt, [completion])])).logps)
    # transformers' cross-entropy is in float32, on a loss of about 9
    assert ours.item() == pytest.approx(expected.item(), abs=1e-5)
    ours.backward()
    expected.backward()
    for p, q in zip(vlm.net.parameters(), plain.parameters(), strict=True):
        assert (p.grad - q.grad).abs().max() < 1e-5 * q.grad.abs().max().clamp_min(1e-3)


def test_sft_weights_replace_the_mean():
    assert sft_loss(tensor(-1.0, -3.0)).item() == 2.0
    assert sft_loss(tensor(-1.0, -3.0), tensor(1.0, 0.5)).item() == 2.5


# Refusals


@pytest.mark.parametrize("options, message", [
    (dict(objective="ppo"), "objective is one of grpo, reinforce, cispo, sapo, not 'ppo'"),
    (dict(kl="k1"), "kl is k3 or k3_corrected, not 'k1'"),
    (dict(beta=0.1), "beta > 0 needs reference"),
    (dict(objective="reinforce", beta=0.1), "beta > 0 needs reference"),
    (dict(objective="reinforce", shaped=ONE > 0), "'reinforce' has no ratio that could be shaped"),
])
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        policy_loss(ONE, ONE, ONE, ONE, **options)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalize is token, sequence, constant or group, not 'mean'"):
        completion_weights(torch.tensor([1]), "mean", 1, 1, 1, 1)
