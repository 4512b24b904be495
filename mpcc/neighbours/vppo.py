"""VPPO: tokens and completions count by how much they depend on the picture.

The paper (visually-perceptive policy optimisation) claims that few tokens of a reasoning depend on the image, that
completions differ in it, and that plain GRPO, which weighs all alike, dilutes what there is to learn [S].

Built [C: public scripts, for facts]: the picture once more with squares of 14 pixels blacked at random (p = 0.5);
δ = clip(log π(y | masked) − log π(y | picture), ±20), dependency d = min(e^δ − δ − 1, 10). Of each completion the top
⌈`top` · T⌉ tokens by d are trained (the others stay in the mean over tokens), ties by place; advantages times
α = m + ŝ (M − m), where s is a completion's mean d, ŝ its place between the least and the largest of the step, on all
ranks, and M = m + (1 − m) / mean ŝ, so that α is 1 on average. top = 0.4 [M], m = 0.9. `VppoPenalised` adds a penalty
c · mean(−log π), c = 0.06, theirs for 7B.
Theirs takes least and largest per rank; ours must not depend on how many there are. Left out: clip-higher, no KL (which
are options of the engine: `--grpo.clip_high 0.28 --grpo.beta 0`). [S]: abstract; [M]: from memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from minigrpo.task import BatchContext, GroupContext, Sample
from mpcc import task
from mpcc.neighbours.limits import check_limits

SIDE, BLACKED, MOST_DELTA, MOST = 14, 0.5, 20.0, 10.0
"""Pixels of a square and the share that is blacked; bounds of δ and of d."""


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of what depends on the picture."""

    dependency: bool = True
    """Weigh tokens and completions by their dependency; false: plain GRPO."""
    top: float = 0.4
    """Share of a completion's tokens that is trained."""
    least: float = 0.9
    """What the advantage of the least dependent completion is multiplied by, m."""
    penalty: float = 0.06
    """Of VppoPenalised: weight of the mean of −log π over the tokens, c."""


def blacked(picture: Image.Image, key: str) -> Image.Image:
    """The picture with random squares in black."""
    rng, found = Random(key), picture.convert("RGB")
    for top in range(0, found.height, SIDE):
        for left in range(0, found.width, SIDE):
            if rng.random() < BLACKED:
                found.paste((0, 0, 0), (left, top, min(left + SIDE, found.width), min(top + SIDE, found.height)))
    return found


def dependency(logps: Tensor, masked: Tensor) -> Tensor:
    """d of each token, in [0, 10], from its log-probabilities with the picture and with the masked one."""
    delta = (masked - logps).clamp(-MOST_DELTA, MOST_DELTA)
    return (delta.exp() - delta - 1).clamp(0, MOST)


def top_tokens(found: Tensor, mask: Tensor, share: float) -> Tensor:
    """bool [G, T]: of each completion the ⌈share · n⌉ tokens with the largest d, of equal ones the first."""
    order = found.masked_fill(~mask, -1.0).argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return ranks < torch.ceil(share * mask.sum(1, keepdim=True) - 1e-9)


def scales(own: Sequence[float], every: Sequence[float], least: float) -> list[float]:
    """α of completions with mean dependencies `own`, among all of the step; 1 where all are equal."""
    low, high = min(every), max(every)
    if high == low:
        return [1.0] * len(own)
    slope = (1 - least) / fmean((s - low) / (high - low) for s in every)  # M − m
    return [least + slope * (s - low) / (high - low) for s in own]


class Vppo(task.MaskedPrediction):
    """Masked prediction in which what depends on the picture counts. Raises ValueError for impossible options."""

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_limits(config, top=(0.01, 1), least=(0, 1), penalty=(0, 1e3))
        self._on = config.dependency

    def views(self, sample: Sample, step: int) -> dict[str, list[Image.Image]]:
        return {"blacked": [blacked(image, f"{sample.id}/{step}") for image in sample.images]} if self._on else {}

    def gather(self, context: GroupContext) -> Mapping[str, Sequence[float]]:
        return {"dependency": self._means(context)} if self._on else {}

    def advantages(self, context: GroupContext) -> Tensor:
        if not self._on:
            return context.advantages
        alpha = scales(self._means(context), context.gathered["dependency"], self.config.least)
        return context.advantages * torch.tensor(alpha, dtype=torch.float64)

    def token_weights(self, context: GroupContext) -> Tensor | None:
        return top_tokens(self._found(context), context.mask, self.config.top).double() if self._on else None

    def metrics(self, context: GroupContext) -> dict[str, float]:
        return super().metrics(context) | ({"dependency": fmean(self._means(context))} if self._on else {})

    def _found(self, context: GroupContext) -> Tensor:
        return dependency(context.logps, context.views["blacked"])

    def _means(self, context: GroupContext) -> list[float]:
        return ((self._found(context) * context.mask).sum(1) / context.mask.sum(1)).tolist()


class VppoPenalised(Vppo):
    """The same with a penalty on what the policy is not sure of."""

    def extra_loss(self, context: BatchContext) -> Tensor:
        return -self.config.penalty * (context.weights * context.logps).sum()
