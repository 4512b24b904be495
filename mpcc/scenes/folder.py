"""The world as a COCO folder: written once to the user's cache, read by the same code as COCO."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mpcc.formats import pair_id, write_pairs
from mpcc.scenes import benchmark
from mpcc.scenes.canvas import HEIGHT, WIDTH
from mpcc.scenes.categories import CATEGORIES, ID_OF, SUPERCATEGORY_OF
from mpcc.scenes.world import Item, Pair, Scene, evidence_of, generate

DRAWN_BY = ("benchmark", "canvas", "categories", "evidence", "folder", "icons_indoor", "icons_outdoor", "places",
            "props", "props_indoor", "props_outdoor", "world")
"""Modules that decide what is written."""

_SOURCES = b"".join((Path(__file__).parent / f"{module}.py").read_bytes() for module in DRAWN_BY)

VERSION = hashlib.sha256(_SOURCES).hexdigest()[:12]
"""Changes with the drawing and the words: an older folder stays, a new one is written beside it."""

IMAGES = {"train2017": 1200, "val2017": 200}
PAIRS_PER_IMAGE = 2


def ensure_scenes(root: Path | None = None) -> Path:
    """The folder of the scenes, written first if it is missing; the same files on every machine.

    It holds `annotations/instances_{train,val}2017.json`, the images in `train2017/` and `val2017/`, and
    `pairs_{train,val}2017.json` in the form of the authors' training file, 2,400 and 400 pairs,
    with `id`, `annotation_id`, `difficulty`, `reason`, `scene` (its kind) and `evidence` added. Their `bbox` is what is
    hidden, larger than the object and independent of it; the annotation keeps the object's own box and outline, and
    what it is found by. `benchmark.json` is MPCC-Eval on the scenes in the form of `mpcc.benchmark`: 1,114 pairs on the
    images in `benchmark2017/`, annotated like the others. Images are whole: nothing in them is masked.

    Args:
        root: Where the folder goes; by default `$XDG_CACHE_HOME/minigrpo`, else `~/.cache/minigrpo`.

    Raises:
        OSError: the cache cannot be written.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(root) if root else cache / "minigrpo"
    folder = root / f"scenes-{VERSION}"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".scenes-", dir=root))
    try:
        for split, images in IMAGES.items():
            write_split(draft, split, images)
        write_benchmark(draft)
        os.chmod(draft, 0o755)
        os.rename(draft, folder)
    except OSError:
        # another process was first: a whole folder stands there, and a rename onto it is refused
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def write_split(folder: Path, split: str, images: int) -> None:
    """Writes `images` scenes of one split, their annotations and their pairs below `folder`."""
    coco = _begin(folder, split)
    pairs = []
    for number in range(1, images + 1):
        scene = generate(f"{split}/{number}")
        _add(coco, scene, number, folder / split)
        pairs += [_pair(pair, scene, split, number) for pair in scene.pick(PAIRS_PER_IMAGE)]
    _end(coco, folder, split)
    (folder / f"pairs_{split}.json").write_text(json.dumps(pairs, indent=1), encoding="utf-8")


def write_benchmark(folder: Path) -> None:
    """Writes the benchmark's scenes, their annotations and `benchmark.json` below `folder`."""
    split = benchmark.SPLIT
    coco = _begin(folder, split)
    pairs = []
    for number, scene, chosen in benchmark.draw():
        _add(coco, scene, number, folder / split)
        for pair, fields in chosen:
            annotation = _annotation_id(number, pair.index)
            name = {"id": pair_id(split, _file_name(number), annotation), "file_name": _file_name(number)}
            pairs.append(name | {"annotation_id": annotation} | fields)
    _end(coco, folder, split)
    write_pairs(folder / "benchmark.json", split, pairs)


def _begin(folder: Path, split: str) -> dict[str, list[dict[str, Any]]]:
    (folder / split).mkdir()
    (folder / "annotations").mkdir(exist_ok=True)
    return {"images": [], "annotations": [], "categories": list(CATEGORIES)}


def _add(coco: dict[str, list[dict[str, Any]]], scene: Scene, number: int, images: Path) -> None:
    scene.image.save(images / _file_name(number), quality=92, subsampling=0)
    coco["images"].append({"id": number, "file_name": _file_name(number), "width": WIDTH, "height": HEIGHT})
    coco["annotations"] += [_annotation(item, number, i) for i, item in enumerate(scene.items)]


def _end(coco: dict[str, list[dict[str, Any]]], folder: Path, split: str) -> None:
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco), encoding="utf-8")


def _file_name(image: int) -> str:
    return f"{image:012d}.jpg"


def _annotation_id(image: int, index: int) -> int:
    return image * 100 + index + 1


def _annotation(item: Item, image: int, index: int) -> dict[str, Any]:
    xs, ys = item.outline[::2], item.outline[1::2]
    following = zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    return {
        "id": _annotation_id(image, index),
        "image_id": image,
        "category_id": ID_OF[item.category],
        "bbox": list(item.box),
        "segmentation": [list(item.outline)],
        "area": abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in following)) / 2,
        "iscrowd": 0,
        "evidence": evidence_of(item),
    }


def _pair(pair: Pair, scene: Scene, split: str, image: int) -> dict[str, Any]:
    annotation, item = _annotation_id(image, pair.index), scene.items[pair.index]
    return {
        "id": f"{split}/{annotation}",
        "annotation_id": annotation,
        "file_name": _file_name(image),
        "bbox": list(item.hidden),
        "category_name": pair.name,
        "supercategory": SUPERCATEGORY_OF[pair.name],
        "cot_data": pair.trace,
        "difficulty": pair.difficulty,
        "reason": pair.reason,
        "scene": scene.place,
        "evidence": evidence_of(item),
    }
