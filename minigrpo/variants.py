"""Other published forms of ratio, clip, advantage and penalty, each a pure function. Plain GRPO uses none of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minigrpo.advantages import group_advantages
from minigrpo.layout import Group

if TYPE_CHECKING:  # the functions themselves need none of these
    from minigrpo.ranks import Ranks
    from minigrpo.sections import GrpoConfig
    from minigrpo.task import GroupContext

TEMPERATURES = 1.0, 1.05
"""SAPO's τ for positive and for negative advantages, as its paper recommends: the latter decay faster."""


def sequence_log_ratio(log_ratio: Tensor, lengths: Tensor) -> Tensor:
    """GSPO's log ratio of a whole completion, 1/|y| Σ_t log π/π_old, at each of its tokens (arXiv 2507.18071).

    Args:
        log_ratio: [N], per token, completion after completion.
        lengths: int64 [B], tokens of each completion.

    Returns:
        [N], with the gradient of every token of the completion.
    """
    owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    sums = log_ratio.new_zeros(len(lengths)).index_add(0, owner, log_ratio)
    return (sums / lengths)[owner]


def cispo(logps: Tensor, ratio: Tensor, advantages: Tensor, clip_high: float) -> tuple[Tensor, Tensor]:
    """CISPO: sg[min(ρ, 1 + clip_high)] · A · log π (MiniMax-M1, arXiv 2506.13585), without a lower bound.

    The ratio is clipped as a weight: no token loses its gradient. TRL's `epsilon_high` is our 1 + clip_high.

    Returns:
        The surrogate, which is maximised, and whether each ratio was clipped, [N] each.
    """
    return ratio.detach().clamp(max=1 + clip_high) * advantages * logps, (ratio > 1 + clip_high).float()


def sapo(ratio: Tensor, advantages: Tensor) -> Tensor:
    """SAPO: σ(τ (ρ − 1)) · 4/τ · A, τ by the sign of A (arXiv 2511.20347): a gate instead of a clip.

    At ρ = 1 its gradient is that of ρ A.
    """
    positive, negative = TEMPERATURES
    tau = torch.where(advantages > 0, positive, negative).to(ratio.dtype)
    return torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages


def sampler_weights(old_logps: Tensor, sampler_logps: Tensor, cap: float) -> Tensor:
    """min(π_old / π_sampler, cap): what corrects a token for a sampler of other precision than the policy, as truncated
    importance sampling. 1 where the policy did not draw the token (NaN).

    Args:
        old_logps: [N], of the policy that is trained, before its update.
        sampler_logps: [N], those that the tokens were drawn with.
        cap: Largest weight.

    Returns:
        [N], without gradient.
    """
    apart = (old_logps - sampler_logps).detach().nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf)
    return apart.exp().clamp(max=cap)


def overlong_penalty(lengths: Sequence[int], limit: int, margin: int) -> list[float]:
    """0 up to limit − margin tokens, from there linearly down to −1 at the limit (DAPO, arXiv 2503.14476, Eq. 13)."""
    return [-max(0, length - (limit - margin)) / margin for length in lengths]


def batch_advantages(rewards: Tensor, spread: float, eps: float = 1e-4) -> Tensor:
    """Reward minus its group's mean, over the standard deviation of all rewards of the step (arXiv 2508.08221).

    Args:
        rewards: [G] of one group.
        spread: Sample standard deviation over the step's rewards, of all ranks.
    """
    return group_advantages(rewards, "none") / (spread + eps)


def decoupled_rewards(terms: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> Tensor:
    """Σ_k w_k (r_k − mean) / (std + ε): each reward term normalised apart in its group (GDPO, arXiv 2601.05242).

    A sum of raw terms gives the same advantage to completions that earn it in different ways, and the term with the
    largest spread decides alone. What GDPO does next is `batch_advantages` of these.

    Args:
        terms: Values [G] of each term of a group, NaN where a term does not apply, which counts as the term's mean.
        weights: Of each term; 1 by default.

    Returns:
        float64 [G].
    """
    total = torch.zeros(len(next(iter(terms.values()))), dtype=torch.float64)
    for name, values in terms.items():
        found = torch.tensor(values, dtype=torch.float64)
        known = ~found.isnan()
        if known.sum() > 1:
            total[known] += weights.get(name, 1.0) * group_advantages(found[known])
    return total


def top_threshold(values: Sequence[float], share: float) -> float:
    """The smallest of the largest ⌈share · n⌉ values; tokens at or above it are trained, of their entropies say, the
    share of the step's tokens that "forks" (arXiv 2506.01939)."""
    ordered = sorted(values, reverse=True)
    return ordered[math.ceil(share * len(ordered)) - 1]


def comparison(grpo: GrpoConfig, term_weights: Mapping[str, float], contexts: Sequence[GroupContext], ranks: Ranks
               ) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """What makes rewards [G] of a group its advantages [G], and of every group the rewards [G] to make them of."""
    rewards = [decoupled_rewards(c.terms, term_weights) if grpo.terms == "apart" else c.rewards for c in contexts]
    if grpo.scale != "batch":
        return partial(group_advantages, scale=grpo.scale, unbiased=grpo.unbiased), rewards
    own = [x for context, values in zip(contexts, rewards, strict=True) if not context.bad for x in values.tolist()]
    every = torch.tensor([x for part in ranks.gather([own]) for x in part], dtype=torch.float64)
    return partial(batch_advantages, spread=every.std().item() if len(every) > 1 else 0.0), rewards


def forking_tokens(contexts: Sequence[GroupContext], share: float, ranks: Ranks) -> list[Tensor | None]:
    """Of every group bool [G, T]: the tokens with the highest entropies of the step, a share of all; None for all."""
    if share == 1:
        return [None] * len(contexts)
    own = [x for context in contexts for x in context.entropies[context.mask].tolist()]
    threshold = top_threshold([x for part in ranks.gather([own]) for x in part] or [0.0], share)
    return [(context.entropies >= threshold) & context.mask for context in contexts]


def without_cut_off(groups: Sequence[Group]) -> list[Group]:
    """The groups without completions that the length limit cut off, whose end nobody knows (DAPO)."""
    kept = [[slot for slot, ended in enumerate(group.finished) if ended] for group in groups]
    return [group.select(slots) for group, slots in zip(groups, kept, strict=True) if slots]
