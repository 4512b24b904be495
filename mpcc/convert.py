"""Pairs files from one form into another: `python -m mpcc.convert IN OUT --to ours|evaluation|training`.

`evaluation` and `training` are the authors' files. It says which fields a form cannot hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mpcc.formats import read_pairs, write_authors_evaluation, write_authors_training, write_pairs

_OWN = ("id", "annotation_id", "area", "truncated", "others_visible", "rating", "rating_text", "reason", "filled",
        "part", "half")
LOST = {
    "evaluation": (*_OWN, "supercategory", "trace"),
    "training": (*_OWN, "difficulty", "confusing", "irrelevant"),
    "ours": (),
}
"""Fields of ours that a form cannot hold."""


def main(argv: Sequence[str] | None = None) -> int:
    """Converts; 0 where all went well, 1 after a one-line error."""
    parser = argparse.ArgumentParser("python -m mpcc.convert", description=__doc__)
    parser.add_argument("source", metavar="IN", type=Path, help="a pairs file in any of the three forms")
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write")
    parser.add_argument("--to", required=True, choices=tuple(LOST), help="the form of OUT")
    parser.add_argument("--split", default="", help="split of the images, where IN does not say it")
    options = parser.parse_args(argv)
    try:
        split, located = read_pairs(options.source, options.split) if options.split else read_pairs(options.source)
        pairs = [found.pair for found in located]
        if options.to == "ours":
            write_pairs(options.target, split, pairs)
        elif options.to == "evaluation":
            write_authors_evaluation(options.target, pairs)
        else:
            write_authors_training(options.target, pairs)
    except (ValueError, OSError) as error:
        print(f"mpcc.convert: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    lost = [field for field in LOST[options.to] if any(pair.get(field) not in (None, "", []) for pair in pairs)]
    print(f"{len(pairs)} pairs in {options.target}" + (f"; left out: {', '.join(lost)}" if lost else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
