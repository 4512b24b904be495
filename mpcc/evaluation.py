"""A model on MPCC-Eval: every question about every pair, answered in batches and kept on disk as they are answered.

The masked image and what the prompts of a pair begin with are computed once for all of its questions.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from minigrpo import VLM, Sample, Sampling
from minigrpo.ranks import Ranks
from minigrpo.rollout import answer, answer_together
from minigrpo.sections import ModelConfig
from mpcc.benchmark import Benchmark, Item, open_image
from mpcc.coco import Region
from mpcc.journal import Journal, read_journal
from mpcc.masks import Fill, Kind, apply_mask
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.questions import Kind as QuestionKind
from mpcc.questions import Mode, Question, ask, record

ITEMS_AT_ONCE = 48
"""Pairs whose questions are answered in one batch; their answers are then on disk."""


@dataclass(frozen=True)
class Exam:
    """What is asked, and how it is to be answered; all of it decides the answers.

    Attributes:
        images: The folder of the benchmark's images.
        kinds: Of questions.
        mode: "reasoning" sends the system prompt of the paper's Table 1, "base" none.
        mask, fill: As in `mpcc.masks`; a benchmark knows boxes only, so the kinds box, box_hard and random_box.
        black: Asks about all-black images instead (F2).
        seed: Of the order of options, and of sampling.
    """

    benchmark: Benchmark
    images: Path
    kinds: tuple[QuestionKind, ...]
    mode: Mode
    sampling: Sampling
    mask: Kind = "box"
    fill: Fill = "black"
    black: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mask in ("polygon", "instances"):
            raise ValueError(f"mask = {self.mask!r} needs outlines, and a benchmark holds boxes: take box or box_hard")

    def image(self, item: Item) -> Image.Image:
        """What the model sees of an item."""
        image = open_image(item, self.images)
        if self.black:
            return Image.new("RGB", image.size)
        return apply_mask(image, Region(box=item.box), kind=self.mask, fill=self.fill, seed=item.id)

    def samples(self, item: Item) -> tuple[list[Question], list[Sample]]:
        """The questions about an item, and as many samples that share one image."""
        questions, images = ask(item, self.kinds, self.seed), (self.image(item),)
        system = SYSTEM_PROMPT if self.mode == "reasoning" else None
        return questions, [Sample(f"{item.id}/{i}", q.text, images, system) for i, q in enumerate(questions)]

    def digest(self, model: str, options: ModelConfig) -> str:
        """16 hexadecimal digits of all that decides the answers."""
        return digest(
            model, options, str(self.images), self.kinds, self.mode, self.mask, self.fill, self.black, self.seed,
            asdict(self.sampling), [item.to_pair() for item in self.benchmark.items],
        )


def digest(model: str, options: ModelConfig, *asked: Any) -> str:
    """16 hexadecimal digits of a model and what it is asked; of the weights, their files' sizes and times."""
    weights = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in sorted(Path(model).glob("*.safetensors"))]
    loaded = [options.dtype, options.min_pixels, options.max_pixels]
    text = json.dumps([model, weights, loaded, *asked], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sit(exam: Exam, model: VLM, ranks: Ranks, folder: Path, max_prompt_tokens: int,
        show: Callable[[int, int], None] = lambda done, total: None) -> list[dict[str, Any]]:
    """The records of an exam (`mpcc.questions.record`), in the order of the benchmark, the same on every rank.

    Answers are kept in `folder`, one journal per rank. Those that are there already are not asked for again.

    Args:
        show: Told after every batch how many of this rank's pairs are done, and how many there are.

    Raises:
        FileNotFoundError, ValueError: an image that is missing or unreadable, or a prompt that is too long.
    """
    items = exam.benchmark.items
    known = {r["id"]: r for path in sorted(folder.glob("*.jsonl")) for r in read_journal(path)}
    todo = ranks.share([item for item in items if item.id not in known])
    ranks.barrier()  # every rank has read before any writes
    journal = Journal(folder / f"{ranks.rank}.jsonl")
    own = []
    try:
        for start in range(0, len(todo), ITEMS_AT_ONCE):
            batch = todo[start : start + ITEMS_AT_ONCE]
            entries = _answer(exam, model, batch, max_prompt_tokens)
            journal.add(*entries)
            own += entries
            show(start + len(batch), len(todo))
    finally:
        journal.close()
    known |= {entry["id"]: entry for entry in ranks.gather(own)}
    return [found for item in items for found in known[item.id]["records"]]


def say(model: VLM, samples: Sequence[Sample], sampling: Sampling, ranks: Ranks, path: Path, max_prompt_tokens: int,
        show: Callable[[int, int], None] = lambda done, total: None, seed: int = 0) -> list[str]:
    """One completion per sample, the same list on every rank; those that the journal `path` holds are not asked for.

    Raises:
        FileNotFoundError, ValueError: an image that is missing or unreadable, or a prompt that is too long.
    """
    said = [entry["completion"] for entry in read_journal(path)]
    ranks.barrier()  # every rank has read before the first one writes
    journal = Journal(path) if ranks.first else None
    try:
        while len(said) < len(samples):
            batch = samples[len(said) : len(said) + ITEMS_AT_ONCE * ranks.size]
            texts = answer(model, batch, sampling, ranks, max_prompt_tokens, seed=seed)
            if journal:
                journal.add(*({"completion": text} for text in texts))
            said += texts
            show(len(said), len(samples))
    finally:
        if journal:
            journal.close()
    return said


def _answer(exam: Exam, model: VLM, items: Sequence[Item], max_prompt_tokens: int) -> list[dict[str, Any]]:
    asked = [exam.samples(item) for item in items]
    texts = answer_together(model, [samples for _, samples in asked], exam.sampling, max_prompt_tokens, seed=exam.seed)
    return [
        {"id": item.id, "records": [record(q, text, exam.mode) for q, text in zip(questions, said, strict=True)]}
        for item, (questions, _), said in zip(items, asked, texts, strict=True)
    ]


def race(exam: Exam, model: VLM, plain: Any, items: Iterable[Item]) -> dict[str, Any]:
    """Times the same questions asked our way, and one at a time with transformers' own `generate`, in turn.

    Args:
        model: Ours.
        plain: The same weights as transformers loads them, with its own attention. Greedy decoding is compared.

    Returns:
        `items`, `questions`, `seconds` of ours and of `generate`, their `ratio`, and `same`, the share of questions
        with the same completion, to the letter.
    """
    seconds, said = [0.0, 0.0], ([], [])
    rounds = list(items)
    for start in range(0, len(rounds), ITEMS_AT_ONCE):
        asked = [exam.samples(item)[1] for item in rounds[start : start + ITEMS_AT_ONCE]]
        began = time.monotonic()
        said[0].extend(t for texts in answer_together(model, asked, exam.sampling, 10**9) for t in texts)
        middle = time.monotonic()
        said[1].extend(_plain_answer(model, plain, sample, exam.sampling) for samples in asked for sample in samples)
        seconds[0] += middle - began
        seconds[1] += time.monotonic() - middle
    same = [ours == theirs for ours, theirs in zip(*said, strict=True)]
    return {"items": len(rounds), "questions": len(same), "seconds": seconds[0], "seconds_generate": seconds[1],
            "ratio": seconds[1] / seconds[0], "same": sum(same) / len(same)}


def _plain_answer(model: VLM, plain: Any, sample: Sample, sampling: Sampling) -> str:
    """The greedy completion of one sample by `generate`, its image encoded anew as a script would."""
    prompt = model.encode(sample)
    ids = prompt.input_ids[None].to(plain.device)
    kinds = (ids == plain.config.image_token_id).int()
    out = plain.generate(
        input_ids=ids, attention_mask=ids.new_ones(ids.shape), mm_token_type_ids=kinds,
        pixel_values=prompt.pixel_values.to(plain.device, plain.dtype),
        image_grid_thw=prompt.image_grid_thw.to(plain.device), max_new_tokens=sampling.max_new_tokens, do_sample=False,
        suppress_tokens=model.banned_ids.tolist(), eos_token_id=model.end_ids,
        pad_token_id=model.end_ids[0], repetition_penalty=1.0,
    )
    return model.decode(out[0, ids.shape[1] :].cpu())
