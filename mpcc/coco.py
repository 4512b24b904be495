"""A COCO folder, read and checked: images, instances, binary masks.

Layout: `annotations/instances_{split}.json` and the images in `{split}/`. Segmentations are polygons, uncompressed or
compressed run lengths (RLE); a crowd is flagged and never serves as a target: one key semantic *entity* is hidden.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle_api

Box = tuple[float, float, float, float]
"""[x, y, w, h] in pixels, (x, y) being the top-left corner."""

EDGE_TOLERANCE = 1.0
"""Pixels by which a box may cross its image's edge: hand-drawn polygons are rounded there."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of an image: its `box` [x, y, w, h] in pixels, and its outline as a COCO segmentation where known."""

    box: Box
    segmentation: list | dict | None = None
    crowd: bool = False

    @property
    def where(self) -> str:
        """What an error message calls this region."""
        return f"region with box {list(self.box)}"


@dataclass(frozen=True, kw_only=True)
class Instance(Region):
    """One annotation; `source` is the annotation file's path."""

    id: int
    image_id: int
    category: str
    supercategory: str
    source: str

    @property
    def where(self) -> str:
        return f"{self.source}: annotation {self.id} (image {self.image_id})"


@dataclass(frozen=True)
class ImageEntry:
    """One image of the annotation file; width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int


def read_json(path: Path, hint: str) -> Any:
    """Parsed JSON. Raises FileNotFoundError (saying `hint`), ValueError for a truncated or otherwise broken file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {hint}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not whole JSON ({error}): copy or download it again") from error


def check_box(box: Any, where: str) -> Box:
    """The box as four floats.

    Raises:
        ValueError: not four finite numbers, or a negative width or height.
    """
    four = isinstance(box, list | tuple) and len(box) == 4
    if not four or not all(type(v) in (int, float) and math.isfinite(v) for v in box):
        raise ValueError(f"{where}: bbox {box!r} is not four finite numbers [x, y, w, h]")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"{where}: bbox {list(box)} has a negative width or height; correct it as [x, y, w, h]")
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def check_inside(box: Box, image: ImageEntry, where: str) -> None:
    """Raises ValueError for an empty box, or one that leaves its image by more than `EDGE_TOLERANCE`."""
    x, y, w, h = box
    if w == 0 or h == 0:
        raise ValueError(f"{where}: bbox {list(box)} is empty; remove the annotation or correct it as [x, y, w, h]")
    beyond = max(-x, -y, x + w - image.width, y + h - image.height)
    if beyond > EDGE_TOLERANCE:
        raise ValueError(
            f"{where}: bbox {list(box)} lies outside its image {image.file_name} of {image.width}x{image.height} pixels"
        )


def decode_mask(region: Region, height: int, width: int) -> np.ndarray:
    """Binary mask of a region's segmentation, bool [H, W].

    Raises:
        ValueError: no segmentation, a polygon with fewer than 3 points, or run lengths that do not fill [H, W].
    """
    segmentation = region.segmentation
    if not segmentation:
        raise ValueError(f"{region.where} has no segmentation: use a mask kind that needs the box only")
    if isinstance(segmentation, list):
        _check_polygons(segmentation, region.where)
        runs = rle_api.merge(rle_api.frPyObjects(segmentation, height, width))
    else:
        runs = _run_lengths(segmentation, height, width, region.where)
    return rle_api.decode(runs).astype(bool)


def _check_polygons(polygons: list, where: str) -> None:
    for polygon in polygons:
        # pycocotools takes four numbers for a box, silently
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"{where}: a polygon must list at least 3 points as [x1, y1, x2, y2, …]")


def _run_lengths(segmentation: dict, height: int, width: int, where: str) -> Any:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if size != [height, width]:
        raise ValueError(f"{where}: run lengths of size {size} do not fit an image of [h, w] = {[height, width]}")
    # pycocotools decodes run lengths that do not add up to leftovers of memory, silently
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError(f"{where}: broken run lengths; segmentation.counts must be a list or COCO's compressed text")
    if sum(runs) != height * width:
        raise ValueError(f"{where}: run lengths sum to {sum(runs)}, not to height x width = {height * width}")
    return rle_api.frPyObjects({"counts": runs, "size": size}, height, width)


def _decompress(text: str) -> list[int] | None:
    """Run lengths of COCO's compressed text: 5 bits a character, from the third run on relative to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            signed = value - (1 << shift) if code & 0x10 else value
            runs.append(signed + runs[-2] if len(runs) > 2 else signed)
            value = shift = 0
    return runs if shift == 0 else None


class Coco:
    """One split of a COCO folder. Reads and checks the annotations at once, the images when they are opened.

    Attributes:
        images: image id → `ImageEntry`.
        instances: annotation id → `Instance`, crowds included.
        by_image: image id → its instances, in the file's order.
        categories: The names of all categories, those without an instance too.

    Raises:
        FileNotFoundError: the folder, the annotation file or the split's image folder is missing.
        ValueError: broken JSON, or a record that contradicts the rest; names file, annotation id and image id.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder, self.split = Path(folder), split
        layout = f"a COCO folder holds annotations/instances_{split}.json and the images in {split}/"
        for path in (self.folder, self.folder / split):
            if not path.is_dir():
                raise FileNotFoundError(f"{path} is not a folder: {layout}")
        self.path = self.folder / "annotations" / f"instances_{split}.json"
        content = read_json(self.path, layout)
        if not isinstance(content, dict):
            raise ValueError(f"{self.path} is not a COCO instance file: its top level must be an object")
        self._categories = {
            r["id"]: (r["name"], r.get("supercategory") or "") for r in self._records(content, "categories", _CATEGORY)
        }
        self.categories = [name for name, _ in self._categories.values()]
        self.images: dict[int, ImageEntry] = {r["id"]: self._image(r) for r in self._records(content, "images", _IMAGE)}
        self.instances: dict[int, Instance] = {
            r["id"]: self._instance(r) for r in self._records(content, "annotations", _ANNOTATION)
        }
        self.by_image: dict[int, list[Instance]] = defaultdict(list)
        for instance in self.instances.values():
            self.by_image[instance.image_id].append(instance)
        self._files = set(os.listdir(self.folder / split))

    def _records(self, content: dict, kind: str, fields: Mapping[str, type | tuple]) -> list[dict]:
        """The list `content[kind]`, every record holding `fields` of the right types and an id of its own."""
        records = content.get(kind)
        if not isinstance(records, list):
            raise ValueError(f"{self.path} is not a COCO instance file: it has no list named {kind!r}")
        seen = set()
        for place, record in enumerate(records):
            for name, types in fields.items():
                if not isinstance(record, dict) or not isinstance(record.get(name), types):
                    raise ValueError(f"{self.path}: {kind}[{place}] has no usable field {name!r}")
            if record["id"] in seen:
                raise ValueError(f"{self.path}: {kind}[{place}] repeats id {record['id']}; ids must be unique")
            seen.add(record["id"])
        return records

    def _image(self, record: dict) -> ImageEntry:
        if record["width"] < 1 or record["height"] < 1:
            raise ValueError(f"{self.path}: image {record['id']} has a size of {record['width']}x{record['height']}")
        return ImageEntry(record["id"], record["file_name"], record["width"], record["height"])

    def _instance(self, record: dict) -> Instance:
        where = f"{self.path}: annotation {record['id']} (image {record['image_id']})"
        if record["image_id"] not in self.images:
            raise ValueError(f"{where} belongs to an image that the file does not list")
        if record["category_id"] not in self._categories:
            raise ValueError(f"{where} has unknown category_id {record['category_id']}")
        segmentation = record.get("segmentation") or None
        box = check_box(record["bbox"], where)
        if not _nothing_there(box, segmentation):
            check_inside(box, self.images[record["image_id"]], where)
        category, supercategory = self._categories[record["category_id"]]
        return Instance(
            id=record["id"], image_id=record["image_id"], category=category, supercategory=supercategory, box=box,
            segmentation=segmentation, crowd=bool(record.get("iscrowd", 0)), source=str(self.path),
        )

    def find(self, image: ImageEntry, category: str, box: Box) -> Instance | None:
        """The image's instance of `category` that overlaps `box` most, crowds left out; None below an IoU of 0.5."""
        rivals = [i for i in self.by_image.get(image.id, []) if i.category == category and not i.crowd]
        best = max(rivals, key=lambda instance: _iou(instance.box, box), default=None)
        return best if best and _iou(best.box, box) >= 0.5 else None

    def image_path(self, image: ImageEntry) -> Path:
        """Where the image lies. Raises FileNotFoundError if it does not."""
        path = self.folder / self.split / image.file_name
        if image.file_name not in self._files and not path.is_file():
            raise FileNotFoundError(f"{path} is missing, but {self.path} lists it as image {image.id}")
        return path

    def open(self, image: ImageEntry) -> Image.Image:
        """The image in RGB, of the size that the annotations state.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: it cannot be read (the reason is chained), or its size differs from the annotations'.
        """
        path = self.image_path(image)
        try:
            with Image.open(path) as opened:
                # EXIF orientation is left alone: COCO's boxes refer to the pixels as they are stored
                pixels = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read {path} (image {image.id}): {error}; download it again") from error
        if pixels.size != (image.width, image.height):
            stated = f"{image.width}x{image.height}"
            raise ValueError(f"{path} has {pixels.width}x{pixels.height} pixels, but {self.path} states {stated}")
        return pixels


_CATEGORY = {"id": int, "name": str}
_IMAGE = {"id": int, "file_name": str, "width": int, "height": int}
_ANNOTATION = {"id": int, "image_id": int, "category_id": int, "bbox": list}


def _iou(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def _nothing_there(box: Box, segmentation: Any) -> bool:
    """Whether box and outline agree that the object has no extent: COCO's train2017 holds two such (918, 2206849)."""
    if (box[2] > 0 and box[3] > 0) or not isinstance(segmentation, list):
        return False
    polygons = [polygon for polygon in segmentation if isinstance(polygon, list)]
    axes = [{v for polygon in polygons for v in polygon[axis::2]} for axis in (0, 1)]
    return min(len(values) for values in axes) == 1
