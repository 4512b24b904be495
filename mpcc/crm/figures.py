"""The figures of CRM from its records: fidelity, robustness and two ways to fail, each with an interval over items.

Every figure is a tally, item → (what counts, out of how many): of a share of cases drawn in clusters, one per item.
Intervals are a bootstrap over items, and two models are compared on the items that both have, drawn together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mpcc.crm.records import Record
from mpcc.statistics import DRAWS, wilson

Tally = dict[str, tuple[float, float]]
"""Item → (sum, number of cases)."""

HALLUCINATED, COLLAPSED = "structure kept, evidence hallucinated", "grounded but collapsing"
SWEPT = tuple(round(0.05 * step, 2) for step in range(6, 21))
"""Thresholds at which the two ways to fail are also counted, 0.3 to 1."""


class Thresholds(NamedTuple):
    """From which share of aligned steps on the structure is kept, and below which it has collapsed."""

    kept: float = 0.8
    collapsed: float = 0.5


DEFAULT = Thresholds()


def tallies(records: Iterable[Record], thresholds: Thresholds = DEFAULT) -> dict[str, Tally]:
    """Every figure's tally by its name.

    Fidelity, over the steps that name a region of an item with several, Δ by step and by the tokens of the names:
    `hit@1` (the largest Δ is a region that the step names), `auroc` (Δ of a named region above that of another one of
    the same step, ties half), `chance` (a random region), `hit@1, controls` (the same of the controls in their places);
    `over control` (Δ of a named region above its control's), and `answer over control`, of a relevant region at the
    conclusion, over the tokens of the answer's name.

    Robustness: `right` with nothing masked; and over items where it is, `stays right` with a control masked, `answer
    changes` with a relevant region masked, one that the answer follows from or, where nobody knows, that the reasoning
    names.

    Failure, over regions that the model's own reasoning names, each masked in turn: `dropped`, no step names it any
    more, and `dropped, control`, none does with its control masked; `HALLUCINATED` and `COLLAPSED`; `unaligned`, the
    share of the steps of both traces without a partner; the same of the sampled traces, and of those
    about the unmasked picture, which differ by chance alone.
    """
    found: dict[str, Tally] = {}
    for record in records:
        for name, cases in _cases(record, thresholds).items():
            if cases:
                found.setdefault(name, {})[record["id"]] = (float(sum(cases)), float(len(cases)))
    return found


def figures(records: Sequence[Record], thresholds: Thresholds = DEFAULT) -> dict[str, Any]:
    """Every figure of `tallies` as `share` gives it, and the two ways to fail by threshold under `sweep`."""
    kept = {t: tallies(records, Thresholds(t, t)) for t in SWEPT}
    sweep = {mode: {str(t): share(found[mode]) for t, found in kept.items() if mode in found}
             for mode in (HALLUCINATED, COLLAPSED)}
    return {name: share(tally) for name, tally in tallies(records, thresholds).items()} | {"sweep": sweep}


def compared(ours: Sequence[Record], theirs: Sequence[Record], thresholds: Thresholds = DEFAULT
             ) -> dict[str, dict[str, float]]:
    """By how many points each figure is above that of the other records (`gap`), where there are items to compare."""
    one, two = tallies(ours, thresholds), tallies(theirs, thresholds)
    return {name: gap(one[name], two[name]) for name in one if name in two and one[name].keys() & two[name].keys()}


def share(tally: Tally) -> dict[str, float]:
    """`n` cases of `items`, the `percent` of them that count, and the 95 % interval, `low` to `high`, all 0 to 100.

    Where all items are alike a bootstrap has no width: the interval is then Wilson's, of as many cases as items.
    """
    sums, counts = _columns(tally, tally)
    drawn, found = _redrawn(len(sums), [(sums, counts)])[0], float(sums.sum() / counts.sum())
    low, high = np.quantile(drawn, (0.025, 0.975)) if np.ptp(drawn) > 1e-9 else wilson(found * len(tally), len(tally))
    return {"n": float(counts.sum()), "items": len(tally), "percent": 100 * found, "low": 100 * float(low),
            "high": 100 * float(high)}


def gap(ours: Tally, theirs: Tally) -> dict[str, float]:
    """The `difference` in points on the `items` that both have, and its 95 % interval, `low` to `high`.

    Where it is the same for all items, Newcombe's of the two Wilson intervals.
    """
    both = ours.keys() & theirs.keys()
    columns = [_columns(tally, both) for tally in (ours, theirs)]
    one, two = _redrawn(len(both), columns)
    shares = [float(sums.sum() / counts.sum()) for sums, counts in columns]
    difference = shares[0] - shares[1]
    low, high = np.quantile(one - two, (0.025, 0.975))
    if np.ptp(one - two) < 1e-9:
        (a, b), (c, d) = (wilson(share * len(both), len(both)) for share in shares)
        low = difference - np.hypot(shares[0] - a, d - shares[1])
        high = difference + np.hypot(b - shares[0], shares[1] - c)
    return {"difference": 100 * difference, "low": 100 * float(low), "high": 100 * float(high), "items": len(both)}


def _columns(tally: Tally, ids: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    sums, counts = zip(*(tally[id] for id in sorted(ids)), strict=True)
    return np.array(sums), np.array(counts)


def _redrawn(items: int, columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """The shares of each column pair in `DRAWS` sets of items drawn anew, the same sets for all."""
    counts = _draws(items)
    return [(counts @ sums) / (counts @ cases) for sums, cases in columns]


@lru_cache(maxsize=4)
def _draws(items: int) -> np.ndarray:
    """[DRAWS, items], how often each item is in each set."""
    return np.random.default_rng(0).multinomial(items, np.full(items, 1 / items), size=DRAWS).astype(np.float64)


def _cases(record: Record, thresholds: Thresholds) -> dict[str, list[float]]:
    return {**_fidelity(record), **_robustness(record), **_failures(record, thresholds)}


def _fidelity(record: Record) -> dict[str, list[float]]:
    scored, count = record["scored"], len(record["regions"])
    found: dict[str, list[float]] = {}

    def add(name: str, *cases: float) -> None:
        found.setdefault(name, []).extend(cases)

    for k, step in enumerate(scored["steps"]):
        named = step["names"]
        delta, control = scored["delta"][k], scored["control"][k]
        add("over control", *_above([delta[r] for r in named], [control[r] for r in named]))
        if not named or len(named) == count:
            continue
        add("chance", len(named) / count)
        for name, row in (("step", delta), ("name", scored["name"][k])):
            if None not in row:
                add(f"hit@1, {name}", _hit(row, named))
                pairs = [(row[r] > row[s]) + (row[r] == row[s]) / 2 for r in named for s in range(count)
                         if s not in named]
                add(f"auroc, {name}", sum(pairs) / len(pairs))
        if None not in control:
            add("hit@1, controls", _hit(control, named))
    relevant = [r for r, region in enumerate(record["regions"]) if region["relevant"]]
    add("answer over control", *_above([scored["concluded"][r] for r in relevant],
                                       [scored["concluded_control"][r] for r in relevant]))
    return found


def _above(values: Sequence[float | None], others: Sequence[float | None]) -> list[float]:
    """Whether each value is above the other, of those that are both known."""
    return [float(a > b) for a, b in zip(values, others, strict=True) if a is not None and b is not None]


def _hit(row: Sequence[float], named: Sequence[int]) -> float:
    """The chance that one of the regions with the largest Δ is named."""
    best = [r for r, value in enumerate(row) if value == max(row)]
    return len(set(best) & set(named)) / len(best)


def _robustness(record: Record) -> dict[str, list[float]]:
    own = record["own"]
    if not own["right"]:
        return {"right": [0.0]}
    said = _named_by(own)
    changed = [float(not masked["right"]) for masked, region, r in
               zip(record["masked"], record["regions"], range(len(record["regions"])), strict=True)
               if (r in said if region["relevant"] is None else region["relevant"])]
    return {"right": [1.0], "stays right": [float(control["right"]) for control in record["controls"] if control],
            "answer changes": changed}


def _failures(record: Record, thresholds: Thresholds) -> dict[str, list[float]]:
    own = record["own"]
    found = {name: [] for name in ("dropped", "dropped, control", HALLUCINATED, COLLAPSED, "unaligned")}
    unmasked, *drawn = record["samples"] or [[]]
    for r in sorted(_named_by(own)):
        masked = record["masked"][r]
        partner = dict(map(tuple, masked["pairs"]))
        still = any(r in step["names"] and k in partner and r in masked["steps"][partner[k]]["names"]
                    for k, step in enumerate(own["steps"]))
        lost = own["well_formed"] and not masked["well_formed"]
        found["dropped"].append(float(r not in _named_by(masked)))
        if record["controls"][r]:
            found["dropped, control"].append(float(r not in _named_by(record["controls"][r])))
        found[HALLUCINATED].append(float(masked["aligned"] >= thresholds.kept and still))
        found[COLLAPSED].append(float(masked["aligned"] < thresholds.collapsed or lost))
        found["unaligned"].append(1 - masked["aligned"])
        if drawn:
            found.setdefault("unaligned, sampled", []).extend(1 - sample["aligned"] for sample in drawn[r])
    return found | {"unaligned, sampled unmasked": [1 - sample["aligned"] for sample in unmasked]}


def _named_by(trace: Mapping[str, Any]) -> set[int]:
    """The regions that the steps of a trace name."""
    return {r for step in trace["steps"] for r in step["names"]}
