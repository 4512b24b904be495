"""How sure a figure is: Wilson's interval of a share, a paired bootstrap of two runs, t intervals over seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, variance
from typing import Any

import numpy as np

from mpcc.benchmark import DIFFICULTIES

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided 95 %."""

DRAWS = 4000

Items = dict[tuple[str, str, str], dict[tuple, bool]]
"""(kind, difficulty, item) → options asked about → whether the answer was right."""


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share of `hits` in `n`, within [0, 1]. Raises ValueError for n < 1."""
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits in {n} trials make no share")
    share, spread = hits / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


Rate = dict[str, float]
"""`n` cases, the `percent` of them that count, and the 95 % Wilson interval of it, `low` to `high`, all 0 to 100."""


def rate(hits: Sequence[bool]) -> Rate:
    """The `Rate` of some cases. Raises ValueError where there is none."""
    low, high = wilson(sum(hits), len(hits))
    return {"n": len(hits), "percent": 100 * sum(hits) / len(hits), "low": 100 * low, "high": 100 * high}


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t with `freedom` degrees of freedom, at least 1, to 5 digits.

    With t = √freedom · tan(a), |t| stays below a bound with the probability ∫₀ᵃ cosᶠ⁻¹ / ∫₀^(π/2) cosᶠ⁻¹.
    """
    angles = np.linspace(0, math.pi / 2, 400_001)
    density = np.cos(angles) ** (freedom - 1)
    within = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(0.95 * within[-1], within, angles)))


Gap = dict[str, float]
"""`difference` of two means, and its 95 % interval, `low` to `high`."""


def welch(ours: Sequence[float], theirs: Sequence[float]) -> Gap:
    """By how much the mean of `ours` is above that of `theirs`, independent runs whose spreads may differ.

    Welch's interval with the degrees of freedom of Welch and Satterthwaite. Raises ValueError for fewer than 2 runs.
    """
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(f"an interval needs 2 runs of each, and there are {len(ours)} and {len(theirs)}")
    parts = [variance(values) / len(values) for values in (ours, theirs)]
    shares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
    half = t_quantile(sum(parts) ** 2 / shares) * math.sqrt(sum(parts)) if shares else 0.0
    return _gap(fmean(ours) - fmean(theirs), half)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Gap:
    """The same of runs in pairs, `ours[i]` with the seed of `theirs[i]`: the t interval of the mean difference.

    Raises:
        ValueError: fewer than 2 pairs, or not as many of each.
    """
    gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
    if len(gaps) < 2:
        raise ValueError(f"an interval needs 2 pairs, and there is {len(gaps)}")
    return _gap(fmean(gaps), t_quantile(len(gaps) - 1) * math.sqrt(variance(gaps) / len(gaps)))


def _gap(difference: float, half: float) -> Gap:
    return {"difference": difference, "low": difference - half, "high": difference + half}


def differences(
    ours: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]], seed: int = 0
) -> dict[str, dict[str, float]]:
    """By how many points one run is better than another that was asked the same, with 95 % intervals.

    A paired bootstrap over items, not questions: the statements about one picture rise and fall together. Items are
    drawn within their subset, whose size belongs to the benchmark.

    Args:
        ours, theirs: Records of two runs (`mpcc.questions.record`).

    Returns:
        For each kind asked, and for `score` where all of it was: `difference`, `low` and `high`, in percentage
        points of the pooled accuracy (of the Score: in its own points); positive where `ours` is better.

    Raises:
        ValueError: the runs were not asked the same questions.
    """
    one, two = check_same_questions(ours, theirs)
    gaps: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, level, name in sorted(one):
        mine, other = one[kind, level, name], two[kind, level, name]
        gaps[kind][level].append(sum(mine.values()) / len(mine) - sum(other.values()) / len(other))
    # the same items are redrawn for every kind, so that the columns of the Score stay paired too
    drawn = {kind: _redraw(levels, seed) for kind, levels in gaps.items()}
    found = {kind: _interval(*_pooled(gaps[kind], drawn[kind])) for kind in gaps}
    if all(gaps.get(kind, {}).keys() == set(DIFFICULTIES) for kind in ("cho_e", "cho_h")):
        columns = [(gaps[kind][level], drawn[kind][level]) for kind in ("cho_e", "cho_h") for level in DIFFICULTIES]
        found["score"] = _interval(sum(np.mean(values) for values, _ in columns), sum(means for _, means in columns))
    return found


def check_same_questions(ours: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]]) -> tuple[Items, Items]:
    """Both runs' records by item. Raises ValueError where the runs were not asked the same questions."""
    one, two = _by_item(ours), _by_item(theirs)
    if one.keys() != two.keys():
        odd = sorted(one.keys() ^ two.keys())[0]
        raise ValueError(f"the two runs were not asked the same: only one has {odd[0]} of item {odd[2]}")
    for question, options in one.items():
        if options.keys() != two[question].keys():
            kind, _, name = question
            raise ValueError(f"the two runs were not asked the same: {kind} of item {name} has other options")
    return one, two


def _by_item(records: Iterable[Mapping[str, Any]]) -> Items:
    items: Items = defaultdict(dict)
    for record in records:
        items[record["kind"], record["difficulty"], record["id"]][tuple(record["options"])] = record["right"]
    return items


def _redraw(levels: Mapping[str, list[float]], seed: int) -> dict[str, np.ndarray]:
    """Level → the mean of each of `DRAWS` redrawn sets of its items."""
    means = {}
    for level, values in levels.items():
        # seeded with text: numpy wants numbers
        rng = np.random.default_rng(list(f"{seed}/{level}".encode()))
        counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=DRAWS)
        means[level] = counts @ np.asarray(values) / len(values)
    return means


def _pooled(levels: Mapping[str, list[float]], drawn: Mapping[str, np.ndarray]) -> tuple[float, np.ndarray]:
    total = sum(len(values) for values in levels.values())
    found = sum(sum(values) for values in levels.values()) / total
    return found, sum(drawn[level] * len(values) / total for level, values in levels.items())


def _interval(found: float, drawn: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"difference": 100 * float(found), "low": 100 * float(low), "high": 100 * float(high)}
