"""VisArgs records as published: a picture that argues, its premises, and steps that say which premises they rest on.

A record is an object of a list, with

- `url`: where the picture was. Pictures are not part of the data: they lie in a folder under the last part of their
  url, or under the names that its file `images.json` gives, an object url → file name
- `visual_premises`: what is seen; `b_box`: [{`startX`, `startY`, `w`, `h`}] in pixels, where, one for each
- `commonsense_premises`: what is known; `conclusion`: what the picture argues
- `reasoning_steps`: "(VP1, CP1 -> IC1): …", "(IC1, CP2 -> C): …": from visual and commonsense premises to intermediate
  conclusions, and on to the conclusion. So a step rests on the regions of its visual premises, and on those of the
  intermediate conclusions that it goes on from.

Selective Vision is the Challenge for Visual Reasoning, arXiv 2406.18925.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from mpcc.coco import ImageEntry, check_box, check_inside
from mpcc.crm.cases import Case
from mpcc.crm.clues import clue_names
from mpcc.crm.regions import Region, with_controls
from mpcc.formats import text_field, text_list
from mpcc.outlines import Box
from mpcc.pictures import inside, picture_size
from mpcc.reading import Rejected, read_json, shown, unfit

T = TypeVar("T")

QUESTION = (
    "This image makes an argument. Which conclusion does it argue for? Reason in <think> </think>, one sentence for "
    "each step, then state the conclusion in <answer> </answer>."
)
_STEP = re.compile(r"\s*\(([^()]*?)(?:->|→)([^()]*)\)\s*:?\s*(.*)", re.DOTALL)
_PREMISE = re.compile(r"(VP|CP|IC)\s*(\d+)", re.IGNORECASE)
_TARGET = re.compile(r"\s*(?:(IC)\s*(\d+)|C)\s*", re.IGNORECASE)


def is_visargs(content: Any) -> bool:
    """Whether parsed JSON is a list of VisArgs records."""
    return isinstance(content, list) and any(
        isinstance(record, dict) and "visual_premises" in record for record in content)


def read_visargs(file: Path, images: Path | None, seed: int = 0) -> list[Case]:
    """The cases of a file of VisArgs records; see `each_record`."""
    return each_record(file, images, "name a JSON list of VisArgs records", partial(_case, seed))


def each_record(file: Path, images: Path | None, hint: str, made: Callable[..., T]) -> list[T]:
    """What is made of each record of a file. What is wrong, and what has no picture, is left out, counted and listed.

    Args:
        images: The folder of the pictures; by default `images` beside the file.
        hint: What to do where there is no such file.
        made: Of a record, its name in messages, its place, the folder, and the pictures' own names by url.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: no record is left; names the first reason.
    """
    content = read_json(file, hint)
    folder = images or file.parent / "images"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: name that of the pictures with --images")
    names = read_json(folder / "images.json", "") if (folder / "images.json").is_file() else {}
    if not isinstance(names, dict):
        raise ValueError(f"{folder / 'images.json'} is not an object url -> file name")
    rejected, found = Rejected(file, "records", 1.0), []
    for place, record in enumerate(content):
        where = f"{file}[{place}]"
        try:
            if not isinstance(record, dict):
                raise ValueError(f"{where} is not an object")
            found.append(made(record, where, place, folder, names))
        except (ValueError, FileNotFoundError) as error:
            rejected.add(error)
    if not found:
        raise ValueError(f"{rejected.reasons[0]}; of {len(content)} records none is left")
    rejected.settle(len(content))
    return found


def find_picture(record: Mapping[str, Any], where: str, folder: Path, names: Mapping[str, Any]
                 ) -> tuple[Path, tuple[int, int]]:
    """The picture of a record, and its (W, H) in pixels. Raises FileNotFoundError, ValueError where there is none."""
    if not (url := text_field(record, "url", where)):
        raise ValueError(f"{where} lacks url")
    name = names.get(url) or PurePosixPath(unquote(urlsplit(url).path)).name
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: url {shown(url)} names no picture; give images.json its file name")
    try:
        picture = inside(folder, name)
        return picture, picture_size(picture)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: cannot read {folder / name} as an image: {error}") from error


def rests_on(steps: Sequence[str], visual: int, commonsense: int, where: str) -> list[tuple[str, tuple[int, ...]]]:
    """Each step's text, and the visual premises (from 0) that it rests on, through intermediate conclusions.

    Args:
        visual, commonsense: How many premises there are of each.

    Raises:
        ValueError: a step that is not of the form, or names a premise that is not there, or a conclusion too early.
    """
    known: dict[str, set[int]] = {f"VP{i + 1}": {i} for i in range(visual)}
    known |= {f"CP{i + 1}": set() for i in range(commonsense)}
    found = []
    for place, step in enumerate(steps):
        at = f"{where}: reasoning_steps[{place}]"
        match = _STEP.fullmatch(unicodedata.normalize("NFC", step))
        target = match and _TARGET.fullmatch(match[2])
        if not match or not target or not match[3].strip():
            raise ValueError(f"{at} = {shown(step)} is not of the form '(VP1, CP1 -> IC1): text'")
        premises = [f"{kind.upper()}{number}" for kind, number in _PREMISE.findall(match[1])]
        if missing := next((name for name in premises if name not in known), None):
            raise ValueError(f"{at} rests on {missing}, which is not there or is concluded later")
        regions = set().union(*(known[name] for name in premises)) if premises else set()
        if target[1]:
            known[f"IC{target[2]}"] = regions
        found.append((" ".join(match[3].split()), tuple(sorted(regions))))
    return found


def _case(seed: int, record: Mapping[str, Any], where: str, place: int, folder: Path, names: Mapping[str, Any]) -> Case:
    if not (conclusion := text_field(record, "conclusion", where)):
        raise ValueError(f"{where} lacks conclusion")
    premises, known, steps = (text_list(record, field, where)
                              for field in ("visual_premises", "commonsense_premises", "reasoning_steps"))
    if not premises or not steps:
        raise ValueError(f"{where} lacks {'reasoning_steps' if premises else 'visual_premises'}")
    picture, size = find_picture(record, where, folder, names)
    id = f"visargs/{place}"
    boxes = _boxes(record, len(premises), ImageEntry(0, picture.name, *size), where)
    annotated = rests_on(steps, len(premises), len(known), where)
    for text in (conclusion, *(step for step, _ in annotated)):
        if reason := unfit(text):
            raise ValueError(f"{where}: {shown(text)} {reason}; correct it")
    used = annotated[-1][1]
    regions = [Region(text, clue_names(text), box, relevant=i in used)
               for i, (text, box) in enumerate(zip(premises, boxes, strict=True))]
    nothing = np.zeros(size[::-1], dtype=bool)
    return Case(id, picture, QUESTION, " ".join(unicodedata.normalize("NFC", conclusion).split()),
                tuple(with_controls(regions, nothing, f"{seed} {id}")), annotated=tuple(annotated), exact=False)


def _boxes(record: Mapping[str, Any], count: int, image: ImageEntry, where: str) -> list[Box]:
    listed = record.get("b_box")
    if not isinstance(listed, list) or len(listed) != count:
        raise ValueError(f"{where}: b_box must hold a box for each of the {count} visual_premises")
    boxes = []
    for place, given in enumerate(listed):
        at = f"{where}: b_box[{place}]"
        if not isinstance(given, dict):
            raise ValueError(f"{at} is not an object with startX, startY, w and h")
        box = check_box([given.get(field) for field in ("startX", "startY", "w", "h")], at)
        check_inside(box, image, at)
        boxes.append(box)
    return boxes
