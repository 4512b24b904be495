"""Prior-trajectory slot substitution: annotated trajectories take the last slots of their group (MPCC, prior sampling).

It happens before any reward or advantage is computed, so that mean and deviation run over {r₁ … r_{G−1}, r_prior}
(MPCC Eq. 5), the prior's own tokens are trained, and G never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from minigrpo.layout import PRIOR, Group


def insert_prior(group: Group, prior: Tensor | Sequence[Tensor], group_size: int) -> Group:
    """The group with the prior in its last slot, G − 1; k priors take the last k.

    Args:
        group: G sampled completions, of which the last are replaced, or G − k, to which the priors are added: since
            random numbers are keyed by slot both give the same group, and the second draws nothing in vain.
        prior: int64 [n], the trajectory's tokens with its end token; or k of these.
        group_size: G.

    Raises:
        ValueError: the group has another size, a prior or advantages already, or a prior is empty or one too many.
    """
    priors = [prior] if isinstance(prior, Tensor) else list(prior)
    name, size, kept = group.prompt.id, len(group.completions), group_size - len(priors)
    if kept < 0:
        raise ValueError(f"{name}: {len(priors)} priors for a group of {group_size}")
    if size not in (group_size, kept):
        raise ValueError(f"{name}: {size} completions, expected {group_size}, or {kept} beside the prior")
    if any(group.is_prior):
        raise ValueError(f"{name}: the group has a prior already")
    if group.advantages is not None:
        raise ValueError(f"{name}: the prior comes before the advantages, and the group has them already")
    if any(len(tokens) == 0 for tokens in priors):
        raise ValueError(f"{name}: the prior is empty")
    sampled = group.select(range(kept))
    # nobody drew a prior: it has no log-probability of the sampler's, and the policy scores it like the rest
    unknown = [torch.full((len(tokens),), torch.nan) for tokens in priors]
    return replace(
        sampled,
        completions=[*sampled.completions, *priors],
        sampler_logps=[*sampled.sampler_logps, *unknown] if sampled.sampler_logps else [],
        finished=[*sampled.finished, *[True] * len(priors)] if sampled.finished or not kept else [],
        sources=[*(sampled.sources or ["policy"] * kept), *[PRIOR] * len(priors)],
    )
