"""Teacher-forced attribution: what each region of the picture is worth to each token of one completion.

    Δ(t, r) = log p(t | I) − log p(t | I − r)

in nats, t a token of the completion, I the picture as the model saw it, I − r the same with region r masked. Of a step
it is the mean over the step's tokens. After Contrastive Region Masking ("Peek-a-Boo Reasoning", 2025), whose authors
mask annotated regions and contrast the reasoning; the estimator is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from minigrpo import EncodedPrompt, Group, Policy, Sample, micro_batches

TOKENS_AT_ONCE = 16384
"""Tokens, the images' included, that are scored in one forward."""


def encode_views(policy: Policy, sample: Sample, pictures: Sequence[Image.Image], max_tokens: int | None = None
                 ) -> list[EncodedPrompt]:
    """The sample's prompt about each of some pictures, which stand for its own one; equal pictures share one prompt.

    Raises:
        ValueError: as `VLM.encode`.
    """
    made: dict[tuple, EncodedPrompt] = {}
    prompts = []
    for place, picture in enumerate(pictures):
        key = (picture.size, picture.tobytes())
        if key not in made:
            # another id, so that a sample drawn from one view owes nothing to another
            shown = replace(sample, id=f"{sample.id}/{place}" if place else sample.id, images=(picture,))
            made[key] = policy.vlm.encode(shown, max_tokens)
        prompts.append(made[key])
    return prompts


@torch.no_grad()
def score_views(policy: Policy, asked: Sequence[tuple[Sequence[EncodedPrompt], Tensor]]) -> list[Tensor]:
    """Log-probabilities [V, n] of the same completion, int64 [n], under each of the V prompts of an item.

    All prompts of all items are packed and scored together; one that occurs twice in an item is scored once, so that
    the same picture gives the very same number.
    """
    distinct = [list({id(prompt): prompt for prompt in prompts}.values()) for prompts, _ in asked]
    groups = [Group(prompt, [completion]) for prompts, (_, completion) in zip(distinct, asked, strict=True)
              for prompt in prompts]
    scored = [policy(batch.to(policy.vlm.device), with_entropy=False).logps.cpu()
              for batch in micro_batches(groups, TOKENS_AT_ONCE)]
    rows = iter(torch.cat(scored).split([len(group.completions[0]) for group in groups]) if scored else ())
    found = []
    for prompts, (views, _) in zip(distinct, asked, strict=True):
        of = {id(prompt): next(rows) for prompt in prompts}
        found.append(torch.stack([of[id(prompt)] for prompt in views]))
    return found


def differences(logps: Tensor) -> Tensor:
    """Δ [V - 1, n] in nats of every view but the first, which is the unmasked picture, from `score_views` [V, n]."""
    return logps[0] - logps[1:]


def over_tokens(deltas: Tensor, spans: Sequence[tuple[int, int]]) -> list[list[float | None]]:
    """The mean of Δ [V, n] over the tokens of each span: [spans][V], None for a span without a token."""
    deltas = deltas.double()
    return [[None] * len(deltas) if start == end else deltas[:, start:end].mean(1).tolist() for start, end in spans]
