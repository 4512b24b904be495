"""Self-contained HTML pages: data, pictures, style and script in one file that opens from the file system.

A page is `{name}.html` (its markup), `{name}.css` and `{name}.js` of this folder after `common.css` and `common.js`.
Data travels as inert JSON and reaches the document as text only; a content security policy allows the page's own
script and no other, and no request at all. So text that a model wrote can do nothing, whatever it holds.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from minigrpo.files import replacing

_HERE = Path(__file__).parent
_QUALITY = 85


def write(path: str | Path, name: str, title: str, data: Any, pictures: Iterable[Image.Image], side: int) -> None:
    """Writes the page `name`; the file appears whole or not at all.

    Args:
        path: HTML file to write; its folder must exist.
        data: What JSON can hold; the script finds it as `data`.
        pictures: Each is embedded once; the script finds number k as `picture(k)`. Taken one at a time.
        side: Longest side in pixels; larger pictures are reduced to it.
    """
    style, script = _both(name, "css"), _both(name, "js")
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(_head(title, style, script))
        file.write((_HERE / f"{name}.html").read_text(encoding="utf-8"))
        file.write(f'<script type="application/json" id="data">{inert_json(data)}</script>\n')
        for number, picture in enumerate(pictures):
            # inert text: the browser decodes a picture only when the page shows it
            file.write(f'<script type="text/plain" id="picture-{number}">{data_url(picture, side)}</script>\n')
        file.write(f"<script>{script}</script>\n</body>\n</html>\n")


def data_url(picture: Image.Image, side: int) -> str:
    """The picture as a JPEG data URL, its longer side reduced to `side` pixels where it exceeds them."""
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def inert_json(data: Any) -> str:
    """JSON that can end no script element and open no comment, wherever in HTML it stands.

    Raises:
        ValueError: a number that is not finite, which JSON cannot hold.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # half of a surrogate pair, which a cut-off answer may end with, is no UTF-8
    return text.encode("utf-8", "replace").decode("utf-8")


def _both(name: str, kind: str) -> str:
    return "\n".join((_HERE / f"{stem}.{kind}").read_text(encoding="utf-8") for stem in ("common", name))


def _head(title: str, style: str, script: str) -> str:
    policy = f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )


def _source(text: str) -> str:
    """What names a style or script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
