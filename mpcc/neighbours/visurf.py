"""ViSurf: the label itself is one of the completions, so that a step imitates and explores at once.

The paper (visual supervised-and-reinforcement fine-tuning) claims that ground-truth labels among the rollouts bring the
supervision of imitation and the feedback of reinforcement into one stage, and that three controls of the label's reward
keep it stable [S].

Built, in place of the annotated trajectory: a slot with the label and no reasoning. Its controls [M: from memory; each
can be switched off]: `style` writes it in the tags that the policy is asked for; `no_thinking` gives it no reward for
the format, as it shows no reasoning: in its place the mean of what the rollouts earned; `cap` lets it teach only as
long as no rollout is as good: once one is, its reward is the rollouts' mean, its advantage next to 0. Left out: labels
that are more than a name, boxes and masks. [S]: abstract.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from minigrpo.task import GroupContext, Sample
from mpcc import task


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of the label among its completions."""

    label: bool = True
    """Put the label into a slot; false: the annotated trajectory, where there is one, as ever."""
    style: bool = True
    """Write it in the policy's tags."""
    no_thinking: bool = True
    """It earns no reward for the format."""
    cap: bool = True
    """Its reward is the rollouts' mean once one of them is as good."""


def label_text(answer: str, style: bool) -> str:
    """The label as a completion."""
    return f"<think></think><answer>{answer}</answer>" if style else answer


def controlled(rewards: Tensor, formats: Tensor, is_label: Tensor, config: Config) -> Tensor:
    """Rewards [G] with those of the label under control.

    Args:
        rewards: [G].
        formats: [G], the part of them that is for the format.
        is_label: bool [G].
    """
    rewards, own = rewards.clone(), ~is_label
    if config.no_thinking:
        rewards[is_label] += formats[own].mean() - formats[is_label]
    if config.cap and rewards[own].max() >= rewards[is_label].max():
        rewards[is_label] = rewards[own].mean()
    return rewards


class ViSurf(task.MaskedPrediction):
    """Masked prediction with the label in a slot."""

    Config = Config

    def slots(self, sample: Sample) -> list[str]:
        if not self.config.label:
            return list(super().slots(sample))
        return [label_text(sample.data["answer"], self.config.style)]

    def advantages(self, context: GroupContext) -> Tensor:
        is_label = torch.tensor(context.group.is_prior, dtype=torch.bool)
        if not self.config.label or context.bad or not is_label.any() or is_label.all():
            return context.advantages
        formats = self.reward_weights.get("format", 1.0) * torch.tensor(context.terms["format"], dtype=torch.float64)
        return context.compare(controlled(context.rewards, formats, is_label, self.config))

    def metrics(self, context: GroupContext) -> dict[str, float]:
        """Those of masked prediction, and `teaches`: 1 where the label's advantage is above 0."""
        found, priors = super().metrics(context), context.group.is_prior
        if not self.config.label or not any(priors):
            return found
        return found | {"teaches": float(context.advantages[priors.index(True)] > 1e-9)}
