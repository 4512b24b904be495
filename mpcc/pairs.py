"""Pairs: an image and the object to hide in it, from the instances of a COCO folder or from a file."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from mpcc.coco import Box, Coco, ImageEntry, Instance, Region, check_box, check_inside
from mpcc.formats import Evidence, is_ours, our_pairs, pair_id, read_evidence, text_field
from mpcc.outlines import covered
from mpcc.reading import MAX_BAD, Rejected, read_json, shown, unfit
from mpcc.rewards import TAGS
from mpcc.traces import contradiction

FIELDS = frozenset((
    "id", "file_name", "bbox", "category_name", "difficulty", "confusing", "irrelevant", "supercategory",
    "annotation_id", "area", "truncated", "others_visible", "rating", "rating_text", "reason", "filled", "scene",
    "evidence", "part", "half", "image_id", "category_id", "iscrowd", "segmentation", "width", "height",
))
"""Fields of a pair in either form, the trace aside, and those that COCO's annotations and images have."""


@dataclass(frozen=True)
class Pair:
    """An image and what to hide in it. `annotation` is None where no annotation of the image fits the target.

    `scene` is the kind of picture, `evidence` the clues to the answer, where they are known.
    """

    id: str
    image: ImageEntry
    target: Region
    annotation: int | None
    answer: str
    supercategory: str
    difficulty: str | None = None
    trace: str | None = None
    scene: str | None = None
    evidence: tuple[Evidence, ...] = ()


def exclusion(instance: Instance, image: ImageEntry, min_area: float, max_area: float) -> str | None:
    """Why an instance makes no pair (a crowd, an empty box, a share of the image outside the limits), or None."""
    share = instance.box[2] * instance.box[3] / (image.width * image.height)
    if instance.crowd:
        return "crowd"
    if share == 0:
        return "empty box"
    if not min_area <= share <= max_area:
        return "smaller than min_area" if share < min_area else "larger than max_area"
    return None


def instance_pairs(coco: Coco, min_area: float, max_area: float) -> list[Pair]:
    """A pair for every instance without an `exclusion`, none with a trace."""
    return [
        Pair(_pair_id(coco, image, instance), image, instance, instance.id, instance.category, instance.supercategory)
        for instance in coco.instances.values()
        if exclusion(instance, image := coco.images[instance.image_id], min_area, max_area) is None
    ]


def file_pairs(path: Path, coco: Coco, max_bad: float = MAX_BAD) -> list[Pair]:
    """Pairs of a file in our format (`mpcc.benchmark` describes it) or the authors' for training, taken as they are.

    The latter is a list of objects with `file_name`, `bbox` [x, y, w, h] in pixels, `category_name`, and optionally
    `supercategory`, `cot_data` (the trace, without tags), `annotation_id`, `difficulty`, `scene` and `evidence` (as in
    `mpcc.benchmark`). Ours calls the trace `trace` and gives every pair an `id`. Without an `annotation_id` the
    target's outline is that of the annotation which `Coco.find` finds, if any.

    A trace that refuses, or whose last sentence denies the answer or names another category instead, would be a prior
    with the full reward for the wrong reasoning. It is left out, and its pair trained without a prior; one warning
    counts such traces and names the first record. Wording is judged by rules that may err, and the authors' own file
    has to load, so that they are no error. A last sentence that names no category at all passes.

    A wrong record is left out, counted and listed (`mpcc.reading.Rejected`): an unknown field, a category or image that
    the annotations lack, a box outside its image, the annotation of another object, a tag or special token.

    Args:
        max_bad: Share of the records that may be wrong.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, or too many wrong records: names the file, the record's place or id, and the field.
    """
    content = read_json(path, "a pairs file is a JSON list of file_name, bbox, category_name, …")
    images = {image.file_name: image for image in coco.images.values()}
    if is_ours(content):
        _, ours = our_pairs(content, path)
        located, trace_field = [(found.where, found.pair) for found in ours], "trace"
    elif isinstance(content, list):
        located, trace_field = [(f"{path}[{place}]", record) for place, record in enumerate(content)], "cot_data"
    else:
        raise ValueError(f"{path} is not a pairs file: its top level must be a list, or an object with a format")
    pairs: list[Pair] = []
    places: list[str] = []
    seen: Counter[str] = Counter()
    rejected = Rejected(path, "pairs", max_bad)
    for where, record in located:
        try:
            pair = _file_pair(record, where, coco, images, trace_field)
        except ValueError as error:
            rejected.add(error)
            continue
        seen[pair.id] += 1
        if trace_field == "trace":
            pair = replace(pair, id=record["id"])
        elif seen[pair.id] > 1:
            pair = replace(pair, id=f"{pair.id}~{seen[pair.id]}")
        pairs.append(pair)
        places.append(where)
    rejected.settle(len(located))
    return _without_wrong_traces(pairs, places, coco)


def _without_wrong_traces(pairs: list[Pair], where: list[str], coco: Coco) -> list[Pair]:
    """The pairs without the traces that must not be priors; a warning says how many, why, and where the first is."""
    categories = {*coco.categories, *(pair.answer for pair in pairs)}
    wrong = [contradiction(pair.trace, pair.answer, categories) if pair.trace else None for pair in pairs]
    if reasons := Counter(filter(None, wrong)):
        first = next(place for place, reason in zip(where, wrong, strict=True) if reason)
        counted = ", ".join(f"{count} because {reason}" for reason, count in reasons.most_common())
        warnings.warn(f"{first}: its trace is left out, {reasons.total()} in all: {counted}; correct or remove them",
                      stacklevel=3)
    return [replace(pair, trace=None) if reason else pair for pair, reason in zip(pairs, wrong, strict=True)]


def _file_pair(record: object, where: str, coco: Coco, images: dict[str, ImageEntry], trace_field: str) -> Pair:
    if not isinstance(record, dict):
        raise ValueError(f"{where} is not an object with file_name, bbox and category_name")
    _check_fields(record, where, trace_field)
    name, answer = text_field(record, "file_name", where), text_field(record, "category_name", where)
    if not name or not answer:
        raise ValueError(f"{where} lacks {'category_name' if name else 'file_name'}")
    if name not in images:
        raise ValueError(f"{where}: {coco.path} lists no image {name!r}")
    if answer not in coco.categories:
        raise ValueError(f"{where}: category_name {shown(answer)} is no category of {coco.path}")
    image, box = images[name], check_box(record.get("bbox"), where)
    check_inside(box, image, where)
    trace = text_field(record, trace_field, where)
    if trace and any(tag in trace for tag in TAGS):
        raise ValueError(f"{where}: {trace_field} holds a tag; keep the reasoning alone, the tags are added")
    if trace and (reason := unfit(trace)):
        raise ValueError(f"{where}: {trace_field} {reason}; remove it")
    found = _annotation(record, where, coco, image, box, answer)
    target = replace(found, box=box) if found else Region(box=box)
    return Pair(
        id=_pair_id(coco, image, target), image=image, target=target, annotation=found.id if found else None,
        answer=answer, difficulty=text_field(record, "difficulty", where), trace=trace,
        supercategory=text_field(record, "supercategory", where) or (found.supercategory if found else ""),
        scene=text_field(record, "scene", where), evidence=read_evidence(record, where, image),
    )


def _annotation(record: dict, where: str, coco: Coco, image: ImageEntry, box: Box, answer: str) -> Instance | None:
    wanted = record.get("annotation_id")
    if wanted is None:
        return coco.find(image, answer, box)
    found = coco.instances.get(wanted) if type(wanted) is int else None
    if found is None or found.image_id != image.id:
        raise ValueError(f"{where}: image {image.file_name} has no annotation {shown(wanted)}; correct annotation_id")
    if found.category != answer or covered(found.box, box) < 0.5:
        other = f"annotation {wanted} is of a {found.category} with bbox {list(found.box)}"
        raise ValueError(f"{where}: {other}, not of what category_name and bbox say; correct annotation_id")
    return found


def _check_fields(record: dict, where: str, trace_field: str) -> None:
    """Raises ValueError for a field that no pair of this form has: misspelt, it would be passed over."""
    known = {*FIELDS, trace_field}
    if unknown := next((field for field in record if field not in known), None):
        near = get_close_matches(unknown, known, n=1) or [trace_field if unknown in ("trace", "cot_data") else None]
        hint = f"did you mean {near[0]!r}?" if near[0] else "remove it"
        raise ValueError(f"{where}: field {shown(unknown)} is unknown; {hint}")


def _pair_id(coco: Coco, image: ImageEntry, target: Region) -> str:
    return pair_id(coco.split, image.file_name, target.id if isinstance(target, Instance) else target.box)
