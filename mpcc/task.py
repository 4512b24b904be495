"""Masked prediction via context and commonsense: one object of an image is hidden, and the model infers what it was.

The task of MPCC, arXiv 2510.21807 (Eq. 1): image with a mask and a question in, reasoning and answer out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Literal

from minigrpo.task import Answer, Completion, GroupContext, Sample, Task
from mpcc import prompts
from mpcc.coco import Coco, ImageEntry
from mpcc.inspection import outline_fault, trained_on, without_bad_pictures, without_pairs
from mpcc.masks import Fill, Kind, apply_mask, check_choice, hidden_region, others_visible
from mpcc.pairs import Pair, file_pairs, instance_pairs
from mpcc.rewards import REWARD_WEIGHTS, Similarity, Variant, reward_terms
from mpcc.signatures import format_collapse, rigidity
from mpcc.splits import read_halves
from mpcc.views import VIEWS, View, has_view, other_pictures, seen

Half = Literal["all", "id", "ood"]
Without = Literal["", "format", "exact", "levenshtein"]


@dataclass(frozen=True)
class Config:
    """Options of masked prediction."""

    coco: str = ""
    """COCO folder: annotations/instances_{split}.json, images in {split}/; empty takes the embedded scenes."""
    pairs: str = ""
    """Training pairs in the authors' format; empty takes the folder's pairs_{split}.json, else all instances."""
    train_split: str = "train2017"
    """Split to train on."""
    held_out_split: str = "val2017"
    """Split to evaluate on."""
    held_out_pairs: str = ""
    """Evaluation pairs, found like those for training."""
    held_out: int = 200
    """Pairs of the evaluation, the same choice in every run; 0 evaluates nothing."""
    mask: Kind = "box"
    """box: soft edge of 5 px; box_hard; polygon: the outline; instances: all of the class; random_box: elsewhere."""
    fill: Fill = "black"
    """Colour of the mask; mean is the mean colour of what stays in sight."""
    reward: Variant = "eq3"
    """eq3: format + exact match + similarity. scripted: 0.6 format + indel ratio, as the authors' scripts add it up."""
    levenshtein: Similarity = "distance"
    """Similarity under eq3: 1 - Levenshtein distance over the longer length, or the indel ratio."""
    without: Without = ""
    """Reward term that does not count, though it is logged (an ablation)."""
    system_prompt: bool = True
    """Send the system prompt of the paper's Table 1."""
    half: Half = "all"
    """Train on all pairs, or on those of one half of the categories (id, ood); the evaluation stays whole."""
    halves: str = "scenes"
    """Where the halves stand: scenes, coco, or a file of `python -m mpcc.splits`."""
    traces: float = 1.0
    """Share of the annotated training pairs that keep their trace; the others get standard GRPO, and no imitation."""
    evidence: bool = True
    """Whether training shows the evidence; false fills its regions, for a model that guesses by the kind of picture."""
    min_area: float = 0.01
    """Smallest box, as a share of its image; concerns pairs made from all instances, not those of a pairs file."""
    max_area: float = 0.5
    """Largest box, as a share of its image: a larger one leaves too little context."""
    max_bad: float = 0.01
    """Share of records that may be wrong: they are skipped, counted and listed; above it training is refused."""


class MaskedSamples(Sequence[Sample]):
    """The samples of some pairs. Indexing opens and masks the image; nothing is kept.

    Args:
        view: A blind view (`mpcc.views`); the ids of its samples end in "/" and its name.
        others: Pair id → the picture of the view `elsewhere`.
    """

    def __init__(self, coco: Coco, pairs: Sequence[Pair], config: Config, view: View | None = None,
                 others: Mapping[str, ImageEntry] | None = None) -> None:
        self.coco, self.pairs, self.config, self.view, self.others = coco, pairs, config, view, others or {}

    def blind(self, view: View) -> MaskedSamples:
        """The same questions in a blind view, of the pairs that have it."""
        pairs = [pair for pair in self.pairs if has_view(view, pair.evidence, self.others.get(pair.id))]
        return MaskedSamples(self.coco, pairs, self.config, view, self.others)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return MaskedSamples(self.coco, self.pairs[index], self.config, self.view, self.others)
        return self._sample(self.pairs[index])

    def _sample(self, pair: Pair) -> Sample:
        image, kind = self.coco.open(pair.image), self.config.mask
        here = self.coco.by_image.get(pair.image.id, [])
        others = [other for other in here if other.category == pair.answer and other.id != pair.annotation]
        region = hidden_region(image.size, pair.target, others, kind, pair.id)
        mask = partial(apply_mask, target=pair.target, others=others, kind=kind, fill=self.config.fill, seed=pair.id)
        picture = seen(self.view, image, mask, region, pair.evidence, lambda: self.coco.open(self.others[pair.id]))
        return Sample(
            # another id in a view, so that nothing kept for the masked image is taken for it
            id=f"{pair.id}/{self.view}" if self.view else pair.id,
            question=prompts.free_question(kind, self.config.fill),
            images=(picture,),
            system=prompts.SYSTEM_PROMPT if self.config.system_prompt else None,
            prior=prompts.completion(pair.trace, pair.answer) if pair.trace else None,
            data={
                "answer": pair.answer,
                "supercategory": pair.supercategory,
                "difficulty": pair.difficulty,
                "box": pair.target.box,
                "others_visible": others_visible(region, others),
            },
        )


class MaskedPrediction(Task):
    """Masked prediction on a COCO folder, or on the embedded scenes.

    A sample's `data` holds `answer`, `supercategory`, `difficulty` (None where unlabelled), `box` [x, y, w, h] in
    pixels and `others_visible` (whether another instance of the class stays in sight).

    Raises:
        ValueError: an option with an impossible value.
        FileNotFoundError: an option that names a missing file or folder.
    """

    Config = Config
    default_model = str(Path(__file__).parent / "scenes" / "model")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        _check(config)
        self._traces: list[str] = []  # of the training pairs, once they were asked for
        self.reward_weights = {**REWARD_WEIGHTS[config.reward], **({config.without: 0.0} if config.without else {})}

    def samples(self) -> Sequence[Sample]:
        """Training samples. Raises ValueError or FileNotFoundError for unusable data, or where there is no pair."""
        return self._train

    def held_out(self) -> Sequence[Sample]:
        """The evaluation's samples: `held_out` of the held-out pairs, chosen alike in every run, or all if fewer."""
        return self._held_out if self.config.held_out else ()

    def reward(self, sample: Sample, completions: list[Completion]) -> dict[str, list[float]]:
        """The terms of MPCC Eq. 3 (`mpcc.rewards.reward_terms`)."""
        return self._terms(sample.data["answer"], [completion.text for completion in completions])

    def metrics(self, context: GroupContext) -> dict[str, float]:
        """`lost`: 1 where nothing that was sampled is right, so that without a prior the name is not learned."""
        exact = context.terms["exact"]
        return {"lost": float(not any(exact[i] for i, prior in enumerate(context.group.is_prior) if not prior))}

    def shown_answer(self, sample: Sample) -> str:
        """The name of the hidden object."""
        return sample.data["answer"]

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """Means over the held-out pairs: `exact_match`, `format`, `levenshtein`, the weighted `reward`; `n` of them.

        Beside `exact_match` stands how much of it is right in the blind views (`mpcc.views`):
        `exact_match_no_evidence`, `_elsewhere` and `_black`, each over the pairs that have the view, absent where none
        has. Where pairs carry a difficulty, also `exact_match_{difficulty}`. And three signs of failure, as shares
        (`mpcc.signatures`): `collapsed`, right without the format; `rigid`, 5-grams of reasoning that stand in a
        training trace, and `rigid_excess`, by how much more than those of one trace stand in another (both absent
        without reasoning, or before `samples` was called). Empty with `held_out` = 0.

        Raises:
            ValueError: `answer` gave another number of completions than there are samples.
        """
        if not self.config.held_out:
            return {}
        samples = self._held_out
        said = answer(samples)
        judged = self._judged(samples, said)
        terms = {"exact_match": [scores["exact"] for scores in judged]}
        for view in VIEWS:
            if blind := samples.blind(view):
                terms[f"exact_match_{view}"] = [scores["exact"] for scores in self._judged(blind, answer(blind))]
        for level in sorted({pair.difficulty for pair in samples.pairs if pair.difficulty}):
            terms[f"exact_match_{level}"] = [scores["exact"] for pair, scores in zip(samples.pairs, judged, strict=True)
                                             if pair.difficulty == level]
        terms |= {name: [scores[name] for scores in judged] for name in ("format", "levenshtein")}
        terms["reward"] = [sum(self.reward_weights[name] * s for name, s in scores.items()) for scores in judged]
        records = [
            {"kind": "free", "file_name": pair.image.file_name, "completion": completion, "answer": pair.answer}
            for pair, completion in zip(samples.pairs, said, strict=True)
        ]
        signs = {"collapsed": format_collapse(records)["collapsed"]["percent"] / 100}
        rote = rigidity(records, self._traces)
        signs |= {name: rote[found] / 100 for name, found in (("rigid", "from_traces"), ("rigid_excess", "excess"))
                  if rote[found] is not None}
        return {name: fmean(values) for name, values in terms.items()} | signs | {"n": float(len(said))}

    def _judged(self, samples: MaskedSamples, said: Sequence[str]) -> list[dict[str, float]]:
        """The reward's terms for one completion of each sample."""
        return [{name: values[0] for name, values in self._terms(pair.answer, [completion]).items()}
                for pair, completion in zip(samples.pairs, said, strict=True)]

    def _terms(self, answer: str, completions: Sequence[str]) -> dict[str, list[float]]:
        return reward_terms(completions, answer, self.config.reward, self.config.levenshtein)

    @cached_property
    def _train(self) -> MaskedSamples:
        samples, config = self._all_train, self.config
        pairs = samples.pairs if config.half == "all" else _of_half(samples.pairs, config.half, config.halves)
        pairs = _keep_traces(pairs, config.traces)
        self._traces = [pair.trace for pair in pairs if pair.trace]
        chosen = MaskedSamples(samples.coco, pairs, config)
        if not config.evidence and not (chosen := chosen.blind("no_evidence")):
            raise ValueError("no training pair has evidence to fill: evidence = false needs pairs that name some")
        return chosen

    @cached_property
    def _all_train(self) -> MaskedSamples:
        return self._load(self.config.train_split, self.config.pairs)

    @cached_property
    def _held_out(self) -> MaskedSamples:
        samples = self._load(self.config.held_out_split, self.config.held_out_pairs)
        fault = trained_on(self._all_train.coco, self._all_train.pairs)
        source = self.config.held_out_pairs or samples.coco.path
        apart = without_pairs(samples.pairs, partial(fault, samples.coco), source, "held-out pairs",
                              self.config.max_bad)
        samples = MaskedSamples(samples.coco, apart, self.config)
        count = min(self.config.held_out, len(samples))
        chosen = sorted(random.Random("held out").sample(range(len(samples)), count))
        entry_of = {pair.image.file_name: pair.image for pair in samples.pairs}
        others = other_pictures((pair.id, pair.image.file_name, pair.scene) for pair in samples.pairs)
        return MaskedSamples(samples.coco, [samples.pairs[i] for i in chosen], self.config,
                             others={id: entry_of[name] for id, name in others.items()})

    def _load(self, split: str, pairs_file: str) -> MaskedSamples:
        coco = Coco(self._folder, split, self.config.max_bad)
        own = self._folder / f"pairs_{split}.json"
        if pairs_file or own.is_file():
            pairs = file_pairs(Path(pairs_file) if pairs_file else own, coco, self.config.max_bad)
        else:
            pairs = instance_pairs(coco, self.config.min_area, self.config.max_area)
        if not pairs:
            raise ValueError(f"no object to hide in {pairs_file or coco.path}: check the file, min_area and max_area")
        pairs = without_bad_pictures(coco, pairs, self.config.max_bad)
        if self.config.mask == "polygon":
            source = pairs_file or coco.path
            pairs = without_pairs(pairs, outline_fault, source, "pairs to outline", self.config.max_bad)
        return MaskedSamples(coco, pairs, self.config)

    @cached_property
    def _folder(self) -> Path:
        if self.config.coco:
            return Path(self.config.coco)
        from mpcc.scenes.folder import ensure_scenes  # drawing them is needed only here

        return ensure_scenes()


def _of_half(pairs: Sequence[Pair], half: str, halves: str) -> list[Pair]:
    """The pairs whose category belongs to that half. Raises ValueError where a category belongs to none."""
    half_of = read_halves(halves)
    for pair in pairs:
        if pair.answer not in half_of:
            raise ValueError(f"{pair.id}: category {pair.answer!r} is in neither half of {halves!r}: set halves")
    if not (kept := [pair for pair in pairs if half_of[pair.answer] == half]):
        raise ValueError(f"no training pair is of the half {half!r} of {halves!r}")
    return kept


def _keep_traces(pairs: Sequence[Pair], share: float) -> list[Pair]:
    """The pairs with a share of their traces: the same ones in every run, a smaller share part of a larger one."""
    annotated = [i for i, pair in enumerate(pairs) if pair.trace]
    random.Random("traces").shuffle(annotated)
    kept = set(annotated[: round(share * len(annotated))])
    return [pair if i in kept or not pair.trace else replace(pair, trace=None) for i, pair in enumerate(pairs)]


def _check(config: Config) -> None:
    check_choice("mask", config.mask, Kind)
    check_choice("fill", config.fill, Fill)
    check_choice("reward", config.reward, Variant)
    check_choice("levenshtein", config.levenshtein, Similarity)
    check_choice("half", config.half, Half)
    check_choice("without", config.without, Without)
    if config.held_out < 0:
        raise ValueError(f"held_out = {config.held_out} must be 0 or more pairs")
    if not 0 <= config.traces <= 1:
        raise ValueError(f"traces = {config.traces} must be a share between 0 and 1")
    if not 0 <= config.max_bad < 1:
        raise ValueError(f"max_bad = {config.max_bad} must be a share: 0 or more, and below 1")
    if not 0 <= config.min_area < config.max_area <= 1:
        limits = f"min_area = {config.min_area} and max_area = {config.max_area}"
        raise ValueError(f"{limits} must be shares of the image with 0 <= min_area < max_area <= 1")
    same = config.train_split == config.held_out_split and config.pairs == config.held_out_pairs
    if config.held_out and same:
        raise ValueError(f"held_out_split = {config.held_out_split!r} is the training split: name another")
    for name in ("coco", "pairs", "held_out_pairs"):
        if (value := getattr(config, name)) and not Path(value).exists():
            raise FileNotFoundError(f"{name} = {value!r}: no such file or folder")
