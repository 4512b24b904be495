"""Hiding the object: by default the bounding box in black with a soft edge of 5 px, as in the authors' scripts.

Theirs blurs the box itself, and lets part of the object's light through at its edge (2.8 % on COCO, more where objects
are thin). Here the whole box is opaque and the soft edge lies outside of it: of what is hidden no pixel counts, nor for
the mean colour.

A dark mask on a dark picture could not be found, though the question speaks of it. Where mask and surroundings are both
dark, their luma (ITU-R BT.601, the surroundings' median as far as the soft edge reaches) below `DARK`, a thin light rim
is drawn around the mask. Of 488 pairs of COCO images this concerns 6.6 %.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from mpcc.outlines import Box, Region, decode_mask

Kind = Literal["box", "box_hard", "polygon", "instances", "random_box"]
Fill = Literal["black", "mean"]
SOFT_EDGE = 5.0
"""Radius in pixels of the Gaussian that softens the edge, as in the authors' script."""
COCO_SIDE = 640
"""Longer side of a COCO image. In a smaller image edge and rim are narrower in proportion."""
DARK = 32
"""Luma, 0 to 255, below which mask and surroundings count as dark."""
RIM, RIM_COLOUR = 2, (224, 224, 224)
"""Width in pixels and colour of the rim."""

_SOFT_KINDS = ("box", "instances", "random_box")
_RANDOM_PLACES = 64
_LUMA = np.array([0.299, 0.587, 0.114])


def apply_mask(
    image: Image.Image,
    target: Region,
    others: Sequence[Region] = (),
    kind: Kind = "box",
    fill: Fill = "black",
    seed: str = "",
) -> Image.Image:
    """A copy of the RGB `image` with the target hidden, of the same size.

    Args:
        target: What to hide.
        others: Further instances of the target's class in this image; hidden too by `instances`.
        kind: `box` the bounding box, `box_hard` the same without the soft edge, `polygon` the segmentation (hard edge),
            `instances` target and others, `random_box` a box of the target's size elsewhere (an ablation).
        fill: `black`, or `mean`: the mean colour of what stays in sight.
        seed: Decides the place of `random_box`; pass the sample's id.

    Raises:
        ValueError: an unknown kind or fill, a box without a pixel in the image, or a segmentation that is missing
            (for `polygon`) or broken.
    """
    check_choice("mask", kind, Kind)
    check_choice("fill", fill, Fill)
    region = hidden_region(image.size, target, others, kind, seed)
    scale, box = min(1.0, max(image.size) / COCO_SIDE), _alpha(region)
    blurred = box.filter(ImageFilter.GaussianBlur(SOFT_EDGE * scale))
    colour = (0, 0, 0) if fill == "black" else _mean_colour(image, ~region)
    masked = image.copy()
    masked.paste(colour, (0, 0), ImageChops.lighter(box, blurred) if kind in _SOFT_KINDS else box)
    if _lost(image, colour, (np.asarray(blurred) > 0) & ~region):
        masked.paste(RIM_COLOUR, (0, 0), _alpha(grown(region, max(1, round(RIM * scale))) & ~region))
    return masked


def hidden_region(
    size: tuple[int, int], target: Region, others: Sequence[Region] = (), kind: Kind = "box", seed: str = ""
) -> np.ndarray:
    """The pixels that `apply_mask` hides, before any softening: bool [H, W] for an image of `size` = (W, H)."""
    if kind == "polygon":
        return decode_mask(target, size[1], size[0])
    region = np.zeros((size[1], size[0]), dtype=bool)
    box = pixel_box(target, size)
    if kind == "random_box":
        box = _move_away(box, size, random.Random(f"random_box {seed}"))
    _fill_box(region, box)
    if kind == "instances":
        for other in others:
            region |= footprint(other, size) if other.crowd else _box_region(other, size)
    return region


def others_visible(region: np.ndarray, others: Sequence[Region]) -> bool:
    """Whether any of `others` keeps at least one pixel outside the hidden `region`, bool [H, W]."""
    size = (region.shape[1], region.shape[0])
    return any(bool((footprint(other, size) & ~region).any()) for other in others)


def footprint(region: Region, size: tuple[int, int]) -> np.ndarray:
    """Every pixel that belongs to the region, bool [H, W]: its segmentation where it has one, else its box."""
    return decode_mask(region, size[1], size[0]) if region.segmentation else _box_region(region, size)


def grown(region: np.ndarray, by: int) -> np.ndarray:
    """A region, bool [H, W], and all pixels at most `by` to the side, above or below, corners included."""
    for axis in (0, 1):
        padded = np.pad(region, [(by, by) if side == axis else (0, 0) for side in (0, 1)])
        region = np.lib.stride_tricks.sliding_window_view(padded, 2 * by + 1, axis).any(axis=-1)
    return region


def pixel_box(region: Region, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of all pixels that the box touches, right and bottom exclusive, cut at the image.

    Raises:
        ValueError: nothing of the box lies in the image.
    """
    left, top, right, bottom = _touched(region.box, size)
    if left >= right or top >= bottom:
        raise ValueError(f"{region.where}: no pixel of its box lies in the image of {size[0]}x{size[1]} pixels")
    return left, top, right, bottom


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raises ValueError, naming the choices, unless `value` is one of those of the Literal type `choices`."""
    if value not in get_args(choices):
        raise ValueError(f"{name} = {value!r} is unknown: choose one of {', '.join(get_args(choices))}")


def _touched(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    x, y, w, h = box
    left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
    return left, top, min(size[0], int(np.ceil(x + w))), min(size[1], int(np.ceil(y + h)))


def _fill_box(region: np.ndarray, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    region[top:bottom, left:right] = True


def _box_region(region: Region, size: tuple[int, int]) -> np.ndarray:
    pixels = np.zeros((size[1], size[0]), dtype=bool)
    left, top, right, bottom = _touched(region.box, size)
    _fill_box(pixels, (left, top, max(left, right), max(top, bottom)))
    return pixels


def _move_away(box: tuple[int, int, int, int], size: tuple[int, int], rng: random.Random) -> tuple[int, int, int, int]:
    """A box of equal size whose overlap with `box` is the least possible, at a random place among the equals."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    free_x, free_y = size[0] - width, size[1] - height
    places = [(rng.randint(0, free_x), rng.randint(0, free_y)) for _ in range(_RANDOM_PLACES)]
    # overlap falls with the distance along each axis, so one of the corners attains the minimum
    places += [(x, y) for x in (0, free_x) for y in (0, free_y)]
    x, y = min(places, key=lambda p: max(0, width - abs(p[0] - left)) * max(0, height - abs(p[1] - top)))
    return x, y, x + width, y + height


def _alpha(region: np.ndarray) -> Image.Image:
    return Image.fromarray(region.astype(np.uint8) * 255)


def _lost(image: Image.Image, colour: tuple[int, int, int], around: np.ndarray) -> bool:
    """Whether a mask of this colour and the pixels `around` it, bool [H, W], are both dark; never if there are none."""
    surroundings = np.asarray(image)[around] @ _LUMA
    return len(surroundings) > 0 and max(np.asarray(colour) @ _LUMA, np.median(surroundings)) < DARK


def _mean_colour(image: Image.Image, region: np.ndarray) -> tuple[int, int, int]:
    """The mean colour of a region, bool [H, W]; black where it has no pixel."""
    if not region.any():
        return 0, 0, 0
    red, green, blue = np.asarray(image)[region].mean(axis=0)
    return round(float(red)), round(float(green)), round(float(blue))
