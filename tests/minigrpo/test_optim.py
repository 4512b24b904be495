"""The learning rate's course, what decays, and the step that is skipped when a gradient is not finite."""

import math

import pytest
import tiny
import torch
from torch import nn

from minigrpo.optim import clip_and_step, kl_weight, learning_rate, make_optimizer
from minigrpo.sections import GrpoConfig, OptimConfig


def rates(steps, **options):
    return [learning_rate(step, steps, OptimConfig(lr=1.0, **options)) for step in range(steps)]


def test_warm_up_rises_linearly_to_the_peak():
    assert rates(20, warmup=0.25, schedule="constant") == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 16])


def test_linear_falls_evenly_to_one_part_at_the_last_step():
    assert rates(12, warmup=2 / 12, schedule="linear") == pytest.approx(
        [0.5, 1.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_the_weight_of_the_kl_stays_or_falls_by_half_a_cosine():
    assert [kl_weight(step, 4, GrpoConfig(beta=0.04)) for step in range(4)] == [0.04] * 4
    falling = [kl_weight(step, 4, GrpoConfig(beta=0.04, beta_schedule="cosine")) for step in range(4)]
    assert falling == pytest.approx([0.04, 0.02 * (1 + 0.5**0.5), 0.02, 0.02 * (1 - 0.5**0.5)]) and falling[0] == 0.04


def test_cosine_is_half_way_down_in_the_middle():
    cosine = rates(8, warmup=0.0, schedule="cosine")
    assert cosine == pytest.approx([(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])
    assert cosine[0] == 1 and cosine[4] == pytest.approx(0.5) and 0 < cosine[7] < 0.05


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 120])
def test_no_step_has_a_rate_of_zero_or_above_the_peak(steps, warmup, schedule):
    course = rates(steps, warmup=warmup, schedule=schedule)
    warm = math.ceil(warmup * steps)
    assert all(0 < rate <= 1 for rate in course)
    assert max(course) == 1
    assert course[:warm] == sorted(course[:warm]) and course[warm:] == sorted(course[warm:], reverse=True)


def test_matrices_decay_and_norms_and_biases_do_not():
    net = tiny.net("qwen2_5_vl")
    optimizer = make_optimizer(net, OptimConfig(weight_decay=0.3, beta1=0.8, beta2=0.95))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, p in net.named_parameters():
        small = name.endswith("bias") or "norm" in name or "ln_q" in name
        assert decay[id(p)] == (0.0 if small else 0.3), name
    assert len(decay) == sum(len(g["params"]) for g in optimizer.param_groups) == len(list(net.parameters()))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}


def test_frozen_parameters_are_left_out():
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    held = [p for group in make_optimizer(layer, OptimConfig()).param_groups for p in group["params"]]
    assert len(held) == 1 and held[0] is layer.bias


def linear(gradient):
    layer = nn.Linear(2, 1, bias=False).double()
    layer.weight.grad = torch.tensor([gradient], dtype=torch.float64)
    return layer, make_optimizer(layer, OptimConfig(weight_decay=0.0))


def test_the_first_adam_step_is_the_rate_in_each_direction():
    layer, optimizer = linear([3.0, -4.0])
    before = layer.weight.detach().clone()
    assert clip_and_step(optimizer, layer, 0.01, max_norm=100.0) == pytest.approx(5.0)
    moved = (layer.weight - before).detach()
    torch.testing.assert_close(moved, torch.tensor([[-0.01, 0.01]], dtype=torch.float64), rtol=1e-6, atol=0)
    assert layer.weight.grad is None


def test_clipping_scales_to_the_bound_and_reports_the_norm_before():
    layer, optimizer = linear([3.0, -4.0])
    assert clip_and_step(optimizer, layer, 0.01, max_norm=1.0) == pytest.approx(5.0)
    first_moment = optimizer.state[layer.weight]["exp_avg"] / (1 - 0.9)
    torch.testing.assert_close(first_moment, torch.tensor([[0.6, -0.8]], dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_small_gradient_is_not_scaled_up():
    layer, optimizer = linear([3e-3, -4e-3])
    clip_and_step(optimizer, layer, 0.01, max_norm=1.0)
    first_moment = optimizer.state[layer.weight]["exp_avg"] / (1 - 0.9)
    torch.testing.assert_close(first_moment, torch.tensor([[3e-3, -4e-3]], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments(bad):
    layer, optimizer = linear([1.0, 1.0])
    clip_and_step(optimizer, layer, 0.01, max_norm=1.0)
    weights, moment = layer.weight.detach().clone(), optimizer.state[layer.weight]["exp_avg"].clone()
    layer.weight.grad = torch.tensor([[1.0, bad]], dtype=torch.float64)
    assert not math.isfinite(clip_and_step(optimizer, layer, 0.01, max_norm=1.0))
    assert torch.equal(layer.weight, weights)
    assert torch.equal(optimizer.state[layer.weight]["exp_avg"], moment)
    assert layer.weight.grad is None
    layer.weight.grad = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    clip_and_step(optimizer, layer, 0.01, max_norm=1.0)
    assert (layer.weight < weights).all()
