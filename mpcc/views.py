"""Blind views: the question as it was, about a picture without what the answer should rest on.

- `no_evidence`: the regions of the evidence are filled; the mask and the rest of the picture stay.
- `elsewhere`: the same mask on another picture of the same kind (`Pair.scene`), or of the set where no kind is named.
- `black`: all of the picture is black.

The right answer stays that of the whole picture. What is still right without the evidence was not found by it: it was
read off the mask's shape and place, off the kind of picture, or known beforehand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Literal, get_args

import numpy as np
from PIL import Image

from mpcc.coco import Region
from mpcc.formats import Evidence
from mpcc.masks import footprint, grown

View = Literal["no_evidence", "elsewhere", "black"]
VIEWS: tuple[View, ...] = get_args(View)
RING = 4
"""Pixels around a region of which it gets the mean colour."""


def blind_kind(view: View) -> str:
    """What the free-form question is called in the records of a view, in tables and figures."""
    return f"free_{view}"


BLIND_KINDS = tuple(map(blind_kind, VIEWS))


def has_view(view: View, evidence: Sequence[Evidence], other: object | None) -> bool:
    """Whether a pair has the view: evidence to fill, or another picture (`other_pictures`)."""
    return view == "black" or bool(evidence if view == "no_evidence" else other)


def other_pictures(pairs: Iterable[tuple[str, str, str | None]]) -> dict[str, str]:
    """The picture of the view `elsewhere`: pair id → file name, drawn from the id alone; without those that have none.

    Args:
        pairs: Id, file name and scene of every pair of the set. A pair without a scene takes any other file.
    """
    pairs = list(pairs)
    files: dict[str | None, set[str]] = defaultdict(set)
    for _, name, scene in pairs:
        files[None].add(name)
        files[scene].add(name)
    listed = {scene: sorted(names) for scene, names in files.items()}
    places = {scene: {name: place for place, name in enumerate(names)} for scene, names in listed.items()}
    found = {}
    for id, name, scene in pairs:
        if (count := len(listed[scene]) - 1) > 0:
            place = Random(f"elsewhere {id}").randrange(count)
            found[id] = listed[scene][place + (place >= places[scene][name])]  # the pair's own file is passed over
    return found


def seen(view: View | None, image: Image.Image, mask: Callable[[Image.Image], Image.Image], hidden: np.ndarray,
         evidence: Sequence[Evidence], other: Callable[[], Image.Image]) -> Image.Image:
    """What the model sees of a pair in a view, in the size of `image`; None is no view: the masked picture.

    Args:
        image: The whole RGB picture.
        mask: Hides the object in a picture of this size (`mpcc.masks.apply_mask`).
        hidden: bool [H, W], what the mask hides; no colour is taken from there.
        other: Opens the picture of `elsewhere`, which is brought to this size, so that the mask is the same.
    """
    if view == "black":
        return Image.new("RGB", image.size)
    if view == "elsewhere":
        picture = other()
        return mask(picture if picture.size == image.size else picture.resize(image.size, Image.Resampling.BICUBIC))
    return mask(without_evidence(image, evidence, hidden) if view == "no_evidence" else image)


def without_evidence(image: Image.Image, evidence: Sequence[Evidence], hidden: np.ndarray) -> Image.Image:
    """The picture with every region of the evidence in the mean colour of the `RING` pixels around it.

    What is hidden, or belongs to evidence, lends no colour. Where nothing else is around a region, it gets the mean of
    all that is left of the picture; black where nothing is.
    """
    pixels = np.array(image)
    regions = [footprint(Region(box=clue.box), image.size) for clue in evidence]
    left = ~np.logical_or.reduce([hidden, *regions])
    filled = pixels.copy()
    for region in regions:
        ring = grown(region, RING) & left
        around = pixels[ring if ring.any() else left]
        filled[region] = around.mean(axis=0).round() if len(around) else 0
    return Image.fromarray(filled)
