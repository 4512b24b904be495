"""The COCO categories that occur in the scenes, with COCO's own names, ids and supercategories."""

from __future__ import annotations

from typing import Any

_BY_SUPERCATEGORY: dict[str, dict[str, int]] = {
    "person": {"person": 1},
    "vehicle": {"bicycle": 2, "car": 3, "motorcycle": 4, "bus": 6, "truck": 8, "boat": 9},
    "outdoor": {"traffic light": 10, "fire hydrant": 11, "stop sign": 13, "bench": 15},
    "animal": {"bird": 16, "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "cow": 21},
    "accessory": {"umbrella": 28},
    "sports": {"frisbee": 34, "skis": 35, "snowboard": 36, "sports ball": 37, "kite": 38, "surfboard": 42},
    "kitchen": {"bottle": 44, "wine glass": 46, "cup": 47, "fork": 48, "knife": 49, "spoon": 50, "bowl": 51},
    "food": {"pizza": 59, "cake": 61},
    "furniture": {"chair": 62, "couch": 63, "bed": 65},
    "electronic": {"tv": 72, "laptop": 73, "mouse": 74, "remote": 75, "keyboard": 76},
    "appliance": {"microwave": 78, "oven": 79, "sink": 81, "refrigerator": 82},
    "indoor": {"book": 84, "clock": 85, "vase": 86, "teddy bear": 88},
}

CATEGORIES: tuple[dict[str, Any], ...] = tuple(
    {"id": number, "name": name, "supercategory": group}
    for group, members in _BY_SUPERCATEGORY.items()
    for name, number in members.items()
)
"""Entries of a COCO file's `categories`, in the order of their ids."""

NAMES: tuple[str, ...] = tuple(category["name"] for category in CATEGORIES)
ID_OF: dict[str, int] = {category["name"]: category["id"] for category in CATEGORIES}
SUPERCATEGORY_OF: dict[str, str] = {category["name"]: category["supercategory"] for category in CATEGORIES}
