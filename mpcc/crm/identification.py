"""VisArgs' negative set: which of three sights supports what a picture argues? Asked as choices of one letter.

A record is an object of a list, with

- `url`: where the picture was; its file is found as that of `mpcc.crm.visargs`
- `negativeset`: a list of questions, with `description`, the conclusion that the picture argues for; and for each kind
  of wrong options, `easy`, `hard_clip`, `hard_colbert`, `hard_colbert_clip`, `hard_semantic` or any other,
  `KIND_vp_options`, three sights one of which is a premise, and `KIND_answer`, the place of that one from 0

The names `description`, `…_vp_options` and `…_answer` are known. That `negativeset` holds them, beside `url`, and that
answers count from 0, is our reading of what the authors' scripts take: their file itself was not at hand.

Selective Vision is the Challenge for Visual Reasoning, arXiv 2406.18925: identification of premises.
"""

from __future__ import annotations

import string
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from minigrpo import VLM, Sampling
from minigrpo.ranks import Ranks
from minigrpo.sections import Config
from mpcc import report
from mpcc.blink import Item, Samples
from mpcc.choices import parse_choice
from mpcc.crm.figures import Tally, gap
from mpcc.crm.visargs import each_record, find_picture, is_visargs
from mpcc.digests import file_digest
from mpcc.evaluation import answer_samples, answers_digest
from mpcc.formats import text_field, text_list, write_json, write_lines, write_text
from mpcc.journal import read_journal
from mpcc.pictures import open_picture
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.reading import read_json, shown, unfit
from mpcc.render import grid
from mpcc.statistics import rate

CHOICES = 3
CHANCE = 100 / CHOICES
_OPTIONS, _ANSWER = "_vp_options", "_answer"
_KEPT = {"id": str, "kind": str, "prompt": str, "right": bool}
_MASKING = {"crm_fill": "mean", "crm_samples": 0, "crm_kept": 0.8, "crm_collapsed": 0.5}


@dataclass(frozen=True)
class Question(Item):
    """One choice; its subtask is the kind of wrong options."""

    conclusion: str


def is_negatives(content: Any) -> bool:
    """Whether parsed JSON is a list of records of the negative set."""
    return isinstance(content, list) and not is_visargs(content) and any(
        isinstance(record, dict) and "negativeset" in record for record in content)


def is_named(options: Namespace) -> bool:
    """Whether --crm names a negative set."""
    hint = "name a file of pairs or of VisArgs records"
    return bool(options.crm) and is_negatives(read_json(Path(options.crm), hint))


def read_cases(options: Namespace, config: Config) -> tuple[str, list[Question]]:
    """The file that --crm names, and its questions, those of a picture together.

    Raises:
        FileNotFoundError, ValueError: as `mpcc.crm.visargs.read_visargs`; or an option that concerns masking.
    """
    ignored = [name.replace("_", "-") for name, usual in _MASKING.items() if getattr(options, name) != usual]
    if ignored := ignored + sorted({"task.mask", "task.fill", "task.coco"} & options.given):
        raise ValueError(f"--{ignored[0]} concerns masked regions, and {options.crm} is a negative set: leave it out")
    asked = each_record(Path(options.crm), options.images, "name a JSON list of records", _questions)
    pictures = [items for items in asked if items]
    if not pictures:
        raise ValueError(f"{options.crm} holds no question: every negativeset is empty")
    return options.crm, [item for items in pictures[: options.limit or None] for item in items]


def about(options: Namespace, source: str, items: Sequence[Question]) -> str:
    """What is asked, in words."""
    pictures = len({item.images for item in items})
    return f"{len(items):,} questions of three choices about {pictures:,} pictures of {source}"


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of another negative set's evaluation. Raises FileNotFoundError, ValueError where there are none."""
    if not (folder / "answers.jsonl").is_file():
        raise FileNotFoundError(f"--compare {folder}: it holds no answers.jsonl: name the folder of another eval.py "
                                "--crm on this negative set")
    return read_journal(folder / "answers.jsonl", _KEPT)


def run(options: Namespace, config: Config, source: str, items: Sequence[Question], theirs: Sequence[Mapping[str, Any]],
        vlm: VLM, name: str, weights: str, out: Path, ranks: Ranks) -> dict[str, Any]:
    """Asks all questions, leaves answers.jsonl, page.html, tables.txt and scores.json in `out`, prints a summary.

    Args:
        theirs: Records of another model, to compare with.
        name, weights: The model's label and digest.

    Raises:
        ValueError: the other model was asked nothing that this one is asked.
    """
    system, sampling = options.mode != "base", Sampling(config.rollout.max_new_tokens, temperature=0.0)
    key = answers_digest(weights, config.model, sampling, options.seed, system and SYSTEM_PROMPT,
                         [[item.id, item.prompt, *map(file_digest, item.images)] for item in items])
    answers = answer_samples(vlm, [item.id for item in items], Samples(items, system), sampling, ranks,
                             out / "answers" / f"identification-{key}.jsonl", config.rollout.max_prompt_tokens,
                             "identification", options.seed)
    records = [_record(item, text, cut_off, system) for item, (text, cut_off) in zip(items, answers, strict=True)]
    found: dict[str, Any] = {"source": source, "mode": "reasoning" if system else "base",
                             "max_new_tokens": sampling.max_new_tokens, "figures": figures(records)}
    if theirs:
        found["compared"] = compared(records, theirs, str(options.compare))
    text = summary(found, name, about(options, source, items), str(options.compare))
    if ranks.first:
        paths = {_picture_id(item): item.images[0] for item in items}
        write_lines(out / "answers.jsonl", records)
        write_text(out / "tables.txt", text + "\n")
        note = "; ".join(f"{kind}: {share['percent']:.1f} % right" for kind, share in found["figures"].items())
        report.write_page(records, lambda record: open_picture(paths[record["id"]], boxes=False), out / "page.html",
                          f"Identification of premises: {name}", f"{note}; by chance {CHANCE:.1f} %")
        write_json(out / "scores.json", {"model": name, **found})
        print(f"{text}\nto leaf through: {out / 'page.html'}", flush=True)
    return found


def figures(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Kind of wrong options → `n` questions, `percent` right with its 95 % Wilson interval `low` to `high`, `chance`;
    `unparsed`, the percentage of answers without a readable letter, `cut_off`, of those that the limit ended."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        kinds.setdefault(record["kind"], []).append(record)
    return {kind: {**rate([record["right"] for record in group]), "chance": CHANCE,
                   "unparsed": 100 * fmean(record["parsed"] is None for record in group),
                   "cut_off": 100 * fmean(record["cut_off"] for record in group)} for kind, group in kinds.items()}


def compared(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], other: str
             ) -> dict[str, dict[str, float]]:
    """By how many points each kind is above that of the other records, of the questions that both have, pictures drawn
    together (`mpcc.crm.figures.gap`). Raises ValueError where there is no such question."""
    one, two = ({(r["id"], r["kind"], r["prompt"]): r["right"] for r in records} for records in (ours, theirs))
    tallies: dict[str, tuple[Tally, Tally]] = {}
    for question in one.keys() & two.keys():
        picture, kind, _ = question
        for tally, right in zip(tallies.setdefault(kind, ({}, {})), (one[question], two[question]), strict=True):
            hits, asked = tally.get(picture, (0.0, 0.0))
            tally[picture] = (hits + right, asked + 1)
    if not tallies:
        raise ValueError(f"--compare {other}: it was asked none of these questions: score it on the same file")
    return {kind: gap(*pair) for kind, pair in sorted(tallies.items())}


def summary(found: Mapping[str, Any], name: str, asked: str, other: str = "") -> str:
    """The table of an evaluation's figures, and its differences where another was compared."""
    gaps, rows = found.get("compared", {}), []
    for kind, share in found["figures"].items():
        gap = gaps.get(kind)
        beside = "above" if share["low"] > CHANCE else "below" if share["high"] < CHANCE else "no different"
        rows.append([kind, f"{share['percent']:.1f}", f"[{share['low']:.1f}, {share['high']:.1f}]", f"{CHANCE:.1f}",
                     beside, *(f"{share[field]:.1f}" for field in ("unparsed", "cut_off")), f"{share['n']:,.0f}",
                     *([f"{gap['difference']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}]" if gap else "-"]
                       if gaps else [])])
    head = ["wrong options", "percent right", "95 %", "chance", "beside it", "unparsed", "cut off", "questions",
            *([f"minus {other}"] if gaps else [])]
    return grid(f"{name}: which sight supports the conclusion? {asked}", head, rows)


def _questions(record: Mapping[str, Any], where: str, place: int, folder: Path, names: Mapping[str, Any]
               ) -> list[Question]:
    asked = record.get("negativeset")
    if not isinstance(asked, list):
        raise ValueError(f"{where}: negativeset = {shown(asked)} is not a list of questions")
    if not asked:
        return []
    picture, _ = find_picture(record, where, folder, names)
    return [item for i, question in enumerate(asked)
            for item in _items(question, f"{where}: negativeset[{i}]", f"negatives/{place}/{i}", picture)]


def _items(question: Any, where: str, id: str, picture: Path) -> list[Question]:
    """One item for each kind of wrong options."""
    if not isinstance(question, dict):
        raise ValueError(f"{where} is not an object with description, KIND{_OPTIONS} and KIND{_ANSWER}")
    if not (description := text_field(question, "description", where)):
        raise ValueError(f"{where} lacks description")
    kinds = [field.removesuffix(_OPTIONS) for field in question if field.endswith(_OPTIONS)]
    if not kinds:
        raise ValueError(f"{where} lacks options, such as easy{_OPTIONS}")
    items = []
    for kind in kinds:
        options, answer = text_list(question, kind + _OPTIONS, where), question.get(kind + _ANSWER)
        if len(options) != CHOICES or len(set(options)) < CHOICES:
            raise ValueError(f"{where}: {kind}{_OPTIONS} = {shown(options)} must hold {CHOICES} different texts")
        if isinstance(answer, bool) or not isinstance(answer, int) or answer not in range(CHOICES):
            raise ValueError(f"{where}: {kind}{_ANSWER} = {shown(answer)} is no place of an option, 0 to {CHOICES - 1}")
        for text in (description, *options):
            if reason := unfit(text):
                raise ValueError(f"{where}: {shown(text)} {reason}; correct it")
        items.append(Question(f"{id}/{kind}", kind, _prompt(description, options), tuple(options),
                              string.ascii_uppercase[answer], (picture,), description))
    return items


def _prompt(description: str, options: Sequence[str]) -> str:
    listed = " ".join(f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False))
    return (
        f"This image argues: {description} Which of these sights in it supports that most? {listed} "
        "Reason in <think> </think>, then give the letter of your choice in <answer> </answer>."
    )


def _picture_id(item: Question) -> str:
    """The id of an item's picture."""
    return item.id.rsplit("/", 2)[0]


def _record(item: Question, completion: str, cut_off: bool, system: bool) -> dict[str, Any]:
    parsed = parse_choice(completion, item.choices)
    return {
        "id": _picture_id(item), "kind": item.subtask, "difficulty": None, "answer": item.conclusion,
        "file_name": item.images[0].name,
        "options": list(item.choices), "prompt": item.prompt, "system": system, "truth": item.truth,
        "completion": completion, "parsed": parsed, "right": parsed == item.truth, "cut_off": cut_off,
    }
