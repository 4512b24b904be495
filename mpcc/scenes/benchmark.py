"""MPCC-Eval on the scenes: 1,114 pairs of the paper's sizes, chosen from a seed on pictures of their own.

Of a scene's pairs only those count whose evidence points to the hidden object: where the drawing surprised (a cat on
the leash), the right answer could not be told. Wrong names come from the statistics of many scenes: confusing ones are
seen in the same place, rather such as look or serve alike; irrelevant ones never beside anything in the picture.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from mpcc.coco import Region
from mpcc.masks import hidden_region, others_visible
from mpcc.scenes.canvas import HEIGHT, ICONS, WIDTH, Item
from mpcc.scenes.categories import NAMES, SUPERCATEGORY_OF
from mpcc.scenes.world import Pair, Scene, generate

SPLIT = "benchmark2017"

COUNTS: Mapping[str, int] = {"hard": 322, "moderate": 341, "easy": 451}
"""Pairs per difficulty: the paper's, from the shares of Table 2."""

PAIRS_PER_IMAGE = 2
CONFUSING, IRRELEVANT = 4, 2

CLEAR = 2 / 3
"""Least share in which the evidence of a pair goes with its answer; surprises come in about one case of six."""

LIKELY_SCENES = 2000
"""Scenes from which the statistics are taken; none of them is in the benchmark."""


@dataclass(frozen=True)
class Likely:
    """What goes with what in the world: counts over many scenes.

    Attributes:
        here: Place → categories seen there.
        beside: Category → categories that were seen in one picture with it, and in how many.
        readings: Evidence of a pair → the objects it pointed to.
    """

    here: Mapping[str, frozenset[str]]
    beside: Mapping[str, Counter[str]]
    readings: Mapping[str, Counter[str]]


def draw(counts: Mapping[str, int] | None = None) -> Iterator[tuple[int, Scene, list[tuple[Pair, dict[str, Any]]]]]:
    """The benchmark's scenes, in order: number (the seed is `benchmark2017/{number}`), scene, and its chosen pairs.

    With every pair come the fields of the pairs file (`mpcc.benchmark`) that do not depend on ids and files. A scene of
    which nothing is needed is passed over.

    Args:
        counts: Pairs per difficulty; by default `COUNTS`.
    """
    left, likely = Counter(counts or COUNTS), likelihoods()
    number = 0
    while left.total():
        number += 1
        scene, rng = generate(f"{SPLIT}/{number}"), Random(f"{SPLIT}/{number}/pairs")
        chosen = []
        for pair in _distinct(scene, likely, rng):
            if left[pair.difficulty] and len(chosen) < PAIRS_PER_IMAGE:
                fields = _fields(scene, pair, likely, rng)
                if len(fields["irrelevant"]) == IRRELEVANT:
                    left[pair.difficulty] -= 1
                    chosen.append((pair, fields))
        if chosen:
            yield number, scene, chosen


@lru_cache(maxsize=1)
def likelihoods() -> Likely:
    """The world's statistics, from `LIKELY_SCENES` scenes of their own; about two seconds, once a process."""
    here, beside, readings = defaultdict(set), defaultdict(Counter), defaultdict(Counter)
    for number in range(LIKELY_SCENES):
        scene = generate(f"likely/{number}")
        seen = {item.category for item in scene.items}
        here[scene.place] |= seen
        for name in seen:
            beside[name].update(seen - {name})
        for item in scene.items:
            if item.clue:
                readings[item.clue.evidence][item.category] += 1
    return Likely({place: frozenset(names) for place, names in here.items()}, beside, readings)


def _distinct(scene: Scene, likely: Likely, rng: Random) -> list[Pair]:
    """The clear pairs of a scene, one per answer, in random order: each category equally likely, also in a long row."""
    by_name = defaultdict(list)
    for pair in scene.pairs:
        if _clear(scene.items[pair.index], likely):
            by_name[pair.name].append(pair)
    return [rng.choice(by_name[name]) for name in rng.sample(sorted(by_name), len(by_name))]


def _clear(item: Item, likely: Likely) -> bool:
    readings = likely.readings[item.clue.evidence]
    return readings[item.category] > 0 and readings[item.category] >= CLEAR * readings.total()


def _fields(scene: Scene, pair: Pair, likely: Likely, rng: Random) -> dict[str, Any]:
    confusing = _confusing(scene, pair, likely, rng)
    target = scene.items[pair.index]
    same = [item for i, item in enumerate(scene.items) if item.category == pair.name and i != pair.index]
    return {
        "bbox": list(target.box),
        "category_name": pair.name,
        "supercategory": SUPERCATEGORY_OF[pair.name],
        "others_visible": _in_sight(target, same),
        "difficulty": pair.difficulty,
        "reason": pair.reason,
        "confusing": confusing,
        "filled": confusing,
        "irrelevant": _irrelevant(scene, pair, confusing, likely, rng),
        "trace": pair.trace,
    }


def _in_sight(target: Item, same: Iterable[Item]) -> bool:
    region = hidden_region((WIDTH, HEIGHT), Region(box=target.box))
    return others_visible(region, [Region(box=item.box, segmentation=[list(item.outline)]) for item in same])


def _confusing(scene: Scene, pair: Pair, likely: Likely, rng: Random) -> list[str]:
    """4 other categories of the place, rather those that look alike; where it has fewer, of what goes with those."""
    local = sorted(likely.here[scene.place] - {pair.name})
    chosen = _weighted(local, scene.items[pair.index], pair.name, rng)[:CONFUSING]
    if len(chosen) < CONFUSING:
        near = Counter(name for other in likely.here[scene.place] for name in likely.beside[other])
        # beside one of the place's categories alone would be a chair on the ski slope, for the dog's sake
        more = sorted(name for name in near if near[name] > 1 and name not in likely.here[scene.place])
        chosen += _weighted(more, scene.items[pair.index], pair.name, rng)[: CONFUSING - len(chosen)]
    # any two of them may come in Cho.E
    rng.shuffle(chosen)
    return chosen


def _weighted(names: Iterable[str], hidden: Item, truth: str, rng: Random) -> list[str]:
    """The names in random order, those of a like size, shape or group rather first."""
    weights = {name: _likeness(name, hidden, truth) for name in names}
    # exponential waiting times: the first to come is drawn with a chance proportional to its weight
    return sorted(weights, key=lambda name: rng.expovariate(weights[name]))


def _likeness(name: str, hidden: Item, truth: str) -> float:
    _, _, w, h = hidden.box
    _, usual_w, usual_h = ICONS[name]
    alike = math.exp(-abs(math.log(w / usual_w)) - abs(math.log(h / usual_h)))
    return alike * (2 if SUPERCATEGORY_OF[name] == SUPERCATEGORY_OF[truth] else 1)


def _irrelevant(scene: Scene, pair: Pair, confusing: list[str], likely: Likely, rng: Random) -> list[str]:
    """2 categories of other places and groups, never seen beside anything in the picture; fewer if there are none."""
    seen = {item.category for item in scene.items}
    near = likely.here[scene.place].union(confusing, *(likely.beside[name] for name in seen))
    away = [name for name in NAMES if name not in near and SUPERCATEGORY_OF[name] != SUPERCATEGORY_OF[pair.name]]
    return rng.sample(away, min(IRRELEVANT, len(away)))
