"""Parts of an image: boxes, and outlines as COCO writes them, checked before pycocotools decodes them.

What pycocotools does not check crashes it (a coordinate of 1e30), hangs it, or decodes to leftovers of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle_api

from mpcc.reading import shown

Box = tuple[float, float, float, float]
"""[x, y, w, h] in pixels, (x, y) being the top-left corner."""

OUTSIDE = 2
"""Sides of the image, the longer, by which a point of an outline may lie outside of it."""


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


def decode_mask(region: Region, height: int, width: int) -> np.ndarray:
    """Binary mask of a region's segmentation, bool [H, W].

    Raises:
        ValueError: no segmentation, or one that `check_outline` refuses.
    """
    segmentation = region.segmentation
    if not segmentation:
        raise ValueError(f"{region.where} has no segmentation: use a mask kind that needs the box only")
    runs = check_outline(segmentation, height, width, region.where)
    if runs is None:
        packed = rle_api.merge(rle_api.frPyObjects(segmentation, height, width))
    else:
        packed = rle_api.frPyObjects({"counts": runs, "size": [height, width]}, height, width)
    return rle_api.decode(packed).astype(bool)


def check_outline(segmentation: Any, height: int, width: int, where: str) -> list[int] | None:
    """The run lengths of a segmentation, column by column, None where it is polygons.

    Raises:
        ValueError: neither; a polygon with fewer than 3 points or one far outside the image; run lengths that do not
            fill [H, W].
    """
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, height, width, where)
    if not isinstance(segmentation, list):
        raise ValueError(f"{where}: segmentation is neither a list of polygons nor run lengths")
    least, most = -OUTSIDE * max(height, width), (1 + OUTSIDE) * max(height, width)
    for polygon in segmentation:
        # pycocotools takes four numbers for a box, silently
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"{where}: a polygon must list at least 3 points as [x1, y1, x2, y2, …]")
        try:  # a NaN is found by the sum: it makes no comparison true
            fits = min(polygon) >= least and max(polygon) <= most and least < sum(polygon) / len(polygon) < most
        except TypeError:
            fits = False
        if not fits:
            raise ValueError(f"{where}: a polygon holds what is no coordinate in an image of {width}x{height} pixels")
    return None


def iou(a: Box, b: Box) -> float:
    """The share of two boxes' union that both cover, 0 to 1."""
    common = _common(a, b)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def covered(a: Box, b: Box) -> float:
    """The share of the smaller of two boxes that both cover, 0 to 1; 0 where one is empty."""
    return _common(a, b) / (min(a[2] * a[3], b[2] * b[3]) or 1.0)


def _common(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def nothing_there(box: Box, segmentation: Any) -> bool:
    """Whether box and outline agree that the object has no extent: COCO's train2017 holds two such (918, 2206849)."""
    if (box[2] > 0 and box[3] > 0) or not isinstance(segmentation, list):
        return False
    polygons = [polygon for polygon in segmentation if isinstance(polygon, list)]
    values = [[v for polygon in polygons for v in polygon[axis::2] if isinstance(v, int | float)] for axis in (0, 1)]
    return min(len(set(axis)) for axis in values) == 1


def _run_lengths(segmentation: dict, height: int, width: int, where: str) -> list[int]:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if size != [height, width]:
        stated = f"{where}: run lengths of size {shown(size)}"
        raise ValueError(f"{stated} do not fit an image of [h, w] = {[height, width]}")
    # pycocotools decodes run lengths that do not add up to leftovers of memory, silently
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError(f"{where}: broken run lengths; segmentation.counts must be a list or COCO's compressed text")
    if sum(runs) != height * width:
        total = str(sum(runs))[:40]
        raise ValueError(f"{where}: run lengths sum to {total}, not to height x width = {height * width}")
    return runs


def _decompress(text: str) -> list[int] | None:
    """Run lengths of COCO's compressed text: 5 bits a character, from the third run on relative to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or shift > 30:  # no run is longer than 2**30 pixels
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            signed = value - (1 << shift) if code & 0x10 else value
            runs.append(signed + runs[-2] if len(runs) > 2 else signed)
            value = shift = 0
    return runs if shift == 0 else None
