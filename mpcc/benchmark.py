"""MPCC-Eval: masked pairs with their difficulty and their wrong answers, read and checked.

Our file is one JSON object:

- `format`: "mpcc-pairs"; `version`: 1
- `split`: name of the COCO split that the images are from, "val2017" say
- `pairs`: a list of objects. All have
  - `id`: a text of its own, "val2017/000000000042.jpg#1234"
  - `file_name`: the image, in the split's folder
  - `bbox`: [x, y, w, h] of what is hidden in pixels, the object with or without a margin; (x, y) its top-left corner
  - `category_name`: what is hidden, the true answer

  Those of a benchmark have also
  - `difficulty`: "easy", "moderate" or "hard", by the kind of reasoning that finds the object
  - `confusing`: 4 plausible wrong names. Cho.E takes the first two, "All" of true/false the last two
  - `irrelevant`: 2 or more names that have nothing to do with the scene; where there are more, 2 are drawn

  and any may have
  - `supercategory`: COCO's group of the category
  - `annotation_id`: the hidden object in the split's annotation file
  - `area`: that of the box, as a share of its image
  - `truncated`: whether the box touches the image's edge, so that part of the object may be cut off
  - `others_visible`: whether another instance of the category stays in sight
  - `rating`, `rating_text`: how strongly the object follows from its context, 1 to 5, and why
  - `reason`: one of the seven kinds of reasoning (`mpcc.build.difficulty`)
  - `filled`: those of `confusing` that no respondent gave, filled in from the data's statistics
  - `trace`: reasoning that finds the answer, without tags
  - `scene`: the kind of picture, "kitchen" say
  - `evidence`: the clues to the object, a list of {`text`: a sentence, `bbox`: [x, y, w, h] of what it names}
  - `part`: "train" or "test", the same for all pairs of an image
  - `half`: "id" or "ood", that of the category

For training the first four are enough (`mpcc.pairs`). The authors' evaluation file is read as it is, with their lists
hard/middle/easy (middle is our moderate); `mpcc.formats` converts. After MPCC, arXiv 2510.21807.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mpcc.coco import Box, ImageEntry, check_box, check_inside
from mpcc.formats import CHOOSE, JUDGE, POOL, Evidence, Located, read_evidence, read_pairs, text_field, text_list
from mpcc.pictures import inside, open_picture, picture_size
from mpcc.reading import check_file_name, read_json
from mpcc.rewards import normalise
from mpcc.views import other_pictures

DIFFICULTIES = ("hard", "moderate", "easy")
"""The subsets, in the order of the paper's tables."""


@dataclass(frozen=True)
class Item:
    """One masked pair of a benchmark: `box` [x, y, w, h] in pixels, 4 `confusing` names, 2 or more `irrelevant`."""

    id: str
    file_name: str
    box: Box
    answer: str
    difficulty: str
    confusing: tuple[str, ...]
    irrelevant: tuple[str, ...]
    supercategory: str = ""
    reason: str | None = None
    trace: str | None = None
    scene: str | None = None
    evidence: tuple[Evidence, ...] = ()

    def to_pair(self) -> dict[str, Any]:
        """The item as an object of our pairs file."""
        pair = {
            "id": self.id, "file_name": self.file_name, "bbox": list(self.box), "category_name": self.answer,
            "supercategory": self.supercategory, "difficulty": self.difficulty, "reason": self.reason,
            "confusing": list(self.confusing), "irrelevant": list(self.irrelevant), "trace": self.trace,
            "scene": self.scene, "evidence": [{"text": clue.text, "bbox": list(clue.box)} for clue in self.evidence],
        }
        return {field: value for field, value in pair.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Benchmark:
    """The items of a file, in its order; `split` names the folder of their images, `source` is the file's path.

    `others`: id → the file of the view `elsewhere` (`mpcc.views`), of the whole benchmark also where `items` are fewer.
    """

    items: tuple[Item, ...]
    split: str
    source: str
    others: Mapping[str, str]


def read_benchmark(
    path: str | Path, images: str | Path | None = None, categories: Collection[str] | None = None
) -> Benchmark:
    """A benchmark in our format or the authors' evaluation format, every item checked.

    Args:
        images: The folder that holds the images; given, each must be there, be an image, and contain its item's box
            and those of the evidence.
        categories: The names that a hidden object may have, say `category_names` of the split's annotations.

    Raises:
        FileNotFoundError: the file or an image is missing.
        ValueError: broken JSON, an unknown format, no item, or an unusable one. One line: file, item, field.
    """
    split, located = read_pairs(path)
    if not located:
        raise ValueError(f"{path} holds no pairs")
    items = tuple(_item(found, categories) for found in located)
    if images is not None:
        sizes: dict[str, tuple[int, int]] = {}
        for found, item in zip(located, items, strict=True):
            if item.file_name not in sizes:
                sizes[item.file_name] = _size(Path(images), item.file_name, found.where)
            image = ImageEntry(0, item.file_name, *sizes[item.file_name])
            check_inside(item.box, image, found.where)
            read_evidence(found.pair, found.where, image)
    return Benchmark(items, split, str(path), other_pictures((item.id, item.file_name, item.scene) for item in items))


def category_names(annotations: str | Path) -> frozenset[str]:
    """The category names of a COCO annotation file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, or no categories in it.
    """
    content = read_json(Path(annotations), "name a COCO annotation file such as instances_val2017.json")
    listed = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in listed):
        raise ValueError(f"{annotations} is not a COCO annotation file: it has no list of named categories")
    return frozenset(category["name"] for category in listed)


def open_image(item: Item, images: str | Path, file_name: str = "") -> Image.Image:
    """The item's whole image in RGB, from the folder `images`, or another one of it that is shown for the item.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it cannot be read (the reason is chained).
    """
    return read_picture(open_picture, Path(images), file_name or item.file_name, f"pair {item.id}")


def _item(found: Located, categories: Collection[str] | None) -> Item:
    where, pair = found.where, found.pair
    texts = {
        field: text_field(pair, field, where)
        for field in ("id", "file_name", "category_name", "difficulty", "supercategory", "reason", "trace", "scene")
    }
    for field in ("file_name", "category_name"):
        if texts[field] is None:
            raise ValueError(f"{where} lacks {field}")
    check_file_name(texts["file_name"], where)
    answer, level = texts["category_name"], texts["difficulty"]
    if categories is not None and answer not in categories:
        raise ValueError(f"{where}: category_name {answer!r} is no category of the annotations")
    if level not in DIFFICULTIES:
        raise ValueError(f"{where}: difficulty {level!r} is unknown; it must be one of {', '.join(DIFFICULTIES)}")
    confusing, irrelevant = text_list(pair, "confusing", where), text_list(pair, "irrelevant", where)
    if len(confusing) != 4:
        raise ValueError(f"{where}: confusing holds {len(confusing)} names, not 4: {confusing}")
    if len(irrelevant) < 2:
        field = POOL if found.authors else "irrelevant"
        raise ValueError(f"{where}: {field} holds {len(irrelevant)} names; 2 or more are needed")
    _check_options(answer, confusing, irrelevant, found)
    box = check_box(pair.get("bbox"), where)
    if box[2] == 0 or box[3] == 0:
        raise ValueError(f"{where}: bbox {list(box)} is empty; it must hold the hidden object")
    return Item(
        id=texts["id"], file_name=texts["file_name"], box=box, answer=answer, difficulty=level,
        confusing=tuple(confusing), irrelevant=tuple(irrelevant), supercategory=texts["supercategory"] or "",
        reason=texts["reason"], trace=texts["trace"], scene=texts["scene"], evidence=read_evidence(pair, where),
    )


def _check_options(answer: str, confusing: list[str], irrelevant: list[str], found: Located) -> None:
    """Raises ValueError where two options are the same once normalised: one of them would be wrong and right."""
    halves, pool = ((CHOOSE, JUDGE), POOL) if found.authors else (("confusing", "confusing"), "irrelevant")
    fields = ["category_name", halves[0], halves[0], halves[1], halves[1], *[pool] * len(irrelevant)]
    seen: dict[str, str] = {}
    for name, field in zip([answer, *confusing, *irrelevant], fields, strict=True):
        key = normalise(name)
        if not key:
            raise ValueError(f"{found.where}: {field} {name!r} is no name")
        if seen.get(key) == "category_name":
            raise ValueError(f"{found.where}: {field} holds {name!r}, which is the true answer")
        if key in seen:
            raise ValueError(f"{found.where}: {field} holds {name!r}, which stands in {seen[key]} already")
        seen[key] = field


def _size(images: Path, file_name: str, where: str) -> tuple[int, int]:
    return read_picture(picture_size, images, file_name, where)


def read_picture(read: Callable[[Path], Any], images: Path, file_name: str, where: str) -> Any:
    """What `read` finds in a file of the folder; its errors name the pair."""
    try:
        return read(inside(images, file_name))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: file_name: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: file_name: cannot read {images / file_name} as an image: {error}") from error
