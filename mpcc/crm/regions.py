"""The regions of a picture that are masked one at a time, and for each a control region of the same size elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from mpcc.masks import check_choice, pixel_box
from mpcc.outlines import Box
from mpcc.outlines import Region as Part

Fill = Literal["mean", "blur", "black"]
"""What a masked region shows: the mean colour of what stays in sight, the region blurred beyond recognition, or black,
which looks like the black box that hides the object asked for."""


@dataclass(frozen=True)
class Region:
    """A region of a picture.

    Attributes:
        text: What it shows, as a sentence or a name.
        names: What a step may call it; empty where nobody knows.
        box: [x, y, w, h] in pixels.
        control: A box of the same area that shows neither evidence nor what is hidden; None where there is no room.
        relevant: Whether the answer follows from it; None where nobody knows.
    """

    text: str
    names: tuple[str, ...]
    box: Box
    control: Box | None = None
    relevant: bool | None = True


def with_controls(regions: Sequence[Region], hidden: np.ndarray, seed: str) -> list[Region]:
    """The regions, each with its control: a free place drawn from `seed`, upright or, where none is free, turned.

    Controls overlap no region and nothing `hidden`, bool [H, W]; two of them may overlap each other.

    Raises:
        ValueError: a region of which no pixel lies in the picture.
    """
    size = (hidden.shape[1], hidden.shape[0])
    boxes = [pixel_box(Part(box=region.box), size) for region in regions]
    taken = hidden.copy()
    for left, top, right, bottom in boxes:
        taken[top:bottom, left:right] = True
    rng = Random(f"control {seed}")
    found = []
    for region, (left, top, right, bottom) in zip(regions, boxes, strict=True):
        shape = (right - left, bottom - top)
        control = _free_place(taken, *shape, rng) or _free_place(taken, *shape[::-1], rng)
        found.append(replace(region, control=control))
    return found


def masked(image: Image.Image, box: Box | None, hidden: np.ndarray, fill: Fill = "mean") -> Image.Image:
    """The RGB picture with a box filled; the picture itself where the box is None or empty (the empty mask).

    Nothing `hidden`, bool [H, W], lends its colour: it is to be hidden afterwards, and would shine through.

    Raises:
        ValueError: an unknown fill, or no pixel of a box that is not empty lies in the picture.
    """
    check_choice("crm-fill", fill, Fill)
    if box is None or not box[2] or not box[3]:
        return image
    left, top, right, bottom = pixel_box(Part(box=box), image.size)
    pixels, inside = np.array(image), np.zeros_like(hidden)
    inside[top:bottom, left:right] = True
    if fill == "black":
        pixels[inside] = 0
    elif fill == "mean":
        pixels[inside] = _mean(pixels, ~(inside | hidden))
    else:
        pixels[hidden] = _mean(pixels, ~hidden)
        radius = min(right - left, bottom - top) / 2
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius))
        pixels = np.array(image)
        pixels[inside] = np.asarray(blurred)[inside]
    return Image.fromarray(pixels)


def _mean(pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The mean colour of some pixels; black where there are none."""
    return pixels[where].mean(axis=0).round() if where.any() else np.zeros(3)


def _free_place(taken: np.ndarray, width: int, height: int, rng: Random) -> Box | None:
    """A random one of all places where a box of this size covers nothing taken."""
    if height > taken.shape[0] or width > taken.shape[1]:
        return None
    sums = np.pad(taken.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    covered = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    tops, lefts = np.nonzero(covered == 0)
    if not len(tops):
        return None
    place = rng.randrange(len(tops))
    return float(lefts[place]), float(tops[place]), float(width), float(height)
