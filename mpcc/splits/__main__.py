"""Writes `coco.json` and `scenes.json` anew: python -m mpcc.splits"""

from __future__ import annotations

from mpcc.formats import write_json
from mpcc.scenes.categories import SUPERCATEGORY_OF
from mpcc.splits import FOLDER, make_halves
from mpcc.splits.coco_categories import COCO


def main() -> None:
    """Makes both files from the seed and says where they are."""
    for name, categories in (("coco", COCO), ("scenes", SUPERCATEGORY_OF)):
        write_json(FOLDER / f"{name}.json", make_halves(categories))
        print(f"wrote {FOLDER / name}.json: {len(categories)} categories")


if __name__ == "__main__":
    main()
