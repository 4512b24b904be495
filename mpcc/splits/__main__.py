"""Prints the halves of the categories, or writes them into a file; `coco.json` and `scenes.json` were made so.

    python -m mpcc.splits coco
    python -m mpcc.splits scenes --seed 1 --out halves.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mpcc.formats import write_json
from mpcc.scenes.categories import SUPERCATEGORY_OF
from mpcc.splits import SEED, make_halves
from mpcc.splits.coco_categories import COCO

CATEGORIES = {"coco": COCO, "scenes": SUPERCATEGORY_OF}


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the halves from the seed; 1 after an error of one line."""
    parser = argparse.ArgumentParser("python -m mpcc.splits", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", choices=sorted(CATEGORIES), help="whose categories")
    parser.add_argument("--seed", type=int, default=SEED, help=f"decides which category goes where (default {SEED})")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write this file; without it the halves are printed")
    options = parser.parse_args(argv)
    halves = make_halves(CATEGORIES[options.categories], options.seed)
    if options.out is None:
        print(json.dumps(halves, indent=1, ensure_ascii=False))
        return 0
    try:
        write_json(options.out, halves)
    except OSError as error:
        print(f"mpcc.splits: error: {options.out}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}: {len(CATEGORIES[options.categories])} categories")
    return 0


if __name__ == "__main__":
    sys.exit(main())
