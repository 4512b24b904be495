"""What is minimised: the clipped objective, REINFORCE, the KL to the reference, and the SFT loss.

Every loss is a weighted sum over completion tokens. The weights (`completion_weights`) hold the step's one denominator,
counted over all micro-batches and ranks, so that sums of parts equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from minigrpo.variants import cispo, sapo, sequence_log_ratio

OBJECTIVES = ("grpo", "reinforce", "cispo", "sapo")
MAX_LOG_RATIO = 20.0
"""Up to here exp is exp; above, where it would soon overflow, it goes on along its tangent."""
SHAPE = 0.1
"""LUFFY's constant γ in the shaped ratio π / (π + γ)."""


@dataclass(frozen=True)
class PolicyLoss:
    """The loss, a scalar to call backward on, and per-token figures to log, [N] each and without gradient."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor
    ratio: Tensor


def _exp(log_ratio: Tensor) -> Tensor:
    """exp, continued by its tangent above MAX_LOG_RATIO: finite, and with a gradient wherever it is evaluated."""
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp() * (1 + (log_ratio - MAX_LOG_RATIO).relu())


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Per-token estimate of KL(π ‖ π_ref): exp(d) − d − 1 with d = log π_ref − log π (Schulman's k3; GRPO Eq. 4).

    Never negative, zero where both agree. Under samples of π its value is unbiased for KL(π ‖ π_ref), but its gradient,
    1 − exp(d) by log π, is on average that of KL(π_ref ‖ π): the samples' own dependence on π is left out.
    """
    d = ref_logps - logps
    return _exp(d) - d - 1


def kl_k3_corrected(logps: Tensor, old_logps: Tensor, ref_logps: Tensor) -> Tensor:
    """k3 times the importance ratio π / π_old, through which the gradient goes too (DeepSeek-V3.2; TRL's correction).

    Under samples of π_old both its value and its gradient are unbiased for KL(π ‖ π_ref). At
    π = π_old the value is k3's.
    """
    return _exp(logps - old_logps) * kl_k3(logps, ref_logps)


def completion_weights(lengths: Tensor, normalize: str, tokens: int, completions: int, groups: int,
                       max_new_tokens: int) -> Tensor:
    """What one token of each completion weighs in the step's loss.

    Args:
        lengths: [B], tokens of each completion.
        normalize: "token": all tokens of the step weigh the same (DAPO); "sequence": all completions do, and the
            tokens within one (GRPO); "constant": 1 / max_new_tokens, whatever the length (Dr. GRPO);
            "group": tokens are summed over the group, groups averaged (MPCC Eq. 4 as printed).
        tokens, completions, groups: Totals of the step, over all micro-batches and ranks.
        max_new_tokens: The length limit.

    Returns:
        float64 [B], whatever the model's precision: the step's sum is no place to round.
    """
    ones = torch.ones(len(lengths), dtype=torch.float64, device=lengths.device)
    match normalize:
        case "token":
            return ones / tokens
        case "sequence":
            return ones / (lengths * completions)
        case "constant":
            return ones / (completions * max_new_tokens)
        case "group":
            return ones / groups
    raise ValueError(f"normalize is token, sequence, constant or group, not {normalize!r}")


def policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, weights: Tensor, *,
                objective: str = "grpo", ref_logps: Tensor | None = None, beta: float = 0.0, kl: str = "k3",
                clip_low: float = 0.2, clip_high: float = 0.2, clip_max: float = 0.0, lengths: Tensor | None = None,
                shaped: Tensor | None = None) -> PolicyLoss:
    """The loss of N completion tokens, Σ w · (surrogate + β · KL).

    objective "grpo": −min(ρ A, clip(ρ, 1 − clip_low, 1 + clip_high) A), ρ = π / π_old (GRPO Eq. 3).
    objective "reinforce": −A · log π, without ratio and clip. MPCC Eq. 4 as printed is this with beta 0 and "group"
    weights: its − log π_ref has no gradient.
    objectives "cispo" and "sapo": see `variants`.

    Args:
        logps: [N], with gradient.
        old_logps: [N], of the policy that sampled.
        advantages, weights: [N], each completion's value at each of its tokens.
        ref_logps: [N], of the frozen reference; needed when beta > 0, else only for the figure.
        beta: Weight of the KL.
        kl: "k3" or "k3_corrected", see `kl_k3` and `kl_k3_corrected`.
        clip_low, clip_high: Bounds of the ratio.
        clip_max: Bound of the ratio where the advantage is negative and `clip_high` does not act; 0: none.
        lengths: int64 [B], tokens of each completion: the ratio is then the completion's (`sequence_log_ratio`).
        shaped: bool [N], tokens whose ratio is LUFFY's π / (π + 0.1) instead, unclipped; "grpo" only.

    Raises:
        ValueError: an unknown objective or KL, beta without reference, or shaped ratios without "grpo".
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is one of {', '.join(OBJECTIVES)}, not {objective!r}")
    if kl not in ("k3", "k3_corrected"):
        raise ValueError(f"kl is k3 or k3_corrected, not {kl!r}")
    if beta and ref_logps is None:
        raise ValueError("beta > 0 needs reference log-probabilities")
    if shaped is not None and objective != "grpo":
        raise ValueError(f"objective {objective!r} has no ratio that could be shaped")
    if lengths is not None:
        old_logps = logps - sequence_log_ratio(logps - old_logps, lengths)
    ratio, clipped = _exp(logps - old_logps), torch.zeros_like(logps.detach())
    if objective == "reinforce":
        surrogate = advantages * logps
    elif objective == "cispo":
        surrogate, clipped = cispo(logps, ratio, advantages, clip_high)
    elif objective == "sapo":
        surrogate = sapo(ratio, advantages)
    else:
        bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
        ratio = ratio.clamp(max=clip_max) if clip_max else ratio
        if shaped is not None:
            pi = logps.exp()
            ratio = torch.where(shaped, pi / (pi + SHAPE), ratio)
            bounded = torch.where(shaped, ratio, bounded)
        surrogate = torch.minimum(ratio * advantages, bounded * advantages)
        clipped = (bounded * advantages < ratio * advantages).float()
    distance = torch.zeros_like(logps.detach())
    if ref_logps is not None:
        corrected = kl == "k3_corrected"
        distance = kl_k3_corrected(logps, old_logps, ref_logps) if corrected else kl_k3(logps, ref_logps)
    per_token = -surrogate + beta * distance if beta else -surrogate
    return PolicyLoss((per_token * weights).sum(), distance.detach(), clipped, ratio.detach())


def sft_loss(logps: Tensor, weights: Tensor | None = None) -> Tensor:
    """−Σ w · log π over reasoning and answer tokens, their mean by default (MPCC Eq. 2).

    Args:
        logps: [N], with gradient.
        weights: [N]; None weighs every token 1 / N.
    """
    return -(logps.mean() if weights is None else (logps * weights).sum())
