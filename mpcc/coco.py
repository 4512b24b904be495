"""A COCO folder, read and checked: images, instances, binary masks.

Layout: `annotations/instances_{split}.json` and the images in `{split}/`. Segmentations are polygons, uncompressed or
compressed run lengths (RLE); a crowd is flagged and never serves as a target: one key semantic *entity* is hidden.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mpcc.outlines import Box, Region, check_outline, iou, nothing_there
from mpcc.pictures import MAX_PIXELS, inside, open_picture
from mpcc.reading import MAX_BAD, Rejected, check_file_name, read_json, shown, unfit

EDGE_TOLERANCE = 1.0
"""Pixels by which a box may cross its image's edge: hand-drawn polygons are rounded there."""
CLIPPED = 2.0
"""Pixels by which an annotation's box may cross it to be clipped; further out it is wrong."""
FAR = 1e9
"""What no coordinate reaches."""

_LARGEST = 2**63


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


def check_box(box: Any, where: str) -> Box:
    """The box as four floats.

    Raises:
        ValueError: not four finite numbers, or a negative width or height.
    """
    four = isinstance(box, list | tuple) and len(box) == 4
    if not four or not all(type(v) in (int, float) and -FAR < v < FAR for v in box):
        raise ValueError(f"{where}: bbox {shown(box)} is not four finite numbers [x, y, w, h]")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"{where}: bbox {list(box)} has a negative width or height; correct it as [x, y, w, h]")
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def check_inside(box: Box, image: ImageEntry, where: str) -> None:
    """Raises ValueError for an empty box, or one that leaves its image by more than `EDGE_TOLERANCE`."""
    x, y, w, h = box
    if w == 0 or h == 0:
        raise ValueError(f"{where}: bbox {list(box)} is empty; remove the annotation or correct it as [x, y, w, h]")
    beyond = max(-x, -y, x + w - image.width, y + h - image.height)
    touches = x < min(image.width, x + w) and y < min(image.height, y + h) and x + w > 0 and y + h > 0
    if beyond > EDGE_TOLERANCE or not touches:
        raise ValueError(
            f"{where}: bbox {list(box)} lies outside its image {image.file_name} of {image.width}x{image.height} pixels"
        )


class ImageFile:
    """The images of one split of a COCO folder, as one of its annotation files lists them.

    Args:
        kind: What the file annotates: "instance" is `annotations/instances_{split}.json`.

    Attributes:
        path: The annotation file.
        images: image id → `ImageEntry`, once `read_images` has read them.

    Raises:
        FileNotFoundError: the folder, the annotation file or the split's image folder is missing.
        ValueError: no JSON object.
    """

    def __init__(self, folder: str | Path, split: str, kind: str) -> None:
        self.folder, self.split, self._kind = Path(folder), split, kind
        layout = f"a COCO folder holds annotations/{kind}s_{split}.json and the images in {split}/"
        for path in (self.folder, self.folder / split):
            if not path.is_dir():
                raise FileNotFoundError(f"{path} is not a folder: {layout}")
        self.path = self.folder / "annotations" / f"{kind}s_{split}.json"
        self._source = str(self.path)
        self._content = read_json(self.path, layout)
        if not isinstance(self._content, dict):
            raise ValueError(f"{self.path} is not a COCO {kind} file: its top level must be an object")
        self._names: set[str] = set()
        self._left_out: set[int] = set()
        self.images: dict[int, ImageEntry] = {}
        with os.scandir(self.folder / split) as entries:
            self._files = {entry.name for entry in entries if not entry.is_symlink()}

    def read_images(self, max_bad: float) -> None:
        """Reads and checks the list of images. Raises ValueError where too many are wrong."""
        self.images = self.read_list("images", self._image, max_bad)

    def read_list(self, kind: str, build: Callable[[dict, str], Any], max_bad: float) -> dict[int, Any]:
        """id → what `build` makes of the record with that id in a list of the file, which is read once.

        `build` gets the record and its place, raises ValueError for a wrong one, and gives None for one to leave out.

        Raises:
            ValueError: there is no such list, or too many of its records are wrong.
        """
        records = self._content.pop(kind, None)
        if not isinstance(records, list):
            raise ValueError(f"{self.path} is not a COCO {self._kind} file: it has no list named {kind!r}")
        found: dict[int, Any] = {}
        rejected = Rejected(self.path, kind, max_bad)
        for place, record in enumerate(records):
            try:
                id = whole_number(record, "id", self._source, kind, place)
                if id in found:
                    raise ValueError(f"{self.path}: {kind}[{place}] repeats id {id}; ids must be unique")
                if (built := build(record, f"{kind}[{place}]")) is not None:
                    found[id] = built
            except ValueError as error:
                rejected.add(error)
        rejected.settle(len(records))
        return found

    def image_of(self, image_id: int, where: str) -> ImageEntry | None:
        """The image that an annotation is of; None if it was left out. Raises ValueError for one that is not listed."""
        image = self.images.get(image_id)
        if image is None and image_id not in self._left_out:
            raise ValueError(f"{where} belongs to an image that the file does not list")
        return image

    def image_path(self, image: ImageEntry) -> Path:
        """Where the image lies. Raises FileNotFoundError if it does not, ValueError for a link out of the folder."""
        folder = self.folder / self.split
        path = folder / image.file_name
        if image.file_name not in self._files:
            inside(folder, image.file_name)
            if not path.exists():
                raise FileNotFoundError(f"{path} is missing, but {self.path} lists it as image {image.id}")
        return path

    def open(self, image: ImageEntry) -> Image.Image:
        """The image in RGB (`mpcc.pictures.open_picture`), of the size that the annotations state.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: it cannot be read (the reason is chained), or its size differs from the annotations'.
        """
        path, stated = self.image_path(image), (image.width, image.height)
        try:
            pixels = open_picture(path, stated)
        except ValueError as error:
            raise ValueError(f"cannot read {path} (image {image.id}): {error}") from error.__cause__ or error
        if pixels.size != stated:
            size = f"{image.width}x{image.height}"
            raise ValueError(f"{path} has {pixels.width}x{pixels.height} pixels, but {self.path} states {size}")
        return pixels

    def _image(self, record: dict, place: str) -> ImageEntry:
        id, where = record["id"], f"{self.path}: image {record['id']}"
        self._left_out.add(id)
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{self.path}: {place} has no usable field 'file_name'")
        check_file_name(name.replace("\0", ""), where)
        width, height = (whole_number(record, side, self._source, place) for side in ("width", "height"))
        if width < 1 or height < 1 or width * height > MAX_PIXELS:
            size = f"{shown(width)}x{shown(height)}"
            raise ValueError(f"{where} has a size of {size}; it must be 1 to {MAX_PIXELS:,} pixels")
        if name[0] == "/" or "\0" in name or (".." in name and ".." in Path(name).parts):
            raise ValueError(f"{where}: file_name {shown(name)} leads out of {self.split}/; name a file inside it")
        if name in self._names:
            raise ValueError(f"{where}: file_name {shown(name)} is that of another image too; remove one")
        self._names.add(name)
        self._left_out.discard(id)
        return ImageEntry(id, name, width, height)


class Coco(ImageFile):
    """One split of a COCO folder. Reads and checks the annotations at once, the images when they are opened.

    A wrong image or annotation is left out, counted and listed (`mpcc.reading.Rejected`); the annotations of such an
    image go with it.

    Args:
        max_bad: Share of the images, and of the annotations, that may be wrong.

    Attributes:
        instances: annotation id → `Instance`, crowds included.
        by_image: image id → its instances, in the file's order.
        categories: The names of all categories, those without an instance too.

    Raises:
        FileNotFoundError: the folder, the annotation file or the split's image folder is missing.
        ValueError: no JSON or no instance file, or too many records are wrong; names file, annotation id and image id.
    """

    def __init__(self, folder: str | Path, split: str, max_bad: float = MAX_BAD) -> None:
        super().__init__(folder, split, "instance")
        self._categories: dict[int, tuple[str, str] | str] = self.read_list("categories", self._category, 1.0)
        self.categories = [category[0] for category in self._categories.values() if isinstance(category, tuple)]
        self.read_images(max_bad)
        self.instances: dict[int, Instance] = self.read_list("annotations", self._instance, max_bad)
        self.by_image: dict[int, list[Instance]] = defaultdict(list)
        for instance in self.instances.values():
            self.by_image[instance.image_id].append(instance)

    def _category(self, record: dict, place: str) -> tuple[str, str] | str:
        """Name and group; where the name is none, the reason, which counts once an annotation is of this category."""
        name, above = record.get("name"), record.get("supercategory") or ""
        where = f"{self.path}: {place} (category {record['id']})"
        if not isinstance(name, str) or not name.strip():
            return f"{where} has no usable field 'name'"
        if not isinstance(above, str):
            return f"{where} has no usable field 'supercategory'"
        return f"{where}: name {shown(name)} {reason}; rename it" if (reason := unfit(name)) else (name, above)

    def _instance(self, record: dict, place: str) -> Instance | None:
        image_id = whole_number(record, "image_id", self._source, place)
        category_id = whole_number(record, "category_id", self._source, place)
        where = f"{self._source}: annotation {record['id']} (image {image_id})"
        if (image := self.image_of(image_id, where)) is None:
            return None
        if (category := self._categories.get(category_id)) is None:
            raise ValueError(f"{where} has unknown category_id {category_id}")
        if isinstance(category, str):
            raise ValueError(f"{where} is of a wrong category: {category}")
        if not isinstance(record.get("bbox"), list):
            raise ValueError(f"{self.path}: {place} has no usable field 'bbox'")
        if type(crowd := record.get("iscrowd", 0)) is not int or crowd not in (0, 1):
            raise ValueError(f"{where}: iscrowd = {shown(crowd)} is neither 0 nor 1")
        segmentation = record.get("segmentation") or None
        box = check_box(record["bbox"], where)
        if not nothing_there(box, segmentation):
            box = _clipped(box, image)
            check_inside(box, image, where)
        if segmentation:
            check_outline(segmentation, image.height, image.width, where)
        return Instance(
            id=record["id"], image_id=image_id, category=category[0], supercategory=category[1], box=box,
            segmentation=segmentation, crowd=bool(crowd), source=self._source,
        )

    def find(self, image: ImageEntry, category: str, box: Box) -> Instance | None:
        """The image's instance of `category` that overlaps `box` most, crowds left out; None below an IoU of 0.5."""
        rivals = [i for i in self.by_image.get(image.id, []) if i.category == category and not i.crowd]
        best = max(rivals, key=lambda instance: iou(instance.box, box), default=None)
        return best if best and iou(best.box, box) >= 0.5 else None


def whole_number(record: Any, field: str, *where: Any) -> int:
    """The whole number in a field of a record. `where`: file, list and place, or file and both in one."""
    value = record.get(field) if isinstance(record, dict) else None
    if type(value) is int and -_LARGEST < value < _LARGEST:
        return value
    at = f"{where[0]}: {where[1]}" + (f"[{where[2]}]" if len(where) > 2 else "")
    why = "" if value is None else f": {shown(value)} is no whole number; write it as one, without quotes"
    raise ValueError(f"{at} has no usable field {field!r}{why}")


def _clipped(box: Box, image: ImageEntry) -> Box:
    """The box cut off at the image's edges, where it crosses them by more than rounding and not by much."""
    x, y, w, h = box
    if not EDGE_TOLERANCE < max(-x, -y, x + w - image.width, y + h - image.height) <= CLIPPED:
        return box
    left, top = max(0.0, x), max(0.0, y)
    return (left, top, min(x + w, image.width) - left, min(y + h, image.height) - top)
