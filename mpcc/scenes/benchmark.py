"""MPCC-Eval on the scenes: 1,114 pairs of the paper's sizes, chosen from a seed on pictures of their own.

Wrong names: confusing ones may stand in the same kind of scene, rather such as look or serve alike; irrelevant ones
never stand beside anything in the picture.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from mpcc.coco import Region
from mpcc.masks import hidden_region, others_visible
from mpcc.scenes.canvas import HEIGHT, ICONS, WIDTH
from mpcc.scenes.categories import NAMES, SUPERCATEGORY_OF
from mpcc.scenes.places import PLACES
from mpcc.scenes.world import Item, Pair, Scene, evidence_of, generate

SPLIT = "benchmark2017"

COUNTS: Mapping[str, int] = {"hard": 322, "moderate": 341, "easy": 451}
"""Pairs per difficulty: the paper's, from the shares of Table 2."""

PAIRS_PER_IMAGE = 2
CONFUSING, IRRELEVANT = 4, 2


def draw(counts: Mapping[str, int] | None = None) -> Iterator[tuple[int, Scene, list[tuple[Pair, dict[str, Any]]]]]:
    """The benchmark's scenes, in order: number (the seed is `benchmark2017/{number}`), scene, and its chosen pairs.

    With every pair come the fields of the pairs file (`mpcc.benchmark`) that do not depend on ids and files. A scene of
    which nothing is needed is passed over.

    Args:
        counts: Pairs per difficulty; by default `COUNTS`.
    """
    left = Counter(counts or COUNTS)
    number = 0
    while left.total():
        number += 1
        scene, rng = generate(f"{SPLIT}/{number}"), Random(f"{SPLIT}/{number}/pairs")
        chosen = []
        for pair in _distinct(scene, rng):
            if left[pair.difficulty] and len(chosen) < PAIRS_PER_IMAGE:
                fields = _fields(scene, pair, rng)
                if len(fields["irrelevant"]) == IRRELEVANT:
                    left[pair.difficulty] -= 1
                    chosen.append((pair, fields))
        if chosen:
            yield number, scene, chosen


def _distinct(scene: Scene, rng: Random) -> list[Pair]:
    """The pairs of a scene, one per answer, in random order: each category equally likely, also in a long row."""
    by_name = defaultdict(list)
    for pair in scene.pairs:
        by_name[pair.name].append(pair)
    return [rng.choice(by_name[name]) for name in rng.sample(sorted(by_name), len(by_name))]


def _fields(scene: Scene, pair: Pair, rng: Random) -> dict[str, Any]:
    confusing = _confusing(scene, pair, rng)
    target = scene.items[pair.index]
    same = [item for i, item in enumerate(scene.items) if item.category == pair.name and i != pair.index]
    return {
        "bbox": list(target.hidden),
        "category_name": pair.name,
        "supercategory": SUPERCATEGORY_OF[pair.name],
        "others_visible": _in_sight(target, same),
        "difficulty": pair.difficulty,
        "reason": pair.reason,
        "confusing": confusing,
        "filled": confusing,
        "irrelevant": _irrelevant(scene, pair, confusing, rng),
        "trace": pair.trace,
        "scene": scene.place,
        "evidence": evidence_of(target),
    }


def _in_sight(target: Item, same: Iterable[Item]) -> bool:
    region = hidden_region((WIDTH, HEIGHT), Region(box=target.hidden))
    return others_visible(region, [Region(box=item.box, segmentation=[list(item.outline)]) for item in same])


def _confusing(scene: Scene, pair: Pair, rng: Random) -> list[str]:
    """4 other categories of the place, rather those that look alike; where it has fewer, of what goes with those."""
    here = PLACES[scene.place].here
    chosen = _weighted(here - {pair.name}, pair.name, rng)[:CONFUSING]
    if len(chosen) < CONFUSING:
        near = Counter(name for place in PLACES.values() if place.here & here for name in place.here)
        chosen += _weighted(set(near) - here, pair.name, rng)[: CONFUSING - len(chosen)]
    # any two of them may come in Cho.E
    rng.shuffle(chosen)
    return chosen


def _weighted(names: Iterable[str], truth: str, rng: Random) -> list[str]:
    """The names in random order, those of a like size, shape or group rather first."""
    weights = {name: _likeness(name, truth) for name in sorted(names)}
    # exponential waiting times: the first to come is drawn with a chance proportional to its weight
    return sorted(weights, key=lambda name: rng.expovariate(weights[name]))


def _likeness(name: str, truth: str) -> float:
    (_, *sizes), (_, *usual) = ICONS[name], ICONS[truth]
    alike = math.exp(-sum(abs(math.log(one / other)) for one, other in zip(sizes, usual, strict=True)))
    return alike * (2 if SUPERCATEGORY_OF[name] == SUPERCATEGORY_OF[truth] else 1)


def _irrelevant(scene: Scene, pair: Pair, confusing: list[str], rng: Random) -> list[str]:
    """2 categories of other places and groups, that stand nowhere beside anything in the picture; fewer if none are."""
    seen = {item.category for item in scene.items}
    near = set(confusing).union(*(place.here for place in PLACES.values() if place.here & seen))
    away = [name for name in NAMES if name not in near and SUPERCATEGORY_OF[name] != SUPERCATEGORY_OF[pair.name]]
    return rng.sample(away, min(IRRELEVANT, len(away)))
