"""What CRM looks at: a picture, what is asked about it, and its regions; read from a pairs file of any form."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minigrpo.sections import Config
from mpcc.benchmark import read_picture
from mpcc.coco import Coco, ImageEntry, check_box, check_inside
from mpcc.crm.clues import clue_names
from mpcc.crm.regions import Fill, Region, masked, with_controls
from mpcc.formats import Located, read_evidence, read_pairs, text_field
from mpcc.masks import Fill as MaskFill
from mpcc.masks import Kind, apply_mask, hidden_region
from mpcc.outlines import Box, covered
from mpcc.outlines import Region as Part
from mpcc.pictures import open_picture, picture_size
from mpcc.prompts import free_question

LEAST_AREA, MOST = 0.005, 8
"""Other instances are regions where there is no evidence: the largest 8 of at least this share of the picture."""


@dataclass(frozen=True)
class Case:
    """A picture with regions, and a question about it.

    Attributes:
        picture: Its file.
        question: What the model is asked; `answer` is the right answer.
        regions: With their controls.
        hidden: The box [x, y, w, h] in pixels of the object asked for, hidden in every view; None where none is.
        mask, mask_fill: How it is hidden, as in `mpcc.masks`: box, box_hard or random_box.
        annotated: Steps of an annotated trace and the regions that each rests on; empty where there is none.
        exact: Whether an answer must be the right one to the letter once normalised, or in most of its words.
    """

    id: str
    picture: Path
    question: str
    answer: str
    regions: tuple[Region, ...]
    hidden: Box | None = None
    mask: Kind = "box"
    mask_fill: MaskFill = "black"
    annotated: tuple[tuple[str, tuple[int, ...]], ...] = ()
    exact: bool = True

    def views(self, fill: Fill) -> list[Image.Image]:
        """What the model sees: the unmasked picture, then with each region masked, then each control that there is."""
        image = open_picture(self.picture)
        boxes = [None, *(region.box for region in self.regions), *(r.control for r in self.regions if r.control)]
        if self.hidden is None:
            return [masked(image, box, np.zeros(image.size[::-1], dtype=bool), fill) for box in boxes]
        target = Part(box=self.hidden)
        hidden = hidden_region(image.size, target, kind=self.mask, seed=self.id)
        return [apply_mask(masked(image, box, hidden, fill), target, kind=self.mask, fill=self.mask_fill, seed=self.id)
                for box in boxes]


def read_pair_cases(file: Path, options: Namespace, config: Config) -> list[Case]:
    """The cases of a pairs file or benchmark in any form of `mpcc.formats`: its evidence, else the other instances.

    These are of the annotations beside the folder of the images, `annotations/instances_{split}.json`.

    Raises:
        FileNotFoundError: the file, the folder or a picture is missing.
        ValueError: an unusable record, or no record has a region. One line: file, record, field.
    """
    split, located = read_pairs(file)
    beside, in_coco = file.parent / split, Path(config.task.coco) / split
    images = options.images or (in_coco if config.task.coco and not beside.is_dir() else beside)
    if not images.is_dir():
        raise FileNotFoundError(f"{images} is not a folder: name that of the pictures with --images")
    annotations = images.parent / "annotations" / f"instances_{images.name}.json"
    bare = any(not found.pair.get("evidence") for found in located)
    coco = Coco(images.parent, images.name) if bare and annotations.is_file() else None
    entries = {entry.file_name: entry for entry in coco.images.values()} if coco else {}
    cases = [_case(found, images, coco, entries, config, options.seed) for found in located]
    if not any(case.regions for case in cases):
        raise ValueError(f"{file}: no pair has a region to mask: give pairs evidence, or annotations as {annotations}")
    return [case for case in cases if case.regions]


def _case(found: Located, images: Path, coco: Coco | None, entries: Mapping[str, ImageEntry], config: Config, seed: int
          ) -> Case:
    where, pair = found.where, found.pair
    name, answer = (text_field(pair, field, where) for field in ("file_name", "category_name"))
    if not name or not answer:
        raise ValueError(f"{where} lacks {'category_name' if name else 'file_name'}")
    box = check_box(pair.get("bbox"), where)
    size = read_picture(picture_size, images, name, where)
    image = ImageEntry(0, name, *size)
    check_inside(box, image, where)
    evidence = read_evidence(pair, where, image)
    regions = [Region(clue.text, clue_names(clue.text), clue.box) for clue in evidence]
    if not regions and coco and name in entries:
        regions = _others(coco, entries[name], box)
    hidden = hidden_region(size, Part(box=box), kind=config.task.mask, seed=pair["id"])
    return Case(
        id=pair["id"], picture=images / name, question=free_question(config.task.mask, config.task.fill), answer=answer,
        regions=tuple(with_controls(regions, hidden, f"{seed} {pair['id']}")), hidden=box, mask=config.task.mask,
        mask_fill=config.task.fill,
    )


def _others(coco: Coco, image: ImageEntry, hidden: Box) -> list[Region]:
    """The image's instances that are seen beside what is hidden, the largest first; crowds left out."""
    least = LEAST_AREA * image.width * image.height
    seen: list[Any] = [one for one in coco.by_image.get(image.id, []) if not one.crowd
                       and one.box[2] * one.box[3] >= least and covered(one.box, hidden) < 0.5]
    seen.sort(key=lambda one: (-one.box[2] * one.box[3], one.id))
    return [Region(one.category, (one.category,), one.box, relevant=None) for one in seen[:MOST]]
