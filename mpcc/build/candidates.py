"""Stage 1, candidates: which instances of a COCO folder can be hidden at all."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mpcc.build.store import Outcome, PairRecord
from mpcc.coco import Coco, ImageEntry, Instance
from mpcc.formats import pair_id
from mpcc.masks import hidden_region, others_visible
from mpcc.pairs import exclusion
from mpcc.progress import counted

BORDER = 2.0
"""Pixels from the image's edge within which a box counts as truncated: outlines are drawn by hand."""


@dataclass(frozen=True)
class Limits:
    """What makes a candidate. Areas are shares of the image; `per_image` 0 takes all of an image."""

    min_area: float = 0.01
    max_area: float = 0.5
    per_image: int = 2
    truncated: bool = True
    others: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_area < self.max_area <= 1:
            given = f"min_area = {self.min_area} and max_area = {self.max_area}"
            raise ValueError(f"{given} must be shares of the image with 0 <= min_area < max_area <= 1")
        if self.per_image < 0:
            raise ValueError(f"per_image = {self.per_image} must be 0 (all) or more")


def candidates(coco: Coco, limits: Limits, seed: int) -> Outcome:
    """A pair for every instance within the limits, ordered by file name and annotation id.

    Each pair tells its `area` (share of the image), whether its box is `truncated` at the border, and whether another
    instance of its class stays in sight (`others_visible`). `limits.truncated` and `limits.others` say whether such
    pairs stay. Of an image with more than `per_image` candidates one of each category is taken first; the seed decides
    which.

    Raises:
        ValueError: an outline that cannot be read; names the annotation.
    """
    dropped: dict[str, str] = {}
    fit: dict[int, list[PairRecord]] = defaultdict(list)
    for instance in counted("candidates", list(coco.instances.values())):
        image = coco.images[instance.image_id]
        name = pair_id(coco.split, image.file_name, instance.id)
        reason = exclusion(instance, image, limits.min_area, limits.max_area)
        pair = None if reason else _pair(coco, instance, image, name)
        reason = reason or _unwanted(pair, limits)
        if reason:
            dropped[name] = reason
        else:
            fit[image.id].append(pair)
    chosen: list[PairRecord] = []
    for pairs in fit.values():
        order = _order(pairs, seed)
        kept = limits.per_image or len(order)
        chosen += order[:kept]
        dropped |= {pair["id"]: f"beyond {kept} of its image" for pair in order[kept:]}
    return Outcome(sorted(chosen, key=lambda p: (p["file_name"], p["annotation_id"])), dict(sorted(dropped.items())))


def is_truncated(box: Sequence[float], image: ImageEntry) -> bool:
    """Whether the box [x, y, w, h] comes within `BORDER` pixels of its image's edge: part of the object may be cut."""
    x, y, w, h = box
    return min(x, y, image.width - x - w, image.height - y - h) <= BORDER


def _pair(coco: Coco, instance: Instance, image: ImageEntry, name: str) -> PairRecord:
    size = (image.width, image.height)
    others = [i for i in coco.by_image[image.id] if i.category == instance.category and i.id != instance.id]
    visible = bool(others) and others_visible(hidden_region(size, instance), others)
    return {
        "id": name,
        "file_name": image.file_name,
        "bbox": list(instance.box),
        "category_name": instance.category,
        "supercategory": instance.supercategory,
        "annotation_id": instance.id,
        "area": round(instance.box[2] * instance.box[3] / (image.width * image.height), 4),
        "truncated": is_truncated(instance.box, image),
        "others_visible": visible,
    }


def _unwanted(pair: PairRecord, limits: Limits) -> str | None:
    if pair["truncated"] and not limits.truncated:
        return "truncated at the border"
    if pair["others_visible"] and not limits.others:
        return "another instance of its class is visible"
    return None


def _order(pairs: list[PairRecord], seed: int) -> list[PairRecord]:
    """Shuffled by the seed, then one of each category before the second of any."""
    shuffled = sorted(pairs, key=lambda p: hashlib.sha256(f"{seed}/{p['id']}".encode()).digest())
    rounds: dict[str, int] = defaultdict(int)
    turns = []
    for pair in shuffled:
        turns.append(rounds[pair["category_name"]])
        rounds[pair["category_name"]] += 1
    return [pair for _, pair in sorted(zip(turns, shuffled, strict=True), key=lambda item: item[0])]
