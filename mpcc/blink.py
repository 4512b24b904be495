"""BLINK beside MPCC-Eval: four of its subtasks, read from a local folder and scored as in MPCC Table 5.

The folder holds `val.jsonl`, or folders of any name that do, with a line per item in the field names of the hub's data
set: `idx`, `sub_task`, `question`, `choices` (texts), `answer` ("(B)"), `prompt` (the question with its lettered
choices), and `image_1` to `image_4`, paths relative to the file's folder, null where there is none. What subtask an
item belongs to is what its `sub_task` says; items of BLINK's other subtasks are passed over.

BLINK (arXiv 2404.12390) scores the share of items whose letter is the answer's. Its scripts let a language model guess
the letter that a longer text means; here `mpcc.choices` reads it, and what it cannot read is wrong.
`mpcc.blink_table` prints the figures.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from minigrpo.task import Sample
from mpcc.choices import parse_choice
from mpcc.pictures import inside, open_picture
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.statistics import rate

SUBTASKS = {"Semantic_Correspondence": 139, "Relative_Depth": 124, "Object_Localization": 122, "Spatial_Relation": 143}
"""Subtask → items of its validation split, in the order of the paper's Table 5."""

_OTHERS = ("Art_Style", "Counting", "Forensic_Detection", "Functional_Correspondence", "IQ_Test", "Jigsaw",
           "Multi-view_Reasoning", "Relative_Reflectance", "Visual_Correspondence", "Visual_Similarity")
_CHOICES = {"Semantic_Correspondence": 4, "Relative_Depth": 2, "Object_Localization": 2, "Spatial_Relation": 2}
_IMAGES = ("image_1", "image_2", "image_3", "image_4")
_TEXTS = ("idx", "sub_task", "question", "answer", "prompt")
_GAP = 10


@dataclass(frozen=True)
class Item:
    """One question; `truth` is its letter, `images` are one or two paths in the order in which the model sees them."""

    id: str
    subtask: str
    prompt: str
    choices: tuple[str, ...]
    truth: str
    images: tuple[Path, ...]


def read_blink(folder: str | Path) -> list[Item]:
    """The items of the four subtasks, in the order of `SUBTASKS`, within one in that of the files.

    Raises:
        FileNotFoundError: the folder holds none of them, or an image is missing.
        ValueError: broken JSON, or an unusable item. One line: file, line, field.
    """
    folder = Path(folder)
    items: dict[str, dict[str, Item]] = {name: {} for name in SUBTASKS}
    for path in (folder / "val.jsonl", *sorted(folder.glob("*/val.jsonl"))):
        if path.is_file():
            _read(path, items)
    if not any(items.values()):
        wanted = f"an item whose sub_task is one of {', '.join(SUBTASKS)}"
        raise FileNotFoundError(f"{folder} holds no NAME/val.jsonl, nor a val.jsonl itself, with {wanted}")
    return [item for found in items.values() for item in found.values()]


class Samples(Sequence[Sample]):
    """The samples of some items. Indexing opens the images; nothing is kept.

    Args:
        system: Whether the system prompt of the paper's Table 1 is sent.

    Raises:
        ValueError: when indexed, an image that cannot be read (the reason is chained).
    """

    def __init__(self, items: Sequence[Item], system: bool) -> None:
        self.items, self.system = items, system

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Samples(self.items[index], self.system)
        item = self.items[index]
        images = tuple(_open(path, item.id) for path in item.images)
        return Sample(item.id, item.prompt, images, system=SYSTEM_PROMPT if self.system else None)


def score(
    answer: Callable[[Samples], list[str]], folder: str | Path, system: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Asks every item of the folder and scores the answers.

    Args:
        answer: One completion per sample, in their order.
        folder: What `read_blink` reads.
        system: Whether the system prompt is sent.

    Returns:
        The records, as `mpcc.questions.record` makes them, of kind "blink" and with `subtask` and `images` (paths
        relative to `folder`); and their `figures`.

    Raises:
        FileNotFoundError, ValueError: see `read_blink`; also if `answer` gives another number of completions.
    """
    items = read_blink(folder)
    completions = answer(Samples(items, system))
    if len(completions) != len(items):
        raise ValueError(f"{len(completions)} completions for the {len(items)} BLINK items of {folder}")
    records = [_record(item, text, system, Path(folder)) for item, text in zip(items, completions, strict=True)]
    return records, figures(records)


def figures(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracies in percent, unrounded.

    Returns:
        Subtask → `n` items, `percent` right, its 95 % Wilson interval `low` to `high`, `unparsed`, the percentage of
        answers without a readable letter, `cut_off`, of those that the limit of new tokens ended, and `chance`, what
        guessing gets; a subtask without records is left out. `mean`: the unweighted mean of the four, as BLINK
        averages its subtasks; None where one is missing.
    """
    found: dict[str, Any] = {}
    groups: dict[str, list[Mapping[str, Any]]] = {name: [] for name in SUBTASKS}
    for record in records:
        groups[record["subtask"]].append(record)
    for name, group in groups.items():
        if group:
            found[name] = rate([record["right"] for record in group])
            found[name]["unparsed"] = 100 * fmean(record["parsed"] is None for record in group)
            found[name]["cut_off"] = 100 * fmean(record.get("cut_off", False) for record in group)
            found[name]["chance"] = 100 * fmean(1 / len(record["options"]) for record in group)
    return found | {"mean": mean([found[name]["percent"] for name in SUBTASKS if name in found])}


def mean(values: Sequence[float]) -> float | None:
    """The unweighted mean of the four subtasks' accuracies; None for fewer."""
    return sum(values) / len(values) if len(values) == len(SUBTASKS) else None


def pictures(folder: str | Path) -> Callable[[Mapping[str, Any]], Image.Image]:
    """What `mpcc.report.write_page` needs for these records: the image of one, two of them side by side."""

    def picture(record: Mapping[str, Any]) -> Image.Image:
        images = [_open(Path(folder) / path, record["id"]) for path in record["images"]]
        width = sum(image.width + _GAP for image in images) - _GAP
        joined = Image.new("RGB", (width, max(image.height for image in images)), "white")
        left = 0
        for image in images:
            joined.paste(image, (left, 0))
            left += image.width + _GAP
        return joined

    return picture


def _read(path: Path, items: dict[str, dict[str, Item]]) -> None:
    """Adds the items of a file to those of their subtask, by their idx, which no two items of any subtask share."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if not any(map(str.strip, lines)):
        raise ValueError(f"{path} holds no item")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not whole JSON ({error}): copy or download it again") from error
        if (item := _item(given, where, path.parent)) is None:
            continue
        if any(item.id in found for found in items.values()):
            raise ValueError(f"{where}: idx {item.id!r} occurs more than once")
        items[item.subtask][item.id] = item


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


_NAMES = {_plain(name): name for name in (*SUBTASKS, *_OTHERS)}


def _item(given: Any, where: str, folder: Path) -> Item | None:
    """The item of a line; None where it is of another subtask of BLINK's."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} is not an object with {', '.join(_TEXTS)}")
    for field in _TEXTS:
        if not isinstance(given.get(field), str) or not given[field].strip():
            raise ValueError(f"{where}: {field} = {given.get(field)!r} is not a text")
    if (subtask := _NAMES.get(_plain(given["sub_task"]))) is None:
        raise ValueError(f"{where}: sub_task {given['sub_task']!r} is none of BLINK's; such as {', '.join(SUBTASKS)}")
    if subtask in _OTHERS:
        return None
    choices = given.get("choices")
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        raise ValueError(f"{where}: choices = {choices!r} is not a list of texts")
    if len(choices) != _CHOICES[subtask]:
        raise ValueError(f"{where}: choices holds {len(choices)} texts, not {_CHOICES[subtask]}: {choices}")
    truth = re.fullmatch(r"\(([A-Z])\)", given["answer"])
    if truth is None or truth[1] not in string.ascii_uppercase[: len(choices)]:
        raise ValueError(f"{where}: answer {given['answer']!r} is not the letter of one of its choices, such as (A)")
    images = _images(given, where, folder, 2 if subtask == "Semantic_Correspondence" else 1)
    return Item(given["idx"], subtask, given["prompt"], tuple(choices), truth[1], images)


def _images(given: Mapping[str, Any], where: str, folder: Path, wanted: int) -> tuple[Path, ...]:
    for field in _IMAGES[:wanted]:
        if not isinstance(given.get(field), str) or not given[field]:
            raise ValueError(f"{where}: {field} = {given.get(field)!r} is not the path of an image")
        try:
            inside(folder, given[field])
        except ValueError as error:
            raise ValueError(f"{where}: {field}: {error}") from None
        if not (folder / given[field]).is_file():
            raise FileNotFoundError(f"{where}: {field}: {folder / given[field]} is missing")
    if extra := [field for field in _IMAGES[wanted:] if given.get(field)]:
        raise ValueError(f"{where}: {extra[0]} is one image too many: items of this subtask have {wanted}")
    return tuple(folder / given[field] for field in _IMAGES[:wanted])


def _open(path: Path, item: str) -> Image.Image:
    try:
        return open_picture(path, boxes=False)
    except ValueError as error:
        raise ValueError(f"item {item}: cannot read {path} as an image: {error}") from error


def _record(item: Item, completion: str, system: bool, folder: Path) -> dict[str, Any]:
    parsed = parse_choice(completion, item.choices)
    paths = [path.relative_to(folder).as_posix() for path in item.images]
    return {
        "id": item.id, "kind": "blink", "role": None, "in_all": False, "difficulty": None, "subtask": item.subtask,
        "answer": item.choices[string.ascii_uppercase.index(item.truth)], "supercategory": "", "file_name": paths[0],
        "images": paths, "bbox": None, "options": list(item.choices), "prompt": item.prompt, "system": system,
        "truth": item.truth, "completion": completion, "parsed": parsed, "right": parsed == item.truth,
    }
