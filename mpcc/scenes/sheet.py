"""A contact sheet of the scenes, to guess by eye what is hidden: `python -m mpcc.scenes.sheet FILE.jpg`.

The first 24 pictures of the benchmark, each with one pair's mask; the answers stand below all of them.
"""

from __future__ import annotations

import argparse
import textwrap
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mpcc.coco import Region
from mpcc.masks import apply_mask
from mpcc.scenes.benchmark import draw

COUNT, COLUMNS = 24, 4
SIDE = (336, 252)
"""Width and height of a picture on the sheet."""
HEAD, LINE, CHARACTERS = 22, 20, 165
"""Height of a caption and of a line of answers, in pixels; characters of such a line."""


def make_sheet() -> Image.Image:
    """The sheet in RGB."""
    font = ImageFont.load_default(14)
    pictures, answers = [], []
    for number, (_, scene, chosen) in enumerate(islice(draw(), COUNT), 1):
        pair, fields = chosen[0]
        masked = apply_mask(scene.image, Region(box=scene.items[pair.index].hidden))
        pictures.append((f"{number}  {scene.place}, {pair.difficulty}", masked.resize(SIDE, Image.Resampling.LANCZOS)))
        answers.append(f"{number} {fields['category_name']}: {' '.join(c['text'] for c in fields['evidence'])}")
    lines = [line for answer in answers for line in textwrap.wrap(answer, CHARACTERS, subsequent_indent="    ")]
    width, high = COLUMNS * (SIDE[0] + 8) + 8, SIDE[1] + HEAD
    sheet = Image.new("RGB", (width, -(-COUNT // COLUMNS) * high + LINE * (len(lines) + 1)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(pictures):
        x, y = 8 + place % COLUMNS * (SIDE[0] + 8), place // COLUMNS * high
        pen.text((x, y + 3), caption, fill="black", font=font)
        sheet.paste(picture, (x, y + HEAD))
    for row, line in enumerate(lines):
        pen.text((8, sheet.height - LINE * (len(lines) - row) - 4), line, fill="#444444", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mpcc.scenes.sheet", description=__doc__)
    parser.add_argument("file", type=Path, help="image file to write, say scenes.jpg")
    file = parser.parse_args().file
    try:
        make_sheet().save(file, quality=85)
    except (ValueError, OSError) as error:
        raise SystemExit(f"sheet: error: {file}: {' '.join(str(error).split())}") from error


if __name__ == "__main__":
    main()
