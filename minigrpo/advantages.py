"""Group-normalised advantages: how much better a completion is than the others of its prompt."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, scale: str = "std", unbiased: bool = True, eps: float = 1e-4) -> Tensor:
    """Advantages of the completions of each group (GRPO; MPCC Eq. 5, where the prior's reward is one of the G).

    A group whose rewards are all equal gets exactly zero, never NaN and never rounding noise.

    Args:
        rewards: [..., G], the last dimension one group. The arithmetic is float64 whatever is given, but what rewards
            lost before stays lost: 1e8 and 1e8 + 1 are equal in float32.
        scale: "std": (r − mean) / (std + eps); "none": r − mean (Dr. GRPO); "loo": r − mean of the others (RLOO).
        unbiased: Sample standard deviation (divide by G − 1), else population (by G).
        eps: Added to the standard deviation.

    Returns:
        [..., G], of the dtype of `rewards`; float64 for integers.

    Raises:
        ValueError: an unknown scale, rewards that are not finite, or G = 1 where the scale needs more.
    """
    if scale not in ("std", "none", "loo"):
        raise ValueError(f"scale is std, none or loo, not {scale!r}")
    if not rewards.isfinite().all():
        raise ValueError(f"rewards must be finite, got {rewards.tolist()}")
    size = rewards.shape[-1]
    if size < 2 and scale != "none":
        raise ValueError(f"scale {scale!r} compares completions: a group needs at least 2, not {size}")
    dtype, rewards = rewards.dtype if rewards.is_floating_point() else torch.float64, rewards.double()
    centred = rewards - rewards.mean(-1, keepdim=True)
    if scale == "std":
        advantages = centred / (rewards.std(-1, correction=int(unbiased), keepdim=True) + eps)
    else:
        advantages = centred * (size / (size - 1)) if scale == "loo" else centred
    no_variance = rewards.amax(-1, keepdim=True) == rewards.amin(-1, keepdim=True)
    return torch.where(no_variance, 0.0, advantages).to(dtype)
