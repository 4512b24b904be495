"""Prior-trajectory slot substitution: an annotated trajectory takes the last slot of its group (MPCC, prior sampling).

It happens before any reward or advantage is computed, so that mean and deviation run over {r₁ … r_{G−1}, r_prior}
(MPCC Eq. 5), the prior's own tokens are trained, and G never changes.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from minigrpo.layout import Group


def insert_prior(group: Group, prior: Tensor, group_size: int) -> Group:
    """The group with the prior in its last slot, slot G − 1.

    Args:
        group: G sampled completions, of which the last is replaced, or G − 1, to which the prior is added: since random
            numbers are keyed by slot both give the same group, and the second draws nothing in vain.
        prior: int64 [n], the trajectory's tokens with its end token.
        group_size: G.

    Raises:
        ValueError: the group has another size, a prior or advantages already, or the prior is empty.
    """
    if len(group.completions) not in (group_size, group_size - 1):
        raise ValueError(f"{group.prompt.id}: {len(group.completions)} completions, expected {group_size} or one less")
    if group.prior_slot is not None:
        raise ValueError(f"{group.prompt.id}: the group has a prior already")
    if group.advantages is not None:
        raise ValueError(f"{group.prompt.id}: the prior comes before the advantages, and the group has them already")
    if len(prior) == 0:
        raise ValueError(f"{group.prompt.id}: the prior is empty")
    kept = group.select(range(group_size - 1))
    return replace(
        kept,
        completions=[*kept.completions, prior],
        sampler_logps=[],  # the prior was not drawn; the policy scores it like the rest (A7)
        finished=[*kept.finished, True] if kept.finished or not kept.completions else [],
        prior_slot=group_size - 1,
    )
