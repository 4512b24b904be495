"""Scores groups before they are compared: under their own pictures, and under the other ones of `Task.views`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigrpo.layout import Group
from minigrpo.policy import Policy
from minigrpo.prefix import with_prompts
from minigrpo.task import GroupContext
from minigrpo.training import Training


def score_contexts(training: Training, contexts: Sequence[GroupContext], names: Sequence[str]) -> list[GroupContext]:
    """The contexts with log-probabilities and entropies, and log-probabilities under each of the named views."""
    policy = training.roles.reference if training.task.scored_by == "reference" else training.roles.policy
    scores = score_groups(training, policy, [c.group for c in contexts], with_entropy=True)
    contexts = [replace(c, logps=logps, entropies=entropies)
                for c, (logps, entropies) in zip(contexts, scores, strict=True)]
    for name in names:
        seen = [c for c in contexts if name in c.group.views]
        groups = [replace(c.group, prompt=c.group.views[name]) for c in seen]
        found = {id(c): logps for c, (logps, _) in zip(seen, score_groups(training, policy, groups), strict=True)}
        contexts = [replace(c, views={**c.views, name: found[id(c)]}) if id(c) in found else c for c in contexts]
    return contexts


@torch.no_grad()
def score_groups(training: Training, policy: Policy, groups: Sequence[Group], with_entropy: bool = False
                 ) -> list[tuple[Tensor, Tensor | None]]:
    """Log-probabilities [G, T] of each group's completion tokens, 0 behind their ends, and entropies if asked for."""
    outputs = [(batch, policy(batch, with_entropy, kept))
               for batch, kept in with_prompts(policy, training.batches(groups))]
    kept = [out for batch, out in outputs if batch.counted]
    lengths = [len(c) for group in groups for c in group.completions]

    def by_group(values: list[Tensor]) -> list[Tensor]:
        rows = iter(torch.cat(values).cpu().split(lengths)) if values else iter(())
        return [pad_sequence([next(rows) for _ in group.completions], batch_first=True) for group in groups]

    logps = by_group([out.logps for out in kept])
    entropies = by_group([out.entropy for out in kept]) if with_entropy else [None] * len(groups)
    return list(zip(logps, entropies, strict=True))
