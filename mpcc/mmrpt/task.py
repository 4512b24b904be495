"""MMRPT: the words of a caption that need the picture are hidden, and the model reasons its way back to them.

After MMRPT (arXiv 2512.07203), of which no code is public. The reward is semantic and visual: does the answer say what
was hidden, and does the picture make it likelier than a blind view does (`mpcc.mmrpt.reward`)? Likelihoods are those of
the frozen reference: nothing is gained by unlearning to answer blindly.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from minigrpo.task import Answer, Completion, GroupContext, Sample, Task
from mpcc import prompts
from mpcc.inspection import without_bad_pictures
from mpcc.masks import check_choice
from mpcc.mmrpt.captions import Caption, Captions, CocoCaptions, read_captions
from mpcc.mmrpt.guess import TextGuess
from mpcc.mmrpt.masks import Choice, Masked, masked_by_choice, masked_by_scores
from mpcc.mmrpt.questions import gap_question
from mpcc.mmrpt.reward import gain, semantic_terms, visual
from mpcc.mmrpt.spans import Granularity

Blind = Literal["black", "elsewhere"]
"""A blind view: all of the picture black, or another picture of the same kind in its place."""
BLACK = "black"


@dataclass(frozen=True)
class Config:
    """Options of MMRPT."""

    coco: str = ""
    """COCO folder: annotations/captions_{split}.json, images in {split}/; empty takes captions of the scenes."""
    train_split: str = "train2017"
    """Split to train on."""
    held_out_split: str = "val2017"
    """Split to evaluate on."""
    masks: str = ""
    """Scores of the training captions (python -m mpcc.mmrpt.dependency): their dependent parts are masked."""
    held_out_masks: str = ""
    """The same of the held-out captions; empty takes the true parts, which the scenes know."""
    parts: Choice = "true"
    """Without masks: what truly needs the picture, which the scenes know, or as many parts at random."""
    granularity: Granularity = "span"
    """Parts without masks: sentences, spans, or auto, sentences where a caption has several."""
    quantile: float = 0.75
    """Quantile of a caption's own scores, at or above which a part is masked; one part at least, and not all."""
    held_out: int = 200
    """Gaps of the evaluation, the same choice in every run; 0 evaluates nothing."""
    format_weight: float = 1.0
    """Weight of the format in the reward."""
    exact_weight: float = 1.0
    """Weight of an exact reconstruction."""
    f1_weight: float = 1.0
    """Weight of the F1 of words."""
    visual_weight: float = 1.0
    """Weight of the visual term; 0 leaves it out, though it is logged."""
    blind: Blind = "black"
    """What the visual term compares with: a black picture, or elsewhere, another one of the same kind of place."""
    system_prompt: bool = True
    """Send the system prompt that asks for reasoning and answer in tags."""
    max_bad: float = 0.01
    """Share of records that may be wrong: they are skipped, counted and listed; above it training is refused."""


class GapSamples(Sequence[Sample]):
    """The samples of some captions with gaps. Indexing opens the picture; nothing is kept.

    Args:
        blind: Whether all pictures are black; the ids of such samples end in "/black".
    """

    def __init__(self, captions: Captions, masked: Sequence[Masked], system: str | None, blind: bool = False) -> None:
        self.captions, self.masked, self.system, self.blind = captions, masked, system, blind

    def __len__(self) -> int:
        return len(self.masked)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return GapSamples(self.captions, self.masked[index], self.system, self.blind)
        masked = self.masked[index]
        picture = self.captions.shown(masked.caption)
        return Sample(
            id=f"{masked.id}/{BLACK}" if self.blind else masked.id,
            question=gap_question(masked),
            images=(_black(picture) if self.blind else picture,),
            system=self.system,
            data={"answer": masked.missing, "rest": masked.rest, "subject": masked.caption.subject,
                  "picture": masked.image},
        )


class MMRPT(Task):
    """Masked captions of a COCO folder, or of the scenes.

    A sample's `data` holds `answer`, the missing words, `rest`, the caption with the gap, `subject`, what it is a
    caption of, and `picture`, as `Caption.picture`.

    Raises:
        ValueError: an option with an impossible value.
        FileNotFoundError: an option that names a missing file or folder.
    """

    Config = Config
    default_model = str(Path(__file__).parents[1] / "scenes" / "model")
    scored_by = "reference"
    needs_spans = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        _check(config)
        self.reward_weights = {"format": config.format_weight, "exact": config.exact_weight, "f1": config.f1_weight}

    def samples(self) -> Sequence[Sample]:
        """Training samples. Raises ValueError or FileNotFoundError for unusable data, or where there is no gap."""
        return self._train

    def held_out(self) -> Sequence[Sample]:
        """The evaluation's samples, chosen alike in every run."""
        return self._held_out if self.config.held_out else ()

    def reward(self, sample: Sample, completions: list[Completion]) -> dict[str, list[float]]:
        """The semantic terms and the format (`mpcc.mmrpt.reward`); the visual one follows in `advantages`."""
        return semantic_terms([c.text for c in completions], sample.data["answer"], sample.data["rest"])

    def views(self, sample: Sample, step: int) -> dict[str, list[Image.Image]]:
        """The blind view. Raises ValueError where there is no other picture of the kind."""
        if self.config.blind == BLACK:
            return {BLACK: [_black(image) for image in sample.images]}
        others = [c for c in self._by_subject[sample.data["subject"]] if c.picture != sample.data["picture"]]
        if not others:
            raise ValueError("blind = 'elsewhere' needs a second picture of its kind; take black")
        return {"elsewhere": [self._train.captions.shown(random.Random(f"elsewhere {sample.id}").choice(others))]}

    def advantages(self, context: GroupContext) -> Tensor:
        """Those of the whole reward: the semantic terms, and the visual one by the reference."""
        if context.bad:
            return context.advantages
        terms = torch.tensor([visual(found) for found in _gains(context)], dtype=torch.float64)
        return context.compare(context.rewards + self.config.visual_weight * terms)

    def metrics(self, context: GroupContext) -> dict[str, float]:
        """`visual`: the mean of the term; `gain`: that of the gains in nats a token, of completions with an answer, and
        `gain_wrong` of those whose answer is not exact."""
        gains = _gains(context)
        answered = [found for found in gains if found is not None]
        wrong = [found for found, exact in zip(gains, context.terms["exact"], strict=True)
                 if found is not None and exact != 1]
        return {"visual": fmean(visual(found) for found in gains)} | {
            name: fmean(values) for name, values in (("gain", answered), ("gain_wrong", wrong)) if values}

    def shown_answer(self, sample: Sample) -> str:
        """The missing words."""
        return sample.data["answer"]

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """Means over the held-out gaps, `n` of them: `exact`, `f1`, `format`; `exact_black` and `f1_black` with a black
        picture, `gap` = `exact` less `exact_black`; `exact_text` and `f1_text` of a guess from the text alone.

        Empty with `held_out` = 0.
        """
        if not self.config.held_out:
            return {}
        samples = self._held_out
        blind = GapSamples(samples.captions, samples.masked, samples.system, blind=True)
        guess = TextGuess(self._train.masked)
        found = _means(samples.masked, answer(samples))
        black = _means(samples.masked, answer(blind))
        text = _means(samples.masked, [prompts.completion("", guess(masked)) for masked in samples.masked])
        found |= {f"{name}_black": black[name] for name in ("exact", "f1")}
        found |= {f"{name}_text": text[name] for name in ("exact", "f1")}
        return found | {"gap": found["exact"] - found["exact_black"], "n": len(samples)}

    @cached_property
    def _train(self) -> GapSamples:
        config = self.config
        captions = read_captions(config.coco, config.train_split, config.max_bad)
        if config.masks:
            masked = masked_by_scores(captions, config.masks, config.quantile)
        else:
            masked = masked_by_choice(captions, config.parts, config.granularity, config.quantile)
        return self._usable(captions, masked)

    @cached_property
    def _by_subject(self) -> dict[str, list[Caption]]:
        """What training captions are of → a caption of each picture of that kind."""
        found: dict[str, dict[Any, Caption]] = defaultdict(dict)
        for masked in self._train.masked:
            found[masked.caption.subject].setdefault(masked.image, masked.caption)
        return {subject: list(captions.values()) for subject, captions in found.items()}

    @cached_property
    def _held_out(self) -> GapSamples:
        config = self.config
        captions = read_captions(config.coco, config.held_out_split, config.max_bad)
        if config.held_out_masks:
            masked = masked_by_scores(captions, config.held_out_masks, config.quantile)
        else:
            masked = masked_by_choice(captions, "true", config.granularity, config.quantile)
        samples = self._usable(captions, masked)
        chosen = random.Random("held out").sample(range(len(samples)), min(config.held_out, len(samples)))
        return GapSamples(captions, [samples.masked[i] for i in sorted(chosen)], samples.system)

    def _usable(self, captions: Captions, masked: Sequence[Masked]) -> GapSamples:
        if not masked:
            raise ValueError(f"no part of a caption to hide in {captions.source}: check the file of scores, or parts")
        if isinstance(captions, CocoCaptions):
            masked = without_bad_pictures(captions, masked, self.config.max_bad)
        return GapSamples(captions, masked, prompts.SYSTEM_PROMPT if self.config.system_prompt else None)


def _gains(context: GroupContext) -> list[float | None]:
    """The gain of each completion of a group."""
    (blind,) = context.views.values()
    return [gain(completion, context.logps[i], blind[i]) for i, completion in enumerate(context.completions)]


def _means(masked: Sequence[Masked], said: Sequence[str]) -> dict[str, float]:
    """The means of `exact`, `f1` and `format` over one completion for each gap."""
    terms = [semantic_terms([text], gap.missing, gap.rest) for gap, text in zip(masked, said, strict=True)]
    return {name: fmean(found[name][0] for found in terms) for name in ("exact", "f1", "format")}


def _black(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size)


def _check(config: Config) -> None:
    check_choice("parts", config.parts, Choice)
    check_choice("blind", config.blind, Blind)
    check_choice("granularity", config.granularity, Granularity)
    if config.held_out < 0:
        raise ValueError(f"held_out = {config.held_out} must be 0 or more gaps")
    if not 0 <= config.quantile <= 1:
        raise ValueError(f"quantile = {config.quantile} must be a share between 0 and 1")
    if not 0 <= config.max_bad < 1:
        raise ValueError(f"max_bad = {config.max_bad} must be a share: 0 or more, and below 1")
    if config.masks and config.parts == "random":
        raise ValueError(f"parts = 'random' would not read masks = {config.masks!r}: leave one of them out")
    if config.coco and not config.masks and config.parts == "true":
        raise ValueError("coco needs masks, a file of python -m mpcc.mmrpt.dependency: what of its captions truly "
                         "needs the picture nobody knows; without one take parts = 'random'")
    if config.coco and config.held_out and not config.held_out_masks:
        raise ValueError("coco needs held_out_masks too, a file of python -m mpcc.mmrpt.dependency of the held-out "
                         "split; or set held_out = 0")
    if config.held_out and config.train_split == config.held_out_split:
        raise ValueError(f"held_out_split = {config.held_out_split!r} is the training split: name another")
    for name in ("coco", "masks", "held_out_masks"):
        if (value := getattr(config, name)) and not Path(value).exists():
            raise FileNotFoundError(f"{name} = {value!r}: no such file or folder")
