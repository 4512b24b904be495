"""Picture files, opened safely: what is opened, how large it may be, and what its pixels mean is settled here."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mpcc.reading import check_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is opened; others, EPS for one, would start further programs."""
MAX_PIXELS = 100_000_000
"""Width times height that a header may state."""
MAX_RATIO = 200
"""Longer side over the shorter: the processors of Qwen's models refuse more."""

_ORIENTATION, _BITS = 0x0112, 258
_BOTH_WAYS = "EXIF turns it (orientation {}), and its boxes may be meant either way; save it upright"
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `open_picture` has a limit of its own, and refuses


def open_picture(path: str | Path, stated: tuple[int, int] | None = None, boxes: bool = True) -> Image.Image:
    """A picture in RGB with 8 bits a channel: transparent parts on white, 16-bit grey scaled.

    EXIF may say that the stored pixels are to be turned before they are shown. Boxes refer to the pixels as they are
    stored, as COCO's do, unless `stated` is the size of the turned picture. Where it fits both, nobody knows.

    Args:
        stated: (W, H) in pixels, as the annotations state it.
        boxes: Whether there are boxes that refer to its pixels; without, it is turned as EXIF says.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, is too large or too narrow, or what it shows cannot be known; gives reason and
            remedy without the path.
    """
    image = _opened(path)
    orientation = _orientation(image)
    try:
        pixels = _eight_bits(image)
    except ValueError:
        raise
    except Exception as error:  # Pillow's decoders raise all kinds
        raise ValueError(f"{_said(error)}; download it again") from error
    finally:
        image.close()
    if orientation == 1:
        return pixels
    if boxes and stated and orientation in _TURNED and pixels.width != pixels.height:
        return _turn(pixels, orientation) if stated == pixels.size[::-1] else pixels
    if boxes:
        raise ValueError(_BOTH_WAYS.format(orientation))
    return _turn(pixels, orientation)


def picture_size(path: str | Path) -> tuple[int, int]:
    """(W, H) in pixels as the header states it, no pixel decoded. Raises as `open_picture` without a stated size."""
    with _opened(path) as image:
        if (orientation := _orientation(image)) != 1:
            raise ValueError(_BOTH_WAYS.format(orientation))
        return image.size


def inside(folder: str | Path, name: str) -> Path:
    """The path of a file in a folder. Raises ValueError for a name or a link that leads out of it."""
    path = Path(folder, name)
    if "\0" in name or not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{name!r} leads out of {folder}; copy the file into the folder")
    return path


def _opened(path: str | Path) -> Image.Image:
    """The picture with its header read and checked."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing")
    try:
        check_regular(path)
        image = Image.open(path, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}; convert it or download it again") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"its header states more than {MAX_PIXELS:,} pixels; make it smaller") from error
    except ValueError:
        raise
    except Exception as error:  # Pillow's readers raise all kinds
        raise ValueError(f"{_said(error)}; download it again") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels, more than {MAX_PIXELS:,}; make it smaller")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"one side of {width}x{height} pixels is over {MAX_RATIO} times the other; crop it")
    return image


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (as stored) to 8; 1 where it states none. Pillow has turned a TIFF with 5 to 8 itself."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing
        return 1
    known = orientation in range(2, 9) and not (image.format == "TIFF" and orientation in _TURNED)
    return int(orientation) if known else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _grey(image)
    image.load()
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """16-bit grey, 65535 being white. Of 32-bit numbers or floats nobody knows which is white."""
    bits = image.tag_v2.get(_BITS) if image.format == "TIFF" else 16
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not sixteen or bits not in (16, (16,)):
        raise ValueError(f"its grey values (mode {image.mode}) have no known white; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.uint32)
    if isinstance(clear := image.info.get("transparency"), int):
        values = np.where(values == clear, 65535, values)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _turn(pixels: Image.Image, orientation: int) -> Image.Image:
    pixels.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(pixels)
