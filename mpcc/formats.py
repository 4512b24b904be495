"""The files that pairs come in: ours, and the authors' two, read into one form and written.

The form is a list of objects with the fields of our own file, which `mpcc.benchmark` describes. Every object is kept as
it stands, so that a conversion loses only what the target format has no field for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minigrpo.files import replacing
from mpcc.coco import Box, ImageEntry, check_box, check_inside
from mpcc.reading import check_file_name, read_json

FORMAT, VERSION = "mpcc-pairs", 1
LEVELS = {"hard": "hard", "middle": "moderate", "easy": "easy"}
"""The authors' word for a difficulty → ours."""

CHOOSE, JUDGE, POOL = "choose_negtive_confusion", "judgement_negtive_confusion", "irrelevant_negtive"
"""The authors' fields (their spelling): our first two confusing names, the last two, and the irrelevant ones."""
CONTEXT = ("scene", "evidence")
"""Fields of ours that the authors' files do not know, and that both keep where they are given."""


@dataclass(frozen=True)
class Evidence:
    """A clue to the hidden object: a sentence, and the `box` [x, y, w, h] in pixels of what it names."""

    text: str
    box: Box


class Located(NamedTuple):
    """A pair in our form, what an error message calls it, and whether it is of the authors' evaluation file."""

    where: str
    pair: dict[str, Any]
    authors: bool = False


def read_pairs(path: str | Path, split: str = "train2017") -> tuple[str, list[Located]]:
    """The split and the pairs of a file in any of the three formats.

    Args:
        split: That of the authors' training file, which does not name it. Their evaluation file is of val2017.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, none of the formats, or a pair without a usable id, name or box; names file and place.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the pairs file itself")
    content = read_json(path, f"a pairs file holds an object with format = {FORMAT!r}, or the authors' lists")
    if is_ours(content):
        return our_pairs(content, path)
    if isinstance(content, list):
        return split, _training_pairs(content, path, split)
    if isinstance(content, dict) and set(content) & set(LEVELS):
        return "val2017", _evaluation_pairs(content, path, "val2017")
    wanted = f"an object with format = {FORMAT!r}, the authors' hard/middle/easy lists, or their training list"
    raise ValueError(f"{path} is not a pairs file: its top level must be {wanted}")


def is_ours(content: Any) -> bool:
    """Whether parsed JSON claims to be a pairs file of ours."""
    return isinstance(content, dict) and "format" in content


def our_pairs(content: dict, path: Path) -> tuple[str, list[Located]]:
    """Split and pairs of our own format, the head and the ids checked, all else as it stands. Raises ValueError."""
    if content["format"] != FORMAT or content.get("version") != VERSION:
        found = f"format {content['format']!r}, version {content.get('version')!r}"
        raise ValueError(f"{path} is of {found}; this program reads {FORMAT!r}, version {VERSION}")
    split, pairs = content.get("split"), content.get("pairs")
    if not isinstance(split, str) or not split:
        raise ValueError(f"{path}: split = {split!r} is not the name of a split such as val2017")
    if not isinstance(pairs, list):
        raise ValueError(f"{path}: pairs is not a list")
    located, places = [], {}
    for place, pair in enumerate(pairs):
        where = f"{path}: pairs[{place}]"
        name = text_field(_object(pair, where), "id", where)
        if name is None:
            raise ValueError(f"{where} lacks id")
        if name in places:
            raise ValueError(f"{where}: id {name!r} is that of pairs[{places[name]}] too; ids must be unique")
        places[name] = place
        located.append(Located(f"{path}: pair {name}", pair))
    return split, located


def text_field(record: Mapping[str, Any], field: str, where: str) -> str | None:
    """The text in a field; None where it is absent, null or blank. Raises ValueError for anything but a text."""
    value = record.get(field)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where}: {field} = {value!r} is not a text")
    return value if value and value.strip() else None


def text_list(record: Mapping[str, Any], field: str, where: str) -> list[str]:
    """The list of names in a field. Raises ValueError where there is none, or a name is blank or no text."""
    value = record.get(field)
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise ValueError(f"{where}: {field} = {value!r} is not a list of names")
    return value


def read_evidence(record: Mapping[str, Any], where: str, image: ImageEntry | None = None) -> tuple[Evidence, ...]:
    """The clues of a pair; none where the field is absent or null. Raises ValueError for what is no list of clues.

    Args:
        image: Given, it must contain the box of each.
    """
    listed = record.get("evidence")
    if listed is not None and not isinstance(listed, list):
        raise ValueError(f"{where}: evidence = {listed!r} is not a list of clues, each with text and bbox")
    found = []
    for place, clue in enumerate(listed or ()):
        at = f"{where}: evidence[{place}]"
        if not isinstance(clue, dict):
            raise ValueError(f"{at} is not an object with text and bbox")
        text = text_field(clue, "text", at)
        if text is None or clue.get("bbox") is None:
            raise ValueError(f"{at} lacks {'bbox' if text else 'text'}")
        box = check_box(clue["bbox"], at)
        if image:
            check_inside(box, image, at)
        found.append(Evidence(text, box))
    return tuple(found)


def write_pairs(path: str | Path, split: str, pairs: Iterable[Mapping[str, Any]]) -> None:
    """Writes our format, whole or not at all."""
    write_json(path, {"format": FORMAT, "version": VERSION, "split": split, "pairs": list(pairs)})


def write_authors_evaluation(path: str | Path, pairs: Iterable[Mapping[str, Any]]) -> None:
    """Writes pairs in our form as the authors' evaluation file. Raises ValueError where one is not complete."""
    names = {ours: theirs for theirs, ours in LEVELS.items()}
    lists: dict[str, list[dict[str, Any]]] = {level: [] for level in LEVELS}
    for pair in pairs:
        if pair.get("difficulty") not in names or len(pair.get("confusing", ())) != 4 or not pair.get("irrelevant"):
            raise ValueError(f"pair {pair['id']}: {path} needs its difficulty, 4 confusing and the irrelevant names")
        lists[names[pair["difficulty"]]].append({
            "file_name": pair["file_name"], "bbox": list(pair["bbox"]), "category_name": pair["category_name"],
            JUDGE: list(pair["confusing"][2:]), CHOOSE: list(pair["confusing"][:2]), POOL: list(pair["irrelevant"]),
            **_context(pair),
        })
    write_json(path, lists)


def write_authors_training(path: str | Path, pairs: Iterable[Mapping[str, Any]]) -> None:
    """Writes pairs in our form as the authors' training file; `cot_data` only where there is a trace."""
    records = []
    for pair in pairs:
        record = {name: pair.get(name) or "" for name in ("file_name", "bbox", "category_name", "supercategory")}
        records.append(record | _context(pair) | ({"cot_data": pair["trace"]} if pair.get("trace") else {}))
    write_json(path, records)


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON beside `path` and then moves it there, so that a file of this name is always a whole one."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects, a line each, as `write_json` does."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_text(path: str | Path, text: str) -> None:
    """Writes text, all of it or nothing."""
    with replacing(path) as part:  # what a model says may hold lone surrogates, which no file can
        part.write_text(text, encoding="utf-8", errors="replace")


def _context(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {field: pair[field] for field in CONTEXT if pair.get(field)}


def _training_pairs(records: Sequence[Any], path: Path, split: str) -> list[Located]:
    taken: dict[str, int] = {}
    return [_authors_pair(record, f"{path}[{i}]", split, taken) for i, record in enumerate(records)]


def _evaluation_pairs(content: dict, path: Path, split: str) -> list[Located]:
    located: list[Located] = []
    taken: dict[str, int] = {}
    for level, records in content.items():
        if level not in LEVELS:
            raise ValueError(f"{path}: {level!r} is no difficulty; the lists are called {', '.join(LEVELS)}")
        if not isinstance(records, list):
            raise ValueError(f"{path}: {level} is not a list")
        for place, record in enumerate(records):
            where = f"{path}: {level}[{place}]"
            if isinstance(record, dict) and isinstance(record.get("file_name"), str):
                check_file_name(record["file_name"], where)
                where += f" ({record['file_name']})"
            pair = _authors_pair(record, where, split, taken).pair
            halves = [_two(pair.pop(field, None), field, where) for field in (CHOOSE, JUDGE)]
            pair |= {"difficulty": LEVELS[level], "confusing": halves[0] + halves[1]}
            pair["irrelevant"] = text_list(pair, POOL, where)
            del pair[POOL]
            located.append(Located(where, pair, authors=True))
    return located


def _two(names: Any, field: str, where: str) -> list[str]:
    if len(text_list({field: names}, field, where)) != 2:
        raise ValueError(f"{where}: {field} holds {len(names)} names, not 2: {names}")
    return names


def _authors_pair(record: Any, where: str, split: str, taken: dict[str, int]) -> Located:
    """A record of the authors' in our form. They give no ids: image and box make one, repeats are numbered."""
    pair = dict(_object(record, where))
    for field in ("file_name", "category_name"):
        if text_field(pair, field, where) is None:
            raise ValueError(f"{where} lacks {field}")
    check_file_name(pair["file_name"], where)
    box, annotation = check_box(pair.get("bbox"), where), pair.get("annotation_id")
    name = pair_id(split, pair["file_name"], annotation if isinstance(annotation, int) else box)
    taken[name] = taken.get(name, 0) + 1
    trace = text_field(pair, "cot_data", where)
    pair.pop("cot_data", None)
    pair = {"id": ""} | pair | {"id": name if taken[name] == 1 else f"{name}~{taken[name]}"}
    return Located(where, pair | ({"trace": trace} if trace else {}))


def pair_id(split: str, file_name: str, mark: int | Sequence[float]) -> str:
    """The id of a pair: its image, and the annotation's id or else the box [x, y, w, h]."""
    return f"{split}/{file_name}#{mark if isinstance(mark, int) else ','.join(f'{value:g}' for value in mark)}"


def _object(record: Any, where: str) -> dict:
    if not isinstance(record, dict):
        raise ValueError(f"{where} is not an object with file_name, bbox and category_name")
    return record
