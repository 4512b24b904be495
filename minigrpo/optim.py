"""AdamW, its learning rate, and one guarded optimiser step."""

from __future__ import annotations

import math

import torch
from torch import nn

from minigrpo.sections import GrpoConfig, OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and biases don't."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Rate of step 0 … steps − 1: linear warm-up, then the schedule down to (almost) zero at the last step."""
    warm = math.ceil(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    left = (steps - step) / (steps - warm)  # 1 at the end of the warm-up
    match config.schedule:
        case "constant":
            return config.lr
        case "linear":
            return config.lr * left
    return config.lr * (1 - math.cos(math.pi * left)) / 2


def kl_weight(step: int, steps: int, config: GrpoConfig) -> float:
    """β in step 0 … steps − 1: the same in all, or β/2 · (1 + cos(π · step / steps)), from β down to almost 0."""
    fallen = config.beta * (1 + math.cos(math.pi * step / steps)) / 2
    return fallen if config.beta_schedule == "cosine" else config.beta


def clip_and_step(optimizer: torch.optim.Optimizer, model: nn.Module, lr: float, max_norm: float) -> float:
    """Clips the gradient and steps, unless its norm is not finite; clears it either way.

    Returns:
        The gradient's norm before clipping, over all ranks; not finite if the step was skipped.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    if math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
