"""Captions of the scenes, each word the deeper tinted the more of its attention lies on the picture.

    python -m mpcc.mmrpt.sheet --model FOLDER FILE.png

Words that name what only the picture can tell are underlined: what a good model tints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from minigrpo import load_model
from mpcc.mmrpt.captions import Captions, SceneCaptions
from mpcc.mmrpt.dependency import over_parts, token_dependency
from mpcc.mmrpt.masks import tells
from mpcc.mmrpt.spans import word_spans

COUNT = 3
PICTURE, TEXT, LINE, EDGE = (280, 210), 640, 34, 12
"""Size of a picture, width of its text, height of a line, and the space around them, in pixels."""
DEEPEST = (46, 134, 171)


def tint(depth: float) -> tuple[int, ...]:
    """White at 0, `DEEPEST` at 1."""
    return tuple(round(255 + (part - 255) * depth) for part in DEEPEST)


def make_sheet(vlm, captions: Captions, count: int = COUNT) -> Image.Image:
    """The sheet in RGB: the first captions, the scores of each spread from its least to its greatest."""
    font, chosen = ImageFont.load_default(19), captions[:count]
    high = PICTURE[1] + EDGE
    sheet = Image.new("RGB", (PICTURE[0] + TEXT + 3 * EDGE, count * high + EDGE), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (caption, found) in enumerate(zip(chosen, token_dependency(vlm, captions, chosen), strict=True)):
        spans = word_spans(caption.text)
        scores = over_parts(spans, *found)
        least, spread = min(scores), max(max(scores) - min(scores), 1e-9)
        top = EDGE + place * high
        sheet.paste(captions.shown(caption).resize(PICTURE, Image.Resampling.LANCZOS), (EDGE, top))
        left = x = PICTURE[0] + 2 * EDGE
        for i, (start, end) in enumerate(spans):
            behind = caption.text[end : spans[i + 1][0] if i + 1 < len(spans) else None]
            width = pen.textlength(caption.text[start:end], font=font)
            if x + width + pen.textlength(behind.rstrip(), font=font) > left + TEXT:
                x, top = left, top + LINE
            pen.rectangle((x - 1, top, x + width, top + LINE - 8), fill=tint((scores[i] - least) / spread))
            if tells(caption, (start, end)):
                pen.line((x, top + LINE - 7, x + width, top + LINE - 7), fill="black", width=2)
            pen.text((x, top), caption.text[start:end] + behind, fill="black", font=font)
            x += width + pen.textlength(behind, font=font)
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the sheet; 1 after an error of one line."""
    parser = argparse.ArgumentParser("python -m mpcc.mmrpt.sheet", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="image file to write, say captions.png")
    parser.add_argument("--model", required=True, help="folder, hub id or checkpoint whose attention is shown")
    options = parser.parse_args(argv)
    try:
        make_sheet(load_model(options.model), SceneCaptions("val2017")).save(options.file)
    except (OSError, ValueError) as error:
        print(f"mpcc.mmrpt.sheet: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
