"""Visionary-R1: a caption first, and it must suffice to answer.

The paper claims that rewarded reasoning takes shortcuts on easy questions, and that a model which must first interpret
the image, then reason, then answer, generalises better without any chain of thought to imitate [S].

Built: completions are `<info>…</info><think>…</think><answer>…</answer>`, which the format term asks for. With the
mechanism the policy answers each caption's question again, without image, greedily [P], equal captions once; the term
`caption`, 0.1 times whether that is right [C], adds to the reward. The KL falls, beta/2 (1 + cos(pi step / steps)) [C],
by --grpo.beta_schedule cosine. Left out: their data, and RL from the bare prompt: the tiny base has never seen the tag,
so traces, split before their last sentence, are imitated first (--run.stages sft+rft). [C]: public code; [P]: ours.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from minigrpo.task import Answer, Completion, Generate, GroupContext, Sample, Terms
from mpcc import task
from mpcc.neighbours.asked import Asked
from mpcc.neighbours.limits import check_limits
from mpcc.pairs import Pair
from mpcc.prompts import SYSTEM_PROMPT, completion, free_question
from mpcc.rewards import TAGS, format_reward

_CAPTION = re.compile(r"<info>(.*?)</info>\s*", re.DOTALL)


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of the caption."""

    caption: bool = True
    """Reward captions from which the policy can answer; false: plain GRPO in the same format."""
    caption_weight: float = 0.1
    """What a caption that suffices adds to the reward."""


def caption_of(text: str) -> str | None:
    """What a completion begins with in `<info>` tags, stripped; None where there is nothing."""
    return (found[1].strip() or None) if (found := _CAPTION.match(text)) else None


def info_format(text: str) -> float:
    """1 where the whole completion is a caption, then reasoning, then an answer, each tag once; else 0."""
    found, once = _CAPTION.match(text), text.count("<info>") == text.count("</info>") == 1
    return format_reward(text[found.end() :]) if found and once and not any(t in found[1] for t in TAGS) else 0.0


def told(trace: str, answer: str) -> str:
    """A trace in the format: all but its last sentence as the caption."""
    seen, end, last = trace.strip().rpartition(". ")
    return f"<info> {seen or last}{end.rstrip()} </info>{completion(last, answer)}"


class Visionary(task.MaskedPrediction):
    """Masked prediction by way of a caption. Raises ValueError for an impossible option."""

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_limits(config, caption_weight=(0, 100))
        if config.caption:
            self.reward_weights = {**self.reward_weights, "caption": config.caption_weight}

    def samples(self) -> Sequence[Sample]:
        return Asked(super().samples(), self._asked)

    def held_out(self) -> Sequence[Sample]:
        return Asked(self._held_out, self._asked) if self.config.held_out else ()

    def _asked(self, sample: Sample, pair: Pair) -> Sample:
        before, _, after = sample.question.partition("Reason in")
        return replace(sample, question=f"{before}Describe what you see in <info> </info>, then reason in{after}",
                       prior=told(pair.trace, pair.answer) if sample.prior else None)

    def blind(self, sample: Sample, caption: str, number: int) -> Sample:
        """The question with a caption in the image's place."""
        question = f"{caption}\n{free_question(self.config.mask, self.config.fill)}"
        return Sample(f"{sample.id}/caption/{number}", question, system=SYSTEM_PROMPT)

    def reward(self, sample: Sample, completions: list[Completion]) -> Terms | Generator[Generate, list, Terms]:
        """The terms of MPCC, the format with a caption; and `caption`, whether it suffices, where that is on."""
        terms = super().reward(sample, completions)
        captions = [caption_of(completion.text) for completion in completions]
        return self._sufficing(sample, captions, terms) if self.config.caption else terms

    def _sufficing(self, sample: Sample, captions: list[str | None], terms: Terms) -> Generator[Generate, list, Terms]:
        asked = list(dict.fromkeys(filter(None, captions)))
        found = yield Generate([self.blind(sample, text, i) for i, text in enumerate(asked)], temperature=0)
        right = {None: 0.0} | {text: self._right(sample, c.text) for text, (c,) in zip(asked, found, strict=True)}
        return terms | {"caption": [right[text] for text in captions]}

    def metrics(self, context: GroupContext) -> dict[str, float]:
        """Those of masked prediction, and `caption_names`: the share of completions whose caption names the answer."""
        named = [context.sample.data["answer"] in (caption_of(c.text) or "") for c in context.completions]
        return super().metrics(context) | {"caption_names": fmean(named)}

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """Those of masked prediction, and `exact_match_caption`: how much is right from the captions alone."""
        said: list[list[str]] = []

        def asked(samples: task.MaskedSamples) -> list[str]:
            said.append(answer(Asked(samples, self._asked)))
            return said[-1]

        found = super().evaluate(asked)
        captions = [(s, text) for s, c in zip(self.held_out(), *said[:1], strict=True) if (text := caption_of(c))]
        answers = answer([self.blind(s, text, 0) for s, text in captions]) if captions else []
        right = [self._right(s, text) for (s, _), text in zip(captions, answers, strict=True)]
        return found and found | {"exact_match_caption": sum(right) / len(said[0])}

    def _terms(self, answer: str, completions: Sequence[str]) -> dict[str, list[float]]:
        return super()._terms(answer, completions) | {"format": [info_format(text) for text in completions]}

    def _right(self, sample: Sample, text: str) -> float:
        return super()._terms(sample.data["answer"], [text])["exact"][0]
