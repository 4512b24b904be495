"""VOGUE: answers from a noisy picture are explored where the noise changes what the model would say.

The paper (visual uncertainty guided exploration) claims that policies explore too little in what they see: by a
symmetric KL between a raw and a noisy picture it measures how much hangs on it, adds a bonus in proportion and one for
the entropy of tokens, and draws from the noisy branch ever less [S].

Built: the last completions of a group are drawn from the noisy picture, ever fewer of them: `noisy` · (1 − step /
`anneal`), rounded up. For a token that one branch drew, with d = log p_other − log p_own, ½ d (e^d − 1) estimates the
symmetric KL without bias (½ of k3, e^d − d − 1, and ½ of the other direction's d e^d − e^d + 1), and is never negative.
U is its mean over a completion's tokens; for the noisy branch A' = A + min(`bonus` · U, |A| / `kappa`) [P: the abstract
has no formula]. The entropy bonus is the engine's (`--grpo.entropy_bonus`). Left out: diffusion's noise; ours is plain.
[S]: abstract; [P]: our reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minigrpo.task import GroupContext, Sample
from mpcc import task
from mpcc.neighbours.limits import check_limits

MOST = 20.0
"""Bound of d, so that e^d stays a number."""


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of the noisy branch."""

    noisy: int = 3
    """Completions of a group that are drawn from the noisy picture in the first step; 0: plain GRPO."""
    anneal: int = 80
    """Steps until none are."""
    sigma: float = 40.0
    """Standard deviation of the noise, of 255."""
    bonus: float = 0.5
    """What the visual uncertainty of a noisy completion adds to its advantage, per nat."""
    kappa: float = 2.0
    """A bonus is at most the advantage's size over this."""


def with_noise(picture: Image.Image, sigma: float, key: str) -> Image.Image:
    """The picture with Gaussian noise, the same for the same key."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    noise = np.random.default_rng(crc32(key.encode())).normal(0.0, sigma, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def symmetric_kl(own: Tensor, other: Tensor) -> Tensor:
    """½ (KL(own ‖ other) + KL(other ‖ own)), estimated at tokens that `own` drew; of log-probabilities [...]."""
    d = (other - own).clamp(-MOST, MOST)
    return d * (d.exp() - 1) / 2


def with_bonus(advantages: Tensor, uncertainty: Tensor, config: Config) -> Tensor:
    """A' [n] of noisy completions, from A [n] and U [n]."""
    return advantages + torch.minimum(config.bonus * uncertainty, advantages.abs() / config.kappa)


class Vogue(task.MaskedPrediction):
    """Masked prediction that explores from noisy pictures. Raises ValueError for impossible options."""

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_limits(config, noisy=(0, 4096), anneal=(1, 1e9), sigma=(0, 255), bonus=(0, 1e6), kappa=(1e-6, 1e6))

    def count(self, step: int) -> int:
        """How many completions of a group are noisy."""
        return max(0, math.ceil(self.config.noisy * (1 - step / self.config.anneal)))

    def views(self, sample: Sample, step: int) -> dict[str, list[Image.Image]]:
        if not self.count(step):
            return {}
        return {"noisy": [with_noise(image, self.config.sigma, f"{sample.id}/{step}") for image in sample.images]}

    def draw_from(self, sample: Sample, step: int) -> dict[str, int]:
        return {"noisy": count} if (count := self.count(step)) else {}

    def advantages(self, context: GroupContext) -> Tensor:
        noisy = torch.tensor([source == "noisy" for source in context.group.sources], dtype=torch.bool)
        if context.bad or not noisy.any():
            return context.advantages
        return torch.where(noisy, with_bonus(context.advantages, self._uncertainty(context), self.config),
                           context.advantages)

    def metrics(self, context: GroupContext) -> dict[str, float]:
        """Those of masked prediction, and `uncertainty`: the mean U of noisy completions, where there are any."""
        found = super().metrics(context)
        noisy = [i for i, source in enumerate(context.group.sources) if source == "noisy"]
        return found | ({"uncertainty": self._uncertainty(context)[noisy].mean().item()} if noisy else {})

    def _uncertainty(self, context: GroupContext) -> Tensor:
        found = symmetric_kl(context.views["noisy"], context.logps) * context.mask
        return (found.sum(1) / context.mask.sum(1)).double()
