"""A model on MPCC-Eval: every question about every pair, answered in batches and kept on disk as they are answered.

The masked image and what the prompts of a pair begin with are computed once for all of its questions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from minigrpo import VLM, Group, Sample, Sampling, generate
from minigrpo.progress import progress_bar
from minigrpo.ranks import Ranks
from minigrpo.sections import ModelConfig
from mpcc import masks, views
from mpcc.benchmark import Benchmark, Item, open_image
from mpcc.coco import Region
from mpcc.digests import digest, file_digest
from mpcc.journal import Journal, read_journal
from mpcc.masks import Fill, Kind, apply_mask, hidden_region
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.questions import Kind as QuestionKind
from mpcc.questions import Mode, Question, ask, record
from mpcc.views import View, has_view, seen

ITEMS_AT_ONCE = 48
"""Pairs whose questions are answered in one batch; their answers are then on disk."""
FORMAT = 4
"""Of what is kept on disk; answers of another format are not gone on from."""
_KEPT = {"id": str, "completion": str, "cut_off": bool}
"""What a line of a journal holds: a question's id and its answer. Right or wrong is told anew whenever it is read."""

Answer = tuple[str, bool]
"""A completion as text, and whether the limit of new tokens cut it off."""


@dataclass(frozen=True)
class Evaluation:
    """What is asked, and how it is to be answered; all of it decides the answers.

    Attributes:
        images: The folder of the benchmark's images.
        kinds: Of questions.
        mode: "reasoning" sends the system prompt of the paper's Table 1, "base" none; the chat template may then add
            its own (`template_system`).
        mask, fill: As in `mpcc.masks`; a benchmark knows boxes only, so the kinds box, box_hard and random_box.
        view: Asks in a blind view instead (`mpcc.views`); see `blind`.
        seed: Of the order of options, and of sampling.
    """

    benchmark: Benchmark
    images: Path
    kinds: tuple[QuestionKind, ...]
    mode: Mode
    sampling: Sampling
    mask: Kind = "box"
    fill: Fill = "black"
    view: View | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mask in ("polygon", "instances"):
            raise ValueError(f"mask = {self.mask!r} needs outlines, and a benchmark holds boxes: take box or box_hard")

    def image(self, item: Item) -> Image.Image:
        """What the model sees of an item."""
        image, target = open_image(item, self.images), Region(box=item.box)
        mask = partial(apply_mask, target=target, kind=self.mask, fill=self.fill, seed=item.id)
        return seen(self.view, image, mask, hidden_region(image.size, target, kind=self.mask, seed=item.id),
                    item.evidence, lambda: open_image(item, self.images, self.benchmark.others[item.id]))

    def blind(self, view: View) -> Evaluation:
        """The free-form question alone, in a blind view, about the items that have it; there may be none."""
        items = [item for item in self.benchmark.items
                 if has_view(view, item.evidence, self.benchmark.others.get(item.id))]
        return replace(self, benchmark=replace(self.benchmark, items=tuple(items)), kinds=("free",), view=view)

    def questions(self, item: Item) -> list[Question]:
        """What is asked about an item."""
        return ask(item, self.kinds, self.seed, self.mask, self.fill)

    def samples(self, item: Item) -> tuple[list[Question], list[Sample]]:
        """The questions about an item, and as many samples that share one image."""
        questions, images = self.questions(item), (self.image(item),)
        system = SYSTEM_PROMPT if self.mode == "reasoning" else None
        return questions, [Sample(f"{item.id}/{i}", q.text, images, system) for i, q in enumerate(questions)]

    def digest(self, model: str, options: ModelConfig) -> str:
        """16 hexadecimal digits of all that decides the answers: of the weights and images, their content.

        Args:
            model: The model's digest (`mpcc.digests.model_digest`).
        """
        items = self.benchmark.items
        others = [self.benchmark.others[item.id] for item in items] if self.view == "elsewhere" else []
        return answers_digest(
            model, options, self.sampling, self.seed, self.mode, self.mask, self.fill, self.view, SYSTEM_PROMPT,
            [[item.id, item.box, item.evidence, *(question.text for question in self.questions(item))]
             for item in items],
            [file_digest(self.images / name) for name in (*(item.file_name for item in items), *others)],
            [file_digest(module.__file__) for module in (masks, views)],  # what draws the pictures
        )


def answers_digest(model: str, options: ModelConfig, sampling: Sampling, *asked: Any) -> str:
    """16 hexadecimal digits of a model (given its digest), how it answers, and what it is asked."""
    return digest(FORMAT, model, options.dtype, options.min_pixels, options.max_pixels, asdict(sampling), *asked)


def answer_benchmark(evaluation: Evaluation, vlm: VLM, ranks: Ranks, folder: Path, max_prompt_tokens: int,
                     label: str = "") -> list[dict[str, Any]]:
    """The records of an evaluation (`mpcc.questions.record`), in the order of the benchmark, the same on every rank.

    Answers are kept in `folder`, one journal per rank. Those that are there already are not asked for again.

    Raises:
        FileNotFoundError, ValueError: an image that is missing or unreadable, or a prompt that is too long.
    """
    items = evaluation.benchmark.items
    questions = {item.id: evaluation.questions(item) for item in items}
    known = ranks.first_does(lambda: _kept(*sorted(folder.glob("*.jsonl"))))
    missing = [item for item in items if any(f"{item.id}/{i}" not in known for i in range(len(questions[item.id])))]
    todo = ranks.share(missing)
    journal = Journal(folder / f"{ranks.rank}.jsonl")
    own = []
    try:
        with progress_bar(label, len(items), len(items) - len(missing), shown=ranks.first) as bar:
            for start in range(0, len(todo), ITEMS_AT_ONCE):
                batch = todo[start : start + ITEMS_AT_ONCE]
                asked = [evaluation.samples(item)[1] for item in batch]
                answers = _answer_together(vlm, asked, evaluation.sampling, max_prompt_tokens, evaluation.seed)
                new = [(sample.id, answer) for samples, given in zip(asked, answers, strict=True)
                       for sample, answer in zip(samples, given, strict=True)]
                _keep(journal, new)
                own += new
                bar.update(min(len(batch) * ranks.size, bar.total - bar.n))  # the other ranks keep pace
    finally:
        journal.close()
    known |= dict(ranks.gather(own))
    return [record(question, text, evaluation.mode, cut_off) for item in items
            for i, question in enumerate(questions[item.id]) for text, cut_off in [known[f"{item.id}/{i}"]]]


def answer_samples(vlm: VLM, ids: Sequence[str], samples: Sequence[Sample], sampling: Sampling, ranks: Ranks,
                   path: Path, max_prompt_tokens: int, label: str = "", seed: int = 0) -> list[Answer]:
    """One answer per sample, the same list on every rank; those that the journal `path` holds are not asked for.

    Args:
        ids: Of the samples, in their order; a sample itself is taken only where it is asked.

    Raises:
        FileNotFoundError, ValueError: an image that is missing or unreadable, or a prompt that is too long.
    """
    known = ranks.first_does(lambda: _kept(path))
    missing = [place for place, id in enumerate(ids) if id not in known]
    journal = Journal(path) if ranks.first else None
    try:
        with progress_bar(label, len(ids), len(ids) - len(missing), "items", shown=ranks.first) as bar:
            for start in range(0, len(missing), ITEMS_AT_ONCE * ranks.size):
                batch = missing[start : start + ITEMS_AT_ONCE * ranks.size]
                prompts = [vlm.encode(samples[place], max_prompt_tokens) for place in ranks.share(batch)]
                groups = generate(vlm, prompts, 1, sampling, seed=seed)
                given = ranks.gather([answer for group in groups for answer in _answers(vlm, group)])
                new = list(zip([ids[place] for place in batch], given, strict=True))
                if journal:
                    _keep(journal, new)
                known |= dict(new)
                bar.update(len(new))
    finally:
        if journal:
            journal.close()
    return [known[id] for id in ids]


def _kept(*journals: Path) -> dict[str, Answer]:
    """Question id → answer, of journals. Raises ValueError for a line that is none."""
    return {entry["id"]: (entry["completion"], entry["cut_off"])
            for path in journals for entry in read_journal(path, _KEPT)}


def _keep(journal: Journal, answers: Iterable[tuple[str, Answer]]) -> None:
    journal.add(*({"id": id, "completion": text, "cut_off": cut_off} for id, (text, cut_off) in answers))


def template_system(vlm: VLM) -> str | None:
    """The system prompt that the model's own chat template adds where a sample brings none; None where it adds none.

    The templates of Qwen2-VL and Qwen2.5-VL add "You are a helpful assistant.".
    """
    question = [{"role": "user", "content": "?"}]
    text = vlm.tokenizer.apply_chat_template(question, tokenize=False)
    found = re.search(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", text, re.DOTALL)
    return found[1].strip() if found else None


def _answers(vlm: VLM, group: Group) -> list[Answer]:
    return [(vlm.decode(c), not ended) for c, ended in zip(group.completions, group.finished, strict=True)]


def _answer_together(vlm: VLM, asked: Sequence[Sequence[Sample]], sampling: Sampling, max_prompt_tokens: int,
                     seed: int = 0) -> list[list[Answer]]:
    """An answer for every sample of every list.

    The samples of a list are about the same images: these, and the beginning of their prompts, are computed once.
    """
    encoded = [vlm.encode_together(samples, max_prompt_tokens) for samples in asked]
    groups = generate(vlm, [prompt for prompt, _ in encoded], [len(samples) for samples in asked], sampling,
                      seed=seed, begun=[rests for _, rests in encoded])
    return [_answers(vlm, group) for group in groups]


def time_against_generate(evaluation: Evaluation, vlm: VLM, plain: Any, items: Iterable[Item]) -> dict[str, Any]:
    """Times the same questions asked our way, and one at a time with transformers' own `generate`, in turn.

    Args:
        vlm: Ours.
        plain: The same weights as transformers loads them, with its own attention. Greedy decoding is compared.

    Returns:
        `items`, `questions`, `seconds` of ours and of `generate`, their `ratio`, and `same`, the share of questions
        with the same completion, to the letter.
    """
    seconds, texts = [0.0, 0.0], ([], [])
    chosen = list(items)
    for start in range(0, len(chosen), ITEMS_AT_ONCE):
        asked = [evaluation.samples(item)[1] for item in chosen[start : start + ITEMS_AT_ONCE]]
        began = time.monotonic()
        answers = _answer_together(vlm, asked, evaluation.sampling, 10**9)
        middle = time.monotonic()
        texts[0].extend(text for group in answers for text, _ in group)
        texts[1].extend(_plain_answer(vlm, plain, sample, evaluation.sampling) for group in asked for sample in group)
        seconds[0] += middle - began
        seconds[1] += time.monotonic() - middle
    same = [ours == theirs for ours, theirs in zip(*texts, strict=True)]
    return {"items": len(chosen), "questions": len(same), "seconds": seconds[0], "seconds_generate": seconds[1],
            "ratio": seconds[1] / seconds[0], "same": sum(same) / len(same)}


def _plain_answer(vlm: VLM, plain: Any, sample: Sample, sampling: Sampling) -> str:
    """The greedy completion of one sample by `generate`, its image encoded anew as a script would."""
    prompt = vlm.encode(sample)
    ids = prompt.input_ids[None].to(plain.device)
    kinds = (ids == plain.config.image_token_id).int()
    out = plain.generate(
        input_ids=ids, attention_mask=ids.new_ones(ids.shape), mm_token_type_ids=kinds,
        pixel_values=prompt.pixel_values.to(plain.device, plain.dtype),
        image_grid_thw=prompt.image_grid_thw.to(plain.device), max_new_tokens=sampling.max_new_tokens, do_sample=False,
        suppress_tokens=vlm.banned_ids.tolist(), eos_token_id=vlm.end_ids,
        pad_token_id=vlm.end_ids[0], repetition_penalty=1.0,
    )
    return vlm.decode(out[0, ids.shape[1] :].cpu())
