"""A COCO folder of noise images with a few annotations, and pairs files for it."""

import json

import numpy as np
from PIL import Image

from mpcc.task import MaskedPrediction

Config = MaskedPrediction.Config
NAMES = {1: ("dog", "animal"), 2: ("stop sign", "outdoor"), 3: ("cup", "kitchen")}


def annotation(id, image_id, category_id, box, **changes):
    x, y, w, h = box
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    record = {"id": id, "image_id": image_id, "category_id": category_id, "bbox": box, "iscrowd": 0,
              "segmentation": outline}
    return record | changes


def write_split(folder, split, annotations, images=3):
    entries = []
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / split).mkdir()
    for i in range(1, images + 1):
        pixels = np.random.default_rng([i, *split.encode()]).integers(1, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / f"{i}.png")
        entries.append({"id": i, "file_name": f"{i}.png", "width": 100, "height": 80})
    categories = [{"id": id, "name": name, "supercategory": above} for id, (name, above) in NAMES.items()]
    data = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(data), encoding="utf-8")


ANNOTATIONS = [
    annotation(11, 1, 1, [10, 10, 40, 30]),
    annotation(12, 1, 1, [70, 50, 20, 20]),
    annotation(13, 1, 2, [60, 5, 20, 20]),
    annotation(14, 2, 3, [30, 30, 5, 5]),
    annotation(15, 2, 3, [5, 5, 90, 70]),
    annotation(16, 3, 1, [0, 0, 50, 50], iscrowd=1, segmentation={"counts": [0, 8000], "size": [80, 100]}),
    annotation(17, 3, 2, [20, 20, 40, 40]),
]


def pairs_file(path, *records):
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    return str(path)


def pair(**changes):
    record = {"file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog", "supercategory": "animal"}
    return {key: value for key, value in (record | changes).items() if value is not ...}


def task(folder, **options):
    return MaskedPrediction(Config(coco=str(folder), **options))
