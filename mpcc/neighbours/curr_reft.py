"""Curr-ReFT: from easy to hard forms of a question, then imitation of what was right.

The paper claims that small models reason and generalise better by reinforcement that goes from simple perception to
complex tasks, and then by learning from a selection of good answers, which keeps what they could do before [S].

Built, as stages of a run: `binary` (is the hidden object a …?), right 1, else 0; `choice` (which of these objects are
in the image, the hidden one too?), 1 for the true letters, 0.2 for a part of them, else 0; `open`, masked prediction as
it is [forms, order, 0.2: M]; `reject`, where what earns everything is imitated: its advantage is 1, that of all else 0,
so that the gradient is that of their log-likelihood, per token of the step [P]. All forms reward the format. Left out:
text-only data, a judge of quality (what is right is known), detection. [S]: abstract; [M]: from memory; [P]: ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random
from string import ascii_uppercase

from torch import Tensor

from minigrpo.sections import Config as Run
from minigrpo.task import Completion, GroupContext, Sample, Stage, Task
from mpcc import prompts, task
from mpcc.neighbours.asked import Asked
from mpcc.neighbours.limits import check_limits
from mpcc.pairs import Pair
from mpcc.parsing import parse_yes_no
from mpcc.rewards import format_reward, parse_answer


@dataclass(frozen=True)
class Config(task.Config):
    """Options of masked prediction, and of the curriculum."""

    curriculum: bool = True
    """Train in stages; false: all of run.steps is plain GRPO on open questions."""
    binary: float = 0.2
    """Share of run.steps with questions for yes or no."""
    choice: float = 0.2
    """Share with questions for letters."""
    reject: float = 0.2
    """Share that imitates right completions; open questions have the rest."""


def choice_reward(text: str, letters: str) -> float:
    """1 where the answer names the true letters ("A, C"), 0.2 for some of them and no other, else 0."""
    said, true = set(re.findall(r"\b[A-Z]\b", parse_answer(text) or "")), set(letters.split(", "))
    return 1.0 if said == true else 0.2 if said and said < true else 0.0


class Rejection(Task):
    """The stage of imitation: samples and rewards are those of the whole task; all terms earned are an advantage."""

    def __init__(self, whole: CurrReft) -> None:
        super().__init__(whole.config)
        self.samples, self.reward, self.reward_weights = whole.samples, whole.reward, whole.reward_weights
        self.metrics, self.shown_answer = whole.metrics, whole.shown_answer

    def slots(self, sample: Sample) -> list[str]:
        return []

    def advantages(self, context: GroupContext) -> Tensor:
        return (context.rewards >= sum(self.reward_weights.values()) - 1e-9).double()


class Form(Task):
    """The stage of a simpler form, "binary" or "choice"; `data["answer"]` is yes, no, or letters."""

    def __init__(self, whole: CurrReft, form: str) -> None:
        super().__init__(whole.config)
        self.form, self.masked = form, whole.samples()
        self.metrics, self.shown_answer = whole.metrics, whole.shown_answer
        self.names = sorted({pair.answer for pair in self.masked.pairs})

    def samples(self) -> Asked:
        return Asked(self.masked, self._asked)

    def reward(self, sample: Sample, completions: list[Completion]) -> dict[str, list[float]]:
        texts, true = [completion.text for completion in completions], sample.data["answer"]
        exact = [float(parse_yes_no(t) == true) if self.form == "binary" else choice_reward(t, true) for t in texts]
        return {"format": list(map(format_reward, texts)), "exact": exact}

    def _asked(self, sample: Sample, pair: Pair) -> Sample:
        rng, true = Random(f"{pair.id}/{self.form}"), pair.answer
        here = {region.category for region in self.masked.coco.by_image[pair.image.id]} | {true}
        others = [name for name in rng.sample(self.names, len(self.names)) if name not in here]
        if self.form == "binary":
            name = rng.choice([true, *others[:1]])
            question = prompts.true_false_question(name, self.config.mask, self.config.fill)
            answer = "yes" if name == true else "no"
        else:
            names = [true, *rng.sample(sorted(here - {true}), rng.randint(0, len(here) > 1)), *others][:4]
            options = dict(zip(ascii_uppercase, rng.sample(names, len(names)), strict=False))
            question = (f"{sample.question.partition(' From')[0]} Which of these are in the image, the hidden one too? "
                        f"{' '.join(f'{a}.{n}' for a, n in options.items())} Give letters in <answer> </answer>.")
            answer = ", ".join(letter for letter, name in options.items() if name in here)
        prior = prompts.completion(pair.trace, answer) if pair.trace else None
        return replace(sample, question=question, prior=prior, data={**sample.data, "answer": answer})


class CurrReft(task.MaskedPrediction):
    """Masked prediction after simpler forms of it. Raises ValueError for impossible options."""

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_limits(config, binary=(0, 1), choice=(0, 1), reject=(0, 1))
        if (share := config.binary + config.choice + config.reject) > 1:
            raise ValueError(f"binary + choice + reject = {share:g} must be 1 at most, as shares of run.steps")

    def stages(self, config: Run) -> list[Stage]:
        own, steps = self.config, config.run.steps
        if not own.curriculum or not steps:
            return super().stages(config)
        binary, choice, reject = (round(share * steps) for share in (own.binary, own.choice, own.reject))
        made = [Stage("binary", binary, task=Form(self, "binary")), Stage("choice", choice, task=Form(self, "choice")),
                Stage("open", max(0, steps - binary - choice - reject)), Stage("reject", reject, task=Rejection(self))]
        return [stage for stage in made if stage.steps]
