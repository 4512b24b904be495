"""PEARL: what the model sees decides whether it learns to reason on it.

The paper (Perceptual-Evidence Anchored Reinforced Learning) claims that reasoning on wrong perception rewards luck. For
each question it derives a checklist of sub-questions on what can be seen; rollouts on them give a perceptual reward,
which trains perception and gates the update of the reasoning [S].

Built: the scenes know what stands above, below, left and right of the mask. Each such thing is a sub-question, drawn
`rollouts` times; R_p is the share of right answers. These rollouts are groups of the step, compared and learned from
like any (L_children). The gate multiplies the advantages of the question itself: g = 1[R_p >= `threshold`],
L = L_children + g L_question [P: the abstract has no formula]. A KL still pulls on a gated group, and a question
without a checklist is not gated. Left out: checklists by another model, DAPO, a bias other than the gate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from torch import Tensor

from minigrpo.task import Answer, Completion, Generate, GroupContext, Sample, Terms
from mpcc import task
from mpcc.neighbours.limits import check_limits
from mpcc.rewards import normalise, parse_answer
from mpcc.scenes.curriculum import SIDES
from mpcc.scenes.world import generate

SHORT = 16
"""Longest answer to a sub-question, in tokens."""


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of the checklist."""

    checklist: bool = True
    """Ask what stands beside the mask, learn from the answers, and gate by them; false: plain GRPO."""
    rollouts: int = 4
    """Completions of each sub-question."""
    threshold: float = 0.5
    """Share of right answers from which on the question itself is learned from."""


@lru_cache(maxsize=1024)
def beside(pair_id: str) -> dict[str, str]:
    """Side of the mask → what stands there, of a pair of the embedded scenes; sides with nothing are left out."""
    split, image, annotation = re.fullmatch(r"(\w+)/0*(\d+)\.jpg#(\d+)", pair_id).groups()
    index = int(annotation) - 100 * int(image) - 1
    return {clue.relation: clue.name for clue in generate(f"{split}/{image}").around(index)
            if clue.name and clue.relation in SIDES}


def is_right(question: Sample, text: str) -> bool:
    """Whether a sub-question is answered, in tags or without."""
    return normalise(parse_answer(text) or text) == normalise(question.data["answer"])


class Pearl(task.MaskedPrediction):
    """Masked prediction that is learned where what surrounds the mask is seen.

    Raises:
        ValueError: an impossible option, or a checklist for other data than the embedded scenes.
    """

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_limits(config, rollouts=(2, 4096), threshold=(0, 1))
        self._known = not (config.coco or config.pairs or config.held_out_pairs) and config.evidence
        if config.checklist and not self._known:
            raise ValueError("checklist: only the embedded scenes have one: leave coco, pairs, held_out_pairs and "
                             "evidence as they are, or set checklist = false")
        if config.checklist:
            self.reward_weights = {**self.reward_weights, "perception": 0.0, "seen": 1.0}

    def questions(self, sample: Sample) -> list[Sample]:
        """The checklist of a sample: what is in the picture on each side, none where nothing is."""
        return [Sample(f"{sample.id}/{side}", SIDES[side], sample.images, data={"answer": name, "side": side})
                for side, name in beside(sample.id).items()]

    def reward(self, sample: Sample, completions: list[Completion]) -> Terms | Generator[Generate, list, Terms]:
        """The terms of MPCC, and `perception`, R_p, which weighs nothing; of a sub-question `seen` alone."""
        if "side" in sample.data:
            seen = [float(is_right(sample, completion.text)) for completion in completions]
            return dict.fromkeys(self.reward_weights, [None] * len(completions)) | {"seen": seen}
        terms = super().reward(sample, completions)
        return self._checked(sample, terms, len(completions)) if self.config.checklist else terms

    def _checked(self, sample: Sample, terms: Terms, count: int) -> Generator[Generate, list, Terms]:
        questions = self.questions(sample)
        found = yield Generate(questions, self.config.rollouts, max_new_tokens=SHORT, learn=True)
        right = [is_right(q, c.text) for q, drawn in zip(questions, found, strict=True) for c in drawn]
        return terms | {"perception": [fmean(right) if right else None] * count, "seen": [None] * count}

    def advantages(self, context: GroupContext) -> Tensor:
        """Those of plain GRPO, 0 where the gate is shut."""
        return context.advantages * self._gate(context)

    def _gate(self, context: GroupContext) -> float:
        perceived = context.terms.get("perception", [math.nan])[0]
        return float(not perceived < self.config.threshold)  # open where there is no checklist (NaN)

    def metrics(self, context: GroupContext) -> dict[str, float]:
        """Those of masked prediction, and `gate`: 1 where a question is learned from."""
        if "side" in context.sample.data:
            return {}
        return super().metrics(context) | ({"gate": self._gate(context)} if self.config.checklist else {})

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """Those of masked prediction, and `perception`, the share of sub-questions that are answered right."""
        asked = [q for sample in self.held_out() for q in self.questions(sample)] if self._known else []
        right = [is_right(q, text) for q, text in zip(asked, answer(asked), strict=True)] if asked else []
        return super().evaluate(answer) | ({"perception": fmean(right)} if right else {})
