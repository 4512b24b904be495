"""What eval.py prints: a block a mode, and a summary at the end. The detailed tables are those of `mpcc.render`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcc.benchmark import DIFFICULTIES
from mpcc.render import NAMES, grid

_CHANCE = {"cho_e": 100 / 4, "cho_h": 100 / 7, "true_false": 50.0}
CUT_OFF = 5.0
"""Percent of the answers to a kind of question from which on it is said that the limit of new tokens was too low."""


def block(figures: Mapping[str, Any], signs: Mapping[str, Any], title: str) -> str:
    """One mode's figures, in percent: a line for each kind of question, and a line for the signs of failure.

    Args:
        figures: Of `mpcc.tables.tables`.
        signs: What `mpcc.signatures.render` takes.
    """
    halves = ("id", "ood") if "halves" in figures else ()
    rows = []
    for kind in (kind for kind in (*_CHANCE, "free") if kind in figures):
        rates = figures[kind]["all"] if kind == "true_false" else figures[kind]
        rows.append([
            NAMES[kind], _interval(rates["pooled"]), *(_number(rates.get(level)) for level in DIFFICULTIES),
            *(_number(figures["halves"][half].get(kind, {}).get("pooled")) for half in halves),
            _number(_CHANCE.get(kind)), _number(figures[kind]["unparsed"]), _number(figures[kind]["cut_off"]),
        ])
    head = ["", "right [95 %]", *DIFFICULTIES, *(half.upper() for half in halves), "chance", "unparsed", "cut off"]
    lines = [grid(title, head, rows)]
    if "true_false" in figures:
        found = figures["true_false"]
        lines.append(f"statements: {found['yes']['pooled']['percent']:.1f} answered with yes, "
                     f"{found['yes_truths']:.1f} are true")
    if failing := _signs(signs):
        lines.append(f"signs of failure: {failing}")
    return "\n".join(lines)


def closing(runs: Mapping[str, Mapping[str, Any]], compared: Mapping[str, Mapping[str, Any]], other: str) -> str:
    """The most important figures of every mode, and by how many points they differ from another evaluation.

    Args:
        runs: Mode → `tables`.
        compared: Mode → `mpcc.statistics.differences`; empty where nothing was compared.
        other: What was compared with.
    """
    kinds = [kind for kind in NAMES if any(kind in figures for figures in runs.values())]
    rows = []
    for mode, figures in runs.items():
        pooled = [figures.get(kind, {}).get("all", figures.get(kind)) if kind == "true_false" else figures.get(kind)
                  for kind in kinds]
        rows.append([mode, *(_number(found) if kind == "score" else _interval(found["pooled"]) if found else "-"
                             for kind, found in zip(kinds, pooled, strict=True))])
        if mode in compared:
            rows.append([f"  minus {other}", *(_gap(compared[mode].get(kind)) for kind in kinds)])
    title = "Summary: percent right [95 % interval]"
    return grid(title, ["", *(NAMES[kind] for kind in kinds)], rows)


def cut_off_note(figures: Mapping[str, Any], limit: int) -> str:
    """What to say where many answers were cut off; empty where few were."""
    shares = {NAMES[kind]: found["cut_off"] for kind in NAMES
              if isinstance(found := figures.get(kind), Mapping) and found["cut_off"] >= CUT_OFF}
    listed = ", ".join(f"{share:.1f} % of {name}" for name, share in shares.items())
    return listed and f"cut off at {limit} new tokens: {listed}; --rollout.max_new_tokens raises the limit"


def _signs(signs: Mapping[str, Any]) -> str:
    parts = []
    if (rote := signs["rigidity"]["from_traces"]) is not None:
        floor = signs["rigidity"]["floor"]
        parts.append(f"said by rote {rote:.1f}" + ("" if floor is None else f" (floor {floor:.1f})"))
    if blind := signs.get("blindness"):
        parts.append("right on all-black images " + ", ".join(
            f"{NAMES[kind]} {rates['right_black']['percent']:.1f}" for kind, rates in blind.items()))
    if "collapsed" in signs:
        parts.append(f"right but not well formed {signs['collapsed']['percent']:.1f}")
    return "; ".join(parts)


def _number(value: Any) -> str:
    value = value["percent"] if isinstance(value, Mapping) else value
    return "-" if value is None else f"{value:.1f}"


def _interval(rate: Mapping[str, float]) -> str:
    return f"{rate['percent']:.1f} [{rate['low']:.1f}, {rate['high']:.1f}]"


def _gap(gap: Mapping[str, float] | None) -> str:
    return f"{gap['difference']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}]" if gap else "-"
