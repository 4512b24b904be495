"""Categories in two disjoint halves, for the OOD split: train on `id`, test on `ood` as well (MPCC Table 4).

`coco.json` holds the halves of the 80 COCO categories, `scenes.json` those of the embedded scenes. Both are made by
`python -m mpcc.splits`: {"format": "mpcc-halves", "version": 1, "seed": 0, "id": [names], "ood": [names]}.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from mpcc.reading import read_json

FORMAT, VERSION, SEED = "mpcc-halves", 1, 0
FOLDER = Path(__file__).parent


def make_halves(categories: Mapping[str, str], seed: int = SEED) -> dict[str, object]:
    """The content of a halves file: each supercategory is divided evenly, an odd category goes to the smaller half.

    Args:
        categories: Name → supercategory.
        seed: Decides which category goes where.

    Returns:
        Names in alphabetical order; the halves differ by 1 at most, in all and within each supercategory.
    """
    rng = random.Random(f"halves {seed}")
    halves: tuple[list[str], list[str]] = ([], [])
    for group in sorted(set(categories.values())):
        names = sorted(name for name, above in categories.items() if above == group)
        rng.shuffle(names)
        # names are dealt in turn; where one is left over, the half that has fewer so far gets it
        first = int(len(halves[1]) < len(halves[0])) if len(halves[0]) != len(halves[1]) else rng.randrange(2)
        halves[first].extend(names[::2])
        halves[1 - first].extend(names[1::2])
    return {"format": FORMAT, "version": VERSION, "seed": seed, "id": sorted(halves[0]), "ood": sorted(halves[1])}


def halves_path(name: str) -> Path:
    """The file that `name` means: "coco" or "scenes" the committed ones, anything else a path."""
    return FOLDER / f"{name}.json" if name in ("coco", "scenes") else Path(name)


def read_halves(name: str) -> dict[str, str]:
    """Category → "id" or "ood", of "coco", "scenes" or a file of the same format.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, another format, or a category in both halves.
    """
    path = halves_path(name)
    content = read_json(path, "name coco, scenes or a halves file")
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ValueError(f"{path} is not a halves file: it must hold format = {FORMAT!r}, version = {VERSION}")
    half_of: dict[str, str] = {}
    for half in ("id", "ood"):
        names = content.get(half)
        if not isinstance(names, list) or not all(isinstance(category, str) for category in names):
            raise ValueError(f"{path}: {half} is not a list of category names")
        for category in names:
            if category in half_of:
                raise ValueError(f"{path}: category {category!r} stands twice; a category belongs to one half")
            half_of[category] = half
    return half_of
