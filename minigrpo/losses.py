"""Clipped objective, KL to the reference, Eq. 4 taken literally, and the SFT loss.

Every loss is a weighted sum over completion tokens. The weights (`completion_weights`) hold the step's one denominator,
counted over all micro-batches and ranks, so that sums of parts equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped here before exp, which would overflow."""
SHAPE = 0.1
"""LUFFY's constant γ in the shaped ratio π / (π + γ)."""


@dataclass(frozen=True)
class PolicyLoss:
    """The loss, a scalar to call backward on, and per-token figures to log, [N] each and without gradient."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor
    ratio: Tensor


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Per-token estimate of KL(π ‖ π_ref): exp(d) − d − 1 with d = log π_ref − log π (Schulman's k3; GRPO Eq. 4).

    Never negative, zero where both agree, unbiased under samples of π.
    """
    d = (ref_logps - logps).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return d.exp() - d - 1


def completion_weights(lengths: Tensor, normalize: str, tokens: int, completions: int, prompts: int,
                       max_new_tokens: int) -> Tensor:
    """What one token of each completion weighs in the step's loss.

    Args:
        lengths: [B], tokens of each completion.
        normalize: "token": all tokens of the step weigh the same (DAPO); "sequence": all completions do, and the
            tokens within one (GRPO); "constant": 1 / max_new_tokens, whatever the length (Dr. GRPO);
            "prompt": tokens are summed over the group, prompts averaged (MPCC Eq. 4 as printed).
        tokens, completions, prompts: Totals of the step, over all micro-batches and ranks.
        max_new_tokens: The length limit.

    Returns:
        float32 [B].
    """
    ones = torch.ones(len(lengths), device=lengths.device)
    match normalize:
        case "token":
            return ones / tokens
        case "sequence":
            return ones / (lengths * completions)
        case "constant":
            return ones / (completions * max_new_tokens)
        case "prompt":
            return ones / prompts
    raise ValueError(f"normalize is token, sequence, constant or prompt, not {normalize!r}")


def policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, weights: Tensor, *,
                objective: str = "grpo", ref_logps: Tensor | None = None, beta: float = 0.0, clip_low: float = 0.2,
                clip_high: float = 0.2, shaped: Tensor | None = None) -> PolicyLoss:
    """The loss of N completion tokens.

    objective "grpo": −min(ρ A, clip(ρ, 1 − clip_low, 1 + clip_high) A) + β · k3, ρ = π / π_old (GRPO Eq. 3).
    objective "paper": −A · (log π − log π_ref) (MPCC Eq. 4): no clip, no KL control, a gradient free of π_ref.

    Args:
        logps: [N], with gradient.
        old_logps: [N], of the policy that sampled.
        advantages, weights: [N], each completion's value at each of its tokens.
        ref_logps: [N], of the frozen reference; needed when beta > 0 and by "paper".
        beta: Weight of the KL.
        clip_low, clip_high: Bounds of the ratio.
        shaped: bool [N], tokens whose ratio is LUFFY's π / (π + 0.1) instead, unclipped (A7).
    """
    logps_now = logps.detach()
    kl = torch.zeros_like(logps_now) if ref_logps is None else kl_k3(logps, ref_logps)
    if objective == "paper":
        if ref_logps is None:
            raise ValueError("objective 'paper' needs reference log-probabilities")
        per_token = -advantages * (logps - ref_logps)
        nothing = torch.zeros_like(logps_now)
        return PolicyLoss((per_token * weights).sum(), kl.detach(), nothing, nothing + 1)
    if objective != "grpo":
        raise ValueError(f"objective is grpo or paper, not {objective!r}")
    if beta and ref_logps is None:
        raise ValueError("beta > 0 needs reference log-probabilities")
    ratio = (logps - old_logps).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    if shaped is not None:
        pi = logps.exp()
        ratio = torch.where(shaped, pi / (pi + SHAPE), ratio)
        bounded = torch.where(shaped, ratio, bounded)
    surrogate = torch.minimum(ratio * advantages, bounded * advantages)
    per_token = -surrogate + beta * kl if beta else -surrogate
    clipped = (bounded * advantages < ratio * advantages).float()
    return PolicyLoss((per_token * weights).sum(), kl.detach(), clipped, ratio.detach())


def sft_loss(logps: Tensor, weights: Tensor | None = None) -> Tensor:
    """−Σ w · log π over reasoning and answer tokens, their mean by default (MPCC Eq. 2).

    Args:
        logps: [N], with gradient.
        weights: [N]; None weighs every token 1 / N.
    """
    return -(logps.mean() if weights is None else (logps * weights).sum())
